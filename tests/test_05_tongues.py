"""Chapter 5: what a function looks like, seen through the HTTP door."""

import importlib.util
import itertools
import json
import os
import textwrap

import pytest
from conftest import Server, eventually, script, zip_of

from faas import (PACKAGES, SEARCH_PATH, TONGUES, Call, FaasError, Function,
                  Item, Limits, Platform, cgi_variables, choose_tongue,
                  clean_environment, count_arguments, give_python3,
                  mark_traceback, program_of, take_python3)


@pytest.fixture(scope="module")
def faas(tmp_path_factory):
    """One server for all; its environment holds a secret of ours."""
    faas = Server(tmp_path_factory.mktemp("server"),
                  ["--limit", "output=2000000"], {"OUR_SECRET": "s3cr3t-4711"})
    try:
        faas.wait_until_ready()
        yield faas
        faas.stop()
    finally:
        faas.kill()


names = itertools.count()


@pytest.fixture
def python3(faas):
    """Upload a python3 function; give a way to call it, and its name."""
    def python3(text, files={}, **rest):
        name = f"py{next(names)}"
        text = textwrap.dedent(text)
        answer = faas.upload(name, {"fn.py": text, **files}, **rest)
        assert answer.status == 200, answer.body

        def call(body=b"", headers={}, path="", **more):
            return faas.post(f"/{name}{path}", body, headers, **more)
        call.name = name
        return call
    return python3


@pytest.fixture
def binary(faas):
    """Upload a binary function of some shell lines; give a way to call it."""
    def binary(lines, **rest):
        name = f"sh{next(names)}"
        answer = faas.upload(name, {"fn.sh": f"#!/bin/sh\n{lines}\n"},
                             env="binary", **rest)
        assert answer.status == 200, answer.body

        def call(body=b"", headers={}, path="", **more):
            return faas.post(f"/{name}{path}", body, headers, **more)
        call.name = name
        return call
    return binary


def log_of(faas, name):
    return faas.get(f"/logs/{name}").body.decode()


# 5.0 Which tongue


def test_a_bundle_is_recognised_by_its_marker():
    assert choose_tongue("", ["fn.py", "a.txt"]) == "python3"
    assert choose_tongue("", ["fn.sh"]) == "binary"
    assert choose_tongue("binary", ["fn.py", "fn.sh"]) == "binary"


@pytest.mark.parametrize("wanted, paths, sentence", [
    ("", ["main.c"], "there is no fn.sh or fn.py at its top"),
    ("", ["sub/fn.py"], "there is no fn.sh or fn.py at its top"),
    ("", [], "there is no"),
    ("python3", ["fn.sh"], "a python3 function needs a file fn.py"),
    ("script", ["fn.sh"], "'script' is no tongue"),
    ("cobol", ["fn.py"], "use one of binary, python3")])
def test_a_bundle_without_its_marker_is_refused(wanted, paths, sentence):
    with pytest.raises(FaasError, match=sentence) as error:
        choose_tongue(wanted, paths)
    assert error.value.kind == "bad_input"


def test_every_tongue_runs_in_one_of_the_two_ways():
    assert {tongue.runs for tongue in TONGUES.values()} == {"process",
                                                            "worker"}


# 5.1 Script and binary


def test_the_environment_is_made_from_nothing(monkeypatch):
    monkeypatch.setenv("OUR_SECRET", "s3cr3t")
    env = clean_environment(Function("f", "binary", "/tmp", 3,
                                     env={"COLOUR": "red"}))
    assert env == {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", "HOME": "/tmp",
                   "FAAS_FUNCTION": "f", "FAAS_VERSION": "3",
                   "COLOUR": "red"}


def test_a_function_may_set_its_own_path():
    fn = Function("f", "binary", "/tmp", env={"PATH": "/opt/bin"})
    assert clean_environment(fn)["PATH"] == "/opt/bin"


