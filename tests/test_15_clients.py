"""Chapter 15 from outside: gRPC and HTTP/2 clients that others wrote."""

import base64
import json
import os
import pathlib
import re
import signal
import subprocess

import h2_client as h2
import pytest
from clients import HOSTS, NO_IPV6, has_ipv6, node_client, python_client
from clients.messages import SERVICE, field
from conftest import Server, eventually

CLIENTS = ["grpcio", "grpcio 1.64.3", "@grpc/grpc-js"]
PATH = f"/{SERVICE}/Request"

LARGEST = (4 << 20) - 11        # letters that fit into 4 MB beside "echo"
SIZES = [0, 1, 64 << 10, 1 << 20, LARGEST]

FUNCTIONS = {
    "echo": "def fn(input):\n    return input",
    "headers": "import json\ndef fn(input, headers):\n"
               "    return json.dumps(headers)",
    # Each writes down who it is before it waits.
    "hangs": "import os, time\ndef fn(input):\n    with open(os.environ['HO"
             "ME'] + '/' + input, 'w') as file:\n"
             "        file.write(str(os.getpid()))\n    time.sleep(1000)",
    "waits": "import os, time\ndef fn(input):\n    home = os.environ['HOME']"
             "\n    open(home + '/' + input, 'w')\n    while not os.path."
             "exists(home + '/go'):\n        time.sleep(0.02)\n"
             "    return 'done'",
    "second": "import os, time\ndef fn(input):\n    open(os.environ['HOME'] "
              "+ '/' + input, 'w')\n    time.sleep(1)\n    return 'done'",
    "raises": "def fn(input):\n    raise ValueError('no colour')",
    "exits": "import os\ndef fn(input):\n    os._exit(3)",
    "raw": "def fn(input):\n    return b'\\xff\\xfe'",
    "floods": "def fn(input):\n    return 'a' * (7 << 20)",
}


def deploy(server):
    """Upload all of them; each finds a folder for its notes in $HOME."""
    for name, text in FUNCTIONS.items():
        reply = server.upload(name, {"fn.py": text},
                              envs=[f"HOME={server.home}"])
        assert reply.status == 200, reply


@pytest.fixture(scope="module")
def faas(tmp_path_factory):
    """A server with all of these functions."""
    server = Server(tmp_path_factory.mktemp("grpc") / "home", [], None)
    server.wait_until_ready()
    deploy(server)
    yield server
    server.stop()


def start(kind, faas, peer_python, peer_node, host="127.0.0.1"):
    """Start one of CLIENTS; skip where it is not installed."""
    address = f"{host}:{faas.grpc_port}"
    if kind == "@grpc/grpc-js":
        return node_client(peer_node(), "grpc_client.js", address)
    which = "new" if kind == "grpcio" else "old"
    return python_client(peer_python("grpc", which), "grpc_client.py",
                         address)


@pytest.fixture(scope="module", params=CLIENTS)
def client(request, faas, peer_python, peer_node):
    """Each of CLIENTS in turn."""
    with start(request.param, faas, peer_python, peer_node) as client:
        yield client


# Frames by hand, where the order of things matters

GRPC = ("content-type", "application/grpc"), ("te", "trailers")


def plain(stream, method="POST", path=PATH, *fields, flags=h2.END_HEADERS):
    """Make the frame that opens a request."""
    return h2.headers(stream, (
        (":method", method), (":scheme", "http"), (":path", path),
        (":authority", "localhost"), *fields), flags)


def prefixed(message):
    """Put gRPC's five bytes before a message."""
    return b"\0" + h2.octets(len(message)) + message


def request(stream, fn, text, *fields):
    """Make the two frames of a call."""
    message = field(1, fn.encode()) + field(2, text.encode())
    return (plain(stream, "POST", PATH, *GRPC, *fields),
            h2.data(stream, prefixed(message), h2.END_STREAM))


# What goes in comes out


