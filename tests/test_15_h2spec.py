"""Chapter 15, from outside: what RFC 9113 says that a server must do.

The 147 cases of h2spec's strict mode, by its numbers and titles, each a few
frames and what must come back. To run one: -k "http2/6.5.3/2". Sections are
those of RFC 9113 where no other RFC is named, and so are the sentences, less
their references; h2spec's numbers are those of RFC 7540, which it replaced.

h2spec is content with any of several ends. Here a connection error is a
GOAWAY that carries the code of the RFC, and then the end of the connection;
a stream error is a RST_STREAM with that code on a connection that lives on,
or a connection error of that code (5.4.1 leaves the choice). That nothing
happens is shown by a PING that comes back, not by waiting.
"""

import json
import pathlib
import typing

import pytest
from conftest import Server
from h2_client import (
    ACK, COMPRESSION_ERROR, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM,
    FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GET, GOAWAY, HEADERS,
    INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, NO_ERROR,
    PADDED, PING, POST, PREFACE, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE,
    REFUSED_STREAM, RST_STREAM, SETTINGS, STREAM_CLOSED, WHOLE, WINDOW_UPDATE,
    WITH_PRIORITY, Peer, block, continuation, data, frame, goaway, headers,
    octets, ping, priority, rst_stream, settings, window_update)

VECTORS = (pathlib.Path(__file__).parents[2] / "shared" / "vectors"
           / "h2-cases.json")


class Case(typing.NamedTuple):
    """Frames to send, which are bytes, and what must come, functions."""
    number: str
    title: str
    section: str
    steps: tuple
    greeted: bool               # whether both sides have said SETTINGS before


def case(number, title, section, *steps, greeted=True):
    return Case(number, title, section, steps, greeted)


# What must come back

def alive(peer):
    """A PING comes back, and no complaint before it (6.7)."""
    said = len(peer.seen)
    peer.round_trip()
    assert not {RST_STREAM, GOAWAY} & {
        seen.kind for seen in peer.seen[said:]}, peer


def echoed(peer):
    """A PING of ours comes back, strange as it was."""
    assert peer.wait(PING)[1:] == (ACK, 0, b"are you?"), peer


def greeted(peer):
    """The server's first frame is its SETTINGS (3.4)."""
    first = peer.read()
    assert first and (first.kind, first.flags) == (SETTINGS, 0), peer


def acknowledged(peer):
    """Our last SETTINGS have been applied (6.5.3)."""
    peer.acknowledged()


def answered(stream=1):
    """A whole response (8.1), whatever its status: nothing lives at /."""
    def check(peer):
        answer = peer.answer(stream)
        assert answer.code is None and 200 <= answer.status <= 599, peer
        assert answer.body, peer
    return check


def answered_without_content(peer):
    """The response to a HEAD has no content (RFC 9110 9.3.2)."""
    answer = peer.answer(1)
    assert answer.code is None and not answer.body, peer


def exactly(size):
    """So many octets of DATA, as the window allows, and no more (6.9.1)."""
    def check(peer):
        before = len(peer.answers[1].body)
        while len(peer.answers[1].body) < before + size:
            assert peer.read(), peer
        peer.round_trip()
        assert len(peer.answers[1].body) == before + size, peer
    return check


def gone(code):
    """A connection error: GOAWAY with this code, then the end (5.4.1)."""
    def check(peer):
        goodbye = peer.end()
        assert goodbye and goodbye.code == code, peer
    return check


def closed(peer):
    """The end, where the GOAWAY before it may be left out (3.4)."""
    goodbye = peer.end()
    assert goodbye is None or goodbye.code == PROTOCOL_ERROR, peer


def reset(*codes, stream=1):
    """A stream error (5.4.2): the stream ends, and with it nothing else."""
    def check(peer):
        while (found := peer.wait(RST_STREAM, GOAWAY)).kind == RST_STREAM:
            if found.stream == stream:
                assert peer.answers[stream].code in codes, peer
                return peer.round_trip()
        assert peer.end().code in codes, peer
    return check


def one_too_many(peer):
    """One stream more than the server's settings allow is refused (5.1.2)."""
    most = peer.settings[MAX_CONCURRENT_STREAMS]
    streams = range(1, 2 * (most + 1), 2)
    peer.send(*(headers(stream) for stream in streams))
    reset(PROTOCOL_ERROR, REFUSED_STREAM, stream=streams[-1])(peer)


def at_peace(peer):
    """After our GOAWAY the server may close, but has nothing to say (7)."""
    peer.send(ping())
    while (found := peer.read()) and found.kind != PING:
        assert found.kind not in (RST_STREAM, GOAWAY) or (
            found.kind == GOAWAY and peer.goodbye.code == NO_ERROR), peer


# What is sent, when it is more than one frame

def window(size):
    return settings((INITIAL_WINDOW_SIZE, size))


def but(**changes):
    """Change fields of GET: but(method=None) leaves :method out."""
    return tuple((name, changes.get(name[1:], value)) for name, value in GET
                 if changes.get(name[1:], value) is not None)


