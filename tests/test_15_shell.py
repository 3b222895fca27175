"""The gRPC door's threads: a crew, a baton, and the end (chapter 15.8)."""

import socket
import threading
import time

import pytest

import faas
from faas import (CALL_ROUTES, CONVERSATION, H2_PREFACE, Crew, Door,
                  GrpcExchange, GrpcMethod, H2Server, Request, Result, Ticket,
                  grpc_frame, grpc_pattern, h2_ask, h2_frame, h2_frames,
                  h2_settings, h2_window, hpack_encode, proto_encode)

GET = [(":method", "GET"), (":scheme", "http"), (":path", "/f"),
       (":authority", "localhost")]
QUESTION = grpc_frame(proto_encode(faas.REFLECTION_REQUEST,
                                   {"list_services": ""}))


class Platform:
    """As much of one as the door asks for: one function, in Python."""

    def __init__(self, function):
        self.function, self.live, self.calls = function, {}, 0

    def name_of(self, name):
        return name

    def invoke(self, call):
        self.calls += 1
        return self.function(call)


@pytest.fixture
def opened():
    """Give a maker of listeners, and end them."""
    listeners = []

    def opened(function, crew=None, key=""):
        platform, listener = Platform(function), H2Server("127.0.0.1", 0)
        listener.start(Door(platform, CALL_ROUTES, key=key), 6 << 20,
                       crew or Crew(100))
        listeners.append(listener)
        return platform, listener
    yield opened
    for listener in listeners:
        if not listener.stopping:
            listener.stop()


def connected(listener, settings={}, room=0):
    client = socket.socket()
    if room:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    client.settimeout(10)
    client.connect(("127.0.0.1", listener.port))
    client.sendall(H2_PREFACE + h2_frame(faas.H2_SETTINGS, 0, 0,
                                         h2_settings(settings)))
    return client


def exchange(method=CONVERSATION, fields=()):
    return GrpcExchange(method, Request("POST", "/s/m", "", fields), 4 << 20,
                        time.monotonic, Door(None, ()))


# What an exchange says -------------------------------------------------------


def test_a_question_with_the_end_of_its_stream_is_answered_with_a_head():
    answer = exchange().hear(QUESTION, ended=True)
    assert answer.fields == faas.GRPC_HEAD and answer.body
    assert answer.trailers == (("grpc-status", "0"),) and answer.last


def test_a_question_with_half_of_another_is_refused_with_a_head():
    answer = exchange().hear(QUESTION + b"\0", ended=True)
    assert answer.fields[0] == (":status", "200")
    assert ("grpc-status", "13") in answer.fields


def test_a_second_question_is_answered_without_a_head():
    talk = exchange()
    assert talk.hear(QUESTION, ended=False).fields == faas.GRPC_HEAD
    assert talk.hear(QUESTION, ended=True).fields == ()


def test_an_x_timeout_that_is_none_is_the_client_s_error():
    method = GrpcMethod("unary", lambda exchange, message: [
        faas.grpc_call(exchange, "f", b"").body])
    answer = exchange(method, (("x-timeout", "soon"),)).hear(
        grpc_frame(b""), ended=True)
    assert ("grpc-status", "3") in answer.fields


def test_functions_see_neither_our_key_nor_what_is_grpc_s():
    request = Request("POST", "/s/m", "", (
        ("authorization", "Bearer k"), ("grpc-trace-bin", "/w"), ("a", "b")))
    assert grpc_pattern(request, "k").headers == {"A": "b"}


def test_a_message_whose_stream_does_not_end_is_counted():
    talk = exchange(GrpcMethod("unary", None))
    talk.hear(grpc_frame(bytes(1000)), ended=False)
    assert talk.gathered == 1000


# The crew --------------------------------------------------------------------


def test_a_task_is_not_lost_to_a_thread_that_gives_up(monkeypatch):
    """do() has its ticket; the ticket's thread has had enough."""
    monkeypatch.setattr(Crew, "PATIENCE", 0.05)
    serve = Ticket.serve

    def slowly(self, worker):
        time.sleep(0.2)
        serve(self, worker)
    monkeypatch.setattr(Ticket, "serve", slowly)
    crew, done = Crew(1), [threading.Event(), threading.Event()]
    crew.do(done[0].set)
    assert done[0].wait(5)
    while not crew.idle:
        assert crew.size
    crew.do(done[1].set)
    assert done[1].wait(5)


# A connection ----------------------------------------------------------------


