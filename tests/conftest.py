"""What the test files share: a real server, an upload, and patience.

    def test_the_body_comes_back_in_capitals(server):
        faas = server()
        script(faas, "shout", "tr a-z A-Z")
        assert faas.post("/shout", b"hi").body == b"HI"

A server keeps all that it has in its `home`. To start one again on what
another has left behind: server(home=faas.home).
"""

import base64
import contextlib
import http.client
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import typing
import urllib.parse
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FAAS = ROOT / "faas.py"

# What a developer may have set for a server of his own.
OURS = {"PORT", "HTTP_PORT", "http_PORT", "COAP_PORT", "coap_PORT",
        "GRPC_PORT", "grpc_PORT", "DATA_DIR", "API_KEY", "BASE_URL",
        "EXECUTION_TIMEOUT"}

# A server that a test starts listens on free ports at every door. Options for
# the class below; variables for who starts one by a command of his own.
FREE_PORTS = [word for door in ("--port", "--data-port", "--coap-port",
                                "--grpc-port") for word in (door, "0")]
FREE_DOORS = {"COAP_PORT": "0", "GRPC_PORT": "0"}


def book_command(*changes):
    """Give the words that start the book, after some changes to it.

    They are what `python3 faas.py` turns itself into (chapter 17's tests see
    to that); to begin there saves a fifth of a second each time.
    """
    return [sys.executable, "-I", "-S", "-c", "; ".join([
        "import sys", "sys.path.insert(0, sys.argv.pop(1))", "import faas",
        *changes, "sys.exit(faas.main())"]), str(ROOT)]


def eventually(question, seconds=10):
    """Ask until the answer is true, and return it; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < end, f"not within {seconds} s: {question}"
        time.sleep(0.01)
    return answer


def port_in(address):
    """Read the port of an address; None where there is no such door.

    >>> port_in("coap://[::1]:5683"), port_in(9000), port_in("")
    (5683, 9000, None)
    """
    return int(str(address).rpartition(":")[2]) if address else None


def zip_of(files):
    """Pack {path: text or bytes} as `zip -r` would.

    >>> zip_of({"fn.py": "def fn(input): return input"})[:2]
    b'PK'
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as bundle:
        for path, text in files.items():
            bundle.writestr(path, text)
    return packed.getvalue()


def script(faas, name, lines):
    """Put a shell script into a server's functions, ready to be called."""
    path = faas.functions / name
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return path


class Answer(typing.NamedTuple):
    """What came back over HTTP."""
    status: int
    headers: typing.Any         # asked as a dict, whatever the case
    body: bytes