def test_each_size_up_to_4_mb_comes_back_whole(client):
    for size in SIZES:
        answer = client.ask(fn="echo", size=size)
        assert answer["code"] == "OK", (size, answer)
        assert (answer["size"], answer["same"]) == (size, True)


def test_one_letter_more_is_more_than_a_message_may_have(client):
    answer = client.ask(fn="echo", size=LARGEST + 1)
    assert answer["code"] == "RESOURCE_EXHAUSTED"
    assert answer["details"] == ("grpc: received message larger than max "
                                 "(4194305 vs. 4194304)")
    assert client.ask(fn="echo", text="still here")["same"]


def test_letters_beyond_ascii_come_back(client):
    answer = client.ask(fn="echo", text="h\u00e9 \u4e2d \U0001f600")
    assert answer["text"] == "h\u00e9 \u4e2d \U0001f600"


def test_200_calls_at_once_are_all_answered(client):
    answer = client.ask(do="many", count=200, fn="echo", text="hi")
    assert (answer["codes"], answer["same"]) == ({"OK": 200}, 200), answer


def test_20_of_64_kb_at_once_share_the_windows(client):
    answer = client.ask(do="many", count=20, fn="echo", size=64 << 10)
    assert (answer["codes"], answer["same"]) == ({"OK": 20}, 20), answer


def test_a_request_that_is_compressed_is_understood(client):
    answer = client.ask(fn="echo", size=100_000, gzip=True)
    assert (answer["code"], answer["same"]) == ("OK", True)
    # The bound is for what comes out of it.
    answer = client.ask(fn="echo", size=LARGEST + 1, gzip=True)
    assert answer["code"] == "RESOURCE_EXHAUSTED"


# Metadata


def test_metadata_reaches_the_function_with_these_capitals(client):
    answer = client.ask(fn="headers", metadata=[["lab", "seen"]])
    headers = json.loads(answer["text"])
    assert headers["Lab"] == "seen"
    assert headers["User-Agent"].startswith(("grpc-python/", "grpc-node-js/"))


def test_binary_metadata_reaches_the_function_as_base64(client):
    answer = client.ask(fn="headers", metadata=[["lab-bin", "00fffe"]])
    said = json.loads(answer["text"])["Lab-Bin"]
    assert base64.b64decode(said + "=" * (-len(said) % 4)) == b"\0\xff\xfe"


def test_there_is_no_asking_for_later_here_as_with_tinyfaas(client):
    answer = client.ask(fn="headers", metadata=[["x-tinyfaas-async", "1"]])
    assert json.loads(answer["text"])["X-Tinyfaas-Async"] == "1"


def test_what_belongs_to_the_protocol_is_no_header_of_the_function(client):
    headers = json.loads(client.ask(fn="headers", timeout=50)["text"])
    names = {name.lower() for name in headers}
    assert not [name for name in names if name.startswith((":", "grpc-"))]
    assert "te" not in names


# Deadlines and cancellation


def started(faas, note):
    """Wait until a function has written its note, and give its pid."""
    path = pathlib.Path(faas.home, note)
    return int(eventually(lambda: path.exists() and path.read_text()))


def ended(pid):
    try:
        os.kill(pid, 0)
        return False
    except ProcessLookupError:
        return True


def last_status(faas, name):
    """Tell how the last call of a function ended, as it is remembered."""
    reply = faas.get(f"/-/functions/{name}/executions?limit=1")
    return [one["status"] for one in json.loads(reply.body)]


def test_a_deadline_ends_the_call_and_its_function(client, faas):
    note = f"deadline-{client.process.pid}"
    answer = client.ask(fn="hangs", text=note, timeout=1)
    assert answer["code"] == "DEADLINE_EXCEEDED"
    pid = started(faas, note)
    eventually(lambda: ended(pid))
    # Whether our clock or the client's was first, nobody can know.
    eventually(lambda: last_status(faas, "hangs") in (
        ["timeout"], ["unavailable"]))


