"""Pictures of conversations: what crosses between two parties, byte by byte.

Made of the same marks as those in pictures.py, which says how they work.

    Cards      who sent which bytes         one card per message, in turns
    Contracts  how the nine tongues differ  one row per tongue
    Doorway    what a process is given      in on the left, out on the right
    Columns    several talks at a glance    one column per talk
    Grid       what became of each case     a table with painted cells
    Routes     what each face serves        one line per route
    Blocks     how a tar is built           a strip, and what lacks of it
    Tail       the end of it, in bytes      a ruler that goes on past it
    Cuts       where a message may be cut   one thin bar per place
    Paths      which methods a path has     a dot for each
    Beside     two pictures in a row

A Tap is a socket that writes down what passes, and a Wire does so between the
platform and a server. Witness is a Worker with a Tap on its socket, and
`frames_of` gives the frames that passed. `ladder` draws them in short,
`crossing` byte by byte, and `talk` does the same for HTTP; `rivals` draws two
workers at once, and `story_page` an error as its author reads it. `still`
makes what differs from run to run the same in all.
"""

import contextlib
import re
import select
import socket
import textwrap
import threading

import faas
from pictures import (COLOURS, FAINT, INK, PAPER, WIDTH, Picture, Sequence,
                      arrow, box, line, text, wide)
from pictures_more import STRONG, Page, dot, told


# Listening ------------------------------------------------------------------

class Tap(socket.socket):
    """A socket that remembers what went out of it and what came in.

    >>> ours, theirs = socket.socketpair()
    >>> tap = Tap(ours)
    >>> tap.sendall(b"hi"), theirs.sendall(b"yes"), tap.recv(9)
    (None, None, b'yes')
    >>> tap.heard, tap.close(), theirs.close()
    ([(True, b'hi'), (False, b'yes')], None, None)
    """

    def __init__(self, link):
        patience = link.gettimeout()
        super().__init__(link.family, link.type, link.proto, link.detach())
        self.settimeout(patience)
        self.heard = []             # (did we send it?, the bytes)

    def send(self, data, flags=0):
        size = super().send(data, flags)
        self.heard.append((True, bytes(data[:size])))
        return size

    def sendall(self, data, flags=0):
        self.heard.append((True, bytes(data)))
        return super().sendall(data, flags)

    def recv(self, size, flags=0):
        data = super().recv(size, flags)
        self.heard.append((False, data))
        return data


class Witness(faas.Worker):
    """A Worker whose channel is tapped before it says hello."""

    def exchange(self, data, deadline):
        if not isinstance(self.channel, Tap):
            self.channel = Tap(self.channel)
        return super().exchange(data, deadline)

    def heard(self):
        """Give the frames since the last time, as frames_of does."""
        found = frames_of(self.channel)
        self.channel.heard.clear()
        return found


def frames_of(tap):
    """Give (did we send it?, Frame) for each frame that passed a Tap."""
    readers = {way: faas.FrameReader(1 << 30) for way in (True, False)}
    return [(ours, frame) for ours, data in tap.heard
            for frame in readers[ours].receive(data)]


class Wire(threading.Thread):
    """A connection to a server of faas.py that remembers what passes.

    It takes the place of the server's port, and passes one connection on.
    """

    def __init__(self, server):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, server.port = server.port, self.listener.getsockname()[1]
        self.heard = []             # (did the platform send it?, the bytes)
        self.start()

    def run(self):
        with contextlib.suppress(OSError), self.listener, \
                self.listener.accept()[0] as ours, \
                socket.create_connection(("127.0.0.1", self.port)) as theirs:
            others, data = {ours: theirs, theirs: ours}, True
            while data:
                for link in select.select([ours, theirs], [], [])[0]:
                    data = link.recv(65536)
                    self.heard.append((link is ours, data))
                    others[link].sendall(data)

    def both(self):
        """Give all that was asked, and all that was answered."""
        self.join(9)
        return [b"".join(data for ours, data in self.heard if ours is way)
                for way in (True, False)]


SEEN = {}       # an id that was drawn: what stands for it