class Server:
    """One `faas.py serve` in a process of its own, and how to talk to it."""

    def __init__(self, home, flags, env, *changes):
        self.home = home
        self.functions, self.data, self.logs = (
            home / name for name in ("functions", "data", "logs"))
        self.functions.mkdir(parents=True, exist_ok=True)
        clean = {name: os.environ[name] for name in os.environ.keys() - OURS}
        with open(home / "output", "wb") as output:
            self.process = subprocess.Popen(
                [*book_command(*changes), "serve", "--functions",
                 self.functions, "--data", self.data, "--logs", self.logs,
                 *FREE_PORTS, "--clock", "builtin", *flags],
                cwd=home, env=clean | (env or {}), stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT)
        self.pid = self.process.pid

    @property
    def output(self):
        """All that the server has printed so far."""
        return (self.home / "output").read_text(errors="replace")

    def wait_until_ready(self):
        """Wait for its addresses, and then for its first answer."""
        ready = eventually(self.read_addresses)
        self.url, self.data_url = ready["url"], ready.get("data_url")
        self.coap_port, self.grpc_port = (
            port_in(ready.get(door)) for door in ("coap", "grpc"))
        eventually(lambda: self.get("/health").status == 200)

    def read_addresses(self):
        assert self.process.poll() is None, f"it ended: {self.output}"
        try:
            said = json.loads((self.data / "server.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        # A server that was killed leaves its file to the next one.
        return said["pid"] == self.pid and said

    def request(self, method, path, body=None, headers={}, url=None,
                timeout=30):
        """Ask once, on a connection of its own; `url` may be data_url."""
        address = urllib.parse.urlsplit(url or self.url)
        line = http.client.HTTPConnection(address.hostname, address.port,
                                          timeout=timeout)
        try:
            line.request(method, path, body, headers)
            reply = line.getresponse()
            return Answer(reply.status, reply.headers, reply.read())
        finally:
            line.close()

    def get(self, path, **rest):
        return self.request("GET", path, **rest)

    def post(self, path, body=b"", headers={}, **rest):
        return self.request("POST", path, body, headers, **rest)

    def upload(self, name, files, env="python3", threads=1, envs=()):
        """Deploy {path: text}, or a zip, as tinyFaaS's upload.sh does."""
        bundle = files if isinstance(files, bytes) else zip_of(files)
        return self.post("/upload", json.dumps({
            "name": name, "env": env, "threads": threads, "envs": list(envs),
            "zip": base64.b64encode(bundle).decode()}))

    def stop(self):
        """End it as systemd would; it must end well, and within its 10 s."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it goes on: {self.threads()}") from None
        assert status == 0, f"exit status {status}: {self.output}"

    def threads(self):
        """Say in what each of its threads waits, and of which children."""
        return [((task / "wchan").read_text(), [
            pathlib.Path(f"/proc/{child}/cmdline").read_bytes()[-60:]
            for child in (task / "children").read_text().split()])
            for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir()]

    def kill(self):
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(timeout=20)


def upload(faas, *args, **rest):
    """The same as faas.upload(...), for those who like verbs first."""
    return faas.upload(*args, **rest)


@pytest.fixture(scope="session", autouse=True)
def go_cache(tmp_path_factory):
    """Let all builds of Go functions share what they compile; give where.

    Go's own library takes 10 s the first time, and then none. Set GOCACHE to
    a folder, and it is kept from run to run. Every server gets the variable
    from this process, and so does a platform that lives in it.
    """
    before = os.environ.get("GOCACHE")
    folder = before or str(tmp_path_factory.mktemp("go-build"))
    os.environ["GOCACHE"] = folder
    yield folder
    if not before:
        del os.environ["GOCACHE"]


@contextlib.contextmanager
def servers(folder):
    """Start servers in a folder; all must end well, and with the block."""
    started = []

    def start(*flags, home=None, env=None, changes=()):
        home = home or folder / f"server-{len(started)}"
        faas = Server(home, flags, env, *changes)
        started.append(faas)
        faas.wait_until_ready()
        return faas

    yield start
    running = [faas for faas in started if faas.process.poll() is None]
    try:
        for faas in running:
            faas.stop()
    finally:
        for faas in running:
            faas.kill()         # does nothing to one that has ended
    for faas in started:        # What no chapter foresaw ends in a traceback.
        if faas.home.exists():      # A test may have moved it.
            assert "Traceback (most recent" not in faas.output, faas.output


@pytest.fixture
def server(tmp_path):
    """Start servers: server(*flags, home=None, env=None) -> Server.

    A wait for which the book has ten seconds may be made shorter:
    server(changes=["faas.DRAIN = 1.0"]).
    """
    with servers(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def module_server(tmp_path_factory):
    """The same, for what all tests of a file may share."""
    with servers(tmp_path_factory.mktemp("servers")) as start:
        yield start


# The peers of the doors --------------------------------------------------
#
# Clients and servers that others wrote. FAAS_TEST_PEERS names a folder with
#
#       new/bin/python      today's Python packages of PEERS
#       old/bin/python      the older ones
#       npm/node_modules    PACKAGES
#
# .ci/run makes such a folder; its lines do so for you as well. Without it, an
# interpreter that runs the tests may have today's packages itself.

PEERS = {"new": "grpcio grpcio-health-checking grpcio-reflection protobuf "
                "aiocoap h2 hpack",
         "old": "grpcio==1.64.3 aiocoap==0.4.7"}
PACKAGES = "@grpc/grpc-js @grpc/proto-loader coap"
TOOLS = {"curl": "curl", "nghttp": "nghttp2-client",
         "h2load": "nghttp2-client", "coap-client-notls": "libcoap3-bin",
         "node": "nodejs"}


def peers_at(place):
    """Find a piece of the folder of peers; None if it is not there."""
    path = pathlib.Path(os.environ.get("FAAS_TEST_PEERS", ""), place)
    return path if "FAAS_TEST_PEERS" in os.environ and path.exists() else None


@pytest.fixture(scope="session")
def peer_tool():
    """Find a program: peer_tool("h2load") -> its path, or skip."""
    def find(name):
        return shutil.which(name) or pytest.skip(
            f"the peer {name} is not here: apt install {TOOLS[name]}")
    return find


@pytest.fixture(scope="session")
def peer_python():
    """Find a Python that has a package: peer_python("grpc", "old") -> path.

    It skips where there is none. What is to be run there is a text of its
    own, for `python -c`; it imports nothing of ours.
    """
    known = {}

    def has(python, package):
        if (python, package) not in known:
            known[python, package] = subprocess.run(
                [python, "-c", f"import {package}"], cwd="/",
                stderr=subprocess.DEVNULL).returncode == 0
        return known[python, package]

    def find(package, which="new"):
        places = [peers_at(f"{which}/bin/python")]
        places += [sys.executable] if which == "new" else []
        for python in filter(None, places):
            if has(str(python), package):
                return str(python)
        pytest.skip(f"the {which} Python peer {package} is not here: python3 "
                    f"-m venv P/{which}; P/{which}/bin/pip install "
                    f"{PEERS[which]}; export FAAS_TEST_PEERS=$PWD/P")
    return find


@pytest.fixture(scope="session")
def peer_node(peer_tool):
    """Give a folder whose node_modules hold PACKAGES, or skip.

    A script runs there with `node -e`, or elsewhere with NODE_PATH.
    """
    def find():
        peer_tool("node")
        folders = [peers_at("npm"), pathlib.Path(__file__).parent]
        for folder in filter(None, folders):
            if (folder / "node_modules" / "coap").exists():
                return folder
        pytest.skip(f"npm's peers are not here: npm install --prefix P/npm "
                    f"{PACKAGES}; export FAAS_TEST_PEERS=$PWD/P")
    return find


@pytest.fixture
def real_crontab():
    """Lend this user's crontab to a test, and put it back as it was."""
    if os.environ.get("FAAS_TEST_REAL_CRON") != "1":
        pytest.skip("it writes to your crontab: install and start cron, and "
                    "set FAAS_TEST_REAL_CRON=1")
    before = subprocess.run(["crontab", "-l"], capture_output=True)
    yield
    if before.returncode == 0:
        subprocess.run(["crontab", "-"], input=before.stdout, check=True)
    else:
        subprocess.run(["crontab", "-r"], stderr=subprocess.DEVNULL)
