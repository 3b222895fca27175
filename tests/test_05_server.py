"""Chapter 5.9: functions that are servers, and streaming through the door.

Most servers here are written in sockets, so that they can misbehave. They
share RAW; what one of them does with a request stands in its test.
"""

import base64
import collections
import contextlib
import http.client
import itertools
import json
import os
import random
import re
import shutil
import socket
import textwrap
import threading
import time
import urllib.parse

import pytest
from conftest import Server, eventually, zip_of

import faas as book
from faas import (Call, FaasError, Item, Limits, Platform, ProtocolError,
                  RequestReader, chunk_encode, free_port)

# `answer(link, head)` gives True to close the connection. `note(text)` tells
# the test something, `said(text)` waits until the test has said something.
RAW = r'''
import os, pathlib, socket, struct, sys, threading, time

OK = b"HTTP/1.1 200 OK\r\n"

def note(text):
    with open(os.environ["NOTES"] + "/heard", "a") as file:
        file.write(text + "\n")

def said(text):
    while not os.path.exists(os.environ["NOTES"] + "/" + text):
        time.sleep(0.01)

def until(link, mark):
    data = b""
    while not data.endswith(mark):
        piece = link.recv(1)
        if not piece:
            return b""
        data += piece
    return data

def field(head, name):
    for line in head.split(b"\r\n")[1:]:
        if line.lower().startswith(name + b":"):
            return line.partition(b":")[2].strip()
    return b""

def exactly(link, size):
    data = b""
    while len(data) < size:
        piece = link.recv(min(65536, size - len(data)))
        if not piece:
            raise EOFError
        data += piece
    return data

def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)

def pieces(link, head):
    if b"chunked" not in field(head, b"transfer-encoding"):
        left = int(field(head, b"content-length") or 0)
        while left:
            piece = link.recv(min(left, 65536))
            if not piece:
                raise EOFError
            left -= len(piece)
            yield piece
        return
    while size := int(until(link, b"\r\n") or b"x", 16):
        yield exactly(link, size + 2)[:-2]
    exactly(link, 2)

def reply(link, body=b"", *lines, status=b"200 OK"):
    link.sendall(b"\r\n".join([b"HTTP/1.1 " + status, *lines,
                 b"Content-Length: %d" % len(body), b"", body]))

def reset(link):
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                    struct.pack("ii", 1, 0))
    link.close()

def serve(link):
    with link:
        while head := until(link, b"\r\n\r\n"):
            if head.startswith(b"GET /health "):
                return reply(link)
            if answer(link, head):
                return

def main():
    listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])),
                                    backlog=64)
    note("pid %d" % os.getpid())
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],)).start()

if __name__ == "__main__":
    main()
'''

ECHO = '''
def answer(link, head):
    body = b"".join(pieces(link, head))
    reply(link, body, b"Framing: " + (field(head, b"transfer-encoding") or
                                      field(head, b"content-length")))
'''

names = itertools.count()


class Function:
    """A server function, and what passes between it and its test."""

    def __init__(self, faas, name, notes, url=None):
        self.faas, self.name, self.notes = faas, name, notes
        self.url = url or faas.url

    def heard(self, start=""):
        """List what it noted, of the lines that begin with `start`."""
        with contextlib.suppress(FileNotFoundError):
            return [line[len(start):] for line in
                    (self.notes / "heard").read_text().splitlines()
                    if line.startswith(start)]
        return []

    def say(self, text):
        (self.notes / text).touch()

    @property
    def pids(self):
        """The pids of its servers that live."""
        return [pid for pid in map(int, self.heard("pid "))
                if os.path.exists(f"/proc/{pid}")]

    def call(self, method="GET", path="", body=None, headers={}, timeout=30):
        return self.faas.request(method, f"/{self.name}{path}", body, headers,
                                 self.url, timeout)

    def line(self, timeout=30):
        """Open a connection to the platform."""
        address = urllib.parse.urlsplit(self.url)
        return http.client.HTTPConnection(address.hostname, address.port,
                                          timeout=timeout)

    def link(self, *lines, timeout=30):
        """Open a socket, and send the head of a request."""
        address = urllib.parse.urlsplit(self.url)
        link = socket.create_connection((address.hostname, address.port),
                                        timeout)
        first, *rest = lines
        method, _, path = first.partition(" ")
        link.sendall("\r\n".join([
            f"{method} /{self.name}{path} HTTP/1.1", "Host: localhost",
            *rest, "", ""]).encode())
        return link

    def executions(self):
        """List its executions, the newest first."""
        found = self.faas.get(f"/-/functions/{self.name}/executions?limit=99")
        return json.loads(found.body)

    def ended(self, count=1):
        """Wait for a number of executions; give how they ended."""
        eventually(lambda: len(self.executions()) >= count)
        return [execution["status"] for execution in self.executions()]


class Stack:
    """Deploys servers on one platform."""

    def __init__(self, faas, tmp_path_factory):
        self.faas, self.folders = faas, tmp_path_factory

    def deploy(self, text, name="", raw=True, files={}):
        """Give the Function, and the Answer to its upload."""
        name = name or f"s{next(names)}"
        notes = self.folders.mktemp("notes")
        text = textwrap.dedent(text)
        answer = self.faas.upload(
            name, {"main.py": text + (RAW if raw else ""),
                   "requirements.txt": "", **files}, env="server",
            envs=[f"NOTES={notes}"])
        return Function(self.faas, name, notes), answer

    def __call__(self, text, name="", raw=True, files={}):
        fn, answer = self.deploy(text, name, raw, files)
        assert answer.status == 200, answer.body
        return fn


def started(tmp_path_factory, *flags):
    faas = Server(tmp_path_factory.mktemp("server"), flags, {})
    try:
        faas.wait_until_ready()
        yield Stack(faas, tmp_path_factory)
        faas.stop()
    finally:
        faas.kill()


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """One platform for all that needs no options of its own."""
    yield from started(tmp_path_factory)


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """A platform with small limits, and two calls at a time."""
    yield from started(tmp_path_factory, "--limit", "timeout=2", "--limit",
                       "start=4", "--limit", "concurrency=2",
                       "--limit", "body=100000", "--limit", "output=200000")


@pytest.fixture
def stack_of(server, tmp_path_factory):
    """Start a platform with options: stack_of("--limit", "body=9")."""
    return lambda *flags, **rest: Stack(server(*flags, **rest),
                                        tmp_path_factory)


def read_head(link):
    """Read the head of an answer from a socket; give its status line."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = link.recv(1)
        assert piece, f"the connection ended after {data}"
        data += piece
    return data.decode("latin-1")


def read_chunk(link):
    """Read one chunk from a socket."""
    line = b""
    while not line.endswith(b"\r\n"):
        piece = link.recv(1)
        assert piece, "the connection ended before a chunk"
        line += piece
    size, data = int(line, 16) + 2, b""
    while len(data) < size:
        data += link.recv(size - len(data))
    return data[:-2]


def drained(link):
    """Read a socket to its end."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := link.recv(65536):
            data += piece
    return data


# Its start


def test_it_is_started_at_deploy_and_the_first_call_is_warm(stack):
    fn = stack(ECHO)
    assert len(fn.pids) == 1
    answer = fn.call("POST", body=b"hi")
    assert answer.body == b"hi"
    assert answer.headers["Server-Timing"].startswith("warm")
    assert len(fn.heard("pid ")) == 1


