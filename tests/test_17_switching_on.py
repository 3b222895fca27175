"""Chapter 17: starting, stopping, and the command line."""

import contextlib
import io
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time

import pytest
from conftest import (FAAS, FREE_DOORS, OURS, book_command, eventually, script,
                      zip_of)

import faas
from faas import KINDS, FaasError

CLEAN = {name: os.environ[name] for name in os.environ.keys() - OURS
         - {"FAAS_URL"}} | FREE_DOORS
ECHO = "def fn(input, headers):\n    print('got', input)\n    return input\n"


def command(home, *words, stdin=b"", env={}, timeout=60):
    """Run one command of the command line in a folder."""
    return subprocess.run([*book_command(), *map(str, words)], cwd=home,
                          input=stdin, env=CLEAN | env, timeout=timeout,
                          capture_output=True)


def ok(*args, **rest):
    """The same, where it must go well; give what it printed."""
    done = command(*args, **rest)
    assert (done.returncode, done.stderr) == (0, b""), done
    return done.stdout


@contextlib.contextmanager
def serving(home, *flags, env={}):
    """Start a server that listens where its variables say; give it."""
    with open(home / "said", "wb") as said:
        process = subprocess.Popen(
            [sys.executable, FAAS, *flags], cwd=home, env=CLEAN | env,
            stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: process.poll() is not None
                   or b"Ctrl-C" in (home / "said").read_bytes())
        process.said = (home / "said").read_text()
        assert process.poll() is None, process.said
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def gone(pids):
    """Tell whether none of these processes is there, not even a zombie."""
    return not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


# 17.1 Settings


def test_the_file_becomes_the_command_with_which_most_tests_begin(tmp_path):
    flags = ["--clock", "off", "--port", "0", "--data-port", "0"]
    with serving(tmp_path, *flags) as process:
        became = pathlib.Path(f"/proc/{process.pid}/cmdline").read_text()
        assert became.split("\0")[:-1] == [*book_command(), *flags]


def test_the_start_says_what_listens_where_and_how_to_stop(tmp_path):
    (tmp_path / "functions").mkdir()
    shout = tmp_path / "functions" / "shout"
    shout.write_text("#!/bin/sh\ntr a-z A-Z\n")
    shout.chmod(0o755)
    with serving(tmp_path, "--port", "0", "--data-port", "0",
                 "--clock", "off") as process:
        said = process.said
        assert f"serves {tmp_path}/functions" in said
        assert said.count("http://127.0.0.1:") == 4
        assert said.count("coap://127.0.0.1:") == 1
        assert "Ctrl-C" in said and len(said.splitlines()) <= 8
        curl = re.search(r"curl -d (\w+) http://127.0.0.1:(\d+)(/\w+)", said)
        with socket.create_connection(("127.0.0.1", int(curl[2]))) as line:
            line.sendall(f"POST {curl[3]} HTTP/1.0\r\nContent-Length: 5\r\n"
                         f"\r\n{curl[1]}".encode())
            assert line.makefile("rb").read().endswith(b"\r\n\r\nHELLO")


