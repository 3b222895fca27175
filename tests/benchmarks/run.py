"""Measure the platform against yardsticks, side by side, and print ratios.

    python3 tests/benchmarks/run.py               about two minutes
    python3 tests/benchmarks/run.py --quick       half a minute, less sure
    python3 tests/benchmarks/run.py --markdown    the table of the docs

A number of calls a second says more about the machine than about the
program, and on a busy machine it says nothing. So each thing is measured in
turns with a yardstick (A B, B A, A B, ...), each round gives one ratio, and
the median of these ratios is printed, with their middle half beside it.
What each row means: docs/performance.md. pytest never comes here.
"""

import argparse
import base64
import contextlib
import http.client
import io
import json
import os
import pathlib
import platform
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import typing
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

import faas
import peers

TICK = os.sysconf("SC_CLK_TCK")


class Row(typing.NamedTuple):
    """One line of the table."""
    what: str
    here: str                   # ours: '4,100/s'
    there: str                  # the yardstick: 'hello 9,000/s'
    ratios: list                # ours by the yardstick's, one per round
    goal: str = ""              # '>= 0.6', '<= 0.5', or ''
    cpu: str = ""               # microseconds of CPU per call, both

    def ratio(self):
        # The middle half: a round is short enough to be hit by anything.
        ordered, quarter = sorted(self.ratios), len(self.ratios) // 4
        kept = ordered[quarter:len(ordered) - quarter]
        spread = f" ({kept[0]:.2f} to {kept[-1]:.2f})" if kept[1:] else ""
        return f"{statistics.median(ordered):.2f}{spread}"

    def verdict(self):
        if not self.goal:
            return ""
        sign, bound = self.goal.split()
        middle = statistics.median(self.ratios)
        met = middle >= float(bound) if sign == ">=" else (
            middle <= float(bound))
        return f"{self.goal}: {'met' if met else 'missed'}"


# Processes -------------------------------------------------------------------


class Peer:
    """A server under measurement: its ports, its processes, its CPU time."""

    def __init__(self, process, port, data_port=0, doors={}):
        self.process, self.port, self.data_port = process, port, data_port
        self.doors = doors          # the ports of the others, by name

    def cpu(self):
        """Give the CPU seconds of the process and all its descendants."""
        return sum(map(cpu_seconds, faas.family(self.process.pid)))


def cpu_seconds(pid):
    """Read utime and stime (proc(5), fields 14 and 15)."""
    with contextlib.suppress(OSError):
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK
    return 0.0


def memory(pid):
    """Give a process's resident megabytes, and its own share of them.

    What is shared with others, as after a fork, counts in full in the first
    (VmRSS) and in equal parts in the second (Pss).
    """
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024
             for line in text.splitlines()[1:]}
    return sizes["Rss"], sizes["Pss"]


def start(stack, *arguments, python=None, **options):
    """Start a Python process that ends with `stack`."""
    process = subprocess.Popen(
        [python or sys.executable, *map(str, arguments)], text=True,
        **options)

    def stop():
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    stack.callback(stop)
    return process


def start_hello(stack):
    process = start(stack, HERE / "peers.py", "hello",
                    stdout=subprocess.PIPE)
    return Peer(process, int(process.stdout.readline()))


def start_platform(stack, home, program=(ROOT / "faas.py",)):
    """Start a platform that serves `echo`, and wait for its answer."""
    home.mkdir()
    process = start(
        stack, *program, "serve", "--port", 0, "--data-port", 0,
        "--coap-port", 0, "--grpc-port", 0, "--clock", "builtin", cwd=home,
        stdout=subprocess.DEVNULL)
    said = wait_for_note(process, home / "data" / "server.json")
    port, data_port, *doors = (int(str(said[key]).rpartition(":")[2])
                               for key in ("url", "data_url", "coap", "grpc"))
    deploy_echo(port)
    return Peer(process, port, data_port, dict(zip(("coap", "grpc"), doors)))


def wait_for_note(process, path):
    end = time.monotonic() + 20
    while not path.exists():
        if process.poll() is not None or time.monotonic() > end:
            sys.exit(f"the platform did not start: {process.args}")
        time.sleep(0.01)
    return json.loads(path.read_text())


def deploy_echo(port):
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w") as file:
        file.writestr("fn.py", peers.ECHO)
    post(port, "/upload", json.dumps({
        "name": "echo", "env": "python3", "threads": 1, "envs": [],
        "zip": base64.b64encode(bundle.getvalue()).decode()}).encode())