def test_cgi_variables_carry_what_does_not_fit_into_the_body():
    call = Call("f", b"hello", {"Lab": "a", "Content-Type": "text/csv",
                                "X-Two-Words": "b"},
                "PUT", "/items/3", "a=1&b=%20", "http")
    assert cgi_variables(call, "id-1") == {
        "REQUEST_METHOD": "PUT", "PATH_INFO": "/items/3",
        "QUERY_STRING": "a=1&b=%20", "SCRIPT_NAME": "/f",
        "CONTENT_LENGTH": "5", "CONTENT_TYPE": "text/csv",
        "GATEWAY_INTERFACE": "CGI/1.1", "FAAS_EXECUTION": "id-1",
        "FAAS_TRIGGER": "http", "HTTP_LAB": "a",
        "HTTP_CONTENT_TYPE": "text/csv", "HTTP_X_TWO_WORDS": "b"}


def test_a_script_runs_beside_its_folder_and_a_binary_in_its_own():
    script = program_of(Function("f", "script", "/srv/functions/f"),
                        Call("f"))
    binary = program_of(Function("f", "binary", "/data/f/9f86"), Call("f"))
    assert (script.argv, script.cwd) == (("/srv/functions/f",), "/srv")
    assert (binary.argv, binary.cwd) == (("/data/f/9f86/fn.sh",),
                                         "/data/f/9f86")


def test_stdin_is_the_body_and_stdout_the_answer(binary):
    call = binary("cat")
    assert call(b"hello").body == b"hello"
    assert call(b"").body == b""
    assert call(bytes(range(256)) * 4000).body == bytes(range(256)) * 4000


def test_a_label_is_given_to_an_answer_that_has_none(binary):
    call = binary("cat")
    assert call(b"hi").headers["Content-Type"] == "text/plain; charset=utf-8"
    assert (call(b"\xff").headers["Content-Type"]
            == "application/octet-stream")


def test_headers_and_path_come_as_variables(binary):
    call = binary('echo "$REQUEST_METHOD $PATH_INFO $QUERY_STRING $HTTP_LAB"')
    answer = call(b"", {"Lab": "a b"}, "/items/3?x=1&y=2")
    assert answer.body == b"POST /items/3 x=1&y=2 a b\n"


def test_a_header_called_proxy_sets_no_proxy(binary):
    call = binary("env")
    for name in "Proxy", "proxy", "PROXY", "pRoXy":
        assert b"HTTP_PROXY" not in call(b"", {name: "evil"}).body


def test_a_header_that_is_no_ascii_arrives(binary):
    call = binary('printf %s "$HTTP_LAB"')
    assert call(b"", {"Lab": b"caf\xe9"}).status == 200


def test_a_program_that_exits_non_zero_is_a_502_with_its_tail(binary, faas):
    call = binary("echo some output; echo a reason >&2; exit 3")
    answer = call()
    assert answer.status == 502
    assert answer.body == b"fn.sh exited with status 3\nsome output\n"
    log = log_of(faas, call.name)
    assert "a reason\n" in log and "[crashed] fn.sh exited with" in log


def test_the_tail_of_a_failure_is_its_end_and_bounded(binary):
    answer = binary("seq 100000; exit 1")()
    assert answer.status == 502 and len(answer.body) < 4096
    assert answer.body.endswith(b"\n99999\n100000\n")


def test_stderr_is_in_the_log_only(binary, faas):
    call = binary("echo answered; echo muttered >&2")
    assert call().body == b"answered\n"
    log = log_of(faas, call.name)
    assert "muttered\n" in log and "answered" not in log


def test_what_a_script_answers_is_in_its_log_too(faas):
    script(faas, "both", "echo answered; echo muttered >&2")
    assert faas.post("/both").body == b"answered\n"
    assert "---\nanswered\nmuttered\n" in log_of(faas, "both")