def test_all_that_is_kept_is_in_the_working_folder(tmp_path):
    with serving(tmp_path, "--port", "0", "--data-port", "0",
                 "--clock", "off"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {
        "functions", "data", "logs", "said"}
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0
    assert (tmp_path / "data" / "api_key").stat().st_mode & 0o077 == 0
    assert not (tmp_path / "data" / "server.json").exists()


def test_the_variables_of_the_older_platforms_set_the_ports(
        tmp_path, monkeypatch):
    ports = [str(free_port()) for _ in range(4)]
    for name in FREE_DOORS:
        monkeypatch.delitem(CLEAN, name)
    for names in (["PORT", "HTTP_PORT", "COAP_PORT", "GRPC_PORT"],
                  ["PORT", "http_PORT", "coap_PORT", "grpc_PORT"]):
        with serving(tmp_path, "--clock", "off", env=dict(zip(names, ports))):
            note = json.loads((tmp_path / "data/server.json").read_text())
            urls = [note[door] for door in ("url", "data_url", "coap", "grpc")]
            assert [url.partition("://127.0.0.1:")[::2] for url in urls] == [
                *zip(["http", "http", "coap", "http"], ports)]


def test_the_key_and_the_address_may_come_from_variables(tmp_path):
    (tmp_path / "functions" / "where").mkdir(parents=True)
    write(tmp_path / "functions" / "where" / "main.py",
          "def handler(ctx, event): return {'body': ctx.baseUrl}")
    with serving(tmp_path, "--port", "0", "--data-port", "0", "--host",
                 "0.0.0.0", "--clock", "off", env={
                     "API_KEY": "sesame", "BASE_URL": "http://b.example/"}):
        assert not (tmp_path / "data" / "api_key").exists()
        done = command(tmp_path, "list")
        assert done.returncode == KINDS["unauthenticated"].exit
        assert b"where" in ok(tmp_path, "list", env={"API_KEY": "sesame"})
        assert ok(tmp_path, "invoke", "where",
                  env={"API_KEY": "sesame"}) == b"http://b.example"


def test_a_server_says_how_it_was_begun(tmp_path):
    """By that a command knows whether to speak rknizzle's words."""
    for words, begun in ((), "serve"), (("serve",), "serve"), (("start",),
                                                               "start"):
        with serving(tmp_path, *words, "--port", "0", "--data-port", "0",
                     "--clock", "off"):
            note = json.loads((tmp_path / "data/server.json").read_text())
            assert note["begun_by"] == begun


def test_an_option_is_stronger_than_a_variable(tmp_path):
    with serving(tmp_path, "--port", "0", "--clock", "off",
                 env={"PORT": "1", "HTTP_PORT": "-1"}) as process:
        assert ":1\n" not in process.said
        assert "calls only" not in process.said


def test_minus_one_turns_a_door_off(tmp_path):
    with serving(tmp_path, "--port", "-1", "--data-port", "0",
                 "--clock", "off") as process:
        assert "everything" not in process.said
    with serving(tmp_path, "--port", "0", "--data-port", "-1",
                 "--clock", "off") as process:
        assert "calls only" not in process.said
    doors = "--port", "--data-port", "--coap-port", "--grpc-port"
    for only, name in (("--coap-port", "CoAP"), ("--grpc-port", "gRPC")):
        flags = [word for door in doors
                 for word in (door, "0" if door == only else "-1")]
        with serving(tmp_path, *flags, "--clock", "off") as process:
            assert name in process.said and process.said.count("://") == 1
    done = command(tmp_path, *[word for door in doors
                               for word in (door, "-1")])
    assert done.returncode == 1 and b"turned off" in done.stderr


@pytest.mark.parametrize("flags, env", [
    ([], {"PORT": "http"}), ([], {"HTTP_PORT": "65536"}),
    (["--limit", "speed=1"], {}), (["--limit", "output"], {}),
    (["--limit", "output=-1"], {}), (["--limit", "output=x"], {}),
    ([], {"EXECUTION_TIMEOUT": "soon"})])
def test_a_setting_that_is_wrong_is_one_sentence(tmp_path, flags, env):
    done = command(tmp_path, "serve", *flags,
                   env={"PORT": "0", "HTTP_PORT": "0", **env})
    assert done.returncode == 1
    assert re.fullmatch(rb"faas: [^\n]+\n", done.stderr), done.stderr


def test_limits_come_from_options_and_from_execution_timeout(tmp_path):
    limits = faas.limits_from(["timeout=2", "output=9"],
                              {"EXECUTION_TIMEOUT": "7"})
    assert (limits.timeout, limits.output) == (2.0, 9)
    assert faas.limits_from([], {"EXECUTION_TIMEOUT": "7"}).timeout == 7.0


@pytest.mark.parametrize("host, loopback", [
    ("127.0.0.1", True), ("127.0.0.2", True), ("localhost", True),
    ("::1", True), ("0.0.0.0", False), ("::", False), ("", False),
    ("192.168.1.2", False), ("127.example", False), ("1270.0.0.1", False)])
def test_what_loopback_is(host, loopback):
    assert faas.is_loopback(host) is loopback


# 17.2 Serve


def test_a_port_that_is_taken_is_one_sentence_and_leaves_nothing(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for flags in (("--port", port, "--data-port", 0),
                      ("start", "--port", port, "--data-port", 0),
                      ("--port", 0, "--data-port", port)):
            done = command(tmp_path, *flags)
            assert done.returncode == 1 and done.stdout == b""
            assert re.fullmatch(rb"faas: port %d on [^\n]+\n" % port,
                                done.stderr)
    assert not (tmp_path / "data").exists()


def test_a_second_server_on_the_same_data_is_refused(server):
    first = server()
    done = command(first.home, "--port", "0", "--data-port", "0")
    assert done.returncode == 1
    assert re.fullmatch(rb"faas: another faas.py [^\n]+\n", done.stderr)
    assert first.get("/health").status == 200


def test_a_server_that_was_killed_is_no_obstacle_to_the_next(server):
    first = server()
    family = faas.family(first.pid)
    first.upload("echo", {"fn.py": ECHO})
    family += faas.family(first.pid)
    first.kill()
    eventually(lambda: gone(set(family) - {first.pid}))
    again = server(home=first.home)
    assert again.post("/echo", b"hi").body == b"hi"


def test_an_idle_server_takes_25_mb_or_less(server):
    faas = server()
    faas.get("/health")
    with open(f"/proc/{faas.pid}/status") as file:
        rss = int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1])
    assert rss <= 25 * 1024