def still(data):
    """Put fixed ids, dates and times in place of those of this run.

    The same id is replaced by the same one wherever it comes.

    >>> still(b"Date: Fri, 20 Nov 2026 08:50:39 GMT")
    b'Date: Sun, 06 Nov 1994 08:49:37 GMT'
    """
    data = re.sub(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT",
                  b"Sun, 06 Nov 1994 08:49:37 GMT", data)
    data = re.sub(rb"dur=\d+\.\d{3}", b"dur=0.100", data)
    data = re.sub(rb"(_at\": ?)\d{10}", rb"\g<1>0784111777", data)
    data = re.sub(rb"(Duration-Ms: )\d+", rb"\g<1>0", data)
    return re.sub(rb"\b0[0-9a-f]{19}\b|(?<=ver_)0[0-9a-f]{19}(?=_)",
                  lambda m: SEEN.setdefault(
                      m[0], b"01a1f8b0490b8536d%03d" % (len(SEEN) + 1)),
                  data)


# Cards ----------------------------------------------------------------------

def words_of(data, most=0):
    """Write bytes as text, each as one letter; of long ones, the ends.

    >>> words_of(b"a\\xff b"), words_of(b"0123456789" * 9, 40)
    ('a· b', '01234567890 … 68 bytes … 90123456789')
    """
    words = "".join(chr(byte) if 31 < byte < 127 else "·" for byte in data)
    if not most or len(words) <= most:
        return words
    end = (most - 18) // 2
    return (f"{words[:end]} … {len(words) - 2 * end} bytes … "
            f"{words[-end:]}")


class Cards(Picture):
    """Who sent which bytes: a card for each message, on its sender's side.

    A message is (from the left?, rows); a row is a list of cells (words,
    colour, caption); a caption may be empty. An offset may stand before a
    row, as an int in place of its first cell.

    >>> Cards(("we", "it"), [(True, [[("hi", "one", "body")]])], "a word")
    <Cards: a word>
    """

    CARD, SIZE, LINE = 640, 11, 15

    def __init__(self, actors, messages, title="", card=CARD):
        self.actors, self.messages = actors, list(messages)
        self.title, self.card = title, card

    def draw(self):
        width = self.card + 110
        marks = [box(10, 2, wide(self.actors[0]) + 20, 24),
                 text(20, 14, self.actors[0]),
                 box(width - 20 - wide(self.actors[1]), 2,
                     wide(self.actors[1]) + 20, 24),
                 text(width - 10, 14, self.actors[1], "end")]
        y = 36
        for ours, rows in self.messages:
            x = 10 if ours else width - self.card
            start, y = y, y + 6
            for row in rows:
                pieces, tall = self.draw_row(x + 6, y, row)
                marks += pieces
                y += tall
            y += 4
            marks.insert(0, box(x, start, self.card, y - start, PAPER))
            middle = (start + y) / 2
            tip = (x + self.card, x + self.card + 84) if ours else (
                x, x - 84)
            marks.append(arrow(tip[0], middle, tip[1], middle))
            y += 12
        return width + 10, y, marks

    def draw_row(self, x, y, row):
        marks, tall = [], 0
        if row and isinstance(row[0], int):
            marks.append(text(x + 22, y + 9, row[0], "end", 9, FAINT))
            row = row[1:]
            x += 28
        for cell in row:
            words, colour, caption = (*cell, "", "")[:3]
            room = self.card - 44 if len(row) == 1 else 10_000
            lines = textwrap.wrap(words, int(room / (self.SIZE * 0.6)),
                                  drop_whitespace=False) or [""]
            w = max(wide(one, self.SIZE) for one in lines) + 8
            high = len(lines) * self.LINE + 4
            if colour:
                marks.append(box(x, y, w, high - 1, colour, "none"))
            marks += [text(x + 4 + column * self.SIZE * 0.6,
                           y + 9 + i * self.LINE, piece, size=self.SIZE)
                      for i, one in enumerate(lines)
                      for column, piece in apart(one)]
            beside = caption and len(row) == 1 and (
                w + wide(caption, 10) + 12 < room)
            if beside:
                marks.append(text(x + w + 6, y + 9, caption, size=10,
                                  fill=FAINT))
            elif caption and len(row) > 1:
                marks.append(text(x + 4, y + high + 6, caption, size=10,
                                  fill=FAINT))
                high += 15
            x += max(w, 0 if beside else wide(caption, 10) + 8) + 4
            tall = max(tall, high)
        return marks, tall + 1


