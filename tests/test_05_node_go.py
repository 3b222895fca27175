"""Chapters 5.3 and 5.4: the Node and Go shims, asked over descriptor 3.

They run as the platform runs them, but for the platform: every frame that
goes in or comes out is one that a test has written or looked at.
"""

import fcntl
import json
import os
import resource
import socket
import struct
import subprocess
import termios
import threading

import pytest
from conftest import eventually

from faas import GO_SHIM, NODE_SHIM, FaasError, find_tool

HEAD = struct.Struct(">IIcI")
HEADERS = {"Content-Type": "text/plain", "Lab": "a",
           "X-Faas-Method": "PUT", "X-Faas-Path": "/rest",
           "X-Faas-Query": "a=1&b=2&b=3", "X-Faas-Execution": "id-1",
           "X-Faas-Trigger": "http"}


class Shim:
    """A worker at the other end of a socket pair; its log is a pipe."""

    def __init__(self, argv, folder):
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(30)
        self.log, log_w = os.pipe()
        self.count, self.held = 0, b""

        def three():
            os.dup2(theirs.fileno(), 3, inheritable=True)
            resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))

        self.process = subprocess.Popen(
            argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=log_w,
            stderr=log_w, preexec_fn=three, close_fds=False,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8",
                 "HOME": "/tmp", "FAAS_FUNCTION": "f"})
        theirs.close()
        os.close(log_w)
        os.set_blocking(self.log, False)
        self.hello = self.hear()

    def hear(self):
        """Give (id, verb, meta, body); EOFError where the worker is gone."""
        while True:
            if len(self.held) >= 4:
                size = 4 + int.from_bytes(self.held[:4], "big")
                if len(self.held) >= size:
                    _, number, verb, m = HEAD.unpack_from(self.held)
                    meta = json.loads(self.held[13:13 + m])
                    body = self.held[13 + m:size]
                    self.held = self.held[size:]
                    return number, verb.decode(), meta, body
            piece = self.channel.recv(1 << 20)
            if not piece:
                raise EOFError
            self.held += piece

    def frame(self, body, headers=HEADERS):
        self.count += 1
        meta = json.dumps({"headers": headers}).encode()
        return HEAD.pack(9 + len(meta) + len(body), self.count, b"C",
                         len(meta)) + meta + body

    def ask(self, body=b"", headers=HEADERS):
        self.channel.sendall(self.frame(body, headers))
        number, verb, meta, body = self.hear()
        assert number == self.count
        return verb, meta, body

    def logged(self):
        out = b""
        try:
            while piece := os.read(self.log, 1 << 16):
                out += piece
        except BlockingIOError:
            pass
        return out.decode()

    def logged_later(self, text):
        """Give the log, as soon as it holds `text`."""
        out = []
        eventually(lambda: out.append(self.logged()) or text in "".join(out))
        return "".join(out)

    def send_slowly(self, data):
        """Send each byte when the one before has been read (unix(7))."""
        def unread():
            size = fcntl.ioctl(self.channel, termios.TIOCOUTQ, bytes(4))
            return int.from_bytes(size, "little")
        for byte in data:
            self.channel.sendall(bytes([byte]))
            eventually(lambda: not unread())

    def close(self):
        """End it; give its exit status. It may be closed twice."""
        self.channel.close()
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            if self.log is not None:
                os.close(self.log)
            self.log = None


def tool(tongue):
    """Give the path of a tongue's program, or skip with its package."""
    try:
        return find_tool(tongue)
    except FaasError as error:
        pytest.skip(str(error))


@pytest.fixture
def shim(tmp_path):
    made = []

    def make(source, tongue="nodejs", name="index.js", package=None):
        argv = [tool("nodejs"), "-e", NODE_SHIM, tongue]
        (tmp_path / name).write_text(source)
        if package is not None:
            (tmp_path / "package.json").write_text(json.dumps(package))
        made.append(Shim(argv, tmp_path))
        return made[-1]
    yield make
    for one in made:
        one.close()


def express(body):
    return "module.exports = (req, res) => { " + body + " }"


# nodejs: what goes in -------------------------------------------------------

def test_it_says_hello_before_anything_else(shim):
    assert shim(express("")).hello == (0, "H", {}, b"")


