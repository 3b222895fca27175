"""More pictures: versions, readings of bytes, points in time, and cron.

Made of the same marks as those in pictures.py, which says how they work.

    Pointer    which version serves         one row per step
    Readings   who reads what in bytes      one column per reader
    Page       a text with marked parts     lines, some of them painted
    Dots       many events at once          points over time
    Fields     what a cron field holds      one cell per number
    Calendar   on which days                months side by side
    Strip      at which instants            a day, with the clock's jumps

And four small helps: `lane_of` a Result's spans, `chain` of boxes,
`folder_tree` of what lies on the disk, and what one is `told`.
"""

import calendar
import datetime
import io
import pathlib
import re
import struct
import zoneinfo

from pictures import (COLOURS, FAINT, INK, PAPER, WIDTH, Flow, Picture, box,
                      line, text, ticks, wide)


STRONG = {"good": "#8fce70", "bad": "#e0605b"}     # small things need it


def dot(x, y, r, fill, stroke=FAINT):
    return (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" '
            f'fill="{STRONG.get(fill, COLOURS.get(fill, fill))}" '
            f'stroke="{stroke}"/>')


def lane_of(result, start=0.0):
    """Turn a Result's spans into a lane of Lanes, in milliseconds.

    >>> class result: spans = (("queue", 0.001), ("run", 0.002))
    >>> lane_of(result)
    [(0.0, 1.0, 'queue', 'wait'), (1.0, 3.0, 'run', 'warm')]
    """
    lane, colours = [], {"queue": "wait", "start": "cold", "run": "warm"}
    for name, seconds in result.spans:
        end = start + 1000 * seconds
        lane.append((start, end, name, colours.get(name, "plain")))
        start = end
    return lane


# The shelf ------------------------------------------------------------------

class Pointer(Picture):
    """Which version serves, after each step; time runs downwards.

    A step is (words, [label, ...], index of the label that serves).

    >>> Pointer("two", [("deploy", ["1"], 0), ("deploy", ["1", "2"], 1)])
    <Pointer: two>
    """

    STEP = 46

    def __init__(self, title="", steps=()):
        self.title, self.steps = title, list(steps)

    def note(self, words, versions):
        """Add what Shelf.versions() says now as a step."""
        versions = sorted(versions)
        self.steps.append((words, [f"version {v.number}" for v in versions],
                           [v.active for v in versions].index(True)))

    def until(self, step):
        """Give the first steps of this film."""
        return Pointer(self.title, self.steps[:step])

    def draw(self):
        left = 30 + max(wide(step) for step, _, _ in self.steps)
        cell = 34 + max(wide(label) for _, labels, _ in self.steps
                        for label in labels)
        marks, way = [], []
        for row, (step, labels, active) in enumerate(self.steps):
            y = 10 + row * self.STEP
            marks.append(text(10, y + 17, step))
            for i, label in enumerate(labels):
                x, fill = left + i * cell, "good" if i == active else "plain"
                marks += [box(x, y + 3, cell - 18, 28, fill),
                          text(x + (cell - 18) / 2, y + 17, label, "middle",
                               bold=i == active)]
            if active is not None:
                way.append((left + active * cell + (cell - 18) / 2, y + 3))
        path = [line(x1, y1 + 28, x2, y2 - 6, INK, dashed=True)
                for (x1, y1), (x2, y2) in zip(way, way[1:])]
        heads = [f'<polygon points="{x:.1f},{y:.1f} {x - 5:.1f},{y - 8:.1f} '
                 f'{x + 5:.1f},{y - 8:.1f}" fill="{INK}"/>' for x, y in way]
        most = max(len(labels) for _, labels, _ in self.steps)
        return (left + most * cell, len(self.steps) * self.STEP,
                path + marks + heads)