def apart(words):
    """Cut at spaces, with columns: SVG folds several spaces into one.

    >>> apart("a  b")
    [(0, 'a'), (3, 'b')]
    """
    if "  " not in words and words[:1] != " ":
        return [(0, words)]
    return [(found.start(), found[0]) for found in re.finditer(r"\S+", words)]


VERBS = {b"H": "hello", b"C": "a call", b"R": "its result", b"E": "a failure",
         b"Q": "a question", b"A": "its answer", b"L": "a line for the log"}


def frame_rows(frame, most):
    """Make the rows of a frame's card: its numbers, its meta, its body."""
    data = still(faas.frame_encode(frame))
    size, number, verb, m = faas.FRAME.unpack_from(data)
    rows = [[0, (data[:4].hex(" "), "one", f"size {size}"),
             (data[4:8].hex(" "), "two", f"id {number}"),
             (data[8:9].hex(), "warm", f"{verb.decode()}, {VERBS[verb]}"),
             (data[9:13].hex(" "), "four", f"meta is {m}")]]
    rows.append([13, (words_of(data[13:13 + m], most), "four", "meta")])
    if data[13 + m:]:
        rows.append([13 + m, (words_of(data[13 + m:], most), "three",
                              "body")])
    return rows


def crossing(frames, title="", most=2000):
    """Draw frames byte by byte, as they crossed a worker's socket."""
    return Cards(("platform", "worker"), [
        (ours, frame_rows(frame, most)) for ours, frame in frames], title)


def http_rows(data, most=190):
    """Make the rows of an HTTP message's card: lines, and then the body."""
    head, _, body = data.partition(b"\r\n\r\n")
    rows, at = [], 0
    for i, one in enumerate(head.split(b"\r\n")):
        rows.append([at, (words_of(one, most), "plain" if i else "one", "")])
        at += len(one) + 2
    if body:
        rows.append([at + 2, (words_of(body, most), "three", "")])
    return rows


def talk(pairs, title="", actors=("client", "platform"), most=190):
    """Draw requests and answers: [(bytes, bytes), ...]."""
    return Cards(actors, [
        (ours, http_rows(still(data), most)) for pair in pairs
        for ours, data in zip((True, False), pair)], title)


def ladder(frames, title="", worker="worker"):
    """Draw frames in short, as a ladder between two lines."""
    def short(frame):
        meta, body = frame.meta, frame.body.decode("utf-8", "replace")
        if frame.verb == b"Q":
            return f"{meta['do']}({', '.join(map(repr, meta['args']))})"
        if frame.verb == b"A":
            return str(meta.get("value", meta.get("error")))
        if frame.verb == b"L":
            return f"[{meta['level']}] {body}"
        return body[:34]
    return Sequence(["platform", worker], [
        (("platform", worker) if ours else (worker, "platform")) + (
            f"{frame.verb.decode()} {frame.id} {short(frame)}".rstrip(),)
        for ours, frame in frames], title)


def rivals(story, title="", worker="worker"):
    """Draw two workers on either side of the platform, as (who, frames)."""
    sides = {name: f"{worker} {name}" for name in "ab"}
    messages = []
    for name, frames in story:
        for ours, words in frames:
            pair = ["platform", sides[name]]
            messages.append((*(pair if ours else pair[::-1]), words))
    return Sequence([sides["a"], "platform", sides["b"]], messages, title)


def short_of(frame):
    """Put a question, an answer or a result into a few words.

    >>> short_of(faas.Frame(1, b"Q", {"do": "kv.set", "args": ["a", "7"]}))
    "set('7')"
    """
    if frame.verb == b"Q":
        what = frame.meta["do"].partition(".")[2]
        return f"{what}({', '.join(map(repr, frame.meta['args'][1:]))})"
    if frame.verb == b"A":
        return str(frame.meta.get("value", frame.meta.get("error")))
    return "returns " + frame.body.decode("utf-8", "replace")


