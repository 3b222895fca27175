"""Pictures for the notebooks, drawn with strings and nothing else.

A notebook shows the last value of a cell. If that value has a method
`_repr_svg_` or `_repr_html_`, it shows what the method returns. So a picture
is an object with a few numbers in it and one method that turns them into
marks; no plotting package is needed, and the pictures in a committed notebook
are text that a diff can show.

    Lanes      who was busy when            spans of time, one lane each
    Tree       who is whose parent          nested boxes, left to right
    Bars       how much, against what       lengths, with ratios
    Bytes      what lies where              a ruler with named fields
    Flow       what leads to what           boxes on a grid, and arrows
    Sequence   who says what to whom        arrows between lifelines
    Table      anything with rows           plain HTML

All text is set in a monospaced font: a letter is then 0.6 of its size wide
everywhere, so a label can be measured where no font is at hand. Each picture
brings its own white paper, and reads the same on a dark page.
"""

import contextlib
import functools
import html
import io
import json
import math

INK, FAINT, PAPER = "#1f2328", "#6a737d", "#ffffff"

# Fills, named by what they mean. All are light enough for INK on top, and
# none is the only carrier of a meaning: there is always a word as well.
COLOURS = {"plain": "#eef1f4", "cold": "#a6cee3", "warm": "#fdcf8f",
           "good": "#b7e1a1", "bad": "#f7b0ae", "wait": "#dcdfe3",
           "one": "#cfd8f6", "two": "#f6e3b4", "three": "#d3ecd9",
           "four": "#f1d3e8", "five": "#d9e8f0"}
CYCLE = ("one", "two", "three", "four", "five")

SIZE = 13                       # of the letters, in pixels
WIDTH = 760                     # of a picture: a notebook's column


# Marks: each gives one piece of SVG ----------------------------------------

def wide(words, size=SIZE):
    """Measure the longest line of `words`, in pixels.

    >>> wide("1234567890")
    78.0
    """
    return max(len(line) for line in str(words).split("\n")) * size * 0.6


def text(x, y, words, anchor="start", size=SIZE, fill=INK, bold=False):
    """Write `words` with (x, y) on the middle of the (first) line."""
    weight = ' font-weight="bold"' if bold else ""
    return "".join(
        f'<text x="{x:.1f}" y="{y + 0.35 * size + 1.3 * size * i:.1f}" '
        f'font-size="{size}" fill="{fill}" text-anchor="{anchor}"{weight}>'
        f'{html.escape(line)}</text>'
        for i, line in enumerate(str(words).split("\n")))


def box(x, y, w, h, fill="plain", stroke=FAINT, tip=""):
    """Draw a rectangle; `tip` appears where a pointer rests on it."""
    tip = f"<title>{html.escape(tip)}</title>" if tip else ""
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" '
            f'height="{h:.1f}" rx="3" fill="{COLOURS.get(fill, fill)}" '
            f'stroke="{stroke}">{tip}</rect>')


def line(x1, y1, x2, y2, stroke=FAINT, dashed=False):
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" '
            f'y2="{y2:.1f}" stroke="{stroke}"{dash}/>')


def arrow(x1, y1, x2, y2):
    """Draw a line whose far end carries a head."""
    turn = math.atan2(y2 - y1, x2 - x1)
    wings = [(x2 - 9 * math.cos(turn + side), y2 - 9 * math.sin(turn + side))
             for side in (-0.42, 0.42)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(x2, y2), *wings])
    return (line(x1, y1, x2, y2, INK)
            + f'<polygon points="{points}" fill="{INK}"/>')


class Picture:
    """What all pictures share: a title, paper, and a size.

    A picture defines `draw()`, which gives its width, its height and its
    marks, as if it stood at (0, 0).
    """

    title = ""

    def _repr_svg_(self):
        width, height, marks = self.draw()
        top = 30 if self.title else 8
        width = max(width, wide(self.title, 14) + 20)
        height += top + 8
        head = text(10, 16, self.title, size=14, bold=True)
        return (f'<svg xmlns="http://www.w3.org/2000/svg" '
                f'width="{width:.0f}" height="{height:.0f}" '
                f'viewBox="0 0 {width:.0f} {height:.0f}" '
                f'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace">'
                f'<rect width="100%" height="100%" fill="{PAPER}"/>'
                f'{head if self.title else ""}'
                f'<g transform="translate(0 {top})">{"".join(marks)}</g>'
                '</svg>')

    def __repr__(self):         # what a terminal shows in place of it
        return f"<{type(self).__name__}: {self.title}>"


