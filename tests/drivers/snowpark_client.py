"""Snowpark: statements, and frames that become statements."""

import time
from importlib.metadata import version

import snowflake.snowpark
from snowflake.snowpark.functions import col

from matrix import (
    BROKEN,
    DENIED,
    FOREVER,
    HELD,
    MASKED,
    NOTE,
    PARTS,
    SHOWN,
    SLOW,
    TAG,
    Refused,
    about,
    arguments,
    check,
    fails,
    not_offered,
    not_run,
    refused,
    run,
)

opened = {}


def connect(stack, person="ana", how="oauth"):
    return snowflake.snowpark.Session.builder.configs(arguments(stack, person, how)).create()


def session(stack, person="ana"):
    if (stack, person) not in opened:
        opened[stack, person] = connect(stack, person)
    return opened[stack, person]


def rows(stack, sql, values=None, person="ana"):
    return [tuple(row) for row in session(stack, person).sql(sql, params=values).collect()]


def login(how):
    def capability():
        own = connect("sql", how=how)
        check([tuple(row) for row in own.sql("SELECT COUNT(*) FROM ORDERS").collect()] == [(7,)])

    return capability


def login_refused():
    fails(lambda: connect("sql", "expired"), "IDENTITY-EXPIRED")


def masked():
    frame = session("sql").table("CUSTOMERS").filter(col("ID") == 1).select(*SHOWN)
    found = [row.as_dict() for row in frame.collect()]
    check(found == [SHOWN], found)
    check(rows("sql", MASKED) == [tuple(SHOWN.values())])


def said(sql, *wanted):
    def capability():
        found = [cell for (cell,) in rows("deep", sql)]
        check(found == list(wanted or [sql]), found)

    return capability


def binds():
    found = rows("sql", "SELECT ID, STATUS FROM ORDERS WHERE ID = ? AND STATUS = ?", [103, "shipped"])
    check(found == [(103, "shipped")], found)


def error():
    raised = fails(lambda: rows("deep", BROKEN), "the object is broken")
    check(raised.sql_error_code == 2043, raised.sql_error_code)


def denial():
    refused(lambda: rows("sql", DENIED), "POLICY-FORBID")


def hold():
    rows("sql", HELD, person="copilot")
    check(rows("sql", NOTE) == [(f"held {TAG}",)])


def cancel():
    own = connect("deep")
    refused(own.sql(FOREVER).collect_nowait().cancel, "SQL-UN")
    fails(own.close, "SYSTEM$CANCEL_ALL_QUERIES", "[SQL-UNRESOLVED")
    raise Refused("it cancels, and before it closes a session, by `SYSTEM$CANCEL_…`, which is not read: closing raises, too")


def renewal():
    said(f"SELECT 'before {TAG}'")()
    time.sleep(about["session_seconds"] + 0.5)
    said(f"SELECT 'renewed {TAG}'")()


def asynchronous():
    job = session("deep").sql(SLOW).collect_nowait()
    refused(job.result, "SQL-UNRESOLVED")
    raise Refused("the rows of a statement in the background are read by `RESULT_SCAN`")


def transaction():
    for end, left in [("ROLLBACK", 0), ("COMMIT", 1)]:
        rows("sql", "BEGIN")
        rows("sql", f"INSERT INTO SALES.STAGING.LEADS (ID, SOURCE) VALUES (1, 'transaction {TAG}')")
        rows("sql", end)
        found = rows("sql", f"SELECT COUNT(*) FROM SALES.STAGING.LEADS WHERE SOURCE = 'transaction {TAG}'")
        check(found == [(left,)], (end, found))


def metadata():
    columns = session("sql").table("SALES.PUBLIC.ORDERS").columns
    check(columns == ["ID", "CUSTOMER_ID", "AMOUNT", "STATUS", "CREATED_AT", "NOTE"], columns)
    tables = {row["name"] for row in session("sql").sql("SHOW TABLES IN SCHEMA SALES.PUBLIC").collect()}
    check({"CUSTOMERS", "ORDERS", "EMPLOYEES"} <= tables, tables)


run(
    version("snowflake-snowpark-python"),
    {
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
        "array-binds": not_run("fakesnow cannot read `$1` over VALUES, as `create_dataframe` does"),
        "file-load": not_run("fakesnow reads no stage between quotes, as `file.put` writes it"),
        "error": error,
        "denial": denial,
        "hold": hold,
        "cancel": cancel,
        "renewal": renewal,
        "async": asynchronous,
        "several": not_offered("it sends one statement at a time"),
        "transaction": transaction,
        "metadata": metadata,
    },
)
