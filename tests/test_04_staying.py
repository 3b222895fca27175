"""Chapter 4: programs that stay, and what becomes of them."""

import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from conftest import eventually

import faas
from faas import (HERE, Channel, Deadline, FaasError, Frame, FrameReader,
                  Limits, Nursery, Pool, Program, Worker, frame_encode)

ECHO = Program(tongue="echo")
SHELL_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


def soon(seconds=20.0):
    return Deadline(time.monotonic() + seconds, f"{seconds:g} s")


def sh(line):
    return Program(("/bin/sh", "-c", line), "/", SHELL_ENV)


def is_alive(pid):
    """Tell whether a process runs; what only waits to be reaped does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.fixture
def nursery():
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def fn(tmp_path):
    """Make the Program of a Python function from its text."""
    def fn(text, **limits):
        (tmp_path / "fn.py").write_text(textwrap.dedent(text))
        return Program((), str(tmp_path), dict(SHELL_ENV), Limits(**limits),
                       "python3")
    return fn


def ask(worker, body=b"", deadline=None):
    return worker.ask({"headers": {}}, body, deadline or soon())


# 4.1 Frames

HI = bytes.fromhex("0000000d 00000007 43 00000002 7b7d 6869")
FRAMES = [Frame(7, b"C", {}, b"hi"), Frame(8, b"R", {"a": ["ü", 1]}, b""),
          Frame(0xffffffff, b"H", {}, bytes(range(256))),
          Frame(1, b"Q", {"do": "kv.set", "args": ["a", "\udcff"]}),
          Frame(1, b"A", {"value": None}), Frame(2, b"A", {"error": "no"}),
          Frame(0, b"L", {"level": "info"}, b"\xff\n")]
STREAM = b"".join(map(frame_encode, FRAMES))


def test_the_frame_worked_by_hand_is_the_one_encoded():
    assert frame_encode(FRAMES[0]) == HI


def test_frames_may_come_one_byte_at_a_time():
    reader, got = FrameReader(most=1000), []
    for place in range(len(STREAM)):
        got += reader.receive(STREAM[place:place + 1])
    assert got == FRAMES


def test_frames_may_be_split_anywhere():
    for place in range(len(STREAM) + 1):
        reader = FrameReader(most=1000)
        got = reader.receive(STREAM[:place])
        assert got == FRAMES[:len(got)]
        assert got + reader.receive(STREAM[place:]) == FRAMES


def test_a_frame_comes_with_its_last_byte_and_not_before():
    reader = FrameReader(most=1000)
    assert reader.receive(HI[:-1]) == []
    assert reader.receive(HI[-1:]) == FRAMES[:1]


def test_a_frame_of_the_greatest_size_passes_and_one_more_byte_does_not():
    assert FrameReader(most=13).receive(HI) == FRAMES[:1]
    with pytest.raises(FaasError) as error:
        FrameReader(most=12).receive(HI)
    assert error.value.kind == "too_large"


def frame_bytes(size, meta_size, rest=b""):
    return struct.pack(">IIcI", size, 1, b"R", meta_size) + rest


def test_each_verb_is_known_and_no_other():
    known = set(b"HCRESDQAL")
    for verb in range(256):
        data = struct.pack(">IIcI", 11, 1, bytes([verb]), 2) + b"{}"
        if verb in known:
            assert FrameReader(most=99).receive(data) == [
                Frame(1, bytes([verb]), {})]
        else:
            with pytest.raises(FaasError, match="the bytes are no frame"):
                FrameReader(most=99).receive(data)


@pytest.mark.parametrize("raw", [b"\xff", b"\x80\xfe", b"caf\xe9"])
def test_bytes_that_are_no_text_pass_a_meta_both_ways(raw):
    """Lua writes them as they are; we write them as lone surrogates."""
    data = b'{"a":"' + raw + b'"}'
    text = raw.decode("utf-8", "surrogateescape")
    [frame] = FrameReader(most=99).receive(
        frame_bytes(9 + len(data), len(data), data))
    assert frame.meta == {"a": text}
    again = frame_encode(frame)
    assert again.isascii() or b"\\udc" in again
    assert FrameReader(most=99).receive(again) == [frame]


@pytest.mark.parametrize("data", [
    frame_bytes(0, 0), frame_bytes(8, 0), frame_bytes(11, 3, b"{}"),
    frame_bytes(11, 0xffffffff), b"HTTP/1.1 200 OK\r\n"])
def test_sizes_that_cannot_be_are_refused_before_the_bytes_come(data):
    with pytest.raises(FaasError, match="no frame: verb .*, sizes") as error:
        FrameReader(most=1000).receive(data)
    assert error.value.kind == "crashed"


@pytest.mark.parametrize("meta", [
    b"", b"{", b"[]", b"1", b"null", b'"x"', b"{}{}", b"\xff", b"{'a': 1}",
    b"[" * 100_000, b'{"a":' * 100_000, b"1" * 100_000])
def test_a_meta_that_is_no_json_object_is_refused(meta):
    data = frame_bytes(9 + len(meta), len(meta), meta)
    with pytest.raises(FaasError, match="meta is no JSON object") as error:
        FrameReader(most=1 << 20).receive(data)
    assert error.value.kind == "crashed"


def test_a_reader_holds_no_more_than_the_frame_it_waits_for():
    reader = FrameReader(most=1000)
    for _ in range(1000):
        assert reader.receive(STREAM) == FRAMES
    assert len(reader.held) == 0


# 4.2 Inside the worker


@pytest.fixture
def channel(nursery):
    """Our end of the socket of an echo worker that has said hello."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    null = os.open(os.devnull, os.O_RDWR)
    pid = nursery.start(ECHO, [null, null, null, theirs.fileno()])
    theirs.close()
    os.close(null)
    with ours:
        assert hear(ours, 1) == [Frame(0, b"H", {})]
        yield ours
        nursery.end(pid)


def hear(channel, count):
    reader, frames = FrameReader(most=1 << 20), []
    while len(frames) < count:
        data = channel.recv(65536)
        assert data, "the worker is gone"
        frames += reader.receive(data)
    return frames


def test_several_calls_in_flight_are_answered_in_order_with_their_ids(
        channel):
    calls = [Frame(number, b"C", {}, b"body %d" % number)
             for number in (5, 3, 4_000_000_000)]
    channel.sendall(b"".join(map(frame_encode, calls)))
    assert hear(channel, 3) == [call._replace(verb=b"R") for call in calls]


