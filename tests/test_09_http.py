"""Chapter 9: the HTTP door, without a socket and then with many."""

import ast
import contextlib
import http.client
import queue
import random
import re
import socket
import threading
import time
import urllib.parse

import pytest
from conftest import eventually, script

import faas
from faas import (Door, FaasError, ProtocolError, Request, RequestReader,
                  Response, Result, Route, Stream)

CRLF = b"\r\n"


def head(*lines, first="POST /f HTTP/1.1", host="Host: a"):
    """Make the head of a request; each line is a str of latin-1."""
    lines = [line for line in (first, host, *lines) if line is not None]
    return CRLF.join(line.encode("latin-1") for line in lines) + 2 * CRLF


def chunked(*chunks, first="POST /f HTTP/1.1"):
    return head("Transfer-Encoding: chunked", first=first) + b"".join(chunks)


def read(pieces, most=1000, now=0.0):
    """Feed a reader; give all Requests, and the status of a refusal."""
    reader, found = RequestReader(lambda request: most, now), []
    try:
        for piece in pieces:
            found += reader.receive(piece, now)
            reader.check(now)
    except ProtocolError as error:
        return found, error.status
    return found, None


def bytewise(data):
    return [data[i:i + 1] for i in range(len(data))]


# 9.1 The head of a request

GOOD = {
    "no body": (head(first="GET /f?x=1 HTTP/1.1"),
                [("GET", "/f", "x=1", b"")]),
    "a body": (head("Content-Length: 2") + b"hi", [("POST", "/f", "", b"hi")]),
    "an empty body": (head("content-length: 0"), [("POST", "/f", "", b"")]),
    "chunks": (chunked(b"2\r\nhi\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"),
               [("POST", "/f", "", b"hi0123456789")]),
    "trailers": (chunked(b"1\r\nx\r\n0\r\nSum: 1\r\nOther: 2\r\n\r\n"),
                 [("POST", "/f", "", b"x")]),
    "leading zeros": (chunked(b"0002\r\nhi\r\n00\r\n\r\n"),
                      [("POST", "/f", "", b"hi")]),
    "a coding in capitals": (head("TRANSFER-ENCODING: Chunked")
                             + b"0\r\n\r\n", [("POST", "/f", "", b"")]),
    "a lower-case method": (head(first="get / HTTP/1.1"),
                            [("get", "/", "", b"")]),
    "a method of its own": (head(first="M-SEARCH /f HTTP/1.1"),
                            [("M-SEARCH", "/f", "", b"")]),
    "asterisk-form": (head(first="OPTIONS * HTTP/1.1"),
                      [("OPTIONS", "*", "", b"")]),
    "absolute-form": (head(first="GET http://A/f?x HTTP/1.1"),
                      [("GET", "/f", "x", b"")]),
    "absolute-form of a root": (head(first="GET http://a HTTP/1.1"),
                                [("GET", "/", "", b"")]),
    "HTTP/1.0 without a Host": (head(first="GET / HTTP/1.0", host=None),
                                [("GET", "/", "", b"")]),
    "an empty Host": (head(first="GET / HTTP/1.1", host="Host:"),
                      [("GET", "/", "", b"")]),
    "an IPv6 Host": (head(first="GET / HTTP/1.1", host="Host: [::1]:80"),
                     [("GET", "/", "", b"")]),
    "an empty line before": (CRLF + CRLF + head(first="GET / HTTP/1.1"),
                             [("GET", "/", "", b"")]),
    "an empty line between": (head(first="GET /1 HTTP/1.1") + CRLF
                              + head(first="GET /2 HTTP/1.1"),
                              [("GET", "/1", "", b""),
                               ("GET", "/2", "", b"")]),
    "three in one piece": (head("Content-Length: 1") + b"1" + chunked(
        b"1\r\n2\r\n0\r\n\r\n") + head(first="GET /3 HTTP/1.1"),
        [("POST", "/f", "", b"1"), ("POST", "/f", "", b"2"),
         ("GET", "/3", "", b"")]),
    "a body that looks like a request": (
        head("Content-Length: 20") + b"GET /evil HTTP/1.1\r\n",
        [("POST", "/f", "", b"GET /evil HTTP/1.1\r\n")]),
}

