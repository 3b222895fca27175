"""Chapters 14 and 15, under attack: floods, slowness, and broken bytes.

One server stands through all of it. Beside each attacker a well-behaved
client of each door is served, the server's memory stays where it was, and
nothing that no chapter foresaw is printed. What is late after a minute is
late sooner on a second server, whose constants are smaller.
"""

import concurrent.futures
import contextlib
import itertools
import os
import pathlib
import random
import re
import socket
import threading

import pytest
from conftest import Server, eventually, script
from h2_client import (
    ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM,
    ENHANCE_YOUR_CALM, GET, HEADERS, INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS, NO_ERROR, PADDED, PING, POST, PREFACE, PRIORITY,
    REFUSED_STREAM, RST_STREAM, SETTINGS, WHOLE, WINDOW_UPDATE, Peer, block,
    continuation, data, frame, goaway, headers, octets, ping, priority,
    rst_stream, settings, string, window_update)

GROWTH = 24 << 20           # bytes of memory that an attack may leave behind
DRIFT = 6 << 20             # the same, for 40,000 broken requests: 150 each


def to(name, method="POST"):
    """The head of a request to a function."""
    return ((":method", method), (":scheme", "http"), (":path", f"/{name}"),
            (":authority", "localhost"))


# The server, and those who are served all the while

class Device:
    """A well-behaved client of CoAP: it repeats what was not answered."""

    def __init__(self, port):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(1)       # half of ACK_TIMEOUT: it is close by
        self.mid = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def ask(self, code, rest=b""):
        """Send a CON under a fresh id, which is its token, too."""
        self.mid = self.mid % 65_535 + 1
        mid = self.mid.to_bytes(2, "big")
        token = mid if code else b""
        for _ in range(20):
            self.socket.send(bytes([0x40 + len(token), code]) + mid + token
                             + rest)
            with contextlib.suppress(TimeoutError):
                return self.hear(mid)
        raise AssertionError("CoAP is not answered any more")

    def hear(self, mid):
        """Wait for the answer, in the ACK or on its own, or for the RST
        (RFC 7252, 5.2)."""
        while True:
            answer = self.socket.recv(2048)
            if answer[:4] == b"\x70\0" + mid:
                return answer
            if answer[1] and answer[4:6] == mid:
                if answer[0] >> 4 == 4:         # a CON, which wants an ACK
                    self.socket.send(b"\x60\0" + answer[2:4])
                return answer

    def ping(self):
        """What was sent before has been looked at: the port is a queue."""
        self.ask(0)


class Doors:
    """The server that is attacked, and what can be seen of it."""

    def __init__(self, home, *changes):
        self.faas = Server(home, [], {}, *changes)
        self.faas.wait_until_ready()
        script(self.faas, "echo", "exec cat")
        script(self.faas, "large", "head -c 1048576 /dev/zero; :")
        script(self.faas, "slow", "sleep 600; :")
        self.http, self.coap = self.faas.grpc_port, self.faas.coap_port
        self.proc = pathlib.Path(f"/proc/{self.faas.pid}")

    def memory(self):
        """Give the bytes that the server's process has in memory."""
        status = (self.proc / "status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def sockets(self):
        """Give the names of the sockets that the server has open."""
        found = set()
        for fd in (self.proc / "fd").iterdir():
            with contextlib.suppress(OSError):      # It was closed meanwhile.
                found.add(os.readlink(fd))
        return {name for name in found if name.startswith("socket:")}

    def calls_of(self, name):
        """Count the processes of a function that run now."""
        path, found = os.fsencode(self.faas.functions / name), 0
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):      # It has ended meanwhile.
                found += path in (process / "cmdline").read_bytes()
        return found

    def check(self):
        assert "Traceback (most recent" not in self.faas.output, (
            self.faas.output)


@contextlib.contextmanager
def opened(tmp_path_factory, *changes):
    if not os.path.exists("/proc/self/status"):
        pytest.skip("a process's memory is read from /proc: run it on Linux")
    doors = Doors(tmp_path_factory.mktemp("floods"), *changes)
    try:
        yield doors
        doors.faas.stop()
        doors.check()
    finally:
        doors.faas.kill()


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    with opened(tmp_path_factory, "faas.WAITING = 4 << 20") as doors:
        yield doors


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """A server that is sooner out of patience."""
    with opened(tmp_path_factory, "faas.TICK = 0.1", "faas.SILENCE = 0.5",
                "faas.H2_FRAME_TIME = 0.5", "faas.H2_STALL = 0.5",
                "faas.SEND_TIME = 0.5") as doors:
        yield doors