def chain(title, *labels):
    """Draw a Flow in one row, each box leading to the next.

    A label may be a pair, with the box's colour as second.

    >>> chain("two steps", "write", ("rename", "good"))
    <Flow: two steps>
    """
    pairs = [(label, "plain") if isinstance(label, str) else label
             for label in labels]
    names = [name for name, _ in pairs]
    return Flow({name: (i, 0, colour) for i, (name, colour)
                 in enumerate(pairs)}, list(zip(names, names[1:])), title)


def folder_tree(path):
    """Make a Tree's node of a folder on the disk; long names are cut.

    >>> folder_tree(pathlib.Path("no/such/folder"))
    ('folder', [], 'one')
    """
    if not path.is_dir():
        return path.name[:16], [], "one"
    return path.name[:16], [folder_tree(inner) for inner in
                            sorted(path.iterdir())], "plain"


def told(work, *arguments):
    """Give what some work gives, or the sentence with which it refuses.

    >>> told(int, "x")
    "invalid literal for int() with base 10: 'x'"
    """
    try:
        return work(*arguments)
    except Exception as error:
        return str(error).splitlines()[0]


# Texts ----------------------------------------------------------------------

class Readings(Picture):
    """Who reads what in the same bytes: {reader: [(size, words), ...]}.

    The bytes stand line by line, broken also where a reader sees a border.
    Each reader has a column; a third item of a field is its colour.

    >>> Readings(b"a: 1\\r\\n\\r\\nhi", {"we": [(8, "head"), (2, "body")]})
    <Readings: >
    """

    ROW, MOST = 24, 46          # px of a row, and letters shown of it

    def __init__(self, data, readers, title=""):
        self.data, self.title, self.readers = bytes(data), title, {}
        for name, fields in readers.items():
            self.readers[name], at = [], 0
            for i, field in enumerate(fields):
                size, words, colour = (*field, ("one", "two", "three")
                                       [i % 3])[:3]
                self.readers[name].append((at, at + size, words, colour))
                at += size

    def rows(self):
        """Cut the bytes at line ends and at every border.

        >>> Readings(b"a\\nbcd", {"we": [(3, "x"), (2, "y")]}).rows()
        [(0, 2), (2, 3), (3, 5)]
        """
        cuts = {0, len(self.data)}
        cuts |= {m.end() for m in re.finditer(b"\n", self.data)}
        for fields in self.readers.values():
            cuts |= {min(end, len(self.data)) for _, end, _, _ in fields}
        cuts = sorted(cuts)
        return list(zip(cuts, cuts[1:]))

    def draw(self):
        rows, marks = self.rows(), []
        said = [self.say(*row) for row in rows]
        left = 46 + max(wide(words) + wide(end, 10) + 8
                        for words, end in said)
        for i, ((start, _), (words, end)) in enumerate(zip(rows, said)):
            y = 24 + (i + 0.5) * self.ROW
            marks += [text(34, y, start, "end", 10, FAINT),
                      text(42, y, words),
                      text(46 + wide(words), y, end, size=10, fill=FAINT)]
        x = left + 12
        for name, fields in self.readers.items():
            w = 24 + max(wide(words) for words in
                         [name, *(field[2] for field in fields)])
            marks.append(text(x + w / 2, 10, name, "middle", bold=True))
            marks += self.draw_fields(rows, x, w, fields)
            x += w + 14
        return x, 28 + len(rows) * self.ROW, marks

    def draw_fields(self, rows, x, w, fields):
        for start, end, words, colour in fields:
            there = [i for i, row in enumerate(rows)
                     if start <= row[0] < end]
            if there:
                y, h = 24 + there[0] * self.ROW, len(there) * self.ROW
                yield box(x, y + 1, w, h - 2, colour)
                yield text(x + w / 2, y + h / 2
                           - 8.5 * words.count("\n"), words, "middle")

    def say(self, start, end):
        """Give a row's letters, and its line end in words."""
        data = self.data[start:end]
        words = "".join(chr(byte) if 31 < byte < 127 else "·"
                        for byte in data.rstrip(b"\r\n"))
        rest = data[len(data.rstrip(b"\r\n")):]
        if len(words) > self.MOST:
            words = words[:self.MOST - 1] + "…"
        return words, {b"\r\n": "CR LF", b"\n": "LF", b"\r": "CR"}.get(
            rest, "")