# Stopping


def stopping(server, number, call, answer, flags=()):
    """Stop a server during a call; the call must get its answer."""
    faas_, answers = server(*flags), []
    begun, go = faas_.home / "begun", faas_.home / "go"
    wait = f"echo >{begun}; while [ ! -e {go} ]; do sleep 0.05; done"
    script(faas_, "slow", wait + "; echo done")
    faas_.upload("slowpy", {"fn.py": (
        "import os, time\ndef fn(input):\n"
        f"    open({str(begun)!r}, 'w')\n"
        f"    while not os.path.exists({str(go)!r}): time.sleep(0.05)\n"
        "    return 'done'")})
    caller = threading.Thread(target=lambda: answers.append(
        faas_.post(call, b"").body))
    caller.start()
    eventually(begun.exists)
    family = faas.family(faas_.pid)
    faas_.process.send_signal(number)
    eventually(lambda: refused(faas_))   # though connections pour in
    assert faas_.process.poll() is None     # it waits for the call
    go.touch()
    caller.join(timeout=20)
    assert answers == [answer]
    assert faas_.process.wait(timeout=20) == 0
    assert gone(family) and "Traceback" not in faas_.output
    return faas_


def refused(faas_):
    """Tell whether nobody listens any more."""
    try:
        faas_.get("/health")
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("call, answer", [("/slow", b"done\n"),
                                          ("/slowpy", b"done")])
def test_a_stop_lets_the_running_call_finish(server, number, call, answer):
    stopped = stopping(server, number, call, answer)
    assert not (stopped.data / "server.json").exists()


def test_a_stop_waits_until_a_large_answer_is_taken(server):
    faas_ = server()
    faas_.upload("large", {"fn.py": "def fn(input): return 6_000_000 * 'a'"})
    place = faas_.url.rpartition("/")[2].split(":")
    with socket.create_connection((place[0], int(place[1]))) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        line.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with line.makefile("rb") as answer:
            assert answer.readline() == b"HTTP/1.1 200 OK\r\n"
            faas_.process.send_signal(signal.SIGTERM)
            eventually(lambda: refused(faas_))
            size = 0
            while piece := answer.read1(1 << 16):
                size += len(piece)
                time.sleep(0.001)       # a reader that takes its time
    assert size > 6_000_000
    assert faas_.process.wait(timeout=20) == 0