class Neighbour:
    """A well-behaved client of both doors, on connections that it keeps."""

    def __init__(self, doors):
        self.peer, self.device = Peer(doors.http), Device(doors.coap)
        self.peer.handshake()
        self.streams, self.served = itertools.count(1, 2), 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.peer.socket.close()
        self.device.socket.close()

    def be_served(self):
        """POST /echo through both, and look at what comes back."""
        peer, stream = self.peer, next(self.streams)
        peer.send(headers(stream, to("echo"), END_HEADERS),
                  data(stream, b"hi", END_STREAM))
        answer = peer.answer(stream)
        assert (answer.status, answer.body) == (200, b"hi"), peer
        del peer.answers[stream], peer.seen[:]
        echo = self.device.ask(0x02, b"\xb4echo\xffhi")
        assert echo[1] == 0x44 and echo.endswith(b"\xffhi"), echo.hex()
        self.served += 1

    def be_served_until(self, stop):
        while not stop.is_set():
            self.be_served()
        self.be_served()


@pytest.fixture
def doors(standing):
    """The server, and beside the test a neighbour who is always served."""
    stop = threading.Event()
    with (Neighbour(standing) as neighbour,
          concurrent.futures.ThreadPoolExecutor(1) as pool):
        neighbour.be_served()
        before = standing.memory()
        life = pool.submit(neighbour.be_served_until, stop)
        try:
            yield standing
        finally:
            stop.set()
        life.result(timeout=60)         # raises what went wrong there
    assert neighbour.served > 1
    eventually(lambda: standing.calls_of("slow") == 0)
    eventually(lambda: standing.memory() - before < GROWTH)
    standing.check()


@contextlib.contextmanager
def attacker(doors, *pairs):
    with Peer(doors.http) as peer:
        peer.handshake(*pairs)
        yield peer


# Floods: what is sent again and again, and what the server says of it

OPEN = headers(1, POST, END_HEADERS)
CUT = headers(1, GET, END_STREAM)
TIMES = 20_000
MOST = (1 << 31) - 1           # of a window


def streams(times, *frames):
    """Send these frames on one new stream after another."""
    return b"".join(make(stream) for stream in range(1, 2 * times, 2)
                    for make in frames)


