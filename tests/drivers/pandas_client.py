"""pandas: rows as frames, and frames written as files."""

import pandas
from snowflake.connector.pandas_tools import write_pandas

from matrix import BULK_ROWS, MASKED, PARTS, SHOWN, TAG, check, not_offered, refused, run, says
from python_connector import CAPABILITIES, rows, session


def frame(stack, sql):
    with session(stack).cursor() as cursor:
        return cursor.execute(sql).fetch_pandas_all()


def masked():
    found = frame("sql", MASKED).to_dict("records")
    check(found == [SHOWN], found)


said = says(lambda sql: frame("deep", sql)["SAID"].tolist())


def file_load():
    frame = pandas.DataFrame({"ID": range(BULK_ROWS), "SOURCE": f"file {TAG}"})
    loaded, files, count, _ = write_pandas(session("sql", "loader"), frame, "LEADS", schema="STAGING")
    check((loaded, files, count) == (True, 1, BULK_ROWS), (loaded, files, count))
    found = rows("sql", "SELECT COUNT(*), SUM(ID) FROM SALES.STAGING.LEADS WHERE SOURCE = ?", (f"file {TAG}",))
    check(found == [(BULK_ROWS, sum(range(BULK_ROWS)))], found)
    # The same texts with another table's name bound to them.
    refused(lambda: write_pandas(session("sql", "loader"), frame, "EMPLOYEES", schema="PUBLIC"), "POLICY-")


only_arrow = not_offered("`fetch_pandas_all` takes Arrow only")

if __name__ == "__main__":
    run(
        pandas.__version__,
        {
            **CAPABILITIES,
            "masked": masked,
            "json": only_arrow,
            "json-parts": only_arrow,
            "arrow": said(f"SELECT 'arrow {TAG}'"),
            "arrow-parts": said(f"SELECT 'chunks arrow gzip headers {TAG}'", *PARTS),
            "file-load": file_load,
        },
    )
