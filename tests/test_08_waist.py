"""Chapter 8: what an invocation is: found, admitted, run, remembered."""

import concurrent.futures
import contextlib
import http.server
import json
import os
import socket
import textwrap
import threading
import time

import pytest
from conftest import eventually

from faas import (BUILTINS, HOST_FUNCTIONS, MAX_DETAIL, MAX_REDIRECTS, PURE,
                  TONGUES, Call, Counters, Deadline, FaasError, Function, Gate,
                  Host, Item, Limits, Platform, Result, Run, Stream, Trace,
                  call_headers, checked_env, checked_status, children,
                  clean_headers, deadline_of, details_of, family, fetch,
                  find_tip, find_tool, guess_type, log_text, mask_body,
                  mask_members, result_of, story_of, web_request, whole)


def soon(seconds=20.0):
    return Deadline(time.monotonic() + seconds, f"{seconds:g} s")


def bundle(text):
    return {"fn.py": Item(textwrap.dedent(text).encode())}


def handler(text):
    """A bundle in python, whose handler may ask for things."""
    return {"main.py": Item(textwrap.dedent(text).encode())}


def shell(lines):
    return {"fn.sh": Item(f"#!/bin/sh\n{lines}\n".encode(), True)}


@pytest.fixture
def platform(tmp_path):
    """Start platforms: platform(idle=..., **limits)."""
    started = []

    def platform(idle=300.0, **limits):
        one = Platform(tmp_path.as_posix(), idle=idle,
                       limits=Limits(**limits))
        started.append(one)
        return one
    yield platform
    for one in started:
        if not one.closing:
            one.close(0.1)


class Calls:
    """Calls made at the same time, each in a thread of its own."""

    def __init__(self, platform, *calls):
        self.results, self.errors = [None] * len(calls), []
        self.threads = [threading.Thread(
            target=self.ask, args=(platform, number, call), daemon=True)
            for number, call in enumerate(calls)]
        for thread in self.threads:
            thread.start()

    def ask(self, platform, number, call):
        try:
            self.results[number] = platform.invoke(call)
        except BaseException as error:
            self.errors.append(error)

    def wait(self, seconds=20):
        """Give the Results; what invoke raised is the test's failure."""
        for thread in self.threads:
            thread.join(seconds)
        assert not self.errors and None not in self.results
        return self.results


# A function whose calls wait until the test lets them go: the body names a
# file, which appears when the call has begun; the call ends when it is gone.

MEET = """
import os, pathlib, time
def fn(input):
    if not input:
        return str(os.getpid())
    path = pathlib.Path(input)
    path.write_text(str(os.getpid()))
    while path.exists():
        time.sleep(0.005)
    return "met"
"""


def meet(tmp_path, *names):
    """Name the files at which the test and its calls meet."""
    return [tmp_path / f"meet-{name}" for name in names]


def call_to(path, fn="f", **rest):
    return Call(fn, str(path).encode(), **rest)


# 8.1 Time and room


def inside_and_waiting(gate):
    return gate.inside, len(gate.queue)


def test_spans_follow_each_other_without_a_gap():
    trace = Trace(now=10.0)
    for name, now in ("queue", 10.25), ("start", 10.25), ("run", 12.5):
        trace.mark(name, now)
    assert trace.spans == {"queue": 0.25, "start": 0.0, "run": 2.25}


@pytest.mark.parametrize("asked, limit, at, why", [
    (0, 300, 310, "the function's limit of 300 s"),
    (2, 300, 12, "the 2 s that the caller allowed"),
    (0.5, 300, 10.5, "the 0.5 s that the caller allowed"),
    (300, 300, 310, "the function's limit of 300 s"),
    (301, 300, 310, "the function's limit of 300 s"),
    (-1, 300, 310, "the function's limit of 300 s"),
    (2, 1.5, 11.5, "the function's limit of 1.5 s")])
def test_a_caller_may_shorten_the_time_and_not_lengthen_it(
        asked, limit, at, why):
    call = Call("f", timeout=asked)
    assert deadline_of(call, Limits(timeout=limit), 10.0) == Deadline(at, why)


def test_a_gate_lets_in_as_many_as_it_may_and_turns_the_rest_away():
    gate = Gate(most=3, queue=0)
    for _ in range(3):
        gate.enter(soon())
    with pytest.raises(FaasError, match="3 calls run and 0 wait") as error:
        gate.enter(soon())
    assert error.value.kind == "busy"
    gate.leave()
    gate.enter(soon())
    assert inside_and_waiting(gate) == (3, 0)


def test_who_has_waited_longest_enters_when_another_leaves():
    gate, entered = Gate(most=1, queue=5), []
    gate.enter(soon())

    def wait(number):
        gate.enter(soon())
        entered.append(number)
    for number in range(5):
        threading.Thread(target=wait, args=[number], daemon=True).start()
        eventually(lambda: inside_and_waiting(gate) == (1, number + 1))
    with pytest.raises(FaasError, match="1 calls run and 5 wait"):
        gate.enter(soon())
    for count in range(1, 6):
        gate.leave()
        eventually(lambda: entered == [*range(count)])
        assert gate.inside == 1
    gate.leave()
    assert inside_and_waiting(gate) == (0, 0)


def test_who_waits_too_long_is_told_so_and_leaves_its_place():
    gate = Gate(most=1, queue=1)
    gate.enter(soon())
    for _ in range(3):
        with pytest.raises(FaasError, match="waited in the queue") as error:
            gate.enter(Deadline(time.monotonic() + 0.01, "the 10 ms"))
        assert error.value.kind == "timeout" and "10 ms" in str(error.value)
    assert inside_and_waiting(gate) == (1, 0)