# The pictures ---------------------------------------------------------------

class Lanes(Picture):
    """Who was busy when: {lane: [(start, end, label, colour), ...]}.

    Label and colour may be left out. Times share one clock; `unit` names
    their unit, and the axis begins at `zero` (by default the first start).

    >>> Lanes({"a": [(0, 1, "call", "warm")]}, "one call")
    <Lanes: one call>
    """

    STEP = 28                   # px from lane to lane

    def __init__(self, lanes, title="", unit="s", zero=None):
        self.lanes, self.title, self.unit = dict(lanes), title, unit
        spans = [span for lane in self.lanes.values() for span in lane]
        self.zero = zero if zero is not None else min(
            (span[0] for span in spans), default=0)
        self.until = max((span[1] for span in spans), default=1)

    def draw(self):
        self.left = 24 + max(map(wide, self.lanes), default=0)
        self.scale = (WIDTH - 60 - self.left) / (
            self.until - self.zero or 1)
        marks, floor = [], self.STEP * len(self.lanes)
        for tick in ticks(self.until - self.zero):
            x = self.left + tick * self.scale
            marks += [line(x, 0, x, floor, COLOURS["wait"]),
                      text(x, floor + 12, f"{tick:g}", "middle", 11, FAINT)]
        marks.append(text(WIDTH - 10, floor + 12, self.unit, "end", 11,
                          FAINT))
        for row, (name, spans) in enumerate(self.lanes.items()):
            y = row * self.STEP
            marks.append(text(10, y + self.STEP / 2, name))
            marks += self.draw_lane(y, sorted(spans, key=lambda s: s[0]))
        return WIDTH, floor + 24, marks

    def draw_lane(self, y, spans):
        ends = [self.x(span[0]) for span in spans[1:]] + [WIDTH]
        for span, room in zip(spans, ends):
            start, end, label, colour = (*span, *("", "plain")[len(span) - 2:])
            x, w = self.x(start), max(2, self.x(end) - self.x(start))
            tip = f"{label} {start - self.zero:.4g} to {end - self.zero:.4g}"
            yield box(x, y + 3, w, self.STEP - 6, colour, tip=tip)
            if wide(label, 11) + 4 <= w:
                yield text(x + w / 2, y + self.STEP / 2, label, "middle", 11)
            elif x + w + 4 + wide(label, 11) <= room:
                yield text(x + w + 4, y + self.STEP / 2, label, size=11)

    def x(self, at):
        return self.left + (at - self.zero) * self.scale


def ticks(span):
    """Choose four to ten round numbers from 0 to `span`.

    >>> ticks(1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if span <= 0:
        return [0.0]
    power = 10 ** math.floor(math.log10(span))
    step = next(power * part for part in (0.1, 0.2, 0.5, 1, 2)
                if span / (power * part) <= 8)
    return [round(i * step, 9) for i in range(int(span / step + 1e-9) + 1)]


class Tree(Picture):
    """Who is whose parent: a node is (label, [nodes]) or (.., .., colour).

    >>> Tree(("sh", [("sleep", [], "bad")]), "a family")
    <Tree: a family>
    """

    STEP, GAP = 34, 36          # px between rows, and between generations

    def __init__(self, root, title=""):
        self.root, self.title = root, title

    @classmethod
    def of_process(cls, pid, title="", names={}):
        """Draw a process and its descendants as the kernel knows them now.

        `names` may say {pid: name}, where the kernel's name says little. A
        zombie, which has ended but was not yet asked how, is marked.
        """
        return cls(process_tree(pid, names), title)

    def draw(self):
        self.widths = {}
        self.measure(self.root, 0)
        self.row, marks = 0, []
        self.place(self.root, 0, marks)
        depth = len(self.widths)
        width = sum(self.widths.values()) + self.GAP * depth
        return width, self.row * self.STEP, marks

    def measure(self, node, depth):
        self.widths[depth] = max(self.widths.get(depth, 0),
                                 wide(node[0]) + 16)
        for branch in node[1]:
            self.measure(branch, depth + 1)

    def place(self, node, depth, marks):
        """Draw a node beside the first of its branches; give its y."""
        label, branches, colour = (*node, "plain")[:3]
        x = 10 + sum(self.widths[d] + self.GAP for d in range(depth))
        y = self.row * self.STEP + self.STEP / 2
        w = wide(label) + 16
        middle = x + self.widths[depth] + self.GAP / 2
        marks.append(box(x, y - 13, w, 26, colour))
        marks.append(text(x + 8, y, label))
        for i, branch in enumerate(branches):
            below = self.place(branch, depth + 1, marks)
            marks.append(line(middle, y, middle, below))
            marks.append(line(middle, below, middle + self.GAP / 2, below))
            if i == 0:
                marks.append(line(x + w, y, middle, y))
        if not branches:
            self.row += 1
        return y


def process_tree(pid, names):
    """Make a Tree's node of a process, from /proc/PID/stat (proc(5))."""
    import faas                 # here, so that pictures can do without
    try:
        with open(f"/proc/{pid}/stat") as file:
            name, _, rest = file.read().partition("(")[2].rpartition(")")
    except OSError:             # It ended between two looks.
        return f"{pid} gone", [], "wait"
    state = rest.split()[0]
    name = names.get(pid, name) + f" {pid}"
    return (name + " (zombie)" if state == "Z" else name,
            [process_tree(child, names) for child in faas.children(pid)],
            "bad" if state == "Z" else "good")


