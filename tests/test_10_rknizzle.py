"""Chapters 10.3 and 17: rknizzle/faas, its commands typed as they are."""

import base64
import io
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import typing

import pytest
from conftest import FREE_DOORS, OURS, book_command, eventually, zip_of

import faas
from faas import FaasError

YAML = "language: node"         # its init writes no end of line


def need(program, package):
    """Skip a test whose program is not here."""
    if not shutil.which(program):
        pytest.skip(f"this needs {program}: apt install {package}")


@pytest.fixture
def node():
    need("node", "nodejs")


# A terminal in a network of its own. The client asks localhost:5555, whatever
# it is told, and there may be somebody else behind that port.

LOOPBACK_UP = """
import fcntl, socket, struct, sys
UP = struct.pack("16sh22x", b"lo", 0x49)        # netdevice(7): IFF_UP and more
fcntl.ioctl(socket.socket(), 0x8914, UP)        # SIOCSIFFLAGS
print("up", flush=True)
sys.stdin.read()
"""


def is_free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="module")
def network():
    """Give the words that put a command into a network of its own."""
    enter, holder = None, None
    if shutil.which("unshare") and shutil.which("nsenter"):
        holder = subprocess.Popen(
            ["unshare", "-rn", sys.executable, "-c", LOOPBACK_UP],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL)
        if holder.stdout.readline() == b"up\n":
            enter = ["nsenter", "-t", str(holder.pid), "-U", "-n",
                     "--preserve-credentials", "--"]
    if not enter or subprocess.run([*enter, "true"]).returncode:
        enter = [] if is_free(5555) and is_free(8000) else None
    if enter is None:
        pytest.skip("ports 5555 and 8000 are in use here, and unshare gives "
                    "no network of its own: end what listens on them")
    yield enter
    if holder:
        holder.stdin.close()
        holder.wait(timeout=10)


class Said(typing.NamedTuple):
    """What a command left on the screen."""
    status: int
    out: str
    err: str


class Desk:
    """Somebody at a terminal, in a folder, with faas in the PATH.

    No test may write to a real crontab, so the platform keeps its own clock.
    """

    def __init__(self, network, home):
        self.network, self.work, self.running = network, home / "work", []
        self.work.mkdir()
        (home / "bin").mkdir()
        faas = home / "bin" / "faas"
        faas.write_text(
            "#!/bin/sh\n"
            'case $1 in start|serve) set -- "$@" --clock builtin;; esac\n'
            f'exec {shlex.join(book_command())} "$@"\n')
        faas.chmod(0o755)
        hidden = OURS | {"FAAS_URL"}
        self.env = {name: os.environ[name] for name in
                    os.environ.keys() - hidden} | FREE_DOORS
        self.env["PATH"] = f"{faas.parent}:{os.environ['PATH']}"

    def type(self, command, folder=".", **env):
        """Type one line into a shell, and wait for the prompt."""
        done = subprocess.run(
            [*self.network, "bash", "-c", command], cwd=self.work / folder,
            env=self.env | env, stdin=subprocess.DEVNULL, timeout=120,
            capture_output=True, text=True)
        return Said(done.returncode, done.stdout, done.stderr)

    def run(self, command, folder="."):
        """Start what goes on in another terminal; give its screen."""
        screen = self.work.parent / f"screen-{len(self.running)}"
        with open(screen, "wb") as output:
            process = subprocess.Popen(
                [*self.network, "bash", "-c", f"exec {command}"],
                cwd=self.work / folder, env=self.env, stdout=output,
                stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        self.running.append(process)
        return screen

    def faas(self, command, folder="."):
        """Start a platform, and wait until it says how to stop it."""
        screen = self.run("faas " + command, folder)
        eventually(lambda: "stop " in screen.read_text()
                   or self.running[-1].poll() is not None)
        assert self.running[-1].poll() is None, screen.read_text()
        return screen

    def function(self, name, index, **files):
        """Make a folder as `faas init` does, with a text of our own."""
        folder = self.work / name
        folder.mkdir(exist_ok=True)
        (folder / "fn.yaml").write_text(YAML)
        (folder / "index.js").write_text(index)
        for path, text in files.items():
            (folder / path.replace("_", ".")).write_text(text)
        return folder

    def close(self):
        for process in self.running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=20)


@pytest.fixture
def desk(network, tmp_path):
    """A terminal; whatever runs there ends with the test."""
    desk = Desk(network, tmp_path)
    yield desk
    desk.close()


# The README's session