# What RFC 9112 lets a server refuse, by section, and a status.
REFUSED = {
    # 2.2 and 5: bare CR, bare LF, control bytes
    "bare LF after the request line": (
        b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    "bare LF after a field": (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
    "bare LF all over": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "bare CR in a value": (head("X: a\rb"), 400),
    "bare CR at a line's end": (b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400),
    "NUL in a value": (head("X: a\0b"), 400),
    "NUL in a target": (head(first="GET /\0 HTTP/1.1"), 400),
    "an escape sequence": (head("X: \x1b[2J"), 400),
    "DEL": (head("X: \x7f"), 400),
    # 2.3: versions
    **{f"version {version}": (head(first=f"GET / {version}"), 400)
       for version in ("HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "HTTP/11",
                       "http/1.1", "HTTP/1.10", "HTTP/01.1", "HTTP/1,1",
                       "ICAP/1.0")},
    "no version": (head(first="GET /"), 400),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    # 3: the request line
    "two spaces": (head(first="GET  / HTTP/1.1"), 400),
    "a tab": (head(first="GET\t/ HTTP/1.1"), 400),
    "a space before it": (head(first=" GET / HTTP/1.1"), 400),
    "a space after it": (head(first="GET / HTTP/1.1 "), 400),
    "a space in the target": (head(first="GET /a b HTTP/1.1"), 400),
    "a method that is no token": (head(first="GE{T / HTTP/1.1"), 400),
    # 3.2: the target and the Host
    "no Host": (head(first="GET / HTTP/1.1", host=None), 400),
    "two Hosts": (head("Host: a"), 400),
    "two different Hosts": (head("HOST: b"), 400),
    "a Host with a path": (head(host="Host: a/b"), 400),
    "a Host with a user": (head(host="Host: u@a"), 400),
    "a Host with a space": (head(host="Host: a b"), 400),
    "a Host of two": (head(host="Host: a, b"), 400),
    "a Host with a strange port": (head(host="Host: a:80x"), 400),
    "a fragment": (head(first="GET /f#x HTTP/1.1"), 400),
    "a target without a slash": (head(first="GET f HTTP/1.1"), 400),
    "authority-form": (head(first="CONNECT a:80 HTTP/1.1"), 400),
    "another host in absolute-form": (
        head(first="GET http://b/ HTTP/1.1"), 400),
    "another scheme": (head(first="GET https://a/ HTTP/1.1"), 400),
    "asterisk-form for another method": (head(first="GET * HTTP/1.1"), 400),
    "bytes above ASCII": (head(first="GET /\xe9 HTTP/1.1"), 400),
    # 5.1: white space before the colon; other lines that are no field
    "space before the colon": (head("X : a"), 400),
    "tab before the colon": (head("X\t: a"), 400),
    "space before Content-Length's": (head("Content-Length : 5"), 400),
    "no colon": (head("X"), 400),
    "no name": (head(": a"), 400),
    "a name that is no token": (head("X(): a"), 400),
    # 5.2: obs-fold
    "obs-fold": (head("X: a", " b"), 400),
    "obs-fold by a tab": (head("X: a", "\tb"), 400),
    "obs-fold first": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    # 6.1: Transfer-Encoding
    "both framings": (head("Content-Length: 6", "Transfer-Encoding: chunked")
                      + b"0\r\n\r\nG", 400),
    "both framings, the other way": (
        head("Transfer-Encoding: chunked", "Content-Length: 6")
        + b"0\r\n\r\nG", 400),
    "two codings": (head("Transfer-Encoding: chunked",
                         "Transfer-Encoding: identity"), 400),
    "a coding in HTTP/1.0": (head("Transfer-Encoding: chunked",
                                  first="POST / HTTP/1.0"), 400),
    "gzip": (head("Transfer-Encoding: gzip, chunked"), 501),
    "identity": (head("Transfer-Encoding: identity"), 501),
    "chunked twice": (head("Transfer-Encoding: chunked, chunked"), 501),
    "a coding with a vertical tab": (head("Transfer-Encoding: \vchunked"),
                                     400),
    "an empty coding": (head("Transfer-Encoding:"), 501),
    # 6.3: Content-Length
    "two lengths": (head("Content-Length: 2", "Content-Length: 3"), 400),
    "the same length twice": (head("Content-Length: 2", "Content-Length: 2"),
                              400),
    **{f"length {text!r}": (head(f"Content-Length: {text}"), 400)
       for text in ("+5", "-5", "5,5", "5, 5", "0x5", "5.0", "5_0", " ",
                    "\xb2", "1" * 16, "five", '"5"', "5;q=1")},
    # 7.1: chunks
    **{f"chunk size {text!r}": (chunked(text + b"\r\nhello\r\n0\r\n\r\n"), 400)
       for text in (b"", b"-5", b"+5", b"0x5", b"5 ", b" 5", b"G", b"5_0",
                    b"123456789", b"5\n", b"5\x00", b"5 ;x",
                    b"5;" + b"x" * 300)},
    "a chunk longer than it says": (chunked(b"2\r\nhello\r\n"), 400),
    "a chunk that ends in LF": (chunked(b"2\r\nhi\n0\r\n\r\n"), 400),
    "a trailer that is none": (chunked(b"0\r\nno colon\r\n\r\n"), 400),
    "a trailer that is folded": (chunked(b"0\r\nX: a\r\n b\r\n\r\n"), 400),
    # Sizes
    "101 fields": (head(*["X: a"] * 100), 431),
    "a head of 33 kB": (head("X: " + "a" * (33 << 10)), 431),
    "a head of 33 kB without an end": (b"GET /" + b"a" * (33 << 10), 431),
    "33 kB of trailers": (chunked(b"0\r\n" + b"X: a\r\n" * 5600
                                  + CRLF), 431),
    "a long body": (head("Content-Length: 1001"), 413),
    "a body of petabytes": (head("Content-Length: " + "9" * 15), 413),
    "a long chunk": (chunked(b"3e9\r\n"), 413),
    "a chunk of 4 GB": (chunked(b"ffffffff\r\n"), 413),
    "many chunks": (chunked(b"1f4\r\n" + b"a" * 500 + b"\r\n1f5\r\n"), 413),
    "another expectation": (head("Expect: 200-ok"), 417),
}


def seen(requests):
    return [(one.method, one.path, one.query, one.body) for one in requests]


@pytest.mark.parametrize("data, expected", GOOD.values(), ids=GOOD)
def test_a_good_request_is_read(data, expected):
    requests, status = read([data])
    assert (seen(requests), status) == (expected, None)


@pytest.mark.parametrize("data, status", REFUSED.values(), ids=REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(data, status):
    assert read([data]) == ([], status)


def test_100_fields_are_read():
    requests, status = read([head(*["X: a"] * 99)])
    assert len(requests[0].fields) == 100 and status is None


@pytest.mark.parametrize("line, value", [
    ("X:a", "a"), ("X:   a", "a"), ("X: a \t ", "a"), ("X:", ""),
    ("X: a  b", "a  b"), ("X: \xe9", "\xe9"), ("X: a: b", "a: b")])
def test_white_space_around_a_value_is_no_part_of_it(line, value):
    assert read([head(line)])[0][0].get("x") == value


def test_a_field_that_comes_twice_is_joined():
    assert read([head("X: a", "x: b")])[0][0].get("x") == "a, b"


@pytest.mark.parametrize("minor, connection, kept", [
    (1, "", True), (1, "close", False), (1, "Keep-Alive, Close", False),
    (1, "keep-alive", True), (0, "", False),
    (0, "Keep-Alive", False),           # it would have to be confirmed
    (0, "close", False)])
def test_a_connection_is_kept_by_rfc_9112_section_9_3(minor, connection, kept):
    fields = (("connection", connection),) if connection else ()
    assert Request("GET", "/", "", fields, b"", minor).keep_alive is kept


# 9.2 The reader


@pytest.mark.parametrize("data, expected", GOOD.values(), ids=GOOD)
def test_a_good_request_is_the_same_byte_by_byte(data, expected):
    requests, status = read(bytewise(data))
    assert (seen(requests), status) == (expected, None)


@pytest.mark.parametrize("data, expected", GOOD.values(), ids=GOOD)
def test_a_good_request_is_the_same_at_every_split(data, expected):
    for at in range(1, len(data)):
        requests, status = read([data[:at], data[at:]])
        assert (seen(requests), status) == (expected, None), at


SHORT = {name: case for name, case in REFUSED.items() if len(case[0]) < 2000}


@pytest.mark.parametrize("data, status", SHORT.values(), ids=SHORT)
def test_a_bad_request_is_as_bad_byte_by_byte_and_at_every_split(data, status):
    assert read(bytewise(data)) == ([], status)
    for at in range(1, len(data)):
        assert read([data[:at], data[at:]]) == ([], status), at


@pytest.mark.parametrize("data, status", SHORT.values(), ids=SHORT)
def test_good_requests_before_a_bad_one_are_read(data, status):
    good = head("Content-Length: 2") + b"hi"
    requests, found = read([good + good + data])
    assert (len(requests), found) == (2, status)


@pytest.mark.parametrize("body", [
    b"0\r\n\r\nG", b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"])
@pytest.mark.parametrize("fields", [
    ("Content-Length: 6", "Transfer-Encoding: chunked"),
    ("Content-Length: 6", "Transfer-Encoding: xchunked"),
    ("Content-Length: 6", "Transfer-Encoding : chunked"),
    ("Content-Length: 6", "X: a\rTransfer-Encoding: chunked"),
    ("Content-Length: 6", "X: a", " Transfer-Encoding: chunked"),
    ("Content-Length: 6", "Transfer-Encoding:\x0bchunked"),
    ("Content-Length: 0", "Content-Length: 44"),
    ("Content-Length: 0, 44",),
    ("Transfer-Encoding: chunked", "Transfer-Encoding: cow"),
    ("Transfer-Encoding: cow, chunked",),
    ("Content-Length: 1e1",), ("Content-Length: 0x2c",)])
def test_no_request_is_smuggled_in_a_body(fields, body):
    requests, status = read([head(*fields) + body])
    assert requests == [] and status in (400, 501)


def test_nothing_is_read_after_a_refusal():
    reader = RequestReader(lambda request: 10, 0.0)
    good = head(first="GET / HTTP/1.1")
    assert len(reader.receive(good + b"nonsense\r\n\r\n" + good, 0.0)) == 1
    for _ in range(2):
        with pytest.raises(ProtocolError):
            reader.receive(good, 0.0)


def cost_of(size):
    """Give the CPU seconds for reading a head of `size`, byte by byte."""
    pieces, costs = bytewise(head("X: " + "a" * size)), []
    for _ in range(3):
        begin = time.process_time()
        assert len(read(pieces)[0]) == 1
        costs.append(time.process_time() - begin)
    return min(costs)


def test_a_head_in_small_pieces_is_not_searched_again_for_each_piece():
    # Four times the bytes cost four times as much, and not sixteen times.
    assert cost_of(12000) < 9 * cost_of(3000)


# Bodies that are handed on while they come


def joined(events):
    """Put the Requests and pieces of an early reader together again.

    What was begun and did not come to its end, is no Request.
    """
    found, begun, body = [], None, b""
    for event in events:
        if isinstance(event, bytes):
            assert begun, "a piece belongs to a request"
            body += event
            if not event:
                found.append(begun._replace(body=body, more=()))
                begun = None
        else:
            assert begun is None, "a request waits for the end of another"
            if event.more:
                assert event.body == b""
                begun, body = event, b""
            else:
                found.append(event)
    return found


def read_early(pieces, most=1000):
    """As read(), but every body that is not here yet is handed on."""
    reader, found = RequestReader(lambda request: most, 0.0,
                                  lambda request: True), []
    try:
        for piece in pieces:
            found += reader.receive(piece, 0.0)
            reader.check(0.0)
    except ProtocolError as error:
        return joined(found), error.status
    return joined(found), None


@pytest.mark.parametrize("data, expected", GOOD.values(), ids=GOOD)
def test_a_body_that_is_handed_on_is_the_same_whatever_the_pieces(
        data, expected):
    requests, status = read_early(bytewise(data))
    assert (seen(requests), status) == (expected, None)
    for at in range(len(data) + 1):
        requests, status = read_early([data[:at], data[at:]])
        assert (seen(requests), status) == (expected, None), at


@pytest.mark.parametrize("data, status", SHORT.values(), ids=SHORT)
def test_a_bad_body_is_as_bad_when_it_is_handed_on(data, status):
    good = head("Content-Length: 2") + b"hi"
    for at in range(len(data)):
        assert read_early([data[:at], data[at:]]) == ([], status), at
    assert read_early(bytewise(data)) == ([], status)
    requests, found = read_early([good + data[:-1], data[-1:]])
    assert (len(requests), found) == (1, status)


def test_2000_mutated_requests_are_the_same_handed_on_or_whole():
    chance, samples = random.Random(99), [data for data, _ in GOOD.values()]
    for _ in range(2000):
        data = mutated(chance, chance.choice(samples))
        at = chance.randrange(len(data) + 1)
        early, status = read_early([data[:at], data[at:]])
        assert (early, status) == read([data]), (at, data)


def test_a_request_comes_before_its_body_and_the_end_is_an_empty_piece():
    reader = RequestReader(lambda request: 100, 0.0, lambda request: True,
                           peer="10.0.0.7")
    [request] = reader.receive(head("Content-Length: 5"), 0.0)
    assert request.more and (request.path, request.peer) == ("/f", "10.0.0.7")
    assert reader.receive(b"he", 0.0) == [b"he"]
    assert reader.receive(b"", 0.0) == []
    after = reader.receive(b"llo" + head(first="GET /2 HTTP/1.1"), 0.0)
    assert after[:2] == [b"llo", b""]
    assert (after[2].path, bool(after[2].more)) == ("/2", False)


def test_a_chunk_is_handed_on_before_its_end():
    reader = RequestReader(lambda request: 100, 0.0, lambda request: True)
    [request] = reader.receive(chunked(), 0.0)
    assert request.more
    assert reader.receive(b"5\r\nhe", 0.0) == [b"he"]
    assert reader.receive(b"llo", 0.0) == [b"llo"]
    assert reader.receive(b"\r\n1;x=y\r\n!\r\n", 0.0) == [b"!"]
    assert reader.receive(b"0\r\nSum: 1\r\n", 0.0) == []
    assert reader.receive(b"\r\n", 0.0) == [b""]


def test_a_body_that_is_here_already_is_not_handed_on():
    for data in (head("Content-Length: 2") + b"hi", head("Content-Length: 0"),
                 head(first="GET / HTTP/1.1")):
        [request] = RequestReader(lambda request: 100, 0.0,
                                  lambda request: True).receive(data, 0.0)
        assert request.more == () and len(request.body) in (0, 2)


def test_whose_body_is_handed_on_is_decided_for_each_request():
    reader = RequestReader(lambda request: 100, 0.0,
                           lambda request: request.path == "/early")
    data = b"".join(head("Content-Length: 2", first=f"POST {path} HTTP/1.1")
                    + b"hi" for path in ("/late", "/early", "/late"))
    events = [event for byte in bytewise(data)
              for event in reader.receive(byte, 0.0)]
    assert [event if isinstance(event, bytes) else (event.path, event.body)
            for event in events] == [
        ("/late", b"hi"), ("/early", b""), b"h", b"i", b"", ("/late", b"hi")]


def test_a_body_that_grows_too_large_is_refused_while_it_is_handed_on():
    reader = RequestReader(lambda request: 10, 0.0, lambda request: True)
    assert reader.receive(chunked(b"a\r\n0123456789\r\n"), 0.0)[1:] == [
        b"0123456789"]
    with pytest.raises(ProtocolError) as refusal:
        reader.receive(b"1\r\n", 0.0)
    assert refusal.value.status == 413
    with pytest.raises(ProtocolError):      # and it is of no use after that
        reader.receive(b"!\r\n0\r\n\r\n", 0.0)
    at_once = RequestReader(lambda request: 10, 0.0, lambda request: True)
    with pytest.raises(ProtocolError) as refusal:
        at_once.receive(head("Content-Length: 11"), 0.0)
    assert refusal.value.status == 413


# Time, which the reader is told


def test_a_slow_head_is_refused_after_its_time():
    reader = RequestReader(lambda request: 10, 100.0)
    reader.receive(b"GET / HT", 150.0)          # idle before that: no matter
    assert reader.patience(150.0) == faas.HEAD_TIME
    reader.receive(b"T", 159.9)                 # a byte buys no time
    with pytest.raises(ProtocolError) as refusal:
        reader.check(160.1)
    assert refusal.value.status == 408


def test_a_slow_body_is_refused_by_its_rate():
    reader, now = RequestReader(lambda request: 1 << 20, 0.0), 0.0
    reader.receive(head("Content-Length: 1000000"), now)
    for _ in range(100):                        # twice the rate is enough
        now += 1.0
        reader.receive(bytes(2 * faas.BODY_RATE), now)
    with pytest.raises(ProtocolError) as refusal:
        for _ in range(300):                    # half of it is not
            now += 1.0
            reader.receive(bytes(faas.BODY_RATE // 2), now)
    assert refusal.value.status == 408


def test_a_body_that_stops_is_refused_after_its_grace():
    reader = RequestReader(lambda request: 1 << 20, 0.0)
    reader.receive(head("Content-Length: 10") + b"half", 5.0)
    reader.check(5.0 + faas.BODY_GRACE)
    with pytest.raises(ProtocolError):
        reader.check(5.1 + faas.BODY_GRACE)


def test_chunks_that_trickle_are_refused_too():
    reader = RequestReader(lambda request: 1 << 20, 0.0)
    reader.receive(chunked(), 0.0)
    with pytest.raises(ProtocolError) as refusal:
        for second in range(1, 60):
            reader.receive(b"1\r\nx\r\n", float(second))
    assert refusal.value.status == 408


def test_a_body_that_is_handed_on_may_be_slow_but_not_stand_still():
    """Who reads it may be glad of one line a minute."""
    reader = RequestReader(lambda request: 100, 0.0, lambda request: True)
    reader.receive(head("Content-Length: 50"), 0.0)
    for minute in range(1, 20):
        assert reader.receive(b"x", 60.0 * minute) == [b"x"]
        assert reader.patience(60.0 * minute) == faas.SILENCE
    reader.check(60.0 * 19 + faas.SILENCE - 0.1)
    with pytest.raises(ProtocolError, match="stood still") as refusal:
        reader.check(60.0 * 19 + faas.SILENCE + 0.1)
    assert refusal.value.status == 408


def test_after_a_body_that_was_handed_on_time_is_as_before():
    reader = RequestReader(lambda request: 100, 0.0,
                           lambda request: request.path == "/early")
    for path in "/early", "/late":
        reader.receive(head("Content-Length: 2",
                            first=f"POST {path} HTTP/1.1") + b"h", 100.0)
        if path == "/early":
            reader.receive(b"i", 150.0)
            assert reader.idle()
    with pytest.raises(ProtocolError, match="slower than") as refusal:
        reader.check(100.1 + faas.BODY_GRACE)
    assert refusal.value.status == 408
    reader = RequestReader(lambda request: 100, 0.0, lambda request: True)
    for piece in head("Content-Length: 2") + b"h", b"i", b"GET / HT":
        reader.receive(piece, 200.0)
    assert reader.patience(200.0) == faas.HEAD_TIME
    with pytest.raises(ProtocolError, match="the head took longer"):
        reader.check(200.1 + faas.HEAD_TIME)


def test_an_idle_connection_is_no_fault():
    reader = RequestReader(lambda request: 10, 0.0)
    patience = reader.patience(0.0)
    assert reader.idle() and reader.patience(1.0) == patience - 1 > 10
    reader.check(1000.0)
    assert len(reader.receive(head(first="GET / HTTP/1.1"), 1000.0)) == 1
    assert reader.idle() and reader.patience(1000.0) == patience


def test_the_reader_wants_a_100_only_while_the_body_is_missing():
    waits = RequestReader(lambda request: 10, 0.0)
    waits.receive(head("Content-Length: 2", "Expect: 100-Continue"), 0.0)
    assert waits.expecting
    assert len(waits.receive(b"hi", 0.0)) == 1 and not waits.expecting
    old = RequestReader(lambda request: 10, 0.0)        # RFC 9110, 10.1.1
    old.receive(head("Content-Length: 2", "Expect: 100-continue",
                     first="POST / HTTP/1.0"), 0.0)
    assert not old.expecting


PIECES = [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"0", b"5",
          b"chunked", b"Content-Length: 5\r\n", b"\xff", b"HTTP/1.1",
          b"Host: a",
          b"Transfer-Encoding: chunked\r\n", b"-", b"%", b"ffffffff"]


def mutated(chance, data):
    """Change a request in one to four places."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        size = chance.choice([0, 0, 1, 1, 5, 20])
        data[at:at + size] = chance.choice(PIECES + [bytes(
            [chance.randrange(256)]), b"", bytes(data[:at])])
    return bytes(data)


def test_5000_mutated_requests_are_read_or_refused_whatever_the_split():
    chance, samples = random.Random(9), [data for data, _ in GOOD.values()]
    refused = 0
    for _ in range(5000):
        data = mutated(chance, chance.choice(samples))
        at = chance.randrange(len(data) + 1)
        whole = read([data])
        assert read([data[:at], data[at:]]) == whole, (at, data)
        refused += whole[1] is not None
    assert 500 < refused < 4900     # else this tests one half only


# 9.3 Responses


def test_a_response_is_written_as_rfc_9112_says():
    response = Response(404, b"no\n", {"Content-Type": "text/plain"})
    assert faas.response_encode(response, keep_alive=False) == (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n"
        b"Content-Length: 3\r\nConnection: close\r\n\r\nno\n")


def test_a_header_with_many_values_has_a_line_for_each():
    for values in ("a=1", "b=2"), ["a=1", "b=2"]:
        said = faas.response_encode(Response(200, b"", {
            "Set-Cookie": values, "Lab": "x"}))
        assert b"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nLab: x" in said


def test_a_value_that_is_no_latin_1_goes_as_utf_8():
    said = faas.response_encode(Response(200, b"", {"A": "\xe4"}))
    assert b"\r\nA: \xe4\r\n" in said
    said = faas.response_encode(Response(200, b"", {"A": "\u20ac\udcff"}))
    assert b"\r\nA: \xe2\x82\xac\xff\r\n" in said


def stream(*pieces, error=None):
    """A Stream of these pieces, which then breaks or ends; and its end."""
    def come():
        yield from pieces
        if error:
            raise error
    ends = []
    made = Stream(come(), lambda size, error: ends.append((size, error)))
    return made, ends


@pytest.mark.parametrize("headers, minor, lines", [
    ({}, 1, {b"Transfer-Encoding: chunked"}), ({}, 0, set()),
    ({"Content-Length": "9"}, 1, {b"Content-Length: 9"}),
    ({"Content-Length": "9"}, 0, {b"Content-Length: 9"})])
def test_an_answer_that_is_still_coming_has_a_framing_of_its_own(
        headers, minor, lines):
    said = faas.response_encode(Response(200, b"", headers, stream()[0]),
                                minor=minor)
    assert said.endswith(2 * CRLF)
    assert {line for line in said.split(CRLF)
            if line[:8] in (b"Transfer", b"Content-")} == lines


class Taker:
    """What a client has taken; it goes away after `most` pieces."""

    def __init__(self, most=99):
        self.pieces, self.most = [], most

    def sendall(self, data):
        if len(self.pieces) == self.most:
            raise BrokenPipeError
        self.pieces.append(data)


@pytest.mark.parametrize("headers, minor, said", [
    ({}, 1, b"2\r\nab\r\n10\r\n" + b"c" * 16 + b"\r\n0\r\n\r\n"),
    ({}, 0, b"ab" + b"c" * 16),
    ({"Content-Length": "18"}, 1, b"ab" + b"c" * 16)])
def test_the_rest_of_an_answer_is_spelled_as_its_head_announced(
        headers, minor, said):
    rest, ends = stream(b"ab", b"c" * 16)
    taker = Taker()
    assert faas.send_rest(taker, Response(200, b"", headers, rest), minor)
    assert b"".join(taker.pieces) == said and ends == [(18, None)]


def test_an_answer_that_breaks_off_has_no_end():
    error = FaasError("timeout", "too late")
    rest, ends = stream(b"ab", error=error)
    taker = Taker()
    assert not faas.send_rest(taker, Response(200, b"", {}, rest), 1)
    assert taker.pieces == [b"2\r\nab\r\n"] and ends == [(2, error)]


def test_a_client_that_goes_away_is_the_callers_to_see():
    rest, ends = stream(b"ab", b"cd")
    with pytest.raises(BrokenPipeError):
        faas.send_rest(Taker(most=1), Response(200, b"", {}, rest), 1)
    rest.close()
    assert len(ends) == 1


def test_an_answer_to_head_has_the_length_and_not_the_body():
    said = faas.response_encode(Response(200, b"hello"), head_only=True)
    assert b"Content-Length: 5\r\n" in said and said.endswith(2 * CRLF)


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("body", [b"", b"none of it"])
def test_a_204_and_a_304_have_neither_length_nor_body(status, body):
    said = faas.response_encode(Response(status, body))
    assert b"Content-Length" not in said and said.endswith(2 * CRLF)


def test_the_length_that_a_server_told_of_head_is_the_one_that_is_told():
    said = faas.response_encode(Response(200, b"", {"Content-Length": "9"}),
                                head_only=True)
    assert said.count(b"Content-Length: ") == 1
    assert b"\r\nContent-Length: 9\r\n" in said
    # RFC 9110, 8.6: who does not know the length of what GET would give, must
    # not say 0.
    said = faas.response_encode(Response(200), head_only=True)
    assert b"Content-Length" not in said


@pytest.mark.parametrize("headers", [
    {"X": "a\r\nSet-Cookie: b"}, {"X": "a\nb"}, {"X": "a\rb"},
    {"X\r\nY": "a"}])
def test_no_header_can_begin_a_new_line(headers):
    with pytest.raises(ValueError):
        faas.response_encode(Response(200, b"", headers))


@pytest.mark.parametrize("kind", faas.KINDS)
def test_each_kind_of_failure_has_its_status_and_a_reason(kind):
    response = faas.error_response(FaasError(kind, "why", b"tail"))
    assert response.status == faas.KINDS[kind].http
    assert response.status in faas.REASONS
    assert response.body == b"why\ntail"
    assert ("Retry-After" in response.headers) == (kind == "busy")


def test_a_result_says_its_version_its_id_and_how_long_it_took():
    response = faas.result_response(Result(
        body=b"hi", id="00", version=3, start="warm",
        spans=(("queue", 0.001), ("run", 0.0025))))
    assert response.headers == {
        "X-Execution-Id": "00", "X-Function-Version": "3",
        "Server-Timing": "warm, queue;dur=1.000, run;dur=2.500"}


def test_a_function_cannot_speak_for_the_platform():
    result = Result(body=b"hi", id="00", version=3, status=418, headers={
        "X-Execution-Id": "mine", "x-function-version": "9", "Lab": "a"})
    response = faas.result_response(result)
    assert (response.status, response.headers) == (418, {
        "Lab": "a", "X-Execution-Id": "00", "X-Function-Version": "3"})


def test_what_follows_a_body_goes_along_and_a_failure_has_nothing():
    more = stream()[0]
    assert faas.result_response(Result(more=more)).more is more
    failed = faas.result_response(Result("crashed", b"tail", status=418,
                                         sentence="why"))
    assert (failed.status, failed.body, failed.more) == (502, b"why\ntail",
                                                         None)


# 9.4 Routes, guards, and handle


def say(text):
    return lambda door, request, **parts: faas.text_response(
        " ".join([text, *parts.values()]))


def row(method, path, guard="open", face="ours"):
    return Route(method, path, face, guard, "", say(f"{method} {path}"))


class Names:
    """As much of a platform as a door asks for: names and ids."""

    def name_of(self, word):
        return {"01a1": "by-id"}.get(word, word)


TABLE = (row("GET", "/a"), row("POST", "/a"), row("GET", "/logs/{name}"),
         row("POST", "/upload", face="tinyFaaS"),
         row("PUT", "/manage", "manage"), row("*", "/{name}"),
         row("*", "/{name}/{rest}"))


@pytest.mark.parametrize("method, path, status, said", [
    ("GET", "/a", 200, "GET /a"), ("HEAD", "/a", 200, "GET /a"),
    ("POST", "/a", 200, "POST /a"), ("DELETE", "/a", 405, None),
    ("OPTIONS", "/a", 204, ""),
    ("GET", "/upload", 400, None),              # tinyFaaS's own status
    ("GET", "/logs/x", 200, "GET /logs/{name} x"),
    ("POST", "/logs/x", 405, None),             # and no function called logs
    ("GET", "/logs/x/y", 200, "* /{name}/{rest} logs x/y"),
    ("BREW", "/x", 200, "* /{name} x"), ("OPTIONS", "/x", 200, "* /{name} x"),
    ("GET", "/x/", 200, "* /{name}/{rest} x "),
    ("GET", "/x//y", 200, "* /{name}/{rest} x /y"),
    ("GET", "/", 404, None), ("GET", "//x", 404, None),
    ("GET", "/a%20b", 200, "* /{name} a b"),
    ("GET", "/%61", 200, "* /{name} a"),        # matched before it is decoded
    ("GET", "/%2561", 200, "* /{name} %61"),    # decoded once
    ("GET", "/x%2Fy", 200, "* /{name} x/y"),
    ("GET", "/%e4%b8%ad", 200, "* /{name} \u4e2d"),
    ("GET", "/%", 400, None), ("GET", "/%4", 400, None),
    ("GET", "/%zz", 400, None), ("GET", "/%ff", 400, None),
    ("GET", "/01a1", 200, "* /{name} by-id"),   # An id is as good as a name,
    ("GET", "/logs/01%61%31", 200, "GET /logs/{name} by-id"),
    ("GET", "/x/01a1", 200, "* /{name}/{rest} x 01a1"),     # in its place.
    ("GET", "/%00", 400, None), ("GET", "/x/%00", 400, None)])
def test_a_path_finds_its_route(method, path, status, said):
    response = faas.handle(Door(Names(), TABLE), Request(method, path))
    assert response.status == status
    assert said is None or response.body.decode() == said


def test_a_wrong_method_is_told_the_right_ones():
    response = faas.handle(Door(Names(), TABLE), Request("PUT", "/a"))
    assert response.headers["Allow"] == "GET, OPTIONS, POST"


def test_a_route_says_which_methods_its_path_has():
    route, there, parts = faas.find_route(TABLE, Request("PUT", "/logs/%61"))
    assert (route, parts) == (None, {"name": "a"})
    assert [one.method for one in there] == ["GET"]
    route, there, _ = faas.find_route(TABLE, Request("POST", "/a"))
    assert route is TABLE[1] and there == [*TABLE[:2]]
    with pytest.raises(FaasError) as refusal:
        faas.find_route(TABLE, Request("GET", "/"))
    assert refusal.value.kind == "not_found"


def test_two_tables_are_kept_apart():
    for number in range(50):        # ids of tables that are gone come again
        table = (row("GET", f"/{number}"),)
        assert faas.find_route(table, Request("GET", f"/{number}"))[0] is (
            table[0])
        with pytest.raises(FaasError):
            faas.find_route(table, Request("GET", f"/{number + 1}"))


def refuse(door, request, **parts):
    raise FaasError("busy", "come later")


def test_each_face_says_no_in_its_own_words():
    table = (Route("GET", "/ours", "ours", "open", "", refuse),
             Route("GET", "/go/{name}", "FaaS-Go", "manage", "", refuse),
             Route("GET", "/rk", "rknizzle", "open", "", refuse),
             Route("GET", "/pi", "PiFaaS", "open", "", refuse))
    door = Door(Names(), table, refusals=faas.REFUSALS)
    here = (("host", "localhost"),)

    def said(method, path, fields=here):
        response = faas.handle(door, Request(method, path, "", fields))
        return response.status, response.body
    assert said("GET", "/ours") == said("GET", "/pi") == (
        429, b"come later\n")
    assert said("GET", "/rk") == (429, b'{"message": "come later"}\n')
    assert said("GET", "/go/x") == (429, b'{"error": "come later"}\n')
    # Also where it is the guard who says it.
    status, body = said("GET", "/go/x", (("host", "evil.example"),))
    assert status == 403 and body.startswith(b'{"error": "the Host')
    assert said("GET", "/nowhere")[1] == b"nothing is served at this path\n"
    for path in "/rk", "/go/x":
        response = faas.handle(door, Request("GET", path, "", here))
        assert response.headers["Retry-After"] == "1"
        assert response.headers["Content-Type"] == "application/json"


def test_the_server_itself_has_options():
    response = faas.handle(Door(Names(), TABLE), Request("OPTIONS", "*"))
    assert response.status == 204 and "GET" in response.headers["Allow"]


LOCAL, PUBLIC = Door(None, (), key="k" * 64), Door(None, (), False, "k" * 64)
KEY = {"authorization": "Bearer " + "k" * 64}


@pytest.mark.parametrize("door, fields, kind", [
    (LOCAL, {"host": "127.0.0.1:8080"}, None),
    (LOCAL, {"host": "localhost"}, None),
    (LOCAL, {"host": "LOCALHOST:80"}, None),
    (LOCAL, {"host": "faas.localhost"}, None),
    (LOCAL, {"host": "[::1]:8080"}, None),
    (LOCAL, {"host": "127.1.2.3"}, None),
    (LOCAL, {}, "denied"),
    (LOCAL, {"host": ""}, "denied"),
    (LOCAL, {"host": "evil.example"}, "denied"),
    (LOCAL, {"host": "127.0.0.1.evil.example"}, "denied"),
    (LOCAL, {"host": "localhost.evil.example"}, "denied"),
    (LOCAL, {"host": "evillocalhost"}, "denied"),
    (LOCAL, {"host": "192.168.1.2"}, "denied"),
    (LOCAL, {"host": "a", "origin": "http://a"}, "denied"),
    (LOCAL, {"host": "localhost", "origin": "http://localhost"}, None),
    (LOCAL, {"host": "localhost", "origin": "http://LOCALHOST"}, None),
    (LOCAL, {"host": "localhost", "origin": "https://localhost"}, "denied"),
    (LOCAL, {"host": "localhost", "origin": "http://localhost:3000"},
     "denied"),
    (LOCAL, {"host": "localhost", "origin": "http://evil.example"}, "denied"),
    (LOCAL, {"host": "localhost", "origin": "null"}, "denied"),
    (LOCAL, {"host": "localhost", "sec-fetch-site": "cross-site"}, "denied"),
    (LOCAL, {"host": "localhost", "sec-fetch-site": "same-site"}, "denied"),
    (LOCAL, {"host": "localhost", "sec-fetch-site": "same-origin"}, None),
    (LOCAL, {"host": "localhost", "sec-fetch-site": "none"}, None),
    (LOCAL, {"host": "localhost", "authorization": "Bearer no"},
     "unauthenticated"),
    (LOCAL, {"host": "evil.example", **KEY}, None),
    (PUBLIC, {"host": "localhost"}, "unauthenticated"),
    (PUBLIC, {"host": "192.168.1.2"}, "unauthenticated"),
    (PUBLIC, {"host": "192.168.1.2", **KEY}, None),
    (PUBLIC, {"authorization": "Bearer " + "k" * 63}, "unauthenticated"),
    (PUBLIC, {"authorization": "Bearer "}, "unauthenticated"),
    (PUBLIC, {"authorization": "Basic " + "k" * 64}, "unauthenticated"),
    (PUBLIC, {"authorization": "Bearer \xe9"}, "unauthenticated"),
    (Door(None, (), False, ""), {"authorization": "Bearer "},
     "unauthenticated")])
def test_who_may_manage(door, fields, kind):
    request = Request("POST", "/", "", tuple(fields.items()))
    try:
        found = faas.check_guard(door, request)
    except FaasError as refusal:
        found = refusal.kind
    assert found == kind


COOKIE = {"cookie": "auth_token=" + "k" * 64}
HERE, THERE = {"host": "localhost"}, {"host": "192.168.1.2"}
PAGE = {"origin": "http://evil.example"}


@pytest.mark.parametrize("door, fields, kind", [
    (LOCAL, HERE, "unauthenticated"), (PUBLIC, THERE, "unauthenticated"),
    (LOCAL, {**HERE, **KEY}, None), (PUBLIC, {**THERE, **KEY}, None),
    (LOCAL, {**HERE, **COOKIE}, None), (PUBLIC, {**THERE, **COOKIE}, None),
    (LOCAL, {**HERE, "cookie": "a=1; " + COOKIE["cookie"] + "; b=2"}, None),
    (LOCAL, {**HERE, "cookie": "a=1;" + COOKIE["cookie"]}, None),
    (LOCAL, {**HERE, "cookie": "auth_token=" + "k" * 63}, "unauthenticated"),
    (LOCAL, {**HERE, "cookie": "auth_token="}, "unauthenticated"),
    (LOCAL, {**HERE, "cookie": "x" + COOKIE["cookie"]}, "unauthenticated"),
    (LOCAL, {**HERE, "cookie": "a=" + COOKIE["cookie"]}, "unauthenticated"),
    (LOCAL, {**HERE, "cookie": COOKIE["cookie"].upper()}, "unauthenticated"),
    # A wrong key beside a right cookie is a wrong key.
    (LOCAL, {**HERE, **COOKIE, "authorization": "Bearer no"},
     "unauthenticated"),
    (LOCAL, {**HERE, "authorization": "Basic " + "k" * 64},
     "unauthenticated"),
    (LOCAL, {**HERE, "authorization": "bearer " + "k" * 64},
     "unauthenticated"),
    # The key proves the page too, the cookie does not.
    (LOCAL, {**HERE, **PAGE, **KEY}, None),
    (LOCAL, {**HERE, **PAGE, **COOKIE}, "denied"),
    (LOCAL, {"host": "evil.example", **COOKIE}, "denied"),
    (PUBLIC, {**THERE, **PAGE, **COOKIE}, "denied"),
    (PUBLIC, {**THERE, **COOKIE, "sec-fetch-site": "cross-site"}, "denied"),
    (PUBLIC, {**THERE, **COOKIE, "origin": "http://192.168.1.2"}, None),
    # Behind a proxy that took the TLS off.
    (PUBLIC, {**THERE, **COOKIE, "origin": "https://192.168.1.2"}, None),
    (LOCAL, {**HERE, **COOKIE, "origin": "https://localhost"}, "denied"),
    # Without a key there is nothing to know.
    (Door(None, ()), {**HERE, "cookie": "auth_token="}, "unauthenticated"),
    (Door(None, ()), {**HERE, "authorization": "Bearer "},
     "unauthenticated")])
def test_who_may_use_what_takes_the_key_everywhere(door, fields, kind):
    request = Request("POST", "/", "", tuple(fields.items()))
    try:
        found = faas.check_guard(door, request, "key")
    except FaasError as refusal:
        found = refusal.kind
        if found == "unauthenticated":
            assert str(refusal) == "Authentication required"
    assert found == kind


def test_a_cookie_opens_nothing_that_the_key_does_not_guard():
    """Else every page that the browser shows could manage."""
    request = Request("POST", "/", "", tuple({**THERE, **COOKIE}.items()))
    with pytest.raises(FaasError) as refusal:
        faas.check_guard(PUBLIC, request, "manage")
    assert refusal.value.kind == "unauthenticated"


def test_a_guarded_route_is_guarded_and_an_open_one_is_not():
    fields = (("host", "evil.example"),)
    for method, path, status in (("PUT", "/manage", 403), ("GET", "/a", 200)):
        request = Request(method, path, "", fields)
        assert faas.handle(Door(Names(), TABLE), request).status == status


CALLS = {"/{name}", "/{name}/{rest}", "/functions/{name}", "/invoke/{name}",
         "/fn/{name}", "/fn/{name}/{rest}"}
HARMLESS = {"/health", "/ping", "/openapi.json", "/api/auth/login",
            "/api/auth/logout", "/-/{rest}"}


def test_every_path_but_calls_and_what_is_harmless_is_guarded():
    is_open = {route.path for route in faas.ROUTES if route.guard == "open"}
    assert is_open == CALLS | HARMLESS
    # Of these, the one with a dash only says that there is nothing.
    for method in "GET", "POST", "PUT", "DELETE":
        request = Request(method, "/-/no/such/path", "", (("host", "a"),))
        assert faas.handle(Door(None, faas.ROUTES), request).status == 404
    guards = {route.guard for route in faas.ROUTES}
    assert guards == {"open", "manage", "key"}
    assert {route.guard for route in faas.CALL_ROUTES} == {"open"}
    # What FaaS-Go guards, its key guards, and nothing else does.
    assert {route.path.split("/")[1] for route in faas.ROUTES
            if route.guard == "key"} == {"api"}


def test_a_call_keeps_the_request_but_not_the_connection():
    call = faas.call_of(Request("PUT", "/f/a", "b=%20", (
        ("host", "a"), ("x-many", "1"), ("x-many", "2"),
        ("connection", "close"), ("transfer-encoding", "chunked"),
        ("x-faas-trigger", "cron"), ("x-timeout", "2s")), b"hi"), "f", "a b")
    assert call == faas.Call("f", b"hi", {
        "Host": "a", "X-Many": "1, 2", "X-Timeout": "2s"}, "PUT", "/a b",
        "/a", "b=%20", "http", 2.0)


def test_what_the_client_says_of_its_connection_stays_here():
    request = Request("GET", "/f", "", (
        ("connection", "X-Hop, keep-alive"), ("x-hop", "1"), ("lab", "a"),
        ("upgrade", "h2c"), ("te", "trailers")))
    assert faas.call_of(request, "f").headers == {"Lab": "a"}


def test_a_call_can_be_asked_whether_its_caller_has_left():
    left = []
    reader = RequestReader(lambda request: 10, 0.0, peer="10.0.0.7",
                           gone=lambda: bool(left))
    [request] = reader.receive(head(first="GET /f HTTP/1.1"), 0.0)
    call = faas.call_of(request, "f")
    assert (request.peer, call.gone()) == ("10.0.0.7", False)
    left.append(True)
    assert call.gone() is True
    assert faas.Call("f").gone() is False


def test_a_client_that_has_closed_its_end_has_left():
    for close in ("close", "shutdown", "nothing", "speak"):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            if close == "close":
                theirs.close()
            elif close == "shutdown":
                theirs.shutdown(socket.SHUT_WR)
            elif close == "speak":
                theirs.sendall(b"next")
            assert faas.has_left(ours) is (close in ("close", "shutdown"))
            if close == "speak":
                assert ours.recv(9) == b"next"      # and it was not taken


@pytest.mark.parametrize("path, rest, depth, raw", [
    ("/f/a%2Fb/c", "a/b/c", 2, "/a%2Fb/c"), ("/f", "", 2, "/"),
    ("/f//x", "/x", 2, "//x"), ("/fn/01/a%20b", "a b", 3, "/a%20b"),
    ("/fn/01", "", 3, "/")])
def test_a_call_knows_its_path_decoded_and_as_it_was_sent(
        path, rest, depth, raw):
    call = faas.call_of(Request("GET", path), "f", rest, depth=depth)
    assert (call.path, call.raw) == ("/" + rest, raw)


@pytest.mark.parametrize("fields, headers", [
    ({"authorization": "Bearer k1"}, {}),
    ({"authorization": "bearer  k1 "}, {}),
    ({"authorization": "Bearer other"}, {"Authorization": "Bearer other"}),
    ({"authorization": "Basic a2k="}, {"Authorization": "Basic a2k="}),
    ({"cookie": "auth_token=k1"}, {}),
    ({"cookie": "auth_token=anything"}, {}),
    ({"cookie": "a=1; auth_token=k1; b=2"}, {"Cookie": "a=1; b=2"}),
    ({"cookie": "a=1; b=2; auth_token=k1"}, {"Cookie": "a=1; b=2"}),
    ({"cookie": "auth_token=k1;a=1"}, {"Cookie": "a=1"}),
    ({"cookie": "a=1; xauth_token=2"}, {"Cookie": "a=1; xauth_token=2"})])
def test_a_function_is_not_told_the_platforms_key(fields, headers):
    request = Request("GET", "/f", "", tuple(fields.items()))
    assert faas.call_of(request, "f", key="k1").headers == headers


def test_a_body_that_is_still_coming_goes_along_with_its_call():
    pieces = [b"a", b"b"]
    call = faas.call_of(Request("POST", "/f", more=pieces), "f")
    assert call.more is pieces and call.body == b""


@pytest.mark.parametrize("text, seconds", [
    ("2s", 2), ("2", 2), ("1.5s", 1.5), ("250ms", 0.25), ("1m", 60)])
def test_a_timeout_is_read(text, seconds):
    assert faas.parse_timeout(text) == seconds


@pytest.mark.parametrize("text", [
    "0", "0s", "-1", "1h", "inf", "nan", "1e9", "2 s", "s", "\u0662s",
    "1234567", "1,5"])
def test_a_timeout_that_is_none_is_refused(text):
    with pytest.raises(FaasError) as refusal:
        faas.parse_timeout(text)
    assert refusal.value.kind == "bad_input"


# 9.5 SHELL: sockets and threads


@contextlib.contextmanager
def connect(url, timeout=20):
    """Open a socket to a server; give it and a file to read answers from."""
    place = urllib.parse.urlsplit(url)
    with socket.create_connection((place.hostname, place.port),
                                  timeout=timeout) as line:
        with line.makefile("rb") as answers:
            yield line, answers


def answer_of(answers, method="GET"):
    """Read one response; give its status, headers and body."""
    status = answers.readline().split()
    if not status:
        return None             # the connection was closed
    headers = http.client.parse_headers(answers)
    size = 0 if method == "HEAD" else int(headers.get("Content-Length", 0))
    return int(status[1]), headers, answers.read(size)


def get(path, *lines, version="1.1"):
    return head(*lines, first=f"GET {path} HTTP/{version}",
                host="Host: localhost")


def post(path, body, *lines):
    return head(f"Content-Length: {len(body)}", *lines,
                first=f"POST {path} HTTP/1.1", host="Host: localhost") + body


@pytest.fixture
def listening():
    """Serve handlers of a test: listening({path: handler}) -> url.

    Of a path that begins with /early, bodies are handed on.
    """
    started = []

    def listening(handlers):
        table = tuple(Route("*", path, "ours", "open", "", handler)
                      for path, handler in handlers.items())
        server = faas.HttpServer("127.0.0.1", 0)
        server.start(Door(Names(), table), lambda request: 100_000)
        server.early = lambda request: request.path.startswith("/early")
        started.append(server)
        listening.server = server
        return server.url
    yield listening
    for server in started:
        if not server.stopping:
            server.stop()
        eventually(lambda: not server.connections)


def chunk_of(answers):
    """Read one chunk of an answer; b"" is the last."""
    size = int(answers.readline(), 16)
    piece = answers.read(size)
    assert answers.readline() == CRLF
    return piece


class Ticking:
    """Pieces that come when the test says so, and what became of them."""

    def __init__(self):
        self.pieces, self.closed = queue.SimpleQueue(), threading.Event()

    def __iter__(self):
        return self

    def __next__(self):
        piece = self.pieces.get(timeout=20)
        if isinstance(piece, Exception):
            raise piece
        if not piece:
            raise StopIteration
        return piece

    def close(self):
        self.closed.set()


def test_an_answer_goes_out_while_it_comes(listening):
    ticking = Ticking()
    url = listening({"/": lambda door, request: Response(
        200, b"", {"Lab": "x"}, ticking)})
    with connect(url) as (line, answers):
        line.sendall(get("/"))
        assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
        headers = http.client.parse_headers(answers)
        assert headers["Transfer-Encoding"] == "chunked"
        assert "Content-Length" not in headers
        for piece in b"one", b"two" * 50_000:
            ticking.pieces.put(piece)
            assert chunk_of(answers) == piece       # before the next is made
        ticking.pieces.put(b"")
        assert chunk_of(answers) == b"" and ticking.closed.wait(20)
        ticking.closed.clear()
        line.sendall(get("/"))                      # and the line is good
        ticking.pieces.put(b"")
        assert answers.readline() == b"HTTP/1.1 200 OK\r\n"


def test_a_client_of_1_0_gets_an_answer_that_ends_with_the_line(listening):
    ticking = Ticking()
    url = listening({"/": lambda door, request: Response(
        200, b"", {}, ticking)})
    with connect(url) as (line, answers):
        line.sendall(get("/", version="1.0"))
        for piece in b"one", b"two", b"":
            ticking.pieces.put(piece)
        said = answers.read()
        assert b"Transfer-Encoding" not in said and b"chunked" not in said
        assert said.endswith(2 * CRLF + b"onetwo")


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "100"}])
def test_an_answer_that_breaks_off_closes_the_line_before_its_end(
        listening, headers):
    ticking = Ticking()
    url = listening({"/": lambda door, request: Response(
        200, b"", headers, ticking)})
    place = urllib.parse.urlsplit(url)
    line = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
    with contextlib.closing(line):
        line.request("GET", "/")
        ticking.pieces.put(b"one")
        ticking.pieces.put(FaasError("timeout", "too late"))
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            line.getresponse().read()
    assert ticking.closed.wait(20)


def test_a_client_that_leaves_ends_the_answer(listening):
    ticking = Ticking()
    url = listening({"/": lambda door, request: Response(
        200, b"", {}, ticking)})
    with connect(url) as (line, answers):
        line.sendall(get("/"))
        ticking.pieces.put(b"one")
        assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
    for _ in range(20):                     # The first may still be taken.
        ticking.pieces.put(bytes(65536))
    assert ticking.closed.wait(20)


def echo_early(door, request):
    """Answer each piece of a body as soon as it is there."""
    return Response(200, b"", {}, Stream(iter(request.more or [request.body]),
                                         lambda size, error: None))


def test_a_question_and_its_answer_may_be_under_way_together(listening):
    url = listening({"/early": echo_early, "/late": lambda door, request:
                     Response(200, request.body)})
    with connect(url) as (line, answers):
        line.sendall(head("Transfer-Encoding: chunked",
                          first="POST /early HTTP/1.1"))
        line.sendall(b"3\r\none\r\n")
        assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
        headers = http.client.parse_headers(answers)
        assert chunk_of(answers) == b"one"
        line.sendall(b"3\r\ntw")
        assert chunk_of(answers) == b"tw"
        line.sendall(b"o\r\n0\r\n\r\n")
        assert [chunk_of(answers) for _ in "ab"] == [b"o", b""]
        # When the head went out, nobody knew that all would be read.
        assert headers["Connection"] == "close" and answers.read() == b""
    with connect(url) as (line, answers):
        line.sendall(post("/late", b"whole"))
        assert answer_of(answers)[2] == b"whole"


def count_early(door, request):
    """Answer when all of a body was read: how many bytes, in how many."""
    pieces = [*request.more] or [request.body]
    return faas.text_response(f"{len(b''.join(pieces))} {len(pieces)}")


def test_a_line_is_good_for_more_when_a_body_was_read_to_its_end(listening):
    url = listening({"/early": count_early})
    with connect(url) as (line, answers):
        for size in 10, 1000, 0, 100_000:
            line.sendall(head(f"Content-Length: {size}",
                              first="POST /early HTTP/1.1"))
            line.sendall(bytes(size))
            status, headers, body = answer_of(answers)
            assert (status, body.split()[0]) == (200, b"%d" % size)
            assert "Connection" not in headers


def test_a_body_may_come_one_byte_at_a_time_to_who_reads_early(listening):
    url = listening({"/early": count_early})
    data = post("/early", b"0123456789") + head(
        "Transfer-Encoding: chunked", first="POST /early HTTP/1.1"
    ) + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with connect(url) as (line, answers):
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in bytewise(data):
            line.sendall(byte)
        assert [answer_of(answers)[2].split()[0] for _ in "ab"] == [b"10",
                                                                    b"5"]


def test_who_waits_for_a_100_gets_it_before_its_body_is_read_early(
        listening):
    url = listening({"/early": count_early})
    with connect(url) as (line, answers):
        line.sendall(head("Content-Length: 2", "Expect: 100-continue",
                          first="POST /early HTTP/1.1"))
        assert answers.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert answers.readline() == CRLF
        line.sendall(b"hi")
        assert answer_of(answers)[2] == b"2 1"


def test_an_answer_that_comes_before_the_body_was_read_arrives(listening):
    url = listening({"/early": lambda door, request: faas.text_response(
        "enough", 413)})
    with connect(url) as (line, answers):
        line.sendall(head("Content-Length: 90000",
                          first="POST /early HTTP/1.1") + bytes(40_000))
        status, headers, body = answer_of(answers)
        assert (status, body) == (413, b"enough")
        assert headers["Connection"] == "close"
        with contextlib.suppress(OSError):
            line.sendall(bytes(50_000) + get("/early"))
        assert answers.read() == b""        # and nobody reads it as another


@pytest.mark.parametrize("rest, status, words", [
    (b"zz\r\n", 400, b"the chunk size"), (b"2\r\nabcd", 400, b"a chunk is "),
    (b"fffff\r\n", 413, b"the chunks add up")])
def test_a_body_that_turns_out_bad_fails_its_call(
        listening, rest, status, words):
    url = listening({"/early": count_early})
    with connect(url) as (line, answers):
        line.sendall(head("Transfer-Encoding: chunked",
                          first="POST /early HTTP/1.1") + b"2\r\nhi\r\n")
        line.sendall(rest)
        found, headers, body = answer_of(answers)
        assert (found, body[:len(words)]) == (status, words)
        assert headers["Connection"] == "close" and answers.read() == b""


def test_a_client_that_leaves_in_its_body_fails_its_call(listening):
    seen = queue.SimpleQueue()

    def note(door, request):
        try:
            return Response(200, b"".join(request.more))
        except FaasError as error:
            seen.put((error.kind, str(error)))
            raise
    url = listening({"/early": note})
    with connect(url) as (line, answers):
        line.sendall(head("Content-Length: 10",
                          first="POST /early HTTP/1.1") + b"half")
    assert seen.get(timeout=20) == (
        "bad_input", "the client went away in the middle of its body")


def test_a_stop_waits_for_an_answer_that_is_still_coming(listening):
    ticking = Ticking()
    url = listening({"/": lambda door, request: Response(
        200, b"", {}, ticking)})
    with connect(url) as (line, answers):
        line.sendall(get("/"))
        ticking.pieces.put(b"one")
        assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
        http.client.parse_headers(answers)
        assert chunk_of(answers) == b"one"
        server = listening.server
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        stopper.join(20)
        drained = threading.Thread(target=server.drain,
                                   args=[time.monotonic() + 20])
        drained.start()
        ticking.pieces.put(b"two")
        assert chunk_of(answers) == b"two"
        ticking.pieces.put(b"")
        assert chunk_of(answers) == b""
        assert answers.read() == b""
        drained.join(20)
        assert not drained.is_alive() and not server.connections


@pytest.fixture(scope="module")
def shout(module_server):
    """A server with a function that answers in capitals."""
    faas = module_server("--limit", "body=100000")
    script(faas, "shout", "tr a-z A-Z")
    return faas


def test_a_connection_is_kept_for_many_requests(shout):
    with connect(shout.url) as (line, answers):
        for word in b"one", b"two", b"three":
            line.sendall(post("/shout", word))
            assert answer_of(answers)[2] == word.upper()


@pytest.mark.parametrize("request_bytes", [
    get("/health", "Connection: close"), get("/health", version="1.0"),
    get("/health", "Connection: keep-alive", version="1.0")])
def test_a_connection_is_closed_when_the_client_says_so(shout, request_bytes):
    with connect(shout.url) as (line, answers):
        line.sendall(request_bytes)
        status, headers, body = answer_of(answers)
        assert (status, headers["Connection"]) == (200, "close")
        assert answers.read() == b""


def test_requests_in_one_piece_are_answered_in_order(shout):
    with connect(shout.url) as (line, answers):
        line.sendall(b"".join(post("/shout", b"word %d" % i)
                              for i in range(20)))
        for i in range(20):
            assert answer_of(answers)[2] == b"WORD %d" % i


def test_good_requests_before_a_bad_one_are_answered(shout):
    with connect(shout.url) as (line, answers):
        line.sendall(post("/shout", b"good") + b"GET / HTTP/9.9\r\n\r\n")
        assert answer_of(answers)[2] == b"GOOD"
        status, headers, _ = answer_of(answers)
        assert (status, headers["Connection"]) == (400, "close")
        assert answers.read() == b""


def test_a_refused_request_is_the_last_one_of_its_connection(shout):
    script(shout, "unheard", "cat")
    with connect(shout.url) as (line, answers):
        line.sendall(head("Content-Length: 6", "Transfer-Encoding: chunked",
                          first="POST /unheard HTTP/1.1") + b"0\r\n\r\n"
                     + post("/unheard", b"smuggled"))
        assert answer_of(answers)[0] == 400
        assert answers.read() == b""
    assert not (shout.logs / "unheard.log").exists()


def test_head_has_the_headers_of_get_and_no_body(shout):
    with connect(shout.url) as (line, answers):
        line.sendall(head(first="HEAD /health HTTP/1.1"))
        status, headers, body = answer_of(answers, "HEAD")
        assert (status, headers["Content-Length"]) == (200, "3")
        line.sendall(get("/health"))        # nothing stands in between
        assert answer_of(answers)[2] == b"OK\n"


def test_head_of_a_function_calls_it(shout):
    script(shout, "method", "echo $REQUEST_METHOD")
    reply = shout.request("HEAD", "/method")
    assert (reply.status, reply.headers["Content-Length"]) == (200, "5")


def test_options_names_the_methods(shout):
    reply = shout.request("OPTIONS", "/upload")
    assert (reply.status, reply.headers["Allow"]) == (204, "OPTIONS, POST")


def test_chunks_arrive_as_one_body(shout):
    reply = shout.post("/shout", iter([b"in ", b"three ", b"chunks"]))
    assert reply.body == b"IN THREE CHUNKS"


def test_who_expects_100_continue_gets_it_before_the_body(shout):
    with connect(shout.url) as (line, answers):
        line.sendall(head("Content-Length: 2", "Expect: 100-continue",
                          first="POST /shout HTTP/1.1"))
        assert answers.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert answers.readline() == CRLF
        line.sendall(b"hi")
        assert answer_of(answers)[2] == b"HI"


def test_who_sends_the_body_with_it_gets_no_100(shout):
    with connect(shout.url) as (line, answers):
        line.sendall(post("/shout", b"hi", "Expect: 100-continue"))
        assert answer_of(answers)[0] == 200


def test_another_expectation_is_not_met(shout):
    reply = shout.post("/shout", b"hi", {"Expect": "a miracle"})
    assert reply.status == 417


def test_a_body_too_large_is_refused_before_it_is_sent(shout):
    with connect(shout.url) as (line, answers):
        line.sendall(head("Content-Length: 100001", "Expect: 100-continue",
                          first="POST /shout HTTP/1.1"))
        assert answer_of(answers)[0] == 413


def test_a_body_too_large_is_refused_though_it_is_sent(shout):
    with connect(shout.url) as (line, answers):
        line.sendall(post("/shout", bytes(300_000)))
        status, headers, body = answer_of(answers)
        assert status == 413 and b"100000 bytes" in body


def test_a_body_of_exactly_the_limit_is_taken(shout):
    assert shout.post("/shout", b"a" * 100_000).body == b"A" * 100_000


def test_a_name_is_decoded_once_and_checked(shout):
    assert shout.post("/sh%6fut", b"hi").body == b"HI"
    for path in "/sh%256fut", "/..%2fshout", "/%2e%2e", "/shout%00":
        assert shout.post(path).status == 400, path


def test_an_old_http_0_9_client_is_refused(shout):
    with connect(shout.url) as (line, answers):
        line.sendall(b"GET /health\r\n\r\n")
        assert answer_of(answers)[0] == 400


LABEL = r'[a-z_]+="[^"\\\n]*"'
METRIC = re.compile(rf"([a-z_]+)\{{({LABEL}(?:,{LABEL})*)\}} ([0-9.]+)")


def test_metrics_are_prometheus_text(server):
    shout = server()
    script(shout, "shout", "tr a-z A-Z")
    shout.upload("echo", {"fn.py": "def fn(input): return input"})
    for path in "/shout", "/echo", "/shout", "/nobody":
        shout.post(path, b"hi")
    reply = shout.get("/metrics")
    assert reply.headers["Content-Type"] == "text/plain; version=0.0.4"
    assert reply.body.endswith(b"\n")
    types, found, order = {}, {}, []
    for line in reply.body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types and name not in order
            types[name] = kind
        elif not line.startswith("# HELP "):
            name, labels, value = METRIC.fullmatch(line).groups()
            assert name in types
            found[name, labels] = float(value)
            order.append(name)
    # "All lines for a given metric must be provided as one single group."
    groups = [name for i, name in enumerate(order) if order[i - 1:i] != [name]]
    assert len(groups) == len(set(groups)) == len(types)
    assert found["faas_calls_total",
                 'function="shout",status="ok",start="cold"'] == 2
    assert found["faas_workers", 'function="echo"'] == 1
    # A stranger's word makes no label of its own.
    assert not any("nobody" in labels for _, labels in found)


def test_a_reader_who_takes_nothing_blocks_nobody(shout):
    shout.upload("large", {"fn.py": "def fn(input): return 5_000_000 * 'a'"})
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            line, _ = stack.enter_context(connect(shout.url))
            line.sendall(get("/large"))
        for _ in range(20):
            assert shout.post("/shout", b"hi").body == b"HI"


def test_300_idle_connections_disturb_nobody(shout):
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(connect(shout.url)) for _ in range(300)]
        for line, _ in lines[:100]:
            line.sendall(b"GET /hea")           # some in the middle of a head
        for _ in range(20):
            assert shout.post("/shout", b"hi").body == b"HI"
        for line, answers in lines[:100]:
            line.sendall(b"lth HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answer_of(answers)[2] == b"OK\n"
    eventually(lambda: threads_of(shout.pid) < 40)


def threads_of(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"Threads:\s+(\d+)", file.read())[1])


def test_a_client_that_goes_away_takes_nothing_with_it(shout):
    whole = post("/shout", b"hi")
    for data in b"", whole[:5], whole[:-1], whole:
        with connect(shout.url) as (line, _):
            line.sendall(data)
    assert shout.post("/shout", b"hi").body == b"HI"
    assert "Traceback" not in shout.output


def test_300_mutated_requests_leave_the_server_healthy(shout):
    chance, samples = random.Random(300), [data for data, _ in GOOD.values()]
    for _ in range(300):
        with connect(shout.url) as (line, answers):
            with contextlib.suppress(OSError):  # It may have closed already.
                line.sendall(mutated(chance, chance.choice(samples)))
                line.shutdown(socket.SHUT_WR)
                said = answers.read()
                assert not said or said.startswith(b"HTTP/1.1 ")
                assert b" 500 " not in said[:16]
    assert shout.post("/shout", b"hi").body == b"HI"
    assert "Traceback" not in shout.output


def test_many_clients_at_once_are_all_answered(shout):
    shout.upload("echo", {"fn.py": "def fn(input): return input"})
    wrong = []

    def client(number):
        with connect(shout.url) as (line, answers):
            for i in range(20):
                body = b"%d of %d" % (i, number)
                line.sendall(post("/echo", body))
                if answer_of(answers)[2] != body:
                    wrong.append(body)
    clients = [threading.Thread(target=client, args=(i,)) for i in range(16)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    assert wrong == []


def test_a_port_that_is_taken_is_a_sentence():
    first = faas.HttpServer("127.0.0.1", 0)
    with pytest.raises(FaasError) as refusal:
        faas.HttpServer("127.0.0.1", first.port)
    first.listener.close()
    assert refusal.value.kind == "unavailable"
    assert str(first.port) in str(refusal.value)


# The chapter's own rule


def test_there_is_no_socket_and_no_clock_above_the_shell():
    with open(faas.__file__, encoding="utf-8") as file:
        text = file.read()
    text = text[text.index("\n# Chapter 9."):text.index("\n# 9.5 SHELL")]
    used = {f"{node.value.id}.{node.attr}" for node in ast.walk(
        ast.parse(text)) if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)}
    assert not [name for name in used if name.startswith(
        ("socket.", "threading.", "select.", "subprocess.")) or name in
        ("time.time", "time.monotonic", "time.sleep")]
