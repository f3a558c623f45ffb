"""Snowflake CLI, one command at a time."""

import fcntl
import json
import os
import pathlib
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from importlib.metadata import version

from matrix import (
    BROKEN,
    BULK_ROWS,
    DENIED,
    FOREVER,
    HELD,
    INSERT,
    MASKED,
    NOTE,
    ORDERS_COLUMNS,
    PARTS,
    SHOWN,
    SLOW,
    TABLES,
    TAG,
    TEMPORARY,
    about,
    arguments,
    check,
    fails,
    not_offered,
    refused,
    run,
    says,
)

SNOW = pathlib.Path(sys.executable).parent / "snow"


def snow(stack, *words, person="ana", how="oauth"):
    """Runs a command and gives what it says as JSON; an error is what it says of it, on one line."""
    config = pathlib.Path(about["home"], f"{stack}-{person}-{how}.toml")
    if not config.exists():
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in arguments(stack, person, how).items()]
        config.write_text("[connections.it]\n" + "".join(lines))
        config.chmod(0o600)
    command = [SNOW, "--config-file", config, *words, "-c", "it", "--format", "JSON"]
    environment = {**os.environ, "COLUMNS": "5000", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=35, env=environment, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise AssertionError(done.stdout + done.stderr)
    return json.loads(done.stdout)


class Typed:
    """`snow sql` at a terminal: what is typed, and what the screen says."""

    def __init__(self, stack):
        rows(stack, "SELECT 1")
        self.screen = ""
        words = [SNOW, "--config-file", pathlib.Path(about["home"], f"{stack}-ana-oauth.toml"), "sql", "-c", "it"]
        child, self.terminal = pty.fork()
        if child == 0:
            os.execve(SNOW, [str(word) for word in words], {**os.environ, "TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "250"})
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 250, 0, 0))
        self.until(r"> $")

    def until(self, pattern):
        """Waits until the screen says so since the last was typed."""
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            found = re.search(pattern, self.screen)
            if found:
                return found[0]
            if select.select([self.terminal], [], [], 0.2)[0]:
                said = os.read(self.terminal, 65536).decode(errors="replace")
                # It asks where the cursor is.
                if "\x1b[6n" in said:
                    os.write(self.terminal, b"\x1b[1;1R")
                self.screen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said)
        raise AssertionError(self.screen[-1500:])

    def type(self, line, pattern):
        self.screen = ""
        # Before the shell reads key by key, Enter would be another key.
        while termios.tcgetattr(self.terminal)[3] & termios.ICANON:
            time.sleep(0.05)
        os.write(self.terminal, f"{line}\r".encode())
        return self.until(pattern)


ID = r"[0-9a-f]{8}-[0-9a-f-]{27}"


def cancel():
    typed = Typed("deep")
    # The last `;` is for Enter.
    query = typed.type(f"{FOREVER};>;", ID)
    typed.type(f"!abort {query}", r"query \[" + query + r"\] terminated")


def asynchronous():
    typed = Typed("deep")
    query = typed.type(f"{SLOW};>;", ID)
    # It does not wait for a result that is not there yet.
    while "rowtype" in typed.type(f"!result {query}", r"'rowtype'|[|│]\s*slow\b"):
        pass


def rows(stack, *statements, **more):
    return snow(stack, "sql", "-q", "; ".join(statements), **more)


def login(how):
    def capability():
        found = rows("sql", "SELECT COUNT(*) AS N FROM ORDERS", how=how)
        check(found == [{"N": 7}], found)

    return capability


def login_refused():
    fails(lambda: rows("sql", "SELECT 1", person="expired"), "IDENTITY-EXPIRED")


def masked():
    found = rows("sql", MASKED)
    check(found == [SHOWN], found)


said = says(lambda sql: [row["SAID"] for row in rows("deep", sql)])


def file_load():
    stage = f"SALES.STAGING.{TAG}"
    file = pathlib.Path(about["home"], "rows.csv")
    file.write_text("".join(f"{number},file {TAG}\n" for number in range(BULK_ROWS)))
    rows("sql", f"CREATE STAGE {stage}", person="loader")
    put = snow("sql", "stage", "copy", str(file), f"@{stage}", person="loader")
    check(put[0]["status"] == "UPLOADED", put)
    copy = f"COPY INTO SALES.STAGING.LEADS (ID, SOURCE) FROM @{stage} FILE_FORMAT = (TYPE = CSV)"
    rows("sql", copy, person="loader")
    found = rows("sql", f"SELECT COUNT(*) AS N, MAX(ID) AS M FROM SALES.STAGING.LEADS WHERE SOURCE = 'file {TAG}'")
    check(found == [{"N": BULK_ROWS, "M": BULK_ROWS - 1}], found)


def error():
    fails(lambda: rows("deep", BROKEN), "the object is broken", "002043", "02000")


def denial():
    refused(lambda: rows("sql", DENIED), "POLICY-FORBID")


def hold():
    rows("sql", HELD, person="copilot")
    found = rows("sql", NOTE)
    check(found == [{"NOTE": f"held {TAG}"}], found)


def transaction():
    count = f"SELECT COUNT(*) AS N FROM SALES.STAGING.LEADS WHERE SOURCE = 'transaction {TAG}'"
    for end, left in [("ROLLBACK", 0), ("COMMIT", 1)]:
        found = rows("sql", "BEGIN", INSERT, end, count)
        check(found[-1] == [{"N": left}], found)


def temporary():
    found = rows("sql", *TEMPORARY)
    check(found[2] == [{"EMAIL": SHOWN["EMAIL"]}, {"EMAIL": "added"}], found)


def metadata():
    tables = {row["name"] for row in snow("sql", "object", "list", "table")}
    check(TABLES <= tables, tables)
    columns = [row["name"] for row in snow("sql", "object", "describe", "table", "SALES.PUBLIC.ORDERS")]
    check(columns == ORDERS_COLUMNS, columns)


run(
    version("snowflake-cli"),
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
        "binds": not_offered("values stand in the text"),
        "array-binds": not_offered("values stand in the text"),
        "file-load": file_load,
        "error": error,
        "denial": denial,
        "hold": hold,
        "cancel": cancel,
        "renewal": not_offered("a session lasts one command"),
        "async": asynchronous,
        "several": not_offered("it sends one statement at a time"),
        "transaction": transaction,
        "temporary": temporary,
        "metadata": metadata,
    },
)
