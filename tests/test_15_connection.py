"""Chapter 15: HTTP/2 frames and one connection, without a socket."""

import random
import struct

import pytest

import faas
from faas import (H2_ACK, H2_CONTINUATION, H2_DATA, H2_END_HEADERS,
                  H2_END_STREAM, H2_FRAME, H2_GOAWAY, H2_HEADERS,
                  H2_INITIAL_WINDOW, H2_MOST, H2_PADDED, H2_PING, H2_PREFACE,
                  H2_PRIORITIZED, H2_PRIORITY, H2_PUSH_PROMISE, H2_RST_STREAM,
                  H2_SETTINGS, H2_STREAMS, H2_WINDOW, H2_WINDOW_UPDATE,
                  H2Connection, h2_ask, h2_frame, h2_frames, h2_settings,
                  h2_window, hpack_encode)

NO_ERROR, PROTOCOL, INTERNAL, FLOW, _, CLOSED, SIZE, REFUSED, CANCEL, HPACK = (
    range(10))
CALM = 11

HELLO = H2_PREFACE + h2_frame(H2_SETTINGS)
GET = ((":method", "GET"), (":scheme", "http"), (":path", "/f"),
       (":authority", "a"))
POST = ((":method", "POST"), *GET[1:])
BLOCK = hpack_encode(GET)
OPEN = h2_frame(H2_HEADERS, H2_END_HEADERS, 1, BLOCK)   # a body is to follow
WHOLE = h2_ask(1, GET)
OK = ((":status", "200"),)
SUM = (("sum", "1"),)


def ready(more=b"", now=0.0):
    """Give a connection that has exchanged prefaces, and whose out is empty.
    """
    connection = H2Connection(now)
    assert connection.receive(HELLO + more, now) == []
    connection.take()
    return connection


def sent(connection):
    """Take all that the connection sends, as frames to look at."""
    data = b""
    while piece := connection.take():
        data += piece
    return h2_frames(data)


def short(frames):
    """Leave the sizes of payloads, which are enough for DATA."""
    return [(name, stream, len(payload)) for name, stream, _, payload
            in frames]


def resets(frames):
    return [(stream, int.from_bytes(payload)) for name, stream, _, payload
            in frames if name == "RST_STREAM"]


def last_words(frames):
    """Give the code and the sentence of a GOAWAY, which comes last."""
    name, stream, _, payload = frames[-1]
    assert (name, stream) == ("GOAWAY", 0)
    return int.from_bytes(payload[4:8]), payload[8:].decode()


def echo(connection, data, now=0.0, bodies=None):
    """Receive, and answer each request once it has ended; give the events."""
    bodies = {} if bodies is None else bodies
    events = connection.receive(data, now)
    for event in events:
        if event.what == "reset":
            bodies.pop(event.stream, None)
            continue
        bodies[event.stream] = bodies.get(event.stream, b"") + event.data
        if event.ended:
            connection.headers(event.stream, OK)
            connection.data(event.stream, bodies.pop(event.stream))
            connection.trailers(event.stream, SUM)
    return events


def outcome(*pieces):
    """Tell how bytes end for an echo: for the connection, a stream, or not.

    Between pieces it answers, so that streams which have ended are closed.
    """
    connection, frames = ready(), []
    for piece in pieces:
        echo(connection, piece)
        frames += sent(connection)
    if connection.closed is not None:
        assert last_words(frames)[0] == connection.closed
        return "connection", connection.closed
    errors = [(stream, code) for stream, code in resets(frames) if code]
    assert len(errors) < 2
    # What was no error of the connection leaves it as good as new.
    ping = h2_frame(H2_PING, 0, 0, b"are you?")
    stream = connection.highest + 2 | 1
    echo(connection, ping + h2_ask(stream, GET))
    after = sent(connection)
    assert after[0] == ("PING", 0, "ACK", b"are you?")
    assert [name for name, number, *_ in after if number == stream] == [
        "HEADERS", "HEADERS"]
    return ("stream", *errors[0]) if errors else "served"


# 15.4 Frames ----------------------------------------------------------------


def test_a_frame_is_nine_bytes_and_its_payload():
    frame = h2_frame(H2_HEADERS, H2_END_HEADERS, 3, b"\x82")
    assert frame.hex(" ") == "00 00 01 01 04 00 00 00 03 82"


def test_each_type_has_a_row_and_a_handler():
    assert [kind.name for kind in faas.H2_KINDS] == [
        "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS",
        "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"]
    assert [handler.__name__ for handler in H2Connection.HANDLERS] == [
        f"on_{kind.name.lower()}" for kind in faas.H2_KINDS]


def test_frames_of_unknown_types_and_flags_can_be_looked_at():
    assert h2_frames(h2_frame(77, 0x81, 5, b"?") + b"\0\0\5\6") == [
        ("TYPE 77", 5, "BIT 0 BIT 7", b"?")]


# 8.1 to 8.3: what is a request


def changed(name, value, fields=GET):
    return [(one, value if one == name else old) for one, old in fields]


def without(name, fields=GET):
    return [field for field in fields if field[0] != name]


GOOD_REQUESTS = {
    "8.3.1 a GET": GET,
    "8.3.1 no authority": without(":authority"),
    "8.3.1 host alone": [*without(":authority"), ("host", "a:80")],
    "8.3.1 host as authority, in capitals": [*GET, ("host", "A")],
    "8.3.1 OPTIONS *": changed(":path", "*", changed(":method", "OPTIONS")),
    "8.3.1 a query": changed(":path", "/f?a=b&c"),
    "8.3.1 an IPv6 authority": changed(":authority", "[::1]:9000"),
    "8.3.1 an encoded authority": changed(":authority", "%2Ftmp%2Fsocket"),
    "9110 9.1 a method of its own": changed(":method", "M-SEARCH"),
    "8.2.2 te: trailers": [*GET, ("te", "trailers")],
    "8.2.1 an empty value": [*GET, ("lab", "")],
    "8.2.1 blanks inside": [*GET, ("lab", "a b\tc  d")],
    "8.2.1 latin-1": [*GET, ("lab", "\xe4\xff")],
    "8.2.1 all marks of a token": [*GET, ("!#$%&'*+.^_`|~-09az", "x")],
    "8.2.3 two cookies": [*GET, ("cookie", "a=1"), ("cookie", "b=2")],
    "8.1.1 content-length 0": [*GET, ("content-length", "0")],
    "9110 8.6 twice the same": [*GET, ("content-length", "0"),
                                ("content-length", "0")],
}

BAD_REQUESTS = {
    "8.2.1 capitals": [*GET, ("Lab", "x")],
    "8.2.1 an empty name": [*GET, ("", "x")],
    "8.2.1 a blank in a name": [*GET, ("a b", "x")],
    "8.2.1 a colon in a name": [*GET, ("a:b", "x")],
    "8.2.1 a name that ends in a colon": [*GET, ("a:", "x")],
    "8.2.1 a control byte in a name": [*GET, ("a\x01", "x")],
    "8.2.1 a line's end in a name": [*GET, ("a\nb", "x")],
    "8.2.1 two lines' ends in a name": [*GET, ("a\nb\nc", "x")],
    "8.2.1 latin-1 in a name": [*GET, ("\xe4", "x")],
    "8.2.1 NUL": [*GET, ("lab", "a\0b")],
    "8.2.1 CR": [*GET, ("lab", "a\rb")],
    "8.2.1 LF": [*GET, ("lab", "a\nb")],
    "8.2.1 LF at the end": [*GET, ("lab", "a\n")],
    "8.2.1 a field in a value": [*GET, ("lab", "a\nx\nb")],
    "8.2.1 DEL": [*GET, ("lab", "\x7f")],
    "8.2.1 a blank before": [*GET, ("lab", " a")],
    "8.2.1 a blank after": [*GET, ("lab", "a ")],
    "8.2.1 a tab before": [*GET, ("lab", "\ta")],
    "8.2.1 a tab after": [*GET, ("lab", "a\t")],
    "8.2.1 nothing but a blank": [*GET, ("lab", " ")],
    **{f"8.2.2 {name}": [*GET, (name, value)] for name, value in [
        ("connection", "close"), ("keep-alive", "timeout=5"),
        ("proxy-connection", "x"), ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"), ("te", "gzip"), ("te", "trailers, gzip"),
        ("te", "")]},
    **{f"8.3.1 no {name}": without(name) for name in (
        ":method", ":scheme", ":path")},
    **{f"8.3 {name} twice": [GET[0], *GET] if name == ":method" else
       [*GET, (name, value)] for name, value in GET},
    "8.3 one after a field": [*GET[:2], ("lab", "x"), *GET[2:]],
    "8.3 one after host": [*GET[:2], ("host", "a"), *GET[2:]],
    "8.3 the last one after a field": [*GET[:3], ("lab", "x"), GET[3]],
    "8.3 one of an answer": [(":status", "200"), *GET],
    "8.3 an unknown one": [(":protocol", "websocket"), *GET],
    "8.3 a colon alone": [(":", "x"), *GET],
    "8.3 none at all": [("lab", "x")],
    "8.3 no field": [],
    "8.3.1 an empty path": changed(":path", ""),
    "8.3.1 no slash": changed(":path", "f"),
    "8.3.1 a whole URL": changed(":path", "http://a/f"),
    "8.3.1 a blank in the path": changed(":path", "/a b"),
    "8.3.1 a fragment": changed(":path", "/f#x"),
    "8.3.1 * for a GET": changed(":path", "*"),
    "8.3.1 an empty method": changed(":method", ""),
    "8.3.1 a blank in the method": changed(":method", "GET /"),
    "8.3.1 a user": changed(":authority", "me@a"),
    "8.3.1 a path in the authority": changed(":authority", "a/b"),
    "8.3.1 a user in the host": [*without(":authority"), ("host", "me@a")],
    "8.3.1 a blank in the host": [*without(":authority"), ("host", "a b")],
    "8.3.1 a blank in the authority": changed(":authority", "a /"),
    "8.3.1 another host": [*GET, ("host", "b")],
    "8.3.1 two hosts": [*without(":authority"), ("host", "a"),
                        ("host", "b")],
    "8.5 CONNECT": [(":method", "CONNECT"), (":authority", "a:80")],
    "8.5 CONNECT with a path": changed(":method", "CONNECT"),
    "8.1.1 content-length without content": [*GET, ("content-length", "1")],
    "8.1.1 a sign": [*GET, ("content-length", "+0")],
    "8.1.1 no digits": [*GET, ("content-length", "x")],
    "8.1.1 empty": [*GET, ("content-length", "")],
    "8.1.1 digits of another script": [*GET, ("content-length", "\xb2")],
    "8.1.1 a list": [*GET, ("content-length", "0, 0")],
    "8.1.1 two that differ": [*GET, ("content-length", "0"),
                              ("content-length", "1")],
    "8.1.1 endless": [*GET, ("content-length", "9" * 5000)],
}