def test_a_script_gets_body_and_variables_as_a_binary_does(faas):
    script(faas, "shout.sh", 'tr a-z A-Z; echo "$PATH_INFO $FAAS_FUNCTION"')
    answer = faas.post("/shout.sh/a/b", b"hi ")
    assert answer.body == b"HI /a/b shout.sh\n"


def test_a_binary_needs_no_execute_bit_in_its_bundle(faas):
    # Browsers and zipfile.writestr forget it; fn.sh is meant to be run.
    assert faas.upload("nobit", zip_of({"fn.sh": "#!/bin/sh\necho ran\n"}),
                       env="binary").status == 200
    assert faas.post("/nobit").body == b"ran\n"


def test_a_binary_without_a_shebang_says_so(faas):
    assert faas.upload("noshebang", {"fn.sh": "echo hi\n"},
                       env="binary").status == 200
    answer = faas.post("/noshebang")
    assert answer.status == 502 and b"fn.sh has no shebang" in answer.body


def test_a_program_sees_its_own_environment_and_none_of_ours(binary):
    call = binary("env; cat /proc/self/environ /proc/$PPID/environ",
                  envs=["COLOUR=red", "EQUALS=a=b"])
    said = call().body
    assert b"COLOUR=red" in said and b"EQUALS=a=b" in said
    assert b"s3cr3t-4711" not in said and b"OUR_SECRET" not in said


def test_the_largest_environment_that_an_upload_may_have_arrives(binary):
    call = binary('echo "${#V0} ${#V99}"',
                  envs=[f"V{i}={'x' * 10_000}" for i in range(100)])
    assert call().body == b"10000 10000\n"


# 5.2 python3


@pytest.mark.parametrize("body", [
    b"hello", "grüße, 世界 🎉".encode(), b"\xff\xfe\x00", b"\0",
    b"a\r\nb\n", b"\xed\xa0\x80", bytes(range(256)) * 4096],
    ids=["text", "unicode", "no utf-8", "zero", "lines", "surrogate", "1 MB"])
def test_an_echo_is_an_echo_for_every_body(body, echo):
    assert echo(body).body == body


@pytest.fixture(scope="module")
def echo(faas):
    assert faas.upload("echo", {
        "fn.py": "def fn(input, headers): return input"}).status == 200
    return lambda body: faas.post("/echo", body)


def test_an_empty_body_is_none(python3):
    call = python3("def fn(input, headers): return repr(input)")
    assert call(b"").body == b"None"
    assert call(b"0").body == b"'0'"


def test_bytes_that_are_no_utf_8_become_lone_surrogates_and_return():
    for body in b"\xff", b"\xed\xa0\x80", bytes(range(256)):
        assert give_python3(take_python3(body))[1] == body


TEXT, OCTETS = "text/plain; charset=utf-8", "application/octet-stream"


@pytest.mark.parametrize("returned, kind, body", [
    ("None", None, b""), ("''", TEXT, b""), ("'hü'", TEXT, "hü".encode()),
    ("b'\\x00\\xff'", OCTETS, b"\0\xff"), ("bytearray(b'a')", OCTETS, b"a"),
    ("memoryview(b'abc')[::2]", OCTETS, b"ac"),
    ("{'a': [1, None]}", "application/json", b'{"a": [1, null]}'),
    ("[]", "application/json", b"[]"), ("0", "application/json", b"0"),
    ("2.5", "application/json", b"2.5"),
    ("False", "application/json", b"false"),
    ("(1, 2)", "application/json", b"[1, 2]")])
def test_what_is_returned_decides_what_is_answered(returned, kind, body):
    names = {}
    exec(f"def fn(): return {returned}", names)
    headers, out = give_python3(names["fn"]())
    assert (headers.get("Content-Type"), out) == (kind, body)


def test_every_kind_of_answer_passes_the_door(python3):
    call = python3("def fn(input): return eval(input)")
    assert call(b"None").body == b"" and call(b"None").status == 200
    assert call(b"{'a': 1}").headers["Content-Type"] == "application/json"
    assert json.loads(call(b"[1, {'b': None}]").body) == [1, {"b": None}]
    assert call(b"42").body == b"42"
    assert call(b"b'\\xff'").body == b"\xff"


