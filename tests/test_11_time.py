"""Chapter 11: cron's expressions, its crontab, and the clock."""

import datetime
import json
import os
import pathlib
import random
import subprocess
import time
import zoneinfo

import pytest
from conftest import eventually, script

import faas
from faas import FaasError, Schedules

UTC = datetime.timezone.utc
ALL = {"minutes": range(60), "hours": range(24), "days": range(1, 32),
       "months": range(1, 13), "weekdays": range(7)}


def zone_of(name):
    try:
        return zoneinfo.ZoneInfo(name)
    except zoneinfo.ZoneInfoNotFoundError:
        pytest.skip(f"the rules of {name} are missing: apt install tzdata")


# 11.1 Reading an expression


@pytest.mark.parametrize("text, expected", [
    ("* * * * *", {}),
    ("*/25 * * * *", {"minutes": [0, 25, 50]}),
    ("5 * * * *", {"minutes": [5]}),
    ("0-59/20,7 * * * *", {"minutes": [0, 7, 20, 40]}),
    ("1,1,1 * * * *", {"minutes": [1]}),
    ("*/100 * * * *", {"minutes": [0]}),
    ("007 * * * *", {"minutes": [7]}),
    ("0 9-17/4 * * *", {"minutes": [0], "hours": [9, 13, 17]}),
    ("* * 31 * *", {"days": [31]}),
    ("* * * jan,Jun-AUG *", {"months": [1, 6, 7, 8]}),
    ("* * * */5 *", {"months": [1, 6, 11]}),
    ("* * * * mon-fri", {"weekdays": [1, 2, 3, 4, 5]}),
    ("* * * * 0", {"weekdays": [0]}), ("* * * * 7", {"weekdays": [0]}),
    ("* * * * Sun", {"weekdays": [0]}), ("* * * * 0-7", {}),
    ("* * * * 5-7", {"weekdays": [0, 5, 6]}),
    ("  *  *  *  *  *  ", {}),
    ("@hourly", {"minutes": [0]}),
    ("@daily", {"minutes": [0], "hours": [0]}),
    ("@midnight", {"minutes": [0], "hours": [0]}),
    ("@weekly", {"minutes": [0], "hours": [0], "weekdays": [0]}),
    ("@monthly", {"minutes": [0], "hours": [0], "days": [1]}),
    ("@yearly", {"minutes": [0], "hours": [0], "days": [1], "months": [1]}),
    ("@annually", {"minutes": [0], "hours": [0], "days": [1],
                   "months": [1]})])
def test_an_expression_is_understood(text, expected):
    found = faas.cron_parse(text)._asdict()
    for field, numbers in {**ALL, **expected}.items():
        assert sorted(found[field]) == sorted(numbers), field


@pytest.mark.parametrize("text", [
    "", " ", "*", "* * * *", "* * * * * *", "@reboot", "@every 5m", "@", "x",
    "60 * * * *", "-1 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *",
    "* * * 0 *", "* * * 13 *", "* * * * 8", "* * * * mon-", "* * * * -mon",
    "*/0 * * * *", "*/ * * * *", "/5 * * * *", "*/-5 * * * *", "5/2 * * * *",
    "*/*/2 * * * *", "1-2-3 * * * *", "30-10 * * * *", "* * * * fri-mon",
    "1, * * * *", ",1 * * * *", "1,,2 * * * *", "** * * * *", "*-5 * * * *",
    "*,x * * * *", "1.5 * * * *", "+1 * * * *", "0x1 * * * *", "? * * * *",
    "L * * * *", "* * * * monday", "jan * * * *", "* * mon * *",
    "* * * mon *", "\u0661 * * * *", "\xb2 * * * *", "*/\u0665 * * * *",
    "1e1 * * * *", "00000 * * * *", "99999999999 * * * *", "* * * * *;id",
    "$(id) * * * *", "* * * * `id`", "TZ=UTC * * * * *",
    "* * * * *\n* * * * *", "* * * * *\n", "*\r* * * *", "* * * * * id",
    "%" * 5, "% * * * *", "* * * * *\0"])
