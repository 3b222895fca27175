"""Chapter 14, sections 1 and 2: CoAP's messages, options and blocks."""

import json
import pathlib
import random

import pytest

import faas
from faas import (CoapBlock, CoapError, CoapMessage, CoapRefusal,
                  coap_block_decode, coap_code, coap_code_text, coap_decode,
                  coap_encode, coap_question, coap_read_options, coap_uint)

VECTORS = (pathlib.Path(__file__).resolve().parents[2] / "shared" / "vectors"
           / "coap-messages.json")
KINDS = ["CON", "NON", "ACK", "RST"]


@pytest.fixture(scope="module")
def vectors():
    if not VECTORS.exists():
        pytest.skip(f"put coap-messages.json into {VECTORS.parent}")
    return json.loads(VECTORS.read_text())


# 14.1 Messages


def from_vector(vector):
    return CoapMessage(
        KINDS.index(vector["type"]), coap_code(vector["code"]), vector["mid"],
        bytes.fromhex(vector["token"]),
        tuple((number, bytes.fromhex(value))
              for number, value in vector["options"]),
        bytes.fromhex(vector["payload"]))


def test_the_messages_of_the_vectors_are_read_and_written(vectors):
    assert len(vectors["messages"]) == 27
    for vector in vectors["messages"]:
        wire, message = bytes.fromhex(vector["wire"]), from_vector(vector)
        assert coap_decode(wire) == message, vector["id"]
        assert coap_encode(message) == wire, vector["id"]


# RFC 7252, appendix A, figures 16, 17 and 20, and 3.1's borders.
MESSAGES = {
    "40017d34 bb74656d7065726174757265":
        CoapMessage(0, 1, 0x7d34, b"", ((11, b"temperature"),)),
    "60457d34 ff 32322e332043": CoapMessage(2, 69, 0x7d34, payload=b"22.3 C"),
    "41017d35 20 bb74656d7065726174757265":
        CoapMessage(0, 1, 0x7d35, b" ", ((11, b"temperature"),)),
    "60007d38": CoapMessage(2, 0, 0x7d38),
    "4145ad7b 53 ff 32322e332043":
        CoapMessage(0, 69, 0xad7b, b"S", payload=b"22.3 C"),
    "50010001 d000": CoapMessage(1, 1, 1, options=((13, b""),)),
    "50010001 d1ff61": CoapMessage(1, 1, 1, options=((268, b"a"),)),
    "50010001 e1000061": CoapMessage(1, 1, 1, options=((269, b"a"),)),
    "50010001 e1fef27a": CoapMessage(1, 1, 1, options=((65535, b"z"),)),
    "50010001 c0 e0fee6":
        CoapMessage(1, 1, 1, options=((12, b""), (65535, b""))),
    "48020005 3132333435363738 ff 78":
        CoapMessage(0, 2, 5, b"12345678", payload=b"x"),
    "40020006 ff ffff": CoapMessage(0, 2, 6, payload=b"\xff\xff"),
}


@pytest.mark.parametrize("wire", MESSAGES)
def test_a_message_is_read_and_written(wire):
    data = bytes.fromhex(wire)
    assert coap_decode(data) == MESSAGES[wire]
    assert coap_encode(MESSAGES[wire]) == data


@pytest.mark.parametrize("length", [0, 12, 13, 14, 268, 269, 270, 1034, 65000])
@pytest.mark.parametrize("number", [1, 12, 13, 14, 268, 269, 270, 65535])
def test_an_option_of_any_number_and_length_comes_back(number, length):
    message = CoapMessage(0, 1, 7, b"t", ((number, b"v" * length),), b"body")
    assert coap_decode(coap_encode(message)) == message


def test_options_are_written_in_the_order_of_their_numbers():
    given = CoapMessage(0, 1, 7, options=[
        (15, b"q"), (11, b"z"), (11, b"a"), (3, b"host")])
    assert coap_decode(coap_encode(given)).options == (
        (3, b"host"), (11, b"z"), (11, b"a"), (15, b"q"))


