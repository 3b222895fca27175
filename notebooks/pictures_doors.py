"""Pictures of the doors: CoAP, protobuf, HPACK and HTTP/2, from real bytes.

Made of the same marks as those in pictures.py, which says how they work.

    Ruler      what lies where              each byte coloured and named
    Bits       the same, bit by bit         one cell per bit
    Regroup    how a varint is built        sevens of bits, turned round
    Ladder     who said what, and when      arrows that may be lost
    Walk       how a Huffman code is read   one fork per bit
    Filling    what a table holds           one column per request
    Swim       who sent which frame         a lane for each stream
    Saw        how much may still be sent   a line that falls and jumps
    Wires      one call, four encodings     a bar for each, to scale

The fields of a ruler are found by `coap_fields`, `proto_spans`,
`hpack_spans` and `h2_spans`, which ask the decoders of faas.py, and
`allowance` counts what a stream may still send. Who says what is drawn here
is in peers.py.
"""

import copy
import math
import struct

import faas
from pictures import (COLOURS, CYCLE, FAINT, INK, PAPER, WIDTH, Picture,
                      arrow, box, line, text, ticks, wide)
from pictures_more import STRONG


# Rulers ---------------------------------------------------------------------

def levels(labels, size=11, gap=10):
    """Say how far down each label [(x, words), ...] must hang.

    Each hangs from its x by a thread. A label that reaches under a later
    thread must hang lower than that one's label, or they would cross.

    >>> levels([(0, "a long label"), (20, "b"), (200, "c")])
    [1, 0, 0]
    """
    found = [0] * len(labels)
    for i in reversed(range(len(labels))):
        x, words = labels[i]
        end = x + wide(words, size) + gap
        found[i] = max((found[j] + 1 for j in range(i + 1, len(labels))
                        if labels[j][0] < end), default=0)
    return found


class Ruler(Picture):
    """What lies where: bytes, and the fields [(size, name), ...] in them.

    A third item is the field's colour. Names hang below their first byte,
    as low as they must; a long message breaks into rows of `per_row`.

    >>> Ruler(b"\\0\\5hello", [(2, "size"), (5, "body")], "a string")
    <Ruler: a string>
    """

    CELL, PER_ROW, LEVEL = 36, 20, 15

    def __init__(self, data, fields=(), title="", per_row=None):
        self.cells = self.cells_of(data)
        self.title, self.per_row = title, per_row or self.PER_ROW
        self.fields, at = [], 0
        for i, field in enumerate(fields):
            size, name, colour = (*field, CYCLE[i % len(CYCLE)])[:3]
            self.fields.append((at, at + size, name, colour))
            at += size
        if at < len(self.cells):
            self.fields.append((at, len(self.cells), "", "plain"))

    @staticmethod
    def cells_of(data):
        """Give (above, below) for each cell: a byte in hex, and its letter.

        >>> Ruler.cells_of(b"a\\0")
        [('61', 'a'), ('00', '')]
        """
        return [(f"{byte:02x}", chr(byte) if 32 < byte < 127 else "")
                for byte in bytes(data)]

    def draw(self):
        marks, y, width = [], 0, 0
        for start in range(0, max(1, len(self.cells)), self.per_row):
            row, tall, reach = self.draw_row(start, y)
            marks += row
            y, width = y + tall, max(width, reach)
        return width, y, marks

    def draw_row(self, start, y):
        end = min(start + self.per_row, len(self.cells))
        marks, labels = [], []
        for first, last, name, colour in self.fields:
            for at in range(max(first, start), min(last, end)):
                marks += self.draw_cell(at, 10 + (at - start) * self.CELL, y,
                                        colour)
            if start <= max(first, start) < min(last, end):
                x = 10 + (max(first, start) - start) * self.CELL
                marks.append(text(x + 2, y + 6, max(first, start), size=9,
                                  fill=FAINT))
                if name and first >= start:
                    labels.append((x + 3, name))
        depth = levels(labels)
        for (x, name), level in zip(labels, depth):
            at = y + 64 + self.LEVEL * level
            if level:
                marks.append(line(x, y + 56, x, at - 7))
            marks.append(text(x, at, name, size=11, bold=True))
        reach = max([10 + (end - start) * self.CELL]
                    + [x + wide(name, 11) for x, name in labels])
        return marks, 76 + self.LEVEL * max(depth, default=-1), reach + 10

    def draw_cell(self, at, x, y, colour):
        above, below = self.cells[at]
        yield box(x, y + 14, self.CELL, 24, colour)
        yield text(x + self.CELL / 2, y + 26, above, "middle", 12)
        yield text(x + self.CELL / 2, y + 47, below, "middle", 11, FAINT)


