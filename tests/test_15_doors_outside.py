"""Chapters 14 and 15 from outside: what a hostile reviewer once broke.

Each test is a fault that was found on a running server, and is cured. Two
doors are looked at together here, because most of these were faults at the
places where a door meets the rest: its end, its address, its tables, its
threads.
"""

import collections
import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import time

import h2_client as h2
import pytest
from clients import NO_IPV6, has_ipv6
from clients.messages import SERVICE, field, response_of
from coap_peer import CODES, CoapPeer
from conftest import book_command, eventually, script

from faas import (COAP_ACK, COAP_CON, COAP_OBSERVE, COAP_PATH, COAP_QUERY,
                  CoapBlock, CoapMessage, H2Connection, coap_code_text,
                  coap_decode, coap_encode)

CALL = f"/{SERVICE}/Request"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"

ECHO = "def fn(input):\n    return input"

# It says that it has begun, and goes on when it is told to.
WAITS = ("import os, time\ndef fn(input):\n    home = os.environ['HOME']\n"
         "    open(home + '/begun-' + input, 'w')\n"
         "    while not os.path.exists(home + '/go'):\n"
         "        time.sleep(0.02)\n    return 'done'")


def plain(stream, path, body=b"", *fields, method="POST"):
    """Ask for a path; the body goes in frames of 16,000 octets."""
    head = ((":method", method), (":scheme", "http"), (":path", path),
            (":authority", "localhost"), *fields)
    if not body:
        return h2.headers(stream, head)
    pieces = [body[at:at + 16_000] for at in range(0, len(body), 16_000)]
    return h2.headers(stream, head, h2.END_HEADERS) + b"".join(
        h2.data(stream, piece, h2.END_STREAM if piece is pieces[-1] else 0)
        for piece in pieces)


def opened(stream, path, *fields):
    """Open a remote call, and say nothing yet."""
    return h2.headers(stream, (
        (":method", "POST"), (":scheme", "http"), (":path", path),
        (":authority", "localhost"), ("te", "trailers"),
        ("content-type", "application/grpc"), *fields), h2.END_HEADERS)


def prefixed(message):
    """Put gRPC's five bytes before a message."""
    return b"\0" + h2.octets(len(message)) + message


def call(stream, fn, text=b"", *fields):
    """Make a whole remote call of a function."""
    message = field(1, fn.encode()) + field(2, text)
    return opened(stream, CALL, *fields) + h2.data(
        stream, prefixed(message), h2.END_STREAM)


def status(answer):
    """Give a remote call's grpc-status."""
    return dict(answer.trailers or answer.fields).get("grpc-status")


def greeted(faas, *settings):
    """Connect, and be greeted."""
    peer = h2.Peer(faas.grpc_port, credit=True)
    peer.handshake(*settings)
    return peer


@pytest.fixture(scope="module")
def faas(module_server):
    """One server for all whose fault was not about its start or end."""
    faas = module_server()
    for name, text in {
            "echo": ECHO,
            "headers": "import json\ndef fn(input, headers):\n"
                       "    return json.dumps(headers)",
            "moody": "def fn(input):\n"
                     "    return b'\\xff' if input == 'sulk' else 'text'",
            "raises": "def fn(input):\n    raise ValueError(input)",
            "chooses": "def handler(ctx, event):\n    return {'statusCode': "
                       "404, 'body': 'not today'}"}.items():
        file = "main.py" if "handler" in text else "fn.py"
        reply = faas.upload(name, {file: text},
                            "python" if file == "main.py" else "python3")
        assert reply.status == 200, reply
    script(faas, "cat", "cat")
    return faas


# The end: SIGTERM while something goes on

def waiting_calls(server):
    """Start a server, and a call through HTTP/2 that waits to be let go."""
    faas = server()
    assert faas.upload("waits", {"fn.py": WAITS}, envs=[
        f"HOME={faas.home}"]).status == 200
    peer = greeted(faas)
    peer.send(plain(1, "/waits", b"web"))
    eventually((faas.home / "begun-web").exists)
    return faas, peer


