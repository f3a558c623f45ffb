#!/usr/bin/env python3
"""icegate's whole analysis beside sqlglot's qualify and lineage: the same queries, schema and session.

    python3 benches/beside_sqlglot.py

icegate's figures include tokenizing, parsing, control lineage and the proofs; sqlglot's leave its parsing out. sqlglot is
asked in two ways, with the schema made once and nothing copied in either: a call per output column, as its documentation
shows it, and all columns in one call, so that qualifying is done once and the columns share what they can.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
import venv

REQUIREMENTS = ["sqlglot==30.30.0", "pyyaml==6.0.3"]
BENCHES = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", BENCHES.parent / "target"))
# Kinds whose every statement is a query: sqlglot gives the lineage of queries.
KINDS = ["point", "join", "report", "star"]
SECONDS = 0.5


def enter_venv():
    """Runs this file again where the requirements are, and makes that place first when it is not there."""
    home = TARGET / "sqlglot-venv"
    python = home / "bin" / "python"
    if pathlib.Path(sys.prefix) == home:
        return
    if not python.exists():
        venv.create(home, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
    os.execv(python, [python, __file__])


def icegate():
    command = ["cargo", "bench", "--quiet", "-p", "icegate-benches", "--bench", "beside_parsing", "--", "--json"]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return {it["name"]: it for it in map(json.loads, lines)}


def median_us(work):
    """Median processor time of one run, in microseconds: waiting for a busy machine does not count."""
    runs, end = [], time.process_time() + SECONDS
    while len(runs) < 5 or time.process_time() < end:
        start = time.process_time_ns()
        work()
        runs.append((time.process_time_ns() - start) / 1e3)
    return statistics.median(runs)


def main():
    import sqlglot
    import yaml
    from sqlglot import MappingSchema
    from sqlglot.lineage import lineage

    catalog = yaml.safe_load((BENCHES / "catalog.yaml").read_text())["databases"]
    tables = {
        database: {
            schema: {
                name: {column: it["type"] for column, it in relation["columns"].items()}
                for name, relation in relations.items()
            }
            for schema, relations in schemas.items()
        }
        for database, schemas in catalog.items()
    }
    schema = MappingSchema(tables, dialect="snowflake")
    ours = icegate()
    print(f"sqlglot {sqlglot.__version__}, times in µs")
    print(f"{'statement':28} {'icegate':>9} {'by column':>10} {'ratio':>6} {'in one':>10} {'ratio':>6}")
    ratios = {"by column": [], "in one": []}
    for kind in KINDS:
        for path in sorted((BENCHES / "statements" / kind).glob("*.sql")):
            name, sql = f"{kind}/{path.stem}", path.read_text()

            def parse():
                return sqlglot.parse_one(sql, dialect="snowflake")

            def trace(column):
                return lineage(
                    column, parse(), schema, dialect="snowflake", copy=False, catalog="sales", db="public"
                )

            columns = list(trace(None))
            assert columns, name
            parsing = median_us(parse)
            alone = {
                "by column": median_us(lambda: [trace(column) for column in columns]) - parsing * len(columns),
                "in one": median_us(lambda: trace(None)) - parsing,
            }
            shown = f"{name:28} {ours[name]['analysis_us']:9.1f}"
            for way, took in alone.items():
                ratios[way].append(took / ours[name]["analysis_us"])
                shown += f" {took:10.0f} {ratios[way][-1]:6.0f}"
            print(shown)
    for way, of in ratios.items():
        print(f"{way}: median ratio {statistics.median(of):.0f}, lowest {min(of):.0f}")


if __name__ == "__main__":
    enter_venv()
    main()