def test_a_worker_may_be_asked_one_byte_at_a_time(channel):
    for byte in HI + HI:
        channel.sendall(bytes([byte]))
    assert hear(channel, 2) == [Frame(7, b"R", {}, b"hi")] * 2


def test_a_worker_ends_when_its_channel_does(nursery):
    worker = Worker(nursery, ECHO, soon())
    worker.channel.close()
    eventually(lambda: not is_alive(worker.pid))
    nursery.end(worker.pid)


# What a function may ask in the middle of its call


@pytest.fixture
def link():
    """A worker's Channel, and the platform's end of it."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    with ours, theirs:
        yield Channel(theirs), ours


def test_a_question_goes_out_and_its_answer_comes_back(link):
    channel, ours = link
    for number, value in enumerate(["41", None, 1.5, {"a": [True]}, "\udcff"],
                                   1):
        ours.sendall(frame_encode(Frame(number, b"A", {"value": value})))
        assert channel.question("kv.get", "hits", number) == value
        assert hear(ours, 1) == [Frame(number, b"Q", {
            "do": "kv.get", "args": ["hits", number]})]


def test_an_answer_without_a_value_is_none_and_an_error_is_raised(link):
    channel, ours = link
    ours.sendall(frame_encode(Frame(1, b"A", {})))
    assert channel.question("kv.get", "a") is None
    ours.sendall(frame_encode(Frame(2, b"A", {"error": "the key is long"})))
    with pytest.raises(ValueError, match="^the key is long$"):
        channel.question("kv.get", "a")


def test_an_answer_may_come_one_byte_at_a_time(link):
    channel, ours = link
    data = frame_encode(Frame(1, b"A", {"value": "41"}))

    def dribble():
        for byte in data:
            ours.sendall(bytes([byte]))
    sender = threading.Thread(target=dribble)
    sender.start()
    assert channel.question("kv.get", "a") == "41"
    sender.join()


def test_what_comes_behind_an_answer_is_not_lost(link):
    channel, ours = link
    call = Frame(8, b"C", {}, b"the next call")
    ours.sendall(frame_encode(Frame(1, b"A", {"value": 1}))
                 + frame_encode(call))
    assert channel.question("kv.get", "a") == 1
    assert channel.receive() == call


def test_a_question_to_a_platform_that_is_gone_ends_the_worker(link):
    channel, ours = link
    ours.close()
    with pytest.raises((SystemExit, BrokenPipeError)):
        channel.question("kv.get", "a")


def test_a_channel_that_ends_gives_no_frame(link):
    channel, ours = link
    ours.sendall(frame_encode(FRAMES[0])[:-1])
    ours.close()
    assert channel.receive() is None


def test_many_threads_of_a_function_may_ask_and_each_gets_its_answer(link):
    channel, ours = link
    asked, got = 8 * 50, []

    def ask_all(thread):
        for number in range(50):
            word = f"{thread}-{number}"
            got.append(channel.question("kv.get", word) == word)
    threads = [threading.Thread(target=ask_all, args=[number], daemon=True)
               for number in range(8)]
    for thread in threads:
        thread.start()
    reader, seen = FrameReader(most=1 << 20), []
    while len(seen) < asked:
        for frame in reader.receive(ours.recv(65536)):
            seen.append(frame.id)
            ours.sendall(frame_encode(Frame(frame.id, b"A", {
                "value": frame.meta["args"][0]})))
    for thread in threads:
        thread.join(20)
    assert got == [True] * asked
    assert sorted(seen) == [*range(1, asked + 1)]       # none comes twice


def test_an_exception_becomes_a_frame_with_its_name_and_text():
    def handler(meta, body):
        return body[9]
    frame = faas.answer(handler, Frame(7, b"C", {}, b"hi"))
    assert frame == Frame(7, b"E", {
        "kind": "crashed", "sentence": "IndexError: index out of range"})


def test_a_frame_names_the_line_where_it_is_known():
    error = FaasError("crashed", "it broke")
    assert "line" not in faas.error_frame(7, error).meta
    error.line = 12
    assert faas.error_frame(7, error).meta["line"] == 12


def test_a_refusal_of_ours_keeps_its_kind():
    frame = faas.error_frame(7, FaasError("too_large", "it is too large"))
    assert frame.meta == {"kind": "too_large", "sentence": "it is too large"}


class Awkward(Exception):
    kind = object()

    def __str__(self):
        raise ValueError


def test_an_exception_that_has_a_kind_of_its_own_is_a_crash():
    class Weird(Exception):
        kind = "weird"
    assert faas.error_frame(7, Weird("x")).meta["kind"] == "crashed"


def test_an_exception_that_cannot_be_put_into_words_is_named():
    frame = faas.error_frame(7, Awkward())
    assert frame.meta["kind"] == "crashed"
    assert frame.meta["sentence"].startswith("Awkward")
    assert frame_encode(frame)


def test_cpu_time_is_granted_call_by_call(nursery, fn):
    worker = Worker(nursery, fn("""
        import time
        def fn(input):
            end = time.process_time() + 0.45
            while time.process_time() < end:
                pass
        """, cpu=1), soon())
    assert [ask(worker).error for _ in range(5)] == [None] * 5
    worker.end()


def test_a_worker_has_four_descriptors_and_none_of_ours(nursery, fn):
    worker = Worker(nursery, fn("""
        import os
        def fn(input):
            fds = [(int(fd), os.readlink(f"/proc/self/fd/{fd}"))
                   for fd in os.listdir("/proc/self/fd")
                   if os.path.lexists(f"/proc/self/fd/{fd}")]
            return " ".join(f"{fd}={to.split(':')[0]}" for fd, to
                            in sorted(fds))
        """), soon())
    assert ask(worker).out == b"0=/dev/null 1=pipe 2=pipe 3=socket"
    worker.end()


def test_a_worker_sees_its_own_environment_and_none_of_ours(nursery, fn):
    program = fn("""
        import os
        def fn(input):
            return [dict(os.environ), open("/proc/self/environ").read()]
        """)
    worker = Worker(nursery, program._replace(env={"ONLY": "this"}), soon())
    assert ask(worker).out == b'[{"ONLY": "this"}, ""]'
    worker.end()


def test_a_worker_that_writes_to_a_closed_socket_gets_an_exception(
        nursery, fn):
    """As in any Python; a library that handles it must not be killed."""
    worker = Worker(nursery, fn("""
        import socket
        def fn(input):
            ours, theirs = socket.socketpair()
            theirs.close()
            try:
                ours.send(b"x")
            except BrokenPipeError:
                return "caught"
        """), soon())
    run = ask(worker)
    assert (run.out, run.error) == (b"caught", None)
    worker.end()


# 4.3 The nursery


def test_the_nursery_was_started_with_nothing_and_has_one_thread(nursery):
    eventually(lambda: ask_echo(nursery))       # it has begun to work
    with open(f"/proc/{nursery.process.pid}/environ", "rb") as file:
        assert file.read() == b""
    assert len(os.listdir(f"/proc/{nursery.process.pid}/task")) == 1


def ask_echo(nursery):
    worker = Worker(nursery, ECHO, soon())
    run = worker.ask({}, b"hi", soon())
    worker.end()
    return (run.out, run.error) == (b"hi", None)


def test_many_threads_may_ask_the_nursery_at_once(nursery):
    wrong = []

    def run(number):
        for turn in range(5):
            body = b"%d of %d" % (turn, number)
            result = faas.run_program(nursery, Program(("/bin/cat",)), body,
                                      soon())
            if (result.out, result.error) != (body, None):
                wrong.append(result)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_refusal_crosses_from_the_nursery_as_it_is(nursery, tmp_path):
    (tmp_path / "x.sh").write_text("#!/bin/sh\n")
    with pytest.raises(FaasError, match=r"run chmod \+x on x.sh") as error:
        nursery.start(Program((str(tmp_path / "x.sh"),)), [0, 1, 2])
    assert error.value.kind == "denied"


def test_a_worker_in_a_folder_that_is_gone_costs_only_itself(
        nursery, tmp_path):
    pid = nursery.process.pid
    with pytest.raises(FaasError):
        Worker(nursery, ECHO._replace(cwd=str(tmp_path / "gone")), soon())
    assert ask_echo(nursery) and nursery.process.pid == pid


def test_a_nursery_that_cannot_fork_now_says_so_and_forks_later(nursery):
    assert ask_echo(nursery)
    pid, what = nursery.process.pid, resource.RLIMIT_NOFILE
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (4, before[1]))
    with pytest.raises(FaasError) as error:
        nursery.start(sh("exit 0"), [0])
    assert error.value.kind == "unavailable"
    resource.prlimit(pid, what, before)
    assert ask_echo(nursery) and nursery.process.pid == pid


def test_the_nursery_keeps_no_descriptor(nursery, tmp_path):
    assert ask_echo(nursery)
    pids = os.getpid(), nursery.process.pid
    before = [descriptors(pid) for pid in pids]
    for _ in range(20):
        assert ask_echo(nursery)
        with pytest.raises(FaasError):
            nursery.start(Program((str(tmp_path / "gone"),)), [0, 1, 2])
    assert [descriptors(pid) for pid in pids] == before


def test_a_nursery_that_was_killed_is_replaced(nursery):
    pid = nursery.process.pid
    os.kill(pid, signal.SIGKILL)
    assert ask_echo(nursery)
    assert nursery.process.pid != pid and not os.path.exists(f"/proc/{pid}")


def test_a_nursery_that_was_killed_takes_its_workers_along(nursery):
    worker = Worker(nursery, ECHO, soon())
    os.kill(nursery.process.pid, signal.SIGKILL)
    eventually(lambda: not is_alive(worker.pid))
    assert worker.ask({}, b"hi", soon()).start == ""


def test_a_program_that_died_with_its_nursery_is_no_success(nursery):
    pid = nursery.start(sh("exec sleep 1000"), [0, 1, 2])
    os.kill(nursery.process.pid, signal.SIGKILL)
    assert ask_echo(nursery)            # so there is another one by now
    assert nursery.end(pid) == signal.SIGKILL


def start_with_child(nursery, line="sleep 1000 &"):
    """Start a program that starts another; give both pids."""
    heard, say = os.pipe()
    pid = nursery.start(sh(line + " echo $!; wait"), [0, say, say])
    os.close(say)
    with open(heard) as pipe:
        return pid, int(pipe.readline())


def test_a_nursery_that_was_killed_leaves_no_grandchild(nursery):
    pids = start_with_child(nursery)
    os.kill(nursery.process.pid, signal.SIGKILL)
    try:
        assert ask_echo(nursery)
        eventually(lambda: not any(map(is_alive, pids)), 3)
    finally:
        faas.kill(pids[1])


def test_a_closed_nursery_leaves_no_process():
    nursery = Nursery()
    worker = Worker(nursery, ECHO, soon())
    pids = [nursery.process.pid, worker.pid, *start_with_child(nursery)]
    assert all(map(is_alive, pids))
    nursery.close()
    assert not any(map(is_alive, pids))


def test_a_closed_nursery_stays_closed():
    nursery = Nursery()
    worker = Worker(nursery, ECHO, soon())
    nursery.close()
    before = faas.children(os.getpid())
    assert worker.ask({}, b"hi", soon()).start == ""
    with pytest.raises(FaasError) as error:
        nursery.start(sh("exit 0"), [0, 1, 2])
    assert error.value.kind == "unavailable"
    nursery.close()
    assert faas.children(os.getpid()) == before


def run_platform(text, stdout):
    """Run a few lines that own a nursery in a process of their own."""
    prelude = f"""
        import sys
        sys.path.insert(0, {os.path.dirname(faas.__file__)!r})
        from faas import *
        soon, nursery = Deadline(time.monotonic() + 20), Nursery()
        """
    script = textwrap.dedent(prelude) + textwrap.dedent(text)
    return subprocess.Popen([sys.executable, "-B", "-c", script],
                            stdin=subprocess.DEVNULL, stdout=stdout)


def test_when_the_platform_is_killed_nothing_is_left():
    platform = run_platform("""
        worker = Worker(nursery, Program(tongue="echo"), soon)
        line = "setsid sleep 1000 & echo $$ $!; exec sleep 1000"
        env = {"PATH": "/usr/bin:/bin"}
        program = Program(("/bin/sh", "-c", line), "/", env)
        print(nursery.process.pid, worker.pid, flush=True)
        nursery.start(program, [0, 1, 1])
        time.sleep(1000)
        """, subprocess.PIPE)
    with platform.stdout as said:
        pids = [int(pid) for _ in "ab" for pid in said.readline().split()]
        assert len(pids) == 4 and all(map(is_alive, pids))
        platform.kill()
        platform.wait()
        eventually(lambda: not any(map(is_alive, pids)))


def test_a_nursery_that_is_left_in_the_middle_of_a_reply_ends_all():
    nursery = Nursery()
    pids = start_with_child(nursery, "setsid sleep 1000 > /dev/null &")
    data = frame_encode(Frame(9, b"S", sh("exit 0")._asdict()))
    socket.send_fds(nursery.control, [data], [0, 1, 2])
    nursery.close()             # before it can have replied
    try:
        assert nursery.process.returncode == 0
        assert not any(map(is_alive, pids))
    finally:
        faas.kill(pids[1])


def test_workers_start_also_where_the_platform_prints_to_a_file(tmp_path):
    with open(tmp_path / "output", "wb", buffering=0) as output:
        output.write(b"begun\n")
        platform = run_platform("""
            worker = Worker(nursery, Program(tongue="echo"), soon)
            print(worker.ask({}, b"hi", soon).out)
            nursery.close()
            """, output)
        assert platform.wait(timeout=30) == 0
    assert (tmp_path / "output").read_bytes() == b"begun\nb'hi'\n"


def test_orphans_of_a_program_that_ended_go_when_it_is_ended(nursery):
    heard, say = os.pipe()
    pid = nursery.start(sh("setsid sleep 1000 & echo $!"), [0, say, say])
    other = Worker(nursery, ECHO, soon())
    os.close(say)
    with open(heard) as pipe:
        orphan = int(pipe.readline())
    nursery.end(pid)
    assert not os.path.exists(f"/proc/{orphan}")
    assert other.ask({}, b"still here", soon()).out == b"still here"


# 4.4 Our end of a worker. What a well-behaved function cannot do is done by
# a program that speaks the worker's side of the channel by hand.

BY_HAND = """
import os, struct, sys, time

