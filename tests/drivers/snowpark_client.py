"""Snowpark: statements, and frames that become statements."""

from importlib.metadata import version

import pandas
import snowflake.snowpark
from snowflake.snowpark.functions import col

from matrix import (
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
    Refused,
    SHOWN,
    SLOW,
    TABLES,
    TAG,
    arguments,
    check,
    fails,
    not_offered,
    refused,
    renews,
    run,
    says,
    temporary,
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


said = says(lambda sql: [cell for (cell,) in rows("deep", sql)])


def binds():
    found = rows("sql", "SELECT ID, STATUS FROM ORDERS WHERE ID = ? AND STATUS = ?", [103, "shipped"])
    check(found == [(103, "shipped")], found)


def loaded(source):
    found = rows("sql", f"SELECT COUNT(*), SUM(ID) FROM SALES.STAGING.LEADS WHERE SOURCE = '{source}'")
    check(found == [(BULK_ROWS, sum(range(BULK_ROWS)))], found)


def array_binds():
    # So many cells go as bound values into a temporary table.
    frame = session("sql", "loader").create_dataframe([[number, TAG] for number in range(BULK_ROWS)], ["ID", "SOURCE"])
    found = frame.filter(col("SOURCE") == TAG).collect()
    check(sorted(row.ID for row in found) == list(range(BULK_ROWS)), len(found))


def file_load():
    frame = pandas.DataFrame({"ID": range(BULK_ROWS), "SOURCE": f"file {TAG}"})
    session("sql", "loader").write_pandas(frame, "LEADS", database="SALES", schema="STAGING")
    loaded(f"file {TAG}")


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
    job = own.sql(FOREVER).collect_nowait()
    job.cancel()
    fails(job.result)
    own.sql(f"{FOREVER} -- and again").collect_nowait()
    own.close()


def asynchronous():
    check([tuple(row) for row in session("deep").sql(SLOW).collect_nowait().result()] == [("slow",)])


def transaction():
    for end, left in [("ROLLBACK", 0), ("COMMIT", 1)]:
        rows("sql", "BEGIN")
        rows("sql", INSERT)
        rows("sql", end)
        found = rows("sql", INSERTED)
        check(found == [(left,)], (end, found))


def temporary_frames():
    temporary(lambda sql: rows("sql", sql))()
    own = session("sql", "loader")
    kept = own.table("SALES.PUBLIC.ORDERS").select("ID", "STATUS").cache_result()
    kept.filter(col("ID") < 103).create_or_replace_temp_view("FEW")
    found = [row.ID for row in own.table("FEW").sort("ID").collect()]
    check(found == [101, 102], found)
    own.sql("DROP VIEW FEW").collect()


def metadata():
    columns = session("sql").table("SALES.PUBLIC.ORDERS").columns
    check(columns == ORDERS_COLUMNS, columns)
    tables = {row["name"] for row in session("sql").sql("SHOW TABLES IN SCHEMA SALES.PUBLIC").collect()}
    check(TABLES <= tables, tables)


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
        "array-binds": array_binds,
        "file-load": file_load,
        "error": error,
        "denial": denial,
        "hold": hold,
        "cancel": cancel,
        "renewal": renews(said),
        "async": asynchronous,
        "several": not_offered("it sends one statement at a time"),
        "transaction": transaction,
        "temporary": temporary_frames,
        "metadata": metadata,
    },
)