class Bits(Ruler):
    """The same, bit by bit; fields are [(bits, name), ...].

    >>> Bits(b"\\x42", [(2, "version"), (2, "type"), (4, "token length")])
    <Bits: >
    """

    CELL, PER_ROW = 22, 32

    @staticmethod
    def cells_of(data):
        """Give a cell for each bit; below the first of a byte, its hex.

        >>> Bits.cells_of(b"\\x42")[:3]
        [('0', '42'), ('1', ''), ('0', '')]
        """
        return [(bit, "" if i else f"{byte:02x}") for byte in bytes(data)
                for i, bit in enumerate(f"{byte:08b}")]


def coap_fields(data):
    """Name the fields of a CoAP message, for a Ruler.

    How long an option is, is found by encoding the message without it.

    >>> coap_fields(bytes.fromhex("40017d34b174"))[-1]
    (2, 'Uri-Path t', 'four')
    """
    message = faas.coap_decode(data)
    size = len(message.token)
    fields = [(1, f"{KINDS[message.kind]}, token of {size}", "one"),
              (1, code_words(message.code), "two"),
              (2, f"message id {message.mid:04x}", "three"),
              (size, "token", "five")]
    bare = message._replace(options=(), payload=b"")
    before = len(faas.coap_encode(bare))
    for count, (number, value) in enumerate(message.options, 1):
        after = len(faas.coap_encode(bare._replace(
            options=message.options[:count])))
        fields.append((after - before, option_words(number, value), "four"))
        before = after
    if message.payload:
        fields += [(1, "marker", "wait"),
                   (len(message.payload), "payload", "good")]
    return [field for field in fields if field[0]]


KINDS = "CON NON ACK RST".split()
METHODS = "empty GET POST PUT DELETE FETCH PATCH iPATCH".split()


def code_words(code):
    """Write a code as a person does: a method, or class.detail.

    >>> code_words(1), code_words(0x45)
    ('GET', '2.05')
    """
    return (METHODS[code] if code < len(METHODS) else
            faas.coap_code_text(code))


def option_words(number, value):
    """Write an option with its name, as far as it has one.

    >>> option_words(11, b"shout"), option_words(65000, b"x")
    ('Uri-Path shout', 'option 65000 x')
    """
    known = faas.COAP_OPTIONS.get(number)
    name, form = known[:2] if known else (f"option {number}", "opaque")
    if form == "block":
        found = faas.coap_block_decode(value)
        return f"{name} {found.num}/{found.more:d}/{found.size}"
    if form == "uint":
        return f"{name} {int.from_bytes(value, 'big')}"
    return f"{name} {value.decode('latin-1')}" if all(
        32 <= byte < 127 for byte in value) else f"{name} {value.hex()}"


def proto_spans(data):
    """Name the fields of a protobuf message, for a Ruler.

    >>> proto_spans(bytes.fromhex("0a026869"))
    [(1, 'field 1, type 2', 'two'), (1, '2 bytes', 'one'), (2, '', 'good')]
    """
    spans, at = [], 0
    while at < len(data):
        tag, value = faas.varint_decode(data, at)
        spans.append((value - at, f"field {tag >> 3}, type {tag & 7}", "two"))
        _, end = faas.proto_value(data, value, tag & 7)
        if tag & 7 == 2:
            size, start = faas.varint_decode(data, value)
            spans.append((start - value, f"{size} bytes", "one"))
            value = start
        spans.append((end - value, "", "good"))
        at = end
    return [span for span in spans if span[0]]


