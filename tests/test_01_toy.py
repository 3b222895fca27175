"""Chapter 1: the toy works, and has the faults that its list confesses."""

import http.client
import inspect
import os
import re
import select
import socket
import sys
import threading

import pytest

import faas


def write_script(folder, name, text):
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def toy(tmp_path):
    """A toy that serves tmp_path; gives a function that posts to it."""
    server = faas.toy(str(tmp_path), port=0)
    server.RequestHandlerClass.log_message = lambda *_: None
    server.handle_error = lambda *_: None
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()

    def post(path, body=b"", **more):
        line = http.client.HTTPConnection(*server.server_address, timeout=20)
        line.request("POST", path, body, **more)
        reply = line.getresponse()
        return reply.status, reply.read()

    post.address = server.server_address
    yield post
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_toy_has_the_fourteen_lines_that_its_title_promises():
    source = inspect.getsource(faas.toy)
    without_docstring = re.sub(r'    """.*?"""\n', "", source, flags=re.S)
    assert len(without_docstring.splitlines()) == 14


def test_the_toy_gives_the_body_to_stdin_and_answers_with_stdout(
        toy, tmp_path):
    write_script(tmp_path, "shout", "#!/bin/sh\ntr a-z A-Z\n")
    assert toy("/shout", b"hello") == (200, b"HELLO")


def test_the_toy_passes_every_byte(toy, tmp_path):
    write_script(tmp_path, "echo", "#!/bin/sh\ncat\n")
    assert toy("/echo", bytes(range(256))) == (200, bytes(range(256)))


def test_the_toy_listens_on_loopback_only(toy):
    assert toy.address[0] == "127.0.0.1"


# The faults, by their numbers in the chapter's list. A fault that is cured
# in the toy no longer belongs on the list.


def test_fault_1_a_program_that_hangs_stops_everybody(toy, tmp_path):
    os.mkfifo(tmp_path / "gate")
    write_script(tmp_path, "wait", f"#!/bin/sh\ncat {tmp_path}/gate\n")
    call = b"POST /wait HTTP/1.0\r\n\r\n"
    first, second = (socket.create_connection(toy.address) for _ in "ab")
    with first, second:
        first.sendall(call)
        with open(tmp_path / "gate", "wb") as gate:    # it is inside now
            second.sendall(call)
            assert select.select([second], [], [], 0.2)[0] == []
            gate.write(b"go")
        assert first.makefile("rb").read().endswith(b"go")
        with open(tmp_path / "gate", "wb") as gate:
            gate.write(b"on")
        assert second.makefile("rb").read().endswith(b"on")


def test_fault_5_a_failing_program_answers_200(toy, tmp_path):
    write_script(tmp_path, "fail", "#!/bin/sh\nexit 3\n")
    assert toy("/fail") == (200, b"")


def test_fault_6_a_missing_program_ends_the_connection_without_a_word(toy):
    with pytest.raises(ConnectionError):
        toy("/nothing-there")


def test_fault_7_a_path_that_climbs_runs_a_shell(toy):
    status, body = toy("/.." * 20 + "/bin/sh", b"echo climbed")
    assert (status, body) == (200, b"climbed\n")


def test_fault_8_the_program_inherits_our_secrets(
        toy, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_SECRET", "hunter2")
    write_script(tmp_path, "peek", "#!/bin/sh\necho $TOY_SECRET\n")
    assert toy("/peek")[1] == b"hunter2\n"


def test_fault_12_a_body_in_chunks_is_read_as_no_body(toy, tmp_path):
    write_script(tmp_path, "size", "#!/bin/sh\nwc -c\n")
    assert toy("/size", iter([b"hel", b"lo"]), encode_chunked=True,
               headers={"Transfer-Encoding": "chunked"})[1].strip() == b"0"


# The toy as the specification: on what it can do, the platform agrees.

PYTHON = f"#!{sys.executable}\nimport sys\n"

BENIGN = {
    "capitals": ("#!/bin/sh\ntr a-z A-Z\n", b"hello"),
    "every byte": ("#!/bin/sh\ncat\n", bytes(range(256))),
    "no body": ("#!/bin/sh\nwc -c\n", b""),
    "no answer": ("#!/bin/sh\ncat > /dev/null\n", b"hello"),
    "a body nobody reads": ("#!/bin/sh\necho hi\n", b"x" * 1000),
    "a megabyte": ("#!/bin/sh\ncat\n", b"0123456789abcdef" * 65536),
    "no newline at the end": ("#!/bin/sh\nprintf hi\n", b""),
    "what is said besides": ("#!/bin/sh\necho lost >&2\necho kept\n", b""),
    "python": (PYTHON + "print(sys.stdin.read()[::-1])\n", b"live"),
    "utf-8": (PYTHON + "sys.stdout.buffer.write(sys.stdin.buffer.read()"
              ".decode().upper().encode())\n", "grün".encode()),
    "a name with dots": ("#!/bin/sh\ncat\n", b"x"),
}


@pytest.fixture(scope="module")
def platform(module_server):
    return module_server()


@pytest.mark.parametrize("case", BENIGN)
def test_the_platform_answers_as_the_toy_did(toy, tmp_path, platform, case):
    text, body = BENIGN[case]
    name = case.replace(" ", ".")
    write_script(tmp_path, name, text)
    write_script(platform.functions, name, text)
    status, _, answer = platform.post("/" + name, body)
    assert (status, answer) == toy("/" + name, body)
