"""fakesnow on a free port of this machine. Writes the port to stdout, and ends when stdin does: it never outlives its parent."""

import os
import socket
import sys
import threading

import uvicorn
from fakesnow import macros
from fakesnow.server import app
from sqlglot.generators.duckdb import DuckDBGenerator

# What masks inside a VARIANT are made of, and fakesnow does not know. As in Snowflake, what is of another type is NULL, and
# what is inserted as NULL is left out.
INSIDE = """
CREATE OR REPLACE MACRO {0}.as_object(v) AS (CASE WHEN json_type(CAST(v AS JSON)) = 'OBJECT' THEN CAST(v AS JSON) END);
CREATE OR REPLACE MACRO {0}.is_object(v) AS (json_type(CAST(v AS JSON)) = 'OBJECT');
CREATE OR REPLACE MACRO {0}.as_varchar(v) AS
  (CASE WHEN json_type(CAST(v AS JSON)) = 'VARCHAR' THEN CAST(v AS JSON) ->> '$' END);
CREATE OR REPLACE MACRO {0}._object_delete(o, names) AS (
  CASE WHEN o IS NOT NULL THEN json_merge_patch(o, (SELECT json_group_object(k, NULL) FROM unnest(names) AS n(k))) END);
CREATE OR REPLACE MACRO {0}._object_insert(o, k, v) AS (
  CASE WHEN o IS NOT NULL AND v IS NOT NULL THEN json_merge_patch(o, json_object(k, v)) ELSE o END);
"""
of_fakesnow = macros.creation_sql
macros.creation_sql = lambda catalog: of_fakesnow(catalog) + INSIDE.format(catalog)


def insert(self, node):
    return self.func("_object_insert", node.this, node.args.get("key"), node.args.get("value"))


def anonymous(self, node):
    if node.name.upper() == "OBJECT_DELETE":
        names = ", ".join(self.sql(name) for name in node.expressions[1:])
        return f"_object_delete({self.sql(node.expressions[0])}, [{names}])"
    return of_sqlglot(self, node)


of_sqlglot = DuckDBGenerator.anonymous_sql
DuckDBGenerator.anonymous_sql = anonymous
DuckDBGenerator.objectinsert_sql = insert


def leave_with_parent():
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


threading.Thread(target=leave_with_parent, daemon=True).start()
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", 0))
listener.listen(128)
print(listener.getsockname()[1], flush=True)
# A kept connection that the server closes at the moment the proxy reuses it would look like a fault of the proxy.
config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=600)
uvicorn.Server(config).run(sockets=[listener])