def test_what_is_no_expression_is_refused_with_pifaas_words(text):
    with pytest.raises(FaasError, match="^Invalid cron expression") as refusal:
        faas.cron_parse(text)
    assert refusal.value.kind == "bad_input"


@pytest.mark.parametrize("text, either", [
    ("0 0 13 * fri", True), ("0 0 13 * *", False), ("0 0 * * fri", False),
    ("0 0 */2 * fri", False), ("0 0 1-31 * fri", True),
    ("0 0 13 * */2", False), ("0 0 13 * 0-6", True)])
def test_two_restricted_days_are_an_or_as_in_vixie_cron(text, either):
    assert faas.cron_parse(text).either is either


# 11.2 The next time


def text_of(instant, zone=UTC):
    return str(datetime.datetime.fromtimestamp(instant, zone))[:16]


def after(text, when, zone=UTC, count=1):
    """Give the next fire times after a wall time, spelled with offsets."""
    cron = faas.cron_parse(text)
    instant, found = datetime.datetime.fromisoformat(when).replace(
        tzinfo=zone).timestamp(), []
    for _ in range(count):
        instant = faas.cron_next(cron, instant, zone)
        found.append(datetime.datetime.fromtimestamp(instant, zone))
    return [str(one)[5:16] + str(one)[19:22] for one in found]


@pytest.mark.parametrize("text, when, expected", [
    ("* * * * *", "2026-11-20 10:00", "2026-11-20 10:01"),
    ("* * * * *", "2026-12-31 23:59", "2027-01-01 00:00"),
    ("0 0 31 * *", "2026-01-31 00:00", "2026-03-31 00:00"),
    ("59 23 30 * *", "2026-01-31 00:00", "2026-03-30 23:59"),
    ("0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00"),
    ("0 0 29 2 *", "2028-02-29 00:00", "2032-02-29 00:00"),
    ("0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00"),
    ("0 0 29 2 *", "2000-01-01 00:00", "2000-02-29 00:00"),
    ("0 0 13 * fri", "2026-11-20 00:00", "2026-11-27 00:00"),
    ("0 0 13 * fri", "2026-12-12 00:00", "2026-12-13 00:00"),
    ("0 0 */2 * fri", "2026-11-20 00:00", "2026-11-27 00:00"),
    ("15 14 1 * *", "2026-11-01 14:15", "2026-12-01 14:15"),
    ("0 22 * * 1-5", "2026-11-20 22:00", "2026-11-23 22:00"),
    ("23 0-23/2 * * *", "2026-11-20 22:23", "2026-11-21 00:23"),
    ("5 4 * * sun", "2026-11-20 00:00", "2026-11-22 04:05")])
def test_the_next_time_is(text, when, expected):
    instant = datetime.datetime.fromisoformat(when + "+00:00").timestamp()
    found = faas.cron_next(faas.cron_parse(text), instant, UTC)
    assert text_of(found) == expected
    # Just before it is before it; and it is not its own successor.
    assert faas.cron_next(faas.cron_parse(text), found - 0.001, UTC) == found
    assert faas.cron_next(faas.cron_parse(text), found, UTC) > found


@pytest.mark.parametrize("text", ["0 0 30 2 *", "0 0 31 4,6,9,11 *"])
def test_a_date_that_never_comes_has_no_next_time(text):
    assert faas.cron_next(faas.cron_parse(text), 0.0, UTC) is None


@pytest.mark.parametrize("text, expected", [
    ("30 2 * * *", ["03-28 02:30+01", "03-29 03:00+02", "03-30 02:30+02"]),
    ("0 3 * * *", ["03-28 03:00+01", "03-29 03:00+02", "03-30 03:00+02"]),
    ("30 2,3 * * *", ["03-28 02:30+01", "03-28 03:30+01", "03-29 03:00+02",
                      "03-29 03:30+02"]),
    ("30 2 29 3 *", ["03-29 03:00+02"])])
def test_a_fixed_time_that_is_skipped_fires_when_the_gap_ends(text, expected):
    berlin = zone_of("Europe/Berlin")
    assert after(text, "2026-03-28 00:00", berlin, len(expected)) == expected


