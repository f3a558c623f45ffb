"""fakesnow on a free port of this machine. Writes the port to stdout, and ends when stdin does: it never outlives its parent.

fakesnow answers every query in Arrow. Clients that read JSON alone (Node), or ask for it, get JSON here as Snowflake writes it.
"""

import base64
import datetime
import gzip
import json
import os
import socket
import sys
import threading

import fakesnow.server
import pyarrow
import uvicorn
from fakesnow import macros
from sqlglot.generators.duckdb import DuckDBGenerator
from starlette.responses import JSONResponse

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

EPOCH = datetime.date(1970, 1, 1)
json_tokens = set()


def cell(value, kind):
    """A value as a row of JSON has it: text, or null."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict) and "epoch" in value:
        zone = f" {value['timezone'] + 1440}" if "timezone" in value else ""
        return f"{value['epoch']}.{value['fraction']:09d}{zone}"
    if isinstance(value, datetime.date):
        return str((value - EPOCH).days)
    if isinstance(value, bytes):
        return value.hex()
    if kind == "time":
        return f"{value // 10**9}.{value % 10**9:09d}"
    return str(value)


def as_json(data):
    arrow = data.pop("rowsetBase64")
    rows = pyarrow.ipc.open_stream(base64.b64decode(arrow)).read_all().to_pylist() if arrow else []
    kinds = [column["type"] for column in data["rowtype"]]
    data["rowset"] = [[cell(value, kind) for value, kind in zip(row.values(), kinds)] for row in rows]
    data["queryResultFormat"] = "json"


def wants_json(body):
    login = body["data"]
    formats = [value for name, value in login.get("SESSION_PARAMETERS", {}).items() if name.endswith("_RESULT_FORMAT")]
    return login.get("CLIENT_APP_ID") in ("JavaScript", "SQLAPI") or "JSON" in formats


async def login(request):
    response = await fakesnow.server.login_request(request)
    body = await request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    if wants_json(json.loads(body)):
        json_tokens.add(json.loads(response.body)["data"]["token"])
    return response


async def query(request):
    response = await fakesnow.server.query_request(request)
    reply = json.loads(response.body)
    data = reply.get("data") or {}
    if not reply.get("success") or "rowtype" not in data:
        return response
    if "rowsetBase64" in data and fakesnow.server.to_token(request) in json_tokens:
        as_json(data)
    # Node waits for ever without it.
    data.setdefault("returned", data.get("total"))
    return JSONResponse(reply)


OURS = {"/session/v1/login-request": login, "/queries/v1/query-request": query}
for route in fakesnow.server.app.routes:
    if route.path in OURS:
        fakesnow.server.app.router.routes.remove(route)
for path, answer in OURS.items():
    fakesnow.server.app.router.add_route(path, answer, methods=["POST"])


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
config = uvicorn.Config(fakesnow.server.app, log_level="warning", access_log=False, timeout_keep_alive=600)
uvicorn.Server(config).run(sockets=[listener])