def test_the_quick_demo_works_line_by_line(desk, node):
    desk.faas("start")
    assert desk.type("mkdir examplefn") == (0, "", "")
    assert desk.type("faas init", "examplefn") == (
        0, "Function examplefn successfully initialized.\n"
        "Get started by editing index.js\n", "")
    assert desk.type("faas build", "examplefn") == (
        0, "invoke name: examplefn\n", "")
    assert desk.type("faas invoke examplefn", "examplefn") == (
        0, 'Response: {"hello":"world"}\n', "")


SUM = """module.exports = (context, cb) => {
  let sum = 0
  for (const number of context.numbers) sum += number
  return cb({sum})
}
"""


def test_the_sum_example_works_with_a_sum_that_begins_at_0(desk, node):
    desk.faas("start")
    desk.type("mkdir fn")
    desk.type("faas init; faas build", "fn")
    (desk.work / "fn" / "index.js").write_text(SUM)
    (desk.work / "fn" / "input.json").write_text('{"numbers": [6,4,13]}\n')
    assert desk.type("faas build", "fn") == (0, "invoke name: fn\n", "")
    assert desk.type("faas invoke fn -d input.json", "fn") == (
        0, 'Response: {"sum":23}\n', "")
    # As the README has it, sum begins as undefined; NaN is null in JSON.
    (desk.work / "fn" / "index.js").write_text(SUM.replace(" = 0", ""))
    desk.type("faas build", "fn")
    assert desk.type("faas invoke fn -d input.json", "fn") == (
        0, 'Response: {"sum":null}\n', "")


def test_its_curl_scripts_work(desk, node):
    need("curl", "curl")
    desk.faas("start")
    desk.function("fn", SUM)
    sends = ('echo "{\\"name\\": \\"fn\\", \\"file\\": \\"'
             '$(tar c -C fn . | base64 -w0)\\"}" | curl -s -X POST '
             '-H "content-type: application/json" -w " %{http_code}" -d @- ')
    for address in "localhost:5555/functions", "localhost:5555/functions/":
        assert desk.type(sends + address) == (
            0, '{"invoke": "localhost:5555/functions/fn"}\n 200', "")
    calls = 'curl -s -X POST -w " %{http_code}" localhost:5555/functions/fn '
    assert desk.type(calls + """-d '{"numbers": [7,33,12,18]}'""") == (
        0, '{"response": "{\\"sum\\":70}"}\n 200', "")
    assert desk.type(calls).out == (        # of an empty body, {}
        '{"message": "TypeError: context.numbers is not iterable"}\n 502')
    assert desk.type("curl -s localhost:5555/ping").out == (
        '{"message": "pong"}\n')


@pytest.mark.parametrize("lang, edit, program, package", [
    ("node", "index.js", "node", "nodejs"),
    ("python", "main.py", "python3", "python3"),
    ("lua", "main.lua", "luajit", "luajit"),
    ("sh", "fn.sh", "sh", "dash"),
    ("go", "fn.go", "go", "golang-go"),
])
def test_each_language_begins_with_a_function_that_works(
        desk, lang, edit, program, package):
    need(program, package)
    desk.faas("start")
    desk.type("mkdir greet")
    assert desk.type(f"faas init --lang {lang}", "greet") == (
        0, "Function greet successfully initialized.\n"
        f"Get started by editing {edit}\n", "")
    assert (desk.work / "greet" / "fn.yaml").read_text() == (
        f"language: {lang}\n")
    assert desk.type("faas build", "greet") == (
        0, "invoke name: greet\n", "")
    status, out, err = desk.type("faas invoke greet", "greet")
    assert (status, err, out[:10]) == (0, "", "Response: ")
    assert json.loads(out[10:]) == {"hello": "world"}


# start


def test_start_says_where_and_keeps_everything_in_its_folder(desk):
    screen = desk.faas("start")
    lines = [line.split() for line in screen.read_text().splitlines()]
    assert ["everything", "http://127.0.0.1:5555"] in lines
    assert ["calls", "only", "http://127.0.0.1:8000"] in lines
    assert sorted(path.name for path in desk.work.iterdir()) == [
        "data", "functions", "logs"]


def test_what_was_built_is_there_after_a_new_start(desk, node):
    desk.faas("start")
    desk.function("fn", "module.exports = (context, cb) => cb(context)")
    assert desk.type("faas build", "fn").status == 0
    desk.close()
    desk.faas("start")
    assert desk.type("faas invoke fn", "fn").out == "Response: {}\n"