def test_a_repeating_time_that_is_skipped_does_not_exist():
    berlin = zone_of("Europe/Berlin")
    assert after("*/30 * * * *", "2026-03-29 01:00", berlin, 3) == [
        "03-29 01:30+01", "03-29 03:00+02", "03-29 03:30+02"]
    assert after("30 */2 * * *", "2026-03-29 00:30", berlin, 2) == [
        "03-29 04:30+02", "03-29 06:30+02"]


def test_a_fixed_time_that_comes_twice_fires_once():
    berlin = zone_of("Europe/Berlin")
    assert after("30 2 * * *", "2026-10-25 00:00", berlin, 2) == [
        "10-25 02:30+02", "10-26 02:30+01"]


def test_a_repeating_time_that_comes_twice_fires_twice():
    berlin = zone_of("Europe/Berlin")
    assert after("*/30 * * * *", "2026-10-25 01:30", berlin, 5) == [
        "10-25 02:00+02", "10-25 02:30+02", "10-25 02:00+01",
        "10-25 02:30+01", "10-25 03:00+01"]


def walls(zone, begin, minutes):
    """Walk a clock on a wall, minute by minute.

    Yields (instant, its reading, the readings that were jumped over, and
    whether this reading was seen before).
    """
    last, latest = faas.wall_of(begin - 60, zone), datetime.datetime.min
    for number in range(minutes):
        instant = begin + 60 * number
        wall, jumped = faas.wall_of(instant, zone), []
        while (last := last + datetime.timedelta(minutes=1)) < wall:
            jumped.append(last)
        yield instant, wall, jumped, wall <= latest
        last, latest = wall, max(wall, latest)


def reads(cron, wall):
    date, day = wall.day in cron.days, (wall.weekday() + 1) % 7
    days = (date or day in cron.weekdays) if cron.either else (
        date and day in cron.weekdays)
    return (days and wall.month in cron.months and wall.hour in cron.hours
            and wall.minute in cron.minutes)


def fires(cron, zone, begin, minutes):
    """List the fire times of a stretch of time, by looking at each minute."""
    return [instant for instant, wall, jumped, again in
            walls(zone, begin, minutes)
            if reads(cron, wall) and (cron.wild or not again)
            or not cron.wild and any(reads(cron, one) for one in jumped)]


def random_field(chance, low, high):
    kind = chance.randrange(5)
    one, two = sorted(chance.sample(range(low, high + 1), 2))
    return ("*", str(one), f"{one}-{two}", f"*/{chance.randint(1, 9)}",
            f"{one},{two}")[kind]


def random_expression(chance):
    return " ".join(random_field(chance, low, high)
                    for _, low, high, _ in faas.CRON_FIELDS)


# Where the clock is moved: by an hour, by half an hour, at midnight, by a day.
MOVES = [("UTC", "2026-02-27"), ("UTC", "2028-02-28"),
         ("Europe/Berlin", "2026-03-28"), ("Europe/Berlin", "2026-10-24"),
         ("America/New_York", "2026-03-07"),
         ("America/New_York", "2026-10-31"),
         ("Australia/Lord_Howe", "2026-04-04"),
         ("Australia/Lord_Howe", "2026-10-03"),
         ("America/Sao_Paulo", "2018-11-03"),
         ("America/Sao_Paulo", "2018-02-17"),
         ("Pacific/Apia", "2011-12-29"), ("Asia/Kathmandu", "2026-06-30")]


@pytest.mark.parametrize("name, date", MOVES)
def test_the_next_time_is_what_looking_at_every_minute_finds(name, date):
    zone, chance = zone_of(name), random.Random(name + date)
    begin = datetime.datetime.fromisoformat(date).replace(
        tzinfo=zone).timestamp()
    minutes, checked = 3 * 1440, 0
    for _ in range(12):
        text = random_expression(chance)
        cron = faas.cron_parse(text)
        expected = fires(cron, zone, begin, minutes)
        # A few of its times, and any other points of the three days.
        points = expected[:2] + expected[-2:] + [
            begin + chance.randrange(60 * minutes) for _ in range(4)]
        for point in points:
            found = faas.cron_next(cron, point, zone)
            due = [instant for instant in expected if instant > point]
            if due:
                assert found == due[0], (text, text_of(point, zone))
                checked += 1
            else:
                assert found is None or found >= begin + 60 * minutes, text
    assert checked > 5


