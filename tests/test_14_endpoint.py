"""Chapter 14, sections 3 to 7: the CoAP endpoint, without a socket.

Time is a number that the tests move, and the network of the last section is
a heap of datagrams that loses three of ten, with a seed.
"""

import collections
import heapq
import itertools
import random

import pytest

import faas
from faas import (COAP_ACK, COAP_CON, COAP_NON, COAP_RST, Budget, CoapBlock,
                  CoapEndpoint, CoapMessage, coap_block_decode, coap_code,
                  coap_code_text, coap_decode, coap_encode, coap_uint)

GET, POST, PUT, DELETE, FETCH = range(1, 6)
CODES = {"GET": "2.05", "FETCH": "2.05", "POST": "2.04", "PUT": "2.04",
         "DELETE": "2.02"}
PEER, OTHER = ("192.0.2.7", 40000), ("192.0.2.8", 40000)
TEXT = ((12, b""), (14, b""))           # text, Max-Age 0
MAX_DATAGRAM = 1280


class Room:
    """An endpoint, what it serves, and a clock.

    What `serve(request)` returns, (code, body), is the answer at once; None
    leaves the request in `open`, for reply().
    """

    def __init__(self, serve=None, most=1 << 20, trusted=True, dice=0.0):
        self.serve = serve or (lambda asked: (CODES[asked.method], asked.body))
        self.endpoint = CoapEndpoint(lambda request: most, lambda: dice,
                                     lambda peer: trusted)
        self.now, self.asked, self.open = 0.0, [], []
        self.name = None        # of what a GET may observe

    def give(self, data, peer=PEER):
        """Give one datagram; give [(peer, datagram)] that are sent."""
        if isinstance(data, CoapMessage):
            data = coap_encode(data)
        for request in self.endpoint.receive(data, peer, self.now):
            self.asked.append(request)
            answer = self.serve(request)
            if answer:
                self.endpoint.reply(request.exchange, *answer, TEXT,
                                    now=self.now, observe=self.name)
            else:
                self.open.append(request)
        return self.take()

    def take(self):
        sent = self.endpoint.take()
        assert all(len(data) <= 1152 < MAX_DATAGRAM for _, data in sent)
        return sent

    def ask(self, code=GET, *path, mid=None, kind=COAP_CON, token=b"t",
            options=(), payload=b"", peer=PEER):
        """Ask, and give the one message that comes back, or None."""
        path = ((11, part.encode()) for part in path or ("fn",))
        sent = self.give(CoapMessage(kind, code, next(MIDS) if mid is None
                                     else mid, token, (*path, *options),
                                     payload), peer)
        assert len(sent) < 2 and all(to == peer for to, _ in sent)
        return coap_decode(sent[0][1]) if sent else None

    def reply(self, code="2.05", body=b"done", options=TEXT):
        self.endpoint.reply(self.open.pop(0).exchange, code, body, options,
                            now=self.now, observe=self.name)
        return [coap_decode(data) for _, data in self.take()]

    def notify(self, body, code="2.05", name="t"):
        self.endpoint.notify(name, code, body, TEXT, self.now)
        return [coap_decode(data) for _, data in self.take()]

    def wait(self, seconds):
        """Let time pass; give [(when, message)] of what is sent in it."""
        sent, end = [], self.now + seconds
        while (due := self.endpoint.next_time()) is not None and due <= end:
            self.now = max(self.now, due)
            self.endpoint.tick(self.now)
            sent += [(self.now, coap_decode(data)) for _, data in self.take()]
        self.now = end
        return sent


MIDS = itertools.cycle(range(1000, 60_000))


def code(message):
    return coap_code_text(message.code)


def option(message, number):
    """Give the value of an option that is there at most once."""
    values = [value for key, value in message.options if key == number]
    assert len(values) < 2
    return values[0] if values else None


def block(message, number):
    value = option(message, number)
    return None if value is None else tuple(coap_block_decode(value))


def block2(num, szx=6):
    return 23, CoapBlock(num, False, szx).encode()


def block1(num, more, szx=6):
    return 27, CoapBlock(num, more, szx).encode()


# 14.3 Memory: methods and kinds of messages


EACH_METHOD = [(GET, "GET"), (POST, "POST"), (PUT, "PUT"), (DELETE, "DELETE"),
               (FETCH, "FETCH")]


@pytest.mark.parametrize("number, method", EACH_METHOD)
def test_a_question_is_answered_in_its_acknowledgement(number, method):
    room = Room()
    answer = room.ask(number, "f", "x", mid=0x7d34, token=b"tok")
    asked = room.asked[0]
    assert (asked.method, asked.path) == (method, ("f", "x"))
    assert (answer.kind, answer.mid, answer.token) == (COAP_ACK, 0x7d34,
                                                       b"tok")
    assert code(answer) == CODES[method]
    assert answer.options == TEXT


@pytest.mark.parametrize("number, method", EACH_METHOD)
def test_each_method_reaches_the_caller_under_its_name(number, method):
    room = Room()
    room.ask(number, payload=b"body", options=((15, b"a=1"), (15, b"b")))
    asked = room.asked[0]
    assert (asked.method, asked.query) == (method, ("a=1", "b"))
    # RFC 7252, 5.5: a payload that means nothing is ignored.
    assert asked.body == (b"" if method in ("GET", "DELETE") else b"body")


@pytest.mark.parametrize("number, method", EACH_METHOD)
def test_a_non_is_answered_by_a_non_with_a_mid_of_its_own(number, method):
    room = Room()
    first = room.ask(number, kind=COAP_NON, mid=7)
    second = room.ask(number, kind=COAP_NON, mid=8)
    assert first.kind == second.kind == COAP_NON
    assert first.mid != second.mid and code(first) == CODES[method]


@pytest.mark.parametrize("size", range(9))
@pytest.mark.parametrize("kind", [COAP_CON, COAP_NON])
def test_a_token_of_any_size_comes_back(size, kind):
    token = b"12345678"[:size]
    assert Room().ask(token=token, kind=kind).token == token


def test_the_hex_of_the_chapters_head_is_what_is_sent():
    room = Room(lambda asked: ("2.04", asked.body.upper()))
    sent = room.give(bytes.fromhex("42027d344a71b573686f7574ff68656c6c6f"))
    assert sent == [(PEER, bytes.fromhex("62447d344a71c020ff48454c4c4f"))]
    assert len(sent[0][1]) + 18 == 32


def test_the_options_reach_the_caller():
    room = Room()
    room.ask(options=((3, b"localhost"), (7, b"\x16\x33"), (17, b"2"),
                      (12, b""), (65000, b"elective")))
    assert room.asked[0].options == {
        3: "localhost", 7: 5683, 11: ["fn"], 12: 0, 17: 50}


# 14.3 Memory: slow functions


def slow_room(dice=0.0):
    room = Room(lambda asked: None, dice=dice)
    assert room.ask(POST, mid=7, token=b"53") is None
    return room


def test_a_slow_function_has_its_question_acknowledged_before_2_s():
    room = slow_room()
    [(when, ack)] = room.wait(30)
    assert ack == CoapMessage(COAP_ACK, 0, 7) and 0.5 <= when < 2


def test_the_answer_of_a_slow_function_is_a_con_of_our_own():
    room = slow_room()
    room.wait(5)
    [answer] = room.reply()
    assert (answer.kind, answer.token, code(answer)) == (COAP_CON, b"53",
                                                         "2.05")
    assert answer.payload == b"done"


def test_an_answer_within_the_second_goes_into_the_acknowledgement():
    room = slow_room()
    assert room.wait(0.9) == []
    assert [answer.kind for answer in room.reply()] == [COAP_ACK]
    assert room.wait(100) == []


def answered(room):
    """Give the separate answer, and when it was sent."""
    room.wait(5)
    [answer] = room.reply()
    return answer, room.now


@pytest.mark.parametrize("dice, first", [(0.0, 2.0), (0.5, 2.5), (1.0, 3.0)])
def test_a_separate_answer_is_repeated_4_times_at_twice_the_distance(dice,
                                                                     first):
    room = slow_room(dice)
    answer, sent_at = answered(room)
    again = room.wait(200)
    assert [message for _, message in again] == [answer] * 4
    assert [when - sent_at for when, _ in again] == [
        first, first * 3, first * 7, first * 15]
    assert not room.endpoint.sender.waiting


@pytest.mark.parametrize("kind", [COAP_ACK, COAP_RST])
def test_an_acknowledgement_or_a_reset_ends_the_repetitions(kind):
    room = slow_room()
    answer, _ = answered(room)
    assert len(room.wait(2.5)) == 1
    assert room.give(CoapMessage(kind, 0, answer.mid), OTHER) == []
    assert len(room.wait(4)) == 1           # that was somebody else's
    assert room.give(CoapMessage(kind, 0, answer.mid)) == []
    assert room.wait(200) == []


