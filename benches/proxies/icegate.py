"""A PDP and PEPs from a release build, an issuer whose only part is its key file, and drivers' sessions."""

import base64
import json
import pathlib
import subprocess
import time
import urllib.request

ISSUER = "https://issuer.invalid"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs tokens with openssl: nothing else is needed of an identity provider here."""

    def __init__(self, home: pathlib.Path):
        self.key = home / "issuer.pem"
        run = lambda *args: subprocess.run(["openssl", *args], check=True, capture_output=True).stdout
        run("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(self.key))
        modulus = run("rsa", "-in", str(self.key), "-noout", "-modulus").decode().strip().split("=")[1]
        keys = {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "one", "e": "AQAB", "n": b64(bytes.fromhex(modulus))}]}
        self.keys = home / "keys.json"
        self.keys.write_text(json.dumps(keys))

    def token(self, groups=("employees", "analysts")) -> str:
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": "icegate", "sub": "ana", "groups": list(groups), "iat": now, "exp": now + 3600}
        signed = ".".join(b64(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "one", "typ": "JWT"}, claims))
        command = ["openssl", "dgst", "-sha256", "-sign", str(self.key)]
        signature = subprocess.run(command, input=signed.encode(), check=True, capture_output=True).stdout
        return f"{signed}.{b64(signature)}"


def pdp_config(home: pathlib.Path, policies: pathlib.Path, issuer: Issuer) -> str:
    return f"""
[listen]
addr = "127.0.0.1:0"
danger_plaintext = true
[metrics]
addr = "127.0.0.1:0"
[store]
path = "{home}/icegate.db"
[bundle]
dir = "{policies}"
[[issuer]]
name = "corp"
issuer = "{ISSUER}"
jwks_file = "{issuer.keys}"
audiences = ["icegate"]
[issuer.claims]
groups = "groups"
"""


def pep_config(home: pathlib.Path, name: str, pdp: str, upstream: int, storage: int, tls) -> str:
    """Limits are those of the example but for one: all load comes from one address."""
    listen = f'tls = {{ cert = "{tls[0]}", key = "{tls[1]}" }}' if tls else "danger_plaintext = true"
    return f"""
pep_id = "{name}"
[listen]
addr = "127.0.0.1:0"
{listen}
drain = "1s"
[metrics]
addr = "127.0.0.1:0"
[upstream]
url = "http://127.0.0.1:{upstream}"
danger_plaintext = true
account = "demo"
user = "ICEGATE"
auth = "password"
password_env = "BENCH_PASSWORD"
[pdp]
url = "http://{pdp}"
danger_plaintext = true
[journal]
path = "{home}/{name}.journal"
[results]
storage_hosts = ["127.0.0.1:{storage}"]
danger_plaintext = true
"""


def call(url: str, token: str | None, body: dict | None, context=None) -> dict:
    """One call as a driver makes it. A refusal is an error here."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token:
        headers["Authorization"] = f'Snowflake Token="{token}"'
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=20, context=context) as response:
        answer = json.load(response)
    if not answer["success"]:
        raise RuntimeError(f"{url}: {answer['code']} {answer['message']}")
    return answer["data"]


def login(base: str, token: str, context=None) -> str:
    names = "databaseName=SALES&schemaName=PUBLIC&warehouse=DEMO_WH&roleName=ANALYST"
    body = {"data": {"ACCOUNT_NAME": "demo", "AUTHENTICATOR": "OAUTH", "TOKEN": token, "LOGIN_NAME": "",
                     "CLIENT_APP_ID": "PythonConnector", "CLIENT_APP_VERSION": "4.8.1", "SESSION_PARAMETERS": {}}}
    return call(f"{base}/session/v1/login-request?{names}", None, body, context)["token"]


def query(base: str, token: str, number: int, context=None, sql="SELECT id FROM customers WHERE country = 'DE'") -> dict:
    body = {"sqlText": sql, "asyncExec": False, "sequenceId": 1}
    path = f"/queries/v1/query-request?requestId=ffffffff-0000-4000-8000-{number:012x}"
    return call(base + path, token, body, context)


def counters(metrics: str) -> dict[str, float]:
    """The PEP's counters, by name and labels."""
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=20) as response:
        lines = response.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}