def test_a_series_of_next_times_is_every_fire_time_over_a_gap_and_a_fold():
    berlin = zone_of("Europe/Berlin")
    for date in "2026-03-28", "2026-10-24":
        begin = datetime.datetime.fromisoformat(date).replace(
            tzinfo=berlin).timestamp()
        for text in "*/20 * * * *", "30 1-3 * * *", "10 */3 * * *":
            cron, now, found = faas.cron_parse(text), begin - 1, []
            while (now := faas.cron_next(cron, now, berlin)) < begin + 172800:
                found.append(now)
            assert found == fires(cron, berlin, begin, 2880), (date, text)


# 11.3 Writing a crontab

OURS = ["*/5 * * * * one", "@daily two"]
WORDS = [b"* * * * * true", b"# BEGIN", b"# END faas.py", b"MAILTO=me", b"",
         b"  ", b"\t# tab", b"# BEGIN faas.py /other", b"\xff\xfe", b"\x0c",
         b"# END faas.py /other", b"* * * * * echo 50\\%", b"x # BEGIN faas",
         b"# BEGIN faas.py /data ", b" # END faas.py /data", "\u2028".encode()]


def random_crontab(chance):
    lines = [chance.choice(WORDS) for _ in range(chance.randrange(8))]
    return b"".join(line + b"\n" for line in lines)


def test_every_other_line_stays_as_it_was_byte_for_byte():
    chance = random.Random(11)
    for _ in range(500):
        before = random_crontab(chance)
        first = faas.crontab_with(before, "/data", OURS)
        assert first.startswith(before) and b"\n@daily two\n" in first
        assert faas.crontab_with(first, "/data", OURS) == first
        # Another platform, and the user, write theirs around ours.
        other = faas.crontab_with(first, "/data2", ["@daily three"])
        later = random_crontab(chance)
        changed = faas.crontab_with(other + later, "/data", OURS[:1])
        assert changed == other.replace(b"@daily two\n", b"") + later
        assert faas.crontab_with(faas.crontab_with(
            changed, "/data", []), "/data2", []) == before + later


def test_a_crontab_without_our_lines_is_left_as_it_is():
    for crontab in b"", b"\n", b"MAILTO=me\n", b"no newline", b"\r\n":
        assert faas.crontab_with(crontab, "/data", []) == crontab


def test_a_last_line_without_a_newline_is_not_continued():
    assert faas.crontab_with(b"@daily a", "/d", ["@daily b"]) == (
        b"@daily a\n# BEGIN faas.py /d\n@daily b\n# END faas.py /d\n")


BEGIN, END = b"# BEGIN faas.py /data\n", b"# END faas.py /data\n"


@pytest.mark.parametrize("crontab", [
    BEGIN, END, END + BEGIN, BEGIN + BEGIN + END, BEGIN + END + END,
    BEGIN + b"x\n" + END + BEGIN + END, BEGIN + b"x\n" + END[:-1]])
@pytest.mark.parametrize("lines", [[], OURS])
def test_broken_markers_are_left_to_the_user(crontab, lines):
    with pytest.raises(FaasError, match="repair") as refusal:
        faas.crontab_with(b"a\n" + crontab + b"b\n", "/data", lines)
    assert refusal.value.kind == "conflict"


@pytest.mark.parametrize("expression, argv", [
    ("@daily", ["/srv/100%/faas.py"]), ("@daily", ["/srv/a\nb"]),
    ("@daily\n* * * * *", ["/srv/x"]), ("@daily", ["/" + "x" * 1000]),
    ("@daily", ["/srv/a\x1bb"]), ("@daily", ["/srv/a\rb"])])
def test_what_cron_cannot_take_is_refused(expression, argv):
    with pytest.raises(FaasError) as refusal:
        faas.cron_line(expression, argv)
    assert refusal.value.kind == "bad_input"