# Of a CON's format error its RST must be possible: kind and mid are given.
MALFORMED = {
    "a token of 9 bytes": "49017d34 313233343536373839",
    "a token of 15 bytes": "4f017d34" + "31" * 15,
    "a token that is cut": "44017d34 313233",
    "a marker without payload": "40017d34 ff",
    "a marker without payload after an option": "40017d34 b161 ff",
    "a delta of 15": "40017d34 f0",
    "a length of 15": "40017d34 0f",
    "a delta of 15 and a length of 14": "40017d34 fe00",
    "an option that is cut": "40017d34 b56162",
    "an extended delta that is missing": "40017d34 d0",
    "an extended delta of which half is missing": "40017d34 e000",
    "an extended length that is missing": "40017d34 bd",
    "an extended length of which half is missing": "40017d34 be01",
    "an option number of 17 bits": "40017d34 e0ffff",
    "a sum of option numbers of 17 bits": "40017d34 e0ff00 e0ff00",
    "class 1": "40217d34",
    "class 6": "40c07d34",
    "class 7": "40e17d34",
    "an empty message with a token": "41007d34 20",
    "an empty message with an option": "40007d34 b161",
    "an empty message with a payload": "40007d34 ff61",
}


@pytest.mark.parametrize("what", MALFORMED)
@pytest.mark.parametrize("kind", range(4))
def test_a_format_error_tells_whom_to_say_so(what, kind):
    data = bytearray.fromhex(MALFORMED[what])
    data[0] |= kind << 4
    with pytest.raises(CoapError) as caught:
        coap_decode(bytes(data))
    assert (caught.value.kind, caught.value.mid) == (kind, 0x7d34)


@pytest.mark.parametrize("wire", ["", "40", "40017d", "00017d34", "80017d34",
                                  "c0017d34", "00000000"])
def test_what_is_too_short_or_of_another_version_is_answered_to_nobody(wire):
    with pytest.raises(CoapError) as caught:
        coap_decode(bytes.fromhex(wire))
    assert caught.value.kind is None


def test_every_beginning_of_a_message_is_a_message_or_a_format_error():
    whole = coap_encode(CoapMessage(
        0, 2, 7, b"token", ((11, b"a" * 300), (12, b""), (270, b"b" * 20)),
        b"body"))
    read = []
    for size in range(len(whole)):
        try:
            message = coap_decode(whole[:size])
            assert coap_encode(message) == whole[:size]
            read.append(size)
        except CoapError:
            pass
    # After the token, each option, and each byte of the body but the first.
    assert read == [9, 312, 313, 336, 338, 339, 340]