class Page(Picture):
    """A text in which some parts are marked: {regular expression: colour}.

    The colour "ink" blackens; every other stands behind the letters.

    >>> Page("pin: [REDACTED]", {r"\\[REDACTED\\]": "ink"}, "a page")
    <Page: a page>
    """

    ROW = 21

    def __init__(self, words, marked, title=""):
        self.lines, self.marked = str(words).split("\n"), marked
        self.title = title

    def draw(self):
        marks, letter = [], wide("x")
        for row, words in enumerate(self.lines):
            y = (row + 0.5) * self.ROW
            over = []
            for pattern, colour in self.marked.items():
                for m in re.finditer(pattern, words):
                    dark = colour == "ink"
                    marks.append(box(
                        12 + m.start() * letter - 1, y - 9,
                        (m.end() - m.start()) * letter + 2, 18,
                        INK if dark else colour, "none"))
                    if dark:
                        over.append(text(12 + m.start() * letter, y, m[0],
                                         fill=PAPER))
            marks += [text(12 + i * letter, y, part) for i, part in
                      self.pieces(words)] + over
        return (max(wide(words) for words in self.lines) + 24,
                len(self.lines) * self.ROW, marks)

    def pieces(self, words):
        """Cut at spaces: SVG folds several spaces into one."""
        return [(m.start(), m[0]) for m in re.finditer(r"\S+", words)]


# Many events ----------------------------------------------------------------

class Dots(Picture):
    """Events in time: [(x, y, colour), ...]; `legend` explains the colours.

    y is drawn by its logarithm where `log` is true; `mark` is a pair of a y
    and its words, drawn as a line across.

    >>> Dots([(0, 1, "good")], {"good": "ok"}, "one")
    <Dots: one>
    """

    HEIGHT = 190

    def __init__(self, points, legend={}, title="", x="s", y="s", log=False,
                 mark=None):
        self.points, self.legend, self.title = list(points), legend, title
        self.x_unit, self.y_unit, self.log, self.mark = x, y, log, mark

    def draw(self):
        import math
        self.rule = (lambda y: math.log10(max(y, 1e-9))) if self.log else (
            lambda y: y)
        values = [self.rule(y) for _, y, _ in self.points]
        if self.mark:
            values.append(self.rule(self.mark[0]))
        low = math.floor(min(values)) if self.log else min(0, *values)
        high = math.ceil(max(values)) if self.log else max(values) * 1.05
        high = high if high > low else low + 1
        until = max(x for x, _, _ in self.points) or 1
        self.right = WIDTH - 26 - wide(self.x_unit, 11)

        def place(x, y):
            return (70 + x / until * (self.right - 70), 24 + self.HEIGHT
                    - (y - low) / (high - low) * self.HEIGHT)
        marks = self.draw_axes(place, low, high, until)
        marks += [dot(*place(x, self.rule(y)), 3, colour)
                  for x, y, colour in self.points]
        return WIDTH, self.HEIGHT + 48, marks

    def draw_axes(self, place, low, high, until):
        marks, x = [], 70
        for colour, words in self.legend.items():
            marks += [dot(x + 4, 8, 4, colour), text(x + 13, 8, words,
                                                     size=11)]
            x += 32 + wide(words, 11)
        marks.append(text(60, 8, self.y_unit, "end", 11, FAINT))
        rows = [(y, f"{10.0 ** y:g}") for y in range(low, high + 1)] if (
            self.log) else [(y, f"{y:g}") for y in ticks(high)]
        for y, words in rows:
            at = place(0, y)[1]
            marks += [line(70, at, self.right, at, COLOURS["wait"]),
                      text(60, at, words, "end", 11, FAINT)]
        floor = place(0, low)[1]
        for tick in ticks(until):
            at = place(tick, low)[0]
            marks += [line(at, 24, at, floor, COLOURS["wait"]),
                      text(at, floor + 13, f"{tick:g}", "middle", 11, FAINT)]
        marks.append(text(WIDTH - 8, floor + 13, self.x_unit, "end", 11,
                          FAINT))
        if self.mark:
            at = place(0, self.rule(self.mark[0]))[1]
            marks += [line(70, at, self.right, at, INK, dashed=True),
                      text(74, at - 9, self.mark[1], size=11)]
        return marks