def grpc_spans(data):
    """Name the five bytes before a message, and then its fields.

    >>> grpc_spans(bytes.fromhex("00000000040a026869"))[:2]
    [(1, 'as it is', 'warm'), (4, '4 bytes', 'three')]
    """
    flag, size = faas.GRPC_PREFIX.unpack_from(data)
    return [(1, "compressed" if flag else "as it is", "warm"),
            (4, f"{size} bytes", "three"), *proto_spans(data[5:5 + size])]


class Regroup(Picture):
    """How a varint is built: the sevens of a number's bits, turned round.

    >>> Regroup(300)
    <Regroup: 300 as a varint>
    """

    CELL = 22

    def __init__(self, number, title=""):
        self.number, self.data = number, faas.varint_encode(number)
        self.title = title or f"{number} as a varint"

    def draw(self):
        count, cell = len(self.data), self.CELL
        left, gap = 96, 44
        bits = f"{self.number:0{7 * count}b}"
        marks = [text(10, 15, "its bits"), text(10, 105, "its bytes")]
        for i in range(count):              # the most significant seven first
            x = left + i * (7 * cell + gap) + cell
            colour = CYCLE[(count - 1 - i) % len(CYCLE)]
            marks += self.draw_bits(bits[7 * i:7 * i + 7], x, 2, colour)
            to = left + (count - 1 - i) * (8 * cell + gap - cell) + cell
            marks.append(arrow(x + 3.5 * cell, 30, to + 3.5 * cell, 88))
        for i, byte in enumerate(self.data):
            x = left + i * (7 * cell + gap)
            colour = CYCLE[i % len(CYCLE)]
            marks += self.draw_bits(f"{byte:08b}"[:1], x, 92, "warm")
            marks += self.draw_bits(f"{byte:08b}"[1:], x + cell, 92, colour)
            marks += [text(x, 132, "more" if byte >> 7 else "last", size=11,
                           bold=True),
                      text(x + 8 * cell, 132, f"{byte:02x}", "end", 11,
                           FAINT)]
        return left + count * (7 * cell + gap) + cell + 10, 142, marks

    def draw_bits(self, bits, x, y, colour):
        for i, bit in enumerate(bits):
            yield box(x + i * self.CELL, y, self.CELL, 26, colour)
            yield text(x + (i + 0.5) * self.CELL, y + 13, bit, "middle", 12)


# Ladders --------------------------------------------------------------------

def kind_words(data):
    """Give a message's kind, and its code unless that is empty.

    >>> kind_words(bytes.fromhex("60457d34")), kind_words(b"p\\0\\0\\7")
    ('ACK 2.05', 'RST')
    """
    message = faas.coap_decode(data)
    code = code_words(message.code) if message.code else ""
    return f"{KINDS[message.kind]} {code}".rstrip()


def datagram_words(data):
    """Put a CoAP message into a few words, for a Ladder.

    >>> datagram_words(bytes.fromhex("60457d34ff") + b"22.3 C")
    'ACK 7d34 2.05 "22.3 C"'
    """
    message = faas.coap_decode(data)
    kind, *code = kind_words(data).split()
    words = [kind, f"{message.mid:04x}", *code]
    path = [value.decode() for number, value in message.options
            if number == 11]
    words += ["/" + "/".join(path)] if path else []
    words += [option_words(*option) for option in message.options
              if option[0] in (6, 23, 27, 28, 60)]
    said = message.payload.decode("latin-1")
    # Only what can be seen: a zero byte would be no XML.
    if said.isascii() and said.isprintable() and 0 < len(said) < 13:
        return f'{" ".join(words)} "{said}"'
    return " ".join(words) + (f", {len(said)} B" if said else "")


