"""Go, by way of ADBC: its driver for Snowflake is gosnowflake."""

import time
from importlib.metadata import version

import adbc_driver_snowflake.dbapi as adbc
import pyarrow

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
    TAG,
    about,
    check,
    fails,
    meanwhile,
    not_offered,
    refused,
    renews,
    run,
    says,
    temporary,
)

opened = {}


def connect(stack, person="ana", how="oauth"):
    at = about[stack]
    token = at["tokens"][person]
    carried = {
        "oauth": {"adbc.snowflake.sql.auth_type": "auth_oauth", "adbc.snowflake.sql.client_option.auth_token": token},
        "pat": {"adbc.snowflake.sql.auth_type": "auth_pat", "adbc.snowflake.sql.client_option.auth_token": token},
        "password": {"username": person, "password": token},
    }[how]
    return adbc.connect(
        db_kwargs={
            "adbc.snowflake.sql.account": "demo",
            "adbc.snowflake.sql.uri.host": at["host"],
            "adbc.snowflake.sql.uri.port": str(at["port"]),
            "adbc.snowflake.sql.uri.protocol": "http",
            "adbc.snowflake.sql.db": "SALES",
            "adbc.snowflake.sql.schema": "PUBLIC",
            "adbc.snowflake.sql.warehouse": "DEMO_WH",
            **carried,
        },
        autocommit=True,
    )


def session(stack, person="ana"):
    if (stack, person) not in opened:
        opened[stack, person] = connect(stack, person)
    return opened[stack, person]


def rows(stack, sql, values=None, person="ana"):
    with session(stack, person).cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


def login(how):
    def capability():
        with connect("sql", how=how) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM ORDERS")
            check([int(cell) for cell in cursor.fetchone()] == [7])

    return capability


def login_refused():
    fails(lambda: connect("sql", "expired"), "IDENTITY-EXPIRED")


def masked():
    found = rows("sql", MASKED)
    check([(int(found[0][0]), *found[0][1:])] == [tuple(SHOWN.values())], found)


said = says(lambda sql: [cell for (cell,) in rows("deep", sql)])


def binds():
    found = rows("sql", "SELECT ID, STATUS FROM ORDERS WHERE ID = ? AND STATUS = ?", (103, "shipped"))
    check([(int(number), status) for number, status in found] == [(103, "shipped")], found)


def error():
    raised = fails(lambda: rows("deep", BROKEN), "the object is broken")
    check((raised.vendor_code, raised.sqlstate) == (2043, "02000"), (raised.vendor_code, raised.sqlstate))


def denial():
    refused(lambda: rows("sql", DENIED), "POLICY-FORBID")


def hold():
    with session("sql", "copilot").cursor() as cursor:
        cursor.execute(HELD)
    check(rows("sql", NOTE) == [(f"held {TAG}",)])


def file_load():
    table = pyarrow.table({"ID": list(range(BULK_ROWS)), "SOURCE": [f"file {TAG}"] * BULK_ROWS})
    with session("sql", "loader").cursor() as cursor:
        cursor.execute("USE SCHEMA SALES.STAGING")
        cursor.adbc_ingest("LEADS", table, mode="append")
    found = rows("sql", f"SELECT COUNT(*), SUM(ID) FROM SALES.STAGING.LEADS WHERE SOURCE = 'file {TAG}'")
    check([int(cell) for cell in found[0]] == [BULK_ROWS, sum(range(BULK_ROWS))], found)


def cancel():
    with connect("deep").cursor() as cursor:
        wait = meanwhile(lambda: cursor.execute(FOREVER))
        time.sleep(1.5)
        cursor.adbc_cancel()
        fails(wait)


def transaction():
    with session("sql").cursor() as cursor:
        for end, left in [("ROLLBACK", 0), ("COMMIT", 1)]:
            cursor.execute("BEGIN")
            cursor.execute(INSERT)
            cursor.execute(end)
            cursor.execute(INSERTED)
            check([int(cell) for cell in cursor.fetchone()] == [left], end)


def metadata():
    columns = session("sql").adbc_get_table_schema("ORDERS", catalog_filter="SALES", db_schema_filter="PUBLIC").names
    check(columns == ORDERS_COLUMNS, columns)
    # The warehouse makes the answer, out of what SHOW gave: what is shown here is that it may.
    for depth in ("catalogs", "db_schemas", "tables", "all"):
        objects = session("deep").adbc_get_objects(depth=depth, catalog_filter="SALES", db_schema_filter="PUBLIC")
        [catalog] = objects.read_all().to_pylist()
        [schema] = catalog["catalog_db_schemas"]
        [table] = schema["db_schema_tables"]
        names = (catalog["catalog_name"], schema["db_schema_name"], table["table_name"])
        check(names == ("SALES", "PUBLIC", "ORDERS"), catalog)


run(
    version("adbc-driver-snowflake"),
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
        "array-binds": not_offered("it binds one row at a time"),
        "file-load": file_load,
        "error": error,
        "denial": denial,
        "hold": hold,
        "cancel": cancel,
        "renewal": renews(said),
        "async": not_offered("ADBC has no statements in the background"),
        "several": not_offered("it sends one statement at a time"),
        "transaction": transaction,
        "temporary": temporary(lambda sql: rows("sql", sql)),
        "metadata": metadata,
    },
)
