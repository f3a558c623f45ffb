"""Real driver code, one step at a time: reads a command per line from stdin, writes a reply per line to stdout.

A command is {"id": n, "op": ..., "session": name, ...}. Each session has its own thread, so that a statement which
waits for a person holds up only its own session. A reply is {"id": n, "ok": {...}} or {"id": n, "error": {...}}.
The program ends when stdin does.
"""

import datetime
import decimal
import json
import math
import os
import queue
import sys
import threading
import time
import warnings

warnings.filterwarnings("ignore")

import snowflake.connector  # noqa: E402

out_lock = threading.Lock()
out = os.fdopen(os.dup(1), "w", encoding="utf-8")
# Whatever a library prints must not end up between two replies.
os.dup2(2, 1)


def plain(value):
    """The value as JSON can carry it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        # JSON has no word for them.
        return value if math.isfinite(value) else str(value)
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, (datetime.date, datetime.datetime, datetime.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    return str(value)


def result_of(cursor):
    """Everything the cursor tells about one result."""
    description = cursor.description or []
    columns = [
        {
            "name": column.name,
            "type_code": column.type_code,
            "internal_size": column.internal_size,
            "precision": column.precision,
            "scale": column.scale,
            "nullable": column.is_nullable,
        }
        for column in description
    ]
    rows = [[plain(value) for value in row] for row in cursor.fetchall()]
    return {"columns": columns, "rows": rows, "rowcount": cursor.rowcount, "sfqid": cursor.sfqid}


class Session:
    """One connection of the driver, and the thread that uses it."""

    def __init__(self):
        self.connection = None
        self.commands = queue.Queue()
        threading.Thread(target=self.work, daemon=True).start()

    def work(self):
        while True:
            command = self.commands.get()
            started = time.monotonic()
            try:
                reply = {"id": command["id"], "ok": getattr(self, "do_" + command["op"])(command)}
            except snowflake.connector.errors.Error as error:
                reply = {
                    "id": command["id"],
                    "error": {
                        "kind": type(error).__name__,
                        "errno": getattr(error, "errno", None),
                        "sqlstate": getattr(error, "sqlstate", None),
                        "message": getattr(error, "msg", None) or str(error),
                        "sfqid": getattr(error, "sfqid", None),
                    },
                }
            except BaseException as error:  # noqa: BLE001
                reply = {"id": command["id"], "error": {"kind": type(error).__name__, "message": str(error)}}
            reply["seconds"] = time.monotonic() - started
            say(reply)

    def do_connect(self, command):
        snowflake.connector.paramstyle = command.get("paramstyle", "pyformat")
        self.connection = snowflake.connector.connect(**command["args"])
        return {
            "database": self.connection.database,
            "schema": self.connection.schema,
            "warehouse": self.connection.warehouse,
            "role": self.connection.role,
        }

    def do_execute(self, command):
        with self.connection.cursor() as cursor:
            cursor.execute(command["sql"], command.get("params"), **command.get("options", {}))
            result = result_of(cursor)
            if command.get("all_results"):
                result["more"] = []
                while cursor.nextset():
                    result["more"].append(result_of(cursor))
            return result

    def do_executemany(self, command):
        with self.connection.cursor() as cursor:
            cursor.executemany(command["sql"], command["params"])
            return {"rowcount": cursor.rowcount}

    def do_describe(self, command):
        with self.connection.cursor() as cursor:
            return {"columns": [{"name": c.name, "type_code": c.type_code} for c in cursor.describe(command["sql"])]}

    def do_execute_async(self, command):
        with self.connection.cursor() as cursor:
            cursor.execute_async(command["sql"])
            return {"sfqid": cursor.sfqid}

    def do_fetch_async(self, command):
        with self.connection.cursor() as cursor:
            cursor.get_results_from_sfqid(command["sfqid"])
            return result_of(cursor)

    def do_status(self, command):
        return {"status": self.connection.get_query_status(command["sfqid"]).name}

    def do_close(self, _command):
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()
        return {}


def say(reply):
    with out_lock:
        out.write(json.dumps(reply) + "\n")
        out.flush()


def main():
    say({"id": 0, "ok": {"version": str(snowflake.connector.__version__)}})
    sessions = {}
    for line in sys.stdin:
        command = json.loads(line)
        name = command["session"]
        if name not in sessions:
            sessions[name] = Session()
        sessions[name].commands.put(command)
    # Nobody is left to read an answer: no farewell to a server that may be gone already.
    os._exit(0)


main()