def test_a_server_that_needs_a_second_is_waited_for(stack):
    fn = stack(ECHO + "\nimport time\ntime.sleep(1)\n")
    assert fn.call("POST", body=b"hi").body == b"hi"


def test_a_server_that_resets_its_first_visitors_is_waited_for(stack):
    fn = stack(ECHO + RAW.replace("def serve(link):", """
first = []
def serve(link):
    first.append(link)
    if len(first) < 4:
        return reset(link)
    serve_well(link)

def serve_well(link):"""), raw=False)
    assert fn.call("POST", body=b"hi").body == b"hi"


def test_a_server_that_answers_its_greeting_byte_by_byte_is_one(stack):
    fn = stack(ECHO + RAW.replace("                return reply(link)", """
                for byte in b"HTTP/1.1 200 OK\\r\\n\\r\\n":
                    link.sendall(bytes([byte]))
                    time.sleep(0.005)
                return"""), raw=False)
    assert fn.call("POST", body=b"hi").body == b"hi"


def test_a_server_that_ignores_PORT_is_told_so_in_one_sentence(hasty):
    port = free_port()
    answer = hasty.deploy(f"""
        import http.server
        http.server.HTTPServer(("127.0.0.1", {port}),
            http.server.BaseHTTPRequestHandler).serve_forever()
        """, raw=False)[1]
    assert answer.status == 400
    assert (f"it listens on port {port} and not on the one that the variable "
            "PORT names").encode() in answer.body


def test_it_is_told_so_where_a_start_may_take_a_second_only(stack_of):
    port = free_port()
    answer = stack_of("--limit", "start=1").deploy(f"""
        import socket, time
        listener = socket.create_server(("127.0.0.1", {port}))
        time.sleep(99)
        """, raw=False)[1]
    assert answer.status == 400
    assert f"it listens on port {port}".encode() in answer.body


def test_a_server_that_never_listens_is_refused_after_its_start_limit(
        stack_of):
    stack = stack_of("--limit", "start=1")
    fn, answer = stack.deploy("import time\ntime.sleep(99)", raw=False)
    assert answer.status == 400
    assert b"did not listen on the port in PORT within the 1 s" in answer.body
    assert fn.call().status == 404


def test_the_last_words_of_a_server_that_exits_are_in_the_400(stack):
    fn, answer = stack.deploy("import nonsense_4711", raw=False)
    assert answer.status == 400
    assert b"the server exited with status 1" in answer.body
    assert b"No module named 'nonsense_4711'" in answer.body


def test_a_server_that_exits_well_is_refused_too(stack):
    fn, answer = stack.deploy("print('done')", raw=False)
    assert answer.status == 400
    assert b"the server exited with status 0\ndone" in answer.body


def test_a_server_that_speaks_no_http_is_told_that_it_listens(stack_of):
    stack = stack_of("--limit", "start=2")
    answer = stack.deploy("""
        import os, socket
        listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
        while True:
            link = listener.accept()[0]
            link.sendall(b"220 mail.example ESMTP\\r\\n")
            link.close()
        """, raw=False)[1]
    assert answer.status == 400
    assert b"HTTP" in answer.body and b"did not listen" not in answer.body


def test_a_server_on_the_other_loopback_is_served_or_told(stack_of):
    if not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6: load the module ipv6")
    stack = stack_of("--limit", "start=3")
    fn, answer = stack.deploy(ECHO + RAW.replace(
        '("127.0.0.1", int(os.environ["PORT"])),', '("::1", int(os.environ'
        '["PORT"])), family=socket.AF_INET6,'), raw=False)
    if answer.status == 200:
        assert fn.call("POST", body=b"hi").body == b"hi"
    else:
        assert answer.status == 400 and b"127.0.0.1" in answer.body


def platform_with(home, text, **limits):
    """Deploy a server on a Platform in this process; give both."""
    platform = Platform(str(home), limits=Limits(**limits))
    platform.deploy("f", {"main.py": Item((text + RAW).encode()),
                          "requirements.txt": Item(b"")}, "server",
                    env={"NOTES": str(home)})
    return platform


def test_no_call_goes_to_a_stranger_on_its_port(tmp_path, monkeypatch):
    stranger = socket.create_server(("127.0.0.1", 0))
    taken, asked = stranger.getsockname()[1], []

    def be_strange():
        with contextlib.suppress(OSError):
            while True:
                link = stranger.accept()[0]
                asked.append(link.recv(4096).partition(b" HTTP")[0])
                link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n"
                             b"STRANGER")
                link.close()
    thread = threading.Thread(target=be_strange)
    thread.start()
    ports = itertools.chain([taken], iter(free_port, None))
    monkeypatch.setattr(book, "free_port", lambda: next(ports))
    try:
        try:
            platform = platform_with(tmp_path, ECHO, start=5)
        except FaasError as error:      # To refuse it is right as well.
            assert error.kind == "bad_input"
        else:
            with platform:
                result = book.whole(platform.invoke(Call("f", b"secret")))
                assert result.body == b"secret", result
        assert not [line for line in asked if b"health" not in line]
    finally:
        stranger.shutdown(socket.SHUT_RDWR)
        stranger.close()
        thread.join()


# What it is asked

MIRROR = '''
def answer(link, head):
    body = b"".join(pieces(link, head))
    reply(link, head + body)
'''


@pytest.fixture(scope="module")
def mirror(stack):
    """A server that answers with the request that it was sent."""
    return stack(MIRROR)


def fields_of(answer):
    """Give the request line that a MIRROR saw, and its fields in a dict."""
    first, *lines = answer.body.partition(b"\r\n\r\n")[0].split(b"\r\n")
    fields = collections.defaultdict(list)
    for line in lines:
        name, _, value = line.decode("latin-1").partition(": ")
        fields[name.lower()].append(value)
    return first.decode(), fields


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH",
                                    "OPTIONS", "PURGE", "x!y"])
def test_every_method_reaches_it(mirror, method):
    assert fields_of(mirror.call(method, "/a"))[0] == f"{method} /a HTTP/1.1"


@pytest.mark.parametrize("sent, seen", [
    ("", "/"), ("/", "/"), ("?", "/"), ("/a/b/", "/a/b/"), ("//a", "//a"),
    ("/a?b=1&c=%20+&d", "/a?b=1&c=%20+&d"), ("?x=/?;:@!$'()*,", None),
    ("/a%20b", "/a%20b"), ("/%C3%A4", "/%C3%A4"), ("/a%25b", "/a%25b"),
    ("/a%2Fb", "/a%2Fb"), ("/a%3Fb%23c", "/a%3Fb%23c"),
    ("/a;b=1,2/c:d@e!$&'()*+~-._", None), ("/a%3Bb%2Cc%3Dd%40e%3A%26", None),
    ("/%252e%252e/x", "/%252e%252e/x")])
def test_path_and_query_reach_it_as_they_were_sent(mirror, sent, seen):
    wanted = seen if seen else (sent if sent[:1] == "/" else "/" + sent)
    assert fields_of(mirror.call("GET", sent))[0] == f"GET {wanted} HTTP/1.1"


def test_headers_reach_it_but_for_those_of_the_connection(mirror):
    with mirror.link("GET /x", "Lab: a\xe4", "Two: 1", "Two: 2",
                     "Connection: close, private", "Private: 1", "TE: gzip",
                     "Keep-Alive: 5", "Proxy-Connection: x", "Upgrade: h2c",
                     "X-Faas-Execution: forged", "Date: today") as link:
        data = drained(link)
    answer = collections.namedtuple("Answer", "body")(
        data.partition(b"\r\n\r\n")[2])
    fields = fields_of(answer)[1]
    assert fields["lab"] == ["a\xc3\xa4"]       # UTF-8, seen as Latin-1
    assert fields["two"] == ["1, 2"]
    assert fields["host"] == ["localhost"]
    for name in ("private te keep-alive proxy-connection upgrade "
                 "transfer-encoding").split():
        assert name not in fields, name
    assert b"forged" not in data