def test_start_serves_every_face(desk):
    need("curl", "curl")
    desk.faas("start")
    echo = zip_of({"fn.py": "def fn(input): return input"})
    (desk.work / "echo.json").write_text(json.dumps({
        "name": "echo", "env": "python3", "threads": 1,
        "zip": base64.b64encode(echo).decode()}))
    hello = desk.work / "functions" / "hello.sh"
    hello.write_text("#!/bin/sh\necho hello\n")
    hello.chmod(0o755)

    def curl(words):
        return desk.type("curl -s " + words).out
    assert curl("localhost:5555/upload -d @echo.json") == (
        "http://127.0.0.1:8000/echo\n")
    assert curl("localhost:8000/echo -d hi") == "hi"
    assert curl("localhost:5555/list") == "echo\n"
    assert curl("-X POST localhost:5555/hello.sh") == "hello\n"
    assert "hello" in curl("localhost:5555/logs/hello.sh")
    assert curl("localhost:5555/functions/echo -d hi") == (
        '{"response": "hi"}\n')
    assert curl("localhost:5555/invoke/echo -d hi") == "hi"
    assert curl("-H 'Host: fn.localhost' localhost:5555/health") == (
        "SmolFaaS Router OK")
    assert curl("localhost:5555/fn/echo -d hi") == "hi"
    assert json.loads(curl(
        '-H "Authorization: Bearer $(cat data/api_key)" '
        "localhost:5555/api/functions"))["functions"][0]["name"] == "echo"
    assert [fn["name"] for fn in json.loads(curl(
        "localhost:5555/-/functions"))] == ["echo", "hello.sh"]


def test_on_every_address_a_build_takes_the_key_and_a_call_does_not(
        desk, node):
    desk.faas("start --host 0.0.0.0")
    desk.function("fn", "module.exports = (context, cb) => cb(context)")
    assert desk.type("faas build", "fn") == (
        3, "Error: this needs the API key, as Authorization: Bearer KEY\n",
        "")
    assert desk.type("faas build --data ../data", "fn") == (
        0, "invoke name: fn\n", "")
    assert desk.type("faas invoke fn", "fn") == (0, "Response: {}\n", "")


def test_a_variable_does_not_move_start_and_an_option_does(desk):
    desk.env["PORT"] = "5556"
    desk.faas("start")
    assert desk.type("curl -s localhost:5555/ping").status == 0
    desk.close()
    assert "http://127.0.0.1:5557\n" in desk.faas(
        "start --port 5557").read_text()


def test_a_second_start_is_one_sentence_and_exit_1(desk):
    desk.faas("start")
    (desk.work / "other").mkdir()
    status, out, err = desk.type("faas start", "other")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("faas: port 5555 on 127.0.0.1 cannot be")
    status, out, err = desk.type("faas start --port 0 --data-port 0")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("faas: another faas.py works on the data folder")


# init


def test_init_writes_what_the_language_needs_and_no_more(desk):
    for lang, files in {
            "node": {"fn.yaml", "index.js", "package.json"},
            "python": {"fn.yaml", "main.py"}, "sh": {"fn.yaml", "fn.sh"},
            "lua": {"fn.yaml", "main.lua"},
            "go": {"fn.yaml", "fn.go", "go.mod"}}.items():
        (desk.work / lang).mkdir()
        assert desk.type(f"faas init --lang {lang}", lang).status == 0
        assert {path.name for path in (desk.work / lang).iterdir()} == files
        assert {path.stat().st_mode & 0o777 for path in
                (desk.work / lang).iterdir()} == {0o755}


def test_init_overwrites_nothing(desk):
    folder = desk.work / "fn"
    folder.mkdir()
    (folder / "notes").write_text("mine")
    assert desk.type("faas init", "fn").status == 0     # it is in nobody's way
    (folder / "index.js").write_text("mine too")
    (folder / "fn.yaml").unlink()
    assert desk.type("faas init", "fn") == (
        6, "", "faas: index.js is here already\n")
    assert not (folder / "fn.yaml").exists()
    assert (folder / "index.js").read_text() == "mine too"
    assert (folder / "notes").read_text() == "mine"


@pytest.mark.parametrize("name", ["My Fn", 'a"b', ".fn", "x" * 65])
def test_init_refuses_a_folder_whose_name_can_be_no_functions(desk, name):
    (desk.work / name).mkdir()
    status, out, err = desk.type("faas init", name)
    assert (status, out) == (2, "")
    assert "is no function name" in err
    assert not list((desk.work / name).iterdir())


def test_init_knows_five_languages(desk):
    status, out, err = desk.type("faas init --lang cobol")
    assert (status, out) == (2, "")
    assert "node" in err and "python" in err and "cobol" in err
    assert not list(desk.work.iterdir())


# build and invoke, when something is wrong


def test_build_needs_a_folder_that_init_has_seen(desk):
    assert desk.type("faas build") == (
        2, "Error: Not a proper directory. Run faas init to start a new "
        "function.\n", "")


