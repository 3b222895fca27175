"""Measure the gRPC and the CoAP door beside grpcio's and aiocoap's servers.

    python3 tests/benchmarks/doors.py               about three minutes
    python3 tests/benchmarks/doors.py --quick       one minute, less sure
    python3 tests/benchmarks/doors.py --markdown    the table of the docs

Each row asks two servers the same thing, with the same client, in turns (A B,
B A, A B, ...), as run.py does, and is measured in three ways:

    the protocol alone          both answer by an echo in their own process
    through a warm worker       ours is the whole platform: gate, worker and
                                record; theirs is still the echo in its
                                process, for it has no worker
    both through a warm worker  theirs asks the same kind of worker, by
                                faas.Platform.invoke in its own process

The peers are found as the tests find them: in $FAAS_TEST_PEERS/new, or in the
Python that runs this. What is not there is left out, and said.
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import typing

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import door_peers
import run

WAYS = "the protocol alone", "through a warm worker", (
    "both through a warm worker")


class Door(typing.NamedTuple):
    """One of our doors, the package that it is measured by, and the goals."""
    name: str                   # as server.json spells it
    package: str                # to be imported
    clients: tuple              # (client, window, goal)


DOORS = (
    Door("grpc", "grpcio", (
        ("grpcio's client", 1, ">= 1.3"),
        ("grpcio's client", 8, ""),
        ("h2load", 1, ""),
        ("h2load", 8, ">= 3"))),
    Door("coap", "aiocoap", (
        ("a bare socket", 1, ">= 4"),
        ("a bare socket", 8, ">= 8"))))


# Peers -----------------------------------------------------------------------


def peer_python(package):
    """Find a Python that has a package; None if there is none."""
    module = {"grpcio": "grpc"}.get(package, package)
    places = [sys.executable]
    if os.environ.get("FAAS_TEST_PEERS"):
        places.insert(0, os.environ["FAAS_TEST_PEERS"] + "/new/bin/python")
    for python in filter(os.path.exists, places):
        if subprocess.run([python, "-c", f"import {module}"],
                          stderr=subprocess.DEVNULL).returncode == 0:
            return python
    return None


def version_of(python, package):
    return subprocess.run(
        [python, "-c", "import importlib.metadata, sys; "
         "print(importlib.metadata.version(sys.argv[1]))", package],
        capture_output=True, text=True, check=True).stdout.strip()


def start_peer(stack, python, *arguments):
    """Start one of door_peers.py's servers, and wait for its port."""
    process = run.start(stack, HERE / "door_peers.py", *arguments,
                        python=python, stdout=subprocess.PIPE)
    line = process.stdout.readline()
    if not line:
        sys.exit(f"the server failed: {process.args}")
    return run.Peer(process, int(line))


def start_ours(stack, home, door, bare):
    """Start our platform, and give the Peer of one of its doors."""
    program = (HERE / "door_peers.py", "bare") if bare else (
        run.ROOT / "faas.py",)
    peer = run.start_platform(stack, home, program)
    return run.Peer(peer.process, peer.doors[door])


# Clients ---------------------------------------------------------------------


