// Snowflake's driver for Node; what it is told and says is as `../matrix.py` has it.
"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");
const sdk = require("snowflake-sdk");

sdk.configure({ logLevel: "OFF", additionalLogToConsole: false, disableOCSPChecks: true });

const about = JSON.parse(fs.readFileSync(0, "utf8").split("\n")[0]);
const TAG = about.tag;
const BULK_ROWS = 300;
const CAPABILITY_MS_MAX = 40_000;
const SUM = (BULK_ROWS * (BULK_ROWS - 1)) / 2;
const PARTS = ["inline", ...[0, 1].flatMap((part) => [0, 1, 2].map((row) => `from storage ${part}.${row}`))];
const tell = (line) => fs.writeSync(1, `${JSON.stringify(line)}\n`);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

class NotOffered extends Error {}
const notOffered = (why) => async () => {
  throw new NotOffered(why);
};

function connect(stack, person = "ana", how = "oauth") {
  const { host, port, tokens } = about[stack];
  const carried = {
    oauth: { authenticator: "OAUTH", token: tokens[person] },
    pat: { authenticator: "PROGRAMMATIC_ACCESS_TOKEN", token: tokens[person], username: person },
    password: { username: person, password: tokens[person] },
  }[how];
  const connection = sdk.createConnection({
    account: "demo", host, port, protocol: "http", accessUrl: `http://${host}:${port}`,
    database: "SALES", schema: "PUBLIC", warehouse: "DEMO_WH", ...carried,
  });
  return new Promise((done, failed) => connection.connect((error) => (error ? failed(error) : done(connection))));
}

// One session for each person and stack; how one is opened is tried by itself.
const opened = {};
const session = (stack, person = "ana") => (opened[`${stack} ${person}`] ??= connect(stack, person));

function execute(connection, options) {
  return new Promise((done, failed) =>
    connection.execute({ ...options, complete: (error, statement, rows) => (error ? failed(error) : done({ statement, rows })) }),
  );
}

async function rows(stack, sqlText, binds, person) {
  return (await execute(await session(stack, person), { sqlText, binds })).rows;
}

async function fails(does, ...words) {
  const error = await does().then((said) => assert.fail(`no error, but ${JSON.stringify(said)}`), (raised) => raised);
  for (const word of words) assert(error.message.includes(word), error.message);
  return error;
}

const login = (how) => async () => {
  const found = await execute(await connect("sql", "ana", how), { sqlText: "SELECT COUNT(*) AS N FROM ORDERS" });
  assert.deepEqual(found.rows, [{ N: 7 }]);
};

const said = (sql, ...wanted) => async () => {
  const found = (await rows("deep", sql)).map((row) => row.SAID);
  assert.deepEqual(found, wanted.length ? wanted : [sql]);
};

const count = async (source) =>
  (await rows("sql", "SELECT COUNT(*) AS N, SUM(ID) AS S FROM SALES.STAGING.LEADS WHERE SOURCE = ?", [source]))[0];