# The clock ------------------------------------------------------------------

def zone(rule, key):
    """Make a tzinfo of a POSIX rule, so that no zone files are needed.

    The rule of a zone is one line, and stands at the end of each zone file
    (RFC 9636); this writes the least file that has it.

    >>> berlin = zone("CET-1CEST,M3.5.0,M10.5.0/3", "Europe/Berlin")
    >>> str(datetime.datetime(2026, 7, 1, tzinfo=berlin).utcoffset())
    '2:00:00'
    """
    head = struct.pack(">4sc15x6l", b"TZif", b"2", 0, 0, 0, 0, 1, 4)
    body = struct.pack(">lBB4s", 0, 0, 0, b"UTC")
    data = head + body + head + body + f"\n{rule}\n".encode()
    return zoneinfo.ZoneInfo.from_file(io.BytesIO(data), key)


class Fields(Picture):
    """What a cron expression holds: {field: (low, high, numbers)}.

    >>> Fields({"hour": (0, 23, {9, 17})}, "two hours")
    <Fields: two hours>
    """

    STEP = 36

    def __init__(self, fields, title=""):
        self.fields, self.title = fields, title

    def draw(self):
        left = 24 + max(map(wide, self.fields))
        most = max(high - low + 1 for low, high, _ in self.fields.values())
        marks = []
        for row, (name, (low, high, numbers)) in enumerate(
                self.fields.items()):
            y = row * self.STEP
            count = high - low + 1
            cell = min(22, (WIDTH - left - 16) / count)
            marks.append(text(10, y + 13, name))
            for number in range(low, high + 1):
                x, there = left + (number - low) * cell, number in numbers
                marks.append(box(x, y + 2, cell, 22,
                                 "good" if there else PAPER, COLOURS["wait"],
                                 tip=str(number)))
                if cell > 15 or there and not self.crowded(numbers, number):
                    marks.append(text(
                        x + cell / 2, y + (13 if cell > 15 else 31), number,
                        "middle", 10, INK if there else FAINT))
        return WIDTH if most > 24 else left + 22 * most, (
            len(self.fields) * self.STEP), marks

    def crowded(self, numbers, number):
        """Tell whether a number under its cell would touch the one before."""
        before = [other for other in numbers if other < number]
        return bool(before) and number - max(before) == 1 and (
            number % 5 != 0)


class Calendar(Picture):
    """On which days: [(year, month), ...] and {date: colour}.

    >>> Calendar([(2026, 2)], {datetime.date(2026, 2, 13): "good"}, "Feb")
    <Calendar: Feb>
    """

    CELL = 25

    def __init__(self, months, days, title=""):
        self.months, self.days, self.title = list(months), days, title

    def draw(self):
        marks, rows = [], 0
        for i, (year, month) in enumerate(self.months):
            left = 10 + i % 4 * (7 * self.CELL + 14)
            top = i // 4 * (8 * self.CELL + 8)
            name = f"{calendar.month_name[month]} {year}"
            marks.append(text(left + 4, top + 10, name, bold=True))
            marks += [text(left + (column + 0.5) * self.CELL, top + 32,
                           "MTWTFSS"[column], "middle", 10, FAINT)
                      for column in range(7)]
            for row, week in enumerate(calendar.Calendar().monthdatescalendar(
                    year, month)):
                rows = max(rows, top + 44 + (row + 1) * self.CELL)
                marks += [self.draw_day(date, left + column * self.CELL,
                                        top + 44 + row * self.CELL)
                          for column, date in enumerate(week)
                          if date.month == month]
        across = min(4, len(self.months))
        return 20 + across * (7 * self.CELL + 14), rows, marks

    def draw_day(self, date, x, y):
        colour = self.days.get(date)
        return (box(x, y, self.CELL - 2, self.CELL - 2, colour or PAPER,
                    FAINT if colour else COLOURS["wait"])
                + text(x + self.CELL / 2 - 1, y + self.CELL / 2 - 1,
                       date.day, "middle", 11, INK if colour else FAINT,
                       bold=bool(colour)))