# The answer has no window, and so the stream stays half-closed (remote).
HELD = window(0) + headers(1)
OPEN = headers(1, POST, END_HEADERS)        # a request with a body to come
CUT = headers(1, GET, END_STREAM)           # a field block to be continued
MORE = [("x-test", "ok")]
LARGE = GET + (("x-large", "x" * 16_384),)
UNKNOWN = frame(0x16, 0, 0, b"12345678")    # a type that no RFC has given
MOST = (1 << 31) - 1                        # of a window (6.9.1)

# RFC 7541: what a block of HPACK adds to the literals of GET. The first entry
# of the dynamic table has index 62; whether there is one, shows on stream 3.
hexes = bytes.fromhex
FIRST = headers(3, block(GET) + hexes("be"))
KEPT = (answered(1), FIRST, answered(3))
NOT_KEPT = (answered(1), FIRST, gone(COMPRESSION_ERROR))
NO_CACHE = b"\x08no-cache"                  # C.3.2, the name has index 24
NO_CACHE_HUFFMAN = hexes("86 a8eb1064 9cbf")                        # C.4.2
CUSTOM = b"\x0acustom-key\x0dcustom-header"                         # C.2.1
CUSTOM_HUFFMAN = hexes("88 25a849e9 5ba97d7f 89 25a849e9 5bb8e8b4 bf")  # C.4.3


def get_with(more, before=b""):
    return headers(1, before + block(GET) + more)