def test_the_servers_own_clock_ends_a_call_at_its_deadline(faas):
    with h2.Peer(faas.grpc_port) as peer:
        peer.handshake()
        peer.send(*request(1, "hangs", "raw-deadline",
                           ("grpc-timeout", "300m")))
        trailers = dict(peer.answer(1).fields)
    assert trailers["grpc-status"] == "4"       # DEADLINE_EXCEEDED
    pid = started(faas, "raw-deadline")
    eventually(lambda: ended(pid))
    eventually(lambda: last_status(faas, "hangs") == ["timeout"])


def test_a_call_that_is_cancelled_ends_its_function(client, faas):
    note = f"cancel-{client.process.pid}"
    client.ask(do="begin", fn="hangs", text=note)
    pid = started(faas, note)
    assert client.ask(do="cancel")["code"] == "CANCELLED"
    eventually(lambda: ended(pid))
    assert client.ask(fn="echo", text="still here")["same"]


def test_a_client_that_dies_has_cancelled_its_calls(
        faas, peer_python, peer_node):
    with start("grpcio", faas, peer_python, peer_node) as client:
        client.ask(do="begin", fn="hangs", text="orphan")
        pid = started(faas, "orphan")
        client.process.kill()
        eventually(lambda: ended(pid))


# Each way to fail


@pytest.mark.parametrize("order, code, details", [
    ({"fn": "nobody"}, "NOT_FOUND", "function nobody not found"),
    ({"fn": "raises"}, "INTERNAL", "error calling function raises: "
     "ValueError: no colour"),
    ({"fn": "exits"}, "INTERNAL", "error calling function exits: its worker "
     "exited with status 3"),
    ({"fn": "raw"}, "INTERNAL", "grpc: error while marshaling: string field "
     "contains invalid UTF-8"),
    ({"fn": "floods"}, "RESOURCE_EXHAUSTED", None),
    ({"fn": "../etc"}, "INVALID_ARGUMENT", None),
    ({"raw": "ff"}, "INTERNAL", None),
    ({"raw": "0a04"}, "INTERNAL", None),
    ({"raw": "0a02c328"}, "INTERNAL", None),
    ({"raw": "", "method": f"/{SERVICE}/Nothing"}, "UNIMPLEMENTED", None),
    ({"raw": "", "method": "/no.Such/Method"}, "UNIMPLEMENTED", None),
    # The package's name belongs to it.
    ({"raw": "", "method": "/tinyfaas.TinyFaaS/Request"}, "UNIMPLEMENTED",
     None)])
def test_each_failure_has_its_status_and_its_words(client, order, code,
                                                   details):
    answer = client.ask(**order)
    assert answer["code"] == code, answer
    assert answer["details"] == (details or answer["details"]) != ""


def test_more_calls_than_may_wait_are_too_many(
        server, peer_python, peer_node):
    faas = server("--limit", "concurrency=1", "--limit", "queue=1")
    deploy(faas)
    with start("grpcio", faas, peer_python, peer_node) as client:
        client.ask(do="begin", fn="waits", text="begun")
        eventually((faas.home / "begun").exists)
        answer = client.ask(do="many", count=3, fn="waits", text="more",
                            timeout=1)
        assert answer["codes"] == {"RESOURCE_EXHAUSTED": 2,
                                   "DEADLINE_EXCEEDED": 1}
        (faas.home / "go").touch()
        assert client.ask(do="end")["text"] == "done"


def test_who_never_ends_his_request_is_refused_all_the_same(faas):
    with h2.Peer(faas.grpc_port) as peer:
        peer.handshake()
        peer.send(plain(1, "POST", f"/{SERVICE}/Nothing", *GRPC))
        answer = peer.answer(1)
        assert dict(answer.fields)["grpc-status"] == "12"
        # And then he is told to stop, and not before (gotcha G4).
        assert peer.wait(h2.RST_STREAM).payload == h2.octets(h2.NO_ERROR)
        # That a message is too large, its first five bytes say.
        peer.send(plain(3, "POST", PATH, *GRPC),
                  h2.data(3, b"\0" + h2.octets((4 << 20) + 1)))
        fields = dict(peer.answer(3).fields)
        assert fields["grpc-status"] == "8"
        assert fields["grpc-message"].endswith("(4194305 vs. 4194304)")