def test_what_is_answered_before_one_that_was_asked_before_it_stays_so():
    room = Room(lambda asked: None)
    room.ask(mid=1)
    room.ask(mid=2)
    first = room.open.pop(0)
    [answer] = room.reply()
    assert answer.mid == 2
    assert [message.mid for _, message in room.wait(5)] == [1]
    assert room.ask(mid=2) == answer
    room.open.append(first)
    assert room.reply()[0].kind == COAP_CON


def test_a_slow_function_asked_by_a_non_is_answered_once_and_not_before():
    room = Room(lambda asked: None)
    room.ask(kind=COAP_NON)
    assert room.wait(5) == []
    assert [answer.kind for answer in room.reply()] == [COAP_NON]
    assert room.wait(100) == []


def test_an_acknowledgement_with_a_code_is_none():
    room = slow_room()
    answer, _ = answered(room)
    assert room.give(CoapMessage(COAP_ACK, 69, answer.mid)) == []
    assert len(room.wait(100)) == 4


def test_a_mid_that_waits_for_its_acknowledgement_is_not_given_again():
    room = slow_room()
    answer, _ = answered(room)
    room.serve = lambda asked: ("2.05", b"")
    room.endpoint.mid = answer.mid - 1
    assert room.ask(kind=COAP_NON).mid != answer.mid
    room.endpoint.mid = 0xffff
    assert room.ask(kind=COAP_NON).mid == 0


def test_a_second_reply_is_ignored():
    room = Room(lambda asked: None)
    room.ask()
    exchange = room.open[0].exchange
    assert len(room.reply()) == 1
    room.endpoint.reply(exchange, "2.05", b"again", now=room.now)
    assert room.take() == []


def test_past_the_bound_of_unacknowledged_answers_they_go_as_non(monkeypatch):
    monkeypatch.setattr(faas, "COAP_UNDER_WAY", 3)
    room = Room(lambda asked: None)
    for _ in range(5):
        room.ask(POST)
    room.wait(2)
    kinds = [room.reply()[0].kind for _ in range(5)]
    assert kinds == [COAP_CON] * 3 + [COAP_NON] * 2
    assert len(room.endpoint.sender.waiting) == 3


def test_what_was_acknowledged_does_not_stay_in_the_heap():
    room = Room(lambda asked: None)
    for _ in range(500):
        room.ask(POST)
    room.wait(1.5)
    for _ in range(500):
        [answer] = room.reply()
        room.give(CoapMessage(COAP_ACK, 0, answer.mid))
        assert len(room.endpoint.sender.queue) < 100


# 14.3 Memory: duplicates


def test_a_duplicate_is_given_the_same_bytes_and_runs_nothing():
    room = Room()
    question = coap_encode(CoapMessage(COAP_CON, POST, 7, b"t",
                                       ((11, b"fn"),), b"x"))
    first = room.give(question)
    for seconds in (0, 2, 4, 240):
        room.wait(seconds)
        assert room.give(question) == first
    assert len(room.asked) == 1
    room.wait(2)                # 248 s: EXCHANGE_LIFETIME is over
    room.give(question)
    assert len(room.asked) == 2


def test_a_duplicate_while_the_function_runs_is_given_what_was_said():
    room = slow_room()
    question = coap_encode(CoapMessage(COAP_CON, POST, 7, b"53",
                                       ((11, b"fn"),)))
    assert room.give(question) == []
    [(_, ack)] = room.wait(2)
    for _ in range(3):
        assert room.give(question) == [(PEER, coap_encode(ack))]
    answered(room)
    assert room.give(question) == [(PEER, coap_encode(ack))]
    assert len(room.asked) == 1


def test_a_duplicate_of_a_non_is_met_with_silence():
    room = Room()
    assert room.ask(kind=COAP_NON, mid=7)
    room.wait(144)
    assert room.ask(kind=COAP_NON, mid=7) is None and len(room.asked) == 1
    room.wait(2)                # 146 s: NON_LIFETIME is over
    assert room.ask(kind=COAP_NON, mid=7) and len(room.asked) == 2


def test_a_duplicate_of_a_refusal_is_refused_again():
    room = Room()
    first, again = (room.ask(options=((9, b""),), mid=7) for _ in range(2))
    assert first == again and code(first) == "4.02"


def test_the_same_mid_from_another_peer_is_another_question():
    room = Room()
    for peer in (PEER, OTHER, ("192.0.2.7", 40001)):
        assert room.ask(mid=7, peer=peer)
    assert len(room.asked) == 3


def test_other_bytes_under_an_old_mid_are_another_question():
    room = Room()
    assert [room.ask(POST, mid=7, payload=body).payload
            for body in (b"one", b"two")] == [b"one", b"two"]


def test_one_peer_is_remembered_for_its_newest_questions(monkeypatch):
    monkeypatch.setattr(faas, "COAP_MEMORY_OF_PEER", 10)
    room = Room()
    room.ask(mid=1, peer=OTHER)
    for mid in range(30):
        room.ask(mid=mid)
    for mid in range(20, 30):           # the newest ten are
        room.ask(mid=mid)
    room.ask(mid=1, peer=OTHER)         # and so is another peer's only one
    assert len(room.asked) == 31
    room.ask(mid=19)
    assert len(room.asked) == 32


def test_all_peers_together_are_remembered_up_to_a_number(monkeypatch):
    monkeypatch.setattr(faas, "COAP_MEMORY", 10)
    room = Room()
    for port in range(30):
        room.ask(mid=1, peer=("192.0.2.7", port))
    memory = room.endpoint.memory
    assert len(memory.exchanges) == 10 == len(memory.mids)
    room.ask(mid=1, peer=("192.0.2.7", 20))
    assert len(room.asked) == 30
    room.ask(mid=1, peer=("192.0.2.7", 19))
    assert len(room.asked) == 31


def test_silence_empties_all_tables():
    room = Room(lambda asked: ("2.05", b"x" * 5000))
    room.ask()
    room.ask(POST, payload=b"x" * 1024, options=(block1(0, True),))
    room.ask(kind=COAP_NON, options=((9, b""),))
    assert room.wait(600) == []
    endpoint = room.endpoint
    assert not endpoint.memory.exchanges and not endpoint.memory.mids
    assert not endpoint.uploads.bodies and endpoint.uploads.bytes == 0
    assert not endpoint.kept.entries and endpoint.kept.bytes == 0
    assert endpoint.next_time() is None


# 14.7 What is no question


def test_a_ping_is_answered_by_a_reset():
    assert Room().give(bytes.fromhex("40001234")) == [
        (PEER, bytes.fromhex("70001234"))]


@pytest.mark.parametrize("wire", [
    "60001234", "70001234",         # an ACK and a RST of nothing
    "60451234ff78", "70451234",     # an answer in an ACK; in a RST
    "60011234", "70011234",         # a question in an ACK; in a RST
    "50001234",                     # an empty NON
    "50451234ff78", "508412340000"  # an answer in a NON
])
def test_what_means_nothing_here_is_met_with_silence(wire):
    room = Room()
    assert room.give(bytes.fromhex(wire)) == [] and not room.asked


@pytest.mark.parametrize("wire", ["40451234ff78", "40841234", "40a31234",
                                  "40651234"])
def test_an_answer_that_nobody_asked_for_is_reset(wire):
    room = Room()
    assert room.give(bytes.fromhex(wire)) == [
        (PEER, bytes.fromhex("70001234"))]
    assert not room.asked


@pytest.mark.parametrize("rest", [
    "011234" + "00" * 9, "021234ff", "021234b5", "021234f0", "0212340f",
    "211234", "c11234", "e11234"])
@pytest.mark.parametrize("kind", [COAP_CON, COAP_NON, COAP_ACK, COAP_RST])
def test_a_format_error_of_a_con_is_reset_others_are_ignored(rest, kind):
    token = 9 if rest.startswith("01") else 0
    data = bytes([0x40 | kind << 4 | token]) + bytes.fromhex(rest)
    room = Room()
    assert room.give(data) == ([(PEER, bytes.fromhex("70001234"))]
                               if kind == COAP_CON else [])
    assert not room.asked


@pytest.mark.parametrize("wire", ["", "40", "400112", "00011234", "80011234",
                                  "c0011234"])
def test_another_version_is_met_with_silence(wire):
    assert Room().give(bytes.fromhex(wire)) == []


@pytest.mark.parametrize("number", [6, 7, 30, 31])
@pytest.mark.parametrize("kind", [COAP_CON, COAP_NON])
def test_an_unknown_method_is_4_05(number, kind):
    room = Room()
    answer = room.ask(number, kind=kind)
    assert code(answer) == "4.05" and b"GET, POST" in answer.payload
    assert not room.asked