def test_a_plain_request_under_way_is_answered_at_the_end(server):
    faas, peer = waiting_calls(server)
    with peer:
        faas.process.send_signal(signal.SIGTERM)
        peer.wait(h2.GOAWAY)
        assert peer.goodbye[:2] == (1, h2.NO_ERROR)
        (faas.home / "go").touch()
        answer = peer.answer(1)
        assert (answer.status, answer.body) == (200, b"done")
    assert faas.process.wait(20) == 0


def test_who_only_listens_is_told_of_the_end_at_once(server):
    faas, peer = waiting_calls(server)
    with peer, greeted(faas) as silent, greeted(faas) as watcher:
        silent.send(opened(1, REFLECT))             # and no question yet
        silent.round_trip()
        watcher.send(opened(1, WATCH), h2.data(1, prefixed(b""),
                                               h2.END_STREAM))
        watcher.wait(h2.DATA)
        faas.process.send_signal(signal.SIGTERM)
        assert status(silent.answer(1)) == "14"     # UNAVAILABLE
        assert status(watcher.answer(1)) == "14"
        assert not peer.answers[1].ended    # so nobody waited for the last one
        (faas.home / "go").touch()
        assert peer.answer(1).status == 200
    assert faas.process.wait(20) == 0


def test_a_datagram_that_comes_after_the_end_began_is_no_call(server):
    faas, peer = waiting_calls(server)
    script(faas, "cat", "cat")
    with peer, contextlib.closing(CoapPeer(faas.coap_port)) as device:
        assert device.ask("POST", "cat", b"in time")[0] == "2.04"
        faas.process.send_signal(signal.SIGTERM)
        peer.wait(h2.GOAWAY)
        eventually(lambda: device.ask("POST", "cat", b"late")[0] == "5.03")
        (faas.home / "go").touch()      # Until now a call is under way.
        assert peer.answer(1).status == 200
    assert faas.process.wait(20) == 0


# Addresses

def ask_at(host, port, text):
    """Ask over CoAP by a socket that hears nobody but whom it has asked."""
    device = CoapPeer(port, host)
    try:
        return device.ask("POST", "cat", text)
    finally:
        device.close()


@pytest.mark.parametrize("host, others", [
    ("0.0.0.0", ["127.0.0.1", "127.0.0.2"]),
    ("::", ["127.0.0.1", "127.0.0.2", "::1"])])
def test_on_all_addresses_the_answer_comes_from_the_one_that_was_asked(
        server, host, others):
    if ":" in host and not has_ipv6():
        pytest.skip(NO_IPV6)
    faas = server("--host", host)
    script(faas, "cat", "cat")
    for other in others:
        assert ask_at(other, faas.coap_port, b"here") == ("2.04", b"here")
        with h2.Peer(faas.grpc_port, other) as peer:
            peer.handshake()
            peer.send(plain(1, "/cat", b"here"))
            assert peer.answer(1).body == b"here"


@pytest.mark.parametrize("kind, option", [
    (socket.SOCK_STREAM, "--grpc-port"), (socket.SOCK_DGRAM, "--coap-port")])