def story_page(story, title=""):
    """Show an explained error: its sentence, its lines and its tip."""
    words = "\n".join(textwrap.fill(
        one, 88, subsequent_indent="      ") if "[TIP]" in one else one
        for one in story.split("\n"))
    return Page(words, {r"^Error.*": "two", r"^> .*": "bad",
                        r"\[TIP\]": "good"}, title)


class Beside(Picture):
    """Several pictures in a row, under one title.

    >>> Beside([Grid([], [], "a"), Grid([], [], "b")], "both")
    <Beside: both>
    """

    def __init__(self, pictures, title="", gap=24):
        self.pictures, self.title, self.gap = pictures, title, gap

    def draw(self):
        marks, x, tall = [], 0, 0
        for picture in self.pictures:
            w, h, inner = picture.draw()
            w = max(w, wide(picture.title) + 24)
            marks.append(text(x + 10, 8, picture.title))
            marks.append(f'<g transform="translate({x:.0f} 24)">'
                         f'{"".join(inner)}</g>')
            x, tall = x + w + self.gap, max(tall, h + 24)
        return x - self.gap, tall, marks


# Notebook 08 ----------------------------------------------------------------

class Contracts(Picture):
    """How tongues differ, from their table: {name: Tongue}."""

    SIZE, LINE = 11, 14
    COLUMNS = (("tongue", 58), ("its marks", 128), ("runs as", 68),
               ("goes in", 166), ("comes out", 150), ("chooses", 54),
               ("asks", 40), ("from", 92))
    RUNS = {"process": "cold", "worker": "warm", "server": "three"}

    def __init__(self, tongues, title=""):
        self.tongues, self.title = tongues, title

    def draw(self):
        marks, x = [], 10
        for name, w in self.COLUMNS:
            marks.append(text(x, 8, name, size=11, fill=FAINT))
            x += w
        width, y = x, 22
        for name, tongue in self.tongues.items():
            pieces, tall = self.draw_tongue(name, tongue, y)
            marks += [line(10, y, width - 10, y, COLOURS["wait"]), *pieces]
            y += tall
        return width, y, marks

    def draw_tongue(self, name, tongue, y):
        marks_of = [mark.replace(" ", " + ") for mark in tongue.marks]
        texts = {0: [name], 1: marks_of or ["an executable file"],
                 3: [tongue.goes_in], 4: [tongue.comes_out],
                 7: [tongue.taken_from]}
        cells, x, marks = {}, 10, []
        for i, lines in texts.items():
            letters = int((self.COLUMNS[i][1] - 6) / (self.SIZE * 0.6))
            cells[i] = [piece for one in lines
                        for piece in textwrap.wrap(one, letters)]
        tall = max(map(len, cells.values())) * self.LINE + 10
        for i, (_, w) in enumerate(self.COLUMNS):
            middle = y + tall / 2
            if i == 2:
                marks += [box(x, middle - 9, 56, 18, self.RUNS[tongue.runs],
                              "none"),
                          text(x + 28, middle, tongue.runs, "middle", 11)]
            elif i in (5, 6):
                yes = tongue.chooses if i == 5 else tongue.asks
                marks.append(dot(x + 18, middle, 5, "good" if yes else
                                 PAPER))
            else:
                top = middle - (len(cells[i]) - 1) * self.LINE / 2
                marks += [text(x, top + n * self.LINE, one, size=self.SIZE,
                               bold=i == 0)
                          for n, one in enumerate(cells[i])]
            x += w
        return marks, tall


