"""dbt: macros that run statements, and a model that becomes a table.

Not called `dbt_…`: dbt takes every module of such a name for a plugin and loads it.
"""

import json
import pathlib
from importlib.metadata import version

from dbt.cli.main import dbtRunner

from matrix import (
    BROKEN,
    DENIED,
    HELD,
    INSERT,
    INSERTED,
    MASKED,
    NOTE,
    PARTS,
    SHOWN,
    TAG,
    about,
    arguments,
    check,
    fails,
    not_offered,
    refused,
    run,
)

PROJECT = pathlib.Path(__file__).parent / "dbt_project"


def dbt(stack, *words, person="ana", how="oauth"):
    """Runs a command, and gives the rows its macro has logged; an error is what dbt says of it."""
    profiles = pathlib.Path(about["home"], f"{stack}-{person}-{how}")
    profiles.mkdir(exist_ok=True)
    output = {"type": "snowflake", "threads": 1, "connect_retries": 0, "retry_all": False, **arguments(stack, person, how)}
    output.setdefault("user", person)
    output["schema"] = "STAGING" if words[0] == "run" else "PUBLIC"
    # JSON is YAML.
    profile = {"matrix": {"target": "it", "outputs": {"it": output}}}
    pathlib.Path(profiles, "profiles.yml").write_text(json.dumps(profile))
    found, said = [], []

    def hear(event):
        said.append(event.info.msg)
        if event.info.msg.startswith("ROWS "):
            found.append(json.loads(event.info.msg.removeprefix("ROWS ")))

    common = ["--project-dir", PROJECT, "--profiles-dir", profiles, "--target-path", profiles / "target"]
    common += ["--log-path", profiles / "logs", "--no-send-anonymous-usage-stats", "--no-version-check", "--no-populate-cache"]
    done = dbtRunner(callbacks=[hear]).invoke([*words, *map(str, common)])
    if not done.success:
        raise AssertionError(f"{done.exception} {' '.join(said)}")
    return found


def rows(stack, *statements, **more):
    return dbt(stack, "run-operation", "run_all", "--args", json.dumps({"statements": list(statements)}), **more)


def login(how):
    def capability():
        found = rows("sql", "SELECT COUNT(*) FROM ORDERS", how=how)
        check(found == [[["7"]]], found)

    return capability


def login_refused():
    fails(lambda: rows("sql", "SELECT 1", person="expired"), "IDENTITY-EXPIRED")


def masked():
    found = rows("sql", MASKED)
    check(found == [[[str(value) for value in SHOWN.values()]]], found)


def said(sql, *wanted):
    def capability():
        found = [cell for (cell,) in rows("deep", sql)[0]]
        check(found == list(wanted) or (not wanted and sql in found[0]), found)

    return capability


def error():
    fails(lambda: rows("deep", BROKEN), "the object is broken", "002043", "02000")


def denial():
    refused(lambda: rows("sql", DENIED), "POLICY-FORBID")


def hold():
    rows("sql", HELD, person="copilot")
    found = rows("sql", NOTE)
    check(found == [[[f"held {TAG}"]]], found)


def transaction():
    for end, left in [("ROLLBACK", "0"), ("COMMIT", "1")]:
        found = rows("sql", "BEGIN", INSERT, end, INSERTED)
        check(found[-1] == [[left]], found)


def temporary():
    """An incremental model: what is new goes into the table by way of a temporary view."""
    dbt("sql", "run", "--select", "leads", "--vars", json.dumps({"tag": TAG}))
    found = rows("sql", f"SELECT COUNT(*) FROM SALES.STAGING.LEADS WHERE SOURCE = 'incremental {TAG}'")
    check(found == [[["1"]]], found)


def metadata():
    """A model asks for schemas and what is in them, and becomes a table."""
    dbt("sql", "run", "--select", "shipped")
    (tables,) = rows("sql", "SHOW TERSE TABLES IN SCHEMA SALES.STAGING")
    check(any("SHIPPED" in row for row in tables), tables)


run(
    version("dbt-snowflake"),
    {
        "login-oauth": login("oauth"),
        "login-pat": not_offered("its profile has no access tokens but as the password"),
        "login-password": login("password"),
        "login-refused": login_refused,
        "masked": masked,
        "json": said(f"SELECT 'json {TAG}'"),
        "arrow": said(f"SELECT 'arrow {TAG}'"),
        "json-parts": said(f"SELECT 'chunks json gzip headers {TAG}'", *PARTS),
        "arrow-parts": said(f"SELECT 'chunks arrow gzip headers {TAG}'", *PARTS),
        "binds": not_offered("values stand in the text"),
        "array-binds": not_offered("values stand in the text"),
        "file-load": not_offered("dbt loads no files"),
        "error": error,
        "denial": denial,
        "hold": hold,
        "cancel": not_offered("by a signal alone"),
        "renewal": not_offered("a session lasts one command"),
        "async": not_offered("dbt has no statements in the background"),
        "several": not_offered("it sends one statement at a time"),
        "transaction": transaction,
        "temporary": temporary,
        "metadata": metadata,
    },
)
