#!/usr/bin/env python3
"""A large Arrow result through the PEP, as it is and with two of its seven columns masked there: speed and memory.

    python3 benches/masked_stream.py [--mib 1024] [--rounds 3] [--masks "two tokens"]

One client reads one part from storage, through a PEP and a PDP of a release build, plainly over loopback; the storage is
nginx. The same rows are read by somebody who is cleared (the part passes as it is) and by somebody who is not. Storage
holds them plain, and packed as Snowflake's does; what comes packed the client unpacks, as drivers do, for the rows are what it
wants. Nothing is pinned: storage, proxy and client share the machine.
"""

import argparse
import gzip
import http.client
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import venv
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import beside_proxies as bench  # noqa: E402
from beside_proxies import icegate, warehouse  # noqa: E402

PYARROW = "pyarrow==24.0.0"
COLUMNS = [("ID", "fixed"), ("NAME", "text"), ("PHONE", "text"), ("NOTE", "text"), ("ADDRESS", "text"), ("COMMENT", "text"), ("BALANCE", "fixed")]
MASKS = {"two tokens": ("tokenize(key=k)", "tokenize(key=k)"), "token and scan": ("tokenize(key=k)", "scan"), "token and FF1": ("tokenize(key=k)", "fpe(key=k)")}
# Run in an environment of its own: rows as the bench `masking` has them.
MAKE = """
import sys, pyarrow as pa
path, mib, sql_types = sys.argv[1], int(sys.argv[2]), eval(sys.argv[3])
arrow = lambda name, logical: pa.decimal128(38, 0) if name == 'BALANCE' else pa.int64() if logical == 'fixed' else pa.utf8()
schema = pa.schema([pa.field(n, arrow(n, l), metadata={'logicalType': l.upper()}) for n, l in sql_types])
rows = range(8192)
from decimal import Decimal
note = lambda r: f'asked by mail, user{r}@example.com, to be called back' if r % 50 == 0 else 'the ordinary courts sleep quickly above the final, even packages of the week'
columns = [list(rows), [f'Customer#{r:09}' for r in rows], [f'+49-{r % 900 + 100}-{r * 7919 % 10000000:07}' for r in rows], [note(r) for r in rows],
           [f'{r} Long Street, Some Town' for r in rows], ['carefully regular deposits are furiously among the slyly unusual requests; quickly bold ideas'] * 8192,
           [Decimal(r * 104729) for r in rows]]
batch = pa.record_batch([pa.array(c, type=f.type) for c, f in zip(columns, schema)], schema=schema)
with open(path, 'wb') as out:
    writer = pa.ipc.new_stream(out, schema)
    while out.tell() < mib << 20:
        writer.write_batch(batch)
    writer.close()
"""


def policies(home: pathlib.Path, masks) -> pathlib.Path:
    """Everybody reads ROWS; two of its columns are masked for whoever is not cleared."""
    there = home / "policies"
    there.mkdir()
    shutil.copy(bench.ROOT / "policies" / "schema.cedarschema", there)
    types = {"fixed": '"NUMBER(38,0)"', "text": '"VARCHAR(1000)"'}
    tags = {"NAME": "one", "NOTE": "two", "PHONE": "two"}
    tags.pop("NOTE" if masks[1].startswith("fpe") else "PHONE")
    column = lambda name, logical: f"{name.lower()}: {{ type: {types[logical]}{f', tags: [t.{tags[name]}]' if name in tags else ''} }}"
    lines = "\n".join("          " + column(*one) for one in COLUMNS)
    (there / "catalog.yaml").write_text(f"databases:\n  sales:\n    public:\n      rows_of_seven:\n        columns:\n{lines}\n")
    (there / "settings.yaml").write_text("connection: bench\n")
    mask = lambda tag, mask: f"""@id("{tag}") @mask("{mask}")
forbid (principal, action == Icegate::Action::"read_column", resource in Icegate::Tag::"t.{tag}") unless {{ principal in Icegate::Group::"cleared" }};
"""
    permit = """@id("all") permit (principal, action in [Icegate::Action::"run", Icegate::Action::"read", Icegate::Action::"use"], resource);
"""
    (there / "policies.cedar").write_text(permit + mask("one", masks[0]) + mask("two", masks[1]))
    return there


def result(storage: int, part_bytes: int) -> str:
    rowtype = [{"name": name, "type": logical, "nullable": True, "precision": 38 if logical == "fixed" else None, "scale": 0 if logical == "fixed" else None,
                "length": 1000 if logical == "text" else None} for name, logical in COLUMNS]
    chunk = {"url": f"http://127.0.0.1:{storage}/part", "rowCount": 1, "uncompressedSize": part_bytes, "compressedSize": part_bytes}
    data = {"queryId": "$query_id", "rowtype": rowtype, "rowsetBase64": "", "queryResultFormat": "arrow", "total": 1, "returned": 1, "statementTypeId": 4096,
            "finalDatabaseName": "SALES", "finalSchemaName": "PUBLIC", "finalRoleName": "ANALYST", "finalWarehouseName": "DEMO_WH", "parameters": [], "chunks": [chunk]}
    return json.dumps({"data": data, "code": None, "message": None, "success": True})


