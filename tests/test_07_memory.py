"""Chapter 7: secrets, log files, and the executions of yesterday."""

import itertools
import json
import os
import re
import resource
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT, eventually

import faas as book_of_faas
from faas import (MAX_DETAIL, MAX_KEY, MAX_VALUE, Call, Detail, Execution,
                  FaasError, Item, Journal, LogBook, Platform, Retention,
                  Store, forget, log_entry, mask, open_database, used_bytes)

# 7.1 Secrets

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQ\nIBADAN\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize("text, masked", [
    (JWT, "[REDACTED]"),
    (f"token is {JWT}.", "token is [REDACTED]."),
    (f"({JWT})", "([REDACTED])"),
    (f'"{JWT}"', '"[REDACTED]"'),
    ("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "[REDACTED]"),
    ("Authorization: Bearer 0123456789abcdef",
     "Authorization: Bearer [REDACTED]"),
    ("authorization: bearer 0123456789abcdef",
     "authorization: bearer [REDACTED]"),
    ("Bearer a.b~c+d/e-f_g==", "Bearer [REDACTED]"),
    ("id AKIAIOSFODNN7EXAMPLE end", "id [REDACTED] end"),
    (KEY, "-----BEGIN PRIVATE KEY-----[REDACTED]-----END PRIVATE KEY-----"),
    (KEY.replace("PRIVATE", "RSA PRIVATE"),
     "-----BEGIN RSA PRIVATE KEY-----[REDACTED]-----END RSA PRIVATE KEY-----"),
    ("password=hunter2!", "password=[REDACTED]"),
    ("Password: hunter2!", "Password: [REDACTED]"),
    ("PASSWD = hunter2!", "PASSWD = [REDACTED]"),
    ("DB_PASSWORD=hunter2!", "DB_PASSWORD=[REDACTED]"),
    ("'password': 'hunter2!'", "'password': '[REDACTED]'"),
    ('{"password":"hunter2!","a":1}', '{"password":"[REDACTED]","a":1}'),
    ("password=hunter2!&user=me", "password=[REDACTED]&user=me"),
    ("api_key=abcd1234", "api_key=[REDACTED]"),
    ("X-Api-Key: abcd1234", "X-Api-Key: [REDACTED]"),
    ("apikey: abcd1234", "apikey: [REDACTED]"),
    ("client_secret=abcd1234", "client_secret=[REDACTED]"),
    ("access_token: abcd1234", "access_token: [REDACTED]"),
    ("credentials='abcd1234'", "credentials='[REDACTED]'"),
    ("password=one12345 token=two12345",
     "password=[REDACTED] token=[REDACTED]"),
    ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG",
     "AWS_SECRET_ACCESS_KEY=[REDACTED]"),
    ("SECRET_KEY = 'django-abcd1234'", "SECRET_KEY = '[REDACTED]'"),
    ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [REDACTED]"),
    ("postgres://me:hunter2!@db/x", "postgres://[REDACTED]@db/x"),
    ('password="two words; and more"', 'password="[REDACTED]"')])
def test_what_looks_like_a_secret_is_masked(text, masked):
    assert mask(text) == masked
    assert mask(masked) == masked           # and masking again is no harm