def test_what_can_be_read_of_noise_is_written_back_as_it_was():
    dice, read = random.Random(14), 0
    for _ in range(20_000):
        data = bytearray(coap_encode(CoapMessage(
            0, 1, 7, b"t", ((11, b"path"), (12, b"2"), (60, b"12")), b"body")))
        for _ in range(dice.randrange(1, 5)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            message = coap_decode(bytes(data))
        except CoapError:
            continue
        read += 1
        # An extended nibble may be longer than it need be, hence not `data`.
        assert coap_decode(coap_encode(message)) == message
    assert 1000 < read < 19_000


@pytest.mark.parametrize("text, code", [
    ("0.00", 0), ("0.01", 1), ("2.04", 0x44), ("2.31", 0x5f), ("4.04", 0x84),
    ("5.03", 0xa3)])
def test_a_code_is_a_class_of_3_bits_and_a_detail_of_5(text, code):
    assert (coap_code(text), coap_code_text(code)) == (code, text)


def test_every_code_of_the_table_of_kinds_can_be_sent():
    for kind in faas.KINDS.values():
        assert coap_code(kind.coap) >> 5 in (4, 5)
        assert coap_code_text(coap_code(kind.coap)) == kind.coap


# 14.2 Options and blocks


@pytest.mark.parametrize("number, wire", [
    (0, ""), (1, "01"), (255, "ff"), (256, "0100"), (65535, "ffff"),
    (65536, "010000"), (0xffffffff, "ffffffff")])
def test_a_number_takes_as_few_bytes_as_it_can(number, wire):
    assert coap_uint(number).hex() == wire


def test_a_number_with_leading_zeros_is_read():
    assert coap_read_options(((12, b"\0"), (14, b"\0\0\x3c"))) == {
        12: 0, 14: 60}


def test_the_block_values_of_the_vectors_are_read(vectors):
    assert len(vectors["block_options"]) == 10
    for vector in vectors["block_options"]:
        value = bytes.fromhex(vector["wire"])
        if "error" in vector:
            with pytest.raises(CoapRefusal):
                coap_block_decode(value)
        else:
            block = coap_block_decode(value)
            assert block == (vector["num"], vector["more"], vector["szx"])
            assert block.size == vector["size"]


def test_a_block_is_written_in_as_few_bytes_as_it_can():
    for szx in range(7):
        for num in (0, 1, 15, 16, 4095, 4096, (1 << 20) - 1):
            for more in (False, True):
                block = CoapBlock(num, more, szx)
                assert coap_block_decode(block.encode()) == block
                assert len(block.encode()) == (
                    0 if block == (0, False, 0) else 1 if num < 16
                    else 2 if num < 4096 else 3)


def test_known_options_are_given_as_what_they_mean():
    message = coap_decode(coap_encode(CoapMessage(0, 2, 7, options=(
        (3, b"host"), (7, b"\x16\x33"), (11, b"\xc3\xa4"), (11, b""),
        (12, b"2"), (15, b"a=1"), (17, b""), (23, b"\x02"), (292, b"tag")))))
    assert coap_read_options(message.options) == {
        3: "host", 7: 5683, 11: ["ä", ""], 12: 50, 15: ["a=1"], 17: 0,
        23: CoapBlock(0, False, 2), 292: [b"tag"]}


@pytest.mark.parametrize("number", [2, 10, 258, 2050, 65000])
def test_an_elective_option_that_is_unknown_is_ignored(number):
    assert coap_read_options(((number, b"?"), (11, b"f"))) == {11: ["f"]}


@pytest.mark.parametrize("number", [1, 5, 9, 13, 19, 267, 2049, 65535])
def test_a_critical_option_that_is_unknown_is_refused(number):
    with pytest.raises(CoapRefusal, match=f"option {number} ") as caught:
        coap_read_options(((number, b""),))
    assert caught.value.code == "4.02"


# RFC 7252, 5.4.3: a length out of range makes an option an unknown one.
@pytest.mark.parametrize("number, value", [
    (3, b""), (3, b"h" * 256), (7, b"abc"), (11, b"p" * 256),
    (15, b"q" * 256), (17, b"abc"), (23, b"abcd"), (27, b"abcd"),
    (35, b""), (35, b"p" * 1035), (39, b"s" * 256), (11, b"\xff")])
def test_a_critical_option_of_a_wrong_length_is_refused(number, value):
    with pytest.raises(CoapRefusal) as caught:
        coap_read_options(((number, value),))
    assert caught.value.code == "4.02"


@pytest.mark.parametrize("number, value", [
    (6, b"abcd"), (12, b"abc"), (14, b"abcde"), (28, b"abcde"), (4, b""),
    (4, b"123456789"), (60, b"12345"), (8, b"l" * 256), (292, b"123456789")])
def test_an_elective_option_of_a_wrong_length_is_ignored(number, value):
    assert coap_read_options(((number, value),)) == {}


@pytest.mark.parametrize("number", [7, 23, 27])
def test_a_critical_option_that_stands_twice_and_may_not_is_refused(number):
    with pytest.raises(CoapRefusal, match=f"option {number} "):
        coap_read_options(((number, b"\x06"), (number, b"\x06")))


def test_of_an_elective_option_that_stands_twice_the_first_counts():
    assert coap_read_options(((12, b"2"), (12, b"3"))) == {12: 50}


def test_the_largest_options_are_read():
    longest = {3: 255, 11: 255, 15: 255, 35: 1034, 39: 255}
    for number, size in longest.items():
        assert coap_read_options(((number, b"x" * size),))[number]


def same_question(ours, theirs, code=1):
    one, other = (coap_question(CoapMessage(0, code, 7, token, options))
                  for token, options in ((b"a", ours), (b"b", theirs)))
    return one == other


# Gotchas C1 and C2: what ties blocks together, and what keeps them apart.
@pytest.mark.parametrize("number, alike", [
    (4, True), (6, True), (23, True), (27, True), (28, True), (60, True),
    (11, False), (12, False), (15, False), (17, False), (292, False)])
def test_which_options_make_another_question(number, alike):
    path = (11, b"f")
    assert same_question((path, (number, b"\x01")), (path,)) == alike
    assert same_question((path, (number, b"\x01")),
                         (path, (number, b"\x02"))) == alike


def test_another_method_is_another_question():
    assert coap_question(CoapMessage(0, 1, 7)) != coap_question(
        CoapMessage(0, 2, 7))


def test_each_option_is_critical_where_the_rfc_says_so():
    critical = {rule.name for number, rule in faas.COAP_OPTIONS.items()
                if number & 1}
    assert critical == {"Uri-Host", "Uri-Port", "Uri-Path", "Uri-Query",
                        "Accept", "Block2", "Block1", "Proxy-Uri",
                        "Proxy-Scheme"}
    assert {rule.format for rule in faas.COAP_OPTIONS.values()} <= set(
        faas.COAP_FORMATS)


def test_a_message_has_256_options_at_most():
    head = bytes.fromhex("40010001")
    assert len(coap_decode(head + bytes(256)).options) == 256
    with pytest.raises(CoapError, match="more than 256"):
        coap_decode(head + bytes(257))