class Ladder(Picture):
    """Who said what, and when: [(sent, arrives, from the left?, words)].

    `arrives` is None for what is lost; words may be the bytes of a datagram.
    Notes [(when, words)] stand at the right. Time runs downwards, and long
    silences are drawn shorter than they are.

    >>> Ladder([(0, 0.1, True, "hello"), (2, None, False, "hi")], "a talk")
    <Ladder: a talk>
    """

    STEP = 21

    def __init__(self, heard, title="", notes=(), actors=("client",
                                                          "server")):
        self.heard = [(sent, there, ours, words if isinstance(words, str)
                       else datagram_words(words))
                      for sent, there, ours, words in heard]
        self.title, self.notes, self.actors = title, list(notes), actors

    @classmethod
    def of(cls, air, title=""):
        """Draw all that was said in an Air."""
        return cls(air.heard, title, air.notes)

    def draw(self):
        self.lay_out()
        gap = max([300] + [wide(words, 11) + 60 for *_, words in self.heard])
        self.left = 62 + wide(self.actors[0]) / 2
        self.right = self.left + gap
        marks = self.draw_lines()
        for i, (_, there, ours, words) in enumerate(self.heard):
            marks += self.draw_arrow(self.y["sent", i], self.y.get(
                ("there", i)), ours, words)
        for i, (_, words) in enumerate(self.notes):
            marks.append(text(self.right + 12, self.y["note", i], words,
                              size=11))
        room = max([wide(self.actors[1]) / 2 + 10]
                   + [wide(words, 11) + 12 for _, words in self.notes])
        return self.right + room + 10, self.floor, marks

    def lay_out(self):
        """Give each happening a y: a step each, and more after a silence."""
        happenings = [(sent, 2, "sent", i)
                      for i, (sent, *_) in enumerate(self.heard)]
        happenings += [(there, 0, "there", i) for i, (_, there, *_)
                       in enumerate(self.heard) if there is not None]
        happenings += [(when, 1, "note", i)
                       for i, (when, _) in enumerate(self.notes)]
        self.y, self.times, y, before = {}, [], 46, None
        for when, order, what, i in sorted(happenings):
            same = before is not None and when - before[0] < 1e-6
            if before is not None:
                y += (14 if order != before[1] else self.STEP) if same else (
                    self.STEP + min(34, 14 * (when - before[0])))
            if not same and (not self.times or y - self.times[-1][1] > 12):
                self.times.append((when, y))
            self.y[what, i], before = y, (when, order)
        self.floor = y + 40

    def draw_lines(self):
        marks = []
        for x, actor in zip((self.left, self.right), self.actors):
            w = wide(actor) + 20
            marks += [line(x, 28, x, self.floor, dashed=True),
                      box(x - w / 2, 2, w, 26), text(x, 15, actor, "middle")]
        marks += [text(44, y, f"{when:.2f}", "end", 10, FAINT)
                  for when, y in self.times]
        return marks + [text(44, 15, "s", "end", 10, FAINT)]

    def draw_arrow(self, sent, there, ours, words):
        start, end = (self.left, self.right) if ours else (
            self.right, self.left)
        y = there
        if there is None:
            end, y = start + 0.8 * (end - start), sent + 0.8 * self.STEP
            yield (f'<path d="M{end - 7:.1f} {y - 7:.1f}l14 14m0 -14l-14 14" '
                   f'stroke="{STRONG["bad"]}" stroke-width="3"/>')
        yield arrow(start, sent, end, y)
        turn = math.degrees(math.atan2(y - sent, end - start))
        turn += 0 if ours else 180
        x, y = (self.left + self.right) / 2, (sent + (there or y)) / 2
        if there is None:
            x, y = (start + end) / 2, sent + 0.4 * self.STEP
        yield (f'<g transform="rotate({turn:.2f} {x:.1f} {y:.1f})">'
               + text(x, y - 8, words, "middle", 11) + "</g>")


# HPACK ----------------------------------------------------------------------

def hpack_spans(data, decoder=None):
    """Cut a header block into its representations: [(size, words), ...].

    Each prefix that a decoder takes without complaint ends at a border.

    >>> hpack_spans(bytes.fromhex("8286"))
    [(1, ':method GET'), (1, ':scheme http')]
    """
    spans, start, known = [], 0, 0
    for end in range(1, len(data) + 1):
        try:
            fields = fresh(decoder).decode(data[:end], 1 << 20)
        except faas.HpackError:
            continue
        words = " ".join(fields[-1]) if len(fields) > known else "table size"
        spans.append((end - start, words))
        start, known = end, len(fields)
    return spans


def fresh(decoder):
    """Give a decoder that knows what that one knows, and is another."""
    return copy.deepcopy(decoder) if decoder else faas.HpackDecoder()