def test_invoke_says_what_is_missing(desk, node):
    desk.faas("start")
    desk.function("fn", "module.exports = (context, cb) => cb(context)",
                  good_json='{"a": 1}', bad_json='{"a": ')
    desk.type("faas build", "fn")
    for words, said in {
            "": (2, "Include the function name to invoke!\n", ""),
            "fn -d gone.json": (
                5, "Failed to parse gone.json for JSON\n", ""),
            "fn -d .": (5, "Failed to parse . for JSON\n", ""),
            "nobody": (5, "", "Function not found: nobody\n"),
            "fn -d good.json": (0, 'Response: {"a":1}\n', "")}.items():
        assert desk.type("faas invoke " + words, "fn") == said
    status, out, err = desk.type("faas invoke fn -d bad.json", "fn")
    assert (status, out) == (2, "")
    assert err.startswith("the body is no JSON object or array: ")
    status, out, err = desk.type("faas invoke 'a b'", "fn")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "'a b' is no function name" in err


def test_a_function_that_fails_is_its_error_and_exit_9(desk, node):
    desk.faas("start")
    desk.function("fn", "module.exports = () => { throw Error('not now') }")
    desk.type("faas build", "fn")
    assert desk.type("faas invoke fn", "fn") == (
        9, "", "Error: not now\n")


def test_without_a_platform_build_and_invoke_say_where_they_asked(desk):
    desk.function("fn", "module.exports = (context, cb) => cb(context)")
    for command in "faas build", "faas invoke fn":
        status, out, err = desk.type(command, "fn")
        assert (status, out, err.count("\n")) == (10, "", 1)
        assert err.startswith(
            "faas: http://127.0.0.1:5555 does not answer: ")
    assert not (desk.work / "fn" / "functions").exists()


# Somebody else on its port, who answers a POST with a page or with JSON.

OTHER = """
import http.server, sys

class Other(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(sys.argv[1]))
        self.end_headers()
        self.wfile.write(sys.argv[2].encode())

http.server.HTTPServer(("127.0.0.1", 5555), Other).serve_forever()
"""


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("page", ["<html>", "{}", "[]", '{"invoke": 1}', ""])
def test_who_listens_on_its_port_and_is_no_platform_is_told_apart(
        desk, status, page):
    desk.function("fn", "module.exports = (context, cb) => cb(context)")
    (desk.work / "other.py").write_text(OTHER)
    desk.run(f"{sys.executable} other.py {status} '{page}'")
    eventually(lambda: desk.type(
        "exec 3<>/dev/tcp/127.0.0.1/5555").status == 0)
    for command in "faas build", "faas invoke fn":
        status, out, err = desk.type(command, "fn")
        assert status > 1
        assert (out + err).count("\n") == 1, (out, err)


def test_a_build_that_fails_says_why_and_the_old_version_goes_on(desk, node):
    desk.faas("start")
    desk.function("fn", "module.exports = (context, cb) => cb('old')")
    desk.type("faas build", "fn")
    desk.function("fn", "module.exports = (context, cb) =>\n  cb('new'")
    status, out, err = desk.type("faas build", "fn")
    assert (status, err) == (2, "")
    first, second, *_ = out.splitlines()
    assert first == "Error: Failed to deploy function"
    assert second.startswith("fn does not start: SyntaxError: ")
    assert "index.js:2" in out
    assert desk.type("faas invoke fn", "fn").out == 'Response: "old"\n'


def test_a_name_that_is_taken_is_refused(desk, node):
    desk.faas("start")
    desk.function("ping", "module.exports = (context, cb) => cb(1)")
    desk.function("mine", "module.exports = (context, cb) => cb(1)")
    (desk.work / "functions" / "mine").write_text("#!/bin/sh\n")
    for name, why in {
            "ping": "'ping' is a path of this platform: choose another name",
            "mine": "functions/mine is there already: edit it, or choose "
                    "another name"}.items():
        assert desk.type("faas build", name) == (
            6, f"Error: Failed to deploy function\n{why}\n", "")


def test_a_build_takes_none_of_the_platforms_own_folders(desk, node):
    desk.function("fn", "module.exports = (context, cb) =>\n"
                  "  cb(require('fs').readdirSync('.').sort())")
    (desk.work / "fn" / "logs.txt").write_text("mine")
    desk.faas("start", "fn")
    for _ in "first", "second":
        assert desk.type("faas build", "fn").status == 0
        assert desk.type("faas invoke fn", "fn").out == (
            'Response: ["fn.yaml","index.js","logs.txt"]\n')
    assert (desk.work / "fn" / "data" / "api_key").exists()