GENERIC = [
    # "In HTTP/2, each endpoint is required to send a connection preface as a
    # final confirmation of the protocol in use."
    case("generic/1/1", "Sends a client connection preface", "3.4",
         PREFACE + settings(), greeted, acknowledged, greeted=False),

    # What each state of a stream must take without complaint
    case("generic/2/1", "Sends a PRIORITY frame on idle stream", "5.1",
         priority(1), alive),
    case("generic/2/2", "Sends a WINDOW_UPDATE frame on half-closed (remote) "
         "stream", "5.1", HELD, window_update(1, 1), exactly(1)),
    case("generic/2/3", "Sends a PRIORITY frame on half-closed (remote) "
         "stream", "5.1",
         HELD, priority(1), window_update(1, 1), exactly(1), alive),
    case("generic/2/4", "Sends a RST_STREAM frame on half-closed (remote) "
         "stream", "5.1", HELD, rst_stream(1), alive),
    case("generic/2/5", "Sends a PRIORITY frame on closed stream", "5.1",
         headers(1), answered(), priority(1), alive),

    # Each kind of frame, in its common uses
    case("generic/3.1/1", "Sends a DATA frame", "6.1",
         OPEN, data(1, b"test", END_STREAM), answered()),
    case("generic/3.1/2", "Sends multiple DATA frames", "6.1",
         OPEN, data(1, b"te"), data(1, b"st", END_STREAM), answered()),
    case("generic/3.1/3", "Sends a DATA frame with padding", "6.1",
         OPEN, frame(DATA, PADDED | END_STREAM, 1, b"\6test" + bytes(6)),
         answered()),
    case("generic/3.2/1", "Sends a HEADERS frame", "6.2",
         headers(1), answered()),
    case("generic/3.2/2", "Sends a HEADERS frame with padding", "6.2",
         frame(HEADERS, WHOLE | PADDED, 1, b"\6" + block(GET) + bytes(6)),
         answered()),
    case("generic/3.2/3", "Sends a HEADERS frame with priority", "6.2",
         frame(HEADERS, WHOLE | WITH_PRIORITY, 1,
               octets(0) + b"\xff" + block(GET)), answered()),
    case("generic/3.3/1", "Sends a PRIORITY frame with priority 1", "6.3",
         priority(1, weight=0), headers(1), answered(), alive),
    case("generic/3.3/2", "Sends a PRIORITY frame with priority 256", "6.3",
         priority(1, weight=255), headers(1), answered(), alive),
    case("generic/3.3/3", "Sends a PRIORITY frame with stream dependency",
         "6.3", priority(1, on=3), headers(1), answered(), alive),
    case("generic/3.3/4", "Sends a PRIORITY frame with exclusive", "6.3",
         priority(1, on=1 << 31 | 3), headers(1), answered(), alive),
    case("generic/3.3/5", "Sends a PRIORITY frame for an idle stream, then "
         "send a HEADER frame for a lower stream ID", "5.1.1",
         priority(5), headers(3), answered(3), alive),
    case("generic/3.4/1", "Sends a RST_STREAM frame", "6.4",
         OPEN, rst_stream(1), alive),
    case("generic/3.5/1", "Sends a SETTINGS frame", "6.5",
         window(100), acknowledged, alive),
    case("generic/3.7/1", "Sends a PING frame", "6.7", alive),
    case("generic/3.8/1", "Sends a GOAWAY frame", "6.8",
         HELD, goaway(), window_update(1, 65_535), answered()),
    case("generic/3.9/1", "Sends a WINDOW_UPDATE frame with stream ID 0",
         "6.9", window_update(0, 1), alive),
    case("generic/3.9/2", "Sends a WINDOW_UPDATE frame with stream ID 1",
         "6.9", HELD, window_update(1, 1), exactly(1), alive),
    case("generic/3.10/1", "Sends a CONTINUATION frame", "6.10",
         CUT, continuation(1, MORE), answered()),
    case("generic/3.10/2", "Sends multiple CONTINUATION frames", "6.10",
         CUT, continuation(1, MORE, 0), continuation(1, MORE), answered()),

    # Whole requests
    case("generic/4/1", "Sends a GET request", "8.1", headers(1), answered()),
    case("generic/4/2", "Sends a HEAD request", "8.1",
         headers(1, but(method="HEAD")), answered_without_content),
    case("generic/4/3", "Sends a POST request", "8.1",
         OPEN, data(1, b"test", END_STREAM), answered()),
    case("generic/4/4", "Sends a POST request with trailers", "8.1",
         OPEN, data(1, b"test"), headers(1, MORE), answered()),

    # Each representation of a field, and what it leaves in the table
    case("generic/5/1", "Sends a indexed header field representation",
         "RFC 7541 6.1",
         headers(1, hexes("82 86 84") + block(GET[3:])), answered()),
    case("generic/5/2", "Sends a literal header field with incremental "
         "indexing - indexed name", "RFC 7541 6.2.1",
         get_with(hexes("58") + NO_CACHE), *KEPT),
    case("generic/5/3", "Sends a literal header field with incremental "
         "indexing - indexed name (with Huffman coding)", "RFC 7541 6.2.1",
         get_with(hexes("58") + NO_CACHE_HUFFMAN), *KEPT),
    case("generic/5/4", "Sends a literal header field with incremental "
         "indexing - new name", "RFC 7541 6.2.1",
         get_with(hexes("40") + CUSTOM), *KEPT),
    case("generic/5/5", "Sends a literal header field with incremental "
         "indexing - new name (with Huffman coding)", "RFC 7541 6.2.1",
         get_with(hexes("40") + CUSTOM_HUFFMAN), *KEPT),
    case("generic/5/6", "Sends a literal header field without indexing - "
         "indexed name", "RFC 7541 6.2.2",
         get_with(hexes("0f 09") + NO_CACHE), *NOT_KEPT),
    case("generic/5/7", "Sends a literal header field without indexing - "
         "indexed name (with Huffman coding)", "RFC 7541 6.2.2",
         get_with(hexes("0f 09") + NO_CACHE_HUFFMAN), *NOT_KEPT),
    case("generic/5/8", "Sends a literal header field without indexing - "
         "new name", "RFC 7541 6.2.2",
         get_with(hexes("00") + CUSTOM), *NOT_KEPT),
    case("generic/5/9", "Sends a literal header field without indexing - "
         "new name (huffman encoded)", "RFC 7541 6.2.2",
         get_with(hexes("00") + CUSTOM_HUFFMAN), *NOT_KEPT),
    case("generic/5/10", "Sends a literal header field never indexed - "
         "indexed name", "RFC 7541 6.2.3",
         get_with(hexes("1f 09") + NO_CACHE), *NOT_KEPT),
    case("generic/5/11", "Sends a literal header field never indexed - "
         "indexed name (huffman encoded)", "RFC 7541 6.2.3",
         get_with(hexes("1f 09") + NO_CACHE_HUFFMAN), *NOT_KEPT),
    case("generic/5/12", "Sends a literal header field never indexed - "
         "new name", "RFC 7541 6.2.3",
         get_with(hexes("10") + CUSTOM), *NOT_KEPT),
    case("generic/5/13", "Sends a literal header field never indexed - "
         "new name (huffman encoded)", "RFC 7541 6.2.3",
         get_with(hexes("10") + CUSTOM_HUFFMAN), *NOT_KEPT),
    case("generic/5/14", "Sends a dynamic table size update",
         "RFC 7541 6.3",        # to 0: nothing is kept
         get_with(hexes("40") + CUSTOM, before=hexes("20")), *NOT_KEPT),
    case("generic/5/15", "Sends multiple dynamic table size update",
         "RFC 7541 4.2",        # to 0 and back to 4096
         get_with(hexes("40") + CUSTOM, before=hexes("20 3fe11f")), *KEPT),
]