class Walk(Picture):
    """How a letter's Huffman code is read: a fork for each bit.

    A box says which symbols are still possible, and how many if they are
    many; the way that is taken is drawn in ink.

    >>> Walk("a")
    <Walk: a is 00011>
    """

    STEP, ASIDE, SIZE = 46, 82, 11

    def __init__(self, letter, title=""):
        self.codes = faas.hpack_codes()
        self.bits = self.codes[ord(letter)]
        self.title = title or f"{letter} is {self.bits}"

    def under(self, bits):
        """Say which symbols lie below a node."""
        there = [symbol for symbol, code in self.codes.items()
                 if code.startswith(bits)]
        letters = ["space" if symbol == 32 else chr(symbol)
                   if 32 < symbol < 127 else f"{symbol:02x}"
                   for symbol in sorted(there)]
        return " ".join(letters) if len(letters) < 11 else (
            f"{len(letters)} symbols")

    def draw(self):
        xs = [0]
        for bit in self.bits:
            xs.append(xs[-1] + (self.ASIDE if bit == "1" else -self.ASIDE))
        names = [self.under(self.bits[:i]) for i in range(len(xs))]
        others = [self.under(self.bits[:i] + "10"[int(bit)])
                  for i, bit in enumerate(self.bits)]
        asides = [2 * x - after for x, after in zip(xs, xs[1:])]
        low = min(x - wide(name, 11) / 2 for x, name in
                  zip(xs + asides, names + others)) - 20
        marks, boxes = [], []
        for i, bit in enumerate(self.bits):
            x, y = xs[i] - low, 16 + i * self.STEP
            for to, name, taken in ((xs[i + 1], names[i + 1], True),
                                    (asides[i], others[i], False)):
                to, word = to - low, bit if taken else "10"[int(bit)]
                marks += [line(x, y + 12, to, y + self.STEP - 12,
                               INK if taken else COLOURS["wait"]),
                          text((x + to) / 2 + (9 if to > x else -9),
                               y + self.STEP / 2 - 4, word, "middle", 11,
                               INK if taken else FAINT, taken)]
                boxes += self.draw_node(to, y + self.STEP, name, (
                    "good" if i == len(self.bits) - 1 else "one")
                    if taken else PAPER, INK if taken else FAINT)
        boxes += self.draw_node(-low, 16, names[0], "one", INK)
        width = max(x + wide(name, 11) / 2 for x, name in
                    zip(xs + asides, names + others)) - low + 20
        return width, 34 + len(self.bits) * self.STEP, marks + boxes

    def draw_node(self, x, y, name, colour, ink):
        w = wide(name, self.SIZE) + 14
        yield box(x - w / 2, y - 12, w, 24, colour, COLOURS["wait"]
                  if ink == FAINT else FAINT)
        yield text(x, y, name, "middle", self.SIZE, ink)


def huffman_spans(word):
    """Name the bits of a text in Huffman code, for Bits.

    >>> huffman_spans("a")
    [(5, 'a'), (3, 'ones', 'wait')]
    """
    spans = [(len(faas.hpack_codes()[ord(letter)]), letter)
             for letter in word]
    rest = -sum(size for size, _ in spans) % 8
    return spans + ([(rest, "ones", "wait")] if rest else [])