IDLE = "a second bring nothing"
FLOODS = {
    # CVE-2019-9512, 9515, 9518 and their relatives
    "PING": (ping() * TIMES, IDLE),
    "PING with ACK": (ping(flags=ACK) * TIMES, IDLE),
    "SETTINGS": (settings() * TIMES, IDLE),
    "SETTINGS with ACK": (frame(SETTINGS, ACK) * TIMES, IDLE),
    "many settings": (settings(*[(9, 0)] * 2000) * 30, IDLE),
    "empty DATA": (OPEN + data(1) * TIMES, IDLE),
    "DATA that is padding": (
        OPEN + frame(DATA, PADDED, 1, b"\xff" + bytes(255)) * TIMES, IDLE),
    "PRIORITY": (priority(1) * TIMES, IDLE),
    "WINDOW_UPDATE": (window_update(0, 1) * TIMES, IDLE),
    "WINDOW_UPDATE of a stream": (OPEN + window_update(1, 1) * TIMES, IDLE),
    "GOAWAY": (goaway() * TIMES, IDLE),
    "frames of no known type": (frame(99) * TIMES, IDLE),
    "RST_STREAM of a closed stream": (OPEN + rst_stream(1) * TIMES, IDLE),
    # CVE-2023-44487, and CVE-2025-8671, where the server is made to do it
    "rapid reset": (streams(TIMES // 4, headers, rst_stream),
                    "a second are reset"),
    "rapid reset of a slow function": (
        streams(TIMES // 4, lambda stream: headers(stream, to("slow")),
                rst_stream), "a second are reset"),
    "made you reset": (
        streams(TIMES // 4, headers, lambda stream: window_update(stream, 0)),
        "a second are reset"),
    "requests that are malformed": (
        streams(TIMES // 4, lambda stream: headers(stream, GET[1:])),
        "a second are reset"),
    # CVE-2024-27316: 32 MB, and then as many pieces of nothing
    "endless CONTINUATION": (
        CUT + continuation(1, bytes(16_000), 0) * 2000, "a block has more"),
    "empty CONTINUATION": (
        CUT + continuation(1, b"", 0) * TIMES, "a block has more"),
    # An entry of 4 kB, and 12,000 bytes that name it: 48 MB of fields
    "a bomb of HPACK": (
        headers(1, b"\x40" + string("x") + string("x" * 4000)
                + b"\xbe" * 12_000), "a block has more"),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_ends_in_enhance_your_calm(doors, flood):
    flow, sentence = FLOODS[flood]
    with attacker(doors) as peer:
        peer.flood(flow)
        goodbye = peer.end()
        assert goodbye, f"the end without a GOAWAY; {peer}"
        assert goodbye.code == ENHANCE_YOUR_CALM, peer
        assert sentence in goodbye.sentence


# Slowness: who sends little, and holds much

def test_a_call_that_is_reset_is_called_off(doors):
    with attacker(doors) as peer:
        peer.send(*(headers(stream, to("slow")) for stream in (1, 3, 5)))
        eventually(lambda: doors.calls_of("slow") == 3)
        peer.send(*map(rst_stream, (1, 3, 5)))
        eventually(lambda: doors.calls_of("slow") == 0)
        peer.round_trip()


def test_half_open_streams_are_bounded_and_hold_nobody_up(doors):
    with contextlib.ExitStack() as held:
        for _ in range(20):
            peer = held.enter_context(attacker(doors))
            most = peer.settings[MAX_CONCURRENT_STREAMS]
            assert most <= 128
            peer.send(streams(most + 1, lambda stream: headers(
                stream, to("echo"), END_HEADERS)))
            assert peer.answer(2 * most + 1).code == REFUSED_STREAM, peer
            peer.round_trip()


def test_half_open_connections_hold_nobody_up(doors):
    greetings = itertools.cycle([
        b"", PREFACE[:10], PREFACE, PREFACE + settings() + ping()[:12],
        PREFACE + settings() + CUT])
    with contextlib.ExitStack() as held:
        for greeting in itertools.islice(greetings, 300):
            peer = held.enter_context(Peer(doors.http, silent=True))
            peer.send(greeting)
            peer.wait(SETTINGS)


def test_a_client_that_never_reads_holds_nobody_up(doors):
    with attacker(doors, (INITIAL_WINDOW_SIZE, MOST)) as peer:
        peer.send(window_update(0, MOST - 65_535),
                  streams(16, lambda stream: headers(stream, to("large"))))
        eventually(lambda: doors.calls_of("large") > 0)
        eventually(lambda: doors.calls_of("large") == 0, seconds=60)


HALVES = {
    "nothing at all": (b"", NO_ERROR, "of silence"),
    "no request": (PREFACE + settings(), NO_ERROR, "of silence"),
    "half a preface": (PREFACE[:10], ENHANCE_YOUR_CALM, "was not whole"),
    "a preface": (PREFACE, ENHANCE_YOUR_CALM, "was not whole"),
    "half a frame": (PREFACE + settings() + ping()[:12],
                     ENHANCE_YOUR_CALM, "was not whole"),
    "half a block": (PREFACE + settings() + CUT,
                     ENHANCE_YOUR_CALM, "was not whole"),
}


@pytest.mark.parametrize("half", HALVES)
def test_a_connection_that_is_half_open_has_its_time(hasty, half):
    said, code, sentence = HALVES[half]
    with Peer(hasty.http, silent=True) as peer:
        peer.send(said)
        goodbye = peer.end()
        assert goodbye and goodbye.code == code, peer
        assert sentence in goodbye.sentence


def test_a_stream_that_is_half_open_has_its_time(hasty):
    with attacker(hasty) as peer:
        peer.send(streams(100, lambda stream: headers(
            stream, to("echo"), END_HEADERS)))
        assert {peer.answer(stream).code
                for stream in range(1, 200, 2)} == {CANCEL}


def test_a_stream_whose_window_stays_closed_is_reset(hasty):
    with attacker(hasty, (INITIAL_WINDOW_SIZE, 0)) as peer:
        peer.send(headers(1, to("large")))
        assert peer.answer(1).code == ENHANCE_YOUR_CALM, peer
        peer.round_trip()


def test_a_connection_whose_window_stays_closed_is_ended(hasty):
    with attacker(hasty, (INITIAL_WINDOW_SIZE, MOST)) as peer:
        peer.send(headers(1, to("large")))
        goodbye = peer.end()
        assert len(peer.answers[1].body) == 65_535
        assert goodbye and goodbye.code == ENHANCE_YOUR_CALM, peer
        assert "the connection's window was closed" in goodbye.sentence


def test_a_client_that_never_reads_is_left(hasty):
    before = hasty.sockets()
    with attacker(hasty, (INITIAL_WINDOW_SIZE, MOST)) as peer:
        its = hasty.sockets() - before
        assert its
        peer.send(window_update(0, MOST - 65_535),
                  streams(16, lambda stream: headers(stream, to("large"))))
        eventually(lambda: not its & hasty.sockets(), seconds=60)


def test_answers_for_which_there_is_no_window_are_bounded(doors):
    """Of 1 MB each, four may wait here; the others become a sentence."""
    with attacker(doors, (INITIAL_WINDOW_SIZE, 0)) as peer:
        peer.send(streams(8, lambda stream: headers(stream, to("large"))))
        asked = range(1, 16, 2)
        for stream in asked:
            while not (peer.answers[stream].fields
                       or peer.answers[stream].ended):
                assert peer.read(), peer
        peer.send(window_update(0, MOST - 65_535),
                  settings((INITIAL_WINDOW_SIZE, MOST)))
        came = sum(len(peer.answer(stream).body) for stream in asked)
        assert 4 << 20 <= came < 5 << 20


# Broken bytes: what a client may send whose memory fails, or who means harm

# RFC 7252, Appendix A, and what else a device may say: a POST with a token, a
# block of an upload and one of an answer, Observe, discovery.
MESSAGES = [
    b"\x40\x01\x7d\x34\xbbtemperature",
    b"\x41\x01\x7d\x35\x20\xbbtemperature",
    b"\x60\x45\x7d\x34\xff22.3 C",
    b"\x40\x00\x12\x34",
    b"\x70\x00\x12\x34",
    b"\x50\x01\x00\x01\xd0\x00",
    b"\x44\x02\x00\x02test\xb7nowhere\xffhi",
    b"\x42\x02\x00\x03ab\xb7nowhere\xd1\x03\x0e\xff0123456789abcdef",
    b"\x42\x01\x00\x04ab\xb7nowhere\xc1\x02",
    b"\x42\x01\x00\x05ab\x60\x57nowhere",
    b"\x42\x01\x00\x06ab\xbb.well-known\x04core\x49href=/ec*"]


def mutated(rng, raw):
    """Change some of these bytes."""
    raw = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(raw) + 1)
        match rng.randrange(6):
            case 0 | 1 if at < len(raw):
                raw[at] ^= 1 << rng.randrange(8)
            case 2 if at < len(raw):
                raw[at] = rng.choice((0, 1, 0x3f, 0x7f, 0x80, 0xff))
            case 3:
                del raw[at:at + rng.randrange(4)]
            case 4:
                raw[at:at] = rng.randbytes(rng.randrange(4))
            case 5:
                raw[at:at] = raw[:at][-rng.randrange(1, 20):]
    return bytes(raw)


def kinds_of_requests():
    """What is broken: lists of (kind, flags, payload); fields are a tuple."""
    post, get = to("nothing"), to("nothing", "GET")
    call = to("openfogstack.tinyfaas.tinyfaas.TinyFaaS/Request") + (
        ("content-type", "application/grpc"), ("te", "trailers"),
        ("grpc-timeout", "1S"), ("lab-bin", "AAEC"))
    message = b"\0\0\0\0\x0c\x0a\4nope\x12\4hi\xc3\xa9"
    return [
        [(HEADERS, WHOLE, post)],
        [(HEADERS, WHOLE, bytes.fromhex("8286844186a0e41d139d09"))],
        [(HEADERS, END_HEADERS, get + (("content-length", "2"),)),
         (DATA, END_STREAM, b"hi")],
        [(HEADERS, END_HEADERS, post), (DATA, PADDED, b"\2hi\0\0"),
         (HEADERS, WHOLE, (("x-sum", "1"),))],
        [(HEADERS, END_STREAM, get[:2]), (CONTINUATION, END_HEADERS, get[2:])],
        [(HEADERS, END_HEADERS, call), (DATA, 0, message[:7]),
         (DATA, END_STREAM, message[7:])],
        [(HEADERS, END_HEADERS, call), (RST_STREAM, 0, octets(CANCEL))],
        [(HEADERS, END_HEADERS, post), (WINDOW_UPDATE, 0, octets(9))],
        [(PRIORITY, 0, octets(0) + b"\0"), (HEADERS, WHOLE, post)],
    ]


def spell(stream, frames):
    return b"".join(
        frame(kind, flags, stream, payload if isinstance(payload, bytes)
              else block(payload)) for kind, flags, payload in frames)


def with_another_field(rng, fields):
    """Break a name or a value, or where a field stands."""
    fields = list(fields)
    at = rng.randrange(len(fields))
    name, value = fields[at]
    match rng.randrange(6):
        case 0:
            fields[at] = mutated(rng, name.encode()), value
        case 1:
            fields.insert(rng.randrange(len(fields)), fields.pop(at))
        case 2:
            fields.append(fields[at])
        case _:
            fields[at] = name, mutated(rng, value.encode())
    return tuple(fields)


def broken(rng, frames, stream):
    """Spell a request with something wrong in it: mostly on its stream, so
    that the connection lives on, and at times in the frames themselves."""
    frames = list(frames)
    at = rng.randrange(len(frames))
    kind, flags, payload = frames[at]
    match rng.randrange(80):
        case 0:
            frames[at] = rng.randrange(12), flags, payload
        case 1:
            frames[at] = kind, rng.randrange(256), payload
        case 2:
            frames.insert(at, frames[rng.randrange(len(frames))])
        case 3:
            del frames[at]
        case 4:
            frames.insert(at, (rng.randrange(12), rng.randrange(256),
                               rng.randbytes(rng.randrange(12))))
        case 5:
            return mutated(rng, spell(stream, frames))
        case 6:
            return frame(HEADERS, WHOLE, stream, mutated(rng, block(GET)))
        case _ if payload and isinstance(payload, tuple):
            frames[at] = kind, flags, with_another_field(rng, payload)
        case _ if kind == DATA and not flags & PADDED:
            frames[at] = kind, flags, mutated(rng, payload)
        case _:
            frames.insert(at, (99, rng.randrange(256), mutated(rng, b"?")))
    return spell(stream, frames)


def look_at(door, batch):
    """Send sequences on a connection; give how many the server looked at.

    A PING stands before each, and one behind the last: what lies between
    two that were answered, was read. If the server ends the connection in
    between, it ended in what came next.
    """
    with Peer(door) as peer:
        peer.send(PREFACE, settings())
        peer.flood(b"".join(ping(octets(0, at)) + sequence
                            for at, sequence in enumerate(batch))
                   + ping(octets(0, len(batch))))
        peer.socket.shutdown(socket.SHUT_WR)
        peer.end()
    last = max(int.from_bytes(seen.payload, "big") for seen in peer.seen
               if seen.kind == PING)
    return min(last + 1, len(batch))


def test_50_000_broken_requests_do_no_harm(standing):
    rng, kinds, memory = random.Random(15), kinds_of_requests(), []
    with Neighbour(standing) as neighbour:
        for _ in range(50):
            done = 0
            while done < 1000:
                done += look_at(standing.http, [
                    broken(rng, rng.choice(kinds), stream)
                    for stream in range(1, 129, 2)])
            neighbour.be_served()
            memory.append(standing.memory())
    assert memory[-1] - memory[9] < DRIFT, memory
    standing.check()


def test_50_000_broken_datagrams_do_no_harm(standing):
    rng, memory = random.Random(14), []
    with Neighbour(standing) as neighbour, Device(standing.coap) as attacker:
        for _ in range(50):
            for _ in range(10):
                for _ in range(100):
                    attacker.socket.send(mutated(rng, rng.choice(MESSAGES)))
                neighbour.device.ping()     # which has waited behind them
            neighbour.be_served()
            memory.append(standing.memory())
    assert memory[-1] - memory[9] < DRIFT, memory
    standing.check()