class Bars(Picture):
    """How much: [(label, value), ...] or with a colour as third.

    With `against`, a label, each bar also says its ratio to that one.

    >>> Bars([("cold", 12.0), ("warm", 0.5)], "a start", "ms", "warm")
    <Bars: a start>
    """

    STEP = 28

    def __init__(self, rows, title="", unit="", against=None):
        self.rows, self.title = [(*row, "one")[:3] for row in rows], title
        self.unit, self.against = unit, against

    def draw(self):
        left = 24 + max(wide(row[0]) for row in self.rows)
        words = [self.words(value) for _, value, _ in self.rows]
        room = WIDTH - left - 16 - max(map(wide, words))
        most = max(value for _, value, _ in self.rows) or 1
        marks = []
        for i, (label, value, colour) in enumerate(self.rows):
            y, w = i * self.STEP, max(1, room * value / most)
            marks += [text(10, y + self.STEP / 2, label),
                      box(left, y + 4, w, self.STEP - 8, colour),
                      text(left + w + 8, y + self.STEP / 2, words[i])]
        return WIDTH, len(self.rows) * self.STEP, marks

    def words(self, value):
        """Put a value into words.

        >>> Bars([("a", 2), ("b", 5)], unit="ms", against="a").words(5)
        '5 ms = 2.5 x'
        """
        words = f"{brief(value)} {self.unit}".strip()
        base = {row[0]: row[1] for row in self.rows}.get(self.against)
        return words + (f" = {brief(value / base)} x" if base else "")


def brief(value):
    """Write a number with three digits, or all that stand before the point.

    >>> brief(0.06912), brief(47.31), brief(1200)
    ('0.0691', '47.3', '1200')
    """
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