class Filling(Picture):
    """What a table holds after each block: [(words, size, entries), ...].

    Entries are (name, value), the newest first, as their indices are. What
    a block has added is drawn in its own colour from then on.

    >>> Filling("one", [("GET /", 20, [("a", "b")])])
    <Filling: one>
    """

    ROW, CELL = 36, 226

    def __init__(self, title="", steps=(), first=62):
        self.title, self.steps, self.first = title, list(steps), first

    def note(self, words, block, decoder):
        """Let a decoder read a block; add its table then as a step."""
        decoder.decode(block)
        self.steps.append((words, len(block), decoder.table[self.first:]))

    def draw(self):
        marks, colour, known = [], {}, 0
        most = max(len(entries) for _, _, entries in self.steps)
        cell = max([self.CELL] + [wide(clip(part, 30), 11) + 52
                                  for _, _, entries in self.steps
                                  for entry in entries for part in entry])
        for i, (words, size, entries) in enumerate(self.steps):
            x = 10 + i * (cell + 10)
            marks += [text(x, 8, words, bold=True),
                      text(x, 26, f"{size} bytes", size=11, fill=FAINT)]
            for row, entry in enumerate(entries):
                shade = colour.setdefault(entry, CYCLE[i % len(CYCLE)])
                marks += self.draw_entry(x, 42 + row * self.ROW, cell, entry,
                                         self.first + row, shade)
            if not entries:
                marks.append(text(x, 56, "(empty)", size=11, fill=FAINT))
        return (10 + len(self.steps) * (cell + 10), 46 + most * self.ROW,
                marks)

    def draw_entry(self, x, y, w, entry, index, colour):
        name, value = entry
        yield box(x, y, w, self.ROW - 4, colour)
        yield text(x + 26, y + 16, index, "end", 11, FAINT)
        yield text(x + 36, y + 9, clip(name, 30), size=11, bold=True)
        yield text(x + 36, y + 23, clip(value, 30), size=11)


def clip(words, most):
    """Cut a text that is longer, and show that it was cut.

    >>> clip("abcdef", 4)
    'abc…'
    """
    return words if len(words) <= most else words[:most - 1] + "…"


# HTTP/2 ---------------------------------------------------------------------

ERRORS = (                  # by number (RFC 9113, section 7)
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM",
    "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED")
SETTINGS = {1: "table", 2: "push", 3: "streams", 4: "window", 5: "frame",
            6: "list"}


def h2_spans(data):
    """Name the parts of frames, for a Ruler: [(size, words, colour), ...].

    >>> h2_spans(bytes.fromhex("000000040100000000"))[1]
    (1, 'SETTINGS', 'two')
    """
    spans = []
    for kind, stream, flags, payload in faas.h2_frames(data):
        if kind == "PREFACE":
            spans.append((len(faas.H2_PREFACE), "the preface", "wait"))
            continue
        spans += [(3, f"{len(payload)} bytes", "one"), (1, kind, "two"),
                  (1, " ".join(flags.split()) or "no flags", "warm"),
                  (4, f"stream {stream}", "four"),
                  (len(payload), "payload", "good")]
    return [span for span in spans if span[0]]


class Swim(Picture):
    """Who sent which frame: [(from the client?, bytes), ...].

    Each stream has a lane and a colour, and the connection has one, too;
    each frame is an arrow that passes through its lane. A line at the end
    of a box is END_STREAM.

    >>> Swim([(True, bytes.fromhex("000000040000000000"))], "one frame")
    <Swim: one frame>
    """

    ROW, SIZE = 30, 11

    def __init__(self, heard, title="", most=60, connection=True):
        self.title, self.rows = title, []
        readers, block = {True: faas.HpackDecoder(),
                          False: faas.HpackDecoder()}, b""
        for *_, ours, data in heard:
            for kind, stream, flags, payload in faas.h2_frames(data):
                words = f"{kind} {detail(kind, flags, payload)}".rstrip()
                if kind in ("HEADERS", "CONTINUATION"):
                    block += bare(flags, payload)
                    if "END_HEADERS" in flags:
                        words += field_words(readers[ours].decode(block))
                        block = b""
                if stream or connection:
                    self.rows.append((ours, stream, clip(words, 52),
                                      "END_STREAM" in flags))
        self.left_out = max(0, len(self.rows) - most)
        self.rows = self.rows[:most]

    def draw(self):
        lanes, right = self.lay_out()
        floor = 40 + self.ROW * len(self.rows)
        marks = []
        for actor, at in (("client", 40), ("server", right)):
            w = wide(actor, 12) + 12
            marks += [line(at, 28, at, floor, dashed=True),
                      box(at - w / 2, 4, w, 24),
                      text(at, 16, actor, "middle", 12)]
        for stream, (x, w, _) in lanes.items():
            name = f"stream {stream}" if stream else "connection"
            marks.append(text(x + w / 2, 16, name, "middle", 12, bold=True))
        for row, (ours, stream, words, ends) in enumerate(self.rows):
            y = 48 + row * self.ROW
            marks.append(arrow(40, y, right, y) if ours else
                         arrow(right, y, 40, y))
            marks += self.draw_frame(y, *lanes[stream], words, ends)
        if self.left_out:
            marks.append(text(74, floor + 8, f"and {self.left_out} more",
                              size=11, fill=FAINT))
        return right + 40, floor + (20 if self.left_out else 0), marks

    def lay_out(self):
        """Give {stream: (x, width, colour)}, and where the server is."""
        lanes, x = {}, 74
        for stream in sorted({row[1] for row in self.rows}):
            w = 22 + max([wide("connection", 12)] + [
                wide(words, self.SIZE) for _, one, words, _ in self.rows
                if one == stream])
            lanes[stream] = x, w, (CYCLE[len(lanes.keys() - {0}) % len(CYCLE)]
                                   if stream else "plain")
            x += w + 12
        return lanes, x + 24

    def draw_frame(self, y, x, w, colour, words, ends):
        yield box(x, y - 11, w, 22, colour)
        yield text(x + 9, y, words, size=self.SIZE)
        if ends:
            yield box(x + w - 7, y - 11, 7, 22, FAINT)