# Other services


def test_the_health_of_the_server_and_of_the_service_is_good(client):
    for service in "", SERVICE:
        answer = client.ask(method="/grpc.health.v1.Health/Check",
                            raw=(field(1, service.encode()) if service
                                 else b"").hex())
        assert (answer["code"], answer["raw"]) == ("OK", "0801")
    answer = client.ask(method="/grpc.health.v1.Health/Check",
                        raw=field(1, b"nobody").hex())
    assert answer["code"] == "NOT_FOUND"


def test_health_is_watched_until_the_watcher_leaves(client):
    for service, status in ("", "0801"), ("nobody", "0803"):
        raw = field(1, service.encode()).hex() if service else ""
        answer = client.ask(do="stream", most=1, raws=[raw],
                            method="/grpc.health.v1.Health/Watch")
        assert (answer["code"], answer["raws"]) == ("CANCELLED", [status])


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_answers_each_question_as_it_comes(client, version):
    method = f"/grpc.reflection.{version}.ServerReflection"
    questions = [field(7, b"*"), field(4, SERVICE.encode()),
                 field(4, f"{SERVICE}.Request".encode()),
                 field(3, b"tinyfaas.proto"), field(4, b"nobody.Knows")]
    answer = client.ask(do="stream", method=method + "/ServerReflectionInfo",
                        raws=[one.hex() for one in questions])
    assert answer["code"] == "OK"
    names, *files, error = map(bytes.fromhex, answer["raws"])
    assert SERVICE.encode() in names
    assert b"grpc.health.v1.Health" in names
    for question, said in zip(questions[1:], files, strict=False):
        assert field(2, question) in said       # what was asked, once more
        assert b"functionIdentifier" in said
    assert field(2, questions[-1]) in error
    assert field(7, b"\x08\x05")[:1] in error   # NOT_FOUND, in the stream


def test_a_client_that_knows_nothing_learns_the_service_and_calls_it(
        faas, peer_python, peer_node):
    peer_python("grpc_reflection")
    with start("grpcio", faas, peer_python, peer_node) as client:
        answer = client.ask(do="described", fn="echo", text="learnt")
    assert answer["text"] == "learnt"
    assert SERVICE in answer["services"]


# What a slow function must not hold up (gotcha G12)


def test_a_slow_function_holds_up_nothing_else(faas):
    (faas.home / "go").unlink(missing_ok=True)
    upload = b"x" * (3 << 20)       # three of our windows
    with h2.Peer(faas.grpc_port, credit=True) as peer:
        peer.handshake()
        peer.send(*request(1, "waits", "slow-one"))
        eventually((faas.home / "slow-one").exists)
        peer.round_trip()
        peer.send(*request(3, "echo", "beside it"))
        assert peer.answer(3).body == prefixed(field(1, b"beside it"))
        peer.send(plain(5, "POST", "/echo"))
        send_within_windows(peer, 5, upload)
        assert peer.answer(5).body == upload
        assert not peer.answers[1].ended
        (faas.home / "go").touch()
        assert peer.answer(1).body == prefixed(field(1, b"done"))


def send_within_windows(peer, stream, body):
    """Send a body as fast as the server gives credit, and no faster."""
    windows = {0: 65535, stream: peer.settings.get(
        h2.INITIAL_WINDOW_SIZE, 65535)}
    read = 0
    while body:
        for found in peer.seen[read:]:
            if found.kind == h2.WINDOW_UPDATE and found.stream in windows:
                windows[found.stream] += int.from_bytes(found.payload, "big")
        read = len(peer.seen)
        size = min(16384, len(body), *windows.values())
        if size:
            peer.send(h2.data(stream, body[:size],
                              h2.END_STREAM * (size == len(body))))
            body = body[size:]
            windows = {line: left - size for line, left in windows.items()}
        else:
            peer.wait(h2.WINDOW_UPDATE)


