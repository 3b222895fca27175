"""Chapter 3: every way in which one program can die, and what is left."""

import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
import uuid

import pytest
from conftest import eventually

import faas
from faas import HERE, Deadline, FaasError, Limits, Program

PATH = "/usr/local/bin:/usr/bin:/bin"
MB = 1 << 20


def soon(seconds=20.0):
    return Deadline(time.monotonic() + seconds, f"{seconds:g} s")


def sh(line, **limits):
    """A shell program whose whole offspring can be recognised by its MARK."""
    env = {"PATH": PATH, "MARK": uuid.uuid4().hex}
    return Program(("/bin/sh", "-c", line), "/", env, Limits(**limits))


def python(text, **limits):
    argv = (sys.executable, "-I", "-S", "-c", textwrap.dedent(text))
    return sh("")._replace(argv=argv, limits=Limits(**limits))


def is_alive(pid):
    """Tell whether a process runs; what only waits to be reaped does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def left_of(program):
    """List the processes that carry the program's MARK, wherever they are."""
    mark, found = f"MARK={program.env['MARK']}\0".encode(), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if mark in file.read():
                    found.append(int(pid))
        except OSError:
            pass                # It ended while we looked.
    return found


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def involved(parent):
    """List the processes that may keep something of a program that ended."""
    return [os.getpid()] + ([] if parent is HERE else [parent.process.pid])


@pytest.fixture(scope="module")
def nursery():
    nursery = faas.Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(params=["here", "nursery"])
def parent(request):
    """Both who can start a program: this process and the nursery."""
    if request.param == "here":
        return HERE
    return request.getfixturevalue("nursery")


@pytest.fixture
def run(parent):
    """Run a program, and see that it leaves nothing behind."""
    def run(program, body=b"", deadline=None):
        before = [faas.children(pid) for pid in involved(parent)]
        result = faas.run_program(parent, program, body, deadline or soon())
        if parent is HERE:      # it kills orphans, but cannot wait for them
            eventually(lambda: not left_of(program))
        assert left_of(program) == []
        # Nor a zombie, of which no mark can be read:
        assert [faas.children(pid) for pid in involved(parent)] == before
        return result
    return run


# The seven deaths of the banner, A to G


def test_a_program_that_ends_well_gives_its_answer_and_its_log(run):
    result = run(sh("echo answer; echo log >&2"))
    assert result == faas.Run(b"answer\n", b"log\n", None, {}, "cold")


def test_a_a_program_that_hangs_ends_at_its_deadline(run):
    result = run(sh("echo begun; sleep 1000"), b"", soon(0.3))
    assert str(result.error) == "it ran longer than 0.3 s"
    assert result.error.kind == "timeout" and result.out == b"begun\n"


def test_a_a_program_that_ignores_signals_ends_too(run):
    result = run(sh("trap '' TERM INT HUP; while :; do sleep 1; done"),
                 b"", soon(0.3))
    assert result.error.kind == "timeout"


def test_a_a_program_that_stops_itself_ends_too(run):
    assert run(sh("kill -STOP $$"), b"", soon(0.3)).error.kind == "timeout"


def test_b_a_child_that_holds_the_pipe_holds_nobody(run):
    deadline = soon()
    result = run(sh("sleep 1000 & echo hi"), b"", deadline)
    assert (result.out, result.error) == (b"hi\n", None)
    assert time.monotonic() < deadline.at


@pytest.mark.parametrize("line", ["yes", "yes >&2", "yes & yes >&2"])
def test_c_output_without_end_is_bounded(run, line):
    result = run(sh(line, output=100_000))
    assert str(result.error) == (
        "it wrote more than its 100000 bytes of output")
    assert result.error.kind == "too_large"
    assert max(len(result.out), len(result.log)) <= 100_000 + 65536


def test_c_output_of_exactly_the_limit_is_an_answer(run):
    result = run(sh("head -c 100000 /dev/zero", output=100_000))
    assert (len(result.out), result.error) == (100_000, None)


def test_d_a_program_sees_its_own_environment_and_none_of_ours(
        run, monkeypatch):
    monkeypatch.setenv("FAAS_TEST_SECRET", "hunter2")
    program = Program(("/usr/bin/env",), env={"ONLY": "this"})
    program.env["MARK"] = uuid.uuid4().hex
    out = run(program).out
    assert out == f"ONLY=this\nMARK={program.env['MARK']}\n".encode()


