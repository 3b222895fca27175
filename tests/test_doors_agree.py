"""The same Call through every door: one body, and one kind of failure.

HTTP speaks of a failure by a status, CoAP by a code, gRPC by a name, and the
command line by an exit code; KINDS is the table that all obey. Ten doors stand
here: the port of everything, the port of calls, SmolFaaS's, FaaS-Go's and
rknizzle's paths, HTTP/2, CoAP, gRPC, and the command line with and without a
server.

Some say less. FaaS-Go's face tells a stranger that a function failed, and not
why. rknizzle's and gRPC put an answer into a string, where bytes that are no
text have no place. CoAP has one code for two kinds, gRPC one name for two
others; and gRPC puts tinyFaaS's words before two sentences.
"""

import concurrent.futures
import json
import os
import subprocess

import pytest
from coap_peer import CoapPeer
from conftest import OURS, Server, book_command, eventually, script
from h2_client import END_HEADERS, END_STREAM, Peer, data, headers

from faas import (GRPC_STATUS, KINDS, TINYFAAS_DATA, TINYFAAS_RESPONSE,
                  TINYFAAS_SERVICE, grpc_frame, grpc_message_decode,
                  proto_decode, proto_encode)

FUNCTIONS = {
    "echo": "def fn(input): return input",
    "empty": "def fn(input): return None",
    "mirror": "def fn(input, headers): return input[::-1]",
    "raises": "def fn(input): raise ValueError('no colour')",
    "leaves": "def fn(input): raise SystemExit(3)",
    "breaks": "def fn(input): return object()",
    "floods": "def fn(input): return 'a' * 60_000",
    "sleeps": "import time\ndef fn(input): time.sleep(1000)",
    "syntax": "def fn(input) return input",
    "json": "def fn(input): return {'got': input}",
}
HANDLERS = {
    "upper-py": "def handler(ctx, event):\n"
                "    return {'body': event['body'].upper()}",
    "raises-py": "def handler(ctx, event):\n    return event['colour']",
}
SCRIPTS = {"upper": "tr a-z A-Z", "exits": "echo tail; exit 3",
           "hangs": "sleep 1000", "prints": "head -c 60000 /dev/zero",
           "plain": "true"}

LIMITS = ["--limit", "output=50000", "--limit", "body=50000",
          "--limit", "timeout=2"]


@pytest.fixture(scope="module")
def faas(tmp_path_factory):
    """A server with all of these functions in its folder."""
    server = Server(tmp_path_factory.mktemp("doors") / "home", LIMITS, None)
    server.wait_until_ready()
    for name, text in FUNCTIONS.items():
        (server.functions / name).mkdir()
        (server.functions / name / "fn.py").write_text(text)
    for name, text in HANDLERS.items():
        (server.functions / name).mkdir()
        (server.functions / name / "main.py").write_text(text)
    for name, lines in SCRIPTS.items():
        script(server, name, lines)
    (server.functions / "plain").chmod(0o644)
    (server.functions / "bare").write_text("echo no shebang\n")
    (server.functions / "bare").chmod(0o755)
    yield server
    server.stop()


def by_http(faas, name, body, url=None):
    """Call over HTTP; give (kind, body or first line of the failure)."""
    reply = faas.post("/" + name, body, url=url)
    kinds = {kind.http: word for word, kind in KINDS.items()} | {200: "ok"}
    return found(kinds[reply.status], reply.body, reply.body)


def by_data_port(faas, name, body):
    return by_http(faas, name, body, faas.data_url)


def by_invoke(faas, name, body):
    return by_http(faas, "invoke/" + name, body)


def by_fn(faas, name, body):
    """Call as FaaS-Go's clients do; what failed inside is a 500."""
    reply = faas.post("/fn/" + name, body)
    kinds = {kind.http: word for word, kind in KINDS.items()} | {
        200: "ok", 500: "crashed"}
    kind = kinds[reply.status]
    return found(kind, reply.body, kind == "ok" or told(reply, "error"))


def told(reply, member):
    """Take a member of a JSON answer; b"" where it has none.

    What the reader of chapter 9.2 refuses, it refuses in plain words: of
    whose face the path is, was not asked yet.
    """
    if reply.headers["Content-Type"].startswith("text/plain"):
        assert reply.status == KINDS["too_large"].http
        return reply.body
    return json.loads(reply.body).get(member, "").encode()