def test_a_handler_sees_what_express_would_give_it(shim):
    f = shim(express("""res.json([req.body, req.method, req.path, req.url,
        req.query, req.headers, req.get("LAB"), req.header("none"),
        req.rawBody.length, Buffer.isBuffer(req.rawBody)])"""))
    verb, meta, body = f.ask("grüße".encode())
    assert verb == "R" and meta["status"] == 200
    assert json.loads(body) == [
        "grüße", "PUT", "/rest", "/rest?a=1&b=2&b=3",
        {"a": "1", "b": ["2", "3"]},
        {"content-type": "text/plain", "lab": "a"}, "a", None, 7, True]


def test_an_empty_body_is_an_empty_string(shim):
    f = shim(express("res.json(req.body === '' && req.query.x === undefined"
                     " && req.path === '/' && req.url === '/')"))
    assert f.ask(b"", {})[2] == b"true"
    assert f.ask(b"", {"X-Faas-Path": "", "X-Faas-Query": ""})[2] == b"true"


def test_bytes_that_are_no_utf8_are_replaced_in_body_and_kept_in_raw(shim):
    f = shim(express("res.send(req.query.raw ? req.rawBody : req.body)"))
    data = bytes(range(256)) * 4096                    # 1 MB
    assert f.ask(data, {"X-Faas-Query": "raw=1"})[2] == data
    assert f.ask(b"a\xffb", {})[2].decode() == "a\ufffdb"


def test_a_body_of_6_mb_may_come_in_small_pieces(shim):
    f = shim(express("res.send(String(req.rawBody.length))"))
    frame = f.frame(b"x" * 6_000_000)
    for at in range(0, len(frame), 4096):
        f.channel.sendall(frame[at:at + 4096])
    assert f.hear()[3] == b"6000000"


def test_a_frame_may_come_byte_by_byte(shim):
    f = shim(express("res.send(req.body)"))
    f.send_slowly(f.frame(b"slow"))
    assert f.hear()[3] == b"slow"


# nodejs: what comes out -----------------------------------------------------

@pytest.mark.parametrize("code, kind, body", [
    ("res.send('é')", "text/plain; charset=utf-8", "é".encode()),
    ("res.send(Buffer.from([0, 255]))", "application/octet-stream",
     b"\0\xff"),
    ("res.send(new Uint8Array([7]))", "application/octet-stream", b"\7"),
    ("res.send({a: 1})", "application/json; charset=utf-8", b'{"a":1}'),
    ("res.send(404)", "application/json; charset=utf-8", b"404"),
    ("res.send(false)", "application/json; charset=utf-8", b"false"),
    ("res.json('x')", "application/json; charset=utf-8", b'"x"'),
    ("res.json(null)", "application/json; charset=utf-8", b"null"),
    ("res.send(null)", None, b""),
    ("res.send()", None, b""),
    ("res.end()", None, b""),
    ("res.write('a').write(Buffer.from('b')); res.end('c')", None, b"abc"),
    ("res.type('html').send('<p>')", "text/html", b"<p>"),
    ("res.type('text/x-y').send('y')", "text/x-y", b"y"),
    ("res.set('content-TYPE', 'a/b').send('x')", "a/b", b"x"),
    ("res.set({'Content-Type': 'a/b'}).json(1)", "a/b", b"1"),
    ("res.setHeader('Content-Type', 'a/b'); res.end('x')", "a/b", b"x"),
    ("res.header('Content-Type', 'a/b'); res.send(res.get('Content-Type'))",
     "a/b", b"a/b"),
])
def test_an_answer_carries_its_type(shim, code, kind, body):
    verb, meta, out = shim(express(code)).ask()
    assert verb == "R" and out == body
    assert meta["headers"].get("Content-Type") == kind


@pytest.mark.parametrize("code, status, body", [
    ("res.status(418).send('tea')", 418, b"tea"),
    ("res.statusCode = 201; res.end()", 201, b""),
    ("res.sendStatus(404)", 404, b"404"),
])
def test_an_answer_carries_its_status(shim, code, status, body):
    _, meta, out = shim(express(code)).ask()
    assert (meta["status"], out) == (status, body)


@pytest.mark.parametrize("n", ["99", "600", "'200'", "2.5", "undefined"])
def test_a_status_that_is_none_is_a_failure(shim, n):
    for code in f"res.status({n}).end()", f"res.statusCode = {n}; res.end()":
        f = shim(express(code))
        verb, meta, _ = f.ask()
        assert (verb, meta["kind"]) == ("E", "crashed")
        assert meta["sentence"].startswith("RangeError: ")


def test_only_the_first_answer_counts(shim):
    f = shim(express("res.send('one'); res.send('two'); throw Error('three')"))
    for _ in range(3):
        assert f.ask()[2] == b"one"
    log = f.logged_later("three")
    assert "second answer" in log and "Error: three" in log