def test_it_learns_the_execution_that_the_client_learns(mirror):
    answer = mirror.call()
    assert fields_of(answer)[1]["x-faas-execution"] == [
        answer.headers["X-Execution-Id"]]


def test_a_get_without_a_body_has_no_framing(mirror):
    fields = fields_of(mirror.call())[1]
    assert not {"content-length", "transfer-encoding"} & set(fields)


def test_invoke_tells_it_who_asked_and_for_which_host(mirror):
    answer = mirror.faas.get(f"/invoke/{mirror.name}?q=1", headers={
        "Host": "fn.localhost:8080", "X-Forwarded-For": "6.6.6.6"})
    first, fields = fields_of(answer)
    assert first == "GET /?q=1 HTTP/1.1"
    assert fields["x-forwarded-for"][0].endswith("127.0.0.1")
    assert fields["x-forwarded-host"] == ["fn.localhost:8080"]
    assert fields["x-forwarded-proto"] == ["http"]
    assert fields["host"] == ["fn.localhost:8080"]


# What it answers


def test_status_and_headers_come_through(stack):
    fn = stack(r'''
def answer(link, head):
    link.sendall(b"HTTP/1.1 418 Short and stout\r\nset-cookie: a=1\r\n"
        b"Set-Cookie: b=2; Path=/\r\nServer: mine\r\nLab: \xe4\xf6\r\n"
        b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nKeep-Alive: timeout=5\r\n"
        b"Connection: private\r\nPrivate: 1\r\n"
        b"Folded: a\r\n\t b\r\nX-Execution-Id: forged\r\n"
        b"Proxy-Authenticate: Basic\r\nTrailer: x\r\nEmpty:\r\n"
        b"Content-Length: 3\r\n\r\nhi\n")
''')
    answer = fn.call()
    assert answer.status == 418 and answer.body == b"hi\n"
    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2; Path=/"]
    assert answer.headers["Server"] == "mine"
    assert answer.headers["Lab"] == "\xe4\xf6"
    assert answer.headers["Empty"] == ""
    assert answer.headers.get_all("Date") != ["Thu, 01 Jan 1970 00:00:00 GMT"]
    assert len(answer.headers.get_all("Date")) == 1
    assert answer.headers.get_all("Content-Length") == ["3"]
    assert answer.headers["X-Execution-Id"] != "forged"
    for name in ("Keep-Alive", "Proxy-Authenticate", "Trailer", "Private",
                 "Content-Type"):
        assert name not in answer.headers, name
    assert "\n" not in (answer.headers["Folded"] or "")


@pytest.mark.parametrize("status", [200, 201, 206, 301, 404, 500, 503, 599])
def test_every_status_comes_through_with_its_body(stack, mirror, status):
    fn = status_server(stack)
    answer = fn.call(path=f"/{status}")
    assert answer.status == status and answer.body == b"hi"


STATUS = r'''
def answer(link, head):
    status = head.split()[1][1:]
    reply(link, b"" if status in (b"204", b"304") else b"hi",
          b"ETag: 4711", status=status + b" Word")
'''


def status_server(stack, made={}):
    if stack not in made:
        made[stack] = stack(STATUS)
    return made[stack]


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body_leave_the_connection_good(stack, status):
    fn, line = status_server(stack), None
    line = fn.line()
    for wanted in status, 200, status, 201:
        line.request("GET", f"/{fn.name}/{wanted}")
        answer = line.getresponse()
        body = answer.read()
        assert answer.status == wanted and answer.headers["ETag"] == "4711"
        assert body == (b"" if wanted in (204, 304) else b"hi")
    line.close()


@pytest.mark.parametrize("framing", ["Content-Length: 70000",
                                     "Transfer-Encoding: chunked",
                                     "Content-Length: 5", "Lab: none"])
def test_head_gets_the_headers_and_no_body(stack, framing):
    fn = stack(f'''
def answer(link, head):
    note(head.split()[0].decode())
    link.sendall(OK + b"{framing}\\r\\nETag: 1\\r\\n\\r\\n")
    return {"chunked" in framing or "none" in framing}
''')
    line = fn.line()
    for _ in range(3):
        line.request("HEAD", f"/{fn.name}/")
        answer = line.getresponse()
        assert answer.status == 200 and answer.headers["ETag"] == "1"
        assert answer.read() == b""
        # RFC 9110, 8.6: no length is better than a wrong one.
        name, _, value = framing.partition(": ")
        assert answer.headers["Content-Length"] == (
            value if name == "Content-Length" else None)
    line.close()
    assert fn.heard()[-3:] == ["HEAD"] * 3


@pytest.mark.parametrize("interim", [
    "100 Continue", "102 Processing", "103 Early Hints"])
def test_answers_before_the_answer_are_passed_over(stack, interim):
    fn = stack(rf'''
def answer(link, head):
    link.sendall(b"HTTP/1.1 {interim}\r\nLink: </style.css>\r\n\r\n")
    time.sleep(0.05)
    reply(link, head.split()[1])
''')
    for path in "/a", "/b", "/c":
        answer = fn.call(path=path)
        assert (answer.status, answer.body) == (200, path.encode())


@pytest.mark.parametrize("status", ["999 Strange", "600 No", "101 Switching"])
@pytest.mark.parametrize("framing", ["Content-Length: 3\\r\\n\\r\\nabc",
                                     "Transfer-Encoding: chunked\\r\\n\\r\\n"
                                     "3\\r\\nabc\\r\\n0\\r\\n\\r\\n"])
def test_a_status_that_is_none_is_a_crash_and_takes_no_place_for_ever(
        hasty, status, framing):
    fn = hasty(rf'''
def answer(link, head):
    if head.startswith(b"GET /good"):
        return reply(link, b"good")
    link.sendall(b"HTTP/1.1 {status}\r\n{framing}")
    return True
''')
    for _ in range(4):                  # Two calls may run at a time.
        assert fn.call(path="/bad").status == 502
    assert fn.call(path="/good").body == b"good"


@pytest.mark.parametrize("head, body", [
    ("Content-Length: 5\\r\\nTransfer-Encoding: chunked",
     "a\\r\\n0123456789\\r\\n0\\r\\n\\r\\n"),
    ("Content-Length: +4", "abcd"), ("Content-Length: 4, 4", "abcd"),
    ("Content-Length: 4\\r\\nContent-Length: 9", "abcd"),
    ("Content-Length: -1", "abcd"), ("Content-Length: 0_4", "abcd"),
    ("Content-Length: 4", "abcd and more")])
def test_no_spelling_of_a_length_deceives_the_client(stack, head, body):
    # What is long is streamed: so these are long.
    body = body.replace("abcd", "abcd" * 20000).replace(
        "a\\r\\n0123456789", f"{100000:x}\\r\\n" + "0123456789" * 10000)
    head = head.replace("4", "80000")
    fn = stack(rf'''
def answer(link, head):
    link.sendall(OK + b"{head}\r\n\r\n{body}")
    return True
''')
    with fn.link("GET /", "Connection: close") as link:
        first = read_head(link)
        body = drained(link)
    fields = dict(line.lower().split(": ", 1)
                  for line in first.split("\r\n")[1:-2])
    if first.split()[1] == "502":
        return
    if "content-length" in fields:
        assert re.fullmatch("[0-9]+", fields["content-length"])
        assert len(body) == int(fields["content-length"])
        assert "transfer-encoding" not in fields
    else:
        assert fields["transfer-encoding"] == "chunked"