def bare(flags, payload):
    """Take padding and priority off a HEADERS payload (RFC 9113, 6.2)."""
    if "PADDED" in flags:
        payload = faas.h2_unpad(payload)
    return payload[5:] if "PRIORITY" in flags else payload


def field_words(fields):
    """Choose the field of a block that says most.

    >>> field_words([(":method", "GET"), (":path", "/shout")])
    ' :path /shout'
    """
    for name in (":path", ":status", "grpc-status"):
        if name in dict(fields):
            return f" {name} {dict(fields)[name]}"
    return ""


def detail(kind, flags, payload):
    """Say what is in a frame, if it is no block of fields."""
    if kind == "DATA":
        letters = "".join(chr(byte) if 31 < byte < 127 else "·"
                          for byte in payload[:12])
        return f"{len(payload)} {letters}"
    if "ACK" in flags:
        return "ACK"
    if kind == "SETTINGS":
        pairs = struct.iter_unpack(">HI", payload)
        return ", ".join(f"{SETTINGS.get(key, key)} {round_size(value)}"
                         for key, value in pairs)
    if kind == "WINDOW_UPDATE":
        return f"+{int.from_bytes(payload, 'big')}"
    if kind in ("RST_STREAM", "GOAWAY"):
        code = int.from_bytes(payload[4 * (kind == "GOAWAY"):][:4], "big")
        return ERRORS[code]
    return ""


def round_size(number):
    """Write a number shorter where it is a round one.

    >>> round_size(1 << 20), round_size(65535), round_size(100)
    ('1M', '65535', '100')
    """
    for unit, size in (("M", 1 << 20), ("k", 1 << 10)):
        if number >= size and number % size == 0:
            return f"{number // size}{unit}"
    return str(number)


def allowance(heard, stream, start):
    """Count what the server may still send: [(when, bytes), ...].

    `heard` is that of a Cable; `stream` is 0 for the connection. The count
    begins at `start`.
    """
    left, points = start, [(0.0, start)]
    for when, ours, data in heard:
        for kind, one, _, payload in faas.h2_frames(data):
            if kind == "DATA" and not ours and stream in (0, one):
                left -= len(payload)
            elif kind == "WINDOW_UPDATE" and ours and one == stream:
                left += int.from_bytes(payload, "big")
            else:
                continue
            points.append((when, left))
    return points