@pytest.mark.parametrize("case", GOOD_REQUESTS)
def test_a_request_by_the_rules_is_served(case):
    assert outcome(h2_ask(1, GOOD_REQUESTS[case])) == "served"


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_malformed_request_is_an_error_of_its_stream(case):
    assert outcome(h2_ask(1, BAD_REQUESTS[case])) == ("stream", 1, PROTOCOL)


def test_a_malformed_request_is_no_event():
    """There is a "reset" only where there were "headers"."""
    assert ready().receive(h2_ask(1, [("Lab", "x")]), 0.0) == []


def body(length, *pieces, trailers=None):
    """Spell a POST with a content-length, and DATA of these sizes."""
    head = hpack_encode([*POST, ("content-length", str(length))])
    data = h2_frame(H2_HEADERS, H2_END_HEADERS, 1, head)
    for at, size in enumerate(pieces, 1):
        end = at == len(pieces) and trailers is None
        data += h2_frame(H2_DATA, H2_END_STREAM if end else 0, 1, bytes(size))
    return data + (b"" if trailers is None else h2_frame(
        H2_HEADERS, H2_END_STREAM | H2_END_HEADERS, 1,
        hpack_encode(trailers)))


LENGTHS = {
    "as many": (body(5, 5), "served"),
    "in two pieces": (body(5, 2, 3), "served"),
    "an empty one after": (body(5, 5, 0), "served"),
    "with trailers": (body(5, 5, trailers=SUM), "served"),
    "none": (body(0, 0), "served"),
    "padding is none": (
        body(2) + h2_frame(H2_DATA, H2_PADDED | H2_END_STREAM, 1,
                           b"\3hi\0\0\0"), "served"),
    "fewer": (body(5, 4), ("stream", 1, PROTOCOL)),
    "fewer in two": (body(5, 2, 2), ("stream", 1, PROTOCOL)),
    "more": (body(5, 6), ("stream", 1, PROTOCOL)),
    "more, not ended": (body(5, 6, 0), ("stream", 1, PROTOCOL)),
    "more than none": (body(0, 1), ("stream", 1, PROTOCOL)),
    "fewer, with trailers": (body(5, 4, trailers=SUM),
                             ("stream", 1, PROTOCOL)),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_content_length_is_the_sum_of_the_data(case):
    data, expected = LENGTHS[case]
    assert outcome(data) == expected


def test_what_is_too_long_is_not_handed_on():
    events = ready().receive(body(5, 2, 4), 0.0)
    assert [(event.what, len(event.data), event.code) for event in events
            ] == [("headers", 0, 0), ("data", 2, 0), ("reset", 0, PROTOCOL)]


# 15.5 One connection --------------------------------------------------------

# 3.4: the preface


def test_ours_comes_before_the_client_has_said_anything():
    settings, window = h2_frames(H2Connection(0.0).take())
    assert settings[:3] == ("SETTINGS", 0, "")
    assert dict(struct.iter_unpack(">HI", settings[3])) == {
        3: 128, 4: 1 << 20, 6: 64 << 10}
    assert window == ("WINDOW_UPDATE", 0, "",
                      (H2_WINDOW - 65535).to_bytes(4))


PREFACES = {
    "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.1, its first byte": b"G",
    "HTTP/1.1, a P of another word": b"PO",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "the last byte wrong": H2_PREFACE[:-1] + b"X",
    "lines of another kind": H2_PREFACE.replace(b"\r\n", b"\n"),
    "frames without it": HELLO[24:],
}


@pytest.mark.parametrize("case", PREFACES)
def test_a_wrong_preface_ends_it_at_once(case):
    connection = H2Connection(0.0)
    connection.take()
    assert connection.receive(PREFACES[case], 0.0) == []
    code, sentence = last_words(sent(connection))
    assert code == connection.closed == PROTOCOL
    assert sentence == faas.H2_ONLY


def test_http_1_is_answered_in_its_own_words_if_nothing_went_out_before():
    connection = H2Connection(0.0)
    connection.receive(PREFACES["HTTP/1.1"], 0.0)
    head, _, text = connection.take().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and connection.closed == PROTOCOL
    assert f"Content-Length: {len(text)}".encode() in head
    assert b"--http2-prior-knowledge" in text


@pytest.mark.parametrize("first", [
    WHOLE, h2_frame(H2_PING, 0, 0, bytes(8)), h2_frame(H2_SETTINGS, H2_ACK),
    h2_frame(99)], ids=["HEADERS", "PING", "SETTINGS ACK", "unknown"])
def test_the_first_frame_is_settings(first):
    connection = H2Connection(0.0)
    connection.receive(H2_PREFACE + first, 0.0)
    assert connection.closed == PROTOCOL


def test_settings_and_a_request_may_come_with_the_preface():
    connection = H2Connection(0.0)
    assert [event.what for event in connection.receive(
        HELLO + WHOLE, 0.0)] == ["headers"]
    assert ("SETTINGS", 0, "ACK", b"") in sent(connection)


# Any fragmentation


def a_conversation():
    """Spell a client's side that has something of everything in it."""
    block = hpack_encode([*POST, ("lab", "x" * 300)])
    padded = h2_frame(H2_DATA, H2_PADDED, 3, b"\4hello\0\0\0\0")
    return b"".join([
        HELLO, h2_frame(H2_SETTINGS, 0, 0, h2_settings({1: 0, 4: 70000})),
        h2_frame(H2_SETTINGS, H2_ACK), h2_ask(1, GET),
        h2_frame(H2_HEADERS, 0, 3, block[:7]),
        h2_frame(H2_CONTINUATION, 0, 3, block[7:9]),
        h2_frame(H2_CONTINUATION, H2_END_HEADERS, 3, block[9:]),
        h2_window(3, 5), h2_frame(H2_PING, 0, 0, b"12345678"), padded,
        h2_frame(99, 1, 3, b"???"),
        h2_frame(H2_PRIORITY, 0, 9, b"\0\0\0\0\7"),
        h2_frame(H2_HEADERS, H2_END_HEADERS | H2_PADDED | H2_PRIORITIZED, 5,
                 b"\3\x80\0\0\0\7" + BLOCK + bytes(3)),
        h2_ask(7, [("Bad", "x")]), h2_frame(H2_DATA, 0, 5, b"abc"),
        h2_frame(H2_HEADERS, H2_END_STREAM | H2_END_HEADERS, 3,
                 hpack_encode(SUM)),
        h2_frame(H2_RST_STREAM, 0, 5, CANCEL.to_bytes(4)),
        h2_window(0, 100), h2_frame(H2_GOAWAY, 0, 0, bytes(8))])


def talk(pieces):
    """Give all events of an echo, and what it sends on each stream.

    How the answers of streams are mixed is a question of when they are given.
    """
    connection, events, out, bodies = H2Connection(0.0), [], b"", {}
    for piece in pieces:
        events += echo(connection, piece, 0.0, bodies)
        out += connection.take()
    by_stream = {}
    for frame in h2_frames(out):
        by_stream.setdefault(frame[1], []).append(frame)
    return events, by_stream, connection.closed


CONVERSATION = a_conversation()


def test_the_conversation_has_something_of_everything():
    events, out, closed = talk([CONVERSATION])
    assert closed is None
    assert {event.what for event in events} == {
        "headers", "data", "trailers", "reset"}
    assert resets(out[7]) == [(7, PROTOCOL)]
    assert {stream: len(frames) for stream, frames in out.items()} == {
        0: 5, 1: 2, 3: 3, 7: 1}


def test_byte_by_byte_it_is_the_same():
    bytewise = [CONVERSATION[at:at + 1] for at in range(len(CONVERSATION))]
    assert talk(bytewise) == talk([CONVERSATION])


def test_at_every_split_it_is_the_same():
    whole = talk([CONVERSATION])
    for at in range(len(CONVERSATION)):
        assert talk([CONVERSATION[:at], CONVERSATION[at:]]) == whole, at


# The rules of frames, by section of RFC 9113. Each is what a client sends on
# a fresh connection, and how it ends.


def connection_error(code):
    return "connection", code


def stream_error(code, stream=1):
    return "stream", stream, code


def raw(length, kind, flags=0, stream=0, payload=b""):
    """Spell a frame that may lie about its length."""
    return struct.pack(">IBI", length << 8 | kind, flags, stream) + payload


def data(stream=1, payload=b"hi", flags=H2_END_STREAM):
    return h2_frame(H2_DATA, flags, stream, payload)


def headers(stream=1, flags=H2_END_STREAM | H2_END_HEADERS, block=BLOCK):
    return h2_frame(H2_HEADERS, flags, stream, block)


def reset(stream=1, code=CANCEL):
    return h2_frame(H2_RST_STREAM, 0, stream, code.to_bytes(4))


def setting(number, value):
    return h2_frame(H2_SETTINGS, 0, 0, h2_settings({number: value}))


PING = h2_frame(H2_PING, 0, 0, b"12345678")
SELF = (1).to_bytes(4) + b"\7"          # a priority: stream 1 needs stream 1

RULES = {
    # 4.1, 4.2: frames
    "4.1 an unknown type is ignored": (h2_frame(99, 255, 1, b"x"), "served"),
    "4.1 unknown flags are ignored": (
        h2_frame(H2_PING, 0xfe, 0, bytes(8)), "served"),
    "4.1 the reserved bit is ignored": (
        h2_frame(H2_HEADERS, 5, 1 << 31 | 1, BLOCK), "served"),
    "4.2 2^14 bytes are taken": (OPEN + data(1, bytes(H2_FRAME)), "served"),
    "4.2 a larger DATA": (OPEN + raw(H2_FRAME + 1, H2_DATA, 0, 1),
                          connection_error(SIZE)),
    "4.2 a larger HEADERS": (raw(H2_FRAME + 1, H2_HEADERS, 0, 1),
                             connection_error(SIZE)),
    "4.2 a larger SETTINGS": (raw(H2_FRAME + 1, H2_SETTINGS),
                              connection_error(SIZE)),
    "4.2 a larger unknown": (raw(H2_FRAME + 1, 99), connection_error(SIZE)),
    # 4.3: blocks
    "4.3 no block": (headers(block=b"\xff\xff\xff\xff\xff\xff"),
                     connection_error(HPACK)),
    "4.3 index 0": (headers(block=b"\x80"), connection_error(HPACK)),
    "4.3 no block in trailers": (OPEN + headers(block=b"\x80"),
                                 connection_error(HPACK)),
    "4.3 no block on a closed stream": (
        WHOLE, headers(block=b"\x80"), connection_error(HPACK)),
    # 5.1: idle
    "5.1 idle: DATA": (data(), connection_error(PROTOCOL)),
    "5.1 idle: RST_STREAM": (reset(), connection_error(PROTOCOL)),
    "5.1 idle: WINDOW_UPDATE": (h2_window(1, 1), connection_error(PROTOCOL)),
    "5.1 idle: PRIORITY": (
        h2_frame(H2_PRIORITY, 0, 1, bytes(4) + b"\7"), "served"),
    "5.1 idle: CONTINUATION": (h2_frame(H2_CONTINUATION, 4, 1, BLOCK),
                               connection_error(PROTOCOL)),
    "5.1 idle: DATA on one of ours": (OPEN + data(2),
                                      connection_error(PROTOCOL)),
    "5.1 idle: WINDOW_UPDATE on one of ours": (
        headers(5) + h2_window(2, 1), connection_error(PROTOCOL)),
    # 5.1: open
    "5.1 open: trailers": (OPEN + headers(block=hpack_encode(SUM)), "served"),
    "5.1 open: WINDOW_UPDATE": (OPEN + h2_window(1, 1) + data(), "served"),
    "5.1 open: PRIORITY": (
        OPEN + h2_frame(H2_PRIORITY, 0, 1, bytes(4) + b"\7"), "served"),
    "5.1 open: RST_STREAM": (OPEN + reset(), "served"),
    # 5.1: closed by the client's END_STREAM, and by ours
    "5.1 closed: DATA": (WHOLE, data(), connection_error(CLOSED)),
    "5.1 closed: HEADERS": (WHOLE, headers(), connection_error(CLOSED)),
    "5.1 closed: CONTINUATION": (
        WHOLE, h2_frame(H2_CONTINUATION, 4, 1, BLOCK),
        connection_error(PROTOCOL)),
    "5.1 closed: WINDOW_UPDATE": (WHOLE, h2_window(1, 1), "served"),
    "5.1 closed: RST_STREAM": (WHOLE, reset(), "served"),
    "5.1 closed: PRIORITY": (
        WHOLE, h2_frame(H2_PRIORITY, 0, 1, bytes(4) + b"\7"), "served"),
    "5.1 closed: WINDOW_UPDATE of 0": (WHOLE, h2_window(1, 0), "served"),
    # 5.1: closed by the client's RST_STREAM
    "5.1 reset: DATA": (OPEN + reset() + data(), connection_error(CLOSED)),
    "5.1 reset: HEADERS": (OPEN + reset() + headers(),
                           connection_error(CLOSED)),
    "5.1 reset: RST_STREAM": (OPEN + reset() + reset(), "served"),
    # 5.1: closed by our RST_STREAM; the client did not know
    "5.1 tardy: DATA": (h2_ask(1, [("Bad", "")], b"hi"),
                        stream_error(PROTOCOL)),
    "5.1 tardy: trailers": (
        h2_frame(H2_HEADERS, 4, 1, hpack_encode([("Bad", "")]))
        + headers(block=hpack_encode(SUM)), stream_error(PROTOCOL)),
    "5.1 tardy: WINDOW_UPDATE": (
        h2_ask(1, [("Bad", "")]) + h2_window(1, 7), stream_error(PROTOCOL)),
    # 5.1.1: numbers
    "5.1.1 an even number": (headers(2), connection_error(PROTOCOL)),
    "5.1.1 a smaller number": (headers(5) + headers(3),
                               connection_error(PROTOCOL)),
    "5.1.1 DATA on one that was skipped": (headers(5) + data(3),
                                           connection_error(CLOSED)),
    "5.1.1 the largest number": (OPEN + data() + headers(H2_MOST - 4),
                                 "served"),
    # 5.3 of RFC 7540
    "7540 5.3.1 HEADERS need themselves": (
        headers(1, 5 | H2_PRIORITIZED, SELF + BLOCK),
        connection_error(PROTOCOL)),
    "7540 5.3.1 exclusively": (
        headers(1, 5 | H2_PRIORITIZED, b"\x80" + SELF[1:] + BLOCK),
        connection_error(PROTOCOL)),
    "7540 5.3.1 PRIORITY needs itself": (
        h2_frame(H2_PRIORITY, 0, 1, SELF), connection_error(PROTOCOL)),
    # 6.1: DATA
    "6.1 DATA on stream 0": (data(0), connection_error(PROTOCOL)),
    "6.1 padding": (OPEN + data(1, b"\2hi\0\0", 9), "served"),
    "6.1 nothing but padding": (OPEN + data(1, b"\2\0\0", 9), "served"),
    "6.1 padding of none": (OPEN + data(1, b"\0hi", 9), "served"),
    "6.1 more padding than frame": (OPEN + data(1, b"\4hi\0", 9),
                                    connection_error(PROTOCOL)),
    "6.1 no padding at all": (OPEN + data(1, b"", 9),
                              connection_error(SIZE)),
    # 6.2: HEADERS
    "6.2 HEADERS on stream 0": (headers(0), connection_error(PROTOCOL)),
    "6.2 padding": (headers(1, 13, b"\2" + BLOCK + b"\0\0"), "served"),
    "6.2 a priority": (headers(1, 37, b"\0\0\0\0\7" + BLOCK), "served"),
    "6.2 more padding than frame": (
        headers(1, 13, bytes([len(BLOCK) + 1]) + BLOCK),
        connection_error(PROTOCOL)),
    "6.2 a cut priority": (headers(1, 37, b"\0\0\0\0"),
                           connection_error(SIZE)),
    "6.2 PRIORITY in a block": (
        headers(1, 1, BLOCK[:3]) + h2_frame(H2_PRIORITY, 0, 1, bytes(5)),
        connection_error(PROTOCOL)),
    "6.2 HEADERS in a block": (headers(1, 1, BLOCK[:3]) + headers(3),
                               connection_error(PROTOCOL)),
    "6.2 an unknown frame in a block": (
        headers(1, 1, BLOCK[:3]) + h2_frame(99, 0, 1),
        connection_error(PROTOCOL)),
    # 6.3: PRIORITY
    "6.3 on stream 0": (h2_frame(H2_PRIORITY, 0, 0, bytes(5)),
                        connection_error(PROTOCOL)),
    "6.3 four bytes": (OPEN + h2_frame(H2_PRIORITY, 0, 1, bytes(4)),
                       stream_error(SIZE)),
    "6.3 four bytes, idle": (h2_frame(H2_PRIORITY, 0, 1, bytes(4)),
                             connection_error(SIZE)),
    # 6.4: RST_STREAM
    "6.4 on stream 0": (reset(0), connection_error(PROTOCOL)),
    "6.4 three bytes": (OPEN + h2_frame(H2_RST_STREAM, 0, 1, bytes(3)),
                        connection_error(SIZE)),
    "7 an unknown code": (OPEN + reset(1, 0xdeadbeef), "served"),
    # 6.5: SETTINGS
    "6.5 on a stream": (h2_frame(H2_SETTINGS, 0, 1),
                        connection_error(PROTOCOL)),
    "6.5 ACK with settings": (
        h2_frame(H2_SETTINGS, H2_ACK, 0, h2_settings({4: 1})),
        connection_error(SIZE)),
    "6.5 five bytes": (h2_frame(H2_SETTINGS, 0, 0, bytes(5)),
                       connection_error(SIZE)),
    "6.5.2 ENABLE_PUSH 0": (setting(2, 0), "served"),
    "6.5.2 ENABLE_PUSH 2": (setting(2, 2), connection_error(PROTOCOL)),
    "6.5.2 INITIAL_WINDOW_SIZE 2^31": (setting(4, 1 << 31),
                                       connection_error(FLOW)),
    "6.5.2 INITIAL_WINDOW_SIZE 2^31-1": (setting(4, H2_MOST), "served"),
    "6.5.2 MAX_FRAME_SIZE 16383": (setting(5, 16383),
                                   connection_error(PROTOCOL)),
    "6.5.2 MAX_FRAME_SIZE 2^24": (setting(5, 1 << 24),
                                  connection_error(PROTOCOL)),
    "6.5.2 MAX_FRAME_SIZE 2^24-1": (setting(5, (1 << 24) - 1), "served"),
    "6.5.2 MAX_CONCURRENT_STREAMS 0": (setting(3, 0), "served"),
    "6.5.2 an unknown one": (setting(0xfe03, 1), "served"),
    "6.5.3 a good one after a bad one": (
        h2_frame(H2_SETTINGS, 0, 0, h2_settings({2: 7})
                 + h2_settings({2: 1})), connection_error(PROTOCOL)),
    # 6.6, 8.4: PUSH_PROMISE
    "8.4 PUSH_PROMISE": (
        OPEN + h2_frame(H2_PUSH_PROMISE, 4, 1, b"\0\0\0\2" + BLOCK),
        connection_error(PROTOCOL)),
    # 6.7: PING
    "6.7 ACK": (h2_frame(H2_PING, H2_ACK, 0, bytes(8)), "served"),
    "6.7 on a stream": (h2_frame(H2_PING, 0, 1, bytes(8)),
                        connection_error(PROTOCOL)),
    "6.7 six bytes": (h2_frame(H2_PING, 0, 0, bytes(6)),
                      connection_error(SIZE)),
    # 6.8: GOAWAY
    "6.8 it may go on": (h2_frame(H2_GOAWAY, 0, 0, bytes(8)), "served"),
    "6.8 an unknown code, and a text": (
        h2_frame(H2_GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\xffbye"), "served"),
    "6.8 on a stream": (h2_frame(H2_GOAWAY, 0, 1, bytes(8)),
                        connection_error(PROTOCOL)),
    "6.8 seven bytes": (h2_frame(H2_GOAWAY, 0, 0, bytes(7)),
                        connection_error(SIZE)),
    # 6.9: WINDOW_UPDATE
    "6.9 nothing": (h2_window(0, 0), connection_error(PROTOCOL)),
    "6.9 nothing, on a stream": (OPEN + h2_window(1, 0),
                                 stream_error(PROTOCOL)),
    "6.9 the reserved bit is ignored": (
        OPEN + h2_window(1, 1 << 31 | 5), "served"),
    "6.9 nothing but the reserved bit": (h2_window(0, 1 << 31),
                                         connection_error(PROTOCOL)),
    "6.9 three bytes": (h2_frame(H2_WINDOW_UPDATE, 0, 0, bytes(3)),
                        connection_error(SIZE)),
    "6.9.1 up to 2^31-1": (h2_window(0, H2_MOST - 65535), "served"),
    "6.9.1 beyond": (h2_window(0, H2_MOST - 65534), connection_error(FLOW)),
    "6.9.1 beyond, on a stream": (OPEN + h2_window(1, H2_MOST - 65534),
                                  stream_error(FLOW)),
    "6.9.2 beyond, by a setting": (
        OPEN + h2_window(1, 1) + setting(4, H2_MOST),
        connection_error(FLOW)),
    # 6.10: CONTINUATION
    "6.10 two of them": (
        headers(1, 1, BLOCK[:1]) + h2_frame(H2_CONTINUATION, 0, 1, BLOCK[1:2])
        + h2_frame(H2_CONTINUATION, 4, 1, BLOCK[2:]), "served"),
    "6.10 an empty one": (
        headers(1, 1, BLOCK) + h2_frame(H2_CONTINUATION, 4, 1), "served"),
    "6.10 on stream 0": (
        headers(1, 1, BLOCK[:1]) + h2_frame(H2_CONTINUATION, 4, 0, BLOCK[1:]),
        connection_error(PROTOCOL)),
    "6.10 on another stream": (
        headers(1, 1, BLOCK[:1]) + h2_frame(H2_CONTINUATION, 4, 3, BLOCK[1:]),
        connection_error(PROTOCOL)),
    "6.10 after the last": (OPEN + h2_frame(H2_CONTINUATION, 4, 1, BLOCK),
                            connection_error(PROTOCOL)),
    "6.10 DATA between": (headers(1, 0, BLOCK[:1]) + data(),
                          connection_error(PROTOCOL)),
    "6.10 PING between": (headers(1, 1, BLOCK[:1]) + PING,
                          connection_error(PROTOCOL)),
    # 8.1: messages
    "8.1 trailers without END_STREAM": (
        OPEN + headers(1, 4, hpack_encode(SUM)), stream_error(PROTOCOL)),
    "8.1 a pseudo-field in trailers": (OPEN + headers(),
                                       stream_error(PROTOCOL)),
    "8.2.1 capitals in trailers": (
        OPEN + headers(block=hpack_encode([("Sum", "1")])),
        stream_error(PROTOCOL)),
    "8.1 empty trailers": (OPEN + headers(block=b""), "served"),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_ends_as_its_section_says(rule):
    *pieces, expected = RULES[rule]
    assert outcome(*pieces) == expected


# The same for a stream whose function still runs: half-closed (remote)

HALF_CLOSED = {
    "DATA": (data(), [("reset", CLOSED)], [(1, CLOSED)]),
    "empty DATA": (data(1, b"", 0), [("reset", CLOSED)], [(1, CLOSED)]),
    "HEADERS": (headers(), [("reset", CLOSED)], [(1, CLOSED)]),
    "RST_STREAM": (reset(), [("reset", CANCEL)], []),
    "WINDOW_UPDATE": (h2_window(1, 1), [], []),
    "PRIORITY": (h2_frame(H2_PRIORITY, 0, 1, bytes(4) + b"\7"), [], []),
}


@pytest.mark.parametrize("frame", HALF_CLOSED)
def test_a_frame_after_the_request_has_ended(frame):
    spelled, events, answers = HALF_CLOSED[frame]
    connection = ready()
    connection.receive(WHOLE, 0.0)
    assert [(event.what, event.code) for event in connection.receive(
        spelled, 0.0)] == events
    assert resets(sent(connection)) == answers
    assert connection.closed is None
    assert (1 in connection.streams) == (not events)


def test_an_error_of_a_stream_leaves_the_others_alone():
    connection = ready()
    connection.receive(OPEN + h2_ask(3, GET) + h2_window(1, 0), 0.0)
    connection.headers(3, OK, ended=True)
    frames = sent(connection)
    assert resets(frames) == [(1, PROTOCOL)] and ("HEADERS", 3) in [
        frame[:2] for frame in frames]


def test_a_goaway_names_the_last_stream_that_was_accepted():
    connection = ready()
    connection.receive(h2_ask(5, GET) + h2_ask(7, [("Bad", "")])
                       + h2_frame(H2_PING, 0, 1, bytes(8)), 0.0)
    name, _, _, payload = sent(connection)[-1]
    assert (name, payload[:4]) == ("GOAWAY", (5).to_bytes(4))


def test_after_the_end_nothing_is_heard():
    connection = ready(h2_window(0, 0))
    assert connection.closed == PROTOCOL
    assert connection.receive(h2_ask(1, GET), 0.0) == []
    assert connection.check(1e6) == [] and connection.take() == b""


def test_what_came_before_an_error_is_given():
    connection = ready()
    events = connection.receive(h2_ask(1, GET) + data(0), 0.0)
    assert [event.what for event in events] == ["headers"]


# Blocks always go through HPACK: else the tables part

LEARN = b"\x40\x03lab\x05hello"         # a literal that both ends remember
USE = b"\xbe"                           # field 62, the newest

BEFORE = {
    "on a good stream": (headers(1, 5, BLOCK + LEARN), 3),
    "on a malformed one": (headers(1, 5, BLOCK + b"\0\1A\0" + LEARN), 3),
    "in trailers": (OPEN + headers(1, 5, LEARN), 3),
    "in trailers after our reset": (
        headers(1, 4, b"\0\1A\0") + headers(1, 5, LEARN), 3),
    "in trailers that are malformed": (OPEN + headers(1, 4, LEARN), 3),
    "in pieces": (headers(1, 1, BLOCK) + h2_frame(
        H2_CONTINUATION, 4, 1, LEARN), 3),
    "of refused streams": (b"".join(
        headers(stream, 4) for stream in range(1, 257, 2))
        + headers(257, 5, BLOCK + LEARN) + reset(1), 259),
}


@pytest.mark.parametrize("case", BEFORE)
def test_what_a_block_teaches_is_learned(case):
    before, stream = BEFORE[case]
    connection = ready()
    connection.receive(before, 0.0)
    events = connection.receive(headers(stream, 5, BLOCK + USE), 0.0)
    assert events[0].fields[-1] == ("lab", "hello")


def test_after_our_goaway_blocks_are_read_too():
    connection = ready()
    connection.receive(OPEN, 0.0)
    connection.shut_down()
    assert connection.receive(headers(3, 4, BLOCK + LEARN), 0.0) == []
    assert connection.receive(data(3) + headers(3, 5, BLOCK), 0.0) == []
    events = connection.receive(headers(1, 5, USE), 0.0)
    assert events[0].fields == (("lab", "hello"),)
    assert connection.closed is None


def test_a_list_of_fields_beyond_64_kib_ends_the_connection():
    most = faas.H2_LIST
    bomb = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + USE * 20
    assert outcome(headers(1, 5, bomb)) == connection_error(CALM)
    fits = hpack_encode([*GET, ("lab", "x" * (H2_FRAME - 100))])
    assert outcome(headers(1, 5, fits)) == "served"
    pieces = [b"x" * 16000] * (most // 16000 + 1)
    endless = headers(1, 1, b"") + b"".join(
        h2_frame(H2_CONTINUATION, 0, 1, piece) for piece in pieces)
    assert outcome(endless) == connection_error(CALM)


# A request, in events


def test_a_request_comes_as_events():
    connection = ready()
    events = connection.receive(OPEN + data(1, b"ab", 0) + data(1, b"", 0)
                                + data(1, b"\1cd\0", 8), 0.0)
    assert [tuple(event) for event in events] == [
        ("headers", 1, GET, b"", False, 0),
        ("data", 1, (), b"ab", False, 0), ("data", 1, (), b"cd", False, 0)]
    events = connection.receive(headers(1, 5, hpack_encode(SUM)), 0.0)
    assert [tuple(event) for event in events] == [
        ("trailers", 1, SUM, b"", True, 0)]
    assert [*connection.streams] == [1]


def test_a_ping_comes_back_while_a_function_runs():
    connection = ready()
    connection.receive(WHOLE + PING, 0.0)
    assert sent(connection) == [("PING", 0, "ACK", b"12345678")]
    assert 1 in connection.streams


# An answer, in frames


def asked(*asks, settings=b""):
    """Give a connection with streams that wait for an answer."""
    connection = ready()
    connection.receive(settings + b"".join(asks or [WHOLE]), 0.0)
    connection.take()
    return connection


def test_head_data_and_trailers_leave_in_one_piece():
    connection = asked()
    connection.headers(1, OK)
    connection.data(1, b"hi")
    connection.trailers(1, SUM)
    assert [frame[:3] for frame in h2_frames(connection.take())] == [
        ("HEADERS", 1, "END_HEADERS"), ("DATA", 1, ""),
        ("HEADERS", 1, "END_STREAM END_HEADERS")]
    assert connection.streams == {} and connection.take() == b""


ENDS = {
    "a head alone": (lambda c: c.headers(1, OK, ended=True),
                     [("HEADERS", "END_STREAM END_HEADERS")]),
    "a head and data": (
        lambda c: (c.headers(1, OK), c.data(1, b"hi", ended=True)),
        [("HEADERS", "END_HEADERS"), ("DATA", "END_STREAM")]),
    "a head, and no data after all": (
        lambda c: (c.headers(1, OK), c.data(1, b"", ended=True)),
        [("HEADERS", "END_HEADERS"), ("DATA", "END_STREAM")]),
    "pieces": (
        lambda c: (c.headers(1, OK), c.data(1, b"a"), c.data(1, b""),
                   c.data(1, b"b"), c.data(1, b"", ended=True)),
        [("HEADERS", "END_HEADERS"), ("DATA", ""), ("DATA", "END_STREAM")]),
    "trailers alone": (
        lambda c: (c.headers(1, OK), c.trailers(1, SUM)),
        [("HEADERS", "END_HEADERS"),
         ("HEADERS", "END_STREAM END_HEADERS")]),
    "two heads": (
        lambda c: (c.headers(1, ((":status", "103"),)),
                   c.headers(1, OK, ended=True)),
        [("HEADERS", "END_HEADERS"),
         ("HEADERS", "END_STREAM END_HEADERS")]),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("early", [False, True], ids=["after", "before"])
def test_an_answer_ends_once(end, early):
    """Before the request has ended, RST_STREAM(NO_ERROR) follows it."""
    answer, expected = ENDS[end]
    connection = asked(OPEN if early else WHOLE)
    answer(connection)
    frames = sent(connection)
    if early:
        assert frames.pop() == ("RST_STREAM", 1, "", bytes(4))
    assert [(name, flags) for name, _, flags, _ in frames] == expected
    assert connection.streams == {}


def test_after_an_early_answer_the_rest_of_the_request_is_tolerated():
    connection = asked(OPEN)
    connection.headers(1, OK, ended=True)
    rest = data(1, bytes(9000), 0) * 70 + data(1, b"")
    assert connection.receive(rest + h2_window(1, 9) + reset(), 0.0) == []
    assert connection.closed is None
    assert [frame[:2] for frame in sent(connection)][-1:] == [
        ("WINDOW_UPDATE", 0)]


def test_a_long_head_is_cut_into_pieces():
    connection = asked()
    fields = [*OK, ("lab", "x" * 40_000)]
    connection.headers(1, fields, ended=True)
    frames = sent(connection)
    assert [frame[:3] for frame in frames] == [
        ("HEADERS", 1, "END_STREAM"), ("CONTINUATION", 1, ""),
        ("CONTINUATION", 1, "END_HEADERS")]
    block = b"".join(payload for *_, payload in frames)
    assert faas.HpackDecoder().decode(block, 1 << 20) == fields
    assert max(map(len, (frame[3] for frame in frames))) == H2_FRAME


def test_a_client_that_has_chosen_a_table_size_is_told_ours():
    """RFC 7541, 4.2: at the beginning of the next block, and only there."""
    connection = asked(h2_ask(1, GET), h2_ask(3, GET), settings=setting(1, 0))
    connection.headers(1, OK, ended=True)
    connection.headers(3, OK, ended=True)
    assert [payload for *_, payload in sent(connection)] == [
        b"\x20\x88", b"\x88"]


def test_trailers_that_wait_do_not_take_the_size_update_from_a_head():
    connection = asked(h2_ask(1, GET), h2_ask(3, GET),
                       settings=setting(4, 0) + setting(1, 0))
    connection.data(1, b"waits")
    connection.trailers(1, SUM)
    connection.headers(3, OK, ended=True)
    assert sent(connection)[0][3] == b"\x20\x88"
    connection.receive(h2_window(1, 5), 0.0)
    assert sent(connection)[-1][3] == hpack_encode(SUM)


def test_what_is_said_after_a_reset_is_thrown_away():
    connection = asked(OPEN)
    connection.headers(1, OK)
    connection.data(1, bytes(100_000))
    connection.receive(reset(), 0.0)
    connection.data(1, b"more")
    connection.trailers(1, SUM)
    connection.reset(1, CANCEL)
    connection.headers(1, OK, ended=True)
    assert [name for name, *_ in sent(connection)] == ["HEADERS"]
    assert connection.waiting == connection.queued(1) == 0
    assert not connection.turns


def test_an_answer_can_be_broken_off():
    connection = asked()
    connection.headers(1, OK)
    connection.data(1, bytes(100_000))
    connection.take()
    connection.reset(1, INTERNAL)
    assert sent(connection) == [("RST_STREAM", 1, "", INTERNAL.to_bytes(4))]
    assert connection.waiting == 0 and connection.streams == {}


# Windows, of the client


def test_data_wait_for_both_windows():
    connection = asked()
    connection.data(1, bytes(100_000), ended=True)
    assert short(sent(connection)) == [
        *[("DATA", 1, 16384)] * 3, ("DATA", 1, 16383)]
    assert connection.queued(1) == connection.waiting == 34_465
    connection.receive(h2_window(1, 50_000), 0.0)
    assert sent(connection) == []
    connection.receive(h2_window(0, 34_464), 0.0)
    assert short(sent(connection)) == [
        *[("DATA", 1, 16384)] * 2, ("DATA", 1, 1696)]
    connection.receive(h2_window(0, 100), 0.0)
    assert sent(connection) == [("DATA", 1, "END_STREAM", b"\0")]
    assert connection.queued(1) == 0


def test_heads_trailers_and_empty_data_wait_for_no_window():
    connection = asked(h2_ask(1, GET), h2_ask(3, GET), h2_ask(5, GET),
                       settings=setting(4, 0))
    connection.headers(1, OK)
    connection.data(1, b"", ended=True)
    connection.headers(3, OK)
    connection.trailers(3, SUM)
    connection.headers(5, OK)
    connection.data(5, b"x")
    connection.trailers(5, SUM)
    assert short(sent(connection)) == [
        ("HEADERS", 1, 1), ("DATA", 1, 0), ("HEADERS", 3, 1),
        ("HEADERS", 3, 7), ("HEADERS", 5, 1)]
    connection.receive(h2_window(5, 1), 0.0)
    assert short(sent(connection)) == [("DATA", 5, 1), ("HEADERS", 5, 7)]


def test_trailers_and_the_end_wait_for_the_data_before_them():
    connection = asked(settings=setting(4, 3))
    connection.headers(1, OK)
    connection.data(1, b"abcde")
    connection.trailers(1, SUM)
    assert short(sent(connection)) == [("HEADERS", 1, 1), ("DATA", 1, 3)]
    connection.receive(h2_window(1, 1), 0.0)
    assert short(sent(connection)) == [("DATA", 1, 1)]
    connection.receive(h2_window(1, 1), 0.0)
    assert short(sent(connection)) == [("DATA", 1, 1), ("HEADERS", 1, 7)]


def test_a_setting_may_take_a_window_below_zero():
    """RFC 9113, 6.9.2: what was sent counts against the new value, too."""
    connection = asked()
    connection.data(1, bytes(40_000))
    connection.take()
    connection.data(1, b"late", ended=True)
    connection.receive(setting(4, 10_000), 0.0)
    assert connection.streams[1].window == -30_000
    connection.take()
    connection.receive(h2_window(1, 30_000), 0.0)
    assert sent(connection) == []
    connection.receive(h2_window(1, 1), 0.0)
    assert sent(connection) == [("DATA", 1, "", b"l")]
    connection.receive(setting(4, 10_003), 0.0)
    assert sent(connection)[-1] == ("DATA", 1, "END_STREAM", b"ate")


def test_a_setting_may_close_a_window_just_before_its_turn():
    for size in (0, 1):
        connection = asked()
        connection.data(1, bytes(100))
        connection.receive(setting(4, size), 0.0)
        assert short(sent(connection)) == [("SETTINGS", 0, 0)] + [
            ("DATA", 1, 1)] * size


def test_of_two_settings_in_a_frame_the_last_is_obeyed():
    twice = h2_frame(H2_SETTINGS, 0, 0, h2_settings({4: 100})
                     + h2_settings({4: 1}))
    connection = asked(settings=twice)
    connection.data(1, b"hello")
    assert short(sent(connection)) == [("DATA", 1, 1)]


def test_a_new_stream_begins_with_the_window_of_the_settings():
    connection = asked(settings=setting(4, 7))
    connection.data(1, bytes(100))
    assert short(sent(connection)) == [("DATA", 1, 7)]


def test_a_larger_frame_size_of_the_client_changes_nothing():
    connection = asked(settings=setting(5, 1 << 20))
    connection.data(1, bytes(20_000))
    assert short(sent(connection)) == [("DATA", 1, 16384), ("DATA", 1, 3616)]


WIDE = setting(4, H2_MOST) + h2_window(0, 1 << 30)


def test_a_small_answer_overtakes_a_large_one():
    connection = asked(h2_ask(1, GET), h2_ask(3, GET), settings=WIDE)
    connection.data(1, bytes(4 << 20), ended=True)
    connection.take()
    connection.data(3, b"small", ended=True)
    frames = short(h2_frames(connection.take()))
    assert frames.index(("DATA", 3, 5)) == 1


def test_large_answers_take_turns():
    streams = [1, 3, 5]
    connection = asked(*[h2_ask(stream, GET) for stream in streams],
                       settings=WIDE)
    for stream in streams:
        connection.data(stream, bytes(100_000), ended=True)
    order = [stream for _, stream, _, _ in sent(connection)]
    assert order[:18] == streams * 6 and len(order) == 21


def test_a_stream_without_a_window_holds_up_nobody():
    connection = asked(h2_ask(1, GET), h2_ask(3, GET),
                       settings=setting(4, 10))
    connection.data(1, bytes(100))
    connection.receive(h2_window(3, 1000), 0.0)
    connection.data(3, bytes(1000), ended=True)
    assert short(sent(connection)) == [("DATA", 1, 10), ("DATA", 3, 1000)]


def test_a_portion_has_an_end_and_the_next_goes_on():
    connection = asked(settings=WIDE)
    connection.data(1, bytes(1 << 20), ended=True)
    portions = 0
    while piece := connection.take():
        assert len(piece) <= faas.H2_TAKE + H2_FRAME + 100
        portions += 1
    assert portions == 16 and connection.streams == {}


def test_four_megabytes_under_a_small_window_are_never_copied(monkeypatch):
    """One turn for each frame, and all that waits is a view of the answer."""
    turns, send_piece = [], H2Connection.send_piece
    monkeypatch.setattr(H2Connection, "send_piece", lambda self, one: (
        turns.append(one), send_piece(self, one))[1])
    connection, answer = asked(), random.Random(4).randbytes(4 << 20)
    connection.data(1, answer, ended=True)
    got, stream = b"", connection.streams[1]
    while connection.streams:
        frames = sent(connection)
        got += b"".join(payload for *_, payload in frames)
        assert all(piece.obj is answer for piece in stream.pieces)
        if frames:
            step = sum(len(payload) for *_, payload in frames)
            connection.receive(h2_window(0, step), 0.0)
            if connection.streams:
                connection.receive(h2_window(1, step), 0.0)
    assert got == answer
    assert len(turns) <= 64 * 5         # 65,535 bytes are four frames


# Windows, of ours


def credits(frames):
    return [(stream, int.from_bytes(payload)) for name, stream, _, payload
            in frames if name == "WINDOW_UPDATE"]


def upload(connection, stream, size, flags=0):
    frames = b"".join(data(stream, bytes(H2_FRAME), 0)
                      for _ in range(size // H2_FRAME))
    return connection.receive(
        frames + data(stream, bytes(size % H2_FRAME), flags), 0.0)


def test_half_a_window_is_given_back_at_once():
    connection = asked(OPEN)
    upload(connection, 1, H2_WINDOW // 2)
    assert credits(sent(connection)) == []
    upload(connection, 1, 1)
    half = H2_WINDOW // 2 + 1
    assert credits(sent(connection)) == [(0, half), (1, half)]
    upload(connection, 1, H2_WINDOW // 2)
    assert credits(sent(connection)) == []


def test_padding_is_given_back_too():
    connection = asked(OPEN)
    padded = data(1, b"\xff" + bytes(256), H2_PADDED)       # of 1 byte
    connection.receive(padded * 2048, 0.0)
    given = credits(sent(connection))
    assert sum(step for stream, step in given if stream == 0) > H2_WINDOW // 2
    assert sum(step for stream, step in given if stream == 1) > H2_WINDOW // 2


@pytest.mark.parametrize("whose", ["ours", "malformed", "goaway"])
def test_data_on_a_stream_that_is_gone_are_given_back(whose):
    connection = asked(h2_ask(1, GET)[:-1] + BLOCK[-1:], OPEN.replace(
        b"\0\0\0\1", b"\0\0\0\3")) if whose != "malformed" else asked(
        headers(3, 4, hpack_encode([("Bad", "")])))
    if whose == "ours":
        connection.reset(3, CANCEL)
    if whose == "goaway":
        connection.reset(3, CANCEL)
        connection.shut_down()
        connection.receive(headers(5, 4), 0.0)
    connection.take()
    stream = 5 if whose == "goaway" else 3
    assert upload(connection, stream, 3 << 20) == []
    total = sum(step for number, step in credits(sent(connection))
                if number == 0)
    assert total >= 5 * (H2_WINDOW // 2) and connection.closed is None


def test_the_last_data_of_a_request_do_not_reopen_its_window():
    connection = asked(OPEN)
    upload(connection, 1, H2_WINDOW // 2 + 5, H2_END_STREAM)
    assert [stream for stream, _ in credits(sent(connection))] == [0]


def test_more_than_a_window_is_an_error():
    """We give back at once, so that only a fault of ours would show it."""
    for size, errors in (10, []), (11, [(1, FLOW)]):
        connection = asked(OPEN)
        connection.streams[1].room = 10
        connection.receive(data(1, bytes(size), 0), 0.0)
        assert resets(sent(connection)) == errors
    for size, closed in (10, None), (11, FLOW):
        connection = asked(OPEN)
        connection.room = 10
        connection.receive(data(1, bytes(size), 0), 0.0)
        assert connection.closed == closed


# Time


def test_silence_ends_a_connection_without_a_stream():
    connection = ready()
    connection.receive(PING, 100.0)
    assert connection.check(174.9) == [] and connection.closed is None
    assert connection.check(175.0) == []
    code, sentence = last_words(sent(connection))
    assert code == connection.closed == NO_ERROR and "silence" in sentence


def test_a_client_that_never_says_anything_is_silent_too():
    connection = H2Connection(5.0)
    connection.check(79.9)
    assert connection.closed is None
    connection.check(80.0)
    assert connection.closed == NO_ERROR


def test_a_function_may_take_its_time():
    connection = asked(WHOLE)
    for now in range(0, 36000, 60):
        assert connection.check(float(now)) == []
    assert connection.closed is None and 1 in connection.streams


BEGUN = {
    "a byte of the preface": b"P",
    "the preface without settings": H2_PREFACE,
    "a byte of a frame": HELLO + b"\0",
    "a head of a frame": HELLO + PING[:9],
    "a frame but its last byte": HELLO + PING[:-1],
    "a block without its end": HELLO + headers(1, 0, BLOCK[:1]),
    "a continued block": HELLO + headers(1, 0, BLOCK[:1]) + h2_frame(
        H2_CONTINUATION, 0, 1, BLOCK[1:2]),
}


@pytest.mark.parametrize("what", BEGUN)
def test_what_is_begun_has_ten_seconds(what):
    connection = H2Connection(0.0)
    connection.receive(BEGUN[what], 50.0)
    assert connection.deadline() == pytest.approx(60)
    connection.check(59.9)
    assert connection.closed is None
    connection.check(60.0)
    code, sentence = last_words(sent(connection))
    assert code == connection.closed == CALM and "10 s" in sentence


def test_a_look_at_the_streams_does_not_forget_it():
    connection = ready()
    connection.receive(PING[:-1], 55.0)
    connection.check(60.0)
    assert connection.deadline() == pytest.approx(65)
    connection.check(65.0)
    assert connection.closed == CALM


def test_bytes_that_trickle_buy_no_time():
    connection, block = ready(), hpack_encode([*GET, ("lab", "x" * 100)])
    connection.receive(headers(1, 0, b""), 0.0)
    for second in range(1, 10):
        piece = block[second:second + 1]
        connection.receive(h2_frame(H2_CONTINUATION, 0, 1, piece),
                           float(second))
    assert connection.closed is None
    connection.receive(h2_frame(H2_CONTINUATION, 0, 1, b"x"), 10.0)
    assert connection.closed == CALM


def test_whole_frames_buy_time_and_the_next_one_has_its_own():
    connection = asked(OPEN)
    frame = data(1, bytes(10_000), 0)
    connection.receive(frame[:-1], 0.0)
    for now in range(1, 100):
        connection.receive(frame[-1:] + frame[:-1], now * 9.0)
    assert connection.closed is None and connection.streams


def test_what_is_whole_again_has_all_the_time():
    connection = asked(WHOLE)
    connection.receive(PING[:5], 0.0)
    connection.receive(PING[5:], 9.0)
    connection.receive(headers(3, 1, BLOCK[:2]), 11.0)
    connection.receive(h2_frame(H2_CONTINUATION, 4, 3, BLOCK[2:]), 12.0)
    assert connection.check(30.0) == [] and connection.closed is None


def test_half_a_request_has_sixty_seconds():
    connection = ready()
    connection.receive(OPEN, 7.0)
    connection.receive(data(1, bytes(2048), 0), 30.0)   # 2 s more: 9.2
    assert connection.check(68.9) == []
    assert [tuple(event) for event in connection.check(69.0)] == [
        ("reset", 1, (), b"", False, CANCEL)]
    assert resets(sent(connection)) == [(1, CANCEL)]
    assert connection.streams == {} and connection.closed is None


def test_it_is_seen_also_where_other_bytes_come_all_the_time():
    connection, events = ready(), []
    connection.receive(OPEN, 0.0)
    for second in range(1, 62):
        events += connection.receive(PING, float(second))
    assert [(event.what, event.code) for event in events] == [
        ("reset", CANCEL)]


def stalled(settings):
    connection = asked(h2_ask(1, GET), settings=settings)
    connection.headers(1, OK)
    connection.data(1, bytes(100_000), ended=True)
    connection.take()
    assert connection.deadline() <= 1
    return connection


def test_an_answer_waits_sixty_seconds_for_its_stream_s_window():
    connection = stalled(setting(4, 0))
    assert connection.check(5.0) == [] and connection.check(64.9) == []
    assert [(event.what, event.stream, event.code) for event
            in connection.check(65.0)] == [("reset", 1, CALM)]
    assert resets(sent(connection)) == [(1, CALM)]
    assert connection.waiting == 0 and connection.closed is None


def test_and_as_long_for_the_window_of_the_connection():
    connection = stalled(setting(4, H2_MOST))
    connection.check(5.0)
    connection.check(64.9)
    assert connection.closed is None
    connection.check(65.0)
    assert connection.closed == CALM and connection.waiting == 0
    assert "window" in last_words(sent(connection))[1]


def test_a_window_that_opens_buys_time():
    connection = stalled(setting(4, 0))
    for now in range(0, 52, 4):         # 1,225 bytes/s
        assert connection.receive(h2_window(1, 4900), float(now)) == []
        connection.take()
        assert connection.check(now + 1.0) == []
    assert connection.streams[1].queued == 100_000 - 13 * 4900


def test_a_window_that_opens_by_a_byte_a_minute_buys_none():
    connection, events = stalled(setting(4, 0)), []
    for now in range(0, 140, 20):
        events += connection.receive(h2_window(1, 1), float(now))
        connection.take()
    assert [(event.what, event.code) for event in events] == [("reset", CALM)]


def test_a_request_of_a_byte_a_minute_buys_none():
    connection, events = asked(OPEN), []
    for now in range(0, 100, 20):
        events += connection.receive(data(1, b"x", 0), float(now))
    assert events[-1][:2] == ("reset", 1)


def test_patience_is_kept():
    """Who asks when patience says sees every deadline within a second."""
    connection = ready()
    connection.receive(OPEN, 0.0)
    now, looks = 0.0, 0
    while connection.closed is None and looks < 100:
        now = max(now + 0.01, connection.deadline())
        looks += 1
        connection.check(now)
    # Reset at 60 s; 75 s after the last byte came, it was silent.
    assert 75 <= now < 76 and looks < 10


# Abuse: each ends by the limit that its section names


def flood(connection, piece, times, now=0.0, apart=0.0):
    """Send a piece again and again; give how often it was taken."""
    for at in range(times):
        connection.receive(piece(at) if callable(piece) else piece,
                           now + at * apart)
        connection.take()
        if connection.closed is not None:
            return at
    return times


FLOODS = {
    "PING": PING,
    "PING with ACK": h2_frame(H2_PING, H2_ACK, 0, bytes(8)),
    "SETTINGS": h2_frame(H2_SETTINGS),
    "SETTINGS with ACK": h2_frame(H2_SETTINGS, H2_ACK),
    "PRIORITY": h2_frame(H2_PRIORITY, 0, 9, bytes(5)),
    "an unknown type": h2_frame(99),
    "GOAWAY": h2_frame(H2_GOAWAY, 0, 0, bytes(8)),
    "WINDOW_UPDATE": h2_window(0, 1),
    "WINDOW_UPDATE of a stream": h2_window(1, 1),
    "WINDOW_UPDATE of a closed stream": h2_window(3, 1),
    "RST_STREAM of a closed stream": reset(3),
    "empty DATA": data(1, b"", 0),
    "nothing but padding": data(1, b"\3\0\0\0", H2_PADDED),
    "DATA of a stream that we reset": data(5, b"hi", 0),
    "HEADERS of a stream that we reset": headers(5, 5),
}


@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_of_frames_that_bring_nothing_ends(what):
    connection = asked(OPEN, h2_ask(3, GET), headers(5, 4))
    connection.headers(3, OK, ended=True)
    connection.reset(5, CANCEL)
    connection.take()
    frames = [FLOODS[what]] * 5000
    taken = flood(connection, lambda at: frames[at], 5000)
    assert connection.closed == CALM
    assert 1900 < taken < 2100


@pytest.mark.parametrize("what", FLOODS)
def test_at_a_pace_that_is_allowed_it_goes_on(what):
    connection = asked(OPEN, h2_ask(3, GET), headers(5, 4))
    connection.headers(3, OK, ended=True)
    connection.reset(5, CANCEL)
    assert flood(connection, FLOODS[what], 5000, apart=1 / 400) == 5000


def test_a_setting_counts_each():
    many = h2_frame(H2_SETTINGS, 0, 0, h2_settings(
        dict.fromkeys(range(100, 2000), 1)))
    assert flood(ready(), many, 100) == 1


def test_rapid_reset_ends():
    connection = ready()
    taken = flood(connection, lambda at: headers(2 * at + 1, 5)
                  + reset(2 * at + 1), 5000)
    assert taken == 1000 and connection.closed == CALM


def test_the_other_rapid_reset_too_where_it_is_us_who_reset():
    """CVE-2025-8671: the client errs, until the server resets for it."""
    for error in (h2_window, lambda stream, _: data(stream)):
        connection = ready()
        taken = flood(connection, lambda at: headers(2 * at + 1, 5)
                      + error(2 * at + 1, 0), 5000)
        assert taken == 1000 and connection.closed == CALM


def test_a_client_that_cancels_now_and_then_is_served():
    connection = ready()
    assert flood(connection, lambda at: headers(2 * at + 1, 5)
                 + reset(2 * at + 1), 5000, apart=1 / 30) == 5000


def test_a_reset_frees_the_place_of_its_stream():
    connection = ready()
    for at in range(H2_STREAMS * 3):
        events = connection.receive(headers(2 * at + 1, 5)
                                    + reset(2 * at + 1), 0.0)
        assert [event.what for event in events] == ["headers", "reset"]
    assert connection.streams == {}


def test_a_stream_beyond_the_limit_is_refused_until_one_ends():
    connection = ready()
    heads = b"".join(headers(2 * at + 1, 4) for at in range(H2_STREAMS))
    assert len(connection.receive(heads, 0.0)) == H2_STREAMS
    assert connection.receive(headers(301, 5), 0.0) == []
    assert resets(sent(connection)) == [(301, REFUSED)]
    connection.headers(1, OK, ended=True)
    assert len(connection.receive(headers(303, 5), 0.0)) == 1


def test_too_many_bytes_of_answers_refuse_new_streams():
    connection = asked(h2_ask(1, GET), h2_ask(3, GET), settings=setting(4, 0))
    connection.data(1, bytes(faas.H2_WAITING))
    assert len(connection.receive(h2_ask(5, GET), 0.0)) == 1
    connection.data(3, b"x")
    assert connection.receive(h2_ask(7, GET), 0.0) == []
    assert resets(sent(connection)) == [(7, REFUSED)]
    connection.receive(reset(3), 0.0)
    assert len(connection.receive(h2_ask(9, GET), 0.0)) == 1


def test_a_block_has_at_most_64_pieces():
    connection = ready()
    connection.receive(headers(1, 1, b""), 0.0)
    taken = flood(connection, h2_frame(H2_CONTINUATION, 0, 1), 1000)
    assert taken == faas.H2_PIECES - 1 and connection.closed == CALM
    code, sentence = last_words(sent(connection) or [
        ("GOAWAY", 0, "", bytes(7) + bytes([CALM]) + b"64 pieces")])
    assert "pieces" in sentence


def test_answers_that_nobody_reads_end_it():
    """Nothing is taken: the socket of such a client takes no bytes."""
    connection, answered = ready(), 0
    long = [*OK, ("lab", "x" * 500)]
    for at in range(100_000):
        for event in connection.receive(h2_ask(2 * at + 1, GET), 0.0):
            connection.headers(event.stream, long, ended=True)
            answered += 1
        if connection.closed is not None:
            break
    assert connection.closed == CALM
    assert faas.H2_UNSENT // 600 < answered < faas.H2_UNSENT // 500


def test_control_frames_that_nobody_reads_are_few():
    connection = ready()
    for at in range(100):
        connection.receive(PING * 1000, at * 10.0)
    assert connection.closed == CALM
    assert connection.unsent <= faas.H2_UNSENT + 64 * 1024


def test_a_busy_client_may_ping_with_each_answer():
    """grpc-go does: a PING, and two WINDOW_UPDATEs, for each DATA."""
    connection = ready()
    for at in range(10_000):
        echo(connection, h2_ask(2 * at + 1, POST, b"hi"))
        connection.take()
        connection.receive(PING + h2_window(0, 2)
                           + h2_window(2 * at + 1, 2), 0.0)
    assert connection.closed is None


def test_and_with_each_frame_of_a_long_answer():
    connection = asked(settings=WIDE)
    for _ in range(1000):
        connection.data(1, bytes(4 * H2_FRAME))
        assert len(sent(connection)) in (4, 4 + 3)     # and the PINGs' ACKs
        connection.receive(3 * (PING + h2_window(0, 9) + h2_window(1, 9)),
                           0.0)
    assert connection.closed is None


def test_a_request_explains_what_comes_with_it():
    """grpcio: a WINDOW_UPDATE between head and DATA, and a PING."""
    connection = ready()
    for at in range(3000):
        stream = 2 * at + 1
        connection.receive(headers(stream, 4) + h2_window(stream, 9) + PING
                           + data(stream), 0.0)
        connection.headers(stream, OK, ended=True)
        connection.take()
    assert connection.closed is None


def test_a_window_of_one_byte_at_a_time_explains_nothing():
    """CVE-2019-9511, the dribble."""
    connection = asked(settings=setting(4, 0))
    connection.data(1, bytes(100_000))
    taken = flood(connection, h2_window(1, 1), 50_000)
    assert 1900 < taken < 2100 and connection.closed == CALM


def test_what_was_explained_cannot_be_saved_up():
    connection = ready()
    for at in range(20_000):
        echo(connection, h2_ask(2 * at + 1, GET, b"x"))
        connection.take()
    assert flood(connection, PING, 50_000) < 4100


SENTENCES = {
    "PING": lambda c: flood(c, PING, 5000),
    "reset": lambda c: flood(c, lambda at: headers(2 * at + 1, 5)
                             + reset(2 * at + 1), 5000),
    "pieces": lambda c: c.receive(headers(1, 1, b"") + h2_frame(
        H2_CONTINUATION, 0, 1) * 99, 0.0),
    "bytes of fields": lambda c: c.receive(headers(1, 5, (
        b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + USE * 20)), 0.0),
}


@pytest.mark.parametrize("word", SENTENCES)
def test_the_end_names_its_limit(word, monkeypatch):
    said, goaway = [], faas.h2_goaway
    monkeypatch.setattr(faas, "h2_goaway", lambda last, code, sentence: (
        said.append((code, sentence)), goaway(last, code, sentence))[1])
    SENTENCES[word](ready())
    (code, sentence), = said
    assert code == CALM and word in sentence


def test_a_closed_stream_leaves_nothing_behind():
    connection = ready()
    for at in range(20_000):
        echo(connection, h2_ask(2 * at + 1, POST, b"hi"))
        connection.take()
    assert connection.closed is None
    for holder in (connection.streams, connection.out, connection.turns,
                   connection.held):
        assert len(holder) == 0
    assert len(connection.closed_by_them) == faas.H2_REMEMBERED
    assert connection.waiting == connection.unsent == 0


# The end


def test_shutting_down_finishes_what_is_open():
    connection = ready()
    connection.receive(WHOLE + headers(3, 4), 0.0)
    connection.shut_down()
    connection.shut_down()
    (name, _, _, payload), = sent(connection)
    assert name == "GOAWAY" and payload[:8] == struct.pack(">II", 3, NO_ERROR)
    assert connection.closed is None
    assert connection.receive(h2_ask(5, POST, b"late") + PING, 0.0) == []
    assert [name for name, *_ in sent(connection)] == ["PING"]
    connection.headers(1, OK)
    connection.data(1, bytes(70_000), ended=True)
    assert connection.receive(data(3), 0.0)[0].data == b"hi"
    connection.headers(3, OK, ended=True)
    assert connection.closed is None        # Of 1, a part still waits.
    sent(connection)
    connection.receive(h2_window(1, 9999) + h2_window(0, 9999), 0.0)
    assert short(sent(connection)) == [("DATA", 1, 4465)]
    assert connection.closed == NO_ERROR


def test_shutting_down_without_a_stream_is_the_end():
    connection = ready()
    connection.shut_down()
    assert connection.closed == NO_ERROR
    assert last_words(sent(connection)) == (NO_ERROR, "shutting down")


@pytest.mark.parametrize("how", ["client", "us"])
def test_a_reset_of_the_last_stream_is_the_end_too(how):
    connection = asked(OPEN)
    connection.shut_down()
    if how == "client":
        connection.receive(reset(), 0.0)
    else:
        connection.reset(1, CANCEL)
    assert connection.closed == NO_ERROR


def test_a_stream_before_our_goaway_is_closed_as_before():
    connection = asked(OPEN, h2_ask(3, GET))
    connection.headers(3, OK, ended=True)
    connection.shut_down()
    connection.receive(data(5), 0.0)
    assert connection.closed == PROTOCOL        # It was never begun.
    connection = asked(OPEN, h2_ask(3, GET))
    connection.headers(3, OK, ended=True)
    connection.shut_down()
    connection.receive(data(3), 0.0)
    assert connection.closed == CLOSED


def test_a_flood_after_our_goaway_ends():
    connection = asked(OPEN)
    connection.shut_down()
    flood(connection, lambda at: headers(2 * at + 3, 5), 5000)
    assert connection.closed == CALM


# Malformed input of all kinds

SEEDS = [
    *(b"".join(pieces) for *pieces, _ in RULES.values()), WIDE, PING,
    OPEN, WHOLE, reset(), setting(4, 0), setting(4, 99_999),
    CONVERSATION[len(HELLO):], data(1, bytes(5000), 0),
    headers(1, 0, BLOCK[:5]), h2_frame(H2_CONTINUATION, 4, 1, BLOCK[5:])]


def mutated(chance):
    """Put some seeds together, and break what they are in a few places."""
    text = bytearray(b"".join(chance.choices(SEEDS, k=chance.randint(1, 6))))
    for _ in range(chance.randint(0, 6)):
        at = chance.randrange(len(text) or 1)
        match chance.randrange(5):
            case 0:
                text[at:at + 1] = chance.randbytes(1)
            case 1:
                del text[at:at + chance.randint(1, 9)]
            case 2:
                text[at:at] = chance.randbytes(chance.randint(1, 9))
            case 3:
                text[at:at + 1] = bytes([1 << chance.randrange(8)])
            case 4:
                text += text[:at]
    return bytes(text)


def an_application(connection, events, chance):
    """Answer as no sane application would."""
    for event in events:
        if chance.random() < 0.7:
            connection.headers(event.stream, OK, chance.random() < 0.2)
        if chance.random() < 0.7:
            connection.data(event.stream, bytes(chance.choice(
                [0, 1, 20_000, 90_000])), chance.random() < 0.5)
        elif chance.random() < 0.3:
            connection.trailers(event.stream, SUM)
        elif chance.random() < 0.1:
            connection.reset(event.stream, CANCEL)


def assert_bounded(connection):
    assert len(connection.held) < 9 + H2_FRAME
    assert len(connection.streams) <= H2_STREAMS
    assert sum(map(len, connection.block or [])) <= faas.H2_LIST + H2_FRAME
    assert len(connection.reset_by_us) <= faas.H2_REMEMBERED
    assert len(connection.turns) <= len(connection.streams)
    assert connection.waiting == sum(
        one.queued for one in connection.streams.values())
    assert all(one.turning == (one in connection.turns)
               for one in connection.streams.values())
    assert connection.room >= H2_WINDOW // 2 or connection.closed is not None


@pytest.mark.parametrize("seed", range(10))
def test_thirty_thousand_mutations_raise_nothing(seed):
    chance, ends = random.Random(seed), set()
    for _ in range(3000):
        connection, now = ready(), 0.0
        text = mutated(chance)
        at = 0
        while at < len(text):
            size = chance.choice([1, 10, 100, 100_000])
            events = connection.receive(text[at:at + size], now)
            an_application(connection, events, chance)
            at, now = at + size, now + chance.choice([0, 0, 0, 0.1, 5])
            if chance.random() < 0.8:
                connection.take()
            an_application(connection, connection.check(now), chance)
            assert_bounded(connection)
        ends.add(connection.closed)
    assert {None, PROTOCOL, SIZE, HPACK, CLOSED} <= ends


# A client that is not ours, in memory


class Peer:
    """The client of the package h2, and our server, without a wire."""

    def __init__(self, chance=None, **settings):
        h2 = pytest.importorskip(
            "h2.connection", reason="the peer h2: pip install h2")
        import h2.config
        import h2.events
        import h2.settings
        self.kinds, self.chance = h2.events, chance
        self.client = h2.connection.H2Connection(
            config=h2.config.H2Configuration(header_encoding="utf-8"))
        codes = h2.settings.SettingCodes
        self.client.initiate_connection()
        self.client.update_settings({
            codes[name]: value for name, value in settings.items()})
        self.server, self.bodies = H2Connection(0.0), {}
        self.heard = {}         # {stream: [fields, body, trailers, ended]}
        self.uploads = {}       # {stream: what is still to be sent}

    def ask(self, fields, body=b""):
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, fields, end_stream=not body)
        self.heard[stream] = [None, bytearray(), None, False]
        if body:
            self.uploads[stream] = memoryview(body)
        return stream

    def pump(self):
        """Upload what may go, and carry all bytes both ways once."""
        for stream, rest in list(self.uploads.items()):
            size = min(len(rest), 16384,
                       self.client.local_flow_control_window(stream))
            if size:
                self.client.send_data(stream, bytes(rest[:size]),
                                      end_stream=size == len(rest))
                self.uploads[stream] = rest[size:]
                if size == len(rest):
                    del self.uploads[stream]
        for piece in self.pieces(self.client.data_to_send()):
            echo(self.server, piece, 0.0, self.bodies)
        for piece in self.pieces(self.server.take()):
            self.hear(self.client.receive_data(piece))

    def pieces(self, data):
        while data:
            size = self.chance.choice([1, 9, 1000, 10**6]) if (
                self.chance) else len(data)
            yield data[:size]
            data = data[size:]

    def hear(self, events):
        kinds = self.kinds
        for event in events:
            if isinstance(event, kinds.ResponseReceived):
                self.heard[event.stream_id][0] = dict(event.headers)
            elif isinstance(event, kinds.DataReceived):
                self.heard[event.stream_id][1] += event.data
                self.client.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id)
            elif isinstance(event, kinds.TrailersReceived):
                self.heard[event.stream_id][2] = dict(event.headers)
            elif isinstance(event, kinds.StreamEnded):
                self.heard[event.stream_id][3] = True

    def run(self, rounds=3000):
        while rounds and not all(one[3] for one in self.heard.values()):
            self.pump()
            rounds -= 1
        assert rounds, "it stands still"


@pytest.mark.parametrize("settings", [
    {}, {"INITIAL_WINDOW_SIZE": 1000}, {"INITIAL_WINDOW_SIZE": 1 << 20},
    {"HEADER_TABLE_SIZE": 0}, {"MAX_FRAME_SIZE": 1 << 20}],
    ids=lambda settings: " ".join(f"{name} {value}" for name, value
                                  in settings.items()) or "as they are")
def test_a_megabyte_goes_both_ways_with_another_client(settings):
    peer = Peer(**settings)
    body = random.Random(1).randbytes(1 << 20)
    stream = peer.ask(POST, body)
    peer.run()
    assert peer.heard[stream] == [{":status": "200"}, body, {"sum": "1"},
                                  True]
    assert peer.server.closed is None and peer.server.streams == {}


def test_many_streams_with_another_client_in_pieces_of_all_sizes():
    chance = random.Random(2)
    peer = Peer(chance)
    bodies = {}
    for _ in range(100):
        body = chance.randbytes(chance.choice([0, 1, 20_000]))
        bodies[peer.ask([*POST, ("lab", chance.choice("abc") * 50)],
                        body)] = body
    peer.run()
    assert {stream: bytes(one[1]) for stream, one in peer.heard.items()
            } == bodies


def test_another_client_changes_its_mind_about_its_table():
    peer = Peer()
    first = peer.ask(GET)
    peer.run()
    for size in (0, 4096, 100):
        peer.client.update_settings({1: size})
        again = peer.ask(GET)
        peer.run()
        assert peer.heard[again] == peer.heard[first]


def test_another_client_hears_our_goaway():
    peer = Peer()
    peer.ask(GET)
    peer.run()
    peer.server.shut_down()
    events = peer.client.receive_data(peer.server.take())
    assert [type(event).__name__ for event in events] == [
        "ConnectionTerminated"]
    assert (events[0].error_code, events[0].last_stream_id) == (NO_ERROR, 1)
    assert H2_INITIAL_WINDOW == 4


def test_a_conversation_goes_on_as_long_as_it_is_answered():
    connection, events = asked(OPEN), []
    connection.headers(1, OK)
    for now in range(10, 500, 10):
        events += connection.receive(data(1, b"a question", 0), float(now))
        connection.data(1, b"an answer")
        connection.take()
    assert {event.what for event in events} == {"data"}


def test_a_stream_that_once_waited_has_sixty_seconds_the_next_time():
    connection = stalled(setting(4, 0))
    connection.check(5.0)
    connection.receive(h2_window(1, 1 << 20), 6.0)
    connection.receive(h2_window(0, 1 << 20), 6.0)
    while connection.take():
        pass
    assert 1 not in connection.streams
    connection.receive(h2_ask(3, GET), 7.0)
    connection.headers(3, OK)
    connection.data(3, b"an event")
    connection.check(9.0)
    connection.receive(h2_window(3, 8), 10.0)
    connection.take()
    assert connection.streams[3].queued == 0
    connection.data(3, b"another")
    assert connection.check(91.0) == [] and connection.check(150.0) == []
