"""Chapter 8: what an invocation is: found, admitted, run, remembered."""

import json
import os
import textwrap
import threading
import time

import pytest
from conftest import eventually

from faas import (Call, Counters, Deadline, FaasError, Function, Gate, Item,
                  Limits, Platform, Run, Trace, call_headers, deadline_of,
                  family, guess_type, log_text, result_of)


def soon(seconds=20.0):
    return Deadline(time.monotonic() + seconds, f"{seconds:g} s")


def bundle(text):
    return {"fn.py": Item(textwrap.dedent(text).encode())}


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