HTTP2 = [
    # "Clients and servers MUST treat an invalid connection preface as a
    # connection error of type PROTOCOL_ERROR. A GOAWAY frame MAY be omitted."
    case("http2/3.5/1", "Sends client connection preface", "3.4",
         PREFACE + settings(), greeted, acknowledged, alive, greeted=False),
    case("http2/3.5/2", "Sends invalid connection preface", "3.4",
         b"INVALID CONNECTION PREFACE\r\n\r\n", closed, greeted=False),

    # "Implementations MUST ignore and discard frames of unknown types."
    # "Unused flags MUST be ignored on receipt." So must the reserved bit.
    case("http2/4.1/1", "Sends a frame with unknown type", "4.1",
         UNKNOWN, alive),
    case("http2/4.1/2", "Sends a frame with undefined flag", "4.1",
         frame(PING, 0x16, 0, b"are you?"), echoed),
    case("http2/4.1/3", "Sends a frame with reserved field bit", "4.1",
         frame(PING, 0, 1 << 31, b"are you?"), echoed),

    # "All implementations MUST be capable of receiving and minimally
    # processing frames up to 2^14 octets in length." What is larger than the
    # setting is FRAME_SIZE_ERROR: of the connection, if it has a field block.
    case("http2/4.2/1", "Sends a DATA frame with 2^14 octets in length",
         "4.2", OPEN, data(1, bytes(16_384), END_STREAM), answered()),
    case("http2/4.2/2", "Sends a large size DATA frame that exceeds the "
         "SETTINGS_MAX_FRAME_SIZE", "4.2",
         OPEN, data(1, bytes(16_385), END_STREAM), reset(FRAME_SIZE_ERROR)),
    case("http2/4.2/3", "Sends a large size HEADERS frame that exceeds the "
         "SETTINGS_MAX_FRAME_SIZE", "4.2",
         headers(1, LARGE), gone(FRAME_SIZE_ERROR)),

    # "A decoding error in a field block MUST be treated as a connection
    # error of type COMPRESSION_ERROR." Nothing may come between its frames.
    case("http2/4.3/1", "Sends invalid header block fragment", "4.3",
         headers(1, hexes("40")), gone(COMPRESSION_ERROR)),
    case("http2/4.3/2", "Sends a PRIORITY frame while sending the header "
         "blocks", "4.3",
         CUT, priority(1), continuation(1, MORE), gone(PROTOCOL_ERROR)),
    case("http2/4.3/3", "Sends a HEADERS frame to another stream while "
         "sending the header blocks", "4.3",
         CUT, headers(3), continuation(1, MORE), gone(PROTOCOL_ERROR)),

    # "Receiving any frame other than HEADERS or PRIORITY on a stream in this
    # state MUST be treated as a connection error of type PROTOCOL_ERROR."
    case("http2/5.1/1", "idle: Sends a DATA frame", "5.1",
         data(1, b"test", END_STREAM), gone(PROTOCOL_ERROR)),
    case("http2/5.1/2", "idle: Sends a RST_STREAM frame", "5.1",
         rst_stream(1), gone(PROTOCOL_ERROR)),
    case("http2/5.1/3", "idle: Sends a WINDOW_UPDATE frame", "5.1",
         window_update(1, 100), gone(PROTOCOL_ERROR)),
    case("http2/5.1/4", "idle: Sends a CONTINUATION frame", "5.1",
         continuation(1, GET), gone(PROTOCOL_ERROR)),

    # "If an endpoint receives additional frames, other than WINDOW_UPDATE,
    # PRIORITY, or RST_STREAM, for a stream that is in this state, it MUST
    # respond with a stream error of type STREAM_CLOSED." A CONTINUATION that
    # continues nothing is PROTOCOL_ERROR of the connection wherever it comes.
    case("http2/5.1/5", "half closed (remote): Sends a DATA frame", "5.1",
         HELD, data(1, b"test", END_STREAM), reset(STREAM_CLOSED)),
    case("http2/5.1/6", "half closed (remote): Sends a HEADERS frame", "5.1",
         HELD, headers(1), reset(STREAM_CLOSED)),
    case("http2/5.1/7", "half closed (remote): Sends a CONTINUATION frame",
         "6.10", HELD, continuation(1, GET), gone(PROTOCOL_ERROR)),

    # What comes on a closed stream is STREAM_CLOSED. A second HEADERS after
    # END_STREAM on both sides ends the connection: RFC 7540 demands it, and
    # RFC 9113 allows it, as the peer cannot have been unaware.
    case("http2/5.1/8", "closed: Sends a DATA frame after sending RST_STREAM "
         "frame", "5.1", OPEN, rst_stream(1), data(1, b"test", END_STREAM),
         reset(STREAM_CLOSED)),
    case("http2/5.1/9", "closed: Sends a HEADERS frame after sending "
         "RST_STREAM frame", "5.1",
         OPEN, rst_stream(1), headers(1), reset(STREAM_CLOSED)),
    case("http2/5.1/10", "closed: Sends a CONTINUATION frame after sending "
         "RST_STREAM frame", "6.10",
         OPEN, rst_stream(1), continuation(1, MORE), gone(PROTOCOL_ERROR)),
    case("http2/5.1/11", "closed: Sends a DATA frame", "5.1",
         headers(1), answered(), data(1, b"test", END_STREAM),
         reset(STREAM_CLOSED)),
    case("http2/5.1/12", "closed: Sends a HEADERS frame", "5.1",
         headers(1), answered(), headers(1), gone(STREAM_CLOSED)),
    case("http2/5.1/13", "closed: Sends a CONTINUATION frame", "6.10",
         headers(1), answered(), continuation(1, MORE), gone(PROTOCOL_ERROR)),

    # Streams of a client are odd, and each is higher than all before it.
    case("http2/5.1.1/1", "Sends even-numbered stream identifier", "5.1.1",
         headers(2), gone(PROTOCOL_ERROR)),
    case("http2/5.1.1/2", "Sends stream identifier that is numerically "
         "smaller than previous", "5.1.1",
         headers(5), headers(3), gone(PROTOCOL_ERROR)),
    case("http2/5.1.2/1", "Sends HEADERS frames that causes their advertised "
         "concurrent stream limit to be exceeded", "5.1.2",
         window(0), one_too_many),

    # RFC 9113 has dropped the tree of priorities, and not its one rule.
    case("http2/5.3.1/1", "Sends HEADERS frame that depends on itself",
         "RFC 7540 5.3.1",
         frame(HEADERS, WHOLE | WITH_PRIORITY, 1,
               octets(1) + b"\xff" + block(GET)), reset(PROTOCOL_ERROR)),
    case("http2/5.3.1/2", "Sends PRIORITY frame that depend on itself",
         "RFC 7540 5.3.1", priority(1, on=1), reset(PROTOCOL_ERROR)),

    # "After sending the GOAWAY frame for an error condition, the endpoint
    # MUST close the TCP connection."
    case("http2/5.4.1/1", "Sends an invalid PING frame for connection close",
         "5.4.1", frame(PING, 0, 3, bytes(8)), closed),
    case("http2/5.4.1/2", "Sends an invalid PING frame to receive GOAWAY "
         "frame", "5.4.1", frame(PING, 0, 3, bytes(8)), gone(PROTOCOL_ERROR)),
    case("http2/5.5/1", "Sends an unknown extension frame", "5.5",
         UNKNOWN, alive),
    case("http2/5.5/2", "Sends an unknown extension frame in the middle of a "
         "header block", "5.5", CUT, UNKNOWN, gone(PROTOCOL_ERROR)),

    # "If the length of the padding is the length of the frame payload or
    # greater, the recipient MUST treat this as a connection error."
    case("http2/6.1/1", "Sends a DATA frame with 0x0 stream identifier",
         "6.1", data(0, b"test", END_STREAM), gone(PROTOCOL_ERROR)),
    case("http2/6.1/2", "Sends a DATA frame on the stream that is not in "
         '"open" or "half-closed (local)" state', "6.1",
         HELD, data(1, b"test", END_STREAM), reset(STREAM_CLOSED)),
    case("http2/6.1/3", "Sends a DATA frame with invalid pad length", "6.1",
         OPEN, frame(DATA, PADDED | END_STREAM, 1, b"\x06test"),
         gone(PROTOCOL_ERROR)),

    # "A receiver MUST treat the receipt of any other type of frame or a
    # frame on a different stream as a connection error."
    case("http2/6.2/1", "Sends a HEADERS frame without the END_HEADERS flag, "
         "and a PRIORITY frame", "6.2",
         CUT, priority(1), gone(PROTOCOL_ERROR)),
    case("http2/6.2/2", "Sends a HEADERS frame to another stream while "
         "sending a HEADERS frame", "6.2",
         CUT, headers(3), gone(PROTOCOL_ERROR)),
    case("http2/6.2/3", "Sends a HEADERS frame with 0x0 stream identifier",
         "6.2", headers(0), gone(PROTOCOL_ERROR)),
    case("http2/6.2/4", "Sends a HEADERS frame with invalid pad length",
         "6.2", frame(HEADERS, WHOLE | PADDED, 1, b"\xff" + block(GET)),
         gone(PROTOCOL_ERROR)),

    case("http2/6.3/1", "Sends a PRIORITY frame with 0x0 stream identifier",
         "6.3", priority(0), gone(PROTOCOL_ERROR)),
    case("http2/6.3/2", "Sends a PRIORITY frame with a length other than 5 "
         "octets", "6.3",
         OPEN, frame(PRIORITY, 0, 1, octets(0)), reset(FRAME_SIZE_ERROR)),

    case("http2/6.4/1", "Sends a RST_STREAM frame with 0x0 stream identifier",
         "6.4", rst_stream(0), gone(PROTOCOL_ERROR)),
    case("http2/6.4/2", "Sends a RST_STREAM frame on a idle stream", "6.4",
         rst_stream(1), gone(PROTOCOL_ERROR)),
    case("http2/6.4/3", "Sends a RST_STREAM frame with a length other than 4 "
         "octets", "6.4",
         OPEN, frame(RST_STREAM, 0, 1, bytes(3)), gone(FRAME_SIZE_ERROR)),

    case("http2/6.5/1", "Sends a SETTINGS frame with ACK flag and payload",
         "6.5", frame(SETTINGS, ACK, 0, bytes(6)), gone(FRAME_SIZE_ERROR)),
    case("http2/6.5/2", "Sends a SETTINGS frame with a stream identifier "
         "other than 0x0", "6.5",
         frame(SETTINGS, 0, 1, bytes(6)), gone(PROTOCOL_ERROR)),
    case("http2/6.5/3", "Sends a SETTINGS frame with a length other than a "
         "multiple of 6 octets", "6.5",
         frame(SETTINGS, 0, 0, bytes(3)), gone(FRAME_SIZE_ERROR)),
    case("http2/6.5.2/1", "SETTINGS_ENABLE_PUSH (0x2): Sends the value other "
         "than 0 or 1", "6.5.2",
         settings((ENABLE_PUSH, 2)), gone(PROTOCOL_ERROR)),
    case("http2/6.5.2/2", "SETTINGS_INITIAL_WINDOW_SIZE (0x4): Sends the "
         "value above the maximum flow control window size", "6.5.2",
         window(MOST + 1), gone(FLOW_CONTROL_ERROR)),
    case("http2/6.5.2/3", "SETTINGS_MAX_FRAME_SIZE (0x5): Sends the value "
         "below the initial value", "6.5.2",
         settings((MAX_FRAME_SIZE, 16_383)), gone(PROTOCOL_ERROR)),
    case("http2/6.5.2/4", "SETTINGS_MAX_FRAME_SIZE (0x5): Sends the value "
         "above the maximum allowed frame size", "6.5.2",
         settings((MAX_FRAME_SIZE, 1 << 24)), gone(PROTOCOL_ERROR)),
    case("http2/6.5.2/5", "Sends a SETTINGS frame with unknown identifier",
         "6.5.2", settings((0xff, 1)), acknowledged, alive),

    # "The values in the SETTINGS frame MUST be processed in the order they
    # appear", and then "the recipient MUST immediately emit" its ACK.
    case("http2/6.5.3/1", "Sends multiple values of "
         "SETTINGS_INITIAL_WINDOW_SIZE", "6.5.3",
         settings((INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)),
         acknowledged, headers(1), exactly(1)),
    case("http2/6.5.3/2", "Sends a SETTINGS frame without ACK flag", "6.5.3",
         settings((ENABLE_PUSH, 0)), acknowledged, alive),

    case("http2/6.7/1", "Sends a PING frame", "6.7", alive),
    case("http2/6.7/2", "Sends a PING frame with ACK", "6.7",
         ping(b"no reply", ACK), alive),
    case("http2/6.7/3", "Sends a PING frame with a stream identifier field "
         "value other than 0x0", "6.7",
         frame(PING, 0, 1, bytes(8)), gone(PROTOCOL_ERROR)),
    case("http2/6.7/4", "Sends a PING frame with a length field value other "
         "than 8", "6.7", ping(bytes(6)), gone(FRAME_SIZE_ERROR)),

    case("http2/6.8/1", "Sends a GOAWAY frame with a stream identifier other "
         "than 0x0", "6.8",
         frame(GOAWAY, 0, 1, octets(0, NO_ERROR)), gone(PROTOCOL_ERROR)),

    # "A receiver MUST treat the receipt of a WINDOW_UPDATE frame with a
    # flow-control window increment of 0 as a stream error."
    case("http2/6.9/1", "Sends a WINDOW_UPDATE frame with a flow control "
         "window increment of 0", "6.9",
         window_update(0, 0), gone(PROTOCOL_ERROR)),
    case("http2/6.9/2", "Sends a WINDOW_UPDATE frame with a flow control "
         "window increment of 0 on a stream", "6.9",
         OPEN, window_update(1, 0), reset(PROTOCOL_ERROR)),
    case("http2/6.9/3", "Sends a WINDOW_UPDATE frame with a length other "
         "than 4 octets", "6.9",
         frame(WINDOW_UPDATE, 0, 0, bytes(3)), gone(FRAME_SIZE_ERROR)),

    # "A sender MUST NOT allow a flow-control window to exceed 2^31-1 octets."
    case("http2/6.9.1/1", "Sends SETTINGS frame to set the initial window "
         "size to 1 and sends HEADERS frame", "6.9.1",
         window(1), headers(1), exactly(1)),
    case("http2/6.9.1/2", "Sends multiple WINDOW_UPDATE frames increasing "
         "the flow control window to above 2^31-1", "6.9.1",
         window_update(0, MOST), window_update(0, MOST),
         gone(FLOW_CONTROL_ERROR)),
    case("http2/6.9.1/3", "Sends multiple WINDOW_UPDATE frames increasing "
         "the flow control window to above 2^31-1 on a stream", "6.9.1",
         OPEN, window_update(1, MOST), window_update(1, MOST),
         reset(FLOW_CONTROL_ERROR), alive),     # "RST_STREAM" it says

    # "A receiver MUST adjust the size of all stream flow-control windows
    # that it maintains by the difference", below zero if need be.
    case("http2/6.9.2/1", "Changes SETTINGS_INITIAL_WINDOW_SIZE after "
         "sending HEADERS frame", "6.9.2",
         HELD, exactly(0), window(1), exactly(1)),
    case("http2/6.9.2/2", "Sends a SETTINGS frame for window size to be "
         "negative", "6.9.2",
         window(3), headers(1), exactly(3), window(2), exactly(0),
         window_update(1, 1), exactly(0), window_update(1, 1), exactly(1)),
    case("http2/6.9.2/3", "Sends a SETTINGS_INITIAL_WINDOW_SIZE settings "
         "with an exceeded maximum window size value", "6.9.2",
         OPEN, window_update(1, 1), window(MOST), gone(FLOW_CONTROL_ERROR)),

    # "A CONTINUATION frame MUST be preceded by a HEADERS, PUSH_PROMISE or
    # CONTINUATION frame without the END_HEADERS flag set."
    case("http2/6.10/1", "Sends multiple CONTINUATION frames preceded by a "
         "HEADERS frame", "6.10",
         CUT, continuation(1, MORE, 0), continuation(1, MORE), answered()),
    case("http2/6.10/2", "Sends a CONTINUATION frame followed by any frame "
         "other than CONTINUATION", "6.10",
         CUT, continuation(1, MORE, 0), data(1, b"test", END_STREAM),
         gone(PROTOCOL_ERROR)),
    case("http2/6.10/3", "Sends a CONTINUATION frame with 0x0 stream "
         "identifier", "6.10",
         CUT, continuation(0, MORE), gone(PROTOCOL_ERROR)),
    case("http2/6.10/4", "Sends a CONTINUATION frame preceded by a HEADERS "
         "frame with END_HEADERS flag", "6.10",
         headers(1), continuation(1, MORE), gone(PROTOCOL_ERROR)),
    case("http2/6.10/5", "Sends a CONTINUATION frame preceded by a "
         "CONTINUATION frame with END_HEADERS flag", "6.10",
         CUT, continuation(1, MORE), continuation(1, MORE),
         gone(PROTOCOL_ERROR)),
    case("http2/6.10/6", "Sends a CONTINUATION frame preceded by a DATA "
         "frame", "6.10",
         OPEN, data(1, b"test"), continuation(1, MORE), gone(PROTOCOL_ERROR)),

    # "Unknown or unsupported error codes MUST NOT trigger any special
    # behavior."
    case("http2/7/1", "Sends a GOAWAY frame with unknown error code", "7",
         goaway(0, 0xff), at_peace),
    case("http2/7/2", "Sends a RST_STREAM frame with unknown error code",
         "7", OPEN, rst_stream(1, 0xff), alive),

    # "Malformed requests or responses that are detected MUST be treated as a
    # stream error of type PROTOCOL_ERROR" (8.1.1). What makes one malformed:
    case("http2/8.1/1", "Sends a second HEADERS frame without the END_STREAM "
         "flag", "8.1", OPEN, data(1, b"test"),
         headers(1, MORE, END_HEADERS), reset(PROTOCOL_ERROR)),
    case("http2/8.1.2/1", "Sends a HEADERS frame that contains the header "
         "field name in uppercase letters", "8.2.1",
         headers(1, GET + (("X-TEST", "ok"),)), reset(PROTOCOL_ERROR)),
    case("http2/8.1.2.1/1", "Sends a HEADERS frame that contains a unknown "
         "pseudo-header field", "8.3",
         headers(1, GET + ((":test", "ok"),)), reset(PROTOCOL_ERROR)),
    case("http2/8.1.2.1/2", "Sends a HEADERS frame that contains the "
         "pseudo-header field defined for response", "8.3",
         headers(1, GET + ((":status", "200"),)), reset(PROTOCOL_ERROR)),
    case("http2/8.1.2.1/3", "Sends a HEADERS frame that contains a "
         "pseudo-header field as trailers", "8.1",
         OPEN, data(1, b"test"), headers(1, [(":method", "POST")]),
         reset(PROTOCOL_ERROR)),
    case("http2/8.1.2.1/4", "Sends a HEADERS frame that contains a "
         "pseudo-header field that appears in a header block after a regular "
         "header field", "8.3",
         headers(1, (("x-test", "ok"),) + GET), reset(PROTOCOL_ERROR)),
    case("http2/8.1.2.2/1", "Sends a HEADERS frame that contains the "
         "connection-specific header field", "8.2.2",
         headers(1, GET + (("connection", "keep-alive"),)),
         reset(PROTOCOL_ERROR)),
    case("http2/8.1.2.2/2", "Sends a HEADERS frame that contains the TE "
         'header field with any value other than "trailers"', "8.2.2",
         headers(1, GET + (("te", "trailers, deflate"),)),
         reset(PROTOCOL_ERROR)),
    case("http2/8.1.2.3/1", 'Sends a HEADERS frame with empty ":path" '
         "pseudo-header field", "8.3.1",
         headers(1, but(path="")), reset(PROTOCOL_ERROR)),
    case("http2/8.1.2.3/2", 'Sends a HEADERS frame that omits ":method" '
         "pseudo-header field", "8.3.1",
         headers(1, but(method=None)), reset(PROTOCOL_ERROR)),
    case("http2/8.1.2.3/3", 'Sends a HEADERS frame that omits ":scheme" '
         "pseudo-header field", "8.3.1",
         headers(1, but(scheme=None)), reset(PROTOCOL_ERROR)),
    case("http2/8.1.2.3/4", 'Sends a HEADERS frame that omits ":path" '
         "pseudo-header field", "8.3.1",
         headers(1, but(path=None)), reset(PROTOCOL_ERROR)),
    case("http2/8.1.2.3/5", 'Sends a HEADERS frame with duplicated ":method" '
         "pseudo-header field", "8.3",
         headers(1, GET[:1] + GET), reset(PROTOCOL_ERROR)),
    case("http2/8.1.2.3/6", 'Sends a HEADERS frame with duplicated ":scheme" '
         "pseudo-header field", "8.3",
         headers(1, GET[1:2] + GET), reset(PROTOCOL_ERROR)),
    case("http2/8.1.2.3/7", 'Sends a HEADERS frame with duplicated ":path" '
         "pseudo-header field", "8.3",
         headers(1, GET[2:3] + GET), reset(PROTOCOL_ERROR)),
    case("http2/8.1.2.6/1", 'Sends a HEADERS frame with the "content-length" '
         "header field which does not equal the DATA frame payload length",
         "8.1.1", headers(1, POST + (("content-length", "1"),), END_HEADERS),
         data(1, b"test", END_STREAM), reset(PROTOCOL_ERROR)),
    case("http2/8.1.2.6/2", 'Sends a HEADERS frame with the "content-length" '
         "header field which does not equal the sum of the multiple DATA "
         "frames payload length", "8.1.1",
         headers(1, POST + (("content-length", "1"),), END_HEADERS),
         data(1, b"te"), data(1, b"st", END_STREAM), reset(PROTOCOL_ERROR)),

    # "A client cannot push. Thus, servers MUST treat the receipt of a
    # PUSH_PROMISE frame as a connection error of type PROTOCOL_ERROR."
    case("http2/8.2/1", "Sends a PUSH_PROMISE frame", "8.4",
         OPEN, frame(PUSH_PROMISE, END_HEADERS, 1, octets(2) + block(GET)),
         gone(PROTOCOL_ERROR)),
]

