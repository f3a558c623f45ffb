"""pandas: rows as frames."""

import pandas

from matrix import MASKED, PARTS, SHOWN, TAG, check, not_offered, not_run, run, says
from python_connector import CAPABILITIES, session


def frame(stack, sql):
    with session(stack).cursor() as cursor:
        return cursor.execute(sql).fetch_pandas_all()


def masked():
    found = frame("sql", MASKED).to_dict("records")
    check(found == [SHOWN], found)


said = says(lambda sql: frame("deep", sql)["SAID"].tolist())


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
            "file-load": not_run("fakesnow reads no stage between quotes, as `write_pandas` writes it"),
        },
    )
