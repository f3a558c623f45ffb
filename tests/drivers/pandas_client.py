"""pandas: rows as frames."""

import pandas
from snowflake.connector.pandas_tools import write_pandas

from matrix import BULK_ROWS, MASKED, PARTS, SHOWN, TAG, check, not_offered, run, says
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
    loaded, _, count, _ = write_pandas(session("sql", "loader"), frame, "LEADS", database="SALES", schema="STAGING")
    check(loaded and count == BULK_ROWS, count)
    found = rows("sql", "SELECT COUNT(*), SUM(ID) FROM SALES.STAGING.LEADS WHERE SOURCE = ?", (f"file {TAG}",))
    check(found == [(BULK_ROWS, sum(range(BULK_ROWS)))], found)


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