class Strip(Picture):
    """At which instants: {job: [instant, ...]} from `start` to `end`.

    The paper is as long as real time; what stands at its foot is the clock
    on the wall in `zone`. Where that clock is moved, a line says so.

    >>> Strip({"noon": [43200]}, 0, 86400, datetime.timezone.utc, "a day")
    <Strip: a day>
    """

    STEP = 34

    def __init__(self, jobs, start, end, zone, title=""):
        self.jobs, self.start, self.end = dict(jobs), start, end
        self.zone, self.title = zone, title

    def wall(self, instant):
        return datetime.datetime.fromtimestamp(instant, self.zone)

    def x(self, instant):
        return self.left + (instant - self.start) * self.scale

    def draw(self):
        self.left = 34 + max(map(wide, self.jobs))
        self.scale = (WIDTH - 40 - self.left) / (self.end - self.start)
        top, floor = 22, 22 + self.STEP * len(self.jobs)
        marks = self.draw_clock(top, floor)
        for row, (name, instants) in enumerate(self.jobs.items()):
            y = top + (row + 0.5) * self.STEP
            marks += [text(10, y, name),
                      line(self.left, y, WIDTH - 40, y, COLOURS["wait"])]
            marks += self.draw_fires(y, sorted(instants))
        return WIDTH, floor + 24, marks

    def draw_fires(self, y, instants):
        few, free = len(instants) <= 12, 0
        for instant in instants:
            x = self.x(instant)
            if self.start <= instant <= self.end:
                yield dot(x, y, 5 if few else 3, "good", INK)
                if few and x > free:
                    yield text(x, y - 12, f"{self.wall(instant):%H:%M}",
                               "middle", 9)
                    free = x + 30           # px; no words over words

    def draw_clock(self, top, floor):
        marks, hours = [], (self.end - self.start) / 3600
        step = next(step for step in (1, 2, 3, 6, 12, 24, 48, 168)
                    if hours / step <= 14)
        for tick in range(int(hours) + 1):
            instant = self.start + tick * 3600
            wall = self.wall(instant)
            if wall.hour % min(step, 24):
                continue
            words = f"{wall:%H:%M}" if hours <= 30 else (
                "" if wall.hour else f"{wall:%d %b}")
            marks += [line(self.x(instant), top, self.x(instant), floor,
                           COLOURS["wait"]),
                      text(self.x(instant), floor + 12, words, "middle", 11,
                           FAINT)]
        for before, after in self.jumps():
            x = self.x(after)
            old = before + datetime.timedelta(minutes=1)
            words = f"{old:%H:%M} becomes {self.wall(after):%H:%M}"
            side = "end" if x > WIDTH * 0.6 else "start"
            marks += [line(x, top - 8, x, floor, INK, dashed=True),
                      text(x + (4 if side == "start" else -4), 10, words,
                           side, 11, INK)]
        return marks

    def jumps(self):
        """Give (clock before, instant after) of each move of the clock."""
        for minute in range(int(self.start) // 60 + 1, int(self.end) // 60):
            before, after = self.wall(minute * 60 - 60), minute * 60
            if before.utcoffset() != self.wall(after).utcoffset():
                yield before.replace(tzinfo=None), after