def test_a_build_takes_folders_that_are_only_called_as_ours_are(desk, node):
    desk.faas("start")
    folder = desk.function("fn", "module.exports = (context, cb) =>\n"
                           "  cb(require('./data/words.json'))")
    (folder / "data").mkdir()
    (folder / "data" / "words.json").write_text('["hi"]')
    assert desk.type("faas build", "fn").status == 0
    assert desk.type("faas invoke fn", "fn").out == 'Response: ["hi"]\n'


def test_an_answer_in_any_alphabet_is_printed(desk, node):
    desk.faas("start")
    desk.function(
        "fn", "module.exports = (context, cb) => cb('grün ☃ 日本')")
    desk.type("faas build", "fn")
    assert desk.type("faas invoke fn", "fn").out == (
        'Response: "grün ☃ 日本"\n')


# Its invoke and ours


def test_who_was_begun_by_serve_is_called_in_our_words(desk):
    desk.faas("serve --port 0 --data-port 0")
    desk.type("mkdir echo; echo 'def fn(input): return input' > echo/fn.py; "
              "faas deploy echo echo; touch fn.yaml")
    assert desk.type("faas invoke echo -d hello") == (0, "hello", "")
    assert desk.type("faas invoke echo -d @echo/fn.py").out == (
        "def fn(input): return input\n")
    status, out, err = desk.type("faas invoke")
    assert (status, out) == (2, "")
    assert err == "faas: Include the function name to invoke!\n"


def test_who_was_begun_by_start_is_called_in_its_words(desk):
    desk.faas("start --port 0 --data-port 0")   # found by its note, then
    desk.type("mkdir echo; echo 'def fn(input): return input' > echo/fn.py; "
              "faas deploy echo echo; printf 42 > answer")
    for words, said in {
            "echo": "Response: \n",
            "echo -d answer": "Response: 42\n",
            "echo -d @answer": "Response: 42\n"}.items():
        assert desk.type("faas invoke " + words) == (0, said, "")
    assert desk.type("faas invoke echo -d 42") == (
        5, "Failed to parse 42 for JSON\n", "")


def test_a_crontab_line_and_an_address_speak_our_words(desk):
    desk.faas("start")
    desk.type("mkdir echo; echo 'def fn(input): return input or 0' "
              "> echo/fn.py; faas deploy echo echo")
    desk.function("fn", "")
    place = " ".join(f"--{name} {desk.work}/{name}" for name in
                     ("functions", "data", "logs"))
    line = f"faas invoke echo --trigger cron {place}"
    address = "http://127.0.0.1:5555"
    for folder in ".", "fn":
        assert desk.type(line, folder) == (0, "0", "")
        assert desk.type(f"faas invoke echo -d 42 --url {address}",
                         folder) == (0, "42", "")
        assert desk.type("faas invoke echo -d 42", folder,
                         FAAS_URL=address) == (0, "42", "")
    assert {one["trigger"] for one in json.loads(desk.type(
        "curl -s localhost:5555/-/executions").out)} == {"cron", "cli"}


def test_without_a_platform_our_invoke_is_the_platform(desk):
    (desk.work / "functions").mkdir()
    shout = desk.work / "functions" / "shout"
    shout.write_text("#!/bin/sh\ntr a-z A-Z\n")
    shout.chmod(0o755)
    assert desk.type("faas invoke shout -d hi") == (0, "HI", "")
    (desk.work / "fn.yaml").write_text(YAML)    # functions/ is the nearer
    assert desk.type("faas invoke shout -d hi") == (0, "HI", "")


def test_a_call_of_ours_does_not_turn_a_functions_folder_into_a_platforms(
        desk):
    desk.function("fn", "module.exports = (context, cb) => cb(context)")
    assert desk.type("faas invoke fn --trigger cron", "fn").status == 5
    assert desk.type("faas invoke fn", "fn").status == 10


# POST /functions