@pytest.mark.parametrize("text", [
    "", "hello", "the author of token parsing", "a password is needed",
    "Bearer of bad news", "eyJ is how a token begins", "AKIA",
    "AKIAIOSFODNN7EXAMPLEANDMORE", "tokens: 17", "password=", "password: ab",
    "secretary: Ann Miller", "-----BEGIN PRIVATE KEY-----", "a.b.c",
    "https://example.org/?page=1&size=20", "KeyError: 'colour'",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"])
def test_what_does_not_look_like_a_secret_stays(text):
    assert mask(text) == text


ENV = {"API_KEY": "4711-4712", "DB_PASSWORD": "hunter22", "COLOUR": "magenta",
       "GITHUB_TOKEN": "ghp.abc*(", "SIGNING_KEY": "line1\nline2",
       "SECRET": "abc", "EMPTY_KEY": ""}


def test_the_functions_own_secrets_are_masked_wherever_they_stand():
    text = "a4711-4712b hunter22 magenta ghp.abc*( line1\nline2 abc"
    assert mask(text, ENV) == ("a[REDACTED]b [REDACTED] magenta [REDACTED] "
                               "[REDACTED] abc")


HOSTILE = [
    "eyJ" * 350_000, "eyJ-" * 250_000, "eyJaaaaa." * 110_000,
    "eyJ" + "a" * 1_000_000, "Bearer " * 140_000, "Bearer " + "x" * 1_000_000,
    "password" * 120_000, "password=" * 110_000, "password   =   " * 65_000,
    "password" + " " * 1_000_000, "secret:'" * 120_000, "AKIA" * 250_000,
    "PRIVATE KEY-----" * 60_000, "PRIVATE KEY-----" + "a" * 1_000_000,
    "PRIVATE KEY-----aaaa----" * 40_000, "a" * 1_000_000, "\n" * 1_000_000,
    "token=[REDACTED]" * 60_000]


def test_a_megabyte_made_to_slow_a_pattern_is_masked_in_time():
    # In a process of its own, because nothing can end a pattern at work.
    # Each takes milliseconds; one that grows with the square takes minutes.
    said = subprocess.run(
        [sys.executable, "-c", "import faas, json, sys\n"
         "for text in json.load(sys.stdin):\n"
         "    print(len(faas.mask(text)))"],
        input=json.dumps(HOSTILE), text=True, cwd=ROOT, timeout=20,
        capture_output=True)
    assert len(said.stdout.split()) == len(HOSTILE), said.stderr


# 7.2 Log files


def test_a_log_entry_is_pifaas_s_to_the_byte(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        started = 1795164639.973999         # PiFaaS: datetime.isoformat()
        assert log_entry(started, "hello\nyou") == (
            "\n--- Run at 2026-11-20T08:50:39.973999 ---\nhello\nyou\n")
        # isoformat() alone leaves out a fraction of zero; a header does not.
        assert log_entry(0.0, "hi\n\n\n") == (
            "\n--- Run at 1970-01-01T00:00:00.000000 ---\nhi\n")
        assert log_entry(0.0, "") == (
            "\n--- Run at 1970-01-01T00:00:00.000000 ---\n\n")
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.fixture
def book(tmp_path):
    return LogBook(tmp_path / "logs", most=1000, keep=2)


def texts(log):
    """Give what was logged, without the headers."""
    return re.findall(r"--- Run at \S+ ---\n(.*)\n", log.decode())


def test_runs_are_appended_in_one_file_per_function(book):
    for name, text in ("f", "one"), ("g", "two"), ("f", "three"):
        book.append(name, 0.0, text)
    assert texts(book.read("f")) == ["one", "three"]
    assert texts(book.read("g")) == ["two"]
    assert sorted(os.listdir(book.folder)) == ["f.log", "g.log"]


def test_text_that_is_no_unicode_is_logged_all_the_same(book):
    book.append("f", 0.0, "a\udcffb ü")
    assert texts(book.read("f")) == ["a?b ü"]


def test_a_log_that_was_never_written_is_not_found(book):
    with pytest.raises(FaasError, match="No logs found") as error:
        book.read("f")
    assert error.value.kind == "not_found"


@pytest.mark.parametrize("name", ["../f", "", "a/b", ".hidden", "a\0"])
def test_no_name_of_a_log_leaves_the_folder(book, name):
    for use in book.read, book.remove, lambda name: book.append(name, 0, ""):
        with pytest.raises(FaasError, match="is no function name"):
            use(name)


def test_a_log_that_has_grown_too_large_moves_aside(book):
    for number in range(200):
        book.append("f", 0.0, f"{number:050}")
    assert sorted(os.listdir(book.folder)) == ["f.log", "f.log.1", "f.log.2"]
    for name in os.listdir(book.folder):    # the bound, and the last entry
        assert (book.folder / name).stat().st_size < 1000 + 150
    numbers = [int(text) for text in texts(book.read("f"))]
    assert numbers == list(range(numbers[0], 200)) and len(numbers) > 15


def test_remove_takes_the_log_with_its_older_parts(book):
    for number in range(100):
        book.append("f", 0.0, f"{number:050}")
    book.append("g", 0.0, "stays")
    book.remove("f")
    assert os.listdir(book.folder) == ["g.log"]
    book.remove("f")                        # and twice is no harm


def test_runs_at_the_same_time_never_mix_their_lines(tmp_path):
    book = LogBook(tmp_path / "logs", most=1 << 30)

    def write(letter):
        for _ in range(50):
            book.append("f", 0.0, "\n".join([letter * 100] * 50))
    writers = [threading.Thread(target=write, args=letter)
               for letter in "abcdefgh"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    runs = book.read("f").decode().split("\n--- Run at ")[1:]
    assert len(runs) == 400
    for run in runs:
        lines = run.splitlines()[1:]
        assert len(lines) == 50 and len(set(lines)) == 1


# 7.3 and 7.4 Executions and the journal


def execution(number, function="f", started=None, error=""):
    started = time.time() if started is None else started
    ident = f"{int(started * 1000):012x}{number:08x}"
    return Execution(ident, function, 1, "http", started, 0.5, "warm", "ok",
                     1, 2, error)


@pytest.fixture
def path(tmp_path):
    return (tmp_path / "faas.db").as_posix()


@pytest.fixture
def journal(path):
    journal = Journal(path)
    yield journal
    journal.close()


def test_what_was_recorded_can_be_read_at_once(journal):
    now = time.time()
    for number in range(20):
        one = execution(number, started=now + number)
        journal.record(one)
        assert journal.recent("f", 1) == [one]


def test_the_newest_come_first_of_one_function_or_of_all(journal):
    now = time.time()
    made = [execution(number, "fg"[number % 2], now + number)
            for number in range(10)]
    for one in made:
        journal.record(one)
    assert journal.recent() == made[::-1]
    assert [one.function for one in journal.recent("g", 3)] == ["g"] * 3
    assert journal.recent("nobody") == []
    assert journal.recent(limit=4, offset=3) == made[::-1][3:7]
    assert journal.recent("f", 9, offset=4) == made[:1]
    assert [journal.count(name) for name in ("f", "nobody")] == [5, 0]


def test_records_of_many_threads_all_arrive(journal):
    numbers = itertools.count()

    def write():
        for _ in range(100):
            journal.record(execution(next(numbers)))
    writers = [threading.Thread(target=write) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(journal.recent(limit=1000)) == 800


def test_what_was_recorded_before_the_close_is_there_after_it(path):
    journal = Journal(path)
    for number in range(100):
        journal.record(execution(number))
    journal.close()
    again = Journal(path)
    assert len(again.recent(limit=1000)) == 100
    again.close()


def test_a_text_that_is_no_unicode_does_not_stop_the_journal(journal):
    journal.record(execution(1, error="ValueError: \udcff"))
    journal.record(execution(2))
    assert execution(2).id[12:] in [one.id[12:] for one in journal.recent()]
    assert journal.thread.is_alive()


numbers = itertools.count(1000)


def fill(path, started, count, error="x" * 500, function="f"):
    database = open_database(path)
    with database:
        database.executemany(
            f"INSERT INTO executions VALUES ({','.join('?' * 12)})",
            [execution(next(numbers), function, started, error)
             for _ in range(count)])
    return database


def count(database):
    return database.execute("SELECT count(*) FROM executions").fetchone()[0]


def test_executions_past_their_days_are_forgotten(journal, path):
    now, day = 1e9, 86400
    for age in 0, 29, 31, 1000:
        fill(path, now - age * day, 10).close()
    database = open_database(path)
    forget(database, Retention(days=30), now)
    assert count(database) == 20
    forget(database, Retention(days=0.5), now)
    assert count(database) == 10
    database.close()


def test_executions_past_their_size_are_forgotten_the_oldest_first(
        journal, path):
    for started in range(1, 11):
        database = fill(path, 1e9 + started, 200)
    before = used_bytes(database)
    assert before > 1_000_000
    forget(database, Retention(size=500_000), 1e9 + 11)
    assert 300_000 < used_bytes(database) <= 500_000
    starts = [row[0] - 1e9 for row in database.execute(
        "SELECT DISTINCT started FROM executions ORDER BY 1")]
    assert starts[-1] == 10 and starts == [*range(int(starts[0]), 11)]
    database.close()


def test_a_size_that_is_too_small_for_anything_ends_the_forgetting(
        journal, path):
    database = fill(path, 1e9, 100)
    forget(database, Retention(size=0), 1e9)
    assert count(database) == 0
    database.close()


def test_a_function_may_have_a_retention_of_its_own(journal, path):
    now, day = 1e9, 86400
    for function in "short", "long", "other":
        for age in 0, 5, 10, 40, 400:
            fill(path, now - age * day, 2, function=function).close()
    database = open_database(path)
    forget(database, Retention(days=30), now, {"short": 7, "long": 365})
    kept = database.execute("SELECT function, count(*) FROM executions "
                            "GROUP BY 1 ORDER BY 1").fetchall()
    assert kept == [("long", 8), ("other", 6), ("short", 4)]
    # One that is not asked for by name has none of its own.
    forget(database, Retention(days=7), now, {"short": 30})
    kept = database.execute("SELECT function, count(*) FROM executions "
                            "GROUP BY 1 ORDER BY 1").fetchall()
    assert kept == [("long", 4), ("other", 4), ("short", 4)]
    database.close()


@pytest.mark.parametrize("name", ["a'b", "100%", "x\"y", "[1]", "\u00e9"])
def test_a_retention_reads_a_name_as_a_name(journal, path, name):
    fill(path, 1e9 - 40 * 86400, 1, function=name).close()
    fill(path, 1e9 - 40 * 86400, 1, function="other").close()
    database = open_database(path)
    forget(database, Retention(days=30), 1e9, {name: 365})
    assert database.execute("SELECT function FROM executions").fetchall() == [
        (name,)]
    database.close()


def test_the_journal_asks_for_the_retentions_when_it_forgets(path):
    Journal(path).close()
    past = time.time() - 10 * 86400
    fill(path, past, 3, function="short").close()
    fill(path, past, 3, function="other").close()
    asked = []

    def days_of():
        asked.append(True)
        return {"short": 7}
    journal = Journal(path, days_of=days_of)
    journal.flush()
    eventually(lambda: journal.count("short") == 0)
    assert journal.count("other") == 3 and asked == [True]
    journal.close()


def test_what_functions_keep_takes_no_room_from_what_is_remembered(tmp_path):
    with Platform(str(tmp_path)) as platform:
        before = used_bytes(platform.journal.reader)
        for number in range(6):
            platform.store.set("f", str(number), "x" * 500_000)
        assert used_bytes(platform.journal.reader) == before


# What was said in a call


def test_what_was_said_in_a_call_is_found_with_it(journal):
    now = time.time()
    one = execution(1, started=now)._replace(code=404)
    detail = Detail(one.id, "[info] hi", '{"method": "GET"}', "{}")
    journal.record(one, detail)
    assert journal.find(one.id) == (one, detail)


def test_a_call_in_which_nothing_was_said_has_no_detail(journal):
    one = execution(1)
    journal.record(one, Detail(one.id, "", "", ""))
    assert journal.find(one.id) == (one, Detail(one.id, "", "", ""))
    assert journal.read("SELECT count(*) FROM details", ()) == [(0,)]


def test_what_is_not_remembered_is_not_found(journal):
    for ident in "", "no-such", "x" * 1000, "' OR 1=1":
        with pytest.raises(FaasError, match="Execution not found") as error:
            journal.find(ident)
        assert error.value.kind == "not_found"
        assert len(str(error.value)) < 100


def test_what_was_said_is_bounded_and_text(journal):
    one = execution(1)
    journal.record(one, Detail(one.id, "a" * (MAX_DETAIL + 1), "\udcff",
                               "ü" * (MAX_DETAIL + 1)))
    detail = journal.find(one.id)[1]
    assert [len(text) for text in detail[1:]] == [MAX_DETAIL, 1, MAX_DETAIL]
    assert detail.event == "?"


def details(path):
    database = open_database(path)
    found = [row[0] for row in database.execute(
        "SELECT id FROM details ORDER BY 1")]
    database.close()
    return found


@pytest.mark.parametrize("retention", [Retention(days=1),
                                       Retention(size=100_000)])
def test_what_was_said_goes_with_its_execution(journal, path, retention):
    now = time.time()
    for number in range(20):
        one = execution(number, started=now - 2 * 86400 * (number < 10),
                        error="x" * 4000)
        journal.record(one, Detail(one.id, "y" * 9000, "", ""))
    journal.flush()
    assert len(details(path)) == 20
    database = open_database(path)
    forget(database, retention, now)
    left = [row[0] for row in database.execute(
        "SELECT id FROM executions ORDER BY 1")]
    database.close()
    assert 0 < len(left) <= 10 and details(path) == left


def test_a_function_is_forgotten_with_all_that_was_said(journal, path):
    for number in range(10):
        one = execution(number, "fg"[number % 2])
        journal.record(one, Detail(one.id, "hi", "", ""))
    journal.remove("f")         # also what waits to be written
    assert (journal.count("f"), journal.count("g")) == (0, 5)
    assert details(path) == sorted(one.id for one in journal.recent("g"))
    journal.remove("nobody")
    assert journal.count("g") == 5


def test_the_journal_forgets_at_its_start(path):
    Journal(path).close()
    fill(path, 1e9, 50).close()             # of 2001
    journal = Journal(path)
    journal.record(execution(1))
    eventually(lambda: len(journal.recent()) == 1)
    journal.close()


def test_a_journal_that_cannot_write_goes_on_when_it_can_again(
        journal, path, capfd):
    journal.record(execution(1))
    assert len(journal.recent()) == 1
    other = open_database(path)
    other.execute("ALTER TABLE executions RENAME TO elsewhere")
    journal.record(execution(2))
    journal.flush()
    other.execute("ALTER TABLE elsewhere RENAME TO executions")
    other.close()
    journal.record(execution(3))
    assert len(journal.recent()) == 2
    assert "1 executions could not be recorded" in capfd.readouterr().err


# Through the platform


def test_an_execution_says_what_happened(tmp_path):
    with Platform(tmp_path.as_posix()) as platform:
        platform.deploy("f", {"fn.py": Item(
            b"def fn(input): return 4 / len(input or '')")})
        before = time.time()
        good = platform.invoke(Call("f", b"hi", trigger="cron"))
        bad = platform.invoke(Call("f"))
        none = platform.invoke(Call("no-such"))
        newest = platform.journal.recent()
    assert [one.id for one in newest] == [none.id, bad.id, good.id] or (
        {one.id for one in newest} == {none.id, bad.id, good.id})
    by_id = {one.id: one for one in newest}
    one = by_id[good.id]
    assert one[1:4] == ("f", 1, "cron") and before <= one.started
    assert one[6:] == ("warm", "ok", 2, 3, "", 200)
    # The spans, and the moment in which the Result was made.
    assert one.duration >= sum(span for _, span in good.spans)
    assert by_id[bad.id][6:8] == ("warm", "crashed")
    assert by_id[bad.id].error == "ZeroDivisionError: division by zero"
    assert by_id[none.id][2:4] == (0, "http")
    assert by_id[none.id][6:] == ("", "not_found", 0, 0,
                                  "Function not found: no-such", 404)


def test_secrets_are_masked_before_they_are_stored(tmp_path):
    secrets = b"4711-4712", b"hunter2!", JWT.encode()
    with Platform(tmp_path.as_posix()) as platform:
        platform.deploy("f", {"fn.py": Item(b"""
import os
def fn(input):
    print("the key is", os.environ["API_KEY"], "password=hunter2!")
    raise ValueError(f"bad key {os.environ['API_KEY']}, {input}")
""")}, env={"API_KEY": "4711-4712"})
        platform.invoke(Call("f", JWT.encode()))
        [one] = platform.journal.recent("f")
        log = platform.logs.read("f")
    assert one.error == "ValueError: bad key [REDACTED], [REDACTED]"
    assert b"the key is [REDACTED] password=[REDACTED]\n" in log
    for name in "faas.db", "faas.db-wal":
        if (tmp_path / "data" / name).exists():
            stored = (tmp_path / "data" / name).read_bytes()
            assert not any(secret in stored for secret in secrets[1:])
    assert not any(secret in log for secret in secrets)


def test_the_error_of_an_execution_is_bounded(tmp_path):
    with Platform(tmp_path.as_posix()) as platform:
        platform.deploy("f", {"fn.py": Item(
            b"def fn(input): raise ValueError('x' * 1_000_000)")})
        assert platform.invoke(Call("f")).kind == "crashed"
        [one] = platform.journal.recent("f")
    assert one.error.startswith("ValueError: xxx") and len(one.error) < 10_000


def test_a_full_disk_does_not_stop_the_calls(server):
    faas = server()
    faas.upload("f", {"fn.py": "def fn(input):\n    print(1)\n    return 2"})
    assert faas.post("/f").body == b"2"
    # To the server, a disk that is full and a file that may not grow are the
    # same: each write fails. Its error output is on that disk too.
    most = resource.RLIMIT_FSIZE
    hard = resource.prlimit(faas.pid, most)[1]
    resource.prlimit(faas.pid, most, (1, hard))
    try:
        answers = [faas.post("/f") for _ in range(20)]
    finally:
        resource.prlimit(faas.pid, most, (hard, hard))
    assert {(answer.status, answer.body) for answer in answers} == {
        (200, b"2")}
    # And now there is room again.
    last = faas.post("/f").headers["X-Execution-Id"]
    assert last in faas.get("/-/functions/f/executions").body.decode()
    assert faas.get("/logs/f").body.endswith(b" ---\n1\n")


def test_executions_are_there_after_a_restart(server):
    faas = server()
    faas.upload("f", {"fn.py": "def fn(input): return input"})
    ids = {faas.post("/f", b"hi").headers["X-Execution-Id"]
           for _ in range(5)}
    faas.stop()
    faas = server(home=faas.home)
    executions = json.loads(faas.get("/-/functions/f/executions").body)
    assert {one["id"] for one in executions} == ids


def test_a_database_that_others_read_is_no_obstacle(journal, path):
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM executions").fetchone() == (0,)
    journal.record(execution(1))
    assert len(journal.recent()) == 1       # WAL: neither waits
    reader.close()


# 7.5 What functions remember


@pytest.fixture
def store(path):
    store = Store(path)
    yield store
    store.close()


def test_a_value_is_kept_until_it_is_deleted(store):
    assert store.get("f", "colour") is None
    assert store.set("f", "colour", "red") is True
    assert store.get("f", "colour") == "red"
    assert store.set("f", "colour", "") is True
    assert store.get("f", "colour") == ""
    assert store.delete("f", "colour") is True
    assert store.get("f", "colour") is None
    assert store.delete("f", "colour") is True


def test_each_function_sees_its_own(store):
    for name in "f", "g", "F", "f ":
        store.set(name, "k", name)
        store.set(name, "K", "another")
    assert [store.get(name, "k") for name in ("f", "g", "F", "f ", "h")] == [
        "f", "g", "F", "f ", None]
    store.delete("f", "k")
    store.remove("g")
    assert [store.get(name, "k") for name in ("f", "g", "F")] == [
        None, None, "F"]
    assert (store.get("f", "K"), store.get("g", "K")) == ("another", None)


def test_the_last_call_of_a_deleted_function_leaves_nothing_behind(store):
    store.set("f", "a", "1")
    store.remove("f")
    for late in (lambda: store.set("f", "a", "2"),
                 lambda: store.increment("f", "a")):
        with pytest.raises(FaasError, match="was deleted") as error:
            late()
        assert error.value.kind == "not_found"
    assert store.get("f", "a") is None and store.delete("f", "a") is True
    assert store.set("g", "a", "1") is True


ANY_BYTES = bytes(range(256)).decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("text", [
    "", "\0", "a\0b", "\xff", "\udcff", "\udced\udca0\udc80", "🎉", ANY_BYTES])
def test_keys_and_values_are_any_bytes(store, text):
    store.set("f", text, text)
    store.set("f", text + "x", "another")
    assert store.get("f", text) == text


def test_a_letter_and_a_byte_are_two_keys(store):
    store.set("f", "\xff", "the letter")
    store.set("f", "\udcff", "the byte")
    assert [store.get("f", key) for key in ("\xff", "\udcff")] == [
        "the letter", "the byte"]


@pytest.mark.parametrize("key, value, kind", [
    ("k" * MAX_KEY, "v", None), ("k" * (MAX_KEY + 1), "v", "key"),
    ("é" * (MAX_KEY // 2), "v", None), ("é" * (MAX_KEY // 2) + "x", "v",
                                        "key"),
    ("k", "v" * MAX_VALUE, None), ("k", "v" * (MAX_VALUE + 1), "value"),
    ("k", "\udcff" * MAX_VALUE, None),
    ("k", "é" * (MAX_VALUE // 2) + "x", "value")])
def test_keys_and_values_are_bounded_in_bytes(store, key, value, kind):
    try:
        store.set("f", key, value)
        assert kind is None and store.get("f", key) == value
    except FaasError as error:
        assert error.kind == "too_large"
        assert str(error).startswith(f"the {kind} is longer than")
    for ask in store.get, store.delete, store.increment:
        if kind == "key":
            with pytest.raises(FaasError, match="the key is longer"):
                ask("f", key)


def test_a_function_may_keep_so_many_values_and_no_more(store, monkeypatch):
    monkeypatch.setattr(book_of_faas, "MAX_KEYS", 3)
    for key in "abc":
        store.set("f", key, "1")
    for full in (lambda: store.set("f", "d", "1"),
                 lambda: store.increment("f", "d")):
        with pytest.raises(FaasError, match="at most 3 values") as error:
            full()
        assert error.value.kind == "too_large"
        assert store.get("f", "d") is None
    store.set("f", "a", "2")            # What is there may change,
    store.increment("f", "b")
    store.set("g", "d", "1")            # others have room of their own,
    store.delete("f", "c")
    store.set("f", "d", "1")            # and what is deleted makes room.
    assert [store.get("f", key) for key in "abcd"] == ["2", "2", None, "1"]


def test_a_function_may_keep_so_many_bytes_and_no_more(store, monkeypatch):
    monkeypatch.setattr(book_of_faas, "MAX_STORED", 100)
    store.set("f", "a", "x" * 49)
    store.set("f", "b", "x" * 49)       # 100 with their keys
    for key, value in ("c", ""), ("a", "x" * 50):
        with pytest.raises(FaasError, match="100 bytes in all"):
            store.set("f", key, value)
    store.set("f", "a", "x" * 40)
    store.set("f", "c", "x" * 8)
    assert store.get("f", "a") == "x" * 40


@pytest.mark.parametrize("old, by, total", [
    (None, 1, 1), (None, 5, 5), (None, -2, -2), ("", 1, 1), ("41", 1, 42),
    ("-1", 1, 0), ("0", 0, 0), ("41", 0.5, 41.5), ("2.5", 1, 3.5),
    ("-2.5", 2.5, 0), ("1e3", 1, 1001), ("007", 1, 8),
    ("9007199254740993", 1, 9007199254740994),      # 2**53 + 1, and one more
    ("9" * 40, 1, 10 ** 40)])
def test_increment_adds_and_gives_the_sum(store, old, by, total):
    if old is not None:
        store.set("f", "n", old)
    assert store.increment("f", "n", by) == total
    assert float(store.get("f", "n")) == float(total)
    assert store.increment("f", "n", 0) == total


def test_whole_numbers_stay_whole(store):
    assert [store.increment("f", "n") for _ in range(3)] == [1, 2, 3]
    assert store.get("f", "n") == "3"


@pytest.mark.parametrize("old", [
    "abc", "1,5", "--1", "0x10", "1 2", "nan", "inf", "-Infinity", "1_000",
    "\udcff", "²", "1e999", "9" * 5000])
def test_what_is_no_number_is_refused_and_stays(store, old):
    store.set("f", "n", old)
    with pytest.raises(FaasError) as error:
        store.increment("f", "n")
    assert error.value.kind == "bad_input" and len(str(error.value)) < 200
    assert store.get("f", "n") == old
    store.set("f", "n", "1")            # No transaction was left open.
    assert store.increment("f", "n") == 2


@pytest.mark.parametrize("by", [float("inf"), float("nan")])
def test_what_is_no_number_cannot_be_added(store, by):
    store.set("f", "n", "1")
    with pytest.raises(FaasError) as error:
        store.increment("f", "n", by)
    assert error.value.kind == "bad_input" and store.get("f", "n") == "1"


def test_increments_from_many_threads_all_count(store):
    totals = []

    def add():
        for _ in range(50):
            totals.append(store.increment("f", "n"))
    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(totals) == [*range(1, 401)]
    assert store.get("f", "n") == "400"


ADDER = """
import os, sys, threading
from faas import Store
store = Store(sys.argv[1])
sys.stdin.readline()
def add():
    for _ in range(int(sys.argv[2])):
        os.write(1, b"%d\\n" % store.increment("f", "n"))
threads = [threading.Thread(target=add) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def adder(path, count):
    """A process that says each sum, once a line on its stdin lets it go."""
    return subprocess.Popen(
        [sys.executable, "-c", ADDER, path, str(count)], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_an_increment_waits_for_another_process_before_it_reads(store, path):
    store.set("f", "n", "1")
    other, totals = open_database(path), []
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE kv SET value=?", (b"10",))
    adder = threading.Thread(
        target=lambda: totals.append(store.increment("f", "n")))
    adder.start()
    adder.join(0.2)             # It cannot end before the other one does,
    assert adder.is_alive()     # and must not have read before that.
    other.commit()
    other.close()
    adder.join(20)
    assert totals == [11] and store.get("f", "n") == "11"


def test_increments_from_two_processes_all_count(store, path):
    adders = [adder(path, 1000) for _ in range(2)]
    for one in adders:
        one.stdin.write("go\n")
        one.stdin.flush()
    totals = [int(line) for one in adders
              for line in one.communicate(timeout=60)[0].split()]
    assert sorted(totals) == [*range(1, 4001)]
    assert store.increment("f", "n", 0) == 4000


def test_a_kill_9_loses_no_increment_that_was_answered(store, path):
    known = 0
    for count in 1, 7, 40:
        with adder(path, 1_000_000) as one:
            one.stdin.write("go\n")
            one.stdin.flush()
            for _ in range(count):
                line = one.stdout.readline()
            one.kill()
            rest = one.stdout.read().split("\n")[:-1]   # whole lines only
            said = [int(text) for text in [line.strip(), *rest] if text]
        assert max(said) > known
        # At most one more per thread was added, and not heard of.
        assert 0 <= store.increment("f", "n", 0) - max(said) <= 2
        known = store.increment("f", "n", 0)


def test_what_is_kept_is_there_after_a_restart(tmp_path):
    home = tmp_path.as_posix()
    text = (b"def handler(ctx, event):\n"
            b"    return {'body': str(ctx.kv.increment('hits'))}")
    for number in range(1, 4):
        with Platform(home) as platform:
            if number == 1:
                platform.deploy("f", {"main.py": Item(text)})
            assert platform.invoke(Call("f")).body == b"%d" % number
            # And a redeploy is no reason to forget.
            platform.deploy("f", {"main.py": Item(text + b"\n# %d" % number)})