def test_a_stop_does_not_wait_for_idle_connections(server):
    faas_ = server()
    place = faas_.url.rpartition("/")[2].split(":")
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(socket.create_connection(
                (place[0], int(place[1]))))
        begin = time.monotonic()
        faas_.stop()
        assert time.monotonic() - begin < 9     # not the 10 s of a drain


def test_a_stop_ends_what_does_not_end_by_itself(server):
    faas_ = server("--limit", "timeout=600")
    script(faas_, "forever", f"echo >{faas_.home}/begun; sleep 1000 & wait")
    answers = []
    lost = threading.Thread(target=lambda: answers.append(
        faas_.post("/forever").status))
    lost.start()
    eventually((faas_.home / "begun").exists)
    family = faas.family(faas_.pid)
    faas_.stop()                        # after 10 s of patience
    lost.join(timeout=20)
    assert gone(family) and answers == [502]


def test_the_drained_calls_are_written_down(server):
    stopped = stopping(server, signal.SIGTERM, "/slow", b"done\n")
    assert "done" in (stopped.logs / "slow.log").read_text()
    again = server(home=stopped.home)
    done = json.loads(again.get("/-/executions").body)
    assert [one["status"] for one in done] == ["ok"]


# 17.3 and 17.4 The commands


@pytest.fixture
def home(server):
    """The folder of a running server, where commands find it."""
    return server().home


def test_deploy_takes_a_folder_a_zip_a_tar_and_a_file(home, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "folder").mkdir()
    (work / "folder" / "fn.py").write_text(ECHO)
    (work / "a.zip").write_bytes(zip_of({"fn.py": ECHO}))
    for name, mode in ("a.tar", "w"), ("a.tar.gz", "w:gz"):
        with tarfile.open(work / name, mode) as bundle:
            info = tarfile.TarInfo("fn.py")
            info.size = len(ECHO)
            bundle.addfile(info, io.BytesIO(ECHO.encode()))
    (work / "a.py").write_text(ECHO)
    (work / "a.sh").write_text("#!/bin/sh\ncat\n")
    for number, path in enumerate(sorted(work.iterdir())):
        said = ok(home, "deploy", f"f{number}", path)
        assert b"serves version 1" in said, path
        assert ok(home, "invoke", f"f{number}", "-d", "hi") == b"hi"
    assert number == 5


@pytest.mark.parametrize("name, text, files", [
    ("a.py", "def fn(input): return 1", ["fn.py"]),
    ("a.py", "def handler(ctx, event): return {}", ["main.py"]),
    ("a.py", "#!/usr/bin/env python3\nprint(1)", ["fn.sh"]),
    ("a.lua", "function handler() end", ["main.lua"]),
    ("a.go", "package main", ["fn.go"]),
    ("a.js", "module.exports = () => 1", ["index.js", "package.json"]),
    ("a.sh", "#!/bin/sh", ["fn.sh"]), ("a", "#!/bin/sh", ["fn.sh"])])
def test_a_single_file_becomes_a_bundle_of_its_tongue(
        tmp_path, name, text, files):
    path = write(tmp_path / name, text)
    packed = faas.pack(str(path))
    assert sorted(packed) == files
    assert packed[files[0]].data == text.encode()
    tongue = faas.TONGUES[faas.tongue_of("", packed)]
    assert tongue.text == files[0]


def test_a_function_of_a_single_file_can_be_deployed_and_called(home):
    path = write(home / "hello.py",
                 "def handler(ctx, event): return {'body': event['body']}")
    said = ok(home, "deploy", "hello", path)
    assert said.startswith(b"hello serves version 1  python  ")
    assert ok(home, "invoke", "hello", "-d", "hi") == b"hi"


