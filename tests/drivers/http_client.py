"""Whoever uses Snowflake's SQL API over plain HTTP."""

import http.client
import json
import time
import uuid

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
    PARTS,
    SHOWN,
    SLOW,
    TABLES,
    TAG,
    about,
    check,
    not_offered,
    run,
)

DONE, LATER, FAILED = 200, 202, 422
PATH = "/api/v2/statements"


def call(stack, method, path, body=None, person="ana", kind="OAUTH"):
    at = about[stack]
    connection = http.client.HTTPConnection(at["host"], at["port"], timeout=60)
    headers = {
        "Authorization": f"Bearer {at['tokens'][person]}",
        "X-Snowflake-Authorization-Token-Type": kind,
        "Content-Type": "application/json",
        "Accept": "application/json",
        "User-Agent": "matrix/1.0",
    }
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def ask(stack, sql, query="", person="ana", kind="OAUTH", **more):
    body = {"statement": sql, "database": "SALES", "schema": "PUBLIC", "warehouse": "DEMO_WH", **more}
    return call(stack, "POST", f"{PATH}?requestId={uuid.uuid4()}{query}", body, person, kind)


def poll(stack, answer, person="ana"):
    """Asks until it is there, as a client has to."""
    while answer[0] == LATER:
        time.sleep(0.1)
        answer = call(stack, "GET", answer[1]["statementStatusUrl"], person=person)
    return answer


def rows(stack, sql, **more):
    status, body = ask(stack, sql, **more)
    check(status == DONE, body)
    return body["data"]


def login(kind):
    def capability():
        check(rows("sql", "SELECT COUNT(*) FROM ORDERS", kind=kind) == [["7"]])

    return capability


def login_refused():
    status, body = ask("sql", "SELECT 1", person="expired")
    check(status == 401 and "IDENTITY-EXPIRED" in body["message"], (status, body))


def masked():
    found = rows("sql", MASKED)
    check(found == [[str(value) for value in SHOWN.values()]], found)


def json_result():
    check(rows("deep", f"SELECT 'json {TAG}'") == [[f"SELECT 'json {TAG}'"]])


def json_parts():
    status, body = ask("deep", f"SELECT 'chunks json gzip headers {TAG}'")
    check(status == DONE, body)
    found = body["data"]
    for part in range(1, len(body["resultSetMetaData"]["partitionInfo"])):
        found += call("deep", "GET", f"{body['statementStatusUrl']}?partition={part}")[1]["data"]
    check(found == [[cell] for cell in PARTS], found)


def bound(kind, value):
    return {"type": kind, "value": value}


def binds():
    values = {"1": bound("FIXED", "103"), "2": bound("TEXT", "shipped")}
    found = rows("sql", "SELECT ID, STATUS FROM ORDERS WHERE ID = ? AND STATUS = ?", bindings=values)
    check(found == [["103", "shipped"]], found)


def array_binds():
    values = {"1": bound("FIXED", [str(number) for number in range(BULK_ROWS)]), "2": bound("TEXT", [TAG] * BULK_ROWS)}
    rows("sql", "INSERT INTO SALES.STAGING.LEADS (ID, SOURCE) VALUES (?, ?)", bindings=values)
    found = rows("sql", f"SELECT COUNT(*), MAX(ID) FROM SALES.STAGING.LEADS WHERE SOURCE = '{TAG}'")
    check(found == [[str(BULK_ROWS), str(BULK_ROWS - 1)]], found)


def error():
    status, body = ask("deep", BROKEN)
    check((status, body["code"], body["sqlState"]) == (FAILED, "002043", "02000"), (status, body))
    check("the object is broken" in body["message"], body)


def denial():
    status, body = ask("sql", DENIED)
    check(status == FAILED, (status, body))
    for words in ("refused: ", "POLICY-FORBID", "decision "):
        check(words in body["message"], body)


def hold():
    status, body = poll("sql", ask("sql", HELD, person="copilot"), person="copilot")
    check(status == DONE, (status, body))
    check(rows("sql", NOTE) == [[f"held {TAG}"]])


def cancel():
    status, body = ask("deep", FOREVER, "&async=true")
    check(status == LATER, (status, body))
    status, stopped = call("deep", "POST", f"{PATH}/{body['statementHandle']}/cancel", {})
    check(status == DONE, (status, stopped))
    status, ended = call("deep", "GET", body["statementStatusUrl"])
    check((status, ended["code"]) == (FAILED, "000604"), (status, ended))


def asynchronous():
    status, body = ask("deep", SLOW, "&async=true")
    check(status == LATER, (status, body))
    status, body = poll("deep", (status, body))
    check((status, body["data"]) == (DONE, [["slow"]]), (status, body))


def several():
    status, body = ask("deep", BOTH, parameters={"MULTI_STATEMENT_COUNT": "2"})
    check(status == DONE, (status, body))
    found = [call("deep", "GET", f"{PATH}/{handle}")[1]["data"] for handle in body["statementHandles"]]
    check(found == [[[sql.strip()]] for sql in BOTH.split(";")], found)


def transaction():
    for end, left in [("ROLLBACK", 0), ("COMMIT", 1)]:
        status, body = ask("sql", f"BEGIN; {INSERT}; {end}", parameters={"MULTI_STATEMENT_COUNT": "3"})
        check(status == DONE and len(body["statementHandles"]) == 3, (status, body))
        inserted = call("sql", "GET", f"{PATH}/{body['statementHandles'][1]}")[1]
        check(inserted["data"] == [["1"]], inserted)
        check(rows("sql", INSERTED) == [[str(left)]], end)


def metadata():
    status, body = ask("sql", "SHOW TABLES IN SCHEMA SALES.PUBLIC")
    check(status == DONE, body)
    name = [column["name"].lower() for column in body["resultSetMetaData"]["rowType"]].index("name")
    tables = {row[name] for row in body["data"]}
    check(TABLES <= tables, tables)


only_json = not_offered("it answers in JSON only")

run(
    "v2",
    {
        "login-oauth": login("OAUTH"),
        "login-pat": login("PROGRAMMATIC_ACCESS_TOKEN"),
        "login-password": not_offered("the SQL API takes no password"),
        "login-refused": login_refused,
        "masked": masked,
        "json": json_result,
        "arrow": only_json,
        "json-parts": json_parts,
        "arrow-parts": only_json,
        "binds": binds,
        "array-binds": array_binds,
        "file-load": not_offered("the SQL API has no PUT"),
        "error": error,
        "denial": denial,
        "hold": hold,
        "cancel": cancel,
        "renewal": not_offered("the SQL API has no sessions"),
        "async": asynchronous,
        "several": several,
        "transaction": transaction,
        "temporary": not_offered("the SQL API has no sessions"),
        "metadata": metadata,
    },
)