@pytest.mark.parametrize("returned, name", [
    ("object()", "object"), ("{1, 2}", "set"), ("{(1, 2): 3}", "dict"),
    ("[b'a']", "list"), ("lambda: 1", "function")])
def test_a_value_without_bytes_is_a_failure_that_names_its_type(
        returned, name):
    with pytest.raises(FaasError, match=f"fn returned a {name} ") as error:
        give_python3(eval(returned))
    assert error.value.kind == "crashed"


def test_a_value_without_bytes_is_a_502(python3):
    answer = python3("def fn(input): return object()")()
    assert answer.status == 502
    assert b"fn returned a object that cannot be sent" in answer.body


def test_an_answer_that_holds_itself_or_has_no_bottom_is_a_502(python3):
    call = python3("""
        def fn(input):
            a = []
            for _ in range(int(input)):
                a = [a]
            if input == "0":
                a.append(a)
            return a
    """)
    assert [call(size).status for size in (b"0", b"100000", b"3")] == [
        502, 502, 200]


@pytest.mark.parametrize("parameters, count", [
    ("input", 1), ("input, headers", 2), ("*a", 2), ("input, headers=0", 2),
    ("input, headers, more=0", 2), ("input, *, key=0", 1), ("input=0", 1),
    ("input, /, headers", 2)])
def test_fn_takes_one_argument_or_two(parameters, count):
    assert count_arguments(eval(f"lambda {parameters}: 0")) == count


@pytest.mark.parametrize("parameters", ["", "a, b, c", "*, input", "a, *, b"])
def test_fn_with_other_arguments_is_refused(parameters):
    with pytest.raises(FaasError, match="fn takes neither") as error:
        count_arguments(eval(f"lambda {parameters}: 0"))
    assert error.value.kind == "bad_input"


def test_fn_may_be_anything_that_can_be_called(python3):
    call = python3("""
        class Fn:
            def __call__(self, input):
                return "called with " + input
        fn = Fn()
    """)
    assert call(b"hi").body == b"called with hi"


def test_headers_come_in_with_what_else_a_call_is(python3):
    call = python3("""
        def fn(input, headers):
            return {name: headers.get(name) for name in (
                "Lab", "X-Faas-Method", "X-Faas-Path", "X-Faas-Query")}
    """)
    answer = call(b"", {"lab": "a"}, "/items/3?b=1")
    assert json.loads(answer.body) == {
        "Lab": "a", "X-Faas-Method": "POST", "X-Faas-Path": "/items/3",
        "X-Faas-Query": "b=1"}


def test_a_client_cannot_set_what_only_the_platform_may(python3):
    call = python3("def fn(input, headers): return headers['X-Faas-Trigger']")
    assert call(b"", {"X-Faas-Trigger": "cron"}).body == b"http"


def test_the_modules_state_is_kept_between_calls(python3):
    call = python3("""
        count = 0
        def fn(input):
            global count
            count += 1
            return count
    """)
    assert [call().body for _ in range(4)] == [b"1", b"2", b"3", b"4"]


def test_a_bundle_may_bring_modules_and_data(python3):
    call = python3("""
        import pathlib
        from lib.words import greeting
        def fn(input):
            return greeting + pathlib.Path("data.txt").read_text()
    """, {"lib/words.py": "greeting = 'hello '", "data.txt": "you"})
    assert call().body == b"hello you"


def test_an_exception_is_a_502_with_its_last_line(python3):
    answer = python3("def fn(input): return {}['colour']")()
    assert (answer.status, answer.body) == (502, b"KeyError: 'colour'\n")