@pytest.mark.parametrize("garbage", [
    "no http at all\\r\\n\\r\\n", "HTTP/9.9 200 OK\\r\\n\\r\\n", "",
    "HTTP/1.1 abc\\r\\n\\r\\n",
    "HTTP/1.1 200 OK\\r\\n" + "X: y\\r\\n" * 300 + "\\r\\n",
    "HTTP/1.1 200 OK\\r\\nContent-Length: 10\\r\\n\\r\\nabc",
    "HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\nzz\\r\\n"])
def test_garbage_is_a_502_and_the_next_call_is_well(stack, garbage):
    fn = stack(rf'''
def answer(link, head):
    if head.startswith(b"GET /good"):
        return reply(link, b"good")
    link.sendall(b"{garbage}")
    return True
''')
    line = fn.line()
    for _ in range(3):
        line.request("GET", f"/{fn.name}/bad")
        try:
            answer = line.getresponse()
            body = answer.read()
            assert answer.status == 502, (answer.status, body)
        except http.client.IncompleteRead:
            pass                        # Its head was good, and gone.
        line.close()
        assert fn.call(path="/good").body == b"good"
    assert set(fn.ended(6)) == {"crashed", "ok"}


# Bodies, up and down

SIZES = (0, 1, 65535, 65536, 1 << 20)


def random_bytes(size):
    return random.Random(size).randbytes(size)


@pytest.fixture(scope="module")
def echo(stack):
    """A server that answers with the body that it was sent."""
    return stack(ECHO)