def test_deploy_sets_what_it_is_told(home):
    (home / "fn.py").write_text(
        "import os\ndef fn(input): return os.environ['COLOUR']")
    said = ok(home, "deploy", "f", "fn.py", "--env", "COLOUR=a=b", "--threads",
              "2", "--timeout", "7", "--tongue", "python3", "--json")
    fn = json.loads(said)
    assert (fn["threads"], fn["timeout"], fn["env"]) == (2, 7.0, ["COLOUR"])
    assert ok(home, "invoke", "f") == b"a=b"


def test_invoke_takes_its_body_from_the_line_a_file_or_stdin(home):
    ok(home, "deploy", "echo", write(home / "fn.py", ECHO))
    (home / "body").write_bytes(b"\xff from a file")
    assert ok(home, "invoke", "echo", "-d", "hi") == b"hi"
    assert ok(home, "invoke", "echo", "-d", "@body") == b"\xff from a file"
    assert ok(home, "invoke", "echo", "-d", "@-", stdin=b"in") == b"in"
    assert ok(home, "invoke", "echo") == b""


def write(path, text):
    path.write_text(text)
    return path


def test_invoke_works_without_a_server(tmp_path):
    functions = tmp_path / "functions"
    (functions / "py").mkdir(parents=True)
    write(functions / "py" / "fn.py", ECHO)
    write(functions / "sh", "#!/bin/sh\ncat; exit $STATUS\n").chmod(0o755)
    write(functions / "bad", "#!/bin/sh\necho tail; exit 3\n").chmod(0o755)
    assert ok(tmp_path, "invoke", "py", "-d", "hi") == b"hi"
    assert ok(tmp_path, "invoke", "sh", "-d", "hi") == b"hi"
    done = command(tmp_path, "invoke", "bad")
    assert done.returncode == KINDS["crashed"].exit
    assert (done.stdout, done.stderr) == (
        b"", b"faas: bad exited with status 3\ntail\n")
    done = command(tmp_path, "invoke", "nobody")
    assert done.returncode == KINDS["not_found"].exit
    assert "got hi" in (tmp_path / "logs" / "py.log").read_text()


def test_list_versions_and_rollback(home):
    for text in "one", "two":
        ok(home, "deploy", "f", write(home / "fn.py",
                                      f"def fn(input): return {text!r}"))
    assert ok(home, "list").split()[:5] == [
        b"NAME", b"TONGUE", b"VERSION", b"FROM", b"NOTE"]
    listed, = json.loads(ok(home, "list", "--json"))
    assert (listed["name"], listed["version"]) == ("f", 2)
    versions = json.loads(ok(home, "versions", "f", "--json"))
    assert [(one["number"], one["active"]) for one in versions] == [
        (2, True), (1, False)]
    assert ok(home, "versions", "f").count(b"active") == 1
    assert ok(home, "rollback", "f", "1") == b"f serves version 1\n"
    assert ok(home, "invoke", "f") == b"one"
    assert ok(home, "delete", "f") == b""
    assert json.loads(ok(home, "list", "--json")) == []


def test_list_says_that_an_edit_does_not_work(home):
    folder = home / "functions" / "f"
    folder.mkdir()
    write(folder / "fn.py", "def fn(input): return 'good'")
    assert ok(home, "invoke", "f") == b"good"
    write(folder / "fn.py", "def fn(input) return 'bad: no colon'")
    assert ok(home, "invoke", "f") == b"good"
    assert b"the newest edit does not work" in ok(home, "list")