class Saw(Picture):
    """How much, over time: {name: [(when, value), ...]}, drawn in steps.

    >>> Saw({"stream 1": [(0, 100), (1, 0), (2, 50)]}, "a window")
    <Saw: a window>
    """

    HEIGHT, INKS = 200, ("#3b6fb6", "#b3541e", "#3f8f4f", "#8a4f9e")

    def __init__(self, lines, title="", unit="ms", y="bytes"):
        self.lines, self.title, self.unit, self.y = lines, title, unit, y

    def draw(self):
        points = [point for line in self.lines.values() for point in line]
        self.until = max(when for when, _ in points) or 1
        self.most = max(value for _, value in points) or 1
        self.least = min(0, *(value for _, value in points))
        self.left = 30 + max(wide(f"{tick:g}", 11) for tick in self.rungs())
        self.right = WIDTH - 40
        marks = self.draw_axes()
        for i, (name, steps) in enumerate(self.lines.items()):
            marks += self.draw_line(steps, self.INKS[i % 4])
            x = self.left + 6 + 190 * i
            marks += [box(x, 2, 14, 10, self.INKS[i % 4], "none"),
                      text(x + 20, 7, name, size=11)]
        return WIDTH, self.HEIGHT + 60, marks

    def rungs(self):
        return [*ticks(self.most)] + [-tick for tick in ticks(-self.least)
                                      if tick and self.least < 0]

    def place(self, when, value):
        return (self.left + when / self.until * (self.right - self.left),
                22 + self.HEIGHT * (self.most - value)
                / (self.most - self.least))

    def draw_axes(self):
        marks = []
        for tick in self.rungs():
            y = self.place(0, tick)[1]
            marks += [line(self.left, y, self.right, y, COLOURS["wait"]),
                      text(self.left - 6, y, f"{tick:g}", "end", 11, FAINT)]
        floor = 22 + self.HEIGHT
        for tick in ticks(self.until):
            x = self.place(tick, 0)[0]
            marks += [line(x, 22, x, floor, COLOURS["wait"]),
                      text(x, floor + 13, f"{tick:g}", "middle", 11, FAINT)]
        return marks + [text(WIDTH - 4, floor + 28, self.unit, "end", 11,
                             FAINT),
                        text(10, 7, self.y, size=11, fill=FAINT)]

    def draw_line(self, steps, ink):
        """Keep the value until it changes: a count does not glide."""
        x, y = self.place(*steps[0])
        path = f"M{x:.1f} {y:.1f}"
        for when, value in [*steps[1:], (self.until, steps[-1][1])]:
            x, y = self.place(when, value)
            path += f"H{x:.1f}V{y:.1f}"
        yield (f'<path d="{path}" fill="none" stroke="{ink}" '
               'stroke-width="2"/>')


# All doors ------------------------------------------------------------------

class Wires(Picture):
    """One call in several encodings: {name: [(words, bytes), ...]}.

    What all of them must carry is painted where it lies: `shared` is
    {words: (bytes, colour)}. Lengths are to scale.

    >>> Wires({"a": [("question", b"GET shout")]},
    ...       {"name": (b"shout", "one")}, "one wire")
    <Wires: one wire>
    """

    STEP = 30

    def __init__(self, wires, shared, title=""):
        self.wires, self.shared, self.title = wires, shared, title

    def draw(self):
        rows = [(name if i == 0 else "", words, bytes(data))
                for name, sent in self.wires.items()
                for i, (words, data) in enumerate(sent)]
        most = max(len(data) for _, _, data in rows)
        first = 24 + max(wide(name) for name, _, _ in rows)
        left = first + 14 + max(wide(words, 11) for _, words, _ in rows)
        self.scale = (WIDTH - left - 76) / most
        marks, y = self.draw_legend(first), 26
        for name, words, data in rows:
            y += 8 if name else 0
            marks += [text(10, y + self.STEP / 2, name, bold=True),
                      text(first, y + self.STEP / 2, words, size=11)]
            marks += self.draw_bar(left, y + 3, data)
            y += self.STEP
        return WIDTH, y + 4, marks

    def draw_legend(self, x):
        marks = []
        for words, (_, colour) in [*self.shared.items(),
                                   ("all else", ("", "plain"))]:
            marks += [box(x, 2, 14, 14, colour), text(x + 20, 9, words,
                                                      size=11)]
            x += 40 + wide(words, 11)
        return marks

    def draw_bar(self, x, y, data):
        tall = self.STEP - 6
        yield box(x, y, len(data) * self.scale, tall, "plain")
        for part, colour in self.shared.values():
            at = data.find(part)
            if at >= 0:
                yield box(x + at * self.scale, y, len(part) * self.scale,
                          tall, STRONG.get(colour, colour))
        yield text(x + len(data) * self.scale + 8, y + tall / 2,
                   f"{len(data)} B", size=11)