def by_rknizzle(faas, name, body):
    """Call as rknizzle's client does; the answer is a text in JSON."""
    reply = faas.post("/functions/" + name, body)
    kinds = {kind.http: word for word, kind in KINDS.items()} | {200: "ok"}
    return found(kinds[reply.status], told(reply, "response"),
                 told(reply, "message"))


def by_command(faas, name, body, *more):
    """Call by the command line; give the same."""
    clean = {key: os.environ[key] for key in os.environ.keys() - OURS}
    done = subprocess.run(
        [*book_command(), "invoke", name, "-d", "@-", "--functions",
         faas.functions, *more], input=body, capture_output=True, timeout=60,
        cwd=faas.home, env=clean)
    kinds = {kind.exit: word for word, kind in KINDS.items()} | {0: "ok"}
    assert b"Traceback (most recent" not in done.stderr.partition(b"\n")[0]
    return found(kinds[done.returncode], done.stdout,
                 done.stderr.removeprefix(b"faas: "))


def by_command_alone(faas, name, body):
    """Call where no server runs: with a data folder of its own."""
    return by_command(faas, name, body, "--data", "data2", "--logs", "logs2",
                      *LIMITS)


def by_h2(faas, name, body):
    """Call by plain HTTP/2."""
    answer = ask_h2(faas, "/" + name, "text/plain", body)
    kinds = {kind.http: word for word, kind in KINDS.items()} | {200: "ok"}
    return found(kinds[answer.status], answer.body, answer.body)


