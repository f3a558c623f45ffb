"""Snowflake's Python connector, both lines of it."""

import pathlib
import time

import snowflake.connector

from matrix import (
    BOTH,
    BROKEN,
    BULK_ROWS,
    DENIED,
    FOREVER,
    HELD,
    INSERT,
    INSERTED,
    MASKED,
    NOTE,
    ORDERS_COLUMNS,
    PARTS,
    SHOWN,
    SLOW,
    TABLES,
    TAG,
    about,
    arguments,
    check,
    fails,
    refused,
    renews,
    run,
    says,
    temporary,
)

VERSION = str(snowflake.connector.__version__)
snowflake.connector.paramstyle = "qmark"
opened = {}


def connect(stack, person="ana", how="oauth", **more):
    return snowflake.connector.connect(**arguments(stack, person, how), **more)


def session(stack, person="ana"):
    """One for each person and stack; how one is opened is tried by itself."""
    if (stack, person) not in opened:
        opened[stack, person] = connect(stack, person)
    return opened[stack, person]


def rows(stack, sql, params=None, person="ana", **options):
    with session(stack, person).cursor() as cursor:
        return cursor.execute(sql, params, **options).fetchall()


def login(how):
    def capability():
        with connect("sql", how=how) as connection:
            check(connection.cursor().execute("SELECT COUNT(*) FROM ORDERS").fetchone() == (7,))

    return capability


def login_refused():
    fails(lambda: connect("sql", "expired"), "IDENTITY-EXPIRED")


def masked():
    with session("sql").cursor(snowflake.connector.DictCursor) as cursor:
        found = cursor.execute(MASKED).fetchall()
        check(found == [SHOWN], found)


said = says(lambda sql: [cell for (cell,) in rows("deep", sql)])


def binds():
    found = rows("sql", "SELECT ID, STATUS FROM ORDERS WHERE ID = ? AND STATUS = ?", (103, "shipped"))
    check(found == [(103, "shipped")], found)


def array_binds():
    with session("sql").cursor() as cursor:
        values = [(number, TAG) for number in range(BULK_ROWS)]
        cursor.executemany("INSERT INTO SALES.STAGING.LEADS (ID, SOURCE) VALUES (?, ?)", values)
    found = rows("sql", "SELECT COUNT(*), SUM(ID) FROM SALES.STAGING.LEADS WHERE SOURCE = ?", (TAG,))
    check(found == [(BULK_ROWS, sum(range(BULK_ROWS)))], found)


def file_load():
    file = pathlib.Path(about["home"], "rows.csv")
    file.write_text("".join(f"{number},file {TAG}\n" for number in range(BULK_ROWS)))
    rows("sql", f"CREATE TEMP STAGE SALES.STAGING.{TAG}", person="loader")
    # Not to overwrite, connector 5 wants of an address what fakesnow's does not allow.
    put = rows("sql", f"PUT 'file://{file}' @SALES.STAGING.{TAG} AUTO_COMPRESS = FALSE OVERWRITE = TRUE", person="loader")
    check(put[0][6] == "UPLOADED", put)
    copy = f"COPY INTO SALES.STAGING.LEADS (ID, SOURCE) FROM @SALES.STAGING.{TAG} FILE_FORMAT = (TYPE = CSV)"
    rows("sql", copy, person="loader")
    found = rows("sql", "SELECT COUNT(*), SUM(ID) FROM SALES.STAGING.LEADS WHERE SOURCE = ?", (f"file {TAG}",))
    check(found == [(BULK_ROWS, sum(range(BULK_ROWS)))], found)


def error():
    raised = fails(lambda: rows("deep", BROKEN), "the object is broken")
    check((raised.errno, raised.sqlstate) == (2043, "02000"), (raised.errno, raised.sqlstate))
    check(isinstance(raised, snowflake.connector.ProgrammingError), raised)


