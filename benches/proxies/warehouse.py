"""What stands behind every proxy: an nginx that answers as Snowflake would, and lends the parts of large results.

It does nothing but answer, on the load's core, so that what is measured is the proxy before it.
"""

import pathlib

# One row in JSON, as Snowflake tells it; the query id is another each time.
ROWS = (
    '{"data":{"queryId":"$query_id","rowtype":[{"name":"ID","type":"fixed","nullable":false,"precision":38,"scale":0,'
    '"length":null,"byteLength":null,"collation":null,"database":"","schema":"","table":""}],"rowset":[["1"]],'
    '"total":1,"returned":1,"parameters":[],"statementTypeId":4096,"version":1,"sqlState":null,"numberOfBinds":0,'
    '"finalDatabaseName":"SALES","finalSchemaName":"PUBLIC","finalRoleName":"ANALYST","finalWarehouseName":"DEMO_WH",'
    '"queryResultFormat":"json","databaseProvider":null},"code":null,"message":null,"success":true}'
)
RUNNING = (
    '{"data":{"queryId":"$query_id","getResultUrl":"/queries/$query_id/result","queryAbortsAfterSecs":300,'
    '"progressDesc":null},"code":"333333","message":"Query execution in progress","success":true}'
)
LOGIN = (
    '{"data":{"token":"t","masterToken":"m","sessionId":4711,"validityInSeconds":3600,"masterValidityInSeconds":14400,'
    '"serverVersion":"9.0.0","parameters":[{"name":"AUTOCOMMIT","value":true}],"sessionInfo":{"databaseName":"SALES",'
    '"schemaName":"PUBLIC","warehouseName":"DEMO_WH","roleName":"ANALYST"}},"code":null,"message":null,"success":true}'
)
DONE = '{"data":null,"code":null,"message":null,"success":true}'
# The rows of a large result: three parts in storage, all the same file.
PARTS = ",".join('{"url":"http://127.0.0.1:@STORAGE@/part","rowCount":1,"uncompressedSize":@BYTES@,"compressedSize":@BYTES@}' for _ in range(3))
LARGE = ROWS.replace('"total":1,"returned":1', f'"total":4,"returned":4,"chunks":[{PARTS}]')


def nginx(home: pathlib.Path, name: str, http: str) -> str:
    """nginx in one process that logs nothing and keeps connections; `http` is what it serves."""
    return f"""
worker_processes 1;
daemon off;
master_process off;
error_log {home}/{name}.log error;
pid {home}/{name}.pid;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {home}/{name}-body;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  tcp_nodelay on;
{http}
}}
"""


def config(home: pathlib.Path, small: int, large: int, part_bytes: int) -> str:
    """nginx's configuration: an account of small results on one port, one of large results and the storage on another."""

    def account(port, result):
        return f"""
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    default_type application/json;
    location /session {{ return 200 '{DONE}'; }}
    location /session/v1/login-request {{ return 200 '{LOGIN}'; }}
    location /queries/v1/query-request {{ return 200 '{result}'; }}
    location ~ ^/queries/[^/]+/result$ {{ return 200 '{RUNNING}'; }}
    location /part {{ default_type application/octet-stream; alias {home}/part; }}
    location /yes {{ return 200 ''; }}
  }}"""

    large_result = LARGE.replace("@STORAGE@", str(large)).replace("@BYTES@", str(part_bytes))
    http = f"""  sendfile on;
  map $request_id $query_id {{ "~^(.{{8}})(.{{4}})(.{{4}})(.{{4}})(.{{12}})$" "$1-$2-$3-$4-$5"; }}
  {account(small, ROWS)}
  {account(large, large_result)}"""
    return nginx(home, "warehouse", http)