def test_the_log_has_the_traceback_with_the_users_lines_marked(python3, faas):
    call = python3("""
        import json
        def fn(input):
            return json.loads(input)
    """)
    assert call(b"{").status == 502
    log = log_of(faas, call.name)
    assert '> File "fn.py", line 4, in fn\n>   return json.loads' in log
    assert "JSONDecodeError: Expecting property name" in log
    # Neither the platform's frames nor the library's are the user's.
    assert "faas.py" not in log
    assert not any("decoder.py" in line for line in log.splitlines()
                   if line.startswith(">"))


def test_frames_of_ours_are_left_out_and_those_of_others_not_marked():
    import faas
    lines = ["Traceback (most recent call last):\n",
             f'  File "{faas.__file__}", line 9, in handler\n    fn()\n',
             '  File "/s/lib/a.py", line 2, in a\n    b()\n    ^^^\n',
             '  File "/sister/c.py", line 3, in b\n    1 / 0\n',
             "ZeroDivisionError: division by zero\n"]
    assert mark_traceback(lines, "/s") == "".join([
        lines[0], '> File "lib/a.py", line 2, in a\n>   b()\n>   ^^^\n',
        *lines[3:]])


def test_what_a_function_prints_is_in_its_log_and_not_in_its_answer(
        python3, faas):
    call = python3("""
        import os, sys
        def fn(input):
            print("printed", input)
            print("warned", file=sys.stderr)
            os.system("echo from a child")
            return "answered"
    """)
    assert call(b"hi").body == b"answered"
    log = log_of(faas, call.name)
    for said in "printed hi\n", "warned\n", "from a child\n":
        assert said in log
    assert "answered" not in log


@pytest.mark.parametrize("last, status", [
    ("sys.exit(3)", 3), ("os._exit(4)", 4), ("raise SystemExit", 0),
    ("sys.exit('so long')", 1)])
def test_a_function_that_exits_is_a_502_and_is_back_at_the_next_call(
        last, status, python3):
    call = python3(f"""
        import os, sys
        def fn(input):
            if input:
                {last}
            return "alive"
    """)
    answer = call(b"die")
    assert answer.status == 502
    assert b"its worker exited with status %d" % status in answer.body
    assert call().body == b"alive"


def test_a_function_that_hangs_ends_when_the_caller_said(python3):
    call = python3("""
        import time
        def fn(input):
            while input:
                time.sleep(1)
            return "alive"
    """)
    answer = call(b"hang", {"X-Timeout": "300ms"})
    assert answer.status == 504
    assert b"longer than the 0.3 s that the caller allowed" in answer.body
    assert call().body == b"alive"


def test_an_answer_past_its_limit_is_a_413_and_names_it(python3):
    call = python3("def fn(input): return 'x' * int(input)")
    assert len(call(b"2000000").body) == 2_000_000
    answer = call(b"2000001")
    assert answer.status == 413 and b"2000000 bytes" in answer.body
    assert call(b"2").body == b"xx"


def test_printing_without_end_is_a_413_and_names_the_limit(python3):
    call = python3("""
        def fn(input):
            while input:
                print("x" * 10_000)
            return "alive"
    """)
    answer = call(b"print")
    assert answer.status == 413
    assert b"more than its 2000000 bytes of output" in answer.body
    assert call().body == b"alive"


def test_a_function_sees_its_own_environment_and_none_of_ours(python3):
    call = python3("""
        import os
        def fn(input):
            seen = dict(os.environ)
            for pid in "self", str(os.getppid()):
                with open(f"/proc/{pid}/environ") as file:
                    seen[pid] = file.read()
            return seen
    """, envs=["COLOUR=red", "EQUALS=a=b", "EMPTY="])
    answer = call()
    seen = json.loads(answer.body)
    assert (seen["COLOUR"], seen["EQUALS"], seen["EMPTY"]) == ("red", "a=b",
                                                               "")
    assert b"s3cr3t-4711" not in answer.body and "OUR_SECRET" not in seen