def test_a_gate_passed_by_many_is_empty_in_the_end():
    gate, most, inside = Gate(most=3, queue=100), [], []

    def pass_through():
        for _ in range(50):
            try:
                gate.enter(Deadline(time.monotonic() + 0.002, "2 ms"))
            except FaasError:
                continue
            inside.append(1)
            most.append(len(inside))
            inside.pop()
            gate.leave()
    threads = [threading.Thread(target=pass_through) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside_and_waiting(gate) == (0, 0) and max(most) <= 3


def test_counters_count_from_many_threads():
    counters = Counters()
    threads = [threading.Thread(target=lambda: [
        counters.count("f", "ok", "warm", 0.5) for _ in range(500)])
        for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.calls == {("f", "ok", "warm"): [4000, 2000.0]}


def test_what_the_platform_says_of_a_call_wins_over_the_caller():
    headers = call_headers(Call("f", headers={"X-Faas-Trigger": "me"}), "1")
    assert headers["X-Faas-Trigger"] == "http"


@pytest.mark.parametrize("body, kind", [
    (b"", "text/plain; charset=utf-8"), (b"\0", "text/plain; charset=utf-8"),
    ("ü".encode(), "text/plain; charset=utf-8"),
    ("ü".encode("latin-1"), "application/octet-stream")])
def test_bytes_without_a_label_get_one(body, kind):
    assert guess_type(body) == kind


FN = Function("f", "python3", "/f", version=4)


def test_a_run_becomes_a_result_with_its_own_headers():
    run = Run(b"{}", meta={"headers": {"Content-Type": "application/json"}},
              start="warm")
    result = result_of(run, FN, "id-1", {"run": 1.0})
    assert (result.kind, result.body, result.headers) == (
        "ok", b"{}", {"Content-Type": "application/json"})
    assert (result.version, result.start, result.spans) == (
        4, "warm", (("run", 1.0),))


def test_a_failed_run_carries_its_tail_and_not_its_output():
    run = Run(b"all", error=FaasError("crashed", "why", b"tail"))
    result = result_of(run, FN, "id-1", {})
    assert (result.kind, result.sentence, result.body) == ("crashed", "why",
                                                           b"tail")


ASKS = FN._replace(tongue="python", env={"API_KEY": "4711-4712"})


def test_a_failure_names_its_line_where_its_author_wrote_the_text():
    error = FaasError("crashed", "KeyError: 'colour'")
    error.line = 3
    run = Run(error=error)
    assert result_of(run, ASKS, "", {}).sentence == (
        "Error at line 3: KeyError: 'colour'")
    # Of tinyFaaS's contract it is the last line of the traceback alone.
    assert result_of(run, FN, "", {}).sentence == "KeyError: 'colour'"
    error.line = 0
    assert result_of(run, ASKS, "", {}).sentence == "KeyError: 'colour'"


def test_a_failure_tells_nobody_the_functions_own_secrets():
    run = Run(error=FaasError("crashed", "no key 4711-4712",
                              b"tail 4711-4712\xff password=hunter2!"))
    result = result_of(run, ASKS, "id-1", {})
    assert result.sentence == "no key [REDACTED]"
    assert result.body == b"tail [REDACTED]\xff password=[REDACTED]"


@pytest.mark.parametrize("tongue, status, headers", [
    ("script", 200, {"Content-Type": "text/html"}),
    ("binary", 200, {"Content-Type": "text/html"}),
    ("python3", 200, {"Content-Type": "text/html"}),
    ("node", 200, {"Content-Type": "text/html"}),
    ("go", 200, {"Content-Type": "text/html"}),
    ("nodejs", 418, {"Content-Type": "text/html", "Lab": "a"}),
    ("lua", 418, {"Content-Type": "text/html", "Lab": "a"}),
    ("python", 418, {"Content-Type": "text/html", "Lab": "a"}),
    ("server", 418, {"Content-Type": "text/html", "Lab": "a",
                     "Content-Length": "2"})])
def test_who_may_choose_a_status_and_headers_does(tongue, status, headers):
    run = Run(b"hi", meta={"status": 418, "headers": {
        "content-type": "text/html", "lab": "a", "content-length": "2"}})
    result = result_of(run, FN._replace(tongue=tongue), "id-1", {})
    assert (result.status, result.headers) == (status, headers)


def test_an_answer_without_a_label_gets_one_unless_its_tongue_chooses():
    for tongue in TONGUES:
        result = result_of(Run(b"hi"), FN._replace(tongue=tongue), "", {})
        assert (result.headers == {}) is TONGUES[tongue].chooses, tongue


LIES = {
    "a line of its own": ({"A": "a\r\nB: b"}, {}),
    "a line in its name": ({"A\r\nB": "b"}, {}),
    "a control character": ({"A": "a\0b"}, {}),
    "a tab": ({"A": "a\tb"}, {"A": "a\tb"}),
    "no name": ({"": "a"}, {}), "a space in a name": ({"A B": "a"}, {}),
    "a name that is no ASCII": ({"\u00c4": "a"}, {}),
    "a value that is none": ({"A": 5, "B": None, "C": {}}, {}),
    "many values": ({"set-cookie": ["a=1", "b=2"]},
                    {"Set-Cookie": ["a=1", "b=2"]}),
    "many values, one wrong": ({"A": ["a", 5]}, {}),
    "the connection's": ({"Connection": "close", "Keep-Alive": "a",
                          "Transfer-Encoding": "chunked", "Upgrade": "h2",
                          "TE": "a", "Trailer": "b", "Date": "now",
                          "content-LENGTH": "5"}, {}),
    "Go's capitals": ({"x-REQUEST-id": "a"}, {"X-Request-Id": "a"}),
    "a list": (["A"], {}), "a text": ("A", {}), "nothing": (None, {}),
}


@pytest.mark.parametrize("headers, clean", LIES.values(), ids=LIES)
def test_headers_of_a_worker_are_taken_as_far_as_they_are_some(
        headers, clean):
    assert clean_headers(headers, TONGUES["lua"]) == clean


@pytest.mark.parametrize("status", [200, 204, 404, 599, None, 0])
def test_a_status_that_clients_know_is_taken(status):
    run = Run(b"hi", meta={"status": status})
    assert checked_status(run) is run


@pytest.mark.parametrize("status", [1, 99, 100, 103, 199, 600, 1000, -200,
                                    True, 200.5, "200", [200], "x"])
def test_a_status_that_is_none_is_a_crash(status):
    error = checked_status(Run(b"hi", meta={"status": status})).error
    assert (error.kind, str(error)) == (
        "crashed", f"it chose {status!r} as its status, which is none")


def test_a_call_that_failed_already_keeps_its_failure():
    run = Run(error=FaasError("timeout", "why"), meta={"status": 99})
    assert checked_status(run) is run


def test_the_story_of_a_failure_shows_the_text_around_it(tmp_path):
    (tmp_path / "main.py").write_text("import os\n\nx = None\nx.y\n")
    error = FaasError("crashed", "AttributeError: 'NoneType' object has no "
                      "attribute 'y'")
    error.line = 4
    fn = ASKS._replace(folder=tmp_path.as_posix())
    story = story_of(fn, error)
    assert story.startswith("Error at line 4: AttributeError: ")
    assert "\n[CODE]\n" in story and ">   4 | x.y\n" in story
    assert "\n\n[TIP] There is None where a value was expected" in story
    # Without its text, or with another contract, there is less to tell.
    gone = story_of(fn._replace(folder="/no/such"), error)
    assert "[CODE]" not in gone and "[TIP]" in gone
    assert story_of(fn._replace(tongue="python3"), error) == str(error)
    assert story_of(fn._replace(tongue=""), error) == str(error)


# Answers that are still coming


class Ends:
    """Notes how a Stream ended."""

    def __init__(self):
        self.seen = []

    def __call__(self, size, error):
        self.seen.append((size, error))


def pieces(*words, error=None, closed=None):
    """Yield pieces as a server would; note when it is left."""
    try:
        yield from words
        if error:
            raise error
    finally:
        if closed is not None:
            closed.append(True)


def test_a_stream_that_is_read_to_its_end_ends_once():
    ends, closed = Ends(), []
    stream = Stream(pieces(b"a", b"bc", closed=closed), ends)
    assert [*stream] == [b"a", b"bc"] and ends.seen == [(3, None)]
    stream.close(), stream.close()
    assert ends.seen == [(3, None)] and closed == [True]
    assert [*stream] == []


@pytest.mark.parametrize("read", [0, 1])
def test_a_stream_that_is_left_ends_too(read):
    ends, closed = Ends(), []
    stream = Stream(pieces(b"a", b"bc", closed=closed), ends)
    for _ in range(read):
        next(stream)
    stream.close()
    assert ends.seen == [(read, None)]
    assert closed == [True] * read      # What never began, need not end.


def test_a_stream_that_breaks_says_so_to_both_ends():
    ends, error = Ends(), FaasError("timeout", "too late")
    stream = Stream(pieces(b"a", error=error), ends)
    assert next(stream) == b"a"
    with pytest.raises(FaasError, match="too late"):
        next(stream)
    assert ends.seen == [(1, error)]
    stream.close()
    assert len(ends.seen) == 1


def test_a_door_that_cannot_stream_waits_for_all():
    ends = Ends()
    result = Result(body=b"a", status=201,
                    more=Stream(pieces(b"b", b"c"), ends))
    assert whole(result)[:2] == ("ok", b"abc")
    assert whole(result._replace(more=None)).body == b"a"
    broken = whole(Result(body=b"a", headers={"A": "b"}, id="01", more=Stream(
        pieces(b"b", error=FaasError("timeout", "too late")), ends)))
    assert (broken.kind, broken.sentence, broken.body, broken.headers) == (
        "timeout", "too late", b"", {})
    assert (broken.id, broken.more) == ("01", None)
    assert [size for size, _ in ends.seen] == [2, 1]


TICKS = """
import http.server, os, pathlib, time

class Ticks(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        size = int(self.headers.get("Content-Length", 0))
        path = pathlib.Path(self.rfile.read(size).decode())
        self.send_response(201)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.tick(b"first")
        path.touch()
        while path.exists():
            time.sleep(0.005)
        self.tick(b"second")
        self.wfile.write(b"0\\r\\n\\r\\n")

    def tick(self, word):
        self.wfile.write(b"%x\\r\\n%b\\r\\n" % (len(word), word))
        self.wfile.flush()

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])),
                                Ticks).serve_forever()
"""


@pytest.fixture
def ticking(platform, tmp_path):
    """A platform with a server t, whose answer waits in its middle."""
    platform = platform(concurrency=1, queue=1)
    platform.deploy("t", {"main.py": Item(TICKS.encode()),
                          "requirements.txt": Item(b"")})
    [path] = meet(tmp_path, "tick")
    return platform, path


def test_what_a_call_took_is_given_back_at_the_end_of_its_answer(ticking):
    platform, path = ticking
    result = platform.invoke(call_to(path, "t"))
    assert (result.kind, result.status, result.body) == ("ok", 201, b"")
    assert next(result.more) == b"first"
    eventually(path.exists)
    gate = platform.find("t").gate
    assert gate.inside == 1 and platform.running == 1
    assert platform.journal.recent("t") == []       # It is under way.
    late = platform.invoke(Call("t", timeout=0.05))
    assert (late.kind, "waited in the queue" in late.sentence) == (
        "timeout", True)
    path.unlink()
    assert [*result.more] == [b"second"]
    assert gate.inside == 0 and platform.running == 0
    [one] = [one for one in platform.journal.recent("t")
             if one.id == result.id]
    assert (one.status, one.code, one.bytes_out) == ("ok", 201, 11)


def test_an_answer_that_nobody_reads_on_gives_back_what_it_took(ticking):
    platform, path = ticking
    for _ in range(3):          # There is one place: no call may keep it.
        result = platform.invoke(call_to(path, "t"))
        assert next(result.more) == b"first"
        eventually(path.exists)
        result.more.close()
        path.unlink()
        assert platform.find("t").gate.inside == platform.running == 0
    assert len(platform.journal.recent("t")) == 3


def test_an_answer_that_hangs_in_its_middle_is_a_timeout_at_its_end(ticking):
    platform, path = ticking
    result = platform.invoke(call_to(path, "t", timeout=0.5))
    assert next(result.more) == b"first"
    with pytest.raises(FaasError, match="the 0.5 s that the caller allowed"):
        [*result.more]
    [one] = platform.journal.recent("t")
    assert (one.status, one.bytes_out) == ("timeout", 5)
    assert platform.find("t").gate.inside == platform.running == 0
    path.unlink()


def test_closing_waits_for_an_answer_that_is_still_coming(ticking):
    platform, path = ticking
    result = platform.invoke(call_to(path, "t"))
    assert next(result.more) == b"first"
    eventually(path.exists)
    closing = threading.Thread(target=platform.close, args=(20,))
    closing.start()
    eventually(lambda: platform.closing)
    path.unlink()
    assert [*result.more] == [b"second"]
    closing.join(20)
    assert not closing.is_alive()


def test_a_body_that_comes_in_pieces_is_one_for_who_cannot_stream(platform):
    platform = platform()
    platform.deploy("f", bundle("def fn(input): return input.upper()"))
    platform.deploy("sh", shell("cat"))
    for name, said in ("f", b"ABC"), ("sh", b"abc"):
        result = platform.invoke(Call(name, b"a", more=iter([b"b", b"c"])))
        assert result.body == said, result


@pytest.mark.parametrize("tongue, trigger, said", [
    ("script", "http", "out log"), ("binary", "http", "log"),
    ("python3", "http", "log"), ("python3", "cron", "out log [ok]"),
    ("binary", "async", "out log [ok]"), ("python3", "cli", "log")])
def test_an_answer_is_in_the_log_where_nobody_else_sees_it(
        tongue, trigger, said):
    run = Run(b"out ", b"log\n")
    text = log_text(Call("f", trigger=trigger), FN._replace(tongue=tongue),
                    run)
    assert text.split() == said.split()


def test_a_failure_is_the_last_line_of_its_log():
    run = Run(log=b"said\n", error=FaasError("crashed", "it ended"))
    assert log_text(Call("f"), FN, run).splitlines()[-1] == (
        "[crashed] it ended")


def test_what_is_told_of_a_failure_may_be_more_than_its_sentence():
    run = Run(log=b"said\n", error=FaasError("crashed", "it ended"))
    assert log_text(Call("f"), FN, run, "the story\nof it") == (
        "said\n\n[crashed] the story\nof it")


# What is kept of what was asked and answered


@pytest.mark.parametrize("value, masked", [
    ({"api_key": 1, "b": 2}, {"api_key": "[REDACTED]", "b": 2}),
    ({"Authorization": "x"}, {"Authorization": "[REDACTED]"}),
    ({"a": {"Set-Cookie": ["x"]}}, {"a": {"Set-Cookie": "[REDACTED]"}}),
    ([{"passwords": {"a": 1}}], [{"passwords": "[REDACTED]"}]),
    ({"X-Auth": None, "keyboard": 1}, {"X-Auth": "[REDACTED]",
                                       "keyboard": "[REDACTED]"}),
    ({"lab": "Bearer abcdefgh12"}, {"lab": "Bearer [REDACTED]"}),
    ({"url": "https://u:pw12@h/"}, {"url": "https://[REDACTED]@h/"}),
    ({"own": "is 4711-4712!"}, {"own": "is [REDACTED]!"}),
    ("4711-4712", "[REDACTED]"), (("a", "4711-4712"), ["a", "[REDACTED]"]),
    (5, 5), (None, None), ({}, {}), ({"a": [1, "b", True]},
                                     {"a": [1, "b", True]})])
def test_members_are_masked_by_name_shape_and_value(value, masked):
    assert mask_members(value, {"API_KEY": "4711-4712"}) == masked


@pytest.mark.parametrize("body, masked", [
    (b"", ""), (b"plain", "plain"), (b"password=hunter2!",
                                     "password=[REDACTED]"),
    (b'{"b": 1, "token": "x"}', '{"b": 1, "token": "[REDACTED]"}'),
    (b'["4711-4712"]', '["[REDACTED]"]'), (b"\xff", "\ufffd"),
    (b"got 4711-4712", "got [REDACTED]"), (b"[" * 5000, "[" * 5000),
    (b'{"token": ' + b"[" * 2000 + b"]" * 2000 + b"}", None)])
def test_a_body_is_masked_as_what_it_is(body, masked):
    found = mask_body(body, {"API_KEY": "4711-4712"})
    assert masked is None or found == masked
    assert "4711" not in found


def test_a_body_too_long_to_keep_is_masked_and_cut():
    long = b'{"a": "' + b"x" * MAX_DETAIL + b'", "token": "hunter2!"}'
    found = mask_body(long, {})
    assert len(found) <= MAX_DETAIL and "hunter2!" not in found


def test_what_was_asked_is_kept_for_who_gets_an_event():
    call = Call("f", b'{"password": "hunter2!"}', {
        "Cookie": "auth_token=hunter2!", "Lab": "a"}, "PUT", "/x",
        query="api_key=hunter2!&a=1")
    event, answer = details_of(call, ASKS, Result(body=b"hi"))
    assert json.loads(event) == {
        "method": "PUT", "path": "/fn//x", "relativePath": "/x",
        "headers": {"Cookie": "[REDACTED]", "Lab": "a"},
        "query": {"api_key": "[REDACTED]", "a": "1"},
        "body": '{"password": "[REDACTED]"}'}
    assert answer == "" and details_of(call, FN, Result()) == ("", "")


def test_what_was_answered_is_kept_where_its_owner_wants_it():
    fn = FN._replace(settings=FN.settings._replace(keep_answers=True))
    result = Result(body=b"got 4711-4712", status=201, headers={
        "Set-Cookie": ("a=1", "b=2"), "Lab": "a"})
    _, answer = details_of(Call("f"), fn._replace(env=ASKS.env), result)
    assert json.loads(answer) == {
        "statusCode": 201, "headers": {"Set-Cookie": "[REDACTED]",
                                       "Lab": "a"}, "body": "got [REDACTED]"}
    failed = result._replace(kind="crashed")
    assert details_of(Call("f"), fn, failed) == ("", "")


@pytest.mark.parametrize("body", [b"x" * 10 ** 6, b'"' * 10 ** 5,
                                  b"\0" * 30_000, b"\xff" * 10 ** 5])
def test_what_is_kept_fits_and_is_json_still(body):
    fn = ASKS._replace(settings=FN.settings._replace(keep_answers=True))
    for text in details_of(Call("f", body), fn, Result(body=body)):
        assert len(text) <= MAX_DETAIL
        assert json.loads(text)["body"].endswith("[TRUNCATED]") or (
            len(body) < MAX_DETAIL)


def test_a_call_can_be_looked_up_with_what_was_said_in_it(platform):
    platform = platform()
    platform.deploy("f", handler("""
        def handler(ctx, event):
            ctx.log.warn("warned")
            print("printed", ctx.env.get("API_KEY"))
            return {"statusCode": 201, "body": {"got": event["body"]}}
        """), env={"API_KEY": "4711-4712"})
    platform.configure("f", keep_answers=True)
    result = platform.invoke(Call("f", b"hi"))
    one, detail = platform.journal.find(result.id)
    assert (one.code, one.status) == (201, "ok")
    # What is printed may come after what is logged behind it: two pipes.
    assert sorted(detail.log.splitlines()) == ["[warn] warned",
                                               "printed [REDACTED]"]
    assert json.loads(detail.event)["body"] == "hi"
    assert json.loads(detail.answer)["body"] == '{"got": "hi"}'


def test_the_story_of_a_failure_is_kept_and_the_caller_gets_its_sentence(
        platform):
    platform = platform()
    platform.deploy("f", handler("""
        def handler(ctx, event):
            return {}["4711-4712"]
        """), env={"API_KEY": "4711-4712"})
    result = platform.invoke(Call("f"))
    assert (result.kind, result.sentence) == (
        "crashed", "Error at line 3: KeyError: '[REDACTED]'")
    one, detail = platform.journal.find(result.id)
    assert one.error.startswith("Error at line 3: KeyError: '[REDACTED]'\n")
    assert ">   3 |" in one.error and "[TIP] This key is not" in one.error
    assert "4711" not in one.error + detail.log + str(
        platform.logs.read("f"))


# 8.2 Host functions


def test_everything_that_may_be_asked_for_has_an_answer():
    asked = {name for name, row in BUILTINS.items() if not row.do}
    assert asked == HOST_FUNCTIONS.keys() == BUILTINS.keys() - PURE.keys()
    assert {name.partition(".")[0] for name in BUILTINS} == {
        "kv", "env", "http", "router", "time", "crypto", "base64", "url",
        "strings", "random"}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """One platform for many questions."""
    with Platform(tmp_path_factory.mktemp("asked").as_posix()) as platform:
        platform.base_url = "http://faas.example"
        yield platform


@pytest.fixture
def host(asked):
    """What answers the questions of f; g has the same, and its own values."""
    text = "def handler(ctx, event): return {}"
    for name in "g", "f":
        fn = asked.deploy(name, handler(text), env={"COLOUR": "red"})
    tell = Host(asked, fn)

    def host(do, *given, seconds=20):
        return tell(do, [*given], soon(seconds))
    host.platform, host.other = asked, Host(asked, asked.find("g").fn)
    yield host
    for name in "fg":
        asked.delete(name)


def refused(host, do, *given):
    with pytest.raises(FaasError) as error:
        host(do, *given)
    assert error.value.kind in ("bad_input", "too_large")
    return str(error.value)


def test_values_are_kept_for_the_function_that_asks(host):
    assert host("kv.get", "a") is None
    assert host("kv.set", "a", "1") is True
    assert host("kv.get", "a") == "1"
    assert host.other("kv.get", ["a"], soon()) is None
    assert host("kv.increment", "a") == 2
    assert host("kv.increment", "a", 5) == 7
    assert host("kv.increment", "a", None) == 8
    assert host.other("kv.increment", ["a"], soon()) == 1
    assert host("kv.delete", "a") is True and host("kv.get", "a") is None
    assert host.other("kv.get", ["a"], soon()) == "1"
    assert refused(host, "kv.set", "k" * 513, "v").startswith("the key is")
    host("kv.set", "a", "no number")
    assert "is no number to add to" in refused(host, "kv.increment", "a")


def test_a_number_is_kept_as_the_text_that_lua_writes(host):
    host("kv.set", 7, 3.0)
    assert host("kv.get", "7") == "3"


def test_variables_are_those_of_the_function_that_asks(host):
    platform = host.platform
    assert host("env.get", "COLOUR") == "red"
    assert host("env.get", "HOME") is None          # nobody else's
    assert host("env.set", "COLOUR", "blue") is True
    assert host("env.set", "NEW", "") is True
    assert host("env.get", "COLOUR") == "blue"
    assert host.other("env.get", ["COLOUR"], soon()) == "red"
    assert platform.shelf.known("f").env == {"COLOUR": "blue", "NEW": ""}
    assert host("env.delete", "COLOUR") is True
    assert host("env.delete", "NEVER_SET") is True
    assert host("env.get", "COLOUR") is None
    assert platform.shelf.known("f").env == {"NEW": ""}
    assert platform.find("f").fn.version == 1


@pytest.mark.parametrize("name, value", [
    ("1A", "x"), ("A B", "x"), ("A=B", "x"), ("", "x"), ("\u00e9", "x"),
    ("A" * 101, "x"), ("A", "\0"), ("A", "x" * 10_001)])
def test_a_variable_that_no_process_could_have_is_refused(host, name, value):
    assert refused(host, "env.set", name, value)
    assert host.platform.shelf.known("f").env == {"COLOUR": "red"}


def test_a_hundred_variables_and_no_more(host):
    env = {f"V{number}": "x" for number in range(99)}
    assert checked_env({**env, "A": "1"}) == {**env, "A": "1"}
    host.platform.configure("f", env=env)
    host("env.set", "A", "1")
    assert "more than 100" in refused(host, "env.set", "B", "1")
    host("env.set", "A", "2")               # What is there may change.
    assert host("env.get", "A") == "2"


def test_a_function_can_write_its_own_paths(host):
    ident = host.platform.find("f").fn.id
    assert host("router.path", "/users/:id", {"id": 7}) == (
        f"/fn/{ident}/users/7")
    assert host("router.path", "/") == f"/fn/{ident}/"
    assert host("router.url", "/a/:b", {"b": "c"}) == (
        f"http://faas.example/fn/{ident}/a/c")


def test_a_sleep_ends_with_the_call(host):
    begin = time.monotonic()
    assert host("time.sleep", 1) is None
    host("time.sleep", 600_000, seconds=0.05)
    host("time.sleep", -5)
    assert time.monotonic() - begin < 60    # and not ten minutes


def test_what_needs_nobody_is_answered_too(host):
    assert host("crypto.md5", "a") == "0cc175b9c0f1b6a831c399e269772661"
    assert host("strings.repeat", "a", 3) == "aaa"
    assert host("router.params", "/u/7", "/u/:id") == {"id": "7"}


@pytest.mark.parametrize("do", [
    "os.system", "kv", "kv.", "__class__", "", "log.info", None, 5, [], {},
    ["kv.get"], True, "kv.get\0", "\udcff"])
def test_what_is_not_listed_cannot_be_asked_for(host, do):
    assert refused(host, do, "a").endswith("to ask for") or isinstance(
        do, (list, dict))


@pytest.mark.parametrize("arguments", [None, "a", {"key": "a"}, 5])
def test_arguments_come_in_a_list(host, arguments):
    tell = Host(host.platform, host.platform.find("f").fn)
    with pytest.raises(FaasError) as error:
        tell("kv.get", arguments, soon())
    assert error.value.kind == "bad_input"


@pytest.mark.parametrize("do, given, sentence", [
    ("kv.get", [], "bad argument #1 to get (string expected, got nil)"),
    ("kv.get", [{}], "bad argument #1 to get (string expected, got table)"),
    ("kv.set", ["a"], "bad argument #2 to set (string expected, got nil)"),
    ("kv.set", ["a", True],
     "bad argument #2 to set (string expected, got boolean)"),
    ("kv.increment", ["a", "x"],
     "bad argument #2 to increment (number expected, got string)"),
    ("env.get", [None], "bad argument #1 to get (string expected, got nil)"),
    ("time.sleep", ["x"],
     "bad argument #1 to sleep (number expected, got string)"),
    ("http.get", [5, 5],
     "bad argument #2 to get (table expected, got number)"),
    ("crypto.hmac_sha256", ["a"],
     "bad argument #2 to hmac_sha256 (string expected, got nil)")])
def test_a_wrong_argument_is_named_as_lua_names_it(host, do, given, sentence):
    assert refused(host, do, *given) == sentence


def lua(text):
    """A bundle in Lua, which may ask while it loads."""
    try:
        find_tool("lua")
    except FaasError as missing:
        pytest.skip(str(missing))
    return {"main.lua": Item(textwrap.dedent(text).encode())}


def test_a_text_that_asks_while_it_loads_sees_what_it_is_deployed_with(
        platform):
    platform, files = platform(), lua("""
        local colour = env.get("COLOUR")
        function handler() return {body = colour} end
        """)
    for colour in "red", "blue":            # the same bytes, too
        platform.deploy("f", files, env={"COLOUR": colour})
        assert platform.invoke(Call("f")).body.decode() == colour


def test_a_text_cannot_change_its_variables_while_it_loads(platform):
    """Whoever loads it holds the lock that the change would wait for."""
    platform, files = platform(), lua("""
        local good, why = env.set("COLOUR", "blue")
        function handler() return {body = tostring(good) .. " " .. why} end
        """)
    for turn in "12":                       # as a new function, and as an old
        platform.deploy("f", {**files, turn: Item(b"")},
                        env={"COLOUR": "red"})
        result = platform.invoke(Call("f"))
        assert result.kind == "ok" and result.body.startswith(b"nil ")
        assert platform.shelf.known("f").env == {"COLOUR": "red"}
    platform.configure("f", env={})         # The lock is free again.


def test_a_store_that_fails_fails_the_question_and_not_the_call(platform):
    platform = platform()
    platform.deploy("f", handler("""
        def handler(ctx, event):
            try:
                return {"body": ctx.kv.get("a")}
            except ValueError as error:
                return {"body": "caught " + str(error)}
        """))
    platform.store.database.close()
    for _ in range(2):                      # And the worker is in step.
        result = platform.invoke(Call("f"))
        assert result.kind == "ok" and result.body.startswith(b"caught ")


def test_a_question_that_is_refused_raises_and_the_call_has_crashed(platform):
    platform = platform()
    platform.deploy("f", handler("""
        def handler(ctx, event):
            ctx.kv.set("a", "no number")
            return {"body": str(ctx.kv.increment(event["body"]))}
        """))
    result = platform.invoke(Call("f", b"a"))
    assert result.kind == "crashed" and "is no number" in result.sentence
    assert platform.invoke(Call("f", b"b")).body == b"1"


def test_a_variable_that_a_function_sets_is_there_at_once(platform):
    platform = platform()
    platform.deploy("f", handler("""
        def handler(ctx, event):
            before = ctx.env.get("A")
            ctx.env.set("A", event["body"])
            return {"body": f"{before} {ctx.env.get('A')}"}
        """))
    assert platform.invoke(Call("f", b"1")).body == b"None 1"
    result = platform.invoke(Call("f", b"2"))
    assert (result.body, result.start) == (b"1 2", "warm")
    assert platform.shelf.known("f").env == {"A": "2"}


# http: what a function asks of the web


class Page(http.server.BaseHTTPRequestHandler):
    """Says what it was asked; or what the test wants, by its path."""

    def answer(self):
        what = self.path[1:].partition("?")[0]
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        if what.isdigit():
            return self.say(int(what), b"status " + what.encode())
        if what in self.server.leads:
            return self.say(*self.server.leads[what])
        text = json.dumps([self.command, self.path, body.decode("latin-1"),
                           {name.title(): value for name, value
                            in self.headers.items()}]).encode()
        self.say(200, text)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def say(self, status, body, **headers):
        self.send_response(status)
        if 300 <= status < 400 and status != 304:
            headers["Location"], body = body, b"moved"
        for name, value in {"Lab": "first", "X-Two": "1", **headers,
                            "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.send_header("X-Two", "2")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def web(monkeypatch):
    """A web server on loopback: its url, and where its paths lead."""
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        server.leads = {}
        threading.Thread(target=server.serve_forever, args=[0.01],
                         daemon=True).start()
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        server.elsewhere = server.url.replace("127.0.0.1", "localhost")
        yield server
        server.shutdown()


@contextlib.contextmanager
def talking(talk):
    """A server that does talk(socket) with whoever connects; give its url.

    `talk` may end whenever it likes, for the other end may have gone.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    line = listener.accept()[0]
                    with line, contextlib.suppress(OSError):
                        line.settimeout(20)
                        line.recv(65536)
                        talk(line, ended)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(20)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_request_of_a_function_is_made_as_it_says(host, web, method):
    answer = host(f"http.{method.lower()}", web.url + "/a?b=1", {
        "headers": {"Lab": "x", "Number": 5}, "query": {"c": "d e", "f": 1},
        "body": "caf\udce9"})
    assert answer["statusCode"] == 200
    got, path, body, headers = json.loads(answer["body"])
    assert (got, path, body) == (method, "/a?b=1&c=d+e&f=1", "caf\xe9")
    assert (headers["Lab"], headers["Number"]) == ("x", "5")
    # Of a header that comes twice, the first, as FaaS-Go has it.
    assert (answer["headers"]["Lab"], answer["headers"]["X-Two"]) == (
        "first", "1")


def test_a_request_needs_no_options(host, web):
    for options in [], [None], [{}], [[]]:
        answer = host("http.get", web.url, *options)
        method, path, body, headers = json.loads(answer["body"])
        assert (method, path, body) == ("GET", "/", "")


def test_a_table_is_sent_as_json(host, web):
    for body, text in ({"a": [1]}, '{"a": [1]}'), ([1, 2], "[1, 2]"), (
            7, "7"), ("", ""):
        answer = host("http.post", web.url, {"body": body})
        assert json.loads(answer["body"])[2] == text


def test_every_status_is_an_answer(host, web):
    for status in 201, 204, 304, 400, 404, 418, 500, 599:
        answer = host("http.get", f"{web.url}/{status}")
        assert answer["statusCode"] == status
        assert answer["body"] == "" or str(status) in answer["body"]


def test_bytes_that_are_no_text_come_as_they_are(host, web):
    web.leads["raw"] = 200, b"\xff\0\xc3\xa9"
    assert host("http.get", web.url + "/raw")["body"] == "\udcff\0é"


@pytest.mark.parametrize("status, method, body", [
    (301, "GET", ""), (302, "GET", ""), (303, "GET", ""),
    (307, "POST", "hi"), (308, "POST", "hi")])
def test_a_redirect_is_followed_as_rfc_9110_says(
        host, web, status, method, body):
    web.leads["from"] = status, "/to?x=1"
    answer = host("http.post", web.url + "/from", {"body": "hi"})
    found = json.loads(answer["body"])
    assert found[:3] == [method, "/to?x=1", body]


def test_redirects_are_followed_so_far_and_no_further(host, web):
    for number in range(MAX_REDIRECTS + 1):
        web.leads[f"step{number}"] = 302, f"/step{number + 1}"
    answer = host("http.get", web.url + "/step1")
    assert json.loads(answer["body"])[1] == f"/step{MAX_REDIRECTS + 1}"
    assert "more than 10 times" in refused(host, "http.get",
                                           web.url + "/step0")


@pytest.mark.parametrize("where", [
    "file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/",
    "//[::1", "http://", "javascript:1"])
def test_a_redirect_leads_to_the_web_and_nowhere_else(host, web, where):
    web.leads["from"] = 302, where
    said = refused(host, "http.get", web.url + "/from")
    assert "cannot be had" in said and "root:" not in said


def test_a_redirect_takes_no_secret_to_another_host(host, web):
    secret = {"Authorization": "Bearer s3cr3t", "Cookie": "s3cr3t=1",
              "Lab": "x"}
    web.leads["same"] = 302, "/to"
    web.leads["other"] = 302, web.elsewhere + "/to"
    for path, told in ("/same", True), ("/other", False):
        answer = host("http.get", web.url + path, {"headers": secret})
        headers = json.loads(answer["body"])[3]
        assert ("Authorization" in headers, "Cookie" in headers) == (told,
                                                                     told)
        assert headers["Lab"] == "x"
        assert headers["Host"] == (web.url if told else
                                   web.elsewhere).removeprefix("http://")


@pytest.mark.parametrize("url", [
    "", "/x", "file:///etc/passwd", "ftp://127.0.0.1/", "http://",
    "http:///x", "http://[::1/", "http://127.0.0.1:99999/",
    "http://127.0.0.1:x/", "http://127.0.0.1:1/", "http://no.such.invalid/",
    "http://127.0.0.1/a b", "http://127.0.0.1/\r\nX: y", "http://\udcff/",
    "http://127.0.0.1/\udcff", "HTTP://", "http://a\0b/"])
def test_a_url_that_cannot_be_had_is_a_sentence(host, web, url):
    said = refused(host, "http.get", url)
    assert "cannot be had: " in said or "must begin with" in said
    assert "Traceback" not in said and len(said) < 500


@pytest.mark.parametrize("options", [
    {"headers": {"A": "b\r\nC: d"}}, {"headers": {"A\r\nB": "c"}},
    {"headers": {"A": "\u4e2d"}}, {"headers": "x"}, {"headers": ["a"]},
    {"query": "x"}, {"query": [1]}, ["x"], [1, 2]])
def test_options_that_are_none_are_refused(host, web, options):
    assert refused(host, "http.get", web.url, options)
    assert host("http.get", web.url)["statusCode"] == 200


def test_an_answer_may_be_as_large_as_the_functions_own(web):
    web.leads["large"] = 200, b"x" * 1001
    assert len(web_request("GET", web.url + "/large", most=1001)[2]) == 1001
    with pytest.raises(FaasError, match="larger than 1000 bytes") as error:
        web_request("GET", web.url + "/large", most=1000)
    assert error.value.kind == "too_large"


def test_the_bound_of_an_answer_is_the_functions_output_limit(
        platform, web):
    platform = platform(output=10_000)
    fn = platform.deploy("f", bundle("def fn(input): return input"))
    web.leads["large"] = 200, b"x" * 10_001
    with pytest.raises(FaasError, match="larger than 10000 bytes"):
        Host(platform, fn)("http.get", [web.url + "/large"], soon())


def endless(line, ended):
    while not ended.is_set():
        line.sendall(bytes(65536))


def test_an_answer_without_end_is_left(host, web):
    def talk(line, ended):
        line.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        endless(line, ended)
    with talking(talk) as url:
        assert "larger than" in refused(host, "http.get", url)


def test_of_a_redirect_nothing_but_its_head_is_read(host, web):
    def talk(line, ended):
        line.sendall(b"HTTP/1.1 302 Found\r\nLocation: %b/to\r\n"
                     b"Content-Length: 9999\r\n\r\nbegun and never ended"
                     % web.url.encode())
        ended.wait(60)
    with talking(talk) as url:
        assert host("http.get", url, seconds=9)["statusCode"] == 200


DRIPS = {
    "nothing": b"", "its head": b"HTTP/1.1 200 OK\r\nX: ",
    "its body": b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n",
    "its chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "answers that say: continue": b"", "hints and no answer": b""}


@pytest.mark.parametrize("case", DRIPS)
def test_however_slowly_an_answer_drips_it_ends_with_the_call(
        host, web, case):
    """It goes on for 20 s, and the call has half a second."""
    sent = [0]
    drop = {"nothing": b"", "its chunks": b"1\r\nx\r\n",
            "answers that say: continue": b"HTTP/1.1 100 C\r\n\r\n",
            "hints and no answer": b"HTTP/1.1 103 H\r\n\r\n"}.get(case, b"x")

    def talk(line, ended):
        line.sendall(DRIPS[case])
        while not ended.wait(0.05) and sent[0] < 400:
            line.sendall(drop)
            sent[0] += 1
    with talking(talk) as url:
        with pytest.raises(FaasError) as error:
            host("http.get", url, seconds=0.5)
        assert error.value.kind in ("too_large", "bad_input", "timeout")
        assert sent[0] < 300


def test_hints_that_come_before_an_answer_are_none(host, web):
    with talking(lambda line, ended: line.sendall(
            b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
            b"HTTP/1.1 100 Continue\r\n\r\n"
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")) as url:
        answer = host("http.get", url)
    assert (answer["statusCode"], answer["body"]) == (404, "no")
    assert "Link" not in answer["headers"]


def test_a_call_that_waits_for_the_web_meets_its_own_deadline(platform, web):
    platform = platform()
    platform.deploy("f", handler("""
        def handler(ctx, event):
            return {"body": str(ctx.http.get(event["body"]))}
        """))

    def talk(line, ended):
        ended.wait(60)
    with talking(talk) as url:
        result = platform.invoke(Call("f", url.encode(), timeout=0.5))
    assert (result.kind, result.sentence) == (
        "timeout", "it ran longer than the 0.5 s that the caller allowed")
    # And the place that it had is free again.
    result = platform.invoke(Call("f", web.url.encode()))
    assert result.kind == "ok" and b"'statusCode': 200" in result.body
    assert platform.find("f").gate.inside == 0


@pytest.mark.parametrize("said", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
    b"hello\r\n\r\n", b"HTTP", b""])
def test_an_answer_that_ends_too_early_is_none(host, web, said):
    with talking(lambda line, ended: line.sendall(said)) as url:
        assert "cannot be had: " in refused(host, "http.get", url)


def test_a_bundle_is_fetched_as_a_function_fetches(web):
    web.leads["ok"] = 200, b"PK"
    web.leads["from"] = 302, "/ok"
    assert fetch(web.url + "/from") == b"PK"
    for path in "404", "500":
        with pytest.raises(FaasError, match=f"it answers {path}") as error:
            fetch(f"{web.url}/{path}")
        assert error.value.kind == "bad_input"


# 8.3 Find


def test_what_is_not_there_is_not_found_and_remembered(platform):
    platform = platform()
    for name in "no-such", "../etc/passwd", "a b", "", "\udcff", "x" * 100:
        result = platform.invoke(Call(name))
        assert result.kind in ("not_found", "bad_input") and result.sentence
        assert (result.version, result.start) == (0, "")
    names = [one.function for one in platform.journal.recent()]
    assert len(names) == 6 and "no-such" in names and "x" * 64 in names
    assert {key[0] for key in platform.counters.calls} == {""}


def test_who_polls_until_a_deploy_is_there_does_not_undo_it(platform):
    """To find nothing takes a moment, in which something may come."""
    platform, ended = platform(), threading.Event()

    def poll():
        while not ended.is_set():
            with contextlib.suppress(FaasError):
                platform.find("x")
    pollers = [threading.Thread(target=poll) for _ in range(3)]
    for one in pollers:
        one.start()
    try:
        for number in range(15):
            platform.deploy("x", shell(f"printf {number}"))
            assert platform.invoke(Call("x")).body == b"%d" % number
            platform.delete("x")
            assert platform.invoke(Call("x")).kind == "not_found"
    finally:
        ended.set()
        for one in pollers:
            one.join(20)


def test_a_folder_that_comes_and_goes_is_found_or_not(platform, tmp_path):
    platform, ended, seen = platform(), threading.Event(), []
    here, away = tmp_path / "functions" / "f", tmp_path / "away"
    away.mkdir()
    (away / "fn.sh").write_text("#!/bin/sh\nprintf here\n")

    def call():
        while not ended.is_set():
            try:
                result = platform.invoke(Call("f"))
                seen.append((result.kind, result.body))
            except Exception as error:      # which is what must not happen
                seen.append((repr(error), b""))
    callers = [threading.Thread(target=call) for _ in range(3)]
    for one in callers:
        one.start()
    for _ in range(10):
        before = len(seen)
        away.rename(here)
        eventually(lambda: ("ok", b"here") in seen[before:])
        before = len(seen)
        here.rename(away)
        eventually(lambda: "not_found" in dict(seen[before:]))
    ended.set()
    for one in callers:
        one.join(20)
    # In the moment of the move a text may be there, and its folder not.
    assert {kind for kind, _ in seen} <= {"ok", "not_found", "crashed",
                                          "denied"}
    assert [one.number for one in platform.shelf.versions("f")] == [1]


def test_scripts_folders_and_uploads_are_listed_by_name(platform, tmp_path):
    platform = platform()
    platform.deploy("uploaded", bundle("def fn(i): pass"))
    (tmp_path / "functions" / "folder").mkdir()
    (tmp_path / "functions" / "folder" / "fn.sh").write_text("#!/bin/sh\n")
    (tmp_path / "functions" / "a.sh").write_text("#!/bin/sh\n")
    (tmp_path / "functions" / ".hidden").write_text("")
    (tmp_path / "functions" / "empty").mkdir()
    listed = [(fn.name, fn.tongue, fn.source) for fn in platform.listing()]
    assert listed == [("a.sh", "script", "file"),
                      ("folder", "binary", "folder"),
                      ("uploaded", "python3", "upload")]
    assert platform.uploaded() == ["uploaded"]


# 8.4 Deploy


def test_the_threads_of_a_function_are_ready_before_the_deploy_returns(
        platform):
    platform = platform()
    before = set(family(platform.parent.process.pid))
    platform.deploy("f", bundle("""
        import pathlib, os
        pathlib.Path(f"ready-{os.getpid()}").touch()
        def fn(input): return os.getpid()
    """), threads=4)
    [folder] = (os.path.join(platform.shelf.folder, "f", digest) for digest
                in os.listdir(os.path.join(platform.shelf.folder, "f")))
    ready = {int(name[6:]) for name in os.listdir(folder)
             if name.startswith("ready-")}
    assert len(ready) == 4
    assert ready <= set(family(platform.parent.process.pid)) - before
    result = platform.invoke(Call("f"))
    assert result.start == "warm" and int(result.body) in ready


def test_a_failed_deploy_leaves_no_worker(platform):
    platform = platform()
    platform.deploy("f", bundle("def fn(input): return 'old'"))
    before = set(family(platform.parent.process.pid))
    for text in "1 / 0", "def fn(): pass", "fn = 1":
        with pytest.raises(FaasError, match="does not start"):
            platform.deploy("f", bundle(text), threads=3)
    eventually(lambda: set(family(platform.parent.process.pid)) <= before)
    assert platform.invoke(Call("f")).body == b"old"


def test_a_deploy_ends_the_old_worker_when_its_call_has_ended(
        platform, tmp_path):
    platform = platform()
    platform.deploy("f", bundle(MEET))
    [path] = meet(tmp_path, "old")
    calls = Calls(platform, call_to(path))
    pid = int(eventually(lambda: path.exists() and path.read_text()))
    platform.deploy("f", bundle("def fn(input): return 'new'"))
    assert platform.invoke(Call("f")).body == b"new"
    assert os.path.exists(f"/proc/{pid}")
    path.unlink()
    [result] = calls.wait()
    assert (result.body, result.version) == (b"met", 1)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))


def test_a_redeploy_under_load_fails_no_call(platform):
    platform = platform()
    versions = [bundle(f"def fn(input): return '{number}'")
                for number in range(6)]
    platform.deploy("f", versions[0])
    started, answers, redeployed = threading.Barrier(17), [], []

    def ask():
        started.wait(20)
        for _ in range(25):
            oldest = len(redeployed)
            result = platform.invoke(Call("f"))
            answers.append((oldest, result, len(redeployed) + 1))
    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    started.wait(20)
    for files in versions[1:] + versions[:1]:
        platform.deploy("f", files)
        redeployed.append(files)
    for thread in threads:
        thread.join(60)
    assert len(answers) == 400
    for oldest, result, newest in answers:
        assert result.kind == "ok", result.sentence
        # What serves at a moment between these two.
        allowed = {str(n % 6) for n in range(oldest, newest + 1)}
        assert result.body.decode() in allowed


@pytest.mark.parametrize("first, second", [
    (bundle(MEET), shell("printf new")),
    (shell('touch "$(cat)"; exec sleep 0.1'), bundle(
        "def fn(input): return 'new'"))], ids=["to binary", "to python3"])
def test_a_redeploy_in_another_tongue_fails_no_call_that_waits(
        platform, tmp_path, first, second):
    platform = platform(concurrency=1)
    platform.deploy("f", first)
    one, two = meet(tmp_path, "one", "two")
    running = Calls(platform, call_to(one))
    eventually(one.exists)
    waiting = Calls(platform, call_to(two))
    eventually(lambda: platform.find("f").gate.queue)
    platform.deploy("f", second)
    one.unlink()
    eventually(lambda: not running.threads[0].is_alive())
    two.unlink(missing_ok=True)
    assert [r.kind for r in running.wait() + waiting.wait()] == ["ok"] * 2
    assert platform.invoke(Call("f")).body == b"new"


def test_a_call_that_waits_while_its_function_is_deleted_is_not_found(
        platform, tmp_path):
    platform = platform(concurrency=1)
    platform.deploy("f", bundle(MEET))
    one, two = meet(tmp_path, "one", "two")
    running = Calls(platform, call_to(one))
    eventually(one.exists)
    waiting = Calls(platform, call_to(two))
    eventually(lambda: platform.find("f").gate.queue)
    platform.delete("f")
    one.unlink()
    assert running.wait()[0].body == b"met"
    assert waiting.wait()[0].kind == "not_found"


# 8.5 The waist


def test_each_stage_of_a_call_has_its_span(platform):
    platform = platform()
    platform.deploy("f", bundle("def fn(input): return input"))
    platform.deploy("sh", shell("cat"))
    warm, binary = (platform.invoke(Call(name)) for name in ("f", "sh"))
    assert [name for name, _ in warm.spans] == ["find", "queue", "start",
                                                "run"]
    assert [name for name, _ in binary.spans] == ["find", "queue", "run"]
    assert (warm.start, binary.start) == ("warm", "cold")
    assert all(span >= 0 for _, span in warm.spans + binary.spans)


def test_the_answer_says_how_long_each_stage_took(server):
    faas = server()
    faas.upload("f", {"fn.py": "def fn(input): return 1"})
    answer = faas.post("/f")
    timing = answer.headers["Server-Timing"].split(", ")
    assert [part.split(";")[0] for part in timing] == [
        "warm", "find", "queue", "start", "run"]
    assert all(float(part.partition(";dur=")[2]) >= 0 for part in timing[1:])
    assert answer.headers["X-Function-Version"] == "1"
    assert answer.headers["X-Execution-Id"]


@pytest.mark.parametrize("timeout, limit, why", [
    (0.2, 300, "the 0.2 s that the caller allowed"),
    (0, 0.2, "the function's limit of 0.2 s")])
@pytest.mark.parametrize("files", [
    bundle("import time\ndef fn(input): time.sleep(60)"),
    shell("sleep 60")], ids=["python3", "binary"])
def test_a_call_past_its_deadline_names_whose_it_was(
        platform, files, timeout, limit, why):
    platform = platform(timeout=limit)
    platform.deploy("f", files)
    result = platform.invoke(Call("f", timeout=timeout))
    assert (result.kind, result.sentence) == (
        "timeout", f"it ran longer than {why}")


def test_a_function_may_have_a_timeout_of_its_own(platform):
    platform = platform()
    platform.deploy("f", shell("sleep 60"), timeout=0.2)
    assert "limit of 0.2 s" in platform.invoke(Call("f")).sentence


def test_a_call_past_its_deadline_leaves_no_process(platform):
    platform = platform()
    before = set(family(os.getpid()))
    platform.deploy("f", shell("setsid sleep 60 & sleep 60 & sleep 60"))
    assert platform.invoke(Call("f", timeout=0.2)).kind == "timeout"
    assert set(family(os.getpid())) <= before


def test_a_body_past_its_limit_is_refused_before_anything_runs(platform):
    platform = platform(body=10)
    platform.deploy("f", shell("touch ran; cat"))
    result = platform.invoke(Call("f", b"x" * 11))
    assert result.kind == "too_large" and "the 10 bytes" in result.sentence
    [folder] = os.scandir(os.path.join(platform.shelf.folder, "f"))
    assert not os.path.exists(os.path.join(folder.path, "ran"))
    assert platform.invoke(Call("f", b"x" * 10)).body == b"x" * 10


def test_ten_calls_of_a_function_that_waits_are_under_way_together(
        platform, tmp_path):
    platform = platform()
    platform.deploy("f", bundle(MEET))
    paths = meet(tmp_path, *range(10))
    calls = Calls(platform, *map(call_to, paths))
    # None of them ends before all have begun.
    eventually(lambda: all(path.exists() for path in paths), 20)
    for path in paths:
        path.unlink()
    results = calls.wait()
    assert [result.body for result in results] == [b"met"] * 10
    assert {result.start for result in results} == {"cold", "warm"}


def test_no_more_calls_run_than_the_concurrency_allows(platform, tmp_path):
    platform = platform(concurrency=2, queue=3)
    platform.deploy("f", bundle(MEET))
    paths = meet(tmp_path, *range(5))
    calls = Calls(platform, *map(call_to, paths))
    gate = platform.find("f").gate
    eventually(lambda: inside_and_waiting(gate) == (2, 3))
    eventually(lambda: sum(path.exists() for path in paths) == 2)
    result = platform.invoke(Call("f"))
    assert (result.kind, result.sentence) == (
        "busy", "2 calls run and 3 wait: the limits of this function")
    assert [name for name, _ in result.spans] == ["find", "queue"]
    for path in paths:
        eventually(path.exists)
        path.unlink()
    assert [result.kind for result in calls.wait()] == ["ok"] * 5
    assert platform.invoke(Call("f")).kind == "ok"


def test_past_the_queue_is_a_429_that_says_when_to_return(server, tmp_path):
    faas = server("--limit", "concurrency=1", "--limit", "queue=1")
    faas.upload("f", {"fn.py": MEET})
    paths, answers = meet(tmp_path, 1, 2, 3), []
    threads = [threading.Thread(target=lambda path=path: answers.append(
        faas.post("/f", str(path).encode()))) for path in paths]
    threads[0].start()
    eventually(paths[0].exists)
    threads[1].start()
    threads[2].start()
    # One of these two waits; there is no place for the other.
    [full] = eventually(lambda: answers)
    assert (full.status, full.headers["Retry-After"]) == (429, "1")
    assert b"1 calls run and 1 wait: the limits of this function" in full.body
    paths[0].unlink()
    next_one = eventually(lambda: [path for path in paths if path.exists()])
    next_one[0].unlink()
    for thread in threads:
        thread.join(20)
    assert [answer.body for answer in answers[1:]] == [b"met", b"met"]


def test_who_waits_past_its_deadline_is_told_that_it_waited(
        platform, tmp_path):
    platform = platform(concurrency=1)
    platform.deploy("f", bundle(MEET))
    [path] = meet(tmp_path, "one")
    calls = Calls(platform, call_to(path))
    eventually(path.exists)
    result = platform.invoke(Call("f", timeout=0.05))
    assert (result.kind, result.sentence) == (
        "timeout", "it waited in the queue for the 0.05 s that the caller "
        "allowed")
    path.unlink()
    calls.wait()


def test_a_worker_that_crashed_is_replaced(platform):
    platform = platform()
    platform.deploy("f", bundle("""
        import os
        def fn(input):
            if input:
                os.kill(os.getpid(), int(input))
            return os.getpid()
    """))
    first = platform.invoke(Call("f")).body
    for number, name in (b"9", "SIGKILL"), (b"11", "SIGSEGV"):
        result = platform.invoke(Call("f", number))
        assert (result.kind, result.sentence) == (
            "crashed", f"its worker was ended by {name}")
    again = platform.invoke(Call("f"))
    assert (again.kind, again.start) == ("ok", "cold")
    assert again.body != first
    assert platform.invoke(Call("f"))[:2] == ("ok", again.body)


def test_a_worker_that_died_while_idle_fails_no_call(platform):
    platform = platform()
    platform.deploy("f", bundle("import os\ndef fn(i): return os.getpid()"))
    pid = int(platform.invoke(Call("f")).body)
    os.kill(pid, 9)
    eventually(platform.find("f").pool.idle[0].gone)
    result = platform.invoke(Call("f"))
    assert (result.kind, result.start) == ("ok", "cold")
    assert int(result.body) != pid


def test_a_call_that_needed_two_workers_has_each_span_once(platform):
    platform = platform()
    platform.deploy("f", bundle("import os\ndef fn(i): return os.getpid()"))
    pid = int(platform.invoke(Call("f")).body)
    os.kill(pid, 9)
    eventually(platform.find("f").pool.idle[0].gone)
    assert [name for name, _ in platform.invoke(Call("f")).spans] == [
        "find", "queue", "start", "run"]


def test_idle_workers_are_reaped_to_zero_and_come_back_cold(platform):
    platform = platform(idle=0.2)
    platform.deploy("f", bundle("import os\ndef fn(i): return os.getpid()"),
                    threads=3)
    first = platform.invoke(Call("f"))
    pool = platform.find("f").pool
    eventually(lambda: pool.size == 0)
    eventually(lambda: not os.path.exists(f"/proc/{int(first.body)}"))
    assert len(family(platform.parent.process.pid)) == 1    # the nursery
    again = platform.invoke(Call("f"))
    assert (first.start, again.start, again.kind) == ("warm", "cold", "ok")


def test_counters_tell_how_calls_ended(platform):
    platform = platform()
    platform.deploy("f", bundle("def fn(input): return 1 / int(input)"))
    for body in b"1", b"2", b"0":
        platform.invoke(Call("f", body))
    platform.invoke(Call("elsewhere"))
    calls = {key: count for key, (count, _) in
             platform.counters.calls.items()}
    assert calls == {("f", "ok", "warm"): 2, ("f", "crashed", "warm"): 1,
                     ("", "not_found", ""): 1}


def test_a_folder_that_is_slow_to_load_keeps_to_the_callers_time(
        platform, tmp_path):
    platform = platform()
    folder = tmp_path / "functions" / "f"
    folder.mkdir()
    path, = meet(tmp_path, "load")
    (folder / "fn.py").write_text(textwrap.dedent(f"""
        import os, time
        open({str(path)!r}, "w").close()
        while os.path.exists({str(path)!r}):
            time.sleep(0.005)
        def fn(input): return "loaded"
    """))
    first = Calls(platform, Call("f"))
    eventually(path.exists)
    second = Calls(platform, Call("f", timeout=0.1))
    try:
        eventually(lambda: second.results[0], 5)
    finally:
        path.unlink()
    assert second.wait()[0].kind == "timeout"
    assert first.wait()[0].body == b"loaded"


# Settings that change what the waist does


def test_a_function_that_is_switched_off_is_denied(platform):
    platform = platform()
    platform.deploy("f", bundle("def fn(input): return 'on'"))
    platform.deploy("g", bundle("def fn(input): return 'g'"))
    ident = platform.configure("f", disabled=True).id
    for name in "f", ident:
        result = platform.invoke(Call(name))
        assert (result.kind, result.sentence, result.start) == (
            "denied", "Function is disabled", "")
    with pytest.raises(FaasError, match="is disabled") as error:
        platform.invoke_later(Call("f"))
    assert error.value.kind == "denied"
    assert platform.invoke(Call("g")).body == b"g"
    platform.deploy("f", bundle("def fn(input): return 'new'"))
    assert platform.invoke(Call("f")).kind == "denied"
    platform.configure("f", disabled=False)
    assert platform.invoke(Call("f")).body == b"new"


def test_a_change_of_variables_under_load_fails_no_call(platform):
    platform = platform()
    platform.deploy("f", bundle("""
        import os
        def fn(input): return os.environ["N"]
        """), env={"N": "0"})
    answers, ended = [], threading.Event()

    def ask():
        while not ended.is_set():
            answers.append(platform.invoke(Call("f")))
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 6):
        platform.configure("f", env={"N": str(number)})
        assert platform.invoke(Call("f")).body == b"%d" % number
    ended.set()
    for thread in threads:
        thread.join(20)
    assert answers and {one.kind for one in answers} == {"ok"}
    assert {one.version for one in answers} == {1}


def test_executions_are_kept_for_as_long_as_their_function_says(platform):
    platform = platform()
    for name in "f", "g":
        platform.deploy(name, bundle("def fn(input): pass"))
    platform.configure("f", keep_days=7)
    assert platform.keep_days() == {"f": 7}
    platform.configure("f", keep_days=0)
    assert platform.keep_days() == {}


# Nobody waits


def test_a_call_for_later_runs_and_its_end_is_in_the_log(platform, tmp_path):
    platform = platform()
    platform.deploy("f", bundle(MEET))
    [path] = meet(tmp_path, "later")
    platform.invoke_later(call_to(path))
    eventually(path.exists)
    assert not platform.journal.recent("f")         # It is under way,
    path.unlink()
    [one] = eventually(lambda: platform.journal.recent("f"))
    assert (one.trigger, one.status) == ("async", "ok")
    assert platform.logs.read("f").endswith(b"met\n[ok]\n")     # and ended.


def test_what_need_not_be_tried_later_is_refused_at_once(platform):
    platform = platform(body=10)
    platform.deploy("f", bundle("def fn(input): pass"))
    for call, kind in ((Call("g"), "not_found"), (Call("../f"), "bad_input"),
                       (Call("f", b"x" * 11), "too_large")):
        with pytest.raises(FaasError) as error:
            platform.invoke_later(call)
        assert error.value.kind == kind


def test_the_calls_in_the_background_are_bounded(platform, tmp_path):
    platform = platform()
    platform.background = threading.Semaphore(2)
    platform.deploy("f", bundle(MEET))
    paths = meet(tmp_path, 1, 2)
    for path in paths:
        platform.invoke_later(call_to(path))
    with pytest.raises(FaasError, match="in the background") as error:
        platform.invoke_later(Call("f"))
    assert error.value.kind == "busy"
    for path in paths:
        eventually(path.exists)
        path.unlink()
    eventually(lambda: len(platform.journal.recent("f")) == 2)

    def accepted():
        try:
            return platform.invoke_later(Call("f")) is None
        except FaasError:
            return False
    eventually(accepted)


def test_an_asynchronous_call_over_http_is_a_202(server):
    faas = server()
    faas.upload("f", {"fn.py": "def fn(input): return input.upper()"})
    answer = faas.post("/f", b"later", {"X-tinyFaaS-Async": "1"})
    assert (answer.status, answer.body) == (202, b"")
    eventually(lambda: faas.get("/logs/f").body.endswith(b"LATER\n[ok]\n"))
    missing = faas.post("/g", b"", {"X-tinyFaaS-Async": "1"})
    assert missing.status == 404


# The end


def test_closing_lets_running_calls_finish(platform, tmp_path):
    platform = platform()
    platform.deploy("f", bundle(MEET))
    [path] = meet(tmp_path, "one")
    calls = Calls(platform, call_to(path))
    eventually(path.exists)
    closing = threading.Thread(target=platform.close, args=(20,))
    closing.start()
    eventually(lambda: platform.closing)
    late = platform.invoke(Call("f"))
    assert (late.kind, late.sentence) == ("unavailable",
                                          "the platform is stopping")
    path.unlink()
    assert calls.wait()[0].body == b"met"
    closing.join(20)
    assert not closing.is_alive()


def test_closing_leaves_no_process_and_no_thread(tmp_path):
    processes, threads = set(family(os.getpid())), set(threading.enumerate())
    with Platform(tmp_path.as_posix()) as platform:
        platform.deploy("f", bundle("""
            import subprocess
            subprocess.Popen(["setsid", "sleep", "60"])
            def fn(input): return 1
        """), threads=2)
        assert platform.invoke(Call("f")).body == b"1"
        assert len(family(os.getpid())) > len(processes) + 2
    assert set(family(os.getpid())) == processes
    assert set(threading.enumerate()) <= threads


def test_closing_ends_calls_that_do_not_end_and_those_behind_them(
        platform, tmp_path):
    platform = platform(concurrency=1)
    platform.deploy("f", bundle(MEET))
    one, two = meet(tmp_path, "one", "two")
    running = Calls(platform, call_to(one))
    eventually(one.exists)
    waiting = Calls(platform, call_to(two))
    eventually(lambda: platform.find("f").gate.queue)
    platform.close(0.1)
    assert running.wait()[0].kind in ("crashed", "unavailable")
    assert waiting.wait(5)[0].kind == "unavailable"


def test_a_platform_starts_again_on_what_it_left(tmp_path):
    home = tmp_path.as_posix()
    for start in range(3):
        with Platform(home) as platform:
            if start == 0:
                platform.deploy("f", bundle("def fn(input): return input"))
            result = platform.invoke(Call("f", b"hi"))
            assert (result.body, result.version) == (b"hi", 1)
            assert result.start == ("cold" if start else "warm")
            assert len(platform.journal.recent("f")) == start + 1


def test_metrics_and_executions_agree(server):
    faas = server()
    faas.upload("f", {"fn.py": "def fn(input): return 1 / int(input)"})
    for body in b"1", b"0", b"2":
        faas.post("/f", body)
    executions = json.loads(faas.get("/-/functions/f/executions").body)
    assert sorted(one["status"] for one in executions) == [
        "crashed", "ok", "ok"]
    metrics = faas.get("/metrics").body.decode()
    [ok] = [line for line in metrics.splitlines() if "calls" in line
            and 'function="f"' in line and '"ok"' in line]
    assert float(ok.split()[-1]) == 2


def test_a_function_with_much_to_say_about_its_failure_holds_up_nobody(
        platform):
    platform = platform()
    platform.deploy("long", {"main.py": Item(
        b"def handler(ctx, event):\n"
        b"    raise ValueError('takes ' * 900_000)")})
    result = platform.invoke(Call("long"))
    assert result.kind == "crashed" and len(result.sentence) < 5000
    # Its patterns are quadratic: of a megabyte this would take hours.
    assert find_tip("python", "takes " * 200_000) == ""
    assert find_tip("lua", "attempt to index " * 60_000)


def test_a_call_of_a_deleted_function_changes_nothing_of_its_successor(
        platform, tmp_path):
    platform = platform()
    text = ("import pathlib, time\n"
            "def handler(ctx, event):\n"
            f"    go = pathlib.Path({str(tmp_path / 'go')!r})\n"
            f"    pathlib.Path({str(tmp_path / 'here')!r}).touch()\n"
            "    while not go.exists():\n"
            "        time.sleep(0.01)\n"
            "    found = ctx.env.get('SECRET')\n"
            "    try:\n"
            "        ctx.env.set('COLOUR', 'of the dead')\n"
            "    except ValueError as error:\n"
            "        found += ', ' + str(error)\n"
            "    return {'body': found}\n")
    files = {"main.py": Item(text.encode())}
    platform.deploy("x", files, env={"SECRET": "first"})
    with concurrent.futures.ThreadPoolExecutor() as pool:
        late = pool.submit(platform.invoke, Call("x"))
        eventually((tmp_path / "here").exists)
        platform.delete("x")
        platform.deploy("x", files, env={"SECRET": "second's own"})
        (tmp_path / "go").touch()
        said = late.result(timeout=30)
    assert b"second" not in said.body and b"of the dead" not in said.body
    assert platform.find("x").fn.env == {"SECRET": "second's own"}


# A caller who has called it off, and watchers: 8.1, 8.7 ----------------------

CALLED_OFF = "its caller has called it off"


def below(platform):
    """List the processes that functions have started."""
    return [pid for nursery in children(os.getpid())
            for pid in family(nursery)[1:]]


@pytest.mark.parametrize("files", [
    bundle("""
        import time
        def fn(input):
            open(input, 'w').close()
            time.sleep(1000)"""),
    shell('read name; touch "$name"; sleep 1000')])
def test_a_call_that_is_called_off_ends_its_process(platform, tmp_path, files):
    one, off = platform(), threading.Event()
    one.deploy("slow", files)
    mark = tmp_path / "mark"
    calls = Calls(one, Call("slow", str(mark).encode(),
                            called_off=off.is_set))
    eventually(mark.exists)
    running = below(one)
    assert running
    off.set()
    result, = calls.wait()
    assert (result.kind, result.sentence) == ("unavailable", CALLED_OFF)
    eventually(lambda: not [pid for pid in running
                            if os.path.exists(f"/proc/{pid}")])


def test_a_call_that_is_called_off_leaves_the_queue(platform, tmp_path):
    one, off = platform(concurrency=1, queue=1), threading.Event()
    one.deploy("waits", shell(
        f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"))
    first = Calls(one, Call("waits"))
    gate = one.find("waits").gate
    eventually(lambda: gate.inside == 1)
    second = Calls(one, Call("waits", called_off=off.is_set))
    eventually(lambda: len(gate.queue) == 1)
    off.set()
    assert second.wait()[0].sentence == CALLED_OFF
    assert len(gate.queue) == 0
    (tmp_path / "go").touch()
    assert first.wait()[0].kind == "ok"


def test_a_call_that_was_called_off_before_it_began_costs_no_worker(platform):
    one = platform()
    one.deploy("echo", bundle("def fn(input): return input"))
    before = below(one)
    result = one.invoke(Call("echo", b"hi", called_off=lambda: True))
    assert (result.kind, result.sentence) == ("unavailable", CALLED_OFF)
    assert below(one) == before
    assert one.invoke(Call("echo", b"hi")).start == "warm"


def test_watchers_hear_of_good_answers_and_of_the_end(platform):
    one, heard = platform(), []
    one.watchers.append(lambda name, result: heard.append(
        (name, result and result.body)))
    one.deploy("half", bundle("def fn(input): return 1 / len(input)"))
    one.invoke(Call("half", b"ab"))
    one.invoke(Call("half", b""))               # fails: nobody is told
    one.invoke(Call("nobody", b"ab"))
    one.invoke_later(Call("half", b"abcd"))
    eventually(lambda: len(heard) == 2)
    one.delete("half")
    assert heard == [("half", b"0.5"), ("half", b"0.25"), ("half", None)]