def chunks_of(body, size=50000):
    return [body[at:at + size] for at in range(0, len(body), size)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("plane", ["url", "data_url"])
def test_a_body_goes_up_and_down_whole(echo, size, framing, plane):
    body, address = random_bytes(size), getattr(echo.faas, plane)
    fn = Function(echo.faas, echo.name, echo.notes, address)
    line = fn.line()
    for _ in range(2):                  # on one connection
        line.request("POST", f"/{fn.name}", body if framing == "length" else
                     iter(chunks_of(body)), encode_chunked=framing !=
                     "length", headers={} if framing == "length" else
                     {"Transfer-Encoding": "chunked"})
        answer = line.getresponse()
        assert answer.read() == body and answer.status == 200
        assert answer.headers["Framing"] == (
            framing if framing == "chunked" else str(size))
    line.close()


@pytest.mark.parametrize("size, status", [(100000, 200), (100001, 413)])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_over_its_limit_is_a_413(hasty, size, status, framing):
    fn = hasty(ECHO)
    body = random_bytes(size)
    answer = fn.call("POST", body=body if framing == "length" else
                     iter(chunks_of(body)))
    assert answer.status == status
    assert fn.call("POST", body=b"well").body == b"well"


def test_a_body_as_large_as_the_limit_comes_back(echo):
    body = random_bytes(6 << 20)
    assert echo.call("POST", body=body).body == body


def test_a_body_is_asked_for_when_the_client_waits_for_that(echo):
    with echo.link("POST /", "Content-Length: 5", "Expect: 100-continue",
                   "Connection: close") as link:
        assert read_head(link).startswith("HTTP/1.1 100 Continue\r\n")
        link.sendall(b"hello")
        assert read_head(link).startswith("HTTP/1.1 200 ")
        assert link.recv(9) == b"hello"


UP = '''
def answer(link, head):
    try:
        for piece in pieces(link, head):
            note("got %d" % len(piece))
    except (EOFError, OSError, ValueError):
        note("broken")
        return True
    reply(link, b"all")
'''


@pytest.mark.parametrize("framing", ["Content-Length: 10",
                                     "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("plane", ["url", "data_url"])
def test_it_reads_the_first_piece_before_the_last_was_sent(stack, framing,
                                                           plane):
    fn = stack(UP)
    fn.url = getattr(fn.faas, plane)
    first, last = ((b"5\r\nhello\r\n", b"5\r\nworld\r\n0\r\n\r\n")
                   if "chunked" in framing else (b"hello", b"world"))
    with fn.link("POST /", framing) as link:
        link.sendall(first)
        eventually(lambda: fn.heard("got ") == ["5"])
        link.sendall(last)
        assert read_head(link).startswith("HTTP/1.1 200 ")
    assert fn.heard("got ") == ["5", "5"]


def test_a_streamed_body_may_wait_in_a_queue_and_come_slowly():
    reader = RequestReader(lambda request: 100, 0.0, lambda request: True)
    (request,) = reader.receive(b"POST /f HTTP/1.1\r\nHost: a\r\n"
                                b"Content-Length: 9\r\n\r\n", 0.0)
    assert request.more
    for now in 60.0, 120.0, 180.0:      # slower than 1024 bytes a second
        assert reader.receive(b"a", now) == [b"a"]
    with pytest.raises(ProtocolError):
        reader.check(300.0)


def test_the_journal_knows_how_large_a_streamed_body_was(stack):
    fn = stack(UP)
    fn.call("POST", body=iter([b"hello", b"world"]))
    fn.ended()
    assert fn.executions()[0]["bytes_in"] == 10


DOWN = r'''
def answer(link, head):
    link.sendall(OK + b"Content-Type: text/event-stream\r\n%b\r\n")
    link.sendall(%r)
    said("go on")
    link.sendall(%r)
    return True
'''


def streams(fields, first, last):
    """Make a server that waits for "go on" between two pieces."""
    return (DOWN.replace("%b", fields).replace("%r", repr(first), 1)
            .replace("%r", repr(last), 1))


@pytest.mark.parametrize("fields, first, last", [
    (b"Transfer-Encoding: chunked\\r\\n", b"9\r\ndata: 1\n\n\r\n",
     b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"),
    (b"", b"data: 1\n\n", b"data: 2\n\n"),
    (b"Content-Length: 100000\\r\\n", b"data: 1\n\n",
     b"data: 2\n\n" + b"x" * (100000 - 18))])
@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize("plane", ["url", "data_url"])
def test_the_client_reads_the_first_piece_before_the_last_was_written(
        stack, fields, first, last, minor, plane):
    fn = stack(streams(fields.decode(), first, last))
    fn.url = getattr(fn.faas, plane)
    address = urllib.parse.urlsplit(fn.url)
    with socket.create_connection((address.hostname, address.port),
                                  30) as link:
        link.sendall(f"GET /{fn.name} HTTP/1.{minor}\r\nHost: localhost\r\n"
                     "Connection: close\r\n\r\n".encode())
        head = read_head(link)
        seen = b""
        while b"data: 1" not in seen:
            seen += link.recv(100)
        assert b"data: 2" not in seen and not fn.executions()
        fn.say("go on")
        seen += drained(link)
        assert b"data: 2" in seen
        assert ("chunked" in head) == (minor == 1 and b"Length" not in fields)
        assert seen.endswith(b"0\r\n\r\n") == ("chunked" in head)
    assert fn.ended() == ["ok"]


DUPLEX = r'''
def answer(link, head):
    link.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    for piece in pieces(link, head):
        link.sendall(chunk(piece.upper()))
    link.sendall(chunk(b""))
'''


def test_both_directions_flow_at_the_same_time(stack):
    fn = stack(DUPLEX)
    with fn.link("POST /", "Transfer-Encoding: chunked") as link:
        for count in range(30):
            link.sendall(chunk_encode(b"call %d" % count))
            if not count:
                assert "chunked" in read_head(link)
            assert read_chunk(link) == b"CALL %d" % count
        link.sendall(chunk_encode(b""))
        assert read_chunk(link) == b""
    assert fn.ended() == ["ok"]


def test_a_megabyte_flows_both_ways_at_the_same_time(stack):
    fn, body = stack(DUPLEX), random_bytes(1 << 20)
    assert fn.call("POST", body=iter(chunks_of(body))).body == body.upper()


def test_a_chunked_body_reaches_the_other_kinds_whole(stack):
    name, body = f"py{next(names)}", random_bytes(1 << 19).hex().encode()
    assert stack.faas.upload(name, {
        "fn.py": "def fn(input): return input[::-1]"}).status == 200
    for url in stack.faas.url, stack.faas.data_url:
        answer = stack.faas.post(f"/{name}", iter(chunks_of(body)), url=url)
        assert answer.body == body[::-1]


def test_a_background_call_has_its_body_whole(stack):
    fn = stack(UP)
    body = random_bytes(1 << 20)
    answer = fn.call("POST", body=iter(chunks_of(body)),
                     headers={"X-tinyFaaS-Async": "1"})
    assert answer.status == 202
    fn.ended()
    assert sum(map(int, fn.heard("got "))) == len(body)


def test_a_streamed_answer_is_whole_through_every_face(stack):
    fn = stack(r'''
def answer(link, head):
    link.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(100):
        link.sendall(chunk(b"0123456789" * 100))
    link.sendall(chunk(b""))
''')
    wanted = b"0123456789" * 10000
    for path in f"/{fn.name}", f"/invoke/{fn.name}", f"/fn/{fn.name}":
        assert stack.faas.get(path).body == wanted, path
    answer = stack.faas.post(f"/functions/{fn.name}", b"{}")
    assert json.loads(answer.body) == {"response": wanted.decode()}
    assert set(fn.ended(4)) == {"ok"}
    assert {one["bytes_out"] for one in fn.executions()} == {len(wanted)}


def test_requests_sent_in_one_piece_are_answered_in_their_order(mirror):
    link = mirror.link("POST /1", "Transfer-Encoding: chunked")
    more = "\r\n".join([f"GET /{mirror.name}/2 HTTP/1.1", "Host: a", "",
                        f"POST /{mirror.name}/3 HTTP/1.1", "Host: a",
                        "Content-Length: 3", "Connection: close", "", "end"])
    with link:
        link.sendall(chunk_encode(b"one") + chunk_encode(b"") + more.encode())
        data = drained(link)
    assert re.findall(rb"(?m)^(?:GET|POST) (/\d)", data) == [
        b"/1", b"/2", b"/3"]
    assert data.count(b"HTTP/1.1 200 OK") == 3 and data.endswith(b"end")


# Who leaves early


def takes_calls(fn, path="/good", body=b"good"):
    """Tell that no place was lost: of two, both are there."""
    return all(fn.call(path=path).body == body for _ in range(4))


GOOD = '''
    if head.startswith(b"GET /good"):
        return reply(link, b"good")
'''


@pytest.mark.parametrize("framing, piece", [
    ("Content-Length: 1000", b"hello"),
    ("Transfer-Encoding: chunked", b"5\r\nhello\r\n")])
@pytest.mark.parametrize("plane", ["url", "data_url"])
def test_a_client_that_leaves_in_the_middle_of_its_body(hasty, framing,
                                                        piece, plane):
    fn = hasty(UP.replace("    try:", GOOD + "    try:", 1))
    fn.url = getattr(fn.faas, plane)
    for count in range(1, 4):           # more than may run at a time
        with fn.link("POST /", framing) as link:
            link.sendall(piece)
            eventually(lambda: len(fn.heard("got ")) == count)
        eventually(lambda: len(fn.heard("broken")) == count)
    assert fn.ended(3) == ["bad_input"] * 3
    assert takes_calls(fn)
    assert len(fn.executions()) == 7
    assert "Traceback" not in fn.faas.output


@pytest.mark.parametrize("garbage, status", [
    (b"zz\r\n", 400), (b"5\r\nhello world\r\n", 400),
    (b"%x\r\n" % 200000 + bytes(200002) + b"0\r\n\r\n", 413)])
def test_a_bad_chunk_in_the_middle_is_told_and_ends_the_call(hasty, garbage,
                                                             status):
    fn = hasty(UP.replace("    try:", GOOD + "    try:", 1))
    for count in range(1, 4):
        with fn.link("POST /", "Transfer-Encoding: chunked") as link:
            link.sendall(chunk_encode(b"hello"))
            eventually(lambda: len(fn.heard("got ")) >= count)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                link.sendall(garbage)
            assert read_head(link).startswith(f"HTTP/1.1 {status} ")
        eventually(lambda: len(fn.heard("broken")) == count)
    assert set(fn.ended(3)) == {"bad_input" if status == 400 else "too_large"}
    assert takes_calls(fn)
    assert "Traceback" not in fn.faas.output


ENDLESS = r'''
def answer(link, head):
    %s
    link.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    try:
        while True:
            link.sendall(chunk(b"tick" * 10))
            time.sleep(0.01)
    except OSError:
        note("gone")
    return True
''' % GOOD.strip()


def test_a_client_that_leaves_in_the_middle_of_an_answer(hasty):
    fn = hasty(ENDLESS)
    for count in range(1, 4):
        with fn.link("GET /") as link:
            read_head(link)
            read_chunk(link)
        eventually(lambda: len(fn.heard("gone")) == count)
    assert len(fn.ended(3)) == 3
    assert takes_calls(fn)
    assert len(fn.executions()) == 7


def test_a_client_that_leaves_before_the_answer(hasty):
    fn = hasty(r'''
def answer(link, head):
    if head.startswith(b"GET /good"):
        return reply(link, b"good")
    note("asked")
    said("left")
    link.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    link.sendall(chunk(bytes(100000)) + chunk(b""))
''')
    links = []
    for count in range(1, 3):
        link = fn.link("GET /")
        eventually(lambda: len(fn.heard("asked")) == count)
        links.append(link)
    for link in links:                  # with a reset, so that it shows
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                        b"\1\0\0\0\0\0\0\0")
        link.close()
    fn.say("left")
    assert len(fn.ended(2)) == 2
    assert takes_calls(fn)


def test_a_server_that_answers_early_need_not_read_the_body(hasty):
    fn = hasty(r'''
def answer(link, head):
    if head.startswith(b"GET /good"):
        return reply(link, b"good")
    reply(link, b"no, thank you", status=b"403 Forbidden")
    said("never")
''')
    for length in 9, 60000:
        with fn.link("POST /", f"Content-Length: {length}") as link:
            head = read_head(link)
            assert head.startswith("HTTP/1.1 403 ")
            # The rest of the body is not read, so this was all.
            assert "Connection: close" in head
            assert link.recv(99) == b"no, thank you"
    assert fn.ended(2) == ["ok", "ok"]
    assert takes_calls(fn)
    assert "Traceback" not in fn.faas.output


def test_no_connection_is_counted_after_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(book, "LINGER", 1.0)
    with platform_with(tmp_path, r'''
def answer(link, head):
    reply(link, b"early")
    said("never")
''') as platform:
        http = book.HttpServer("127.0.0.1", 0)
        http.start(book.Door(platform, book.CALL_ROUTES),
                   lambda request: 1 << 20)
        try:
            with socket.create_connection(("127.0.0.1", http.port)) as link:
                link.sendall(b"POST /f HTTP/1.1\r\nHost: a\r\n"
                             b"Content-Length: 99\r\n\r\n")
                assert read_head(link).startswith("HTTP/1.1 200")
                # It does not send the rest, and does not close.
                eventually(lambda: not http.connections, 60)
            threads = threading.active_count()
            eventually(lambda: not http.connections)
            assert threading.active_count() <= threads
        finally:
            http.stop()


def test_nothing_is_left_open_by_calls_of_every_kind(hasty):
    fn = hasty(r'''
def answer(link, head):
    where = head.split()[1]
    if where == b"/good":
        return reply(link, b"good")
    if where == b"/early":
        reply(link, b"early")
    elif where == b"/stream":
        link.sendall(OK + b"\r\n" + bytes(100000))
    elif where == b"/broken":
        link.sendall(OK + b"Content-Length: 100000\r\n\r\nabc")
    return True
''')

    def opened():
        pid = fn.faas.pid
        return (len(os.listdir(f"/proc/{pid}/fd")),
                len(os.listdir(f"/proc/{pid}/task")))

    def all_kinds():
        for path in "/good", "/early", "/stream", "/broken", "/nothing":
            with contextlib.suppress(http.client.HTTPException, OSError):
                fn.call("POST", path, iter([b"hello", b"world"]))
            with fn.link(f"POST {path}", "Content-Length: 9"):
                pass                    # and gone
        eventually(lambda: takes_calls(fn))
    all_kinds()
    before = opened()
    for _ in range(5):
        all_kinds()
    # Some of the last ones may be on their way out: LINGER is 10 s.
    eventually(lambda: all(now <= then + 1 for now, then in
                           zip(opened(), before)), 30)


def test_what_it_leaves_unread_is_nobodys_request(stack):
    fn = stack(r'''
def answer(link, head):
    if head.startswith(b"GET /secret"):
        time.sleep(0.3)
        return reply(link, b"secret")
    reply(link, head.split()[1])        # and its body stays where it is
''')
    smuggled = b"GET /secret HTTP/1.1\r\nHost: localhost\r\n\r\n"
    line = fn.line()
    for count in range(5):
        line.request("POST", f"/{fn.name}/a", smuggled)
        assert line.getresponse().read() == b"/a"
        assert fn.call(path=f"/b{count}").body == b"/b%d" % count
    line.close()


def test_what_it_says_too_much_is_nobodys_answer(stack):
    fn = stack(r'''
def answer(link, head):
    reply(link, head.split()[1])
    time.sleep(0.02)
    reply(link, b"nobody asked")
''')
    for count in range(20):
        assert fn.call(path=f"/{count}").body == b"/%d" % count


# How it ends


def test_an_answer_over_the_limit_is_a_413_where_its_length_is_known(hasty):
    fn = hasty(r'''
def answer(link, head):
    if head.startswith(b"GET /good"):
        return reply(link, bytes(200000))
    reply(link, bytes(200001))
''')
    assert fn.call(path="/good").body == bytes(200000)
    answer = fn.call()
    assert answer.status == 413
    assert b"more than its 200000 bytes" in answer.body
    assert fn.call(path="/good").status == 200


def test_an_answer_without_end_is_broken_off_at_the_limit(hasty):
    fn = hasty(ENDLESS.replace('b"tick" * 10', "bytes(10000)"))
    for _ in range(3):
        with pytest.raises(http.client.IncompleteRead) as broken:
            fn.call()
        assert len(broken.value.partial) <= 200000
    assert fn.ended(3) == ["too_large"] * 3
    assert takes_calls(fn)
    eventually(lambda: len(fn.heard("gone")) == 3)


DRIP = r'''
def answer(link, head):
    %s
    where = head.split()[1]
    for part, drip in [
        (b"HTTP/1.1 200 OK\r\n", b"/head"),
        (b"Transfer-Encoding: chunked\r\n\r\n" if where == b"/size" else
         b"\r\n", b""), (b"", b"/body"), (b"", b"/size")]:
        link.sendall(part)
        while drip == where:
            link.sendall(b"0")
            time.sleep(0.2)
''' % GOOD.strip()


def test_a_server_that_drips_is_ended_by_its_timeout(hasty):
    with contextlib.ExitStack() as links:       # all at once: each takes 2 s
        asked = []
        for where in "/head", "/body", "/size":
            fn = hasty(DRIP)
            asked.append((fn, links.enter_context(
                fn.link("GET " + where, "Connection: close"))))
        for fn, link in asked:
            assert fn.ended() == ["timeout"]    # though it is never silent
            drained(link)
            assert takes_calls(fn)


def test_who_hangs_in_one_call_goes_on_with_the_others(hasty):
    fn = hasty(r'''
def answer(link, head):
    if head.startswith(b"GET /hang"):
        note("hangs")
        said("never")
    reply(link, b"good")
''')
    link = fn.link("GET /hang")
    eventually(lambda: fn.heard("hangs"))
    assert takes_calls(fn)
    assert read_head(link).startswith("HTTP/1.1 504 ")
    link.close()
    assert takes_calls(fn)
    assert len(fn.heard("pid ")) == 1


SINGLE = RAW.replace("threading.Thread(target=serve, args=("
                     "listener.accept()[0],)).start()",
                     "serve(listener.accept()[0])")


def test_who_hangs_in_all_calls_is_ended_and_started_again(hasty):
    fn = hasty(r'''
def answer(link, head):
    if head.startswith(b"GET /hang"):
        said("never")
    reply(link, b"good")
    return True
''' + SINGLE, raw=False)
    assert fn.call(path="/hang").status == 504
    assert fn.call(path="/good").body == b"good"
    assert len(fn.heard("pid ")) == 2
    eventually(lambda: len(fn.pids) == 1)


def test_an_impatient_caller_does_not_end_a_busy_server(stack):
    fn = stack(r'''
def answer(link, head):
    if head.startswith(b"GET /slow"):
        note("slow")
        said("go on")
    reply(link, b"good")
    return True
''' + SINGLE, raw=False)
    link = fn.link("GET /slow")
    eventually(lambda: fn.heard("slow"))
    answer = fn.call(path="/", headers={"X-Timeout": "100ms"})
    assert answer.status == 504
    fn.say("go on")
    assert read_head(link).startswith("HTTP/1.1 200 ")
    link.close()
    assert len(fn.heard("pid ")) == 1


def test_a_server_for_one_connection_at_a_time_serves_all(hasty):
    fn = hasty(r'''
def answer(link, head):
    time.sleep(0.05)
    reply(link, b"good")            # and waits for more, as HTTP/1.1 may
''' + SINGLE, raw=False)
    with crowd(fn, 2, 5) as answers:
        pass
    assert set(answers) == {(200, b"good")} and len(answers) == 10


@contextlib.contextmanager
def crowd(fn, clients, calls, path="/good"):
    """Let clients call at the same time; give the list of their answers."""
    answers, until = [], threading.Event()

    def client():
        for _ in range(calls):
            if calls > 1000 and until.is_set():
                return
            try:
                answers.append(fn.call(path=path, timeout=60)[::2])
            except (OSError, http.client.HTTPException) as error:
                answers.append((0, repr(error)))
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    yield answers
    until.set()
    for thread in threads:
        thread.join()


def test_more_callers_than_places_wait_for_one(hasty):
    fn = hasty(r'''
inside = []
def answer(link, head):
    inside.append(1)
    note("inside %d" % len(inside))
    time.sleep(0.02)
    inside.pop()
    reply(link, b"good")
''')
    with crowd(fn, 16, 3) as answers:
        pass
    assert set(answers) == {(200, b"good")} and len(answers) == 48
    assert set(fn.heard("inside ")) <= {"1", "2"}
    assert len(fn.heard("pid ")) == 1


def test_who_finds_no_place_hears_so_before_the_body_is_sent(stack_of):
    stack = stack_of("--limit", "concurrency=1", "--limit", "queue=0")
    fn = stack(r'''
def answer(link, head):
    if head.startswith(b"GET /slow"):
        note("slow")
        said("go on")
    reply(link, b"good")
''')
    with fn.link("GET /slow") as slow:
        eventually(lambda: fn.heard("slow"))
        with fn.link("POST /", "Content-Length: 99") as link:
            head = read_head(link)
            assert head.startswith("HTTP/1.1 429 ")
            assert "Connection: close" in head
        fn.say("go on")
        assert read_head(slow).startswith("HTTP/1.1 200 ")
    assert fn.call().body == b"good"


def test_a_server_that_ended_between_calls_is_started_again(stack):
    fn = stack(r'''
def answer(link, head):
    reply(link, b"good")
''')
    assert takes_calls(fn)
    for count in 2, 3, 4:
        (pid,) = fn.pids
        os.kill(pid, 9)
        eventually(lambda: not fn.pids)
        answer = fn.call(path="/good")
        assert (answer.status, answer.body) == (200, b"good")
        assert len(fn.heard("pid ")) == count
    assert fn.ended(7) == ["ok"] * 7


def test_a_crash_fails_all_calls_of_the_moment_with_its_reason(stack):
    fn = stack(r'''
calls = []
def answer(link, head):
    if head.startswith(b"GET /good"):
        return reply(link, b"good")
    calls.append(1)
    if len(calls) == 3:
        os._exit(7)
    said("never")
''')
    with crowd(fn, 3, 1, path="/") as answers:
        pass
    assert answers == [(502, b"the server exited with status 7\n")] * 3
    assert fn.call(path="/good").body == b"good"
    assert len(fn.heard("pid ")) == 2


def test_a_server_that_closes_idle_connections_fails_no_call(stack):
    fn = stack(r'''
def answer(link, head):
    reply(link, b"good")
    link.settimeout(0.002)
''' + RAW.replace("    with link:", "    with link, impatient():").replace(
        "def serve(", '''
import contextlib
def impatient():
    return contextlib.suppress(TimeoutError)

def serve('''), raw=False)
    pause = random.Random(4711)
    for _ in range(500):
        answer = fn.call(path="/good")
        assert (answer.status, answer.body) == (200, b"good")
        time.sleep(pause.random() * 0.004)      # around its patience


def test_ten_redeploys_under_load_fail_no_call(stack):
    text = r'''
def answer(link, head):
    time.sleep(0.005)
    reply(link, b"version %d")
'''
    name = f"s{next(names)}"
    fn = stack(text % 0, name)
    fns = [fn]
    with crowd(fn, 8, 100000) as answers:
        for count in range(1, 11):
            fns.append(stack(text % count, name))
            eventually(lambda: (200, b"version %d" % count) in answers[-50:])
    assert {status for status, _ in answers} == {200}, [
        answer for answer in answers if answer[0] != 200]
    eventually(lambda: sum(len(one.pids) for one in fns) == 1)
    assert len(fns[-1].pids) == 1


def test_rollback_brings_back_the_old_server_and_delete_ends_it(stack):
    name = f"s{next(names)}"
    one = stack(ECHO.replace("body,", "b'one',"), name)
    two = stack(ECHO.replace("body,", "b'two',"), name)
    assert two.call().body == b"two"
    eventually(lambda: not one.pids)
    answer = stack.faas.post(f"/-/functions/{name}/rollback",
                             json.dumps({"version": 1}))
    assert answer.status == 200, answer.body
    assert one.call().body == b"one"
    # It has the variables of today, so it notes beside the second.
    eventually(lambda: len(one.pids) + len(two.pids) == 1)
    assert stack.faas.post("/delete", json.dumps({"name": name})
                           ).status == 200
    assert one.call().status == 404
    eventually(lambda: not one.pids + two.pids)


def test_an_upload_that_does_not_start_leaves_the_old_server(stack):
    name = f"s{next(names)}"
    fn = stack(ECHO, name)
    assert stack.deploy("import nonsense", name, raw=False)[1].status == 400
    assert fn.call("POST", body=b"hi").body == b"hi"
    assert len(fn.heard("pid ")) == 1


def test_a_server_that_nobody_asks_ends_and_the_next_call_starts_it(
        stack_of):
    fn = stack_of("--idle", "1")(ECHO)
    eventually(lambda: not fn.pids, 30)
    answer = fn.call("POST", body=b"hi")
    assert answer.body == b"hi"
    assert answer.headers["Server-Timing"].startswith("cold")
    assert len(fn.heard("pid ")) == 2


def test_a_stream_under_way_is_not_idle(stack_of):
    fn = stack_of("--idle", "0.5")(ENDLESS.replace(
        "while True:", "for _ in range(150):").replace(
        "    except OSError", "        link.sendall(chunk(b''))\n"
        "    except OSError"))
    assert len(fn.call().body) == 150 * 40
    assert fn.ended() == ["ok"]


def test_a_stop_waits_for_a_stream_and_leaves_nothing(stack_of):
    fn = stack_of()(streams("Transfer-Encoding: chunked\\r\\n",
                            chunk_encode(b"one"),
                            chunk_encode(b"two") + chunk_encode(b"")))
    with fn.link("GET /") as link:
        read_head(link)
        assert read_chunk(link) == b"one"
        stop = threading.Thread(target=fn.faas.stop)
        stop.start()
        fn.say("go on")
        assert read_chunk(link) == b"two"
        assert read_chunk(link) == b""
        stop.join()
    eventually(lambda: not fn.pids)
    assert "Traceback" not in fn.faas.output


def test_a_stop_does_not_wait_for_ever_for_a_stream(stack_of):
    fn = stack_of(changes=["faas.DRAIN = 1.0"])(ENDLESS)
    with fn.link("GET /", timeout=60) as link:
        read_head(link)
        fn.faas.stop()                  # It must end well, within 20 s.
        drained(link)
    eventually(lambda: not fn.pids)
    assert "Traceback" not in fn.faas.output


def test_a_killed_platform_leaves_no_server(stack_of):
    fn = stack_of()(ECHO)
    assert len(fn.pids) == 1
    fn.faas.kill()
    eventually(lambda: not fn.pids)


def test_a_server_and_what_it_started_end_together(stack_of):
    fn = stack_of()(ECHO + '''
import subprocess
child = subprocess.Popen(["sleep", "4711"], start_new_session=True)
with open(__import__("os").environ["NOTES"] + "/heard", "a") as file:
    file.write("pid %d\\n" % child.pid)
''')
    assert len(fn.pids) == 2
    assert fn.faas.post("/delete", json.dumps({"name": fn.name})
                        ).status == 200
    eventually(lambda: not fn.pids)


# The variety of servers

PYTHON = '''
import http.server, os, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.%d"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"good")
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.upper())
        print("a line for the log", flush=True)

http.server.%s(("", int(os.environ["PORT"])), Handler).serve_forever()
'''


@pytest.mark.parametrize("kind", ["HTTPServer", "ThreadingHTTPServer"])
@pytest.mark.parametrize("minor", [0, 1])
def test_pythons_own_server(stack, minor, kind):
    fn = stack(PYTHON % (minor, kind), raw=False)
    for size in 0, 1, 70000, 1 << 20:
        body = b"a" * size
        answer = fn.call("POST", body=body)
        assert (answer.status, answer.body) == (201, body.upper())
    assert fn.call("PUT", body=b"hi").status == 501     # It reads no body.
    with crowd(fn, 8, 10) as answers:
        pass
    assert set(answers) == {(200, b"good")} and len(answers) == 80
    log = stack.faas.get(f"/logs/{fn.name}").body
    assert b"a line for the log" in log


NODE = '''
const http = require("http");
http.createServer((req, res) => {
  if (req.url === "/good") return res.end("good");
  res.setHeader("Set-Cookie", ["a=1", "b=2"]);
  req.on("data", (piece) => res.write(piece.toString().toUpperCase()));
  req.on("end", () => res.end());
}).listen(process.env.PORT, "127.0.0.1");
'''


def varied(stack, files):
    """Deploy a folder of another language, and see that it serves."""
    name = f"s{next(names)}"
    answer = stack.faas.post("/upload", json.dumps({
        "name": name, "env": "server", "threads": 1,
        "zip": base64.b64encode(zip_of(files)).decode()}), timeout=300)
    assert answer.status == 200, answer.body
    fn = Function(stack.faas, name, stack.folders.mktemp("notes"))
    for size in 0, 1, 70000, 1 << 20:
        for body in b"a" * size, iter(chunks_of(b"a" * size)):
            answer = fn.call("POST", body=body)
            assert (answer.status, answer.body) == (200, b"A" * size)
            assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    with fn.link("POST /", "Transfer-Encoding: chunked") as link:
        for count in range(10):
            link.sendall(chunk_encode(b"abc"))
            if not count:
                read_head(link)
            assert read_chunk(link) == b"ABC"
        link.sendall(chunk_encode(b""))
        assert read_chunk(link) == b""
    with crowd(fn, 16, 10) as answers:
        pass
    assert set(answers) == {(200, b"good")} and len(answers) == 160


def test_nodes_own_server(stack):
    if not shutil.which("node"):
        pytest.skip("node is not installed: apt install nodejs")
    varied(stack, {"index.js": NODE, "package.json": "{}"})


GO = '''
package main

import (
    "net/http"
    "os"
)

func main() {
    http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
        if r.URL.Path == "/good" {
            w.Write([]byte("good"))
            return
        }
        http.NewResponseController(w).EnableFullDuplex()
        w.Header().Add("Set-Cookie", "a=1")
        w.Header().Add("Set-Cookie", "b=2")
        buffer := make([]byte, 65536)
        for {
            size, err := r.Body.Read(buffer)
            for i := range buffer[:size] {
                buffer[i] -= 32
            }
            w.Write(buffer[:size])
            w.(http.Flusher).Flush()
            if err != nil {
                return
            }
        }
    })
    http.ListenAndServe("127.0.0.1:" + os.Getenv("PORT"), nil)
}
'''


def test_gos_own_server(stack):
    if not shutil.which("go"):
        pytest.skip("go is not installed: apt install golang-go")
    varied(stack, {"main.go": GO, "go.mod": "module f\n\ngo 1.21\n"})


@pytest.mark.parametrize("marker", ["requirements.txt", "pyproject.toml"])
def test_a_folder_with_smolfaas_marks_is_a_server(stack, marker):
    name = f"folder{next(names)}"
    folder = stack.faas.functions / name
    folder.mkdir()
    (folder / marker).write_text("")
    (folder / "main.py").write_text(PYTHON % (1, "ThreadingHTTPServer"))
    try:
        for path in f"/{name}", f"/invoke/{name}", f"/fn/{name}":
            assert stack.faas.get(path).body == b"good", path
        (folder / "main.py").write_text(
            (PYTHON % (1, "ThreadingHTTPServer")).replace("good", "well"))
        assert stack.faas.get(f"/{name}").body == b"well"
    finally:
        shutil.rmtree(folder)
    assert stack.faas.get(f"/{name}").status == 404


def test_memory_stays_flat_while_much_flows(stack_of):
    stack = stack_of("--limit", f"output={1 << 30}")
    fn = stack(r'''
def answer(link, head):
    size = int(head.split()[1][1:])
    link.sendall(OK + b"Content-Length: %d\r\n\r\n" % size)
    piece = bytes(1 << 20)
    for _ in range(size >> 20):
        link.sendall(piece)
''')

    def resident():
        status = open(f"/proc/{fn.faas.pid}/status").read()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1])

    def download(size):
        line, total = fn.line(60), 0
        line.request("GET", f"/{fn.name}/{size}")
        answer = line.getresponse()
        while piece := answer.read(1 << 20):
            total += len(piece)
        line.close()
        return total
    assert download(1 << 20) == 1 << 20
    before = resident()
    assert download(200 << 20) == 200 << 20
    assert resident() < 1.5 * before


# What happens beside the call


CROWD = """import http.server, os, subprocess, time

class Crowd(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        for _ in range(12):
            subprocess.Popen(["sleep", "60"])
        time.sleep(60)

http.server.ThreadingHTTPServer(
    ("127.0.0.1", int(os.environ["PORT"])), Crowd).serve_forever()
"""


def test_too_many_processes_end_a_server_in_the_middle_of_a_call(server):
    faas = server("--limit", "processes=6", "--limit", "timeout=30")
    assert faas.upload("crowd", {"main.py": CROWD, "requirements.txt": ""},
                       env="server").status == 200
    answer = faas.post("/crowd", timeout=25)
    assert answer.status == 502
    assert b"started more than 6 processes" in answer.body


SILENT = """import http.server, os, time

class Silent(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.flush()
        time.sleep(60)

http.server.ThreadingHTTPServer(
    ("127.0.0.1", int(os.environ["PORT"])), Silent).serve_forever()
"""


def test_a_client_that_leaves_a_silent_stream_gives_its_place_back(server):
    faas = server("--limit", "concurrency=2", "--limit", "queue=0")
    assert faas.upload("quiet", {"main.py": SILENT, "requirements.txt": ""},
                       env="server").status == 200
    host, port = faas.url.removeprefix("http://").split(":")
    for _ in range(5):              # more than there are places, one by one
        with socket.create_connection((host, int(port)), 10) as client:
            client.sendall(b"GET /quiet HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = client.recv(100)
            while head.startswith(b"HTTP/1.1 429"):
                client.close()
                client = socket.create_connection((host, int(port)), 10)
                client.sendall(b"GET /quiet HTTP/1.1\r\n"
                               b"Host: localhost\r\n\r\n")
                head = client.recv(100)
            assert head.startswith(b"HTTP/1.1 200")


CUT = """import os, socket

with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))) as door:
    while True:
        with door.accept()[0] as client:
            client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\\r\\n"
                           b"Transfer-Encoding: chunked\\r\\n\\r\\n"
                           b"5\\r\\nhello\\r\\n5\\r\\nwo")
"""


def test_an_answer_that_breaks_off_does_not_look_whole_to_http_1_0(server):
    faas = server()
    assert faas.upload("cut", {"main.py": CUT, "requirements.txt": ""},
                       env="server").status == 200
    host, port = faas.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as client:
        client.sendall(b"GET /cut HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            while client.recv(65536):
                pass