def test_a_request_that_is_reset_at_once_is_not_called(opened):
    platform, listener = opened(lambda call: Result(body=b"hi"))
    with connected(listener) as client:
        for stream in range(1, 41, 2):
            client.sendall(h2_ask(stream, GET) + h2_frame(
                faas.H2_RST_STREAM, 0, stream, (8).to_bytes(4, "big")))
        client.sendall(h2_ask(41, GET))
        seen = b""
        while ("DATA", 41) not in [frame[:2] for frame in h2_frames(seen)]:
            seen += client.recv(65536)
    assert platform.calls <= 2      # one, unless a packet was cut


def test_an_answer_under_way_arrives_though_the_platform_stops(opened):
    """And though its client speaks: Linux resets what is shut both ways."""
    asked, go = threading.Event(), threading.Event()

    def function(call):
        asked.set()
        go.wait(10)
        return Result(body=bytes(3 << 20))
    _, listener = opened(function)
    with connected(listener, {4: 8 << 20}, room=4096) as client:
        client.sendall(h2_window(0, 8 << 20) + h2_ask(1, GET))
        assert asked.wait(10)
        listener.stop()
        go.set()
        end = threading.Thread(target=listener.drain, args=(
            time.monotonic() + 10,))
        end.start()
        seen = []
        while data := client.recv(65536):
            seen.append(data)
            if len(seen) % 8 == 0:
                client.sendall(h2_frame(faas.H2_PING, payload=b"12345678"))
    end.join(10)
    frames = h2_frames(b"".join(seen))
    assert sum(len(frame[3]) for frame in frames
               if frame[0] == "DATA") == 3 << 20


def test_after_an_error_the_last_words_are_waited_for(opened):
    """The client is still sending; nothing resets what it has not read."""
    _, listener = opened(lambda call: Result())
    with connected(listener) as client:
        client.sendall(h2_frame(faas.H2_PUSH_PROMISE, 0, 1))
        for _ in range(100):
            client.sendall(h2_frame(faas.H2_DATA, 0, 1, bytes(16000)))
        client.shutdown(socket.SHUT_WR)
        seen = b""
        while data := client.recv(65536):
            seen += data
    assert h2_frames(seen)[-1][0] == "GOAWAY"


def test_who_asks_nothing_is_waited_for_no_longer(opened, monkeypatch):
    """It stays; after STOPPING we hang up, and LINGER is not waited for."""
    halves, hang_up = [], faas.H2Link.hang_up
    monkeypatch.setattr(faas.H2Link, "hang_up", lambda link, half: (
        halves.append(half), hang_up(link, half)))
    _, listener = opened(lambda call: Result())
    with connected(listener) as client:
        client.recv(65536)
        listener.stop()
        listener.drain(time.monotonic() + 60)
        assert socket.SHUT_RD in halves and not listener.connections


def test_a_client_that_reads_nothing_keeps_one_thread_of_the_crew(opened):
    crew, under_way = Crew(50), threading.Semaphore(0)

    def function(call):
        under_way.acquire(timeout=10)
        return Result(body=bytes(1 << 20))
    platform, listener = opened(function, crew)
    with connected(listener, {4: 1 << 30}, room=4096) as client:
        client.sendall(h2_window(0, 1 << 30))
        client.sendall(b"".join(h2_ask(stream, GET)
                                for stream in range(1, 41, 2)))
        end = time.monotonic() + 10
        while platform.calls < 20:
            assert time.monotonic() < end
        under_way.release(20)
        while crew.size - len(crew.idle) > 1:
            assert time.monotonic() < end


def test_messages_without_an_end_are_bounded_for_a_connection(opened):
    _, listener = opened(lambda call: Result())
    head = hpack_encode([
        (":method", "POST"), (":scheme", "http"), (":authority", "localhost"),
        (":path", f"/{faas.TINYFAAS_SERVICE}/Request"), ("te", "trailers"),
        ("content-type", "application/grpc")])
    message, seen = grpc_frame(bytes(4 << 20)), bytearray()
    with connected(listener) as client:
        def hear():
            while data := client.recv(65536):
                seen.extend(data)
        ear = threading.Thread(target=hear)
        ear.start()
        for stream in range(1, 21, 2):
            client.sendall(h2_frame(faas.H2_HEADERS, 4, stream, head))
            for at in range(0, len(message), 16384):
                client.sendall(h2_frame(faas.H2_DATA, 0, stream,
                                        message[at:at + 16384]))
        client.shutdown(socket.SHUT_WR)
        ear.join(10)
    # 32 MB are eight messages; the heads that came are refusals.
    assert "HEADERS" in [frame[0] for frame in h2_frames(bytes(seen))]