class Doorway(Picture):
    """What one process is given, and what it gives: two lists of lines.

    A line is (words, colour).
    """

    ROW = 19

    def __init__(self, given, name, gives, title=""):
        self.given, self.name, self.gives = given, name, gives
        self.title = title

    def draw(self):
        left = max(wide(words, 11) for words, _ in self.given) + 20
        w, right = wide(self.name) + 24, max(
            wide(words, 11) for words, _ in self.gives) + 20
        tall = max(len(self.given), len(self.gives), 3) * self.ROW
        x1, x2 = 10 + left + 60, 10 + left + 60 + w
        marks = [box(x1, tall / 2 - 20, w, 40, "cold"),
                 text(x1 + w / 2, tall / 2, self.name, "middle"),
                 arrow(14 + left, tall / 2, x1 - 4, tall / 2),
                 arrow(x2 + 4, tall / 2, x2 + 56, tall / 2)]
        marks += self.draw_list(10, tall, left, self.given)
        marks += self.draw_list(x2 + 60, tall, right, self.gives)
        return x2 + 70 + right, tall, marks

    def draw_list(self, x, tall, w, lines):
        top = (tall - len(lines) * self.ROW) / 2
        for i, (words, colour) in enumerate(lines):
            y = top + i * self.ROW
            yield box(x, y + 1, w, self.ROW - 2, colour, "none")
            yield text(x + 8, y + self.ROW / 2, words, size=11)


# Notebook 09 ----------------------------------------------------------------

class Columns(Picture):
    """Several talks side by side: {name: [(words, colour, bytes), ...]}.

    A box is as high as its words need; its bytes are counted in its corner.
    """

    W, SIZE, LINE = 150, 10, 13

    def __init__(self, columns, title="", rows=()):
        self.columns, self.title, self.names = columns, title, rows

    def draw(self):
        letters = int((self.W - 14) / (self.SIZE * 0.6))
        wrapped = {name: [textwrap.wrap(cell[0], letters) if cell else []
                          for cell in cells]
                   for name, cells in self.columns.items()}
        count = max(map(len, wrapped.values()))
        left = 14 + max((wide(name, 10) for name in self.names), default=0)
        marks, y = [], 24
        for i, name in enumerate(self.columns):
            marks.append(text(left + (i + 0.5) * self.W, 10, name, "middle",
                              bold=True))
        for row in range(count):
            tall = 24 + self.LINE * max(
                len(cells[row]) for cells in wrapped.values()
                if row < len(cells))
            if row < len(self.names):
                marks.append(text(10, y + 12, self.names[row], size=10,
                                  fill=FAINT))
            for i, (name, cells) in enumerate(self.columns.items()):
                if row < len(cells) and cells[row]:
                    marks += self.draw_cell(left + i * self.W, y, tall,
                                            cells[row], wrapped[name][row])
            y += tall
        return left + len(self.columns) * self.W + 6, y, marks

    def draw_cell(self, x, y, tall, cell, lines):
        _, colour, size = cell
        yield box(x + 3, y + 2, self.W - 6, tall - 4, colour)
        for i, one in enumerate(lines):
            yield text(x + 8, y + 12 + i * self.LINE, one, size=self.SIZE)
        if size is not None:
            yield text(x + self.W - 8, y + tall - 10, f"{size} bytes", "end",
                       9, FAINT)


def glance(talks):
    """Make Columns of {face: [(request, answer), ...]}; None is no talk."""
    columns = {}
    for face, pairs in talks.items():
        columns[face] = []
        for pair in pairs:
            if isinstance(pair, str):       # no bytes at all
                columns[face] += [(pair, "plain", 0), None, None, None, None]
                continue
            for i, data in enumerate(map(still, pair)):
                head, _, body = data.partition(b"\r\n\r\n")
                first, *fields = head.split(b"\r\n")
                names = ", ".join(words_of(one.partition(b":")[0])
                                  for one in fields)
                columns[face].append((words_of(first), "one", None))
                if i == 0:
                    columns[face].append((names, "plain", len(head) + 4))
                columns[face].append((words_of(body, 75) or "no body",
                                      "three", len(body)))
    rows = "request,its head,its body,answer,its body".split(",")
    return Columns(columns, "The same function, the same call", rows * 2)