def denial():
    raised = refused(lambda: rows("sql", DENIED), "POLICY-FORBID")
    check(isinstance(raised, snowflake.connector.ProgrammingError), raised)
    check(rows("sql", "SELECT 1") == [(1,)])


def hold():
    with session("sql", "copilot").cursor() as cursor:
        cursor.execute(HELD)
        check(cursor.rowcount == 1, cursor.rowcount)
    check(rows("sql", NOTE) == [(f"held {TAG}",)])


def fresh():
    """A session that has just begun: once the connector has renewed one, it waits for the end of what runs in the background."""
    return connect("deep")


def cancel():
    with fresh() as connection, connection.cursor() as cursor:
        cursor.execute_async(FOREVER)
        query = cursor.sfqid
        check(cursor.abort_query(query) is True)
        status = connection.get_query_status(query)
        check(status.name == "ABORTED", status)


def asynchronous():
    with fresh() as connection, connection.cursor() as cursor:
        cursor.execute_async(SLOW)
        query = cursor.sfqid
        while connection.is_still_running(connection.get_query_status_throw_if_error(query)):
            time.sleep(0.1)
        # Connector 4 reads them by RESULT_SCAN.
        cursor.get_results_from_sfqid(query)
        check(cursor.fetchall() == [("slow",)])


def renewal():
    renews(said)()
    # The session token ends just before a call that asks about a statement, or stops it.
    with fresh() as connection, connection.cursor() as cursor:
        cursor.execute_async(f"SELECT 'forever, then renewed {TAG}'")
        query = cursor.sfqid
        time.sleep(about["session_seconds"] + 0.5)
        status = connection.get_query_status(query)
        check(status.name == "RUNNING", status)
        time.sleep(about["session_seconds"] + 0.5)
        check(cursor.abort_query(query) is True)


def several():
    with session("deep").cursor() as cursor:
        cursor.execute(BOTH, num_statements=2)
        found = [cursor.fetchall()]
        while cursor.nextset():
            found.append(cursor.fetchall())
    check(found == [[(sql.strip(),)] for sql in BOTH.split(";")], found)


def transaction():
    connection = connect("sql")
    with connection.cursor() as cursor:
        connection.autocommit(False)
        for end, left in [(connection.rollback, 0), (connection.commit, 1)]:
            cursor.execute("BEGIN")
            cursor.execute(INSERT)
            end()
            check(cursor.execute(INSERTED).fetchall() == [(left,)], end)


def metadata():
    with session("sql").cursor(snowflake.connector.DictCursor) as cursor:
        tables = {row["name"] for row in cursor.execute("SHOW TABLES IN SCHEMA SALES.PUBLIC")}
        check(TABLES <= tables, tables)
        columns = [row["name"] for row in cursor.execute("DESCRIBE TABLE SALES.PUBLIC.ORDERS")]
        check(columns == ORDERS_COLUMNS, columns)
        described = [column.name for column in cursor.describe(MASKED)]
        check(described == list(SHOWN), described)


CAPABILITIES = {
    "login-oauth": login("oauth"),
    "login-pat": login("pat"),
    "login-password": login("password"),
    "login-refused": login_refused,
    "masked": masked,
    "json": said(f"SELECT 'json {TAG}'"),
    "arrow": said(f"SELECT 'arrow {TAG}'"),
    "json-parts": said(f"SELECT 'chunks json gzip headers {TAG}'", *PARTS),
    "arrow-parts": said(f"SELECT 'chunks arrow gzip headers {TAG}'", *PARTS),
    "binds": binds,
    "array-binds": array_binds,
    "file-load": file_load,
    "error": error,
    "denial": denial,
    "hold": hold,
    "cancel": cancel,
    "renewal": renewal,
    "async": asynchronous,
    "several": several,
    "transaction": transaction,
    "temporary": temporary(lambda sql: rows("sql", sql)),
    "metadata": metadata,
}

if __name__ == "__main__":
    run(VERSION, CAPABILITIES)
