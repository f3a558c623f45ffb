"""pandas: rows as frames, and frames written as files."""

import pandas
from snowflake.connector.pandas_tools import write_pandas

from matrix import BULK_ROWS, MASKED, PARTS, SHOWN, TAG, Refused, check, not_offered, refused, run, says
from python_connector import CAPABILITIES, session


def frame(stack, sql):
    with session(stack).cursor() as cursor:
        return cursor.execute(sql).fetch_pandas_all()


def masked():
    found = frame("sql", MASKED).to_dict("records")
    check(found == [SHOWN], found)


said = says(lambda sql: frame("deep", sql)["SAID"].tolist())


def file_load():
    rows = pandas.DataFrame({"ID": range(BULK_ROWS), "SOURCE": f"file {TAG}"})
    refused(lambda: write_pandas(session("sql", "loader"), rows, "LEADS", schema="STAGING"), "SQL-UNKNOWN")
    raise Refused("`write_pandas` names its stage and table by a bound `IDENTIFIER(?)`, which the text does not tell")


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
