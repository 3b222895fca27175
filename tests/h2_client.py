"""A client of HTTP/2 that says what it is told to, be it right or wrong.

A frame is bytes, made by one function for each kind. A Peer is a socket that
sends them and reads what comes back:

    with Peer(port) as peer:
        peer.handshake()
        peer.send(headers(1, POST, END_HEADERS), data(1, b"hi", END_STREAM))
        assert peer.answer(1).status == 200

No rule of the protocol is checked on the way out; that is what it is for.
Field blocks are literals without indexing, so that each can be read in hex.
"""

import collections
import dataclasses
import select
import socket
import typing

from faas import HpackDecoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# RFC 9113, 6: the kinds of frame
(DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY,
 WINDOW_UPDATE, CONTINUATION) = range(10)
KINDS = ("DATA HEADERS PRIORITY RST_STREAM SETTINGS PUSH_PROMISE PING GOAWAY "
         "WINDOW_UPDATE CONTINUATION").split()

# Flags: one bit may mean two things, on two kinds of frame
END_STREAM = ACK = 0x01
END_HEADERS = 0x04
PADDED = 0x08
WITH_PRIORITY = 0x20
WHOLE = END_STREAM | END_HEADERS        # a request without a body

# RFC 9113, 7: the error codes
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR,
 SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL,
 COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM) = range(12)

# RFC 9113, 6.5.2: the settings
(HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE,
 MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE) = range(1, 7)

GET = ((":method", "GET"), (":scheme", "http"), (":path", "/"),
       (":authority", "localhost"))
POST = ((":method", "POST"),) + GET[1:]


# What is sent

def frame(kind, flags=0, stream=0, payload=b""):
    """Make any frame (RFC 9113, 4.1).

    >>> frame(PING, ACK, 0, b"12345678").hex(" ", 4)
    '00 00080601 00000000 31323334 35363738'
    """
    return (len(payload).to_bytes(3, "big") + bytes([kind, flags])
            + stream.to_bytes(4, "big") + payload)


def octets(*numbers):
    """Give each number four octets."""
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def integer(number, bits, first=0):
    """Write an integer behind the high bits of an octet (RFC 7541, 5.1).

    >>> integer(1337, 5).hex(" ")
    '1f 9a 0a'
    """
    most = (1 << bits) - 1
    if number < most:
        return bytes([first | number])
    written, number = bytearray([first | most]), number - most
    while number >= 128:
        written.append(number % 128 + 128)
        number //= 128
    return bytes(written) + bytes([number])


def string(text):
    """Write a string literal without Huffman's code (RFC 7541, 5.2)."""
    raw = text if isinstance(text, bytes) else text.encode("latin-1")
    return integer(len(raw), 7) + raw


def block(fields):
    """Write fields as literals without indexing (RFC 7541, 6.2.2).

    >>> block([("te", "trailers")])
    b'\\x00\\x02te\\x08trailers'
    """
    return b"".join(b"\0" + string(name) + string(value)
                    for name, value in fields)


def headers(stream, fields=GET, flags=WHOLE):
    """Open a stream, or end it with trailers; fields may be a block."""
    return frame(HEADERS, flags, stream, _block(fields))


def continuation(stream, fields=(), flags=END_HEADERS):
    return frame(CONTINUATION, flags, stream, _block(fields))


def _block(fields):
    return fields if isinstance(fields, bytes) else block(fields)


def data(stream, body=b"", flags=0):
    return frame(DATA, flags, stream, body)


def priority(stream, on=0, weight=255):
    return frame(PRIORITY, 0, stream, octets(on) + bytes([weight]))


def rst_stream(stream, code=CANCEL):
    return frame(RST_STREAM, 0, stream, octets(code))


def settings(*pairs):
    """Send settings, each an (identifier, value), in this order."""
    return frame(SETTINGS, 0, 0, b"".join(
        name.to_bytes(2, "big") + octets(value) for name, value in pairs))


def ping(payload=b"12345678", flags=0):
    return frame(PING, flags, 0, payload)


def goaway(last=0, code=NO_ERROR, sentence=b""):
    return frame(GOAWAY, 0, 0, octets(last, code) + sentence)


def window_update(stream, more):
    return frame(WINDOW_UPDATE, 0, stream, octets(more))


# What comes back

class Frame(typing.NamedTuple):
    """A frame as it was read."""
    kind: int
    flags: int
    stream: int
    payload: bytes

    def __str__(self):
        known = self.kind < len(KINDS)
        return (f"{KINDS[self.kind] if known else self.kind} "
                f"flags={self.flags:#04x} stream={self.stream} "
                f"length={len(self.payload)} {self.payload[:32].hex()}")


@dataclasses.dataclass
class Answer:
    """What one stream has brought so far."""
    fields: list = dataclasses.field(default_factory=list)
    body: bytes = b""
    trailers: list = dataclasses.field(default_factory=list)
    ended: bool = False
    code: int | None = None     # of the RST_STREAM, if one came

    @property
    def status(self):
        return int(dict(self.fields)[":status"])


class Goodbye(typing.NamedTuple):
    """What a GOAWAY says (RFC 9113, 6.8)."""
    last: int
    code: int
    sentence: str