def whole_tar(files):
    """Pack {path: text} as tar does: padded, and with an end."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, text in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return packed.getvalue()


def cut_tar(files):
    """Pack {path: text} as its client does: up to the last file's last byte.

    >>> len(cut_tar({"fn.yaml": "language: node"}))
    526
    """
    packed = b""
    for path, text in files.items():
        packed += bytes(-len(packed) % 512)
        info = tarfile.TarInfo(path)
        info.size = len(text)
        packed += info.tobuf(tarfile.USTAR_FORMAT) + text.encode()
    return packed


def put(faas, name, packed, keys=("name", "file"), path="/functions", **rest):
    """Ask for a function; give (status, what the JSON says)."""
    if isinstance(packed, dict):
        packed = whole_tar(packed)
    reply = faas.post(path, json.dumps(
        {keys[0]: name, keys[1]: base64.b64encode(packed).decode()}), **rest)
    assert reply.headers["Content-Type"].startswith("application/json")
    return reply.status, json.loads(reply.body)


def call(faas, name, body=b"", headers={}):
    """Call a function through its face; give (status, what the JSON says)."""
    reply = faas.post("/functions/" + name, body, headers)
    assert reply.headers["Content-Type"].startswith("application/json")
    return reply.status, json.loads(reply.body)


@pytest.fixture(scope="module")
def shared(module_server):
    """One server for tests that deploy what they call."""
    return module_server()


ECHO = {"fn.yaml": YAML,
        "index.js": "module.exports = (context, cb) => cb(context)"}
PRINT = {"fn.sh": "#!/bin/sh\ncat\n"}


@pytest.mark.parametrize("keys", [
    ("name", "file"), ("Name", "File"), ("NAME", "FILE")])
@pytest.mark.parametrize("path", ["/functions", "/functions/"])
def test_keys_have_any_capitals_and_the_path_may_end_in_a_slash(
        shared, keys, path):
    faas = shared
    host = faas.url.partition("//")[2]
    assert put(faas, "echo", PRINT, keys, path) == (
        200, {"invoke": f"{host}/functions/echo"})
    assert call(faas, "echo", b"hi") == (200, {"response": "hi"})
    assert put(faas, "echo", PRINT, headers={"Host": "localhost"}) == (
        200, {"invoke": "localhost/functions/echo"})


def test_a_zip_is_taken_as_its_readme_promises(shared):
    faas = shared
    assert put(faas, "echo", zip_of(PRINT))[0] == 200
    assert call(faas, "echo", b"hi") == (200, {"response": "hi"})


@pytest.mark.parametrize("last", ["x", "x" * 511, "x" * 512, "x" * 513, ""])
def test_a_tar_without_its_end_is_taken(shared, last):
    faas, name = shared, f"last-{len(last)}"
    files = {**PRINT, "last": last}
    assert len(cut_tar(files)) < len(whole_tar(files)) - 1023
    assert put(faas, name, cut_tar(files))[0] == 200
    assert put(faas, name, PRINT)[0] == 200
    assert put(faas, name, whole_tar(files))[0] == 200
    versions = json.loads(faas.get(f"/-/functions/{name}/versions").body)
    assert [one["number"] for one in versions] == [2, 1]    # the same text


@pytest.mark.parametrize("cut", [1, 100, 512 + 10, 2 * 512 + 1, 3 * 512 - 1,
                                 3 * 512 + 699])
def test_a_tar_that_ends_too_early_is_refused(shared, cut):
    faas = shared
    packed = cut_tar({**PRINT, "last": "x" * 700})      # 4 blocks, and 188
    status, said = put(faas, "early", packed[:cut])
    assert (status, said["message"]) == (400, "Failed to deploy function")
    assert said["info"]
    assert call(faas, "early")[0] == 404


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT,
                                  tarfile.PAX_FORMAT])
def test_no_cut_of_a_tar_is_taken_with_half_a_file(form):
    files = {"a": b"hi", "b" * 120 + "/" + "c" * 60: b"x" * 600,
             "empty": b"", "gr\xfc\xdfe": b"y" * 1024}
    packed = io.BytesIO()
    ends = set()
    with tarfile.open(fileobj=packed, mode="w", format=form) as archive:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
            # All that may come between two whole files, by the last one's
            # bytes: its padding is there, or not at all.
            ends |= {archive.offset, archive.offset - -len(data) % 512}
        end = archive.offset
    whole, taken = packed.getvalue(), set()
    for cut in range(end + 1):
        try:
            found = faas.read_bundle(faas.whole_tar(whole[:cut]))
        except FaasError:
            continue
        taken.add(cut)
        assert {path: item.data for path, item in found.items()} == dict(
            list(files.items())[:len(found)]), cut
    assert ends <= taken
    assert {path: item.data for path, item in faas.read_bundle(
        faas.whole_tar(whole[:end])).items()} == files


def test_what_is_no_bundle_is_refused_in_its_words(server):
    faas = server()
    for body in b"", b"{", b"[]", b"null", b'{"name": 1, "file": ""}', \
            b'{"name": "f"}', b"name=f&file=x":
        for path in "/functions", "/functions/":
            reply = faas.post(path, body)
            said = json.loads(reply.body)
            assert (reply.status, said["message"]) == (
                400, "Failed to get function data from request body"), body
            assert said["info"]
    for name, packed, status, info in [
            ("f", b"garbage " * 200, 400, "the bundle"),
            ("f", {"notes.txt": "hi"}, 400, "it is no function of any"),
            ("", PRINT, 400, "'' is no function name"),
            ("a/b", PRINT, 400, "'a/b' is no function name"),
            ("ping", PRINT, 409, "'ping' is a path of this platform")]:
        got, said = put(faas, name, packed)
        assert (got, said["message"]) == (status, "Failed to deploy function")
        assert said["info"].startswith(info)
    reply = faas.post("/functions", b'{"name": "f", "file": "%%%"}')
    assert (reply.status, json.loads(reply.body)) == (400, {
        "message": "Failed to deploy function",
        "info": "the bundle is not in base64"})
    assert json.loads(faas.get("/-/functions").body) == []


def test_every_refusal_is_a_json_object_with_a_message(server):
    faas = server()
    put(faas, "echo", PRINT)
    for path, headers, status in [
            ("/functions", {"Host": "evil.example"}, 403),
            ("/functions", {"Origin": "http://evil.example"}, 403),
            ("/functions", {"Authorization": "Bearer wrong"}, 401),
            ("/functions/nobody", {}, 404),
            ("/functions/a%20b", {}, 400),
            ("/functions/echo", {"X-Timeout": "soon"}, 400)]:
        reply = faas.post(path, b"{}", headers)
        assert reply.status == status
        assert set(json.loads(reply.body)) == {"message"}, path
        assert reply.headers["Content-Type"].startswith("application/json")


def test_the_name_of_its_example_is_no_path_of_ours(server):
    faas = server()
    assert put(faas, "fn", PRINT)[0] == 200
    for path in "/fn", "/fn/fn", "/invoke/fn":
        assert faas.post(path, b"hi").body == b"hi", path
    assert faas.post("/fn/rest", b"hi").status == 404   # FaaS-Go's
    for path in "/fn", "/fn/rest":
        assert faas.post(path, b"hi", url=faas.data_url).body == b"hi", path


def test_ping_is_pong(server):
    faas = server()
    reply = faas.get("/ping")
    assert (reply.status, json.loads(reply.body)) == (
        200, {"message": "pong"})
    assert faas.post("/ping").status == 405


def test_only_the_first_port_takes_functions(server):
    faas = server()
    assert faas.post("/functions", b"{}", url=faas.data_url).status == 404
    assert faas.get("/ping", url=faas.data_url).status == 404


# Its own client, rebuilt: a tar.Writer that is never closed, and a struct
# whose fields have no tags, so that its keys have capitals.

CLIENT = """package main

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
)