def test_schedule_sets_lists_and_removes(home):
    ok(home, "deploy", "f", write(home / "fn.py", ECHO))
    assert ok(home, "schedule", "f", "*/5 * * * *") == b"Cron job set\n"
    assert b"f" in ok(home, "schedule") and b"*/5 * * * *" in ok(
        home, "schedule")
    assert json.loads(ok(home, "schedule", "--json")) == {"f": "*/5 * * * *"}
    assert ok(home, "schedule", "f", "--remove").startswith(b"Removed")
    assert json.loads(ok(home, "schedule", "--json")) == {}
    done = command(home, "schedule", "f")
    assert done.returncode == KINDS["bad_input"].exit


def test_logs_prints_the_log_and_f_what_is_added(home):
    ok(home, "deploy", "f", write(home / "fn.py", ECHO))
    ok(home, "invoke", "f", "-d", "first")
    assert b"got first" in ok(home, "logs", "f")
    follower = subprocess.Popen(
        [sys.executable, FAAS, "logs", "f", "-f"], cwd=home, env=CLEAN,
        stdout=subprocess.PIPE)
    try:
        os.set_blocking(follower.stdout.fileno(), False)
        seen = bytearray()

        def has(word):
            seen.extend(follower.stdout.read() or b"")
            return word in seen
        eventually(lambda: has(b"got first"))
        ok(home, "invoke", "f", "-d", "second")
        eventually(lambda: has(b"got second"))
        assert seen.count(b"got first") == 1
        follower.send_signal(signal.SIGINT)
        assert follower.wait(timeout=20) == 130
    finally:
        follower.kill()
        follower.wait()


@pytest.mark.parametrize("words, kind", [
    (["invoke", "nobody"], "not_found"), (["logs", "nobody"], "not_found"),
    (["versions", "nobody"], "not_found"), (["delete", "nobody"], "not_found"),
    (["rollback", "nobody", "1"], "not_found"),
    (["schedule", "nobody", "@daily"], "not_found"),
    (["schedule", "nobody", "--remove"], "not_found"),
    (["deploy", "f", "no-such-file"], "not_found"),
    (["invoke", "f", "-d", "@no-such-file"], "not_found"),
    (["invoke", "../x"], "bad_input"), (["deploy", "f", "empty"], "bad_input"),
    (["schedule", "nobody", "61 * * * *"], "bad_input"),
    (["deploy", "list", "fn.py"], "conflict")])
def test_a_failure_is_a_sentence_and_its_kinds_exit_code(
        shared_home, words, kind):
    done = command(shared_home, *words)
    assert done.returncode == KINDS[kind].exit, done.stderr
    assert re.match(rb"faas: [^\n]+\n", done.stderr)
    assert b"Traceback" not in done.stderr


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory):
    """One server for many commands that change nothing."""
    home = tmp_path_factory.mktemp("shared")
    (home / "empty").mkdir()
    write(home / "fn.py", ECHO)
    with serving(home, "--port", "0", "--data-port", "0", "--clock", "off"):
        yield home


def test_without_a_server_the_other_commands_say_so(tmp_path):
    write(tmp_path / "fn.py", ECHO)
    for words in (["list"], ["logs", "f"], ["versions", "f"], ["schedule"],
                  ["rollback", "f", "1"], ["delete", "f"],
                  ["deploy", "f", "fn.py"]):
        done = command(tmp_path, *words)
        assert done.returncode == KINDS["unavailable"].exit, words
        assert b"no faas.py serves" in done.stderr


def test_a_url_that_does_not_answer_is_a_sentence(tmp_path):
    done = command(tmp_path, "list", "--url",
                   f"http://127.0.0.1:{free_port()}")
    assert done.returncode == KINDS["unavailable"].exit
    assert b"does not answer" in done.stderr


def test_a_url_reaches_a_server_of_another_folder(server, tmp_path):
    faas_ = server()
    script(faas_, "hi", "echo hi")
    assert ok(tmp_path, "invoke", "hi", "--url", faas_.url) == b"hi\n"
    assert ok(tmp_path, "invoke", "hi",
              env={"FAAS_URL": faas_.url}) == b"hi\n"