def test_a_function_sees_none_of_our_descriptors(python3):
    call = python3("""
        import os
        def fn(input):
            return [os.readlink(f"/proc/self/fd/{fd}")
                    for fd in sorted(map(int, os.listdir("/proc/self/fd")))
                    if os.path.lexists(f"/proc/self/fd/{fd}")]
    """)
    kinds = [path.partition(":")[0] for path in json.loads(call().body)]
    assert kinds == ["/dev/null", "pipe", "pipe", "socket"]


def test_a_function_can_ask_for_its_own_name_and_version(python3, binary,
                                                         faas):
    text = """import os
def fn(input): return os.environ["FAAS_FUNCTION"] + os.environ["FAAS_VERSION"]
"""
    shell = '#!/bin/sh\nprintf %s "$FAAS_FUNCTION$FAAS_VERSION"\n'
    for number in "1", "2":
        for name, path, said, env in (("own", "fn.py", text, "python3"),
                                      ("owb", "fn.sh", shell, "binary")):
            assert faas.upload(name, {path: said, "number": number},
                               env=env).status == 200
            assert faas.post("/" + name).body.decode() == name + number


# An exception may carry anything, and none of it may reach beyond its call.


def test_an_exception_with_an_attribute_kind_is_a_crash(python3):
    call = python3("""
        class Odd(Exception):
            kind = "not_found"
        def fn(input):
            error = Odd("it is odd")
            if input:
                error.kind = eval(input)
            raise error
    """)
    for kind in b"", b"'no such kind'", b"7", b"object()", b"b'x'":
        answer = call(kind)
        assert answer.status == 502 and answer.body == b"Odd: it is odd\n"


def test_an_exception_with_bytes_that_are_no_text_is_a_crash(python3, faas):
    call = python3("def fn(input): raise ValueError(input)")
    assert call(b"\xff").status == 502
    assert call(b"after it").status == 502
    executions = json.loads(faas.get(
        f"/-/functions/{call.name}/executions").body)
    assert [one["status"] for one in executions] == ["crashed", "crashed"]
    assert executions[0]["error"] == "ValueError: after it"


def test_an_exception_that_cannot_say_its_name_is_a_crash(python3):
    call = python3("""
        class Mute(Exception):
            def __str__(self):
                raise RuntimeError("no words")
        def fn(input):
            raise Mute
    """)
    assert call().status == 502


def test_a_function_that_answers_for_the_worker_harms_only_its_call(tmp_path):
    with Platform(tmp_path.as_posix()) as platform:
        platform.deploy("forger", {"fn.py": Item(textwrap.dedent("""
            import os, struct
            def fn(input):
                meta = input.encode()
                os.write(3, struct.pack(">IIcI", 9 + len(meta), 1, b"R",
                                        len(meta)) + meta)
                os._exit(0)
        """).encode())})
        for meta in (b'{"headers": 5}', b'{"headers": ["a"]}', b'{}',
                     b'{"headers": {"A": {}}}', b'{"headers": "x"}',
                     b'{"headers": {"A": "b\\r\\nC: d"}}'):
            result = platform.invoke(Call("forger", meta))
            assert result.kind in ("ok", "crashed")
            assert isinstance(result.headers, dict)
            assert not any("\n" in f"{name}{value}" for name, value in
                           result.headers.items())


# A text that does not load


@pytest.mark.parametrize("text, sentence", [
    ("import no_such_module", b"ModuleNotFoundError: No module named"),
    ("def fn(input: return 1", b"SyntaxError"),
    ("1 / 0", b"ZeroDivisionError: division by zero"),
    ("raise SystemExit(3)", b"its worker exited with status 3"),
    ("import os; os._exit(0)", b"exited with status 0"),
    ("def func(input): pass", b"fn.py defines no function called fn"),
    ("fn = 4", b"fn.py defines no function called fn"),
    ("def fn(): pass", b"fn takes neither (input, headers) nor (input)"),
    ("\0", b"does not start"), (b"\xff\xfe", b"does not start")])