def status_cell(answer):
    """Make a Grid's cell of an HTTP answer: its status and its words."""
    head, _, body = still(answer).partition(b"\r\n\r\n")
    status = int(head[9:12])
    words = words_of(body.splitlines()[0] if body else b"")
    words = words[:83] + "…" if len(words) > 84 else words
    return (f"{status} {words}", "good" if status < 400 else
            "two" if status < 500 else "bad")


class Grid(Picture):
    """What became of each case: rows of (words, colour), after a name.

    >>> Grid(["case", "we"], [("a", ("yes", "good"))], "one case")
    <Grid: one case>
    """

    LINE, SIZE = 14, 11

    def __init__(self, head, rows, title="", widest=30):
        self.head, self.rows, self.title = head, list(rows), title
        self.widest = widest

    def draw(self):
        rows = [[(textwrap.wrap(words, self.widest) or [""], colour)
                 for words, colour in ((cell, "") if isinstance(cell, str)
                                       else cell for cell in row)]
                for row in self.rows]
        sizes = [max([wide(name, self.SIZE)] + [
            wide(one, self.SIZE) for row in rows for one in row[i][0]]) + 14
            for i, name in enumerate(self.head)]
        marks, x, y = [], 10, 22
        for name, w in zip(self.head, sizes):
            marks.append(text(x + 6, 8, name, size=11, fill=FAINT))
            x += w
        for row in rows:
            tall, left = max(len(cell[0]) for cell in row) * self.LINE + 8, 10
            for (lines, colour), w in zip(row, sizes):
                if colour:
                    marks.append(box(left + 1, y + 1, w - 2, tall - 2, colour,
                                     "none"))
                marks += [text(left + 6, y + tall / 2 + self.LINE * (
                    i - (len(lines) - 1) / 2), one, size=self.SIZE)
                    for i, one in enumerate(lines)]
                left += w
            y += tall
        return x + 10, y, marks


class Routes(Picture):
    """What each face serves: one line for each Route, under its face."""

    ROW = 17
    GUARDS = {"open": "good", "manage": "two", "key": "four"}

    def __init__(self, routes, title=""):
        self.title, self.faces = title, {}
        for route in routes:
            self.faces.setdefault(route.face, []).append(route)

    def draw(self):
        marks, x = [], 10
        for guard, colour in self.GUARDS.items():
            marks += [box(x, 2, 12, 12, colour, "none"),
                      text(x + 18, 8, guard, size=11)]
            x += 40 + wide(guard, 11)
        y, reach = 24, 0
        for face, routes in self.faces.items():
            marks.append(text(10, y + 10, face, bold=True))
            y += 22
            for route in routes:
                marks += [box(16, y + 1, 50, self.ROW - 2,
                              self.GUARDS[route.guard], "none"),
                          text(41, y + self.ROW / 2, route.method, "middle",
                               10),
                          text(74, y + self.ROW / 2, route.path, size=10),
                          text(386, y + self.ROW / 2, route.what, size=10,
                               fill=FAINT)]
                reach = max(reach, 386 + wide(route.what, 10))
                y += self.ROW
            y += 6
        return max(WIDTH, reach + 10), y, marks


class Blocks(Picture):
    """How a tar is built: [(bytes, words, colour), ...], in their order.

    A part without a colour is one that lacks, and is drawn dashed. The
    widths are not to scale: each part gets the room of its words.
    """

    def __init__(self, parts, title=""):
        self.parts, self.title = parts, title

    def draw(self):
        marks, x, at = [], 10, 0
        for size, words, colour in self.parts:
            w = max(wide(words, 11) + 14, 46)
            marks.append(text(x + 1, 8, at, size=10, fill=FAINT))
            if colour:
                marks.append(box(x, 18, w, 34, colour))
            else:
                marks += [line(x, 18, x + w, 18, dashed=True),
                          line(x, 52, x + w, 52, dashed=True),
                          line(x + w, 18, x + w, 52, dashed=True)]
            marks += [text(x + w / 2, 35, words, "middle", 11),
                      text(x + w / 2, 64, f"{size} bytes", "middle", 10,
                           FAINT)]
            x, at = x + w, at + size
        marks.append(text(x + 1, 8, at, size=10, fill=FAINT))
        return x + 40, 74, marks