def test_the_api_key_stays_between_the_commands_and_the_server(server):
    faas_ = server("--host", "0.0.0.0")
    script(faas_, "env", "env")
    said = ok(faas_.home, "invoke", "env")          # finds the key by itself
    key = (faas_.data / "api_key").read_text()
    assert len(key) == 64 and key.encode() not in said


def test_invoke_may_shorten_the_time(home):
    write(home / "functions" / "slow", "#!/bin/sh\nsleep 1000\n").chmod(0o755)
    done = command(home, "invoke", "slow", "--timeout", "0.3")
    assert done.returncode == KINDS["timeout"].exit
    assert b"0.3 s" in done.stderr


def test_help_reads_well_and_names_every_command_and_exit_code(tmp_path):
    said = ok(tmp_path, "--help").decode()
    for word in ("serve start init build deploy invoke list logs versions "
                 "rollback schedule delete").split():
        assert re.search(rf"^ +{word}\b", said, re.MULTILINE), word
        more = ok(tmp_path, word, "--help").decode()
        assert more.startswith(f"usage: faas {word}")
        assert max(map(len, more.splitlines())) < 100
    for name, kind in KINDS.items():
        assert f"{kind.exit} {name}" in " ".join(said.split())
    assert list(tmp_path.iterdir()) == []           # help makes nothing
    assert ok(tmp_path, "--version").decode().strip() == faas.__version__


def test_a_command_that_is_none_is_a_usage_error(tmp_path):
    for words in (["fly"], ["--port", "http"], ["list", "x"], ["logs"],
                  ["init", "--lang", "cobol"]):
        done = command(tmp_path, *words)
        assert done.returncode == 2 and b"usage: faas" in done.stderr, words
    done = command(tmp_path, "invoke")      # rknizzle's words, and our code
    assert (done.returncode, done.stderr) == (
        2, b"faas: Include the function name to invoke!\n")


def test_faas_py_alone_is_enough(tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "faas.py").write_bytes(pathlib.Path(FAAS).read_bytes())
    (alone / "functions").mkdir()
    write(alone / "functions" / "hi", "#!/bin/sh\necho hi\n").chmod(0o755)
    done = subprocess.run([sys.executable, "faas.py", "invoke", "hi"],
                          cwd=alone, env=CLEAN, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"hi\n"), done.stderr


def test_main_gives_the_exit_code_to_whoever_imports_it(tmp_path, capfd):
    words = ["invoke", "nobody", "--data", f"{tmp_path}/d", "--functions",
             f"{tmp_path}/f", "--logs", f"{tmp_path}/l"]
    assert faas.main(words) == KINDS["not_found"].exit
    assert capfd.readouterr().err.startswith("faas: Function not found")


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path):
    key = faas.api_key(str(tmp_path))
    assert re.fullmatch("[0-9a-f]{64}", key)
    assert faas.api_key(str(tmp_path)) == key
    assert (tmp_path / "api_key").stat().st_mode & 0o777 == 0o600


def test_the_data_folder_has_one_owner(tmp_path):
    lock = faas.take_data_folder(str(tmp_path))
    with pytest.raises(FaasError):
        faas.take_data_folder(str(tmp_path))
    lock.close()
    faas.take_data_folder(str(tmp_path)).close()


def processors_of(pid):
    """Give the processors of each thread of a process, as sets."""
    return [os.sched_getaffinity(int(thread))
            for thread in os.listdir(f"/proc/{pid}/task")]


def test_the_platform_keeps_to_one_processor_and_its_functions_have_all(
        server):
    here = server()
    here.upload("f", {"fn.py": "import os\n"
                      "def fn(input): return sorted(os.sched_getaffinity(0))"})
    assert json.loads(here.post("/f").body) == sorted(os.sched_getaffinity(0))
    threads = processors_of(here.pid)
    assert len(threads) > 3
    assert all(one == threads[0] and len(one) == 1 for one in threads)