def test_a_text_that_does_not_load_is_a_400_with_its_reason(
        text, sentence, faas):
    good = faas.upload("loads", {"fn.py": "def fn(input): return 'good'"})
    assert good.status == 200
    answer = faas.upload("loads", {"fn.py": text})
    assert answer.status == 400 and b"loads does not start" in answer.body
    assert sentence in answer.body
    # And the version that serves goes on.
    assert faas.post("/loads").body == b"good"
    assert len(os.listdir(faas.data / "shelf" / "loads")) == 1


def test_a_load_error_shows_the_users_line_marked(faas):
    answer = faas.upload("marked", {"fn.py": "import json\nimport nothing\n"})
    assert b'> File "fn.py", line 2, in <module>' in answer.body
    assert faas.post("/marked").status == 404


def test_a_text_that_loads_without_end_is_given_up(tmp_path):
    home = tmp_path.as_posix()
    with Platform(home, limits=Limits(start=1)) as platform:
        with pytest.raises(FaasError, match="the 1 s that a start may take"):
            platform.deploy("loop", {"fn.py": Item(b"while True: pass")})
        assert platform.invoke(Call("loop")).kind == "not_found"


# 5.3 Dependencies

needs_pip = pytest.mark.skipif(
    not importlib.util.find_spec("pip"),
    reason="pip is missing: apt install python3-pip")


def wheel(version):
    """Make the least that pip takes for a wheel (PEP 427)."""
    info = f"demo-{version}.dist-info"
    return zip_of({
        "demo.py": f"version = '{version}'\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: demo\n"
                            f"Version: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\n"
                         "Root-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"demo.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n"
                          f"{info}/RECORD,,\n"})


DEMO = "import demo\ndef fn(input): return demo.version"


def demo_bundle(version):
    path = f"demo-{version}-py3-none-any.whl"
    return {"fn.py": DEMO, "requirements.txt": f"# ours\n./{path}\n",
            path: wheel(version)}


@needs_pip
def test_requirements_are_installed_into_the_versions_own_folder(faas):
    assert faas.upload("demo", demo_bundle("1.0")).status == 200
    assert faas.post("/demo").body == b"1.0"
    [folder] = (faas.data / "shelf" / "demo").iterdir()
    assert (folder / PACKAGES / "demo.py").exists()
    # A requirement that cannot be had leaves the old version serving.
    answer = faas.upload("demo", {"fn.py": DEMO, "requirements.txt":
                                  "./missing-1.0-py3-none-any.whl\n"})
    assert answer.status == 400
    assert b"requirements.txt could not be installed:" in answer.body
    assert b"missing-1.0" in answer.body
    assert faas.post("/demo").body == b"1.0"
    assert list((faas.data / "shelf" / "demo").iterdir()) == [folder]


@needs_pip
def test_two_functions_may_need_two_versions_of_one_package(faas):
    for version in "1.0", "2.0":
        name = "demo" + version[0]
        assert faas.upload(name, demo_bundle(version)).status == 200
    assert faas.post("/demo1").body == b"1.0"
    assert faas.post("/demo2").body == b"2.0"


@needs_pip
def test_a_first_upload_that_cannot_be_installed_leaves_nothing(faas):
    answer = faas.upload("never", {"fn.py": DEMO, "requirements.txt":
                                   "./missing-1.0-py3-none-any.whl"})
    assert answer.status == 400
    assert not (faas.data / "shelf" / "never").exists()


def test_requirements_of_comments_only_need_no_pip(python3, faas):
    call = python3("def fn(input): return 'hi'",
                   {"requirements.txt": "# nothing\n\n   \n"})
    assert call().body == b"hi"
    [folder] = (faas.data / "shelf" / call.name).iterdir()
    assert not (folder / PACKAGES).exists()


def test_a_function_without_a_caller_ends_with_the_server(server):
    faas = server()
    faas.upload("naps", {"fn.py": "import os\ndef fn(i): return os.getpid()"},
                threads=2)
    pid = int(faas.post("/naps").body)
    faas.stop()
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))