func main() {
	var packed bytes.Buffer
	writer := tar.NewWriter(&packed)
	entries, _ := os.ReadDir(".")
	for _, entry := range entries {
		info, _ := entry.Info()
		if !info.Mode().IsRegular() {
			continue
		}
		header, _ := tar.FileInfoHeader(info, "")
		text, _ := os.ReadFile(entry.Name())
		writer.WriteHeader(header)
		writer.Write(text)
	}
	for _, name := range []string{"server.js", "Dockerfile"} {
		text := []byte("# what the container would need: " + name + "\\n")
		writer.WriteHeader(&tar.Header{
			Name: name, Mode: 0600, Size: int64(len(text))})
		writer.Write(text)
	}
	json.NewEncoder(os.Stdout).Encode(struct{ Name, File string }{
		"fn", base64.StdEncoding.EncodeToString(packed.Bytes())})
}
"""


def test_what_a_go_client_sends_is_taken(server, tmp_path, node):
    need("go", "golang-go")
    faas, folder = server(), tmp_path / "fn"
    folder.mkdir()
    for path, text in {
            **ECHO, "package.json": '{"name": "example", "main": "index.js", '
            '"license": "ISC", "dependencies": {}}'}.items():
        (folder / path).write_text(text)
        (folder / path).chmod(0o755)
    (tmp_path / "client.go").write_text(CLIENT)
    sent = subprocess.run(
        ["go", "run", tmp_path / "client.go"], cwd=folder, check=True,
        env=os.environ | {"GO111MODULE": "off", "GOFLAGS": "-trimpath",
                          "CGO_ENABLED": "0"},
        capture_output=True, timeout=240).stdout
    assert sent.startswith(b'{"Name":"fn","File":"')
    packed = base64.b64decode(json.loads(sent)["File"])
    assert len(packed) % 512 == len("# what the container would need: "
                                    "Dockerfile\n")
    reply = faas.post("/functions", sent)
    assert (reply.status, json.loads(reply.body)) == (
        200, {"invoke": faas.url.partition("//")[2] + "/functions/fn"})
    assert call(faas, "fn", b'{"a": [1]}') == (
        200, {"response": '{"a":[1]}'})
    # That Dockerfile and that server.js are for its container, not for us.
    assert json.loads(faas.get("/-/functions").body)[0]["tongue"] == "node"


# POST /functions/NAME


@pytest.mark.parametrize("body, response", [
    (b"", "{}"), (b"{}", "{}"), (b'{"a": 1}', '{"a":1}'),
    (b"[1, 2]", "[1,2]"), (b' {"a": "\xc3\xbc"}\n', '{"a":"\xfc"}')])
def test_the_context_is_the_bodys_json(shared, node, body, response):
    faas = shared
    assert put(faas, "echo", ECHO)[0] == 200
    assert call(faas, "echo", body) == (200, {"response": response})
    assert call(faas, "echo", body, {"Content-Type": "text/plain"}) == (
        200, {"response": response})


def test_a_body_that_is_no_object_and_no_array_is_a_400(shared, node):
    faas = shared
    put(faas, "echo", ECHO)
    for body in b"3", b'"s"', b"null", b"true", b"{", b"\xff", b"{} {}":
        status, said = call(faas, "echo", body)
        assert status == 400
        assert said["message"].startswith(
            "the body is no JSON object or array: ")


@pytest.mark.parametrize("text, status, said", [
    ('cb("s")', 200, '"s"'), ("cb()", 200, ""), ("cb(null)", 200, "null"),
    ("cb(0)", 200, "0"), ("cb([])", 200, "[]"), ("cb(NaN)", 200, "null"),
    ("{ cb(1); cb(2) }", 200, "1"),
    ("setImmediate(() => cb(1))", 200, "1"),
    ('cb(new Error("no"))', 502, "Error: no"),
    ('{ throw new Error("no") }', 502, "Error: no"),
    ("Promise.reject(new Error('no'))", 502, "Error: no"),
    ("process.exit(3)", 502, "its worker exited with status 3"),
    ("{}", 504, "it ran longer than the 0.5 s that the caller allowed")])
def test_what_cb_is_given_is_the_response(shared, node, text, status, said):
    faas = shared
    assert put(faas, "f", {**ECHO, "index.js": "module.exports = "
                           f"(context, cb) => {text}"})[0] == 200
    headers = {"X-Timeout": "500ms"} if status == 504 else {}
    assert call(faas, "f", b"", headers) == (
        status, {"response" if status == 200 else "message": said})


def test_a_function_of_any_tongue_answers_with_a_string(shared):
    faas = shared
    put(faas, "print", PRINT)
    assert call(faas, "print", b'{"a": 1}\n') == (
        200, {"response": '{"a": 1}\n'})
    assert call(faas, "print", b"\xff\xfe") == (
        200, {"response": "\ufffd\ufffd"})
    (faas.functions / "hi").write_text("#!/bin/sh\necho hi\n")
    (faas.functions / "hi").chmod(0o755)
    assert call(faas, "hi") == (200, {"response": "hi\n"})


def test_the_status_that_a_function_chose_is_no_part_of_the_response(
        server, node):
    faas = server()
    assert put(faas, "f", {
        "package.json": '{"name": "fn"}', "index.js": "module.exports = "
        "(req, res) => res.status(404).send('gone ' + req.body)"})[0] == 200
    assert call(faas, "f", b"hi") == (200, {"response": "gone hi"})


def test_an_answer_that_comes_in_pieces_is_one_response(server, node):
    faas = server()
    assert put(faas, "f", {
        "package.json": '{"name": "pieces"}', "index.js": """