class Bytes(Picture):
    """What lies where: bytes, and the fields [(size, name), ...] in them.

    A third item is the field's colour. Bytes past the last field are drawn
    without a name; a long message breaks into rows of `per_row`.

    >>> Bytes(b"\\0\\5hello", [(2, "size"), (5, "body")], "a string")
    <Bytes: a string>
    """

    CELL, ROW = 38, 62          # px of a byte, and of a row without names

    def __init__(self, data, fields, title="", per_row=18):
        self.data, self.title, self.per_row = bytes(data), title, per_row
        self.fields = list(fields)

    def draw(self):
        marks, offset, self.reach = [], 0, 0
        self.tall = self.ROW + 15 * max(map(self.level, self.fields),
                                        default=0)
        rest = len(self.data) - sum(field[0] for field in self.fields)
        for i, field in enumerate([*self.fields, (rest, "")]):
            size, name, colour = (*field, CYCLE[i % len(CYCLE)])[:3]
            marks += self.draw_field(offset, size, name, colour)
            offset += max(0, size)
        rows = -(-len(self.data) // self.per_row)
        width = 20 + self.CELL * min(self.per_row, max(1, len(self.data)))
        return max(width, self.reach), rows * self.tall, marks

    def level(self, field):
        """Tell how far down its name must go: 0 without, 2 if it is long."""
        return bool(field[1]) + (wide(field[1], 12) > field[0] * self.CELL)

    def draw_field(self, offset, size, name, colour):
        for at in range(offset, min(offset + size, len(self.data))):
            x, y = self.place(at)
            byte = self.data[at]
            letter = chr(byte) if 32 < byte < 127 else "·"
            yield box(x, y + 14, self.CELL, 26, colour)
            yield text(x + self.CELL / 2, y + 27, f"{byte:02x}", "middle")
            yield text(x + self.CELL / 2, y + 49, letter, "middle", 11,
                       FAINT)
            if at == offset or at % self.per_row == 0:
                yield text(x + 2, y + 6, at, size=10, fill=FAINT)
        if size > 0 and name and offset < len(self.data):
            yield from self.draw_name(offset, size, name)

    def draw_name(self, offset, size, name):
        """Write a name under its field, lower where it needs more room."""
        x, y = self.place(offset)
        here = min(size, self.per_row - offset % self.per_row)
        drop = 49 + 15 * self.level((here, name))
        if drop > 64:
            yield line(x + 4, y + 56, x + 4, y + 71)
        yield text(x + 3, y + drop, name, size=12, bold=True)
        self.reach = max(self.reach, x + wide(name, 12) + 12)

    def place(self, at):
        row, column = divmod(at, self.per_row)
        return 10 + column * self.CELL, row * self.tall


class Flow(Picture):
    """What leads to what: boxes on a grid, and arrows between them.

    boxes: {label: (column, row)} or with a colour as third; a label may
    have several lines. arrows: [(from, to, words), ...].

    >>> Flow({"idle": (0, 0), "busy": (1, 0)}, [("idle", "busy", "call")])
    <Flow: >
    """

    def __init__(self, boxes, arrows, title="", cell=(0, 84)):
        self.boxes = {name: (*at, "plain")[:3] for name, at in boxes.items()}
        self.arrows, self.title = [(*a, "")[:3] for a in arrows], title
        self.cell = cell

    def draw(self):
        label = max((wide(words, 11) for _, _, words in self.arrows
                     if words), default=0)
        self.step = max(self.cell[0], label + 34 + max(map(wide, self.boxes)))
        columns = max(column for column, _, _ in self.boxes.values())
        rows = max(row for _, row, _ in self.boxes.values())
        self.left = 26 + max(map(wide, self.boxes)) / 2
        marks = [mark for name in self.boxes for mark in self.draw_box(name)]
        ways = [self.draw_way(way) for way in self.arrows]
        marks += [shaft for shaft, _ in ways] + [words for _, words in ways]
        return (2 * self.left + columns * self.step,
                (rows + 1) * self.cell[1] - 12, marks)

    def middle(self, name):
        column, row, _ = self.boxes[name]
        return self.left + column * self.step, 32 + row * self.cell[1]

    def half(self, name):
        return wide(name) / 2 + 10, 14 + 8.5 * name.count("\n")

    def draw_box(self, name):
        (x, y), (w, h) = self.middle(name), self.half(name)
        yield box(x - w, y - h, 2 * w, 2 * h, self.boxes[name][2])
        yield text(x, y - 8.5 * name.count("\n"), name, "middle")

    def draw_way(self, way):
        """Give an arrow, and its words, which go on top of all arrows."""
        start, end, words = way
        (x1, y1), (x2, y2) = self.middle(start), self.middle(end)
        turn = math.atan2(y2 - y1, x2 - x1)
        right, down, aside = 0, -11 * (abs(y2 - y1) < 1), 0
        if any(other[:2] == (end, start) for other in self.arrows):
            aside = 9                       # two ways: each keeps right
            right = -math.sin(turn) * (6 + wide(words, 11) / 2)
            down = math.cos(turn) * 11
        x1, x2 = (x - aside * math.sin(turn) for x in (x1, x2))
        y1, y2 = (y + aside * math.cos(turn) for y in (y1, y2))
        a = self.edge(start, x1, y1, x2, y2)
        b = self.edge(end, x2, y2, x1, y1)
        x, y = (a[0] + b[0]) / 2 + right, (a[1] + b[1]) / 2 + down
        w = wide(words, 11) + 4
        return arrow(*a, *b), words and (
            box(x - w / 2, y - 8, w, 16, PAPER, "none")
            + text(x, y, words, "middle", 11))

    def edge(self, name, x, y, to_x, to_y):
        """Walk from (x, y) towards the other box, to this one's border."""
        w, h = self.half(name)
        dx, dy = to_x - x, to_y - y
        part = min(w / abs(dx) if dx else math.inf,
                   h / abs(dy) if dy else math.inf)
        return x + dx * part, y + dy * part


class Sequence(Picture):
    """Who says what to whom: [(from, to, words), ...], time downwards.

    >>> Sequence(["we", "it"], [("we", "it", "C 7"), ("it", "we", "R 7")])
    <Sequence: >
    """

    STEP = 36

    def __init__(self, actors, messages, title=""):
        self.actors, self.messages = list(actors), list(messages)
        self.title = title

    def draw(self):
        rows = [(self.actors.index(a), self.actors.index(b), words)
                for a, b, words in self.messages]
        gap = max([wide(actor) + 40 for actor in self.actors]
                  + [(wide(words, 12) + 30) / (abs(a - b) or 1)
                     for a, b, words in rows])
        left = 24 + wide(self.actors[0]) / 2
        xs = [left + gap * i for i in range(len(self.actors))]
        floor, marks = 40 + self.STEP * len(rows), []
        for x, actor in zip(xs, self.actors):
            w = wide(actor) + 20
            marks += [line(x, 28, x, floor, dashed=True),
                      box(x - w / 2, 2, w, 26),
                      text(x, 15, actor, "middle")]
        for i, (a, b, words) in enumerate(rows):
            marks += self.draw_message(xs[a], xs[b], 62 + self.STEP * i,
                                       words)
        last = [x + wide(words, 12) + 30 for a, b, words in rows
                for x in [xs[a]] if a == b]
        width = max([xs[-1] + wide(self.actors[-1]) / 2 + 24, *last])
        return width, floor, marks

    def draw_message(self, x1, x2, y, words):
        if x1 == x2:                                # said to oneself
            w = wide(words, 12) + 12
            return [box(x1 - 6, y - 14, w, 20, "plain"),
                    text(x1, y - 4, words, size=12)]
        return [arrow(x1, y, x2, y),
                box((x1 + x2 - wide(words, 12)) / 2 - 2, y - 18,
                    wide(words, 12) + 4, 15, PAPER, "none"),
                text((x1 + x2) / 2, y - 10, words, "middle", 12)]


class Table:
    """Rows in plain HTML; a bool becomes a word, and colours its cell.

    >>> Table(["way", "right"], [["a", True]])._repr_html_().count("<td")
    2
    """

    def __init__(self, head, rows, title=""):
        self.head, self.rows, self.title = head, list(rows), title

    def _repr_html_(self):
        style = f"background:{PAPER};color:{INK};"
        head = "".join(f'<th style="{style}text-align:left">'
                       f"{html.escape(str(name))}</th>" for name in self.head)
        body = "".join(f'<tr style="{style}">{"".join(map(self.cell, row))}'
                       "</tr>" for row in self.rows)
        title = html.escape(self.title)
        return (f'<table style="{style}"><caption style="{style}'
                f'text-align:left;caption-side:top"><b>{title}</b></caption>'
                f"<tr>{head}</tr>{body}</table>")

    def cell(self, value):
        fill = {True: "good", False: "bad"}.get(value) if (
            isinstance(value, bool)) else None
        words = {"good": "yes", "bad": "no"}.get(fill, str(value))
        return (f'<td style="background:{COLOURS.get(fill, PAPER)};'
                f'color:{INK};text-align:left">{html.escape(words)}</td>')

    def __repr__(self):
        return f"<Table: {self.title}>"


# Exercises ------------------------------------------------------------------

def puzzle(check):
    """Make a check() that says "not yet" where another would raise.

    `check` gives (solved, picture). A reader's half-made answer may raise
    anything; then the name of it is printed and the notebook goes on, so
    that "Run All" passes on the day when nothing is solved.

    >>> @puzzle
    ... def check():
    ...     return {}["hole"], None
    >>> check()
    not yet (KeyError: 'hole')
    """
    @functools.wraps(check)
    def gentle():
        try:
            solved, picture = check()
        except Exception as error:
            print(f"not yet ({type(error).__name__}: {error})")
            return None
        print("yes" if solved else "not yet")
        return picture
    return gentle


def rehearse(name, names):
    """Run a notebook's code in `names`; give its check()s, in order.

    For the answers: they fill the holes of the exercises anew and call the
    checks, which see the new answers because they look in `names`. The last
    cell, which tidies up, is left to the caller.
    """
    with open(f"notebooks/{name}.ipynb", encoding="utf-8") as file:
        cells = [cell for cell in json.load(file)["cells"]
                 if cell["cell_type"] == "code"]
    checks = []
    for cell in cells[:-1]:
        source = "".join(cell["source"])
        if source.strip() == "check()":
            checks.append(names["check"])
        else:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(source, names)
    return checks