class Stream:
    """One PDP, one PEP and one storage, with one pair of masks."""

    def __init__(self, home: pathlib.Path, part: pathlib.Path, masks):
        self.home = home
        self.programs = {name: str(bench.TARGET / "release" / f"icegate-{name}") for name in ("pdp", "pep")}
        port = bench.free_port()
        (home / "part").symlink_to(part)
        text = warehouse.config(home, bench.free_port(), port, 1).replace(warehouse.LARGE.replace("@STORAGE@", str(port)).replace("@BYTES@", "1"), result(port, 1))
        (home / "warehouse.conf").write_text(text)
        bench.Process("warehouse", ["nginx", "-c", home / "warehouse.conf"], None).listens(port)
        issuer = icegate.Issuer(home)
        (home / "mask.keys").write_text("k 1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
        _, pdp, _ = self.start("pdp", icegate.pdp_config(home, policies(home, masks), issuer))
        config = icegate.pep_config(home, "pep", pdp, port, port, None)
        self.pep, addr, _ = self.start("pep", f'{config}[masking]\nkeys_file = "{home}/mask.keys"\n')
        self.base = f"http://{addr}"
        self.tokens = {name: icegate.login(self.base, issuer.token(groups)) for name, groups in (("cleared", ["cleared"]), ("masked", []))}

    cpu = None
    start = bench.Bench.start_icegate

    def read(self, who: str, number: int, packed: bool) -> tuple[int, float, bool]:
        """Bytes and seconds of the part as its reader gets it, and whether it was changed on its way."""
        sql = "SELECT * FROM rows_of_seven"
        told = icegate.query(self.base, self.tokens[who], number, None, sql)
        url = urllib.parse.urlsplit(told["chunks"][0]["url"])
        connection = http.client.HTTPConnection(url.netloc)
        started = time.perf_counter()
        connection.request("GET", url.path, headers={"Accept-Encoding": "gzip" if packed else "identity"})
        response = connection.getresponse()
        buffer, count, changed = bytearray(1 << 20), 0, True
        unpack = zlib.decompressobj(wbits=31).decompress if response.headers.get("Content-Encoding") == "gzip" else lambda rows: rows
        while got := response.readinto(buffer):
            rows = unpack(memoryview(buffer)[:got])
            if count == 0:
                changed = b"Customer#000000000" not in bytes(rows)
            count += len(rows)
        if response.status != 200:
            sys.exit(f"{who}: {response.status}")
        return count, time.perf_counter() - started, changed

    def cpu_seconds(self) -> float:
        fields = pathlib.Path(f"/proc/{self.pep.child.pid}/stat").read_text().rsplit(")")[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mb(self) -> float:
        status = pathlib.Path(f"/proc/{self.pep.child.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1e3


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mib", type=int, default=1024)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--masks", choices=MASKS, nargs="+", default=list(MASKS))
    arguments = options.parse_args()
    python = bench.TARGET / "pyarrow-venv" / "bin" / "python"
    if not python.exists():
        venv.create(python.parent.parent, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PYARROW], check=True)
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        plain, packed = home / "plain", home / "packed"
        subprocess.run([python, "-c", MAKE, plain, str(arguments.mib), repr(COLUMNS)], check=True)
        with open(plain, "rb") as rows, gzip.open(packed, "wb", compresslevel=1) as out:
            shutil.copyfileobj(rows, out, 1 << 20)
        unpacked = plain.stat().st_size
        print(f"{unpacked / (1 << 20):.0f} MiB of Arrow, {packed.stat().st_size / (1 << 20):.0f} MiB packed. MiB/s of rows, unpacked, as the client gets them:\n")
        print("| masks | storage | as it is | masked | masked is | PEP's s of CPU a GiB, as it is | masked | PEP's peak MB |\n|---|---|---:|---:|---:|---:|---:|---:|")
        try:
            for name in arguments.masks:
                for part in (plain, packed):
                    there = home / f"{name}-{part.name}".replace(" ", "-")
                    there.mkdir()
                    measure(Stream(there, part, MASKS[name]), name, part.name, unpacked, arguments.rounds)
        finally:
            for process in bench.Process.all:
                process.child.terminate()


def measure(stream, name, storage, unpacked, rounds):
    seconds, cpu = {"cleared": [], "masked": []}, {"cleared": [], "masked": []}
    for number in range(rounds):
        for at, who in enumerate(seconds):
            before = stream.cpu_seconds()
            _, took, changed = stream.read(who, 2 * number + at, storage == "packed")
            if changed != (who == "masked"):
                sys.exit(f"{name}: {who} got the wrong rows")
            seconds[who].append(took)
            cpu[who].append(stream.cpu_seconds() - before)
    plain, masked = (unpacked / (1 << 20) / statistics.median(seconds[who]) for who in ("cleared", "masked"))
    took = " | ".join(f"{statistics.median(cpu[who]) * (1 << 30) / unpacked:.2f}" for who in cpu)
    print(f"| {name} | {storage} | {plain:,.0f} | {masked:,.0f} | {masked / plain:.2f}× | {took} | {stream.peak_mb():.0f} |", flush=True)


main()