def test_an_answer_to_an_old_call_is_not_taken_for_a_new_one(shim):
    f = shim("""let old; module.exports = (req, res) => {
        if (old) { old.send("late"); setTimeout(() => res.send("new"), 50); }
        else { old = res; res.send("first"); } }""")
    assert f.ask()[2] == b"first"
    assert f.ask()[2] == b"new"


def test_an_answer_may_come_from_a_promise_or_a_timer(shim):
    f = shim("""const wait = (ms) => new Promise((d) => setTimeout(d, ms));
        module.exports = async (req, res) => {
            await wait(20); setTimeout(() => res.send("later"), 20); }""")
    assert f.ask()[2] == b"later"


# nodejs: how it fails -------------------------------------------------------

@pytest.mark.parametrize("code, sentence", [
    ("let x; x()", "TypeError: x is not a function"),
    ("throw new Error('two\\nlines')", "Error: two"),
    ("throw 'text'", "'text'"),
    ("throw null", "null"),
    ("return Promise.reject(new RangeError('far'))", "RangeError: far"),
    ("setTimeout(() => { throw new Error('timer') }, 1)", "Error: timer"),
    ("Promise.reject(new Error('floating'))", "Error: floating"),
    ("const o = {}; o.o = o; res.json(o)",
     "TypeError: Converting circular structure to JSON"),
    ("res.redirect('/')", "TypeError: res.redirect is not a function"),
])
def test_what_a_function_throws_is_its_failure(shim, code, sentence):
    f = shim("module.exports = (req, res) => { if (req.body) "
             "return res.send(req.body);\n" + code + " }")
    verb, meta, _ = f.ask()
    assert (verb, meta["kind"], meta["sentence"]) == ("E", "crashed",
                                                      sentence)
    log = f.logged()
    assert sentence.split(": ")[-1] in log
    assert "[eval]" not in log and "node:internal" not in log
    if "Error" in sentence:
        assert "index.js:2:" in log
    assert f.ask(b"alive")[2] == b"alive"


def test_a_failure_between_two_calls_is_a_line_in_the_log(shim):
    f = shim(express("setTimeout(() => { throw Error('after') }, 10);"
                     "res.send('ok')"))
    assert f.ask()[2] == b"ok"
    assert "Error: after" in f.logged_later("after")
    assert f.ask()[2] == b"ok"


def test_process_exit_ends_the_process_with_its_status(shim):
    f = shim(express("console.log('bye'); process.exit(3)"))
    with pytest.raises(EOFError):
        f.ask()
    assert f.process.wait(5) == 3
    assert f.logged() == "bye\n"


@pytest.mark.parametrize("source, package, sentence", [
    ("module.exports = 7", None, "index.js must export a function: "
     "module.exports = (req, res) => ..."),
    ("", None, "index.js must export a function: "
     "module.exports = (req, res) => ..."),
    ("let x = ;", None, "SyntaxError: Unexpected token ';'"),
    ("require('no-such-thing')", None,
     "Error: Cannot find module 'no-such-thing'"),
    ("throw new TypeError('at load')", None, "TypeError: at load"),
    ("export default 7", {"type": "module"}, "index.js must export a "
     "function: module.exports = (req, res) => ..."),
    ("throw new Error('in esm')", {"type": "module"}, "Error: in esm"),
])
def test_what_cannot_be_loaded_says_why_and_ends(shim, source, package,
                                                 sentence):
    f = shim(source, package=package)
    assert f.hello == (0, "E", {"kind": "bad_input", "sentence": sentence},
                       b"")
    f.process.wait(5)
    if "must export" not in sentence:
        assert sentence.split(": ")[1] in f.logged()


@pytest.mark.parametrize("source, package, name", [
    ("module.exports = (q, r) => r.send('x')", {"name": "fn", "main":
                                                "app.js"}, "app.js"),
    ("export default (q, r) => r.send('x')", {"type": "module"}, "index.js"),
    ("import fs from 'fs'; await 0; export default (q, r) => r.send('x')",
     {"main": "a.mjs"}, "a.mjs"),
    ("exports.default = (q, r) => r.send('x')", {"name": "fn"}, "index.js"),
])
def test_the_module_is_what_package_json_says(shim, source, package, name):
    assert shim(source, name=name, package=package).ask()[2] == b"x"


# The log, the channel -------------------------------------------------------