class Tail(Picture):
    """The last bytes of something, at their offsets, and some that lack.

    >>> Tail(b"the end", 3, 2, "an end")
    <Tail: an end>
    """

    CELL = 38

    def __init__(self, data, last, lack, title=""):
        self.data, self.last, self.lack = bytes(data), last, lack
        self.title = title

    def draw(self):
        marks, first = [], len(self.data) - self.last
        for i in range(self.last + self.lack):
            x, at = 10 + i * self.CELL, first + i
            marks.append(text(x + self.CELL / 2, 6, at, "middle", 10, FAINT))
            if i < self.last:
                byte = self.data[at]
                letter = chr(byte) if 32 < byte < 127 else "·"
                marks += [box(x, 14, self.CELL, 26, "three"),
                          text(x + self.CELL / 2, 27, f"{byte:02x}",
                               "middle"),
                          text(x + self.CELL / 2, 49, letter, "middle", 11,
                               FAINT)]
            else:
                x2 = x + self.CELL
                marks += [line(x, 14, x2, 14, dashed=True),
                          line(x, 40, x2, 40, dashed=True),
                          line(x2, 14, x2, 40, dashed=True)]
        x = 10 + self.last * self.CELL
        marks += [line(x, 10, x, 70, INK),
                  text(x - 6, 66, "arrives", "end", 11),
                  text(x + 6, 66, "never arrives", size=11)]
        return max(x + self.lack * self.CELL, x + 110), 74, marks


class Cuts(Picture):
    """Where a message may be cut: [True, False, ...], one for each place."""

    def __init__(self, verdicts, title="", words=("taken", "refused")):
        self.verdicts, self.title, self.words = list(verdicts), title, words

    def draw(self):
        step = (WIDTH - 20) / len(self.verdicts)
        marks = [box(10, 20, WIDTH - 20, 40, "bad", "none")]
        start = None
        for at, good in enumerate([*self.verdicts, False]):
            if good and start is None:
                start = at
            elif not good and start is not None:
                x, w = 10 + start * step, max(3, (at - start) * step)
                marks.append(box(x, 20, w, 40, STRONG["good"], "none"))
                span = f"{start}" if at == start + 1 else f"{start}–{at - 1}"
                side = "end" if x + w > WIDTH - 60 else "start"
                marks.append(text(x + (w if side == "end" else 0), 70, span,
                                  side, 10))
                start = None
        marks += [box(10, 2, 12, 12, STRONG["good"], "none"),
                  text(28, 8, self.words[0], size=11),
                  box(40 + wide(self.words[0], 11), 2, 12, 12, "bad", "none"),
                  text(58 + wide(self.words[0], 11), 8, self.words[1],
                       size=11)]
        return WIDTH, 80, marks


class Paths(Picture):
    """Which methods each path of an OpenAPI document has, and for whom."""

    ROW = 18
    METHODS = "get post put delete patch".split()

    def __init__(self, document, title=""):
        self.paths, self.title = document["paths"], title

    def draw(self):
        left = 30 + max(wide(path, 11) for path in self.paths)
        marks = [text(left + 60 * i, 8, method, "middle", 11, FAINT)
                 for i, method in enumerate(self.METHODS)]
        x = left + 60 * len(self.METHODS)
        for row, (path, there) in enumerate(self.paths.items()):
            y = 26 + row * self.ROW
            face = next(iter(there.values()))["tags"][0]
            marks += [line(10, y + 9, x + 110, y + 9, COLOURS["wait"]),
                      text(10, y, path, size=11), text(x, y, face, size=11)]
            for method, operation in there.items():
                guarded = "security" in operation
                marks.append(dot(left + 60 * self.METHODS.index(method), y, 5,
                                 "two" if guarded else "good", INK))
        y = 26 + len(self.paths) * self.ROW + 8
        marks += [dot(16, y, 5, "good", INK), text(28, y, "open", size=11),
                  dot(86, y, 5, "two", INK), text(98, y, "guarded", size=11)]
        return x + 120, y + 10, marks
