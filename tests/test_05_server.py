"""Chapter 5.9: functions that are servers, and streaming through the door.

Most servers here are written in sockets, so that they can misbehave. They
share RAW; what one of them does with a request stands in its test.
"""

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
from conftest import Server, eventually

import faas as book
from faas import (Call, FaasError, Item, Limits, Platform, chunk_encode,
                  free_port)

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
        b"Bad Name: 1\r\nFolded: a\r\n\t b\r\nX-Execution-Id: forged\r\n"
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
                 "Bad Name", "Content-Type"):
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
    assert fn.heard() [-3:] == ["HEAD"] * 3


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
    "HTTP/1.1 abc\\r\\n\\r\\n", "HTTP/1.1 200 OK\\r\\n",
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