def say(verb, number, meta=b"{}", body=b""):
    size = 9 + len(meta) + len(body)
    data = struct.pack(">IIcI", size, number, verb, len(meta)) + meta + body
    while data:
        data = data[os.write(3, data):]

def hear():
    return os.read(3, 65536)

def stay():
    while True:
        time.sleep(1000)
"""


def by_hand(text, **limits):
    argv = (sys.executable, "-I", "-S", "-c", BY_HAND + textwrap.dedent(text))
    return Program(argv, "/", {}, Limits(**limits))


def test_a_worker_that_is_played_by_hand_works():
    worker = Worker(HERE, by_hand("""
        say(b"H", 0)
        for number in 1, 2:
            hear()
            say(b"R", number, b'{"a": 1}', b"answer %d" % number)
        """), soon())
    assert ask(worker) == faas.Run(b"answer 1", b"", None, {"a": 1}, "warm")
    assert ask(worker).out == b"answer 2"
    worker.end()


CROSSED = "its worker answered call {} when asked call 1"
NO_FRAME = "the bytes are no frame: "

BROKEN = {
    "hangs": ("stay()", "timeout", "it ran longer than 0.5 s"),
    "exits": ("os._exit(3)", "crashed", "its worker exited with status 3"),
    "exits as if all were well": (
        "os._exit(0)", "crashed",
        "its worker exited with status 0 before it answered"),
    "is killed": ("os.kill(os.getpid(), 9)", "crashed",
                  "its worker was ended by SIGKILL"),
    "closes its channel and stays": (
        "os.close(3); stay()", "crashed",
        "its worker closed its channel before it answered"),
    "talks nonsense": (
        "os.write(3, b'Hello, world!'); stay()", "crashed",
        NO_FRAME + "verb b'o', sizes 1214606444 and 1919706145"),
    "announces too much": (
        "os.write(3, struct.pack('>IIcI', 1 << 31, 1, b'R', 2)); stay()",
        "too_large", None),
    "has no JSON object": ("say(b'R', 1, b'[]'); stay()", "crashed",
                           NO_FRAME + "its meta is no JSON object"),
    "has JSON too deep": ("say(b'R', 1, b'[' * 50000); stay()", "crashed",
                          NO_FRAME + "its meta is no JSON object"),
    "answers another call": ("say(b'R', 2); stay()", "crashed",
                             CROSSED.format(2)),
    "says hello again": ("say(b'H', 0); stay()", "crashed",
                         CROSSED.format(0)),
    "answers twice": (
        "os.write(3, 2 * (struct.pack('>IIcI', 11, 1, b'R', 2) + b'{}'));"
        "stay()", "crashed", None),
    "answers bit by bit without end": (
        "os.write(3, struct.pack('>IIcI', 999, 1, b'R', 2))\n"
        "while True:\n    os.write(3, b'{'); time.sleep(0.1)",
        "timeout", "it ran longer than 0.5 s"),
    "prints without end": (
        "while True: os.write(1, bytes(9999))", "too_large",
        "it wrote more than its 50000 bytes of output"),
    "fails in a way unknown to us": (
        "say(b'E', 1, b'{\"kind\": \"x\", \"sentence\": 5}'); stay()",
        "crashed", None),
    "multiplies": (
        "for _ in range(9):\n    if os.fork() == 0: stay()\nstay()",
        "crashed", "it started more than 5 processes"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_worker_that_breaks_its_contract_has_its_own_sentence(case):
    text, kind, sentence = BROKEN[case]
    program = by_hand(f"say(b'H', 0)\nhear()\n{text}", output=50_000,
                      processes=5)
    worker = Worker(HERE, program, soon())
    patience = 0.5 if kind == "timeout" else 20
    error = ask(worker, b"hi", soon(patience)).error
    assert error.kind == kind
    assert str(error) == (sentence or str(error))
    if case != "fails in a way unknown to us":      # that one did answer
        assert not worker.alive and not os.path.exists(f"/proc/{worker.pid}")
    worker.end()


def test_a_worker_that_has_ended_was_not_asked(nursery):
    worker = Worker(nursery, ECHO, soon())
    worker.end()
    assert ask(worker).start == ""
    assert worker.end() == 0


def test_a_worker_that_does_not_read_the_call_runs_out_of_time():
    worker = Worker(HERE, by_hand("say(b'H', 0); stay()"), soon())
    error = ask(worker, bytes(5 << 20), soon(0.5)).error
    assert (error.kind, str(error)) == (
        "timeout", "its worker did not read what it was told within 0.5 s")
    assert not os.path.exists(f"/proc/{worker.pid}")


def test_a_worker_that_was_gone_before_the_call_was_not_asked():
    worker = Worker(HERE, by_hand("say(b'H', 0); os._exit(7)"), soon())
    eventually(lambda: not is_alive(worker.pid))
    assert ask(worker).start == ""
    assert not os.path.exists(f"/proc/{worker.pid}")


# Its questions, and its lines for the log

ASKING = """
import json
def ask(number, do, *args):
    say(b"Q", number, json.dumps({"do": do, "args": args}).encode())
    return heard(number)