@pytest.mark.parametrize("number", [1, 5, 9, 267, 65535])
def test_an_unknown_critical_option_is_4_02_with_its_number(number):
    room = Room()
    answer = room.ask(options=((number, b""),))
    assert code(answer) == "4.02" and not room.asked
    assert f"option {number} " in answer.payload.decode()
    assert room.ask(options=((number, b""),), kind=COAP_NON) is None


@pytest.mark.parametrize("number", [35, 39])
@pytest.mark.parametrize("kind", [COAP_CON, COAP_NON])
def test_a_proxy_is_refused(number, kind):
    room = Room()
    answer = room.ask(options=((number, b"coap"),), kind=kind)
    assert code(answer) == "5.05" and not room.asked


# 14.4 Blocks, downwards

BODY = bytes(range(256)) * 20 + b"the end"        # 5,127 bytes


def fetch(room, size=None, late=None, method=GET, **rest):
    """Fetch a body block by block; give it, and all the answers."""
    first = () if size is None else (block2(0, size),)
    answers = [room.ask(method, options=first, **rest)]
    body = answers[0].payload
    while (at := block(answers[-1], 23)) and at[1]:
        szx = at[2] if late is None else late
        answers.append(room.ask(method, options=(
            block2(len(body) >> szx + 4, szx),), **rest))
        body += answers[-1].payload
        assert len(answers) < 400
    return body, answers


@pytest.mark.parametrize("kind", [COAP_CON, COAP_NON])
@pytest.mark.parametrize("number, method", EACH_METHOD)
def test_a_large_answer_comes_in_blocks_of_1024(number, method, kind):
    room = Room(lambda asked: (CODES[method], BODY))
    body, answers = fetch(room, method=number, kind=kind)
    assert body == BODY and len(room.asked) == 1
    assert [block(answer, 23) for answer in answers] == [
        (num, num < 5, 6) for num in range(6)]
    assert {code(answer) for answer in answers} == {CODES[method]}
    assert all(option(answer, 12) == b"" for answer in answers)