const capabilities = {
  "login-oauth": login("oauth"),
  "login-pat": login("pat"),
  "login-password": login("password"),
  "login-refused": () => fails(() => connect("sql", "expired"), "IDENTITY-EXPIRED"),
  masked: async () => {
    const found = await rows("sql", "SELECT ID, NAME, EMAIL, CARD, COUNTRY FROM CUSTOMERS WHERE ID = 1");
    const shown = { ID: 1, NAME: "M*************", EMAIL: "***@example.com", CARD: "************7891", COUNTRY: "SE" };
    assert.deepEqual(found, [shown]);
  },
  json: said(`SELECT 'json ${TAG}'`),
  arrow: notOffered("the driver takes JSON only"),
  "json-parts": said(`SELECT 'chunks json gzip headers ${TAG}'`, ...PARTS),
  "arrow-parts": notOffered("the driver takes JSON only"),
  binds: async () => {
    const found = await rows("sql", "SELECT ID, STATUS FROM ORDERS WHERE ID = ? AND STATUS = ?", [103, "shipped"]);
    assert.deepEqual(found, [{ ID: 103, STATUS: "shipped" }]);
  },
  "array-binds": async () => {
    const values = Array.from({ length: BULK_ROWS }, (_, number) => [number, TAG]);
    await rows("sql", "INSERT INTO SALES.STAGING.LEADS (ID, SOURCE) VALUES (?, ?)", values);
    assert.deepEqual(await count(TAG), { N: BULK_ROWS, S: SUM });
  },
  "file-load": async () => {
    const file = path.join(about.home, "rows.csv");
    fs.writeFileSync(file, Array.from({ length: BULK_ROWS }, (_, number) => `${number},file ${TAG}\n`).join(""));
    const stage = `SALES.STAGING.${TAG}`;
    await rows("sql", `CREATE STAGE ${stage}`, undefined, "loader");
    const put = `PUT 'file://${file}' @${stage} AUTO_COMPRESS = FALSE OVERWRITE = TRUE`;
    const [uploaded] = await rows("sql", put, undefined, "loader");
    assert.equal(uploaded.status, "UPLOADED");
    const copy = `COPY INTO SALES.STAGING.LEADS (ID, SOURCE) FROM @${stage} FILE_FORMAT = (TYPE = CSV)`;
    await rows("sql", copy, undefined, "loader");
    assert.deepEqual(await count(`file ${TAG}`), { N: BULK_ROWS, S: SUM });
  },
  error: async () => {
    const raised = await fails(() => rows("deep", `SELECT 'broken ${TAG}'`), "the object is broken");
    assert.deepEqual([raised.code, raised.sqlState], ["002043", "02000"]);
  },
  denial: () => fails(() => rows("sql", `DROP SCHEMA SALES.${TAG}`), "refused: ", "POLICY-FORBID", "decision "),
  hold: async () => {
    await rows("sql", `UPDATE ORDERS SET NOTE = 'held ${TAG}' WHERE ID = 101`, undefined, "copilot");
    assert.deepEqual(await rows("sql", "SELECT NOTE FROM ORDERS WHERE ID = 101"), [{ NOTE: `held ${TAG}` }]);
  },
  cancel: async () => {
    const connection = await session("deep");
    let statement;
    const ended = fails(() => new Promise((done, failed) => {
      statement = connection.execute({
        sqlText: `SELECT 'forever ${TAG}'`,
        complete: (error, _, found) => (error ? failed(error) : done(found)),
      });
    }));
    await sleep(1500);
    await new Promise((done, failed) => statement.cancel((error) => (error ? failed(error) : done())));
    await ended;
  },
  renewal: async () => {
    await said(`SELECT 'before ${TAG}'`)();
    await sleep(about.session_seconds * 1000 + 500);
    await said(`SELECT 'renewed ${TAG}'`)();
  },
  async: async () => {
    const connection = await session("deep");
    const { statement } = await execute(connection, { sqlText: `SELECT 'slow ${TAG}'`, asyncExec: true });
    const found = await connection.getResultsFromQueryId({ queryId: statement.getQueryId() });
    const fetched = [];
    for await (const row of found.streamRows()) fetched.push(row);
    assert.deepEqual(fetched, [{ SAID: "slow" }]);
  },
  several: async () => {
    const pieces = [`SELECT 'piece ${TAG} a'`, `SELECT 'piece ${TAG} b'`];
    const connection = await session("deep");
    const found = await new Promise((done, failed) => {
      const all = [];
      connection.execute({
        sqlText: pieces.join("; "),
        parameters: { MULTI_STATEMENT_COUNT: 2 },
        complete: (error, statement, rowsOfOne) => {
          if (error) return failed(error);
          all.push(rowsOfOne);
          return statement.hasNext() ? statement.NextResult() : done(all);
        },
      });
    });
    assert.deepEqual(found, pieces.map((piece) => [{ SAID: piece }]));
  },
  transaction: async () => {
    for (const [end, left] of [["ROLLBACK", 0], ["COMMIT", 1]]) {
      await rows("sql", "BEGIN");
      await rows("sql", `INSERT INTO SALES.STAGING.LEADS (ID, SOURCE) VALUES (1, 'transaction ${TAG}')`);
      await rows("sql", end);
      assert.equal((await count(`transaction ${TAG}`)).N, left);
    }
  },
  temporary: async () => {
    const own = `SALES.STAGING.OWN_${TAG}`;
    await rows("sql", `CREATE TEMPORARY TABLE ${own} AS SELECT ID, EMAIL FROM SALES.PUBLIC.CUSTOMERS`);
    await rows("sql", `INSERT INTO ${own} (ID, EMAIL) SELECT 99, 'added'`);
    const found = await rows("sql", `SELECT EMAIL FROM ${own} WHERE ID IN (1, 99) ORDER BY ID`);
    assert.deepEqual(found, [{ EMAIL: "***@example.com" }, { EMAIL: "added" }]);
    await rows("sql", `DROP TABLE ${own}`);
  },
  metadata: async () => {
    const tables = (await rows("sql", "SHOW TABLES IN SCHEMA SALES.PUBLIC")).map((row) => row.name);
    for (const table of ["CUSTOMERS", "ORDERS", "EMPLOYEES"]) assert(tables.includes(table), String(tables));
    const { statement } = await execute(await session("sql"), { sqlText: "SELECT ID, STATUS FROM ORDERS", describeOnly: true });
    assert.deepEqual(statement.getColumns().map((column) => column.getName()), ["ID", "STATUS"]);
  },
};

async function main() {
  tell({ version: require("snowflake-sdk/package.json").version });
  for (const [capability, does] of Object.entries(capabilities)) {
    let [outcome, detail] = ["pass", ""];
    const late = sleep(CAPABILITY_MS_MAX).then(() => assert.fail("it does not end"));
    try {
      await Promise.race([does(), late]);
    } catch (error) {
      outcome = error instanceof NotOffered ? "not-offered" : "fail";
      detail = outcome === "fail" ? String(error.stack).slice(0, 1500) : error.message;
    }
    tell({ capability, outcome, detail });
  }
  process.exit(0);
}

main();