def test_a_line_may_be_as_long_as_cron_takes():
    frame = len(faas.cron_line("@daily", [""])) - 2
    exact = faas.cron_line("@daily", ["x" * (faas.MAX_CRON_LINE - frame)])
    assert len(exact) == faas.MAX_CRON_LINE
    with pytest.raises(FaasError):
        faas.cron_line("@daily", ["x" * (faas.MAX_CRON_LINE - frame + 1)])


def test_a_word_of_the_shell_is_only_a_word():
    line = faas.cron_line("@daily", ["echo", "$(id)", "a b", "'", ";", "*"])
    said = subprocess.run(["sh", "-c", line.partition(" ")[2].replace(
        ">/dev/null", "")], capture_output=True, text=True)
    assert said.stdout == "$(id) a b ' ; *\n"


# 11.4 Schedules, with a crontab that is a file of the test

CRONTAB = r"""#!/bin/sh
# What Debian's crontab does, for the user of this test only.
TAB='{tab}'
case "$1" in
-l) if [ -f "$TAB" ]; then cat "$TAB"
    else echo "no crontab for $(id -un)" >&2; exit 1; fi;;
-)  cat >"$TAB.new"
    if [ -s "$TAB.new" ] && [ -n "$(tail -c 1 "$TAB.new")" ]; then
        echo "new crontab file is missing newline before EOF" >&2; exit 1
    fi
    if grep -q '^59 23 31 12' "$TAB.new"; then
        echo '"-":1: bad minute' >&2; exit 1
    fi
    mv "$TAB.new" "$TAB";;
*)  exit 2;;
esac
"""