def post(port, path, body, method="POST"):
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    line.request(method, path, body)
    answer = line.getresponse()
    said = answer.read()
    line.close()
    if answer.status != 200:
        sys.exit(f"{method} {path}: {answer.status} {said[:300]!r}")
    return said


# Rounds ----------------------------------------------------------------------


class Bench:
    """The client, the yardstick, and how long to ask."""

    def __init__(self, stack, rounds, seconds):
        self.rounds, self.seconds = rounds, seconds
        self.client = start(stack, HERE / "peers.py", "client",
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, peer, **how):
        """Give calls a second, and microseconds of CPU for each."""
        before = peer.cpu()
        self.client.stdin.write(json.dumps(how) + "\n")
        self.client.stdin.flush()
        line = self.client.stdout.readline()
        if not line:
            sys.exit("the client failed; its error stands above")
        said = json.loads(line)
        return said["rate"], 1e6 * (peer.cpu() - before) / said["answers"]

    def race(self, what, ours, yardstick, other, goal="", port=None, **how):
        """Ask two servers in turns; give the Row."""
        how["seconds"] = self.seconds
        results = [], []
        pairs = ((ours, port or ours.port), (other, other.port))
        for count in range(self.rounds):
            for side in (0, 1) if count % 2 else (1, 0):
                peer, number = pairs[side]
                results[side].append(self.ask(peer, port=number, **how))
        (rate, cost), (rate_2, cost_2) = (map(statistics.median, zip(*side))
                                          for side in results)
        return Row(what, f"{rate:,.0f}/s", f"{yardstick} {rate_2:,.0f}/s",
                   [a[0] / b[0] for a, b in zip(*results)], goal,
                   f"{cost:.0f} / {cost_2:.0f} us")


def warm_rows(bench, ours, hello):
    for connections, goal in ((1, ""), (8, ">= 0.6"), (64, "")):
        yield bench.race(
            f"warm call, {count_of(connections, 'connection')}", ours,
            "hello", hello, goal, connections=connections)
    yield bench.race("the same on the port for calls only, 8 connections",
                     ours, "hello", hello, port=ours.data_port, connections=8)
    yield bench.race("warm call, 8 clients, Connection: close", ours,
                     "hello", hello, connections=8, closing=True)


def count_of(number, noun):
    return f"{number:,} {noun}{'s' * (number != 1)}"


def recording_row(bench, stack, home, ours):
    other = start_platform(stack, home, (HERE / "peers.py", "forgetful"))
    return bench.race("warm call, recorded, 8 connections", ours,
                      "not recorded", other, ">= 0.8", connections=8)


def idle_rows(bench, stack, home, ours, count=1000):
    """Measure a platform on which `count` connections say nothing."""
    other = start_platform(stack, home)
    bench.ask(other, port=other.port, connections=8, seconds=0.2)
    before = memory(other.process.pid)[0]
    lines = [stack.enter_context(socket.create_connection(
        ("127.0.0.1", other.port), 10)) for _ in range(count)]
    yield bench.race(f"warm call, 8 connections beside {count:,} idle ones",
                     other, "alone", ours, connections=8)
    after = memory(other.process.pid)[0]
    for line in lines:
        line.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sys.exit(f"an idle connection was let go: {line.recv(100)!r}")
    yield Row(f"memory of the gateway with {count:,} idle connections",
              f"{after:.0f} MB", f"without {before:.0f} MB",
              [after / before])


def cold_rows(home, count):
    """Time the ways to a first answer, in turns, in one process."""
    done = subprocess.run(
        [sys.executable, HERE / "peers.py", "waist", home, str(count)],
        capture_output=True, text=True, timeout=120)
    if done.returncode:
        sys.exit(done.stderr)
    turns = [json.loads(line) for line in done.stdout.splitlines()]
    yardstick = statistics.median(turn["pass"] for turn in turns)
    for way, what, goal in (
            ("fork", "cold call: python3, forked from the nursery", "<= 0.5"),
            ("spawn", "cold call: the same in a new interpreter", ""),
            ("shell", "cold call: a shell script", "")):
        middle = statistics.median(turn[way] for turn in turns)
        yield Row(what, f"{middle:.1f} ms", f"pass {yardstick:.1f} ms",
                  [turn[way] / turn["pass"] for turn in turns], goal)