def test_what_was_printed_is_in_the_log_before_the_answer(shim):
    f = shim(express("console.log('o' + req.body); console.error('e');"
                     "res.send('')"))
    for n in range(100):
        f.ask(b"%d" % n)
        assert f.logged() == f"o{n}\ne\n"


def test_a_log_longer_than_the_pipe_is_whole_before_the_answer(shim):
    f = shim(express("console.log('x'.repeat(3e6)); console.log('end');"
                     "res.send('ok')"))
    pieces = []
    os.set_blocking(f.log, True)

    def drain():
        while sum(map(len, pieces)) < 3_000_005:
            pieces.append(os.read(f.log, 1 << 16))
    reader = threading.Thread(target=drain)
    reader.start()
    assert f.ask()[2] == b"ok"
    reader.join(5)
    os.set_blocking(f.log, False)
    assert b"".join(pieces)[-5:] == b"\nend\n"


def test_what_a_function_starts_does_not_get_the_channel(shim):
    f = shim(express("res.send(require('child_process').execSync("
                     "'ls -l /proc/self/fd').toString())"))
    out = f.ask()[2].decode()
    assert " 3 -> socket" not in out


def test_the_end_of_the_channel_ends_the_worker(shim):
    f = shim(express("setInterval(() => 0, 1000); res.send('ok')"))
    assert f.ask()[2] == b"ok"
    assert f.close() == 0


def test_a_thousand_calls_in_a_row(shim):
    f = shim(express("res.send(req.body)"))
    f.ask(b"warm")
    for n in range(1000):
        assert f.ask(b"%d" % n)[2] == b"%d" % n


def test_fetch_works_within_a_gigabyte_of_data(shim):
    f = shim("""module.exports = async (req, res) => {
        try { await fetch("http://127.0.0.1:" + req.body) }
        catch (error) { res.send(String(error.cause.code)) } }""")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert f.ask(b"%d" % port)[2] == b"ECONNREFUSED"


# node: rknizzle's contract --------------------------------------------------

@pytest.mark.parametrize("code, sent, got", [
    ("cb(context)", b'{"a": "\xc3\xa9"}', '{"a":"é"}'.encode()),
    ("cb(context)", b"[1, 2]", b"[1,2]"),
    ("cb(context)", b"", b"{}"),
    ("cb('s')", b"", b'"s"'),
    ("cb(null)", b"", b"null"),
    ("cb(0)", b"", b"0"),
    ("cb()", b"", b""),
    ("setTimeout(() => cb(7), 5)", b"", b"7"),
    ("return 9, cb(1)", b"", b"1"),
])
def test_cb_gives_the_answer(shim, code, sent, got):
    f = shim("module.exports = (context, cb) => { " + code + " }", "node")
    verb, meta, body = f.ask(sent)
    assert (verb, body) == ("R", got), meta
    if got:
        assert meta["headers"] == {
            "Content-Type": "application/json; charset=utf-8"}


@pytest.mark.parametrize("source, got", [
    ("async (context) => context.a", b"1"),
    ("async () => {}", b""),
    ("(context) => context.a", b"1"),
    ("async (context, cb) => { cb(3); return 4 }", b"3"),
    ("(...all) => { setTimeout(() => all[1](5), 5) }", b"5"),
])
def test_a_function_without_cb_may_return_its_value(shim, source, got):
    f = shim("module.exports = " + source, "node")
    assert f.ask(b'{"a": 1}')[2] == got
    assert "second" not in f.logged()


@pytest.mark.parametrize("body", [b"7", b'"s"', b"null", b"hello\nyou",
                                  b"{", b"\xff", b"true"])
def test_a_body_that_is_no_object_is_the_callers_fault(shim, body):
    f = shim("module.exports = (context, cb) => cb(1)", "node")
    verb, meta, _ = f.ask(body)
    assert (verb, meta["kind"]) == ("E", "bad_input")
    assert meta["sentence"].startswith(
        "the body is no JSON object or array: ")
    assert "\n" not in meta["sentence"]
    assert f.ask(b"{}")[2] == b"1"


@pytest.mark.parametrize("code, sentence", [
    ("cb(new TypeError('no'))", "TypeError: no"),
    ("throw new Error('thrown')", "Error: thrown"),
    ("return Promise.reject(new Error('r'))", "Error: r"),
    ("cb(1n)", "TypeError: Do not know how to serialize a BigInt"),
])
def test_a_node_function_fails_as_a_nodejs_one_does(shim, code, sentence):
    f = shim("module.exports = (context, cb) => { " + code + " }", "node")
    verb, meta, _ = f.ask()
    assert (verb, meta) == ("E", {"kind": "crashed", "sentence": sentence})


