"""What the Python clients of the driver matrix share: what they are told, how they say what became of it, what must come out.

The first line of stdin is JSON: `tag` (stands in every statement of this client), `home` (a folder of its own), and the stacks
`sql` (real SQL on fakesnow) and `deep` (the protocol's rarer turns on the stand-in), each with `host`, `port`, the names to
connect with and `tokens` by person. Written are a line with the client's version and one for each capability.
"""

import faulthandler
import json
import os
import sys
import threading
import time
import traceback

# Libraries print; only our lines may stand between ours.
out = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

about = json.loads(sys.stdin.readline())
TAG = about["tag"]

# What the seed holds, as an analyst must see it.
MASKED = "SELECT ID, NAME, EMAIL, CARD, COUNTRY FROM CUSTOMERS WHERE ID = 1"
SHOWN = {"ID": 1, "NAME": "M*************", "EMAIL": "***@example.com", "CARD": "************7891", "COUNTRY": "SE"}
# What a part of the stand-in's results holds, and all of it.
PARTS = ["inline"] + [f"from storage {part}.{row}" for part in range(2) for row in range(3)]
HELD = f"UPDATE ORDERS SET NOTE = 'held {TAG}' WHERE ID = 101"
NOTE = "SELECT NOTE FROM ORDERS WHERE ID = 101"
DENIED = f"DROP SCHEMA SALES.{TAG}"
BROKEN = f"SELECT 'broken {TAG}'"
FOREVER = f"SELECT 'forever {TAG}'"
SLOW = f"SELECT 'slow {TAG}'"
BOTH = f"SELECT 'piece {TAG} a'; SELECT 'piece {TAG} b'"
INSERT = f"INSERT INTO SALES.STAGING.LEADS (ID, SOURCE) VALUES (1, 'transaction {TAG}')"
INSERTED = f"SELECT COUNT(*) FROM SALES.STAGING.LEADS WHERE SOURCE = 'transaction {TAG}'"
OWN = f"SALES.STAGING.OWN_{TAG}"
# A table of the session's own: made of masked values, added to, read, dropped.
TEMPORARY = [
    f"CREATE TEMPORARY TABLE {OWN} AS SELECT ID, EMAIL FROM SALES.PUBLIC.CUSTOMERS",
    f"INSERT INTO {OWN} (ID, EMAIL) SELECT 99, 'added'",
    f"SELECT EMAIL FROM {OWN} WHERE ID IN (1, 99) ORDER BY ID",
    f"DROP TABLE {OWN}",
]
TABLES = {"CUSTOMERS", "ORDERS", "EMPLOYEES"}
ORDERS_COLUMNS = ["ID", "CUSTOMER_ID", "AMOUNT", "STATUS", "CREATED_AT", "NOTE"]
BULK_ROWS = 300
CAPABILITY_SECONDS_MAX = 40


class NotOffered(Exception):
    """The client has no such thing."""


class Refused(Exception):
    """It has, and what it sends is refused, as was checked."""


def not_offered(reason):
    def capability():
        raise NotOffered(reason)

    return capability


def check(holds, said=None):
    if not holds:
        raise AssertionError(repr(said)[:2000])


def arguments(stack, person="ana", how="oauth"):
    """Of the connector's `connect`, which most clients pass on."""
    at = about[stack]
    common = {
        "host": at["host"],
        "port": at["port"],
        "protocol": "http",
        "account": "demo",
        "database": "SALES",
        "schema": "PUBLIC",
        "warehouse": "DEMO_WH",
    }
    token = at["tokens"][person]
    if how == "password":
        return {**common, "user": person, "password": token}
    return {**common, "authenticator": {"oauth": "oauth", "pat": "PROGRAMMATIC_ACCESS_TOKEN"}[how], "token": token}


def fails(does, *words):
    """What the error says, which has these words in it."""
    try:
        said = does()
    except Exception as error:  # noqa: BLE001
        text = str(error)
        for word in words:
            check(word in text, text)
        return error
    raise AssertionError(f"no error, but {said!r}")


def refused(does, code):
    """An error that a policy's author wrote, with its code and the decision."""
    return fails(does, "refused: ", code, "decision ")


def says(cells):
    """Capabilities of statements on the stand-in, whose one column `cells` reads: `wanted`, or the statement itself."""

    def said(sql, *wanted):
        def capability():
            found = cells(sql)
            check(found == list(wanted or [sql]), found)

        return capability

    return said


def temporary(rows):
    """A temporary table; `rows` runs a statement in one session and gives its rows."""

    def capability():
        found = [rows(sql) for sql in TEMPORARY][2]
        check([tuple(row) for row in found] == [(SHOWN["EMAIL"],), ("added",)], found)

    return capability


def renews(said):
    """Statements before and after the end of a session token."""

    def capability():
        said(f"SELECT 'before {TAG}'")()
        time.sleep(about["session_seconds"] + 0.5)
        said(f"SELECT 'renewed {TAG}'")()

    return capability


def meanwhile(does):
    """Runs it in the background; the answer waits for it and raises what it raised."""
    ended = {}

    def work():
        try:
            ended["value"] = does()
        except BaseException as error:  # noqa: BLE001
            ended["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def wait():
        thread.join(60)
        check(not thread.is_alive(), "it does not end")
        if "error" in ended:
            raise ended["error"]
        return ended.get("value")

    return wait


def tell(line):
    out.write(json.dumps(line) + "\n")
    out.flush()


def run(version, capabilities):
    """Tries them all, in order, and ends the process: no library may hold it up."""
    tell({"version": version})
    for name, capability in capabilities.items():
        started = time.monotonic()
        # What hangs says where, and ends everything.
        faulthandler.dump_traceback_later(CAPABILITY_SECONDS_MAX, exit=True)
        outcome, detail = "pass", ""
        try:
            capability()
        except NotOffered as reason:
            outcome, detail = "not-offered", str(reason)
        except Refused as reason:
            outcome, detail = "refused", str(reason)
        except BaseException:  # noqa: BLE001
            outcome, detail = "fail", traceback.format_exc()[-1500:]
        print(f"{name}: {outcome} {time.monotonic() - started:.1f}s", file=sys.stderr, flush=True)
        tell({"capability": name, "outcome": outcome, "detail": detail})
    os._exit(0)