def test_what_is_not_grpc_on_its_path_is_405_or_415(faas):
    with h2.Peer(faas.grpc_port) as peer:
        peer.handshake()
        peer.send(plain(1, "GET", flags=h2.WHOLE))
        assert peer.answer(1).status == 405
        peer.send(plain(3, "POST", PATH, ("content-type", "text/plain")))
        peer.round_trip()
        assert not peer.answers[3].fields       # It waits for END_STREAM.
        peer.send(h2.data(3, b"hi", h2.END_STREAM))
        answer = peer.answer(3)
        assert answer.status == 415 and 0 < len(answer.body) < 1000


@pytest.mark.parametrize("kind", [
    "application/grpc", "application/grpc+proto", "application/grpc;x=y"])
def test_each_way_to_say_grpc_is_understood(faas, kind):
    message = field(1, b"echo") + field(2, b"hi")
    with h2.Peer(faas.grpc_port) as peer:
        peer.handshake()
        peer.send(plain(1, "POST", PATH, ("content-type", kind)),
                  h2.data(1, prefixed(message), h2.END_STREAM))
        answer = peer.answer(1)
    assert answer.body == prefixed(field(1, b"hi"))
    assert dict(answer.trailers)["grpc-status"] == "0"


def test_a_request_without_a_message_fails_at_once(faas):
    with h2.Peer(faas.grpc_port) as peer:
        peer.handshake()
        peer.send(plain(1, "POST", PATH, *GRPC, flags=h2.WHOLE))
        fields = dict(peer.answer(1).fields)
    assert (fields["grpc-status"], fields[":status"]) == ("13", "200")


# Plain HTTP/2


@pytest.fixture
def curl(peer_tool, faas):
    """Ask the door by curl: curl("/echo", "-d", "hi") -> bytes."""
    program = peer_tool("curl")
    version = subprocess.run([program, "--version"], capture_output=True)
    if b"HTTP2" not in version.stdout:
        pytest.skip("this curl has no HTTP/2: apt install curl")

    def run(path, *options, host="127.0.0.1"):
        done = subprocess.run(
            [program, "-sS", "-m", "60", "--http2-prior-knowledge", *options,
             f"http://{host}:{faas.grpc_port}{path}"], capture_output=True,
            timeout=90)
        assert done.returncode == 0, done
        return done.stdout
    return run


def test_curl_calls_a_function_over_http_2(curl):
    assert curl("/echo", "-d", "hi") == b"hi"
    said = curl("/echo", "-d", "hi", "-w", "%{http_version} %{http_code}")
    assert said == b"hi2 200"
    assert curl("/nobody", "-d", "", "-w", " %{http_code}").endswith(b" 404")


@pytest.mark.parametrize("host", HOSTS)
def test_the_door_is_found_on_both_families(curl, host, faas, peer_python,
                                            peer_node):
    if host == "[::1]" and not has_ipv6():
        pytest.skip(NO_IPV6)
    assert curl("/echo", "-d", "hi", host=host) == b"hi"
    with start("grpcio", faas, peer_python, peer_node, host) as client:
        assert client.ask(fn="echo", text="hi")["text"] == "hi"


def test_curl_carries_a_megabyte_each_way(curl, tmp_path):
    body = bytes(range(256)) * 4096
    (tmp_path / "body").write_bytes(body)
    assert curl("/echo", "-T", str(tmp_path / "body"),
                "-X", "POST") == body