class Cron:
    """A crontab, and a cron that runs a line when it is told to."""

    def __init__(self, home):
        self.tab, tools = home / "tab", home / "tools"
        tools.mkdir()
        (tools / "crontab").write_text(CRONTAB.format(tab=self.tab))
        (tools / "crontab").chmod(0o755)
        self.env = {"PATH": f"{tools}:/usr/local/bin:/usr/bin:/bin"}
        self.home = home

    def lines(self):
        """Give the lines that are jobs."""
        return [line for line in self.tab.read_text().splitlines()
                if line and not line.startswith("#")]

    def start(self, line):
        """Start a line's command as cron does: sh, and hardly a variable."""
        return subprocess.Popen(
            ["/bin/sh", "-c", line.split(None, 5)[5]], cwd=self.home,
            env={"HOME": str(self.home), "LOGNAME": "pi", "SHELL": "/bin/sh",
                 "PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL)

    def run(self, line):
        return self.start(line).wait(timeout=60)


@pytest.fixture
def cron(tmp_path):
    return Cron(tmp_path)


@pytest.fixture
def crond(server, cron):
    """A server that keeps its schedules in that crontab; and the crontab."""
    return server("--clock", "crontab", env=cron.env), cron


def executions(faas):
    return [(one["function"], one["trigger"], one["status"]) for one in
            json.loads(faas.get("/-/executions").body)]


def test_a_schedule_is_a_line_that_calls_this_file(crond):
    server, cron = crond
    script(server, "tick", "echo tock")
    assert server.post("/schedule/tick", b"*/5 * * * *").status == 200
    tab = cron.tab.read_text()
    assert tab.startswith(f"# BEGIN faas.py {server.data}\n*/5 * * * * /")
    assert tab.endswith(f"# END faas.py {server.data}\n")
    assert f"{faas.__file__} invoke tick --trigger cron" in tab
    assert "%" not in tab and max(map(len, cron.lines())) < 990
    assert server.post("/schedule/tick", b"@hourly").status == 200
    assert [line.split()[:5] for line in cron.lines()] == ["0 * * * *".split()]
    assert server.request("DELETE", "/schedule/tick").status == 200
    assert cron.tab.read_text() == ""


def test_the_users_own_lines_stay(server, cron):
    own = b"# mine\n\nMAILTO=me\n*/7 * * * *   true \\%\n#\xe9\n"
    cron.tab.write_bytes(own)
    faas = server("--clock", "crontab", env=cron.env)
    for name in "a", "b":
        script(faas, name, "true")
        assert faas.post(f"/schedule/{name}", b"@daily").status == 200
    assert cron.tab.read_bytes().startswith(own + b"# BEGIN")
    faas.request("DELETE", "/schedule/a")
    faas.request("DELETE", "/schedule/b")
    assert cron.tab.read_bytes() == own


def test_the_line_goes_through_the_running_server(crond):
    server, cron = crond
    script(server, "tick", "echo tock $FAAS_TRIGGER $PPID")
    server.post("/schedule/tick", b"* * * * *")
    assert cron.run(cron.lines()[0]) == 0
    assert b"tock cron" in server.get("/logs/tick").body
    assert executions(server) == [("tick", "cron", "ok")]


def test_what_a_scheduled_python_function_answers_is_logged(crond):
    server, cron = crond
    server.upload("py", {"fn.py": "def fn(input): return f'answer {input}'"})
    server.post("/schedule/py", b"* * * * *")
    assert cron.run(cron.lines()[0]) == 0
    assert b"answer None" in server.get("/logs/py").body


def test_the_line_works_where_no_server_runs(crond):
    server, cron = crond
    script(server, "tick", "echo tock $FAAS_TRIGGER")
    server.upload("py", {"fn.py": "def fn(input): return 'py too'"})
    server.post("/schedule/tick", b"* * * * *")
    server.post("/schedule/py", b"1 * * * *")
    server.stop()
    for line in cron.lines():
        assert cron.run(line) == 0
    assert "tock cron" in (server.logs / "tick.log").read_text()
    assert "py too" in (server.logs / "py.log").read_text()


def test_the_line_works_after_the_server_was_killed(crond):
    server, cron = crond
    script(server, "tick", "echo tock")
    server.post("/schedule/tick", b"* * * * *")
    server.kill()
    assert cron.run(cron.lines()[0]) == 0
    assert "tock" in (server.logs / "tick.log").read_text()


def test_a_run_that_fails_is_recorded_and_logged(crond):
    server, cron = crond
    path = script(server, "bad", "echo nearly; exit 3")
    server.post("/schedule/bad", b"* * * * *")
    crashed = faas.KINDS["crashed"].exit
    assert cron.run(cron.lines()[0]) == crashed
    assert b"nearly" in server.get("/logs/bad").body
    path.unlink()
    assert cron.run(cron.lines()[0]) == faas.KINDS["not_found"].exit
    assert [status for _, _, status in executions(server)] == [
        "not_found", "crashed"]


def test_a_run_that_overlaps_is_skipped_and_recorded_as_skipped(crond):
    server, cron = crond
    flag = server.home / "go"
    script(server, "slow", f"echo begun >{server.home}/begun\n"
           f"while [ ! -e {flag} ]; do sleep 0.05; done")
    server.post("/schedule/slow", b"* * * * *")
    line = cron.lines()[0]
    first = cron.start(line)
    eventually(lambda: (server.home / "begun").exists())
    assert cron.run(line) == faas.KINDS["conflict"].exit
    assert executions(server) == [("slow", "cron", "skipped")]
    flag.touch()
    assert first.wait(timeout=30) == 0 and cron.run(line) == 0
    assert [status for _, _, status in executions(server)] == [
        "ok", "skipped", "ok"]      # newest first, by when they began


def test_two_lines_without_a_server_overlap_no_more_than_with_one(crond):
    server, cron = crond
    flag = server.home / "go"
    script(server, "slow", f"echo begun >{server.home}/begun\n"
           f"while [ ! -e {flag} ]; do sleep 0.05; done")
    server.post("/schedule/slow", b"* * * * *")
    server.stop()
    line = cron.lines()[0]
    first = cron.start(line)
    eventually(lambda: (server.home / "begun").exists())
    assert cron.run(line) == faas.KINDS["conflict"].exit
    flag.touch()
    assert first.wait(timeout=30) == 0


def test_what_crontab_refuses_is_not_scheduled(crond):
    server, cron = crond
    script(server, "tick", "true")
    server.post("/schedule/tick", b"0 3 * * *")
    before = cron.tab.read_bytes()
    reply = server.post("/schedule/tick", b"59 23 31 12 *")
    assert reply.status == 400 and b"bad minute" in reply.body
    assert cron.tab.read_bytes() == before
    assert json.loads(server.get("/schedule").body) == {"tick": "0 3 * * *"}


def test_an_expression_with_a_line_break_never_reaches_the_crontab(crond):
    server, cron = crond
    script(server, "tick", "true")
    for text in (b"* * * * *\n* * * * * id", b"* * * * *\r* * * * * id",
                 b"\x00 * * * *", b"* * * *\x1b*"):
        assert server.post("/schedule/tick", text).status == 400, text
    # A newline at the end is what editors add, and curl -d @file sends.
    assert server.post("/schedule/tick", b"@daily\n").status == 200
    assert [line.split()[:5] for line in cron.lines()] == ["0 0 * * *".split()]


def test_the_same_expressions_are_taken_by_every_clock(server, cron):
    texts = [b"*/5\t* * * *", b"  0  3 * *  MON-FRI ", b"@DAILY", b"@Hourly"]
    for flags in ("--clock", "crontab"), ("--clock", "builtin"):
        faas = server(*flags, env=cron.env)
        script(faas, "tick", "true")
        for text in texts:
            assert faas.post("/schedule/tick", text).status == 200, text
        faas.stop()
    # Of the macros, Vixie cron knows only the spelling in small letters.
    assert not any("@D" in line or "@H" in line for line in cron.lines())


def test_a_crontab_that_does_not_work_is_a_503(server, cron):
    tool = cron.home / "tools" / "crontab"
    faas = server("--clock", "crontab", env=cron.env)
    script(faas, "tick", "true")
    tool.write_text("#!/bin/sh\necho you are not allowed >&2\nexit 1\n")
    reply = faas.post("/schedule/tick", b"@daily")
    assert reply.status == 503 and b"you are not allowed" in reply.body
    assert faas.get("/schedule").body == b"{}\n"


def test_a_start_puts_back_the_lines_that_somebody_removed(server, cron):
    faas = server("--clock", "crontab", env=cron.env)
    script(faas, "tick", "true")
    faas.post("/schedule/tick", b"@daily")
    before = cron.tab.read_bytes()
    faas.stop()
    cron.tab.unlink()
    server("--clock", "crontab", home=faas.home, env=cron.env)
    assert cron.tab.read_bytes() == before


def test_a_start_with_broken_markers_serves_and_says_so(server, cron):
    faas = server("--clock", "crontab", env=cron.env)
    script(faas, "tick", "echo tock")
    faas.post("/schedule/tick", b"@daily")
    faas.stop()
    cron.tab.write_text(f"# BEGIN faas.py {faas.data}\n")
    again = server("--clock", "crontab", home=faas.home, env=cron.env)
    assert again.post("/tick").body == b"tock\n"
    assert "schedules wait" in again.output and "repair" in again.output
    assert cron.tab.read_text() == f"# BEGIN faas.py {faas.data}\n"


def test_a_function_that_is_deleted_takes_its_schedule_along(crond):
    server, cron = crond
    for name in "one", "two", "three":
        server.upload(name, {"fn.py": "def fn(input): return input"})
        server.post(f"/schedule/{name}", b"@daily")
    server.post("/delete", b'{"name": "one"}')
    assert list(json.loads(server.get("/schedule").body)) == ["three", "two"]
    server.post("/wipe")
    assert server.get("/schedule").body == b"{}\n"
    assert cron.tab.read_text() == ""


def test_a_date_that_never_comes_is_refused(crond):
    server, _ = crond
    script(server, "tick", "true")
    assert server.post("/schedule/tick", b"0 0 30 2 *").status == 400


# The clock of our own


@pytest.fixture
def schedules(tmp_path):
    platform = faas.Platform(str(tmp_path))
    schedules = Schedules(platform)
    yield schedules
    schedules.close()
    platform.close()


def put(schedules, name, expression):
    path = pathlib.Path(schedules.platform.functions) / name
    path.write_text("#!/bin/sh\necho tock\n")
    path.chmod(0o755)
    schedules.put(name, expression)


@pytest.mark.parametrize("text", ["61 * * * *", "* * *", "0 0 30 feb *", "",
                                  "* * * * *\n* * * * * id"])
def test_an_expression_can_be_checked_and_nothing_is_changed(schedules, text):
    with pytest.raises(FaasError, match="Invalid cron expression") as error:
        schedules.check(text)
    assert error.value.kind == "bad_input"
    schedules.check("*/5 * * * *"), schedules.check("@daily")
    assert schedules.all() == {}


def test_the_next_run_of_an_expression_is_known(schedules):
    now = time.time()
    due = schedules.next_run("* * * * *", now)
    assert now < due <= now + 60
    assert schedules.next_run("0 0 30 feb *", now) is None


def test_a_function_may_be_scheduled_and_run_by_its_id(schedules):
    platform = schedules.platform
    ident = platform.deploy("f", {"fn.py": faas.Item(
        b"def fn(input, headers): return headers['X-Faas-Trigger']")}).id
    assert schedules.fire(ident).body == b"cron"
    [one] = platform.journal.recent("f")
    assert (one.function, one.trigger) == ("f", "cron")


def test_the_clock_finds_what_has_become_due(schedules):
    for name, text in [("often", "* * * * *"), ("hourly", "0 * * * *"),
                       ("never", "59 23 31 12 *")]:
        put(schedules, name, text)
    noon = datetime.datetime(2026, 11, 20, 12).timestamp()      # here
    assert schedules.due(noon - 59.9, noon + 0.02) == ["hourly", "often"]
    assert schedules.due(noon + 0.02, noon + 59.9) == []
    assert schedules.due(noon + 0.02, noon + 60.02) == ["often"]
    assert schedules.due(noon, noon) == []
    # After a night's sleep once, and not once for each missed minute.
    assert schedules.due(noon - 8 * 3600, noon) == ["hourly", "often"]


def test_a_run_of_the_clock_is_a_call_like_any_other(schedules):
    put(schedules, "tick", "* * * * *")
    assert schedules.fire("tick").body == b"tock\n"
    assert b"tock" in schedules.platform.logs.read("tick")
    assert [one.trigger for one in schedules.platform.journal.recent()] == [
        "cron"]


def test_without_crontab_the_start_says_which_clock_it_is(server, cron):
    (cron.home / "tools" / "crontab").unlink()
    if os.path.exists("/usr/bin/crontab"):      # a PATH without it, then
        cron.env["PATH"] = str(cron.home / "tools")
    faas = server("--clock", "auto", env=cron.env)
    eventually(lambda: "stop" in faas.output)
    assert "clock thread of our own" in faas.output
    script(faas, "tick", "true")
    assert faas.post("/schedule/tick", b"@daily").status == 200


@pytest.mark.parametrize("flag", ["builtin", "off"])
def test_a_clock_that_is_not_the_crontab_leaves_it_alone(server, cron, flag):
    faas = server("--clock", flag, env=cron.env)
    script(faas, "tick", "true")
    assert faas.post("/schedule/tick", b"@daily").status == 200
    assert not cron.tab.exists()


def wait_for_the_minute(faas):
    """Wait until a job that runs every minute has run."""
    end = time.monotonic() + 130
    while faas.get("/logs/tick").status == 404:
        assert time.monotonic() < end, "no run within two minutes"
        time.sleep(0.5)
    assert b"tock cron" in faas.get("/logs/tick").body
    assert executions(faas)[-1] == ("tick", "cron", "ok")


@pytest.mark.parametrize("clock", ["crontab", "builtin"])
def test_a_job_really_fires_within_two_minutes(server, real_crontab, clock):
    faas = server("--clock", clock)
    script(faas, "tick", "echo tock $FAAS_TRIGGER")
    assert faas.post("/schedule/tick", b"* * * * *").status == 200
    wait_for_the_minute(faas)
    assert faas.request("DELETE", "/schedule/tick").status == 200