const http = require("http");
http.createServer((req, res) => {
  for (let i = 0; i < 100; i++) res.write(String(i % 10).repeat(2000));
  res.end();
}).listen(process.env.PORT);
"""})[0] == 200
    whole = "".join(str(i % 10) * 2000 for i in range(100))
    for _ in "first", "second":
        assert call(faas, "f") == (200, {"response": whole})


def test_packages_are_installed_and_a_failure_leaves_the_old_version(
        server, node):
    need("npm", "npm")
    faas = server()

    def needs(**packages):
        return json.dumps({"name": "example", "dependencies": packages})
    seven = {"seven/package.json": '{"name": "seven", "version": "1.0.0"}',
             "seven/index.js": "module.exports = 7"}
    asks = {"fn.yaml": YAML, "index.js":
            "module.exports = (context, cb) => cb(require('seven'))"}
    assert put(faas, "f", {**asks, **seven, "package.json": needs(
        seven="file:./seven")})[0] == 200
    assert call(faas, "f") == (200, {"response": "7"})
    status, said = put(faas, "f", {**asks, "package.json": needs(
        eight="file:./eight.tgz")})
    assert (status, said["message"]) == (400, "Failed to deploy function")
    assert said["info"].startswith("package.json could not be installed")
    assert "eight.tgz" in said["info"]
    assert call(faas, "f") == (200, {"response": "7"})
    status, said = put(faas, "f", {**asks, "package.json": "{"})
    assert (status, said["message"]) == (400, "Failed to deploy function")
    assert said["info"].startswith("package.json cannot be read")