class Clients:
    """All who ask: ask(client, port, window) -> (calls a second, calls)."""

    def __init__(self, stack, seconds, home):
        self.stack, self.seconds, self.running = stack, seconds, {}
        self.question = home / "question"
        self.question.write_bytes(
            b"\0" + len(door_peers.QUESTION).to_bytes(4, "big")
            + door_peers.QUESTION)

    def ask(self, client, port, window):
        if client == "h2load":
            return self.ask_h2load(port, window)
        role, package = {"grpcio's client": ("ask-grpcio", "grpcio"),
                         "a bare socket": ("ask-coap", None)}[client]
        if role not in self.running:
            self.running[role] = run.start(
                self.stack, HERE / "door_peers.py", role,
                python=package and peer_python(package),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process = self.running[role]
        process.stdin.write(json.dumps({
            "port": port, "window": window, "seconds": self.seconds}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            sys.exit(f"{client} failed; its error stands above")
        said = json.loads(line)
        return said["rate"], said["answers"]

    def ask_h2load(self, port, window):
        """Let h2load ask over one connection, with `window` streams."""
        done = subprocess.run(
            ["h2load", "-c", "1", "-m", str(window), "-D",
             f"{round(1000 * self.seconds)}ms", "-d", self.question,
             "-H", "content-type: application/grpc", "-H", "te: trailers",
             f"http://127.0.0.1:{port}{door_peers.PATH}"],
            capture_output=True, text=True, timeout=60)
        rate = re.search(r", ([\d.]+) req/s", done.stdout)
        counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored",
                           done.stdout)
        if not rate or not counts or counts[2] + counts[3] != "00":
            sys.exit(f"h2load failed: {done.stdout}{done.stderr}")
        return float(rate[1]), int(counts[1])


# Rows ------------------------------------------------------------------------


def race(clients, rounds, what, pair, yardstick, client, window,
         goal):
    """Ask two servers in turns; give the Row."""
    results = [], []
    for count in range(rounds):
        for side in (0, 1) if count % 2 else (1, 0):
            before = pair[side].cpu()
            rate, answers = clients.ask(client, pair[side].port, window)
            cost = 1e6 * (pair[side].cpu() - before) / max(1, answers)
            results[side].append((rate, cost))
    (rate, cost), (rate_2, cost_2) = (map(statistics.median, zip(*side))
                                      for side in results)
    return run.Row(what, f"{rate:,.0f}/s", f"{yardstick} {rate_2:,.0f}/s",
                   [a[0] / b[0] for a, b in zip(*results)], goal,
                   f"{cost:.0f} / {cost_2:.0f} us")


def servers_of(stack, home, door, python):
    """Start the servers of a door; give for each of WAYS ours and theirs."""
    bare = start_ours(stack, home / f"{door.name}-bare", door.name, True)
    ours = start_ours(stack, home / f"{door.name}-ours", door.name, False)
    theirs = start_peer(stack, python, door.package)
    working = start_peer(stack, python, door.package,
                         home / f"{door.package}-worker")
    return dict(zip(WAYS, ((bare, theirs), (ours, theirs), (ours, working))))


def door_rows(clients, rounds, home, door, python):
    """Measure one door in all ways, with all of its clients."""
    there = [one for one in door.clients
             if one[0] != "h2load" or shutil.which("h2load")]
    if len(there) < len(door.clients):
        print("h2load is not here, so it does not ask: apt install "
              "nghttp2-client", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        pairs = servers_of(stack, home, door, python)
        for way, (client, window, goal) in itertools.product(WAYS, there):
            yield race(clients, rounds, f"{door.name}, {client}, {window} at "
                       f"a time, {way}", pairs[way], door.package, client,
                       window, goal)


def measure(rounds, seconds, doors):
    """Yield the Rows, in the order in which they are measured."""
    home = pathlib.Path(tempfile.mkdtemp(prefix="faas-doors-"))
    try:
        with contextlib.ExitStack() as stack:
            clients = Clients(stack, seconds, home)
            for door in doors:
                python = peer_python(door.package)
                if not python:
                    print(f"{door.package} is not here, so {door.name} is not "
                          f"measured: pip install {door.package}",
                          file=sys.stderr)
                    continue
                yield from door_rows(clients, rounds, home, door, python)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def peers():
    """Name the versions of what this is measured by."""
    found = [f"{package} {version_of(python, package)}"
             for package in ("grpcio", "aiocoap")
             if (python := peer_python(package))]
    if shutil.which("h2load"):
        said = subprocess.run(["h2load", "--version"], capture_output=True,
                              text=True).stdout
        found.append(said.strip().replace("nghttp2/", "of nghttp2 "))
    return ", ".join(found)


def main():
    parser = argparse.ArgumentParser(
        description="Measure the doors of gRPC and CoAP against yardsticks.")
    parser.add_argument("--quick", action="store_true",
                        help="fewer and shorter rounds")
    parser.add_argument("--markdown", action="store_true",
                        help="print the block for docs/performance.md")
    parser.add_argument("--door", choices=[door.name for door in DOORS],
                        help="only this one")
    args = parser.parse_args()
    rounds, seconds = (3, 0.4) if args.quick else (7, 0.7)
    rows = []
    for row in measure(rounds, seconds, [
            door for door in DOORS if args.door in (None, door.name)]):
        print(f"  {row.what}: {row.ratio()}", file=sys.stderr, flush=True)
        rows.append(row)
    print(("Measured on " if args.markdown else "") + run.machine() + "; "
          + peers() + "\n")
    print(run.show(rows, args.markdown))


if __name__ == "__main__":
    main()
