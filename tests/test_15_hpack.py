"""Chapter 15.3: HPACK, with the examples of RFC 7541 and those of others."""

import glob
import gzip
import json
import os
import pathlib
import random
import subprocess
import sys

import pytest

import faas
from faas import HpackDecoder, HpackError, HpackTooLarge

VECTORS = pathlib.Path(__file__).resolve().parents[2] / "shared" / "vectors"
MUCH = 1 << 20


def load(name):
    """Read a file of vectors, or skip where there are none."""
    path = VECTORS / name
    if not path.exists():
        pytest.skip(f"the vectors are missing: put {name} into "
                    "../shared/vectors")
    text = path.read_bytes()
    return json.loads(gzip.decompress(text) if name.endswith("z") else text)


def octets(text):
    return bytes.fromhex(text)


def size_of(fields):
    """Add up fields as RFC 7541, 4.1, does."""
    return sum(32 + len(name) + len(value) for name, value in fields)


def check_table(decoder):
    """What is always true of a decoder, whatever it was sent."""
    assert decoder.table[:62] == faas.HPACK_STATIC
    assert decoder.size == size_of(decoder.table[62:]) <= decoder.room
    assert decoder.room <= decoder.limit


# Numbers (5.1) ---------------------------------------------------------------


@pytest.mark.parametrize("number, bits, wire", [
    (10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a"),      # C.1
    (0, 5, "00"), (30, 5, "1e"), (31, 5, "1f00"), (32, 5, "1f01"),
    (126, 7, "7e"), (127, 7, "7f00"), (254, 7, "7f7f"), (255, 7, "7f8001"),
    (15, 4, "0f00"), (127 + (1 << 28) - 1, 7, "7fffffff7f")])
def test_a_number_is_written_and_read(number, bits, wire):
    assert faas.hpack_number(number, bits) == octets(wire)
    assert faas.hpack_integer(octets(wire), 0, bits) == (
        number, len(octets(wire)))


def test_what_stands_above_a_number_is_none_of_it():
    assert faas.hpack_integer(octets("ff9a0a"), 0, 5) == (1337, 3)
    assert faas.hpack_number(1337, 5, 0x20) == octets("3f9a0a")


def test_a_number_may_be_longer_than_it_need_be_but_not_without_end():
    assert faas.hpack_integer(octets("7f80808000"), 0, 7) == (127, 5)
    with pytest.raises(HpackError, match="goes on after 4 bytes more"):
        faas.hpack_integer(octets("7f8080808000"), 0, 7)


# Huffman (5.2, appendix B) ---------------------------------------------------


@pytest.mark.parametrize("symbol, code, bits", [
    (0, 0x1ff8, 13), (9, 0xffffea, 24), (32, 0x14, 6), (48, 0x0, 5),
    (92, 0x7fff0, 19), (97, 0x3, 5), (122, 0x7b, 7), (127, 0xffffffc, 28),
    (193, 0x3ffffe1, 26), (255, 0x3ffffee, 26), (256, 0x3fffffff, 30)])
def test_codes_are_those_of_appendix_b(symbol, code, bits):
    assert faas.hpack_codes()[symbol] == f"{code:0{bits}b}"


def test_all_codes_are_those_that_another_implementation_has():
    other = pytest.importorskip(
        "hpack.huffman_constants",
        reason="the peer hpack: pip install h2 hpack protobuf")
    pairs = zip(other.REQUEST_CODES, other.REQUEST_CODES_LENGTH)
    assert [faas.hpack_codes()[symbol] for symbol in range(257)] == [
        f"{code:0{bits}b}" for code, bits in pairs]


def test_no_code_begins_another_and_none_is_left_over():
    codes = sorted(faas.hpack_codes().values())
    assert not any(longer.startswith(code)
                   for code, longer in zip(codes, codes[1:]))
    assert sum(2 ** (30 - len(code)) for code in codes) == 2 ** 30


def naive(data):
    """Decode bit by bit; None, where the padding is not as it must be."""
    symbols = {code: symbol for symbol, code in faas.hpack_codes().items()}
    code, text = "", ""
    for bit in "".join(f"{byte:08b}" for byte in data):
        code += bit
        if code in symbols:
            if symbols[code] == 256:
                return None
            text, code = text + chr(symbols[code]), ""
    return text if len(code) < 8 and "0" not in code else None


def test_every_byte_goes_into_huffman_code_and_back():
    for byte in range(256):
        for text in (bytes([byte]), bytes([97, byte, byte])):
            coded = faas.hpack_huffman(text)
            assert faas.hpack_unhuffman(coded) == text.decode("latin-1")
    assert faas.hpack_huffman(b"") == b"" and faas.hpack_unhuffman(b"") == ""


def test_halves_of_a_byte_say_the_same_as_bits():
    dice = random.Random(15)
    refused = 0
    for _ in range(4000):
        data = dice.randbytes(dice.randrange(12))
        if dice.random() < 0.5:     # Most random bytes are no text at all.
            data = faas.hpack_huffman(data) + data[:dice.randrange(2)]
        try:
            found = faas.hpack_unhuffman(data)
        except HpackError:
            found, refused = None, refused + 1
        assert found == naive(data), data.hex()
    assert 1000 < refused < 3000


@pytest.mark.parametrize("wire, why", [
    ("ff", "8 bits of padding"), ("1fff", "11 bits"), ("ffffff", "24 bits"),
    ("18", "padding of zeros"), ("1e", "padding that ends in a zero"),
    ("ffffffff", "EOS"), ("fffffffc18c6", "EOS, then aaa"),
    ("1ffffffffe", "a, then EOS")])
def test_padding_is_less_than_a_byte_of_ones_and_never_eos(wire, why):
    with pytest.raises(HpackError, match="padding"):
        faas.hpack_unhuffman(octets(wire))


def test_the_table_of_steps_is_made_when_the_first_text_arrives():
    told = subprocess.run(
        [sys.executable, "-c", "import faas\n"
         "print(faas.hpack_steps.cache_info().currsize)\n"
         "faas.hpack_unhuffman(b'\\x1f')\n"
         "print(faas.hpack_steps.cache_info().currsize)\n"],
        cwd=os.path.dirname(faas.__file__), capture_output=True, timeout=60)
    assert told.stdout.split() == [b"0", b"1"]


# The examples of appendix C --------------------------------------------------

GET = [(":method", "GET"), (":scheme", "http"), (":path", "/"),
       (":authority", "www.example.com")]
GETS = [GET, [*GET, ("cache-control", "no-cache")],
        [(":method", "GET"), (":scheme", "https"), (":path", "/index.html"),
         (":authority", "www.example.com"), ("custom-key", "custom-value")]]
DATES = [("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
         ("date", "Mon, 21 Oct 2013 20:13:22 GMT")]
PRIVATE = ("cache-control", "private")
WHERE = ("location", "https://www.example.com")
ANSWERS = [[(":status", "302"), PRIVATE, DATES[0], WHERE],
           [(":status", "307"), PRIVATE, DATES[0], WHERE],
           [(":status", "200"), PRIVATE, DATES[1], WHERE,
            ("content-encoding", "gzip"),
            ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; "
             "version=1")]]

# section: (table, [(block, fields, the table's size after it)])
APPENDIX_C = {
    "C.2.1": (4096, [("400a637573746f6d2d6b65790d637573746f6d2d686561646572",
                      [("custom-key", "custom-header")], 55)]),
    "C.2.2": (4096, [("040c2f73616d706c652f70617468",
                      [(":path", "/sample/path")], 0)]),
    "C.2.3": (4096, [("100870617373776f726406736563726574",
                      [("password", "secret")], 0)]),
    "C.2.4": (4096, [("82", [(":method", "GET")], 0)]),
    "C.3": (4096, [*zip((
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565"),
        GETS, (57, 110, 164))]),
    "C.4": (4096, [*zip((
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"),
        GETS, (57, 110, 164))]),
    "C.5": (256, [*zip((
        "4803333032580770726976617465611d4d6f6e2c203231204f63742032303133"
        "2032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d70"
        "6c652e636f6d",
        "4803333037c1c0bf",
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d"
        "54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f5049"
        "5541585157454f49553b206d61782d6167653d333630303b2076657273696f6e"
        "3d31"),
        ANSWERS, (222, 222, 215))]),
    "C.6": (256, [*zip((
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a6"
        "2d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        "4883640effc1c0bf",
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab"
        "77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f"
        "9587316065c003ed4ee5b1063d5007"),
        ANSWERS, (222, 222, 215))])}


@pytest.mark.parametrize("section", APPENDIX_C)
def test_the_examples_of_appendix_c(section):
    limit, blocks = APPENDIX_C[section]
    decoder = HpackDecoder(limit)
    for block, fields, size in blocks:
        assert decoder.decode(octets(block), MUCH) == fields
        assert decoder.size == size
        check_table(decoder)


def test_the_table_after_c_5_3_holds_the_newest_first():
    limit, blocks = APPENDIX_C["C.5"]
    decoder = HpackDecoder(limit)
    for block, _, _ in blocks:
        decoder.decode(octets(block))
    assert decoder.table[62:] == [ANSWERS[2][5], ANSWERS[2][4], DATES[1]]


def test_the_vectors_of_appendix_c_say_the_same():
    cases = load("rfc7541-appendix-c.json")
    for case in cases["integers"]:
        assert faas.hpack_integer(octets(case["wire"]), 0, case["prefix"])[
            0] == case["value"]
    for sequence in cases["sequences"]:
        decoder = HpackDecoder(sequence["table"])
        for block, fields, size in sequence["blocks"]:
            assert decoder.decode(octets(block)) == [
                tuple(field) for field in fields], sequence["id"]
            assert decoder.size == size
    for block, why in cases["must_fail"]:
        with pytest.raises(HpackError):
            HpackDecoder().decode(octets(block))
            pytest.fail(why)


# What must be refused --------------------------------------------------------


@pytest.mark.parametrize("block, why", [
    ("80", "no field 0"), ("be", "no field 62"), ("7e", "no field 62"),
    ("ff00", "no field 127"), ("ffffffff7f", "no field"),
    ("ffffffffffffffffffff01", "goes on"),
    ("ff8080808080808080808001", "goes on"),
    ("3fe21f", "a table of 4097 bytes is more than the 4096"),
    ("823fe11f", "size changes after a field"),
    ("8220", "size changes after a field"),
    ("00056162", "text of 5 bytes ends after its block"),
    ("40", "ends within a field"), ("7f", "ends within a field"),
    ("7f80", "ends within a field"), ("00811f", "ends within a field"),
    ("3f", "ends within a field"), ("000161", "ends within a field"),
    ("82ff", "ends within a field"), ("00821fff0162", "padding"),
    ("0081180162", "padding"), ("0084ffffffff0162", "padding"),
    ("0083ffffff0162", "padding")])
def test_a_block_that_cannot_be_understood_is_refused(block, why):
    with pytest.raises(HpackError, match=why):
        HpackDecoder().decode(octets(block))


def test_a_cut_block_gives_the_fields_before_the_cut_or_is_refused():
    blocks = [octets(block) for _, blocks in APPENDIX_C.values()
              for block, _, _ in blocks]
    for number, block in enumerate(blocks):
        known = HpackDecoder()      # so that no index is out of range
        for before in blocks[:number]:
            known.decode(before)
        table, size = known.table.copy(), known.size
        whole = known.decode(block)
        for cut in range(len(block)):
            decoder = HpackDecoder()
            decoder.table, decoder.size = table.copy(), size
            try:
                fields = decoder.decode(block[:cut])
            except HpackError:
                continue
            assert fields == whole[:len(fields)] and len(fields) < len(whole)


# The table (2.3, 4) ----------------------------------------------------------


def test_all_of_the_static_table_can_be_said_in_one_byte_each():
    fields = HpackDecoder().decode(bytes(range(0x81, 0x81 + 61)))
    assert fields == faas.HPACK_STATIC[1:] and len(fields) == 61
    assert fields[0] == (":authority", "")
    assert fields[15] == ("accept-encoding", "gzip, deflate")
    assert fields[60] == ("www-authenticate", "")


def test_the_static_table_is_that_of_another_implementation():
    other = pytest.importorskip(
        "hpack.table", reason="the peer hpack: pip install h2 hpack protobuf")
    assert faas.HPACK_STATIC[1:] == [
        (name.decode(), value.decode())
        for name, value in other.HeaderTable.STATIC_TABLE]


def literal(name, value, first=0x40, huffman=False):
    """Write a literal by hand; `first` says whether it is remembered."""
    def text(data):
        data = data.encode("latin-1")
        if huffman:
            return faas.hpack_number(len(coded := faas.hpack_huffman(data)),
                                     7, 0x80) + coded
        return faas.hpack_number(len(data), 7) + data
    return bytes([first]) + text(name) + text(value)


def test_the_oldest_fields_leave_when_the_table_is_full():
    decoder = HpackDecoder(limit=3 * 34)
    for letter in "abcd":
        decoder.decode(literal(letter, letter))
    assert decoder.table[62:] == [("d", "d"), ("c", "c"), ("b", "b")]
    assert decoder.decode(b"\xbe\xc0") == [("d", "d"), ("b", "b")]
    with pytest.raises(HpackError):
        decoder.decode(b"\xc1")


def test_a_field_larger_than_the_table_empties_it_and_is_no_error():
    decoder = HpackDecoder(limit=100)
    decoder.decode(literal("a", "b"))
    assert decoder.decode(literal("c", "d" * 68)) == [("c", "d" * 68)]
    assert (decoder.table[62:], decoder.size) == ([], 0)
    decoder.decode(literal("c", "d" * 67))              # which fits just so
    assert (decoder.table[62:], decoder.size) == ([("c", "d" * 67)], 100)


def test_a_name_may_be_that_of_a_field_which_leaves_for_it():
    decoder = HpackDecoder(limit=60)
    decoder.decode(literal("name", "v" * 20))
    assert decoder.decode(octets("7e0177")) == [("name", "w")]      # 62
    assert decoder.table[62:] == [("name", "w")]


def test_what_is_not_to_be_remembered_is_not():
    decoder = HpackDecoder()
    for first in (0x00, 0x10):
        assert decoder.decode(literal("a", "b", first)) == [("a", "b")]
    assert decoder.table == faas.HPACK_STATIC


def test_a_table_may_shrink_and_grow_within_the_limit():
    decoder = HpackDecoder(limit=4096)
    for letter in "abc":
        decoder.decode(literal(letter, letter))
    assert decoder.decode(octets("3f25")) == []         # 68 bytes: two fields
    assert decoder.table[62:] == [("c", "c"), ("b", "b")]
    # To nothing and back: how an encoder clears it (4.2).
    assert decoder.decode(octets("20 3fe11f 82")) == [(":method", "GET")]
    assert (decoder.table[62:], decoder.room) == ([], 4096)
    check_table(decoder)


def test_a_table_of_no_bytes_remembers_nothing():
    decoder = HpackDecoder(limit=0)
    assert decoder.decode(literal("a", "b")) == [("a", "b")]
    assert decoder.table == faas.HPACK_STATIC


def test_decoders_share_no_table():
    one, other = HpackDecoder(), HpackDecoder()
    one.decode(literal("a", "b"))
    assert other.table == faas.HPACK_STATIC
    assert len(faas.HPACK_STATIC) == 62


# How large it may be ---------------------------------------------------------


def test_fields_may_add_up_to_the_limit_and_not_to_a_byte_more():
    block, fields, _ = APPENDIX_C["C.5"][1][0]
    limit = size_of(fields)
    assert HpackDecoder().decode(octets(block), limit) == fields
    with pytest.raises(HpackTooLarge):
        HpackDecoder().decode(octets(block), limit - 1)


def test_a_bomb_costs_no_more_than_it_weighs():
    decoder = HpackDecoder()
    decoder.decode(literal("a", "x" * 4000))
    with pytest.raises(HpackTooLarge):
        decoder.decode(b"\xbe" * (16 << 10), 64 << 10)
    check_table(decoder)


# Our encoder -----------------------------------------------------------------


@pytest.mark.parametrize("fields, wire", [
    ([], ""),
    ([(":status", "200")], "88"),
    ([(":status", "302")], "08 03 333032"),
    ([("age", "")], "95"),
    ([("age", "7")], "0f06 01 37"),
    ([("grpc-status", "0")], "00 0b 677270632d737461747573 01 30"),
    ([("a", "\xff")], "00 01 61 01 ff"),
    ([("x", "y" * 127)], "00 01 78 7f00" + "79" * 127)])
def test_fields_are_written_from_the_static_table_or_as_they_are(fields, wire):
    assert faas.hpack_encode(fields) == octets(wire)


def test_what_we_write_is_read_and_remembered_by_nobody():
    dice = random.Random(7)
    decoder = HpackDecoder(limit=0)     # the poorest client there may be
    for _ in range(200):
        fields = fields_of(dice)
        assert decoder.decode(faas.hpack_encode(fields), MUCH) == fields
    assert decoder.table == faas.HPACK_STATIC


# Stories ---------------------------------------------------------------------


def fields_of(dice):
    """Make up the fields of one block; many come again and again."""
    names = ["a", "te", "lab", ":path", "user-agent", "x-" + "y" * 40]
    values = ["", "trailers", "a/b?c=d", "\xe9\0\xff", "z" * 300]
    return [dice.choice(faas.HPACK_STATIC[1:]) if dice.random() < 0.3 else
            (dice.choice(names), dice.choice(values) +
             (str(dice.randrange(50)) if dice.random() < 0.5 else ""))
            for _ in range(dice.randrange(12))]


class Encoder:
    """All that a client may do: a table of its own, of changing size."""

    def __init__(self, dice, limit=4096):
        self.dice, self.limit, self.room, self.table = dice, limit, limit, []

    def encode(self, fields):
        block = b"".join(self.resize() for _ in range(2)
                         if self.dice.random() < 0.1)
        return block + b"".join(map(self.field, fields))

    def resize(self):
        self.room = self.dice.choice([0, self.limit // 2, self.limit])
        self.forget()
        return faas.hpack_number(self.room, 5, 0x20)

    def forget(self):
        while size_of(self.table) > self.room:
            self.table.pop()

    def field(self, field):
        known = [*faas.HPACK_STATIC[1:], *self.table]
        if field in known and self.dice.random() < 0.8:
            return faas.hpack_number(known.index(field) + 1, 7, 0x80)
        names = [place for place, (name, _) in enumerate(known, 1)
                 if name == field[0]]
        first, bits = self.dice.choice([(0x40, 6), (0x10, 4), (0, 4)])
        whole = literal(*field, first, self.dice.random() < 0.5)
        if names and self.dice.random() < 0.8:
            value = literal("", field[1], 0, self.dice.random() < 0.5)[2:]
            whole = faas.hpack_number(self.dice.choice(names), bits,
                                      first) + value
        if first == 0x40:
            self.table.insert(0, field)
            self.forget()
        return whole


@pytest.mark.parametrize("seed", range(10))
def test_whatever_a_client_may_do_its_fields_arrive(seed):
    dice = random.Random(seed)
    limit = dice.choice([0, 200, 4096, 16384])
    encoder, decoder = Encoder(dice, limit), HpackDecoder(limit)
    for _ in range(60):
        fields = fields_of(dice)
        assert decoder.decode(encoder.encode(fields), MUCH) == fields
        assert decoder.table[62:] == encoder.table
        check_table(decoder)


def test_another_encoder_is_understood_and_another_decoder_understands():
    other = pytest.importorskip(
        "hpack", reason="the peer hpack: pip install h2 hpack protobuf")
    dice = random.Random(42)
    theirs, ours = other.Encoder(), HpackDecoder()
    reader = other.Decoder(max_header_list_size=MUCH)
    for number in range(300):
        if number % 50 == 20:
            theirs.header_table_size = dice.choice([0, 200, 4096])
        fields = fields_of(dice)
        raw = [(name.encode("latin-1"), value.encode("latin-1"))
               for name, value in fields]
        block = theirs.encode(raw, huffman=number % 2 == 0)
        assert ours.decode(block, MUCH) == fields
        check_table(ours)
        assert [(bytes(name), bytes(value)) for name, value in reader.decode(
            faas.hpack_encode(fields), raw=True)] == raw


def test_the_stories_of_nine_encoders():
    small = load("hpack/small.json.gz")
    headers = small["headers"]
    count = 0
    for encoder, stories in small["wires"].items():
        count += tell(stories, headers, encoder)
    assert count == 1224


def tell(stories, headers, encoder):
    """Decode the stories of one encoder; give the number of blocks."""
    count = 0
    for story, blocks in stories.items():
        decoder = HpackDecoder()
        for number, (limit, wire) in enumerate(blocks):
            if limit is not None:       # SETTINGS say so before this block.
                decoder.limit = limit
            fields = decoder.decode(octets(wire), MUCH)
            assert fields == [tuple(field) for field in headers[story][
                number]], (encoder, story, number)
            count += 1
        assert decoder.size == size_of(decoder.table[62:])
    return count


def test_all_47142_blocks_of_fourteen_encoders():
    headers = load("hpack/headers.json.gz")
    names = {os.path.basename(path) for path in glob.glob(
        str(VECTORS / "hpack" / "*.json.gz"))}
    names -= {"headers.json.gz", "small.json.gz"}
    counts = {name: tell(load(f"hpack/{name}"), headers, name)
              for name in names}
    assert len(counts) == 14 and sum(counts.values()) == 47142


# Malice ----------------------------------------------------------------------


def test_mutated_blocks_raise_nothing_but_the_two_errors():
    dice = random.Random(7541)
    encoder, outcomes = Encoder(dice), {}
    for _ in range(5000):
        decoder = HpackDecoder()
        block = bytearray(encoder.encode(fields_of(dice)) or b"\x82")
        for _ in range(dice.randrange(1, 4)):
            block[dice.randrange(len(block))] = dice.choice(
                [0, 1, 0x3f, 0x7f, 0x80, 0xff, dice.randrange(256)])
        del block[dice.randrange(1, len(block) + 1):]
        try:
            decoder.decode(bytes(block), 300)
            outcome = "read"
        except (HpackError, HpackTooLarge) as error:
            outcome = type(error).__name__
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        check_table(decoder)
    assert outcomes.keys() == {"read", "HpackError", "HpackTooLarge"}


def test_random_bytes_raise_nothing_but_the_two_errors():
    dice = random.Random(5)
    for _ in range(5000):
        decoder = HpackDecoder(dice.choice([0, 100, 4096]))
        try:
            decoder.decode(dice.randbytes(dice.randrange(40)), 500)
        except (HpackError, HpackTooLarge):
            pass
        check_table(decoder)