def test_d_what_we_were_started_with_is_not_in_proc_either():
    program = sh("cat /proc/self/environ /proc/$PPID/environ")
    script = f"""
        import sys
        sys.path.insert(0, {os.path.dirname(faas.__file__)!r})
        from faas import *
        nursery, soon = Nursery(), Deadline(time.monotonic() + 20)
        program = Program({program.argv!r}, env={program.env!r})
        sys.stdout.buffer.write(run_program(nursery, program, b"", soon).out)
        nursery.close()
        """
    said = subprocess.run(
        [sys.executable, "-B", "-c", textwrap.dedent(script)],
        env={"FAAS_TEST_SECRET": "hunter2"}, capture_output=True, timeout=30)
    assert said.returncode == 0, said.stderr
    assert b"MARK=" in said.stdout and b"hunter2" not in said.stdout


def test_e_a_fork_bomb_is_ended_as_a_whole(run):
    # Ten generations: a thousand processes, should nobody end them.
    bomb = "f() { [ $1 -eq 0 ] || { f $(($1-1)) & f $(($1-1)) & }; sleep 99; }"
    result = run(sh(bomb + "; f 10"))
    assert str(result.error) == "it started more than 64 processes"
    assert result.error.kind == "crashed"


def test_e_as_many_processes_as_the_limit_allows_are_no_bomb(run):
    result = run(sh("sleep 0.2 & sleep 0.2 & wait; echo ok", processes=3))
    assert (result.out, result.error) == (b"ok\n", None)


def test_f_a_failing_program_is_a_failure_with_the_tail_of_its_output(run):
    result = run(sh("head -c 5000 /dev/zero; echo the end; exit 3"))
    assert str(result.error) == "sh exited with status 3"
    assert result.error.kind == "crashed"
    assert len(result.error.detail) == 2048
    assert result.error.detail.endswith(b"\0the end\n")


def test_f_a_program_ended_by_a_signal_is_a_failure_too(run):
    assert str(run(sh("kill -SEGV $$")).error) == "sh was ended by SIGSEGV"


def test_f_a_signal_without_a_name_is_a_failure_with_its_number(run):
    assert "40" in str(run(sh("kill -40 $$")).error)


def test_g_a_grandchild_that_left_the_group_ends_with_its_program(run):
    result = run(sh("setsid sleep 1000 & sleep 1000"), b"", soon(0.3))
    assert result.error.kind == "timeout"


def test_g_an_orphan_in_its_own_session_ends_with_its_program(run):
    line = "(setsid sh -c 'sleep 1000 & sleep 1000' &); sleep 1000"
    assert run(sh(line), b"", soon(0.5)).error.kind == "timeout"


@pytest.mark.parametrize("line", [
    "setsid sleep 1000 & echo hi",
    "(setsid sh -c 'sleep 1000 & sleep 1000' &) ; echo hi",
    "setsid setsid sh -c 'setsid sleep 1000 & setsid sleep 1000' & echo hi"])
def test_g_a_daemon_that_outlives_its_program_is_ended_by_the_nursery(
        nursery, line):
    program = sh(line)
    result = faas.run_program(nursery, program, b"", soon())
    assert (result.out, result.error) == (b"hi\n", None)
    assert left_of(program) == []
    assert faas.children(nursery.process.pid) == []


# 3.1 In the child


def test_a_program_has_the_limits_that_it_was_given(run):
    program = sh("cat /proc/self/limits", memory=512 * MB, cpu=7, files=33,
                 file_size=5 * MB)
    rows = {line[:26].strip(): tuple(line[26:].split()[:2]) for line in
            run(program).out.decode().splitlines()}
    assert rows["Max address space"] == (str(512 * MB),) * 2
    assert rows["Max file size"] == (str(5 * MB),) * 2
    assert rows["Max open files"] == ("33", "33")
    assert rows["Max core file size"] == ("0", "0")
    # The soft limit first: its signal has a name, the hard one's is SIGKILL.
    assert rows["Max cpu time"] == ("7", "8")


def test_a_program_keeps_a_limit_that_is_narrower_than_its_own():
    """In a process of its own, since a hard limit cannot be raised again."""
    import ctypes               # which nobody, below, may not be able to do
    assert ctypes
    heard, say = os.pipe()
    if os.fork() == 0:
        os.close(heard)
        if os.getuid() == 0:    # who may raise every limit, and meets none
            os.setuid(65534)
        resource.setrlimit(resource.RLIMIT_CPU, (200, 200))
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        result = faas.run_program(HERE, sh("ulimit -n; ulimit -t"), b"",
                                  soon())
        os.write(say, repr((result.out, result.error)).encode())
        os._exit(0)
    os.close(say)
    with open(heard) as pipe:
        assert pipe.read() == repr((b"100\n200\n", None))
    os.wait()