class Peer:
    """One connection to a server, which reads what it is asked to read."""

    def __init__(self, port, host="127.0.0.1", credit=False, silent=False):
        self.socket = socket.create_connection((host, port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.credit = credit        # whether to give windows back as they go
        self.silent = silent        # whether to leave SETTINGS without an ACK
        self.arrived = bytearray()  # not yet a whole frame
        self.ended = False          # the server has closed the connection
        self.seen = []              # all frames, to be shown by a failure
        self.settings = {}          # those of the server
        self.answers = collections.defaultdict(Answer)
        self.goodbye = None
        self.decoder, self.fragments = HpackDecoder(4096), b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *frames):
        """Send all; a server that has hung up will be noticed in reading."""
        try:
            self.socket.sendall(b"".join(frames))
        except ConnectionError:
            pass

    def handshake(self, *pairs):
        """Greet, and wait until each side has the other's settings (3.4)."""
        self.send(PREFACE, settings(*pairs))
        self.wait(SETTINGS)
        self.acknowledged()

    def acknowledged(self):
        """Wait until the server says that it follows our last settings."""
        while not self.wait(SETTINGS).flags & ACK:
            pass

    def round_trip(self, payload=b"are you?"):
        """Send a PING and wait for its ACK; what came before it, is seen."""
        self.send(ping(payload))
        echo = self.wait(PING)
        assert (echo.flags, echo.payload) == (ACK, payload), self

    def answer(self, stream):
        """Wait until a stream has ended, and give what it brought."""
        while not self.answers[stream].ended or self.fragments:
            assert self.read(), f"the connection ended before {stream}: {self}"
        return self.answers[stream]

    def wait(self, *kinds):
        """Read up to the next frame of one of these kinds, and give it."""
        while found := self.read():
            if found.kind in kinds:
                return found
        raise AssertionError(
            f"no {' or '.join(KINDS[kind] for kind in kinds)} came: {self}")

    def end(self):
        """Read to the end of the connection; give the Goodbye, or None."""
        while self.read():
            pass
        return self.goodbye

    def read(self):
        """Read one frame; None when the connection has ended."""
        while not self._whole():
            if self.ended or not self._receive():
                return None
        size = 9 + int.from_bytes(self.arrived[:3], "big")
        raw = bytes(self.arrived[:size])
        del self.arrived[:size]
        stream = int.from_bytes(raw[5:9], "big") & 0x7fffffff
        found = Frame(raw[3], raw[4], stream, raw[9:])
        self.seen.append(found)
        self._notice(found)
        return found

    def flood(self, flow):
        """Send all and read meanwhile, so that neither side waits for ever.

        Ends early when the server ends the connection; gives the number of
        octets that were sent. What was read waits for read().
        """
        sent, flow = 0, memoryview(flow)
        while sent < len(flow) and not self.ended:
            readable, writable, _ = select.select(
                [self.socket], [self.socket], [], 20)
            assert readable or writable, f"the server neither reads: {self}"
            if readable:
                self._receive()
            if writable and not self.ended:
                try:
                    sent += self.socket.send(flow[sent:sent + 65_536])
                except ConnectionError:
                    break       # what it said before can still be read
        return sent

    def _whole(self):
        size = 9 + int.from_bytes(self.arrived[:3], "big")
        return 9 <= len(self.arrived) >= size

    def _receive(self):
        try:
            piece = self.socket.recv(262_144)
        except ConnectionError:
            piece = b""
        self.arrived += piece
        self.ended = not piece
        return piece

    def _notice(self, found):
        kind, flags, stream, payload = found
        if kind == SETTINGS and not flags & ACK:
            self.settings |= {
                int.from_bytes(payload[at:at + 2], "big"):
                int.from_bytes(payload[at + 2:at + 6], "big")
                for at in range(0, len(payload), 6)}
            if not self.silent:
                self.send(frame(SETTINGS, ACK))
        elif kind == GOAWAY:
            self.goodbye = Goodbye(int.from_bytes(payload[:4], "big"),
                                   int.from_bytes(payload[4:8], "big"),
                                   payload[8:].decode())
        elif kind == RST_STREAM:
            self.answers[stream].code = int.from_bytes(payload, "big")
            self.answers[stream].ended = True
        elif kind == DATA:
            self._notice_data(stream, payload)
        elif kind in (HEADERS, CONTINUATION):
            self._notice_fields(flags, stream, payload)
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.answers[stream].ended = True

    def _notice_data(self, stream, payload):
        self.answers[stream].body += payload
        if self.credit and payload:
            self.send(window_update(stream, len(payload)),
                      window_update(0, len(payload)))

    def _notice_fields(self, flags, stream, payload):
        self.fragments += payload
        if flags & END_HEADERS:
            fields = self.decoder.decode(self.fragments, 1 << 20)
            answer, self.fragments = self.answers[stream], b""
            if answer.fields:
                answer.trailers = fields
            else:
                answer.fields = fields

    def __repr__(self):
        """Show the last frames that came, one on a line."""
        return "\n  ".join(["what came:", *map(str, self.seen[-12:]),
                            "(and the end)" if self.ended else "(and waits)"])