def test_a_node_module_without_a_function_names_its_contract(shim):
    f = shim("module.exports = {}", "node")
    assert f.hello[2]["sentence"] == ("index.js must export a function: "
                                      "module.exports = (context, cb) => ...")


# go -------------------------------------------------------------------------

FN_GO = '''package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

func fn(data string, headers map[string]string) (string, error) {
	fmt.Println("asked", len(data))
	switch headers["Do"] {
	case "lab":
		return headers["Lab"] + headers["X-Faas-Path"], nil
	case "error":
		return "lost", errors.New("no such colour:\\n" + data)
	case "panic":
		var m map[string]int
		m["a"] = 1
	case "index":
		return data[100:], nil
	case "exit":
		os.Exit(3)
	case "fds":
		out, err := exec.Command("ls", "-l", "/proc/self/fd").Output()
		return string(out), err
	case "upper":
		return strings.ToUpper(data), nil
	}
	return data, nil
}
'''


@pytest.fixture(scope="module")
def go_binary(tmp_path_factory, go_cache):
    go = tool("go")
    folder = tmp_path_factory.mktemp("go")
    (folder / "fn.go").write_text(FN_GO)
    (folder / "go.mod").write_text("module main\n")
    (folder / "faas_main.go").write_text(GO_SHIM)
    env = {"PATH": os.environ["PATH"], "HOME": str(folder),
           "GOCACHE": go_cache, "GOPROXY": "off", "CGO_ENABLED": "0",
           "GOTOOLCHAIN": "local"}
    subprocess.run([go, "build", "-trimpath", "-o", "faas_fn", "."],
                   cwd=folder, env=env, check=True, timeout=300)
    return folder / "faas_fn"


@pytest.fixture
def go(go_binary):
    one = Shim([str(go_binary)], go_binary.parent)
    yield one
    one.close()


def test_go_gives_back_what_it_was_given_for_every_body(go):
    assert go.hello == (0, "H", {}, b"")
    for data in b"", "grüße".encode(), bytes(range(256)) * 4096:
        assert go.ask(data, {}) == ("R", {}, data)
        assert go.logged() == f"asked {len(data)}\n"


def test_go_sees_the_headers(go):
    assert go.ask(b"", {"Do": "lab", "Lab": "é", "X-Faas-Path": "/r"})[2] \
        .decode() == "é/r"


def test_an_error_in_go_is_its_failure(go):
    verb, meta, body = go.ask(b"red", {"Do": "error"})
    assert (verb, meta["kind"], body) == ("E", "crashed", b"")
    assert meta["sentence"].startswith("no such colour:")
    assert go.ask(b"x", {})[2] == b"x"


@pytest.mark.parametrize("what, sentence", [
    ("panic", "panic: assignment to entry in nil map"),
    ("index", "panic: runtime error: slice bounds out of range [100:1]"),
])
def test_a_panic_is_a_failure_and_the_worker_lives(go, what, sentence):
    verb, meta, _ = go.ask(b"x", {"Do": what})
    assert (verb, meta) == ("E", {"kind": "crashed", "sentence": sentence})
    log = go.logged()
    assert sentence in log and "fn.go:" in log
    assert go.ask(b"x", {"Do": "upper"})[2] == b"X"


def test_os_exit_ends_the_process(go):
    with pytest.raises(EOFError):
        go.ask(b"", {"Do": "exit"})
    assert go.process.wait(5) == 3


def test_what_go_starts_does_not_get_the_channel(go):
    assert " 3 -> socket" not in go.ask(b"", {"Do": "fds"})[2].decode()


def test_go_ends_with_its_channel(go):
    go.channel.shutdown(socket.SHUT_WR)
    assert go.process.wait(5) == 0


def test_a_frame_for_go_may_come_byte_by_byte(go):
    go.send_slowly(go.frame(b"slow", {}))
    assert go.hear()[3] == b"slow"


def test_a_thousand_calls_of_go_in_a_row(go):
    for n in range(1000):
        assert go.ask(b"%d" % n, {})[2] == b"%d" % n
        go.logged()


# What a raw byte in a header becomes ----------------------------------------

def test_a_raw_byte_in_a_header_survives_node(shim):
    f = shim(express("res.set('X', req.get('x')); res.send('')"))
    _, meta, _ = f.ask(b"", {"X": "a\udcff"})
    assert meta["headers"]["X"] == "a\udcff"