def test_a_program_can_gain_no_privileges(run):
    assert b"NoNewPrivs:\t1\n" in run(sh("cat /proc/self/status")).out


def test_a_program_leads_its_own_session_and_group(run):
    out = run(sh("cat /proc/$$/stat")).out.decode()
    pid, _, rest = out.partition(" (")
    assert rest.split()[3:5] == [pid, pid]


@pytest.mark.parametrize("name", ["SIGPIPE", "SIGXFSZ"])
def test_a_signal_that_python_ignores_works_in_a_program(run, name):
    status = run(sh("cat /proc/$$/status")).out
    ignored = int(re.search(rb"SigIgn:\t(\w+)", status)[1], 16)
    assert not ignored >> (getattr(signal, name) - 1) & 1


def test_a_pipeline_whose_reader_leaves_ends(run):
    assert run(sh("yes | head -n 1")).out == b"y\n"


def test_a_program_makes_files_that_others_may_read_but_not_write(run):
    assert run(sh("umask")).out == b"0022\n"


def test_a_program_that_asks_for_too_much_memory_does_not_get_it(run):
    result = run(python("print(len(b'x' * (1 << 30)))", memory=200 * MB))
    assert str(result.error) == "python3 exited with status 1".replace(
        "python3", os.path.basename(sys.executable))
    assert b"MemoryError" in result.log


def test_a_program_that_spins_is_told_its_cpu_time(run):
    result = run(sh("while :; do :; done", cpu=1))
    assert str(result.error) == "sh used more than its 1 s of CPU time"


def test_a_program_that_fills_the_disk_is_told_the_size(run, tmp_path):
    result = run(sh(f"exec head -c 2000000 /dev/zero > {tmp_path}/big",
                    file_size=MB))
    assert str(result.error) == f"sh wrote a file larger than {MB} bytes"
    assert (tmp_path / "big").stat().st_size == MB


# 3.2 Start


def test_a_program_has_three_descriptors_and_none_of_ours(run):
    """Promise S7, with a descriptor of ours that exec would pass on."""
    ours = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(ours, True)
    high = os.dup2(ours, 300, inheritable=True)
    try:
        assert run(sh("ls /proc/$$/fd")).out.split() == [b"0", b"1", b"2"]
    finally:
        os.close(ours)
        os.close(high)


def test_descriptors_may_be_given_in_any_order(parent):
    (r1, w1), (r2, w2) = os.pipe(), os.pipe()
    pid = parent.start(sh("echo out; echo err >&2"), [r1, w2, w1])
    for end in w1, w2:
        os.close(end)
    with open(r1, "rb") as err, open(r2, "rb") as out:
        assert (out.read(), err.read()) == (b"out\n", b"err\n")
    parent.end(pid)


def make_script(folder, text="#!/bin/sh\necho hi\n", mode=0o755):
    path = folder / "hello.sh"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


