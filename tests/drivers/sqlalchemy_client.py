"""SQLAlchemy, on the connector's 4.x line."""

from importlib.metadata import version

import snowflake.connector
from sqlalchemy import create_engine, inspect, text

from matrix import (
    BROKEN,
    BULK_ROWS,
    DENIED,
    HELD,
    INSERT,
    INSERTED,
    MASKED,
    NOTE,
    PARTS,
    SHOWN,
    TAG,
    TEMPORARY,
    arguments,
    check,
    fails,
    not_offered,
    refused,
    renews,
    run,
    says,
)

# Values go beside the text.
snowflake.connector.paramstyle = "qmark"
engines = {}


def engine(stack, person="ana", how="oauth"):
    key = (stack, person, how)
    if key not in engines:
        engines[key] = create_engine("snowflake://?account=demo", connect_args=arguments(stack, person, how), pool_size=1)
    return engines[key]


def rows(stack, sql, values=None, person="ana", how="oauth"):
    with engine(stack, person, how).begin() as connection:
        result = connection.execute(text(sql), values)
        return [tuple(row) for row in result] if result.returns_rows else None


def login(how):
    def capability():
        check(rows("sql", "SELECT COUNT(*) FROM ORDERS", how=how) == [(7,)])

    return capability


def login_refused():
    fails(lambda: rows("sql", "SELECT 1", person="expired"), "IDENTITY-EXPIRED")


def masked():
    found = rows("sql", MASKED)
    check(found == [tuple(SHOWN.values())], found)


said = says(lambda sql: [cell for (cell,) in rows("deep", sql)])


def binds():
    found = rows("sql", "SELECT ID, STATUS FROM ORDERS WHERE ID = :id AND STATUS = :status", {"id": 103, "status": "shipped"})
    check(found == [(103, "shipped")], found)


def array_binds():
    values = [{"id": number, "source": TAG} for number in range(BULK_ROWS)]
    rows("sql", "INSERT INTO SALES.STAGING.LEADS (ID, SOURCE) VALUES (:id, :source)", values)
    found = rows("sql", f"SELECT COUNT(*), SUM(ID) FROM SALES.STAGING.LEADS WHERE SOURCE = '{TAG}'")
    check(found == [(BULK_ROWS, sum(range(BULK_ROWS)))], found)


def error():
    raised = fails(lambda: rows("deep", BROKEN), "the object is broken").orig
    check((raised.errno, raised.sqlstate) == (2043, "02000"), raised)


def denial():
    refused(lambda: rows("sql", DENIED), "POLICY-FORBID")


def hold():
    rows("sql", HELD, person="copilot")
    check(rows("sql", NOTE) == [(f"held {TAG}",)])


def transaction():
    insert = text(INSERT)
    for end, left in [("rollback", 0), ("commit", 1)]:
        with engine("sql").connect() as connection:
            connection.execute(insert)
            getattr(connection, end)()
        found = rows("sql", INSERTED)
        check(found == [(left,)], (end, found))


def temporary():
    with engine("sql").begin() as connection:
        results = [connection.execute(text(sql)) for sql in TEMPORARY[:3]]
        found = [cell for (cell,) in results[2]]
        check(found == [SHOWN["EMAIL"], "added"], found)
        connection.execute(text(TEMPORARY[3]))


def metadata():
    inspector = inspect(engine("sql"))
    tables = set(inspector.get_table_names(schema="public"))
    check({"customers", "orders", "employees"} <= tables, tables)
    columns = [column["name"] for column in inspector.get_columns("orders", schema="public")]
    check(columns == ["id", "customer_id", "amount", "status", "created_at", "note"], columns)


connectors = not_offered("through the connector below it, not its own")

run(
    version("snowflake-sqlalchemy"),
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
        "file-load": connectors,
        "error": error,
        "denial": denial,
        "hold": hold,
        "cancel": connectors,
        "renewal": renews(said),
        "async": connectors,
        "several": connectors,
        "transaction": transaction,
        "temporary": temporary,
        "metadata": metadata,
    },
)