def start_row(home, count):
    """Time `faas.py serve` from exec to its first answer."""
    turns = []
    for number in range(count):
        nothing = peers.milliseconds(lambda: subprocess.run(
            [sys.executable, "-c", "pass"], check=True))
        with contextlib.ExitStack() as stack, socket.create_server(
                ("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
            free.close()
            folder = home / f"start-{number}"
            folder.mkdir()

            def first_answer():
                start(stack, ROOT / "faas.py", "serve", "--port", port,
                      "--data-port", -1, "--coap-port", -1, "--grpc-port",
                      -1, "--clock", "builtin", cwd=folder,
                      stdout=subprocess.DEVNULL)
                end = time.monotonic() + 20
                while time.monotonic() < end:
                    with contextlib.suppress(ConnectionRefusedError):
                        return post(port, "/health", None, "GET")
                    time.sleep(0.001)
                sys.exit("the platform did not answer")
            turns.append((peers.milliseconds(first_answer), nothing))
    ours, other = map(statistics.median, zip(*turns))
    return Row("start of the platform, to its first answer",
               f"{ours:.0f} ms", f"pass with site {other:.0f} ms",
               [a / b for a, b in turns])


def memory_rows(ours, hello):
    """Tell what each process of a platform with one worker holds."""
    there = memory(hello.process.pid)[0]
    for name, pid in zip(("gateway", "nursery", "worker"),
                         faas.family(ours.process.pid)):
        resident, share = memory(pid)
        yield Row(f"memory of the {name}",
                  f"{resident:.0f} MB ({share:.0f} its own)",
                  f"hello {there:.0f} MB", [resident / there])


# The table -------------------------------------------------------------------


def machine():
    """Describe where this was measured, in one line."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = [line.partition(":")[2].strip() for line in info.splitlines()
             if line.startswith(("model name", "Model"))] or ["unknown"]
    return (f"{' '.join(model[-1].split())}, "
            f"{count_of(len(os.sched_getaffinity(0)), 'core')}, Linux "
            f"{platform.release()}, {platform.python_implementation()} "
            f"{platform.python_version()}, {time.strftime('%Y-%m-%d')}")


def show(rows, markdown):
    columns = ("what", "here", "yardstick", "ratio (middle half)",
               "CPU per call, both", "goal")
    table = [columns] + [(row.what, row.here, row.there, row.ratio(),
                          row.cpu, row.verdict()) for row in rows]
    if markdown:
        table = [tuple(cell.replace(" us", " µs") for cell in line)
                 for line in table]
        table.insert(1, ("---",) * len(columns))
        return "\n".join(f"| {' | '.join(line)} |" for line in table)
    widths = [max(map(len, column)) for column in zip(*table)]
    return "\n".join("  ".join(
        cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
        for line in table)


def measure(rounds, seconds, colds, starts):
    """Yield the Rows, in the order in which they are measured."""
    home = pathlib.Path(tempfile.mkdtemp(prefix="faas-bench-"))
    try:
        with contextlib.ExitStack() as stack:
            yield from cold_rows(home / "cold", colds)
            yield start_row(home, starts)
            bench = Bench(stack, rounds, seconds)
            hello = start_hello(stack)
            ours = start_platform(stack, home / "ours")
            bench.ask(hello, port=hello.port, connections=1, seconds=0.2)
            bench.ask(ours, port=ours.port, connections=1, seconds=0.2)
            yield from memory_rows(ours, hello)
            yield from warm_rows(bench, ours, hello)
            yield recording_row(bench, stack, home / "forgetful", ours)
            yield from idle_rows(bench, stack, home / "idle", ours)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(
        description="Measure the platform against yardsticks.")
    parser.add_argument("--quick", action="store_true",
                        help="fewer and shorter rounds")
    parser.add_argument("--markdown", action="store_true",
                        help="print the block for docs/performance.md")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    quick = dict(rounds=3, seconds=0.4, colds=10, starts=3)
    full = dict(rounds=9, seconds=0.8, colds=40, starts=7)
    rows = []
    for row in measure(**(quick if args.quick else full)):
        print(f"  {row.what}: {row.ratio()}", file=sys.stderr, flush=True)
        rows.append(row)
    print(("Measured on " if args.markdown else "") + machine() + "\n")
    print(show(rows, args.markdown))


if __name__ == "__main__":
    main()