REFUSED = {
    "no shebang": (dict(text="echo hi\n"), "crashed",
                   "hello.sh has no shebang: begin it with a line like "
                   "#!/usr/bin/env python3"),
    "an empty file": (dict(text=""), "crashed",
                      "hello.sh has no shebang: begin it with a line like "
                      "#!/usr/bin/env python3"),
    "no x bit": (dict(mode=0o644), "denied",
                 "Permission denied (is the script executable?): run "
                 "chmod +x on hello.sh"),
    "no interpreter": (dict(text="#!/nowhere/python9\n"), "crashed",
                       "the interpreter in the first line of hello.sh is "
                       "not installed on this machine"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_kernel_will_not_run_is_refused_with_the_cure(
        run, tmp_path, case):
    how, kind, sentence = REFUSED[case]
    path = make_script(tmp_path, **how)
    result = run(sh("")._replace(argv=(path,)))
    assert (result.error.kind, str(result.error)) == (kind, sentence)


def test_a_missing_file_is_refused(run, tmp_path):
    result = run(sh("")._replace(argv=(str(tmp_path / "gone.sh"),)))
    assert str(result.error) == (
        "gone.sh cannot be run with these arguments and variables: "
        "No such file or directory")


def test_a_relative_path_is_meant_from_the_folder_of_the_program(
        run, tmp_path):
    make_script(tmp_path)
    here = sh("")._replace(argv=("./hello.sh",), cwd=str(tmp_path))
    assert run(here).out == b"hi\n"
    make_script(tmp_path, text="#!/nowhere/python9\n")
    assert "the interpreter in the first line" in str(run(here).error)


def test_a_missing_folder_is_not_blamed_on_the_program(run, tmp_path):
    program = sh("echo hi")._replace(cwd=str(tmp_path / "gone"))
    error = str(run(program).error)
    assert "interpreter" not in error and "folder" in error


@pytest.mark.parametrize("env", [{"A=B": "c"}, {"A": "b\0c"}])
def test_a_variable_that_exec_cannot_pass_on_is_refused_in_words(run, env):
    program = sh("echo hi")
    program.env.update(env)
    error = run(program).error
    assert error is not None and "127" not in str(error)


def test_a_refused_program_leaves_no_descriptor(parent, tmp_path):
    program = Program((make_script(tmp_path, mode=0o644),))
    pids = involved(parent)
    faas.run_program(parent, program, b"", soon())
    before = [descriptors(pid) for pid in pids]
    for _ in range(20):
        assert faas.run_program(parent, program, b"", soon()).error
    assert [descriptors(pid) for pid in pids] == before


# 3.3 End


def test_a_family_is_a_process_and_all_below_it():
    heard, say = os.pipe()
    pid = HERE.start(sh("sh -c 'sleep 1000 & echo $!; wait' & wait"),
                     [0, say, say])
    try:
        grandchild = int(os.read(heard, 20))
        found = faas.family(pid)
        assert found[0] == pid and grandchild in found[2:]
        assert faas.children(grandchild) == []
    finally:
        HERE.end(pid)
        os.close(heard)
        os.close(say)
    eventually(lambda: not any(map(is_alive, found)))


def test_a_program_that_ended_by_itself_keeps_its_own_status(parent):
    null = os.open(os.devnull, os.O_RDWR)
    pid = parent.start(sh("exit 3"), [null, null, null])
    eventually(lambda: not is_alive(pid))
    assert os.waitstatus_to_exitcode(parent.end(pid)) == 3
    os.close(null)


def test_ending_a_program_twice_is_harmless():
    pid = HERE.start(sh("sleep 1000"), [0, 1, 2])
    assert os.WTERMSIG(HERE.end(pid)) == signal.SIGKILL
    assert HERE.end(pid) == 0


def test_a_signal_to_a_process_that_is_gone_is_no_error():
    pid = HERE.start(sh("exit 0"), [0, 1, 2])
    HERE.end(pid)
    assert faas.kill(pid) is None


def test_a_program_ends_with_the_process_that_started_it():
    """PR_SET_PDEATHSIG: the parent gets no chance to end it itself."""
    heard, say = os.pipe()
    program = sh("echo $$; exec sleep 1000")
    middle = os.fork()
    if middle == 0:
        HERE.start(program, [0, say, say])
        signal.pause()
    os.close(say)
    with open(heard) as pipe:
        pid = int(pipe.readline())
        assert is_alive(pid)
        os.kill(middle, signal.SIGKILL)
        os.waitpid(middle, 0)
        eventually(lambda: not is_alive(pid))


@pytest.mark.parametrize("status, sentence", [
    (3 << 8, "x exited with status 3"),
    (255 << 8, "x exited with status 255"),
    (signal.SIGKILL, "x was ended by SIGKILL"),
    (signal.SIGSEGV | 128, "x was ended by SIGSEGV"),   # it dumped core
    (signal.SIGXCPU, "x used more than its 2 s of CPU time"),
    (signal.SIGXFSZ, "x wrote a file larger than 9 bytes")])
def test_a_wait_status_becomes_a_sentence(status, sentence):
    error = faas.exit_error("x", status, Limits(cpu=2, file_size=9))
    assert (error.kind, str(error)) == ("crashed", sentence)


def test_a_wait_status_of_zero_is_no_failure():
    assert faas.exit_error("x", 0, Limits()) is None


# 3.4 Converse


def test_the_watch_looks_soon_and_then_more_and_more_seldom():
    watch = faas.Watch(os.getpid(), Limits(), Deadline(9.0), now=8.0)
    now, waits = 8.0, []
    for _ in range(6):
        waits.append(watch.patience(now))
        now += waits[-1] + 1e-6
        watch.check(now)
    assert waits == pytest.approx(
        [watch.STEP / part for part in (16, 8, 4, 2, 1, 1)], rel=1e-3)
    assert watch.patience(8.99) <= 0.01 and watch.patience(9.0) == 0


def crowd(count, line):
    """Start a shell with some children; give its pid when all are there."""
    null = os.open(os.devnull, os.O_RDWR)
    pid = HERE.start(sh(f"for n in $(seq {count}); do {line} & done; "
                        "exec sleep 1000"), [null, null, null])
    os.close(null)
    eventually(lambda: len(faas.family(pid)) == count + 1)
    return pid


def test_zombies_are_no_processes_that_run():
    pid = crowd(5, ":")         # which ends, and `sleep` never waits for it
    try:
        eventually(lambda: sum(map(faas.is_zombie, faas.family(pid))) == 5)
        assert not faas.outgrown(pid, 1) and faas.outgrown(pid, 0)
    finally:
        HERE.end(pid)


def test_a_look_at_a_crowd_ends_where_the_limit_is_passed(monkeypatch):
    """Or a bomb, which grows while somebody walks it, is walked for ever."""
    pid, looks, children = crowd(50, "sleep 1000"), [], faas.children
    monkeypatch.setattr(faas, "children",
                        lambda one: looks.append(one) or children(one))
    try:
        assert faas.outgrown(pid, 3)
        assert len(looks) < 50
    finally:
        monkeypatch.undo()
        HERE.end(pid)


def test_the_watch_ends_a_program_at_its_deadline_and_not_before():
    watch = faas.Watch(os.getpid(), Limits(), Deadline(10.0, "2 s"), now=8.0)
    watch.check(now=9.999)
    with pytest.raises(FaasError, match="it ran longer than 2 s") as error:
        watch.check(now=10.0)
    assert error.value.kind == "timeout"


def test_a_pipe_says_nothing_yet_and_never_again_in_two_ways():
    (r, w), said = faas.pipe(), bytearray()
    os.set_blocking(r.fileno(), False)
    with r:
        with w:
            assert faas.pull(r, said, 9)
            w.write(b"hi")
            assert faas.pull(r, said, 9) and said == b"hi"
        assert not faas.pull(r, said, 9) and said == b"hi"


def test_a_pipe_nobody_reads_takes_the_whole_rest():
    r, w = faas.pipe()
    with w:
        r.close()
        assert faas.push(w, memoryview(b"hello")) == b""


def test_a_full_pipe_takes_nothing_and_keeps_the_rest():
    r, w = faas.pipe()
    with r, w:
        os.set_blocking(w.fileno(), False)
        body = memoryview(bytes(10 * MB))
        while len(rest := faas.push(w, body)) < len(body):
            body = rest
        assert 0 < len(rest) < 10 * MB


def test_a_megabyte_goes_through_cat_both_ways(run):
    body = os.urandom(MB)
    assert run(Program(("/bin/cat",), env=sh("").env), body).out == body


def test_a_program_that_answers_line_by_line_blocks_nobody(run):
    text = """
        import sys
        for line in sys.stdin.buffer:
            sys.stdout.buffer.write(line * 2)
            sys.stderr.buffer.write(line)
        """
    lines = [b"%06d" % number + b"x" * 58 for number in range(10_000)]
    result = run(python(text), b"\n".join(lines) + b"\n")
    assert result.out.split() == [line for line in lines for _ in "12"]
    assert result.log.split() == lines and result.error is None


@pytest.mark.parametrize("line", [
    "echo hi", "exec <&-; echo hi", "head -c 1 > /dev/null; echo hi"])
def test_a_large_body_that_nobody_reads_is_no_failure(run, line):
    result = run(sh(line), bytes(5 * MB))
    assert (result.out, result.error) == (b"hi\n", None)


def test_a_program_without_a_body_finds_its_input_closed(run):
    assert run(sh("cat; echo end")).out == b"end\n"


def test_a_program_that_closes_its_output_early_may_go_on(run, tmp_path):
    done = tmp_path / "done"
    line = f"echo hi; exec >&- 2>&-; sleep 0.2; echo late > {done}"
    result = run(sh(line))
    assert (result.out, result.error) == (b"hi\n", None)
    assert done.read_text() == "late\n"


def test_what_is_written_just_before_the_end_is_not_lost(run):
    for _ in range(20):
        assert run(sh("head -c 60000 /dev/zero")).out == bytes(60000)


def test_a_deadline_that_has_passed_ends_a_program_at_once(run):
    result = run(sh("sleep 1000"), b"", soon(-1))
    assert result.error.kind == "timeout"


def test_two_hundred_runs_cost_no_descriptor_and_leave_no_zombie(parent):
    pids = involved(parent)
    program = Program(("/bin/true",))
    assert faas.run_program(parent, program, b"x", soon()).error is None
    before = [(descriptors(pid), faas.children(pid)) for pid in pids]
    for _ in range(200):
        faas.run_program(parent, program, b"x", soon())
    assert [(descriptors(pid), faas.children(pid)) for pid in pids] == before