def ask_h2(faas, path, kind, body):
    """Send one request of HTTP/2, in frames no larger than any peer takes."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path),
              (":authority", "localhost"), ("content-type", kind)]
    with Peer(faas.grpc_port, credit=True) as peer:
        peer.handshake()
        peer.send(headers(1, fields, END_HEADERS), *(
            data(1, body[at:at + 16_384])
            for at in range(0, len(body), 16_384)), data(1, b"", END_STREAM))
        return peer.answer(1)


def by_coap(faas, name, body):
    """Call by CoAP; 5.03 is two kinds."""
    peer = CoapPeer(faas.coap_port)
    code, payload = peer.ask("POST", name.replace("%20", " "), body)
    peer.close()
    kinds = [word for word, kind in KINDS.items() if kind.coap == code]
    return found("ok" if code == "2.04" else kinds[0], payload, payload)


def by_grpc(faas, name, body):
    """Call by gRPC; RESOURCE_EXHAUSTED is two kinds."""
    message = proto_encode(TINYFAAS_DATA, {
        "functionIdentifier": name.replace("%20", " "),
        "data": body.decode("utf-8", "replace")})
    answer = ask_h2(faas, f"/{TINYFAAS_SERVICE}/Request", "application/grpc",
                    grpc_frame(message))
    end = dict(answer.fields) | dict(answer.trailers)
    if end["grpc-status"] == "0":
        text = proto_decode(TINYFAAS_RESPONSE, answer.body[5:])["response"]
        return "ok", text.encode()
    sentence = grpc_message_decode(end["grpc-message"]).encode()
    kinds = [word for word, kind in KINDS.items()
             if GRPC_STATUS[kind.grpc] == int(end["grpc-status"])]
    if kinds == ["too_large", "busy"] and b" calls run" in sentence:
        kinds.reverse()
    if kinds == ["crashed"]:
        prefix = f"error calling function {name}: ".encode()
        assert sentence.startswith(prefix)
        sentence = sentence.removeprefix(prefix)
    if kinds == ["not_found"]:
        assert sentence == f"function {name} not found".encode()
        sentence = f"Function not found: {name}".encode()
    return found(kinds[0], b"", sentence)


def found(kind, body, failure):
    return kind, body if kind == "ok" else failure.partition(b"\n")[0]


DOORS = [by_http, by_data_port, by_invoke, by_fn, by_rknizzle, by_h2, by_coap,
         by_grpc, by_command, by_command_alone]


@pytest.mark.parametrize("name, body, kind, said", [
    ("echo", b"hello", "ok", b"hello"),
    ("echo", b"", "ok", b""),
    ("echo", bytes(range(256)), "ok", bytes(range(256))),
    ("echo", b"a" * 40_000, "ok", b"a" * 40_000),
    ("empty", b"hello", "ok", b""),
    ("mirror", "\u00e9\u4e2d".encode(), "ok", "\u4e2d\u00e9".encode()),
    ("json", b"1", "ok", b'{"got": "1"}'),
    ("upper", b"hello", "ok", b"HELLO"),
    ("upper", b"", "ok", b""),
    ("upper-py", b"hello", "ok", b"HELLO"),
    ("raises-py", b"", "crashed", b"Error at line 2: KeyError: 'colour'"),
    ("nobody", b"", "not_found", b"Function not found: nobody"),
    ("raises", b"", "crashed", b"ValueError: no colour"),
    ("leaves", b"", "crashed", b"its worker exited with status 3"),
    ("exits", b"", "crashed", b"exits exited with status 3"),
    ("breaks", b"", "crashed", b"fn returned a object"),
    ("bare", b"", "crashed", b"bare has no shebang"),
    ("plain", b"", "denied", b"Permission denied"),
    ("syntax", b"", "bad_input", b"syntax does not start: SyntaxError"),
    ("floods", b"", "too_large", b"it wrote more than its 50000 bytes"),
    ("prints", b"", "too_large", b"it wrote more than its 50000 bytes"),
    ("sleeps", b"", "timeout", b"it ran longer than the function's limit of "
     b"2 s"),
    ("hangs", b"", "timeout", b"it ran longer than the function's limit of "
     b"2 s"),
    ("a%20b", b"", "bad_input", b"")])
def test_every_door_gives_the_same_answer(faas, name, body, kind, said):
    together = len(DOORS) if kind == "timeout" else 1   # who waits, waits once
    with concurrent.futures.ThreadPoolExecutor(together) as pool:
        given = {door.__name__: pool.submit(door, faas, name, body)
                 for door in DOORS}
    answers = {door: answer.result() for door, answer in given.items()}
    first = answers["by_http"]
    assert first[0] == kind and first[1].startswith(said)
    if kind == "crashed":
        assert answers.pop("by_fn") == (kind, b"Function execution failed")
    if kind == "ok" and "\ufffd" in said.decode("utf-8", "replace"):
        for door in "by_rknizzle", "by_grpc":
            assert answers.pop(door) == (
                kind, said.decode("utf-8", "replace").encode())
    if name == "a%20b":         # each door spells the name as it came to it
        answers = {door: answer[0] for door, answer in answers.items()}
        first = kind
    assert answers == dict.fromkeys(answers, first)


def test_a_body_that_is_too_large_is_too_large_at_every_door(faas):
    answers = [door(faas, "echo", b"a" * 50_001)[0] for door in DOORS]
    assert answers == ["too_large"] * len(DOORS)


def test_no_free_place_is_busy_at_every_door(server):
    faas = server("--limit", "concurrency=1", "--limit", "queue=1")
    script(faas, "waits", f"echo >>{faas.home}/begun\n"
           f"while [ ! -e {faas.home}/go ]; do sleep 0.05; done")
    script(faas, "hi", "echo hi")
    for _ in range(2):          # one that runs and one that waits
        faas.post("/waits", b"", {"X-tinyFaaS-Async": "1"})
    eventually((faas.home / "begun").exists)
    eventually(lambda: faas.post("/waits", b"", {"X-Timeout": "100ms"}
                                 ).status == 429)
    for door in DOORS[:-1]:
        assert door(faas, "waits", b"")[0] == "busy", door
    assert by_http(faas, "hi", b"") == ("ok", b"hi\n")
    (faas.home / "go").touch()


def test_every_door_is_remembered_with_its_name(server):
    faas = server()
    script(faas, "who", "echo $FAAS_TRIGGER")
    for door in DOORS[:6]:
        assert door(faas, "who", b"") == ("ok", b"http\n"), door
    assert by_coap(faas, "who", b"") == ("ok", b"coap\n")
    assert by_grpc(faas, "who", b"") == ("ok", b"grpc\n")
    assert by_command(faas, "who", b"") == ("ok", b"cli\n")
    assert by_command_alone(faas, "who", b"") == ("ok", b"cli\n")


def test_the_same_key_is_asked_for_by_every_command(server):
    faas = server("--host", "0.0.0.0")
    script(faas, "hi", "echo hi")
    assert by_command(faas, "hi", b"") == ("ok", b"hi\n")
    (faas.data / "api_key").write_text("0" * 64)    # not the server's own
    kind, sentence = by_command(faas, "hi", b"")
    assert kind == "unauthenticated" and b"API key" in sentence