def test_headers_and_status_pass_through_http_2(curl):
    said = curl("/headers", "-d", "", "-H", "Lab: seen", "-A", "curious")
    headers = json.loads(said)
    assert (headers["Lab"], headers["User-Agent"]) == ("seen", "curious")
    head = curl("/echo", "-I")
    assert head.startswith(b"HTTP/2 200") and head.count(b"\n\r\n") <= 1


def test_only_calls_are_served_here_and_no_management(curl):
    for path in "/upload", "/-/functions", "/list", "/metrics":
        assert curl(path, "-o", os.devnull, "-w", "%{http_code}",
                    "-d", "{}") in (b"400", b"404", b"405"), path


def test_curl_sees_the_trailers_of_a_grpc_answer(curl, tmp_path):
    message = field(1, b"echo") + field(2, b"hi")
    (tmp_path / "body").write_bytes(prefixed(message))
    said = curl(PATH, "--data-binary", f"@{tmp_path}/body", "-D", "-",
                "-H", "content-type: application/grpc", "-H", "te: trailers")
    assert re.search(rb"grpc-status: 0\r\n", said)
    assert b"\0\0\0\0\4\n\2hi" in said


def nghttp(peer_tool, faas, *options, path="/echo"):
    done = subprocess.run(
        [peer_tool("nghttp"), "-v", "-t", "60", *options,
         f"http://127.0.0.1:{faas.grpc_port}{path}"], capture_output=True,
        timeout=90, text=True)
    assert done.returncode == 0, done
    return done.stdout


def test_nghttp_is_answered_behind_its_idle_priorities(
        peer_tool, faas, tmp_path):
    (tmp_path / "body").write_text("hi there")
    said = nghttp(peer_tool, faas, "-d", str(tmp_path / "body"))
    assert ":status: 200" in said and "hi there" in said


def test_nghttp_s_trailers_end_a_request(peer_tool, faas, tmp_path):
    (tmp_path / "body").write_text("hi there")
    said = nghttp(peer_tool, faas, "-d", str(tmp_path / "body"),
                  "--trailer", "checksum: 1", "--no-content-length")
    assert ":status: 200" in said and "hi there" in said


def test_nghttp_s_padding_and_head_are_understood(peer_tool, faas, tmp_path):
    (tmp_path / "body").write_text("hi there")
    said = nghttp(peer_tool, faas, "-b", "100", "-d", str(tmp_path / "body"))
    assert ":status: 200" in said and "hi there" in said
    said = nghttp(peer_tool, faas, "-H", ":method: HEAD")
    assert ":status: 200" in said


@pytest.mark.parametrize("clients, streams", [(1, 1), (1, 100), (8, 16)])
def test_h2load_sees_no_failure(peer_tool, faas, tmp_path, clients, streams):
    (tmp_path / "body").write_text("hi")
    done = subprocess.run(
        [peer_tool("h2load"), "-n", "1000", "-c", str(clients),
         "-m", str(streams), "-d", str(tmp_path / "body"),
         f"http://127.0.0.1:{faas.grpc_port}/echo"], capture_output=True,
        timeout=90, text=True)
    assert "1000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout
    assert re.search("1000 2xx, 0 3xx, 0 4xx, 0 5xx", done.stdout)


# The end


def test_calls_under_way_are_answered_when_the_server_is_told_to_stop(
        server, peer_python, peer_node):
    faas = server()
    deploy(faas)
    with start("grpcio", faas, peer_python, peer_node) as client, h2.Peer(
            faas.grpc_port) as peer:
        client.ask(do="begin", fn="second", text="begun")
        peer.handshake()
        eventually((faas.home / "begun").exists)
        faas.process.send_signal(signal.SIGTERM)
        goodbye = peer.end()
        assert (goodbye.code, goodbye.last) == (h2.NO_ERROR, 0)
        answer = client.ask(do="end")
        assert (answer["code"], answer["text"]) == ("OK", "done")
        assert client.ask(fn="echo", text="late")["code"] == "UNAVAILABLE"
    assert faas.process.wait(20) == 0