@pytest.mark.parametrize("szx", range(7))
def test_a_size_that_is_asked_for_at_first_is_used(szx):
    room = Room(lambda asked: ("2.05", BODY))
    body, answers = fetch(room, size=szx)
    assert body == BODY and len(room.asked) == 1
    assert {block(answer, 23)[2] for answer in answers} == {szx}
    assert len(answers) == -(-len(BODY) // (16 << szx))


@pytest.mark.parametrize("szx", range(7))
def test_a_size_that_is_asked_for_later_is_used_from_then_on(szx):
    room = Room(lambda asked: ("2.05", BODY))
    body, answers = fetch(room, late=szx)
    assert body == BODY and len(room.asked) == 1
    assert [block(answer, 23)[2] for answer in answers] == (
        [6] + [szx] * (len(answers) - 1))


@pytest.mark.parametrize("size", [None, 0, 6])
def test_each_block_has_the_same_etag(size):
    room = Room(lambda asked: ("2.05", BODY))
    _, answers = fetch(room, size=size)
    [tag] = {option(answer, 4) for answer in answers}
    assert 1 <= len(tag) <= 8
    room.serve = lambda asked: ("2.05", BODY + b"!")
    assert option(room.ask(), 4) != tag


def test_an_etag_of_the_functions_own_is_kept():
    room = Room(lambda asked: None)
    room.ask()
    [answer] = room.reply(body=BODY, options=((4, b"mine"),))
    assert option(answer, 4) == b"mine"
    assert option(room.ask(options=(block2(1),)), 4) == b"mine"


@pytest.mark.parametrize("size", [0, 1, 1023, 1024])
def test_what_fits_into_one_block_comes_as_it_is(size):
    room = Room(lambda asked: ("2.05", BODY[:size]))
    answer = room.ask()
    assert answer.payload == BODY[:size] and answer.options == TEXT
    # Who asks for a block, is told which one it is.
    answer = room.ask(options=(block2(0),))
    assert block(answer, 23) == (0, False, 6) and option(answer, 4) is None


def test_1025_bytes_do_not_fit_into_one_block():
    room = Room(lambda asked: ("2.05", BODY[:1025]))
    body, answers = fetch(room)
    assert body == BODY[:1025] and len(answers) == 2


def test_blocks_may_be_fetched_in_any_order():
    room = Room(lambda asked: ("2.05", BODY))
    room.ask()
    order = [4, 1, 5, 3, 2]
    blocks = {num: room.ask(options=(block2(num),)) for num in order}
    assert {num: answer.payload for num, answer in blocks.items()} == {
        num: BODY[num * 1024:num * 1024 + 1024] for num in order}
    assert len(room.asked) == 1


@pytest.mark.parametrize("size, num, szx", [
    (5127, 6, 6), (5127, 321, 0), (1024, 1, 6), (0, 1, 0), (5127, 0xfffff, 6)])
def test_a_block_past_the_end_is_4_00(size, num, szx):
    room = Room(lambda asked: ("2.05", BODY[:size]))
    room.ask()
    assert code(room.ask(options=(block2(num, szx),))) == "4.00"


@pytest.mark.parametrize("number", [23, 27])
@pytest.mark.parametrize("kind", [COAP_CON, COAP_NON])
def test_a_size_exponent_of_7_is_4_00(number, kind):
    room = Room()
    answer = room.ask(POST, options=((number, b"\x07"),), kind=kind)
    assert code(answer) == "4.00" and not room.asked


def test_the_size_is_told_to_who_asks_for_it():
    room = Room(lambda asked: ("2.05", BODY))
    assert option(room.ask(), 28) is None
    answer = room.ask(options=((28, b""),))
    assert option(answer, 28) == coap_uint(len(BODY))


def test_two_peers_fetch_each_their_own():
    bodies = {PEER: BODY, OTHER: BODY[::-1]}
    room = Room(lambda asked: ("2.05", bodies[asked.peer]))
    got = {peer: room.ask(peer=peer).payload for peer in bodies}
    for num in range(1, 6):
        for peer in bodies:
            got[peer] += room.ask(options=(block2(num),), peer=peer).payload
    assert got == bodies and len(room.asked) == 2


def test_two_questions_of_one_peer_are_fetched_side_by_side():
    room = Room(lambda asked: ("2.05", BODY + asked.query[0].encode()))
    got = {query: room.ask(options=((15, query),)).payload
           for query in (b"one", b"two")}
    for num in range(1, 6):
        for query in got:
            got[query] += room.ask(options=(
                (15, query), block2(num))).payload
    assert got == {query: BODY + query for query in got}
    assert len(room.asked) == 2


def test_an_etag_in_the_question_for_a_later_block_changes_nothing():
    room = Room(lambda asked: ("2.05", BODY))
    tag = option(room.ask(), 4)
    answer = room.ask(options=(block2(1), (4, tag)))
    assert code(answer) == "2.05" and answer.payload == BODY[1024:2048]


def test_what_is_kept_is_kept_for_247_s_from_its_last_block():
    room = Room(lambda asked: ("2.05", BODY))
    room.ask()
    for num in range(1, 4):
        room.wait(240)
        assert room.ask(options=(block2(num),)).payload
    assert len(room.asked) == 1
    room.wait(248)
    assert room.ask(options=(block2(4),)).payload == BODY[4096:5120]
    assert len(room.asked) == 2


def test_a_get_of_a_block_that_is_not_kept_runs_the_function():
    room = Room(lambda asked: ("2.05", BODY))
    answer = room.ask(options=(block2(3, 4),))
    assert answer.payload == BODY[768:1024] and len(room.asked) == 1
    assert block(answer, 23) == (3, True, 4)
    # The blocks after it are of the same run.
    assert room.ask(options=(block2(4, 4),)).payload == BODY[1024:1280]
    assert len(room.asked) == 1 and option(answer, 4)


@pytest.mark.parametrize("number", [POST, PUT, DELETE, FETCH])
def test_a_block_that_is_not_kept_of_anything_else_is_4_08(number):
    room = Room(lambda asked: ("2.04", BODY))
    answer = room.ask(number, options=(block2(1),))
    assert code(answer) == "4.08" and answer.payload and not room.asked


@pytest.mark.parametrize("limit, value", [("COAP_KEPT", 3),
                                          ("COAP_KEPT_BYTES", 16_000)])
def test_what_was_fetched_longest_ago_is_dropped_first(monkeypatch, limit,
                                                       value):
    monkeypatch.setattr(faas, limit, value)
    room = Room(lambda asked: ("2.04", BODY))
    for path in "abc":
        room.ask(POST, path)
    room.ask(POST, "a", options=(block2(1),))
    room.ask(POST, "d")
    found = {path: code(room.ask(POST, path, options=(block2(1),)))
             for path in "abcd"}
    assert found == {"a": "2.04", "b": "4.08", "c": "2.04", "d": "2.04"}


def test_an_answer_that_is_larger_than_all_room_does_no_harm(monkeypatch):
    monkeypatch.setattr(faas, "COAP_KEPT_BYTES", 5000)
    room = Room(lambda asked: ("2.05", BODY))
    assert room.ask().payload == BODY[:1024]
    assert room.endpoint.kept.bytes == 0


@pytest.mark.parametrize("options, szx", [
    ((), 6), (((8, b"l" * 60),), 6), (((8, b"l" * 255),), 5),
    (((8, b"l" * 200),) * 3, 4), (((8, b"l" * 250),) * 4, 2)])
def test_no_datagram_is_too_large_whatever_options_come_along(options, szx):
    room = Room(lambda asked: None)
    room.ask(POST, token=b"12345678", payload=b"x" * 20,
             options=(block1(0, False), (28, b"")))
    [answer] = room.reply(body=BODY, options=options)
    assert block(answer, 23) == (0, True, szx)
    assert len(coap_encode(answer)) <= 1152
    body, num = answer.payload, 1
    while len(body) < len(BODY):
        body += room.ask(POST, token=b"12345678", options=(
            block2(num, szx), (28, b""))).payload
        num += 1
    assert body == BODY


def test_options_that_fill_a_datagram_are_5_00():
    room = Room(lambda asked: None)
    room.ask()
    [answer] = room.reply(body=BODY, options=((8, b"l" * 255),) * 5)
    assert code(answer) == "5.00" and b"options" in answer.payload


def test_the_sentence_of_an_error_is_cut_between_two_characters():
    room = Room(lambda asked: None)
    room.ask(options=(block2(0, 2),))
    [answer] = room.reply("5.02", ("x" + "ä" * 3000).encode(), options=())
    assert code(answer) == "5.02" and block(answer, 23) is None
    assert answer.payload.decode() == "x" + "ä" * 511


def test_an_error_with_a_format_is_no_sentence_and_comes_whole():
    said = bytes(range(256)) * 8        # no UTF-8
    room = Room(lambda asked: ("4.00", said))
    first = room.ask()
    assert code(first) == "4.00" and block(first, 23) == (0, True, 6)
    second = room.ask(options=(block2(1),))
    assert first.payload + second.payload == said


# 14.4 Blocks, upwards


def push(room, body, szx=6, method=POST, **rest):
    """Send a body block by block; give all the answers."""
    size, answers = 16 << szx, []
    options = rest.pop("options", ())
    for at in range(0, max(1, len(body)), size):
        more = at + size < len(body)
        answers.append(room.ask(
            method, options=(*options, block1(at // size, more, szx)),
            payload=body[at:at + size], token=bytes([at // size & 255]),
            **rest))
    return answers


@pytest.mark.parametrize("kind", [COAP_CON, COAP_NON])
@pytest.mark.parametrize("method", [POST, PUT, FETCH])
@pytest.mark.parametrize("szx", range(7))
def test_a_body_in_blocks_is_one_question(szx, method, kind):
    room = Room(lambda asked: ("2.04", b"%d" % len(asked.body)))
    answers = push(room, BODY, szx, method, kind=kind)
    assert [asked.body for asked in room.asked] == [BODY]
    assert [code(answer) for answer in answers[:-1]] == (
        ["2.31"] * (len(answers) - 1))
    assert [block(answer, 27) for answer in answers] == [
        (num, num < len(answers) - 1, szx) for num in range(len(answers))]
    assert (code(answers[-1]), answers[-1].payload) == ("2.04", b"5127")


@pytest.mark.parametrize("size", [0, 1, 16])
def test_a_body_may_be_one_block(size):
    room = Room()
    [answer] = push(room, BODY[:size], 0)
    assert room.asked[0].body == BODY[:size]
    assert block(answer, 27) == (0, False, 0)


def test_blocks_up_and_blocks_down_in_one_call():
    room = Room(lambda asked: ("2.04", asked.body[::-1]))
    answers = push(room, BODY)
    last = answers[-1]
    assert block(last, 27) == (5, False, 6) and block(last, 23) == (0, True, 6)
    body = last.payload
    for num in range(1, 6):
        body += room.ask(POST, options=(block2(num),)).payload
    assert body == BODY[::-1] and len(room.asked) == 1


def test_the_block_size_of_the_answer_may_be_asked_for_with_the_last_block():
    room = Room()
    answers = push(room, BODY, options=(block2(0, 2),))
    assert block(answers[-1], 23) == (0, True, 2)
    # A client that leaves its Block1 in what follows is understood as well.
    answer = room.ask(POST, options=(block2(1, 2), block1(5, False)))
    assert answer.payload == BODY[64:128]


def test_the_failure_of_a_function_has_the_last_block_too():
    room = Room(lambda asked: ("5.02", b"it crashed"))
    last = push(room, BODY)[-1]
    assert code(last) == "5.02" and block(last, 27) == (5, False, 6)


@pytest.mark.parametrize("num", [1, 3, 0xfffff])
def test_an_orphan_is_4_08(num):
    room = Room()
    answer = room.ask(POST, payload=b"x" * 16, options=(block1(num, True, 0),))
    assert code(answer) == "4.08" and answer.payload and not room.asked


def test_a_gap_is_4_08_and_what_fits_may_still_come():
    room = Room()
    for num, expected in ((0, "2.31"), (2, "4.08"), (0xfff, "4.08"),
                          (1, "2.31"), (1, "4.08"), (2, "2.31")):
        answer = room.ask(POST, payload=b"%016d" % num,
                          options=(block1(num, True, 0),))
        assert code(answer) == expected
    room.ask(POST, payload=b"!", options=(block1(3, False, 0),))
    assert room.asked[0].body == b"%016d%016d%016d!" % (0, 1, 2)


@pytest.mark.parametrize("size, more", [(15, True), (17, True), (0, True),
                                        (17, False)])
def test_a_block_of_another_size_than_it_says_is_4_00(size, more):
    room = Room()
    answer = room.ask(POST, payload=b"x" * size, options=(block1(0, more, 0),))
    assert code(answer) == "4.00" and not room.asked


def test_after_the_last_block_there_is_nothing_to_continue():
    room = Room()
    push(room, BODY)
    answer = room.ask(POST, payload=b"x", options=(block1(6, False),))
    assert code(answer) == "4.08" and len(room.asked) == 1


def test_block_0_begins_again():
    room = Room()
    push(room, BODY)
    for _ in range(3):
        room.ask(POST, payload=b"x" * 1024, options=(block1(0, True),))
    push(room, BODY[::-1])
    assert [asked.body for asked in room.asked] == [BODY, BODY[::-1]]
    assert room.endpoint.uploads.bytes == 0


def test_two_peers_send_each_their_own():
    room = Room()
    for num in range(6):
        for peer, body in ((PEER, BODY), (OTHER, BODY[::-1])):
            room.ask(POST, payload=body[num * 1024:num * 1024 + 1024],
                     options=(block1(num, num < 5),), peer=peer)
    assert [asked.body for asked in room.asked] == [BODY, BODY[::-1]]


@pytest.mark.parametrize("number, values", [
    (292, (b"one", b"two")), (15, (b"a=1", b"a=2")), (12, (b"", b"2"))])
def test_one_peer_sends_two_that_an_option_tells_apart(number, values):
    room = Room()
    for num in range(6):
        for value, body in zip(values, (BODY, BODY[::-1])):
            room.ask(POST, payload=body[num * 1024:num * 1024 + 1024],
                     options=((number, value), block1(num, num < 5)))
    assert [asked.body for asked in room.asked] == [BODY, BODY[::-1]]


def test_a_client_may_go_on_with_smaller_blocks():
    room = Room()
    room.ask(POST, payload=BODY[:1024], options=(block1(0, True, 6),))
    room.ask(POST, payload=BODY[1024:1280], options=(block1(4, True, 4),))
    answer = room.ask(POST, payload=BODY[1280:1300],
                      options=(block1(40, False, 1),))
    assert block(answer, 27) == (40, False, 1)
    assert room.asked[0].body == BODY[:1300]


@pytest.mark.parametrize("options, payload", [
    ((), b"x" * 101), ((block1(0, True, 3),), b"x" * 128),
    ((block1(0, True, 0), (60, b"\x65")), b"x" * 16), (((60, b"\x65"),), b"")])
def test_a_body_that_will_be_too_large_is_4_13_at_once(options, payload):
    room = Room(most=100)
    answer = room.ask(POST, options=options, payload=payload)
    assert code(answer) == "4.13" and option(answer, 60) == b"\x64"
    assert not room.asked and not room.endpoint.uploads.bodies


def test_blocks_that_add_up_to_too_much_are_4_13():
    room = Room(most=100)
    answers = push(room, BODY[:112], 0)
    assert [code(answer) for answer in answers] == ["2.31"] * 6 + ["4.13"]
    assert not room.endpoint.uploads.bodies
    assert option(answers[-1], 60) == b"\x64"
    assert push(room, BODY[:100], 0) and room.asked[0].body == BODY[:100]


def test_a_body_as_large_as_it_may_be_is_taken():
    room = Room(most=100)
    room.ask(POST, payload=b"x" * 100, options=((60, b"\x64"),))
    assert len(room.asked[0].body) == 100


@pytest.mark.parametrize("limit, value", [("COAP_UPLOADS", 3),
                                          ("COAP_UPLOADED", 3 * 1024)])
def test_past_the_bound_of_bodies_a_new_one_is_5_03(monkeypatch, limit, value):
    monkeypatch.setattr(faas, limit, value)
    room = Room()
    begin = {"payload": b"x" * 1024, "options": (block1(0, True),)}
    for path in "abc":
        assert code(room.ask(POST, path, **begin)) == "2.31"
    answer = room.ask(POST, "d", **begin)
    assert code(answer) == "5.03" and option(answer, 14)
    # Those that are under way come to their end.
    room.ask(POST, "a", payload=b"!", options=(block1(1, False),))
    assert room.asked[0].body == b"x" * 1024 + b"!"
    assert code(room.ask(POST, "d", **begin)) == "2.31"
    assert room.endpoint.uploads.bytes == 3072


def test_past_the_bound_what_stands_still_gives_way(monkeypatch):
    monkeypatch.setattr(faas, "COAP_UPLOADS", 3)
    room = Room()
    for path in "abc":
        room.ask(POST, path, payload=b"x" * 16, options=(block1(0, True, 0),))
    room.wait(30)
    room.ask(POST, "a", payload=b"x" * 16, options=(block1(1, True, 0),))
    codes = [code(room.ask(POST, path, payload=b"x" * 16,
                           options=(block1(0, True, 0),))) for path in "def"]
    assert codes == ["2.31", "2.31", "5.03"]
    answer = room.ask(POST, "a", payload=b"", options=(block1(2, False, 0),))
    assert code(answer) == "2.04" and len(room.asked[0].body) == 32


def test_a_body_is_given_up_247_s_after_its_last_block():
    room = Room()
    for num in range(3):
        room.wait(240)
        room.ask(POST, payload=b"x" * 16, options=(block1(num, True, 0),))
    room.wait(300)
    answer = room.ask(POST, payload=b"", options=(block1(3, False, 0),))
    assert code(answer) == "4.08"


# 14.5 Observers


def observing_room(dice=0.0, **rest):
    """A room in which PEER observes t with token b"t"."""
    room = Room(lambda asked: ("2.05", b"18"), dice=dice)
    room.name = "t"
    room.first = room.ask(GET, options=((6, b""), *rest.pop("options", ())),
                          **rest)
    return room


def ack(room, message, peer=PEER):
    return [coap_decode(data) for _, data
            in room.give(CoapMessage(COAP_ACK, 0, message.mid), peer)]


def newer(one, other):
    """RFC 7641, 3.4, for two that came within 128 s."""
    first, second = (int.from_bytes(option(message, 6))
                     for message in (one, other))
    return (first < second and second - first < 1 << 23
            or first > second and first - second > 1 << 23)


def test_an_observer_hears_of_each_new_value():
    room = observing_room()
    assert code(room.first) == "2.05" and option(room.first, 6) is not None
    assert room.asked[0].observe == 0
    before = room.first
    for body in (b"19", b"20", b"21"):
        room.wait(1)
        [told] = room.notify(body)
        assert (told.kind, told.token, told.payload) == (COAP_CON, b"t", body)
        assert option(told, 12) == b"" == option(told, 14)
        assert newer(before, told)
        assert ack(room, told) == []
        before = told
    assert len(room.endpoint.observers.mids) == 1


def test_who_did_not_ask_to_observe_hears_nothing():
    room = Room(lambda asked: ("2.05", b"18"))
    room.name = "t"
    answer = room.ask()
    assert option(answer, 6) is None and room.notify(b"19") == []
    assert room.notify(b"19", name="other") == []


@pytest.mark.parametrize("number, observes", [
    (GET, True), (FETCH, True), (POST, False), (PUT, False), (DELETE, False)])
def test_what_reads_may_observe(number, observes):
    room = Room(lambda asked: ("2.05", b"18"))
    room.name = "t"
    answer = room.ask(number, options=((6, b""),))
    assert (option(answer, 6) is not None) == observes
    assert len(room.notify(b"19")) == observes


def test_who_calls_a_function_that_nobody_can_observe_gets_an_answer():
    room = Room()
    assert option(room.ask(options=((6, b""),)), 6) is None
    assert room.notify(b"19") == []


def test_a_failure_is_not_observed():
    room = Room(lambda asked: ("4.04", b"no such function"))
    room.name = "t"
    assert option(room.ask(options=((6, b""),)), 6) is None
    assert room.notify(b"19") == []


def test_values_of_the_option_grow_even_within_a_millisecond():
    room = observing_room()
    before = room.first
    for _ in range(50):
        [told] = room.notify(b"19")
        ack(room, told)
        assert newer(before, told)
        before = told


def test_values_of_the_option_go_on_past_24_bits():
    room = Room(lambda asked: ("2.05", b"18"))
    room.name, room.now = "t", (1 << 24) / 1000 - 1
    before = room.ask(options=((6, b""),))
    for _ in range(4):
        room.wait(1)
        [told] = room.notify(b"19")
        ack(room, told)
        assert newer(before, told) and len(option(told, 6)) <= 3
        before = told


def test_the_same_token_again_replaces_the_observation():
    room = observing_room()
    [told] = room.notify(b"19")
    again = room.ask(options=((6, b""),))
    assert newer(told, again)
    assert room.wait(100) == []             # The old one is not repeated.
    assert len(room.notify(b"20")) == 1


def test_another_token_is_another_observation():
    room = observing_room()
    room.ask(options=((6, b""),), token=b"u")
    assert sorted(told.token for told in room.notify(b"19")) == [b"t", b"u"]


def test_observe_1_ends_the_observation_and_is_answered():
    room = observing_room()
    room.notify(b"19")
    answer = room.ask(options=((6, b"\x01"),))
    assert code(answer) == "2.05" and option(answer, 6) is None
    assert room.asked[-1].observe == 1
    assert room.notify(b"20") == [] and room.wait(100) == []


def test_observe_1_with_another_token_or_peer_ends_nothing():
    room = observing_room()
    room.ask(options=((6, b"\x01"),), token=b"u")
    room.ask(options=((6, b"\x01"),), peer=OTHER)
    assert len(room.notify(b"19")) == 1


def test_a_reset_ends_the_observation():
    room = observing_room()
    [told] = room.notify(b"19")
    assert room.give(CoapMessage(COAP_RST, 0, told.mid), OTHER) == []
    assert len(room.wait(2.5)) == 1
    assert room.give(CoapMessage(COAP_RST, 0, told.mid)) == []
    assert room.wait(100) == [] and room.notify(b"20") == []


def test_a_reset_to_an_answer_in_a_non_ends_the_observation():
    room = observing_room(kind=COAP_NON)
    assert room.first.kind == COAP_NON
    room.give(CoapMessage(COAP_RST, 0, room.first.mid))
    assert room.notify(b"19") == []


@pytest.mark.parametrize("kind, more", [(COAP_ACK, 1), (COAP_RST, 0)])
def test_a_separate_answer_to_an_observer_is_settled_like_others(kind, more):
    room = Room(lambda asked: None)
    room.name = "t"
    room.ask(options=((6, b""),))
    room.wait(3)
    [answer] = room.reply()
    assert option(answer, 6) is not None
    assert room.notify(b"19") == []         # One is under way.
    sent = room.give(CoapMessage(kind, 0, answer.mid))
    assert [coap_decode(data).payload for _, data in sent] == [b"19"][:more]


def test_one_notification_is_under_way_and_the_newest_waits():
    room = observing_room()
    [first] = room.notify(b"19")
    for body in (b"20", b"21", b"22"):
        assert room.notify(body) == []
    [second] = ack(room, first)
    assert second.payload == b"22" and newer(first, second)
    assert ack(room, second) == [] and room.wait(100) == []


def test_a_repetition_says_what_is_new():
    room = observing_room()
    [first] = room.notify(b"19")
    room.wait(1)
    room.notify(b"20")
    [(_, second)] = room.wait(2)
    assert second.payload == b"20" and second.mid != first.mid
    assert newer(first, second)
    [(_, third)] = room.wait(4)
    assert third == second
    # An ACK of the first, that was under way for long, settles nothing.
    assert ack(room, first) == [] and len(room.wait(8)) == 1
    assert ack(room, second) == [] and room.wait(100) == []
    assert len(room.notify(b"21")) == 1


@pytest.mark.parametrize("which", [0, 1])
def test_a_reset_of_what_was_said_before_or_after_ends_it(which):
    room = observing_room()
    told = room.notify(b"19")
    room.notify(b"20")
    told += [message for _, message in room.wait(2)]
    room.give(CoapMessage(COAP_RST, 0, told[which].mid))
    assert room.wait(100) == [] and room.notify(b"21") == []


def test_a_newer_value_does_not_begin_the_repetitions_anew():
    room = observing_room()
    room.notify(b"0")
    sent = []
    for number in range(1, 9):
        room.notify(b"%d" % number)
        sent += room.wait(10)
    assert [when for when, _ in sent] == [2, 6, 14, 30]
    assert room.notify(b"9") == []          # 62 s, and it is gone
    assert not room.endpoint.observers.all


def test_who_never_acknowledges_is_gone():
    room = observing_room()
    room.notify(b"19")
    assert len(room.wait(61)) == 4 and room.endpoint.observers.all
    room.wait(2)
    observers = room.endpoint.observers
    assert not (observers.all or observers.names or observers.peers
                or observers.mids or observers.fetching)


def test_a_large_value_is_told_by_its_first_block():
    room = observing_room()
    [told] = room.notify(BODY)
    assert block(told, 23) == (0, True, 6) and option(told, 6) is not None
    body = told.payload
    ack(room, told)
    for num in range(1, 6):
        answer = room.ask(options=(block2(num),), token=b"other")
        assert option(answer, 4) == option(told, 4)
        assert option(answer, 6) is None
        body += answer.payload
    assert body == BODY and len(room.asked) == 1


def test_the_block_size_that_was_asked_for_holds_for_what_comes():
    room = observing_room(options=(block2(0, 2),))
    [told] = room.notify(BODY)
    assert block(told, 23) == (0, True, 2)
    answer = room.ask(options=((6, b""), block2(1, 2)), token=b"t")
    assert answer.payload == BODY[64:128] and option(answer, 6) is None


def test_a_newer_value_waits_until_the_last_block_is_fetched():
    room = observing_room()
    [told] = room.notify(BODY)
    ack(room, told)
    assert room.notify(BODY[::-1]) == []
    for num in range(1, 5):
        room.wait(3)
        assert room.ask(options=(block2(num),)).payload == (
            BODY[num * 1024:num * 1024 + 1024])
    sent = room.give(CoapMessage(COAP_CON, GET, 7, b"b", (
        (11, b"fn"), block2(5))))
    last, told = (coap_decode(data) for _, data in sent)
    assert last.payload == BODY[5120:] and told.kind == COAP_CON
    assert told.payload == BODY[::-1][:1024]


def test_who_does_not_fetch_the_rest_hears_of_what_is_new_nevertheless():
    room = observing_room()
    [told] = room.notify(BODY)
    ack(room, told)
    assert room.notify(b"20") == []
    [(_, told)] = room.wait(5)
    assert told.payload == b"20"
    ack(room, told)
    assert room.wait(100) == []


def test_the_first_answer_too_is_fetched_before_a_newer_value_is_told():
    room = observing_room()
    room.serve = lambda asked: ("2.05", BODY)
    first = room.ask(options=((6, b""),))
    assert block(first, 23) == (0, True, 6)
    assert room.notify(BODY[::-1]) == []
    assert room.ask(options=(block2(1),)).payload == BODY[1024:2048]


def test_who_ended_an_observation_is_told_nothing_that_waited():
    room = observing_room()
    [told] = room.notify(BODY)
    ack(room, told)
    room.notify(b"20")
    room.ask(options=((6, b"\x01"),))
    assert room.wait(100) == []


def test_many_observers_of_a_large_value_share_it():
    room = observing_room()
    for port in range(20):
        room.ask(options=((6, b""),), peer=("192.0.2.9", port))
    assert len(room.notify(BODY)) == 21
    assert room.endpoint.kept.bytes == len(BODY)
    room.wait(700)
    assert room.endpoint.kept.bytes == 0 == len(room.endpoint.observers.all)


def test_an_error_ends_the_observation_and_says_so():
    room = observing_room()
    [told] = room.notify(b"it crashed", code="5.02")
    assert code(told) == "5.02" and option(told, 6) is None
    assert (told.kind, told.token) == (COAP_CON, b"t")
    assert len(room.wait(100)) == 4
    assert room.notify(b"19") == []


def test_observers_of_what_is_deleted_are_told_once():
    room = observing_room()
    [told] = room.notify(b"19")
    room.endpoint.forget_observers("t", "4.04", room.now)
    [(_, data)] = room.take()
    assert code(coap_decode(data)) == "4.04"
    room.give(CoapMessage(COAP_ACK, 0, coap_decode(data).mid))
    assert room.wait(100) == [] and room.notify(b"20") == []


@pytest.mark.parametrize("limit", ["COAP_OBSERVERS", "COAP_OBSERVERS_OF_PEER"])
def test_past_the_bound_a_get_is_answered_without_the_option(monkeypatch,
                                                             limit):
    monkeypatch.setattr(faas, limit, 3)
    room = observing_room()
    answers = [room.ask(options=((6, b""),), token=token)
               for token in (b"1", b"2", b"3", b"4")]
    assert [option(answer, 6) is not None for answer in answers] == [
        True, True, False, False]
    assert all(answer.payload == b"18" for answer in answers)
    room.ask(options=((6, b"\x01"),), token=b"1")
    assert option(room.ask(options=((6, b""),), token=b"3"), 6) is not None


# 14.6 Budgets


def exposed(body=b"x" * 1000, **rest):
    return Room(lambda asked: ("2.05", body), trusted=False, **rest)


def spent(room, count, peer=PEER, **rest):
    """Ask `count` times at once; give how many bytes came back for each."""
    found = []
    for _ in range(count):
        answer = room.ask(peer=peer, **rest)
        found.append((code(answer), len(coap_encode(answer)))
                     if answer else None)
    return found


def empty_budget(room):
    """Ask until there is nothing left to be spent, to the last byte."""
    spent(room, 200)
    for budget in room.endpoint.budgets.budgets.values():
        assert budget.spend(budget.level, room.now)


def test_an_address_is_answered_up_to_its_burst():
    answers = spent(exposed(), 1000)
    assert sum(size for what, size in answers if what == "2.05") <= (
        faas.COAP_BURST)
    assert 100 < [what for what, _ in answers].count("2.05") < 200
    assert answers[-1][0] == "5.03"


def test_past_the_budget_5_03_says_when_to_come_again_and_runs_nothing():
    room = exposed()
    spent(room, 200)
    ran = len(room.asked)
    answer = room.ask()
    assert code(answer) == "5.03" and answer.payload == b""
    assert 1 <= int.from_bytes(option(answer, 14)) <= 10
    assert len(room.asked) == ran
    room.wait(int.from_bytes(option(answer, 14)))
    assert code(room.ask()) == "2.05"


def test_over_time_an_address_is_sent_no_more_than_its_rate():
    room, total = exposed(), 0
    for _ in range(20):
        total += sum(size for what, size in spent(room, 150)
                     if what == "2.05")
        room.wait(1)
    assert total <= faas.COAP_BURST + 20 * faas.COAP_RATE
    assert total > 20 * faas.COAP_RATE          # and not much less, either


@pytest.mark.parametrize("kind", [COAP_CON, COAP_NON])
@pytest.mark.parametrize("token", [b"", b"12345678"])
def test_past_the_budget_no_answer_is_larger_than_its_question(token, kind):
    room = exposed()
    empty_budget(room)
    for options in ((), ((11, b""),), ((11, b"fn"),), ((9, b""),),
                    ((35, b"coap:"),), ((15, b"query"),), (block2(7),)):
        for number in (GET, POST, 6):
            question = coap_encode(CoapMessage(kind, number, next(MIDS), token,
                                               options))
            for _ in range(3):
                for _, data in room.give(question):
                    assert len(data) <= len(question)


def test_what_is_no_larger_than_its_question_is_free():
    room = exposed()
    empty_budget(room)
    assert room.give(bytes.fromhex("40001234"))             # a ping
    assert code(room.ask(POST, payload=b"x" * 1024,
                         options=(block1(0, True),))) == "2.31"


def test_a_body_in_blocks_runs_nothing_past_the_budget():
    room = exposed()
    empty_budget(room)
    ran = len(room.asked)
    assert [code(answer) for answer in push(room, BODY)] == (
        ["2.31"] * 5 + ["5.03"])
    assert len(room.asked) == ran
    room.wait(2)                        # What is here need not come again.
    room.ask(POST, payload=BODY[5120:], options=(block1(5, False),))
    assert room.asked[-1].body == BODY


def test_duplicates_are_paid_for():
    room = exposed()
    question = coap_encode(CoapMessage(COAP_CON, GET, 7, b"t", ((11, b"fn"),)))
    assert 100 < sum(len(room.give(question)) for _ in range(1000)) < 200
    room.wait(2)
    assert room.give(question)


def test_repetitions_are_paid_for():
    room = Room(lambda asked: None, trusted=False)
    for _ in range(100):
        room.ask(POST)
    room.wait(1.5)
    sizes = [len(coap_encode(room.reply(body=b"x" * 1000)[0]))
             for _ in range(100)]
    assert sum(sizes) < faas.COAP_BURST
    spent(room, 100)                                # what was left of it
    again = [(when, len(coap_encode(message)))
             for when, message in room.wait(100) if message.code]
    assert again
    for when, _ in again:
        burst = [size for then, size in again if when <= then < when + 1]
        assert sum(burst) <= faas.COAP_BURST + faas.COAP_RATE


def test_what_a_small_answer_did_not_need_is_given_back():
    room = exposed(body=b"x" * 100)
    answers = spent(room, 1000)
    assert 900 < [what for what, _ in answers].count("2.05")


def test_every_request_that_is_taken_in_is_answered():
    room = Room(lambda asked: None, trusted=False)
    for _ in range(300):
        room.ask(POST)
    assert len(room.open) == faas.COAP_BURST // 1152
    while room.open:
        assert len(room.reply(body=b"x" * 1000)) == 1


def test_a_large_body_is_fetched_at_the_pace_of_the_budget():
    """What finds no room is silence, and is asked for again."""
    body = random.Random(1).randbytes(400_000)
    room = exposed(body)
    got, num = room.ask().payload, 1
    while len(got) < len(body):
        question = coap_encode(CoapMessage(COAP_CON, GET, next(MIDS), b"",
                                           ((11, b"fn"), block2(num))))
        for _ in range(5):
            sent = room.give(question)
            if sent:
                break
            room.wait(2)
        got, num = got + coap_decode(sent[0][1]).payload, num + 1
    assert got == body and len(room.asked) == 1
    assert room.now < 3 * len(body) / faas.COAP_RATE


def test_loopback_has_no_budget():
    room = Room(lambda asked: ("2.05", b"x" * 1000))
    assert {what for what, _ in spent(room, 1000)} == {"2.05"}


def test_each_address_has_a_budget_of_its_own():
    room = exposed()
    spent(room, 200)
    assert code(room.ask(peer=OTHER)) == "2.05"
    # Another port is the same address.
    assert code(room.ask(peer=("192.0.2.7", 40001))) == "5.03"


def test_a_network_of_ipv6_shares_a_budget():
    room = exposed()
    spent(room, 200, peer=("2001:db8::1", 1, 0, 0))
    assert code(room.ask(peer=("2001:db8::2", 1, 0, 0))) == "5.03"
    assert code(room.ask(peer=("2001:db8:0:1::1", 1, 0, 0))) == "2.05"
    spent(room, 200, peer=("::ffff:192.0.2.9", 1, 0, 0))
    assert code(room.ask(peer=("::ffff:192.0.2.10", 1, 0, 0))) == "2.05"
    assert code(room.ask(peer=("192.0.2.9", 1))) == "5.03"
    spent(room, 200, peer=("fe80::1%eth0", 1, 0, 2))
    assert code(room.ask(peer=("fe80::2%eth0", 1, 0, 2))) == "5.03"


@pytest.mark.parametrize("peer", [
    ("fe80::1%eth0", 1, 0, 2), ("fe80::1", 1), ("not an address", 1), ("", 0)])
def test_any_address_has_a_budget(peer):
    assert code(exposed().ask(peer=peer)) == "2.05"


def test_budgets_are_kept_for_so_many_addresses(monkeypatch):
    monkeypatch.setattr(faas, "COAP_BUDGETS", 10)
    room = exposed()
    spent(room, 200)
    for last in range(30):
        room.ask(peer=(f"198.51.100.{last}", 1))
        if last % 5 == 0:                   # It is among the ten seen last.
            assert code(room.ask()) == "5.03"
    assert len(room.endpoint.budgets.budgets) == 10


def test_to_wash_a_budget_out_costs_more_than_it_brings():
    """28 bytes of IP and UDP, and 4 of the shortest question."""
    assert faas.COAP_BUDGETS * 32 >= faas.COAP_BURST


def test_a_bucket_holds_no_more_than_its_burst():
    budget = Budget(rate=10, burst=20)
    assert not budget.spend(21, now=100.0)
    assert budget.spend(20, now=100.0) and not budget.spend(1, now=100.0)
    assert budget.spend(10, now=101.0) and not budget.spend(1, now=101.0)
    assert budget.spend(-5, now=101.0) and budget.spend(5, now=101.0)
    assert budget.spend(20, now=1000.0) and not budget.spend(1, now=1000.0)


def test_notifications_are_paid_for_and_come_when_there_is_room():
    room = exposed(b"18")
    room.name = "t"
    room.ask(options=((6, b""),))
    room.serve = lambda asked: ("2.05", b"x" * 1000)
    empty_budget(room)
    assert room.notify(b"y" * 1000) == []
    [(when, told)] = room.wait(2.5)
    assert told.payload == b"y" * 1000 and when == 2


# A bad network


class Client:
    """A client for one question; its bodies go in blocks both ways.

    It follows RFC 7252 but for the number of repetitions: on this network,
    one of a thousand blocks would be lost five times.
    """

    def __init__(self, peer, dice, method, path, body=b"", szx=6):
        self.peer, self.dice = peer, dice
        self.method, self.path, self.body, self.szx = method, path, body, szx
        self.sent_up, self.got, self.tag = 0, b"", None
        self.mid, self.token = dice.randrange(65536), 0
        self.code, self.outbox, self.due, self.question = None, [], None, None

    def begin(self, now):
        """Ask for what comes next: a block up, or a block down."""
        size, options = 16 << self.szx, [(11, self.path)]
        payload = b""
        if self.sent_up is None:
            options.append(block2(len(self.got) >> self.szx + 4, self.szx))
        elif len(self.body) > size:
            payload = self.body[self.sent_up:self.sent_up + size]
            options.append(block1(self.sent_up // size, self.sent_up + size
                                  < len(self.body), self.szx))
        else:
            payload = self.body
        self.mid, self.token = self.mid + 1 & 0xffff, self.token + 1
        self.question = CoapMessage(COAP_CON, self.method, self.mid,
                                    self.token.to_bytes(4, "big"),
                                    options, payload)
        self.say(now)

    def say(self, now):
        self.outbox.append(coap_encode(self.question))
        self.due = now + 2 + self.dice.random()

    def tick(self, now):
        if self.due is not None and now >= self.due:
            self.say(now)

    def receive(self, data, now):
        message = coap_decode(data)
        if message.kind == COAP_CON:
            # Each one is acknowledged; what it says counts once.
            self.outbox.append(coap_encode(CoapMessage(COAP_ACK, 0,
                                                       message.mid)))
        if message.code == 0:
            if message.kind == COAP_ACK and message.mid == self.mid:
                self.due = None             # It has come; now we wait.
        elif message.token == self.question.token and not self.code:
            self.answer(message, now)       # After that comes a new token.

    def answer(self, message, now):
        self.due = None
        if code(message) == "2.31":
            self.sent_up += 16 << self.szx
            return self.begin(now)
        assert code(message)[0] == "2", (code(message), message.payload)
        tag = option(message, 4)
        assert self.tag in (None, tag)
        self.got, self.sent_up, self.tag = (
            self.got + message.payload, None, tag)
        if (block(message, 23) or (0, False))[1]:
            return self.begin(now)
        self.code = code(message)


class FakeNet:
    """Clients, an endpoint, and a network that does its worst, with a seed."""

    def __init__(self, seed, serve, loss=0.3, twice=0.2):
        self.dice = random.Random(seed)
        self.endpoint = CoapEndpoint(lambda request: 8 << 20, self.dice.random,
                                     lambda peer: True)
        self.serve, self.loss, self.twice = serve, loss, twice
        self.now, self.events, self.serial = 0.0, [], itertools.count()
        self.runs, self.clients = collections.Counter(), {}

    def later(self, seconds, do, *what):
        heapq.heappush(self.events, (self.now + seconds, next(self.serial),
                                     do, what))

    def carry(self, to, data):
        """Lose it, or bring it after 1 to 300 ms, perhaps twice."""
        assert len(data) <= MAX_DATAGRAM
        for _ in range(1 + (self.dice.random() < self.twice)):
            if self.dice.random() >= self.loss:
                self.later(self.dice.uniform(0.001, 0.3), to, data)

    def flush(self):
        for peer, data in self.endpoint.take():
            self.carry(self.clients[peer].hear, data)
        for peer, client in self.clients.items():
            for data in client.outbox:
                self.carry(lambda data, peer=peer: self.ask(data, peer), data)
            client.outbox.clear()

    def ask(self, data, peer):
        for request in self.endpoint.receive(data, peer, self.now):
            self.runs[peer] += 1
            body, seconds = self.serve(request)
            self.later(seconds, self.reply, request, body)

    def reply(self, request, body):
        self.endpoint.reply(request.exchange, CODES[request.method], body,
                            TEXT, now=self.now)

    def add(self, client):
        self.clients[client.peer] = client
        client.hear = lambda data: client.receive(data, self.now)
        client.begin(self.now)

    def run(self, most=200_000):
        """Let all clients come to their end."""
        for _ in range(most):
            self.flush()
            if all(client.code for client in self.clients.values()):
                return
            dues = [client.due for client in self.clients.values()
                    if client.due is not None]
            dues += [event[0] for event in self.events[:1]]
            due = self.endpoint.next_time()
            self.now = max(self.now, min(dues + [due] * (due is not None)))
            while self.events and self.events[0][0] <= self.now:
                _, _, do, what = heapq.heappop(self.events)
                do(*what)
            self.endpoint.tick(self.now)
            for client in self.clients.values():
                client.tick(self.now)
        raise AssertionError("the clients have not come to their end")


def upside_down(request):
    return request.body[::-1], 0.0


SIZES = [0, 1, 15, 16, 17, 1023, 1024, 1025, 2048, 5000]


@pytest.mark.parametrize("seed", range(5))
def test_on_a_bad_network_each_question_runs_once_and_is_answered(seed):
    net = FakeNet(seed, upside_down)
    bodies = {}
    for number, size in enumerate(SIZES):
        peer = ("192.0.2.7", number)
        bodies[peer] = net.dice.randbytes(size)
        net.add(Client(peer, net.dice, POST, b"fn", bodies[peer]))
    net.run()
    for peer, client in net.clients.items():
        assert client.got == bodies[peer][::-1] and net.runs[peer] == 1


@pytest.mark.parametrize("seed", range(5))
def test_on_a_bad_network_slow_functions_run_once_and_are_answered(seed):
    net = FakeNet(seed, lambda asked: (asked.body[::-1],
                                       len(asked.body) / 100))
    bodies = {}
    for number in range(8):
        peer = ("192.0.2.7", number)
        bodies[peer] = net.dice.randbytes(number * 200)
        net.add(Client(peer, net.dice, POST, b"fn", bodies[peer]))
    net.run()
    for peer, client in net.clients.items():
        assert client.got == bodies[peer][::-1] and net.runs[peer] == 1


@pytest.mark.parametrize("szx", [0, 3, 6])
def test_on_a_bad_network_blocks_of_any_size_come_through(szx):
    net = FakeNet(szx, upside_down)
    body = net.dice.randbytes(3000)
    net.add(Client(PEER, net.dice, PUT, b"fn", body, szx))
    net.run()
    assert net.clients[PEER].got == body[::-1] and net.runs[PEER] == 1


def test_on_a_bad_network_a_megabyte_comes_through_both_ways():
    net = FakeNet(1, upside_down)
    bodies = {peer: net.dice.randbytes(1 << 20) for peer in (PEER, OTHER)}
    for peer, body in bodies.items():
        net.add(Client(peer, net.dice, POST, b"fn", body))
    net.run()
    for peer, client in net.clients.items():
        assert client.got == bodies[peer][::-1] and net.runs[peer] == 1


def test_on_a_bad_network_an_observer_has_the_newest_value_in_the_end():
    room, dice, heard = observing_room(), random.Random(14), []
    for number in range(200):
        room.now += dice.uniform(0, 2)
        sent = [coap_decode(data) for _, data in (
            room.endpoint.notify("t", "2.05", b"%d" % number, TEXT, room.now),
            room.take())[1]]
        sent += [message for _, message in room.wait(dice.uniform(0, 2))]
        while sent:
            if dice.random() < 0.15:
                break                                   # it was lost
            heard.append(sent.pop())
            if dice.random() < 0.15:
                break                                   # its ACK was
            sent = ack(room, heard[-1])
    assert room.endpoint.observers.all
    heard += [message for _, message in room.wait(40)]
    assert heard[-1].payload == b"199"
    fresh = [int(message.payload) for message in heard]
    assert fresh == sorted(fresh) and len(set(fresh)) > 50


# A hostile one

SEEDS = [coap_encode(message) for message in (
    CoapMessage(COAP_CON, GET, 7, b"tok", ((11, b"fn"), (6, b""))),
    CoapMessage(COAP_CON, POST, 7, b"t", ((11, b"fn"), block1(0, True, 0)),
                b"x" * 16),
    CoapMessage(COAP_CON, PUT, 7, b"t", ((11, b"fn"), block1(1, True, 0)),
                b"x" * 16),
    CoapMessage(COAP_NON, GET, 7, b"t", ((11, b"fn"), block2(1, 2))),
    CoapMessage(COAP_NON, FETCH, 7, b"t", ((11, b"fn"), (12, b"")), b"body"),
    CoapMessage(COAP_ACK, 0, 7), CoapMessage(COAP_RST, 0, 7),
    CoapMessage(COAP_CON, 69, 7, b"t", (), b"what"))]


def storm(room, dice, count):
    """Give an endpoint `count` datagrams that are nearly right."""
    for number in range(count):
        data = bytearray(dice.choice(SEEDS))
        data[2:4] = dice.randrange(65536).to_bytes(2, "big")
        for _ in range(dice.randrange(4)):
            at = dice.randrange(len(data))
            data[at] = dice.randrange(256)
            if dice.random() < 0.1:
                del data[at:]
                break
        address = dice.randrange(1 << 16)
        room.give(bytes(data), (f"198.18.{address >> 8}.{address & 255}",
                                dice.randrange(1024, 65536)))
        if number % 50 == 0:
            room.wait(0.01)
            if number % 1000 == 0:
                room.endpoint.notify("t", "2.05", BODY, TEXT, room.now)
                room.take()


def held(room):
    """Count what an endpoint holds."""
    one = room.endpoint
    return {"exchanges": len(one.memory.exchanges), "peers":
            len(one.memory.mids), "mids": sum(map(len, one.memory.mids
                                                  .values())),
            "under way": len(one.sender.waiting), "heap": len(
                one.sender.queue), "uploads": len(one.uploads.bodies),
            "uploaded": one.uploads.bytes, "kept": len(one.kept.entries),
            "kept bytes": one.kept.bytes, "observers": len(
                one.observers.all), "budgets": len(one.budgets.budgets),
            "patience": len(one.patience), "holds": len(one.observers.holds)}


def test_100_000_spoiled_datagrams_leave_bounded_tables_and_a_good_server():
    dice = random.Random(14)
    room = Room(lambda asked: ("2.05", BODY if asked.body else b"18"),
                trusted=False)
    room.name = "t"
    good = 0
    for _ in range(10):
        storm(room, dice, 10_000)
        good += room.ask(peer=("192.0.2.1", 1)).payload == b"18"
    assert good == 10
    found = held(room)
    assert found["exchanges"] <= faas.COAP_MEMORY
    assert found["peers"] <= found["mids"] == found["exchanges"]
    assert found["under way"] <= faas.COAP_UNDER_WAY
    assert found["heap"] <= 64 + 2 * faas.COAP_UNDER_WAY
    assert found["uploads"] <= faas.COAP_UPLOADS
    assert found["kept"] <= faas.COAP_KEPT
    assert found["observers"] <= faas.COAP_OBSERVERS
    assert found["budgets"] <= faas.COAP_BUDGETS
    # The storm did reach what it was to reach.
    assert all(found[name] for name in (
        "exchanges", "uploads", "kept", "observers", "budgets"))
    room.wait(2000)
    assert set(held(room).values()) - {found["budgets"]} == {0}


def test_noise_is_never_more_than_silence_or_a_reset():
    dice, room = random.Random(14), Room(trusted=False)
    for _ in range(20_000):
        data = dice.randbytes(dice.randrange(60))
        for _, answer in room.give(data):
            message = coap_decode(answer)
            assert message.kind == COAP_RST or coap_code("2.01") <= (
                message.code) <= coap_code("5.05")