def test_a_stranger_on_the_other_loopback_is_no_machine_without_ipv6(
        tmp_path, kind, option):
    if not has_ipv6():
        pytest.skip(NO_IPV6)
    with socket.socket(socket.AF_INET6, kind) as stranger:
        stranger.bind(("::1", 0))
        if kind == socket.SOCK_STREAM:
            stranger.listen()
        port = str(stranger.getsockname()[1])
        doors = {"--port": "0", "--data-port": "0", "--grpc-port": "0",
                 "--coap-port": "0", option: port}
        done = subprocess.run(
            [*book_command(), "serve", *sum(doors.items(), ())], cwd=tmp_path,
            capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert port in done.stderr and "::1" in done.stderr
    assert done.stderr.count("\n") == 1 and not os.listdir(tmp_path)


# Tables

def memory(faas):
    """Give the octets of memory that a server has now."""
    with open(f"/proc/{faas.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def answered(device, *options, code=CODES["POST"], payload=b"", name="echo",
             token=b"t"):
    """Ask one question of a CoAP server; give the message that answers."""
    for attempt in range(4):
        mid = random.getrandbits(16)
        device.socket.send(coap_encode(CoapMessage(
            COAP_CON, code, mid, token, ((COAP_PATH, name.encode()),
                                         *options), payload)))
        device.socket.settimeout(5)
        with contextlib.suppress(TimeoutError):
            while True:
                heard = coap_decode(device.socket.recv(4096))
                if heard.mid == mid and heard.kind == COAP_ACK:
                    return heard
    raise TimeoutError(f"{name} was not answered, four times")


@pytest.mark.parametrize("which", ["uploads", "answers", "observers"])
def test_what_a_question_carries_is_not_kept_with_it(faas, which):
    """400 questions with options of 30 kB would be 12 MB of keys."""
    before, ballast = memory(faas), (65530, b"k" * 30_000)
    devices = [CoapPeer(faas.coap_port) for _ in range(20)]
    for number in range(400):
        own = (COAP_QUERY, b"%s%d" % (which.encode(), number))
        device = devices[number % len(devices)]
        if which == "uploads":
            block = 27, CoapBlock(0, True, 0).encode()
            heard = answered(device, own, ballast, block, payload=b"x" * 16)
        elif which == "answers":
            block = 23, CoapBlock(0, False, 0).encode()
            heard = answered(device, own, ballast, block, payload=b"x" * 40)
        else:
            heard = answered(device, own, ballast, (COAP_OBSERVE, b""),
                             code=CODES["GET"], token=b"%d" % number)
        assert heard.code >> 5 in (0, 2, 5), heard
    for device in devices:
        device.close()
    assert memory(faas) - before < 8 << 20


def test_who_begins_bodies_and_ends_none_keeps_nobody_out(faas):
    with contextlib.closing(CoapPeer(faas.coap_port)) as greedy, (
            contextlib.closing(CoapPeer(faas.coap_port))) as other:
        codes = collections.Counter()
        for number in range(1500):
            heard = answered(greedy, (COAP_QUERY, b"%d" % number), (
                27, CoapBlock(0, True, 0).encode()), payload=b"x" * 16)
            codes[coap_code_text(heard.code)] += 1
        assert codes["5.03"], codes     # So there is no more room for him.
        body = os.urandom(5000)
        code, came = other.ask("POST", "cat", body)
        assert code == "2.04" and came == body


def test_options_without_end_are_no_message(faas):
    """65,000 of them would take as long as ten thousand of other people's."""
    with contextlib.closing(CoapPeer(faas.coap_port)) as device:
        device.socket.settimeout(10)
        device.socket.send(b"\x40\1\x12\x34\xb3cat\x40" + bytes(60_000))
        heard = coap_decode(device.socket.recv(4096))
        assert (heard.kind, heard.code, heard.mid) == (3, 0, 0x1234)


# What is said

@pytest.mark.parametrize("name, code", [
    ("nobody", "4.04"), ("raises", "5.02"), ("chooses", "4.04")])
def test_no_cache_may_keep_a_failure(faas, name, code):
    """Without Max-Age it might, for 60 s (RFC 7252, 5.6.1)."""
    with contextlib.closing(CoapPeer(faas.coap_port)) as device:
        heard = answered(device, name=name, payload=b"red")
        assert (coap_code_text(heard.code), dict(heard.options)[14]) == (
            code, b"")


def test_an_observer_is_never_told_in_another_format(faas):
    """RFC 7641, 4.2: 4.06, and that is the end of the observation."""
    with contextlib.closing(CoapPeer(faas.coap_port)) as device:
        first = answered(device, (COAP_OBSERVE, b""), code=CODES["GET"],
                         name="moody", token=b"o")
        assert dict(first.options)[12] == b"" and first.payload == b"text"
        assert faas.post("/moody", b"sulk").body == b"\xff"
        device.socket.settimeout(10)
        told = coap_decode(device.socket.recv(4096))
        assert (coap_code_text(told.code), told.token) == ("4.06", b"o")
        assert COAP_OBSERVE not in dict(told.options)


def test_binary_metadata_that_comes_twice_is_joined_without_a_blank(faas):
    """Some readers of base64 fail at it; gRPC's own joins by a comma."""
    with greeted(faas) as peer:
        peer.send(call(1, "headers", b"", ("a-bin", "AAEC"),
                       ("a-bin", "/w,AQ")))
        said = json.loads(response_of(peer.answer(1).body[5:]))
    assert said["A-Bin"] == "AAEC,/w==,AQ=="


def test_a_deadline_begins_with_the_head_of_a_call(faas):
    with greeted(faas) as peer:
        peer.send(opened(1, CALL, ("grpc-timeout", "50m")))
        end, other = time.monotonic() + 0.1, itertools.count(3, 2)
        while time.monotonic() < end:       # The message is under way so long,
            stream = next(other)            # and others overtake it.
            peer.send(call(stream, "echo", b"other"))
            assert status(peer.answer(stream)) == "0"
        peer.send(h2.data(1, prefixed(field(1, b"echo")), h2.END_STREAM))
        assert status(peer.answer(1)) == "4"        # DEADLINE_EXCEEDED


# Threads

def test_who_does_not_read_takes_no_thread_per_answer(server):
    """120 answers of 100 kB wait for one socket, and 20 threads are all."""
    faas = server(changes=["faas.MAX_CREW = 20"])
    script(faas, "cat", "cat")
    assert faas.upload("echo", {"fn.py": ECHO}).status == 200
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", faas.grpc_port))
        deaf.sendall(h2.PREFACE + h2.settings(
            (h2.INITIAL_WINDOW_SIZE, (1 << 31) - 1)) + h2.window_update(
                0, (1 << 31) - 65536))
        for number in range(120):
            deaf.sendall(plain(1 + 2 * number, "/echo", b"x" * 100_000))
        with greeted(faas) as peer:         # It calls when those are done.
            eventually(lambda: runs(faas, "echo") >= 20)
            for stream in range(1, 41, 2):
                peer.send(call(stream, "echo", b"good"))
                assert status(peer.answer(stream)) == "0"


def runs(faas, name):
    """Count the calls that have ended."""
    return sum(execution["function"] == name for execution in json.loads(
        faas.get("/-/executions?limit=200").body))


# Time: the core, told what time it is

def conversing(*settings):
    """Give a core that a client has greeted."""
    core = H2Connection(now=0.0)
    core.receive(h2.PREFACE + h2.settings(*settings), 0.0)
    core.take()
    return core


def test_who_is_answered_again_and_again_has_not_fallen_silent():
    """Reflection: a small question every 10 s, for as long as one likes."""
    core = conversing()
    core.receive(opened(1, REFLECT), 0.0)
    core.headers(1, [(":status", "200")])
    for now in range(10, 300, 10):
        core.receive(h2.data(1, prefixed(field(7, b""))), now)
        core.data(1, b"an answer")
        core.take()
        assert core.check(now + 1) == []
    assert core.check(now + 61)[0].what == "reset"


def test_what_once_waited_and_was_taken_waits_no_more():
    """Events of a stream, of which each waits a moment for a window."""
    core = conversing((h2.INITIAL_WINDOW_SIZE, 0))
    core.receive(plain(1, "/events", method="GET"), 0.0)
    core.headers(1, [(":status", "200")])
    for now in range(0, 300, 30):
        core.receive(b"", now)
        core.data(1, b"event\n\n")
        core.take()
        assert core.queued(1) == 7 and core.check(now + 2) == []
        core.receive(h2.window_update(1, 7), now + 3)
        core.take()
        assert core.queued(1) == 0


# What held: kept, so that it goes on holding

def test_streams_that_are_mixed_padded_and_reset_stay_apart(faas):
    rng = random.Random(15)
    with greeted(faas, (h2.INITIAL_WINDOW_SIZE, 1)) as peer:
        wanted, queues = {}, []
        for stream in range(1, 61, 2):
            body = rng.randbytes(rng.choice([1, 50, 3000, 60_000]))
            frames = [h2.headers(stream, (
                (":method", "POST"), (":scheme", "http"), (":path", "/cat"),
                (":authority", "localhost")), h2.END_HEADERS)]
            left = body
            while left:
                size = rng.choice([1, 300, 9000]) if len(left) < 4000 else (
                    9000)
                piece, left = left[:size], left[size:]
                padding = rng.choice([0, 3, 200])
                frames.append(h2.frame(
                    h2.DATA, h2.PADDED | (0 if left else h2.END_STREAM),
                    stream, bytes([padding]) + piece + bytes(padding)))
            if rng.random() < 0.2:
                frames[rng.randrange(1, len(frames) + 1):] = [
                    h2.rst_stream(stream)]
            else:
                wanted[stream] = body
            queues.append(frames)
        peer.flood(b"".join(mixed(rng, queues)))
        peer.send(*[h2.window_update(stream, 1 << 20) for stream in wanted],
                  h2.window_update(0, 1 << 24))
        for stream, body in wanted.items():
            answer = peer.answer(stream)
            assert (answer.status, answer.body) == (200, body)


def mixed(rng, queues):
    """Give all frames, those of each queue in order; heads go in order."""
    fresh, begun = collections.deque(queues), []
    while fresh or begun:
        if fresh and (not begun or rng.random() < 0.3):
            begun.append(fresh.popleft())
            queue = begun[-1]
        else:
            queue = rng.choice(begun)
        yield queue.pop(0)
        begun = [queue for queue in begun if queue]


def test_a_redeploy_fails_no_call_at_either_door(faas):
    """Answers of all versions come, of each call one, and no failure."""
    def version(number):
        text = f"def fn(input):\n    return '{number} ' + input"
        assert faas.upload("grows", {"fn.py": text}).status == 200
    version(0)
    seen, number = collections.Counter(), 0
    with greeted(faas) as peer, contextlib.closing(
            CoapPeer(faas.coap_port)) as device:
        device.socket.setblocking(True)
        for turn in range(5):
            streams = [1 + 2 * (40 * turn + at) for at in range(40)]
            peer.send(*[call(stream, "grows", b"x") for stream in streams])
            version(turn + 1)
            assert device.ask("POST", "grows", b"x") == (
                "2.04", b"%d x" % (turn + 1))
            for stream in streams:
                answer = peer.answer(stream)
                assert status(answer) == "0", answer
                seen[response_of(answer.body[5:])] += 1
    assert sum(seen.values()) == 200
    assert {int(text.split()[0]) for text in seen} <= set(range(6))


def test_500_calls_that_are_called_off_at_once_leave_all_as_it_was(faas):
    assert faas.upload("sleeps", {
        "fn.py": "import time\ndef fn(input):\n    time.sleep(60)"
    }).status == 200
    with greeted(faas) as peer:
        for first in range(1, 1001, 200):
            streams = range(first, first + 200, 2)
            peer.send(*[call(stream, "sleeps") for stream in streams])
            peer.round_trip()
            peer.send(*[h2.rst_stream(stream) for stream in streams])
            peer.round_trip()
        peer.send(call(1001, "echo", b"well"))
        assert response_of(peer.answer(1001).body[5:]) == b"well"
        assert peer.goodbye is None