# What RFC 7541 calls a decoding error is COMPRESSION_ERROR (RFC 9113, 4.3).
HPACK = [
    case("hpack/2.3.3/1", "Sends a indexed header field representation with "
         "invalid index", "RFC 7541 2.3.3",
         get_with(hexes("be")), gone(COMPRESSION_ERROR)),
    case("hpack/2.3.3/2", "Sends a literal header field representation with "
         "invalid index", "RFC 7541 2.3.3",
         get_with(hexes("7e") + NO_CACHE), gone(COMPRESSION_ERROR)),
    case("hpack/4.2/1", "Sends a dynamic table size update at the end of "
         "header block", "RFC 7541 4.2",
         get_with(hexes("20")), gone(COMPRESSION_ERROR)),
    case("hpack/5.2/1", "Sends a Huffman-encoded string literal "
         "representation with padding longer than 7 bits", "RFC 7541 5.2",
         get_with(hexes("58 87 a8eb1064 9cbf ff")), gone(COMPRESSION_ERROR)),
    case("hpack/5.2/2", "Sends a Huffman-encoded string literal "
         "representation padded by zero", "RFC 7541 5.2",    # bf ends in 1
         get_with(hexes("58 86 a8eb1064 9cbe")), gone(COMPRESSION_ERROR)),
    case("hpack/5.2/3", "Sends a Huffman-encoded string literal "
         "representation containing the EOS symbol", "RFC 7541 5.2",
         get_with(hexes("58 84 ffffffff")), gone(COMPRESSION_ERROR)),
    case("hpack/6.1/1", "Sends a indexed header field representation with "
         "index 0", "RFC 7541 6.1",
         get_with(hexes("80")), gone(COMPRESSION_ERROR)),
    case("hpack/6.3/1", "Sends a dynamic table size update larger than the "
         "value of SETTINGS_HEADER_TABLE_SIZE", "RFC 7541 6.3",     # 4097
         get_with(b"", before=hexes("3fe21f")), gone(COMPRESSION_ERROR)),
]

CASES = GENERIC + HTTP2 + HPACK


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    """The port of one server for all cases: none may leave it the worse."""
    faas = Server(tmp_path_factory.mktemp("h2spec"), [], {})
    try:
        faas.wait_until_ready()
        yield faas.grpc_port
        faas.stop()
        assert "Traceback (most recent" not in faas.output, faas.output
    finally:
        faas.kill()


@pytest.mark.parametrize("each", CASES, ids=lambda each: each.number)
def test_the_server_does_what_the_rfc_says(door, each):
    with Peer(door) as peer:
        if each.greeted:
            peer.handshake()
        for step in each.steps:
            if isinstance(step, bytes):
                peer.send(step)
            else:
                step(peer)


def test_the_cases_are_all_147():
    assert len({each.number for each in CASES}) == len(CASES) == 147


def test_the_cases_are_those_of_the_vectors():
    if not VECTORS.exists():
        pytest.skip(f"the list of h2spec's cases is not at {VECTORS}")
    theirs = json.loads(VECTORS.read_text("utf-8"))["cases"]
    assert [(each.number, each.title) for each in CASES] == [
        (each["id"], each["title"]) for each in theirs]