def heard(number):
    head = b""
    while len(head) < 13:
        head += os.read(3, 13 - len(head))
    size, found, verb, m = struct.unpack(">IIcI", head)
    rest = b""
    while len(rest) < size - 9:
        rest += os.read(3, size - 9 - len(rest))
    assert (found, verb, size - 9) == (number, b"A", m)
    return rest
"""


def asking(text, **limits):
    return by_hand(ASKING + textwrap.dedent(text), **limits)


class Told:
    """A `tell` that answers from a dict, and keeps what it was asked."""

    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def __call__(self, do, arguments, deadline):
        self.asked.append((do, arguments, deadline))
        found = self.answers.get(do)
        if isinstance(found, BaseException):
            raise found
        return found() if callable(found) else found


def test_a_workers_question_is_answered_in_the_middle_of_its_call():
    told, when = Told(get={"a": [1, "ü"]}), soon()
    worker = Worker(HERE, asking("""
        say(b"H", 0)
        hear()
        say(b"R", 1, body=ask(9, "get", "x", 1, None))
        """), soon(), told)
    run = worker.ask({}, b"", when)
    assert run.out == b'{"value": {"a": [1, "\\u00fc"]}}'
    assert told.asked == [("get", ["x", 1, None], when)]
    worker.end()


def test_questions_in_one_piece_are_answered_in_their_order():
    told = Told(one=1, two=2)
    worker = Worker(HERE, asking("""
        def bytes_of(number, do):
            meta = b'{"do": "%s", "args": []}' % do
            return struct.pack(">IIcI", 9 + len(meta), number, b"Q",
                               len(meta)) + meta
        say(b"H", 0)
        hear()
        os.write(3, bytes_of(5, b"one") + bytes_of(3, b"two"))
        say(b"R", 1, body=heard(5) + heard(3))
        """), soon(), told)
    assert ask(worker).out == b'{"value": 1}{"value": 2}'
    worker.end()


def test_a_question_that_is_refused_is_answered_with_its_sentence():
    told = Told(get=FaasError("too_large", "the key is longer"))
    worker = Worker(HERE, asking("""
        say(b"H", 0)
        hear()
        say(b"R", 1, body=ask(1, "get"))
        """), soon(), told)
    run = ask(worker)
    assert (run.error, run.out) == (None, b'{"error": "the key is longer"}')
    assert worker.alive
    worker.end()


def test_who_may_ask_nothing_is_told_so():
    worker = Worker(HERE, asking("""
        say(b"H", 0)
        hear()
        say(b"R", 1, body=ask(1, "kv.get", "hits"))
        """), soon())
    assert ask(worker).out == (
        b'{"error": "functions of this tongue may not ask for kv.get"}')
    worker.end()


def test_a_worker_may_ask_while_it_loads():
    told = Told(get="secret")
    worker = Worker(HERE, asking("""
        loaded = ask(4, "get")
        say(b"H", 0)
        hear()
        say(b"R", 1, body=loaded)
        """), soon(), told)
    assert ask(worker).out == b'{"value": "secret"}'
    worker.end()


def test_a_question_without_words_is_asked_all_the_same():
    told = Told()
    worker = Worker(HERE, asking("""
        say(b"H", 0)
        hear()
        say(b"Q", 1)
        say(b"R", 1, body=heard(1))
        """), soon(), told)
    assert ask(worker).out == b'{"value": null}'
    assert told.asked[0][:2] == (None, None)
    worker.end()


def test_a_worker_that_answers_before_it_was_answered_is_in_step_again():
    told = Told(get=1)
    worker = Worker(HERE, asking("""
        say(b"H", 0)
        for number in 1, 2:
            while True:
                head = os.read(3, 13)
                size, found, verb, m = struct.unpack(">IIcI", head)
                os.read(3, size - 9)
                if verb == b"C":
                    break
            say(b"Q", 1, b'{"do": "get"}')
            say(b"R", number, body=b"%d" % number)
        stay()
        """), soon(), told)
    assert [ask(worker, b"x").out, ask(worker, b"x").out] == [b"1", b"2"]
    worker.end()


def test_an_answer_of_megabytes_reaches_a_worker_that_reads_slowly():
    told = Told(get="x" * 3_000_000)
    worker = Worker(HERE, asking("""
        say(b"H", 0)
        hear()
        say(b"R", 1, body=b"%d" % len(ask(1, "get")))
        """), soon(), told)
    assert ask(worker).out == b"3000013"
    worker.end()


def test_a_worker_that_asks_and_does_not_read_meets_its_deadline():
    told = Told(get="x" * 3_000_000)
    worker = Worker(HERE, asking("""
        say(b"H", 0)
        hear()
        say(b"Q", 1, b'{"do": "get"}')
        stay()
        """), soon(), told)
    error = ask(worker, deadline=soon(0.5)).error
    assert (error.kind, str(error)) == (
        "timeout", "its worker did not read what it was told within 0.5 s")
    assert not worker.alive and not os.path.exists(f"/proc/{worker.pid}")


def test_a_worker_that_asks_without_end_meets_its_deadline():
    worker = Worker(HERE, asking("""
        say(b"H", 0)
        hear()
        while True:
            ask(1, "get")
        """), soon(), Told())
    error = ask(worker, deadline=soon(0.5)).error
    assert (error.kind, str(error)) == ("timeout",
                                        "it ran longer than 0.5 s")


def test_a_question_may_be_as_long_as_an_answer_and_not_much_longer():
    told = Told()
    worker = Worker(HERE, asking("""
        say(b"H", 0)
        for number in 1, 2:
            hear()
            ask(1, "get", "x" * (100_000 * number))
            say(b"R", number)
        """, output=50_000), soon(), told)
    assert ask(worker, b"x").error is None
    error = ask(worker, b"x").error
    assert (error.kind, str(error)) == (
        "too_large", "it wrote more than its 50000 bytes of output")
    assert len(told.asked) == 1


def test_who_answers_and_breaks_leaves_no_worker_in_mid_call():
    """Nobody would know which of its frames belongs to which call."""
    for failure in ZeroDivisionError("oops"), OSError("no disk"):
        worker = Worker(HERE, asking("""
            say(b"H", 0)
            hear()
            ask(1, "get")
            stay()
            """), soon(), Told(get=failure))
        with pytest.raises(type(failure)):
            ask(worker)
        assert not worker.alive and not os.path.exists(f"/proc/{worker.pid}")


def test_what_was_printed_before_a_line_for_the_log_stands_before_it():
    worker = Worker(HERE, by_hand("""
        say(b"H", 0)
        for number in 1, 2:
            hear()
            print("printed", number, flush=True)
            say(b"L", 0, b'{"level": "info"}', b"told %d" % number)
            say(b"L", 0, b'{"level": "error"}', b"\\xff two\\nlines")
            say(b"R", number)
        """), soon())
    for number in b"1", b"2":
        assert ask(worker, b"x").log == (
            b"printed %b\n[info] told %b\n[error] \xff two\n  lines\n"
            % (number, number))
    worker.end()


def test_lines_for_the_log_are_bounded_as_what_is_printed():
    worker = Worker(HERE, by_hand("""
        say(b"H", 0)
        hear()
        while True:
            say(b"L", 0, b'{"level": "info"}', b"x" * 1000)
        """, output=50_000), soon())
    run = ask(worker)
    assert (run.error.kind, str(run.error)) == (
        "too_large", "it wrote more than its 50000 bytes of output")
    assert len(run.log) < 60_000 and not worker.alive


@pytest.mark.parametrize("meta", [
    b"{}", b'{"level": 5}', b'{"level": ["a"]}', b'{"level": "\\udcff"}',
    b'{"level": "\xff"}', b'{"level": "a\\nb"}', b'{"level": {}}',
    b'{"level": "' + b"x" * 1000 + b'"}'])
def test_a_level_that_is_none_harms_only_its_line(meta):
    worker = Worker(HERE, by_hand(f"""
        say(b"H", 0)
        hear()
        say(b"L", 0, {meta!r}, b"told")
        say(b"R", 1, body=b"ok")
        """), soon())
    run = ask(worker)
    assert (run.out, run.error) == (b"ok", None)
    assert run.log.endswith(b"] told\n") and run.log.count(b"\n") == 1
    assert len(run.log) < 50
    worker.end()


def test_a_worker_that_speaks_while_idle_is_not_healthy(tmp_path):
    worker = Worker(HERE, by_hand(f"""
        say(b"H", 0)
        while not os.path.exists("{tmp_path}/go"):
            time.sleep(0.005)
        say(b"L", 0, b'{{"level": "info"}}', b"unasked")
        stay()
        """), soon())
    assert worker.healthy()
    (tmp_path / "go").touch()
    eventually(lambda: not worker.healthy())
    worker.end()


def test_a_function_that_asks_in_python_is_answered(nursery, tmp_path):
    (tmp_path / "main.py").write_text(textwrap.dedent("""
        def handler(ctx, event):
            ctx.log.warn("asked for " + event["body"])
            return {"body": ctx.kv.get(event["body"])}
        """))
    program = Program((), str(tmp_path), dict(SHELL_ENV), Limits(), "python")
    told = Told(**{"kv.get": "41"})
    worker = Worker(nursery, program, soon(), told)
    run = worker.ask({"ctx": {}, "event": {}}, b"hits", soon())
    assert (run.out, run.error) == (b"41", None)
    assert run.log == b"[warn] asked for hits\n"
    assert told.asked[0][:2] == ("kv.get", ["hits"])
    worker.end()


def test_a_failure_names_its_line_where_the_worker_does():
    for line, found in (b"7", 7), (b"null", 0), (b'"7"', 0), (b"[]", 0):
        worker = Worker(HERE, by_hand(f"""
            say(b"H", 0)
            hear()
            say(b"E", 1, b'{{"kind": "crashed", "sentence": "no", "line": '
                + {line!r} + b"}}")
            """), soon())
        error = ask(worker).error
        assert (str(error), error.line) == ("no", found)
        worker.end()


def test_a_worker_that_dies_before_it_read_the_whole_call_says_how():
    worker = Worker(HERE, by_hand("say(b'H', 0); hear(); os._exit(7)"),
                    soon())
    error = ask(worker, bytes(5 << 20)).error
    assert str(error) == "its worker exited with status 7"


@pytest.mark.parametrize("text, kind, sentence", [
    ("stay()", "timeout", "it ran longer than 0.5 s"),
    ("print('why', flush=True); os._exit(4)", "crashed",
     "its worker exited with status 4"),
    ("say(b'E', 0, b'{\"kind\": \"bad_input\", \"sentence\": \"no\"}')",
     "bad_input", "no")])
def test_a_worker_that_never_says_hello_is_refused(text, kind, sentence):
    before = descriptors("self")
    patience = 0.5 if kind == "timeout" else 20
    with pytest.raises(FaasError) as error:
        Worker(HERE, by_hand(text), soon(patience))
    assert (error.value.kind, str(error.value)) == (kind, sentence)
    assert error.value.detail == (b"why\n" if "why" in text else b"")
    assert descriptors("self") == before


def test_a_function_that_cannot_be_loaded_says_why_and_has_a_log(
        nursery, fn):
    with pytest.raises(FaasError) as error:
        Worker(nursery, fn("print('hi')\nimport no_such_module"), soon())
    assert str(error.value) == (
        "ModuleNotFoundError: No module named 'no_such_module'")
    assert error.value.detail.startswith(b"hi\nTraceback")
    assert faas.children(nursery.process.pid) == []


def test_a_function_fails_and_its_worker_stays(nursery, fn):
    worker = Worker(nursery, fn("def fn(input): return 1 // len(input)"),
                    soon())
    assert str(ask(worker, b"").error) == (
        "TypeError: object of type 'NoneType' has no len()")
    assert ask(worker, b"x").out == b"1" and worker.alive
    worker.end()


@pytest.mark.parametrize("text, status", [
    ("import sys\ndef fn(input): sys.exit(3)", 3),
    ("def fn(input): raise KeyboardInterrupt", 1)])
def test_an_exception_that_means_to_end_the_worker_ends_it(
        nursery, fn, text, status):
    worker = Worker(nursery, fn(text), soon())
    assert str(ask(worker).error) == (
        f"its worker exited with status {status}")
    worker.end()


def test_what_a_function_prints_is_in_the_log_of_its_call(nursery, fn):
    worker = Worker(nursery, fn("""
        import os, sys
        def fn(input):
            print("print", input)
            print("err", input, file=sys.stderr)
            os.system("echo child " + input)
        """), soon())
    assert ask(worker, b"1").log.splitlines() == [
        b"print 1", b"err 1", b"child 1"]
    assert b"1" not in ask(worker, b"2").log
    worker.end()


def test_a_function_that_closes_its_log_still_answers(nursery, fn):
    worker = Worker(nursery, fn("""
        import os
        def fn(input):
            if input == "close":
                os.close(1)
                os.close(2)
            return "ok"
        """), soon())
    for body in b"before", b"close", b"after":
        assert ask(worker, body).out == b"ok"
    assert worker.healthy()
    worker.end()


def test_an_answer_over_the_limit_is_too_large(nursery, fn):
    program = fn("def fn(input): return 'x' * int(input)", output=100_000)
    worker = Worker(nursery, program, soon())
    assert len(ask(worker, b"100000").out) == 100_000
    error = ask(worker, b"100001").error
    assert error.kind == "too_large" and "100000" in str(error)
    worker.end()


def test_a_function_that_forks_and_answers_twice_is_caught(nursery, fn):
    worker = Worker(nursery, fn("""
        import os
        def fn(input):
            os.fork()
        """), soon())
    # The second answer may come late: then a later call finds it.
    errors = (ask(worker).error for _ in range(20))
    assert "answered call" in str(next(filter(None, errors)))
    assert faas.children(nursery.process.pid) == []


def test_all_that_a_worker_started_ends_with_it(nursery, fn):
    worker = Worker(nursery, fn("""
        import subprocess
        def fn(input):
            return str(subprocess.Popen(["setsid", "sleep", "1000"]).pid)
        """), soon())
    child = int(ask(worker).out)
    assert is_alive(child)
    worker.end()
    assert not is_alive(child)


def test_a_worker_that_died_while_idle_is_not_healthy(nursery):
    worker = Worker(nursery, ECHO, soon())
    assert worker.healthy()
    os.kill(worker.pid, signal.SIGKILL)
    eventually(lambda: not worker.healthy())
    worker.end()


def test_a_megabyte_goes_through_a_worker_both_ways(nursery):
    worker = Worker(nursery, ECHO, soon())
    body = os.urandom(1 << 20)
    assert worker.ask({}, body, soon()).out == body
    worker.end()


# 4.5 The pool


@pytest.fixture
def births(nursery):
    """What makes echo workers for a pool, and counts them."""
    def birth(deadline):
        birth.count += 1
        return Worker(nursery, ECHO, deadline)
    birth.count = 0
    return birth


def test_an_empty_pool_grows_at_once_and_keeps_its_worker(births):
    pool = Pool(births, least=0, most=16)
    worker, start = pool.lease(soon())
    pool.give_back(worker)
    assert start == "cold" and pool.lease(soon()) == (worker, "warm")
    assert births.count == 1


def test_the_newest_idle_worker_is_taken_first(births):
    pool = Pool(births, least=2, most=16)
    pool.fill(soon())
    old, new = pool.idle
    assert [pool.lease(soon())[0] for _ in "ab"] == [new, old]


def test_a_pool_grows_when_it_is_stuck(births):
    pool = Pool(births, least=1, most=16)
    pool.fill(soon())
    starts = [pool.lease(soon())[1] for _ in range(4)]
    assert starts == ["warm", "cold", "cold", "cold"] and pool.size == 4


def busy_pool(size=1, most=16, last_idle=0.0, growing=False):
    """A pool without workers: whether it may grow is a matter of times."""
    pool = Pool(None, least=1, most=most)
    pool.size, pool.last_idle, pool.growing = size, last_idle, growing
    return pool


def test_a_pool_grows_when_nobody_was_idle_for_its_patience():
    step = Pool.PATIENCE
    assert not busy_pool(last_idle=9.0).may_grow(now=9.0 + 0.9 * step)
    assert busy_pool(last_idle=9.0).may_grow(now=9.0 + 1.1 * step)


def test_a_pool_where_somebody_is_idle_now_and_then_does_not_grow(births):
    pool = Pool(births, least=1, most=16)
    pool.fill(soon())
    for _ in range(1000):
        pool.give_back(pool.lease(soon())[0])
    assert births.count == 1


def test_a_pool_grows_by_one_at_a_time_and_to_its_limit():
    assert not busy_pool(growing=True).may_grow(now=9.0)
    assert not busy_pool(size=16).may_grow(now=9.0)
    assert busy_pool(size=0, growing=True).may_grow(now=0.0)


def test_past_its_limit_a_pool_lets_a_caller_wait_for_a_return(births):
    pool, got = Pool(births, least=0, most=1), []
    worker, _ = pool.lease(soon())
    with pytest.raises(FaasError) as error:
        pool.lease(soon(0.2))
    assert (error.value.kind, str(error.value)) == (
        "timeout", "no worker came free within 0.2 s")
    waiter = threading.Thread(target=lambda: got.append(pool.lease(soon())))
    waiter.start()
    pool.give_back(worker)
    waiter.join()
    assert got == [(worker, "warm")] and births.count == 1


def test_who_has_waited_longest_for_a_worker_gets_it(births):
    pool, got = Pool(births, least=0, most=1), []
    worker, _ = pool.lease(soon())

    def wait(number):
        pool.lease(soon())
        got.append(number)
    for number in range(3):
        threading.Thread(target=wait, args=[number], daemon=True).start()
        eventually(lambda: len(pool.queue) == number + 1)
    for count in range(1, 4):
        pool.give_back(worker)
        eventually(lambda: got == [*range(count)])
    assert births.count == 1


def test_only_one_caller_forks_while_the_others_wait(births):
    pool, inside, go = Pool(births, least=0, most=16), [], threading.Event()

    def slow_birth(deadline):
        inside.append(threading.get_ident())
        go.wait(20)
        return births(deadline)

    pool.birth = slow_birth
    got = []
    callers = [threading.Thread(target=lambda: got.append(pool.lease(soon())))
               for _ in range(4)]
    for caller in callers:
        caller.start()
    eventually(lambda: inside)
    # Twenty times the patience, in which nobody else may fork.
    assert not go.wait(20 * Pool.PATIENCE) and len(inside) == 1
    go.set()
    for caller in callers:
        caller.join()
    assert len({worker.pid for worker, _ in got}) == 4


def test_ten_calls_that_wait_overlap(nursery, fn, tmp_path):
    """Each waits until all ten are there; no clock has to be trusted."""
    program = fn("""
        import os, time
        def fn(input):
            open("here." + input, "w").close()
            end = time.monotonic() + 15
            while time.monotonic() < end:
                if sum("here." in name for name in os.listdir()) == 10:
                    return "all here"
                time.sleep(0.01)
            return "alone"
        """)
    pool = Pool(lambda when: Worker(nursery, program, when), 1, 16)
    pool.fill(soon())
    answers = []

    def call(number):
        worker, _ = pool.lease(soon())
        answers.append(ask(worker, b"%d" % number).out)
        pool.give_back(worker)

    callers = [threading.Thread(target=call, args=(number,))
               for number in range(10)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert answers == [b"all here"] * 10
    assert pool.size == len(pool.idle) == 10


def test_calls_that_overlap_need_no_more_workers_than_there_are(births):
    pool, seen = Pool(births, least=0, most=2), set()

    def call():
        for _ in range(10):
            worker, _ = pool.lease(soon())
            seen.add((worker.pid, worker.ask({}, b"x", soon()).error))
            pool.give_back(worker)

    callers = [threading.Thread(target=call) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert {error for _, error in seen} == {None}
    assert len(seen) == births.count == pool.size <= 2


def test_a_birth_that_fails_leaves_the_pool_as_it_was(births):
    pool = Pool(births, least=0, most=2)

    def stillbirth(deadline):
        raise FaasError("crashed", "it cannot be loaded")

    pool.birth = stillbirth
    for _ in range(5):
        with pytest.raises(FaasError, match="it cannot be loaded"):
            pool.lease(soon())
    pool.birth = births
    assert [pool.lease(soon())[1] for _ in "ab"] == ["cold", "cold"]


def test_a_worker_that_died_makes_room_for_another(births):
    pool = Pool(births, least=0, most=1)
    worker, _ = pool.lease(soon())
    os.kill(worker.pid, signal.SIGKILL)
    assert worker.ask({}, b"x", soon()).error.kind == "crashed"
    pool.give_back(worker)
    again, start = pool.lease(soon())
    assert start == "cold" and again.ask({}, b"x", soon()).out == b"x"


def test_a_pool_is_filled_or_it_is_empty(births):
    pool = Pool(births, least=3, most=16)

    def third_fails(deadline):
        if births.count == 2:
            raise FaasError("crashed", "it cannot be loaded")
        return births(deadline)

    pool.birth = third_fails
    with pytest.raises(FaasError, match="it cannot be loaded"):
        pool.fill(soon())
    assert (pool.size, pool.idle) == (0, [])


def test_a_retired_pool_ends_the_idle_at_once_and_the_busy_on_return(
        births):
    pool = Pool(births, least=2, most=2)
    pool.fill(soon())
    idle, busy = pool.idle[0], pool.lease(soon())[0]
    pool.retire()
    assert not is_alive(idle.pid) and is_alive(busy.pid)
    assert busy.ask({}, b"finish", soon()).out == b"finish"
    pool.give_back(busy)
    assert not is_alive(busy.pid) and pool.size == 0
    with pytest.raises(faas.Retired):
        pool.lease(soon())


def test_who_waits_for_a_pool_that_retires_is_sent_to_the_next_one(births):
    pool, told = Pool(births, least=0, most=1), []
    pool.lease(soon())

    def wait():
        try:
            pool.lease(soon())
        except faas.Retired:
            told.append("retired")

    waiters = [threading.Thread(target=wait) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    pool.retire()
    for waiter in waiters:
        waiter.join()
    assert told == ["retired"] * 3


def test_a_pool_that_retires_during_a_birth_leaves_no_worker(births):
    pool, inside, go = Pool(births, least=0, most=1), threading.Event(), (
        threading.Event())

    def slow_birth(deadline):
        inside.set()
        go.wait(20)
        return births(deadline)

    pool.birth = slow_birth
    got = []
    caller = threading.Thread(target=lambda: got.append(pool.lease(soon())))
    caller.start()
    inside.wait(20)
    pool.retire()
    go.set()
    caller.join()
    pool.give_back(got[0][0])
    assert not is_alive(got[0][0].pid) and pool.size == 0


def test_workers_that_were_idle_too_long_are_reaped_to_zero(births):
    pool = Pool(births, least=0, most=2)
    workers = [pool.lease(soon())[0] for _ in "ab"]
    for worker in workers:
        pool.give_back(worker)
    pool.reap(workers[0].idle_since + 60.0, patience=60.0)
    assert pool.size == 2       # to the second, but not past it
    pool.reap(workers[1].idle_since + 60.1, patience=60.0)
    assert (pool.size, pool.idle) == (0, [])
    assert not any(is_alive(worker.pid) for worker in workers)
    assert pool.lease(soon())[1] == "cold"


def test_a_worker_that_was_never_asked_is_as_idle_as_it_is_old(births):
    pool = Pool(births, least=1, most=2)
    pool.fill(soon())
    pool.reap(time.monotonic(), patience=60.0)
    assert pool.size == len(pool.idle) == 1


def test_a_busy_worker_is_not_reaped(births):
    pool = Pool(births, least=0, most=1)
    worker, _ = pool.lease(soon())
    pool.reap(time.monotonic() + 9999, patience=60.0)
    assert worker.ask({}, b"x", soon()).out == b"x" and pool.size == 1


def test_a_worker_that_died_while_idle_is_reaped_before_its_time(births):
    pool = Pool(births, least=0, most=2)
    workers = [pool.lease(soon())[0] for _ in "ab"]
    for worker in workers:
        pool.give_back(worker)
    os.kill(workers[0].pid, signal.SIGKILL)
    eventually(lambda: not is_alive(workers[0].pid))
    pool.reap(time.monotonic(), patience=60.0)
    assert pool.idle == workers[1:] and pool.size == 1


def test_a_worker_that_hoards_processes_is_reaped(nursery, fn):
    program = fn("""
        import subprocess
        def fn(input):
            for _ in range(3):
                subprocess.Popen(["sleep", "1000"])
        """, processes=2)
    pool = Pool(lambda when: Worker(nursery, program, when), 0, 1)
    worker, _ = pool.lease(soon())
    ask(worker)                 # it may be caught at it already
    pool.give_back(worker)
    pool.reap(time.monotonic(), patience=60.0)
    assert (pool.size, pool.idle) == (0, [])
    assert faas.children(nursery.process.pid) == []
