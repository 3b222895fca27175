"""Chapter 5: what a function looks like, seen through the HTTP door."""

import base64
import importlib.util
import itertools
import json
import os
import re
import shutil
import sys
import textwrap

import pytest
from conftest import Server, eventually, script, zip_of

import faas as book
from faas import (LOADERS, PACKAGES, PROGRAM, REFUSALS, ROUTES, SEARCH_PATH,
                  TONGUES, Call, Door, FaasError, Function, Item, Limits,
                  Platform, Request, bundled_tongues, cgi_variables,
                  choose_tongue, clean_environment, count_arguments, find_tool,
                  folder_tongue, give_python3, handle, has_marks,
                  mark_traceback, pack_tar, program_of, question_of,
                  staying_program, take_python3, tongue_of)


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

HANDLER = b"def handler(ctx, event):\n    return {}\n"
SERVER = b"import http.server\nhttp.server.HTTPServer(('', 0), None)\n"

# The files that tell a tongue, each with what it holds; where that matters,
# twice. What a bundle of them is, is what comes first below.
MARKS = {"fn.sh": [b""], "fn.py": [b""], "fn.yaml": [b""], "index.js": [b""],
         "package.json": [b'{"name": "fn"}', b'{"name": "web"}'],
         "fn.go": [b""], "main.lua": [b""], "main.py": [HANDLER, SERVER],
         "go.mod": [b""], "requirements.txt": [b""], "pyproject.toml": [b""],
         "Dockerfile": [b""]}

ORDER = (
    ("binary", lambda has: "fn.sh" in has),
    ("python3", lambda has: "fn.py" in has),
    ("node", lambda has: "fn.yaml" in has and "index.js" in has),
    ("nodejs", lambda has: b'"fn"' in has.get("package.json", b"")),
    ("go", lambda has: "fn.go" in has),
    ("lua", lambda has: "main.lua" in has),
    ("python", lambda has: has.get("main.py") == HANDLER),
    ("server", lambda has: "go.mod" in has or "package.json" in has
     or "main.py" in has and (
         "requirements.txt" in has or "pyproject.toml" in has)))


def bundles():
    """Yield every bundle that can be made of MARKS: some 9,000."""
    choices = [[None, *texts] for texts in MARKS.values()]
    for texts in itertools.product(*choices):
        yield {path: text for path, text in zip(MARKS, texts)
               if text is not None}


def tongue_or_kind(wanted, files):
    try:
        return choose_tongue(wanted, [*files, "notes.txt"], files.get)
    except FaasError as error:
        return error.kind


def test_every_bundle_is_the_first_tongue_whose_marks_it_has():
    assert [name for name, _ in ORDER] == list(bundled_tongues())
    found = {}
    for files in bundles():
        tongue = next((name for name, fits in ORDER if fits(files)),
                      "bad_input")
        assert tongue_or_kind("", files) == tongue, files
        found[tongue] = found.get(tongue, 0) + 1
    assert found.keys() == bundled_tongues().keys() | {"bad_input"}


def test_who_says_the_tongue_gets_it_whatever_else_is_there():
    fits = dict(ORDER, nodejs=lambda has: "package.json" in has,
                python=lambda has: "main.py" in has)
    for files in bundles():
        for wanted in bundled_tongues():
            tongue = wanted if fits[wanted](files) else "bad_input"
            assert tongue_or_kind(wanted, files) == tongue, (wanted, files)


@pytest.mark.parametrize("wanted, paths, sentence", [
    ("", ["main.c"], "it is no function of any tongue: there is no fn.sh, or "
     "fn.py, or fn.yaml and index.js, or package.json, or fn.go, or main.lua,"
     " or main.py, or go.mod, or pyproject.toml and main.py, or "
     "requirements.txt and main.py at its top"),
    ("", ["sub/fn.py"], "there is no fn.sh"),
    ("", ["sub/fn.yaml", "sub/index.js"], "there is no fn.sh"),
    ("", ["FN.PY"], "there is no fn.sh"), ("", [], "there is no fn.sh"),
    ("", ["index.js"], "there is no fn.sh"),
    ("", ["main.py"], "there is no fn.sh"),
    ("", ["Dockerfile", "main.c"], "a Dockerfile needs a container engine, "
     "and this platform uses none: add a go.mod, a package.json or a main.py "
     "with requirements.txt"),
    ("server", ["Dockerfile"], "a server function needs at its top: go.mod, "
     "or package.json, or pyproject.toml and main.py, or requirements.txt and"
     " main.py"),
    ("python3", ["fn.sh"], "a python3 function needs at its top: fn.py"),
    ("node", ["index.js"],
     "a node function needs at its top: fn.yaml and index.js"),
    ("script", ["fn.sh"], "'script' is no tongue of this platform: use one "
     "of binary, python3, node, nodejs, go, lua, python, server"),
    ("Python3", ["fn.py"], "'Python3' is no tongue"),
    ("cobol" * 99, ["fn.py"], f"{'cobol' * 8!r} is no tongue")])
def test_a_bundle_without_its_marks_is_refused(wanted, paths, sentence):
    with pytest.raises(FaasError) as error:
        choose_tongue(wanted, paths)
    assert error.value.kind == "bad_input"
    assert sentence in str(error.value)


@pytest.mark.parametrize("text, is_python", [
    ("def handler(ctx, event):", True),
    ("import os\n\ndef handler(ctx,event): return {}", True),
    ("def handler( ctx , event ) -> dict:", True),
    ("def handler(ctx: object, event: dict) -> dict:", True),
    ("def handler(ctx, event=None):", True),
    ("def handler(\n    ctx,\n    event\n):", True),
    ("def handler(\n    ctx,\n    event,\n):", True),     # as black writes it
    ("def handler(ctx: dict[str, str], event: dict[str, str]):", True),
    ("def handler(request):", False), ("def handler():", False),
    ("def handler(self, request, client):", False),
    ("class A:\n    def handler(self, event): pass", False),
    ("# def handler(ctx, event):", False),
    ("def handlers(ctx, event):", False), ("handler = None", False)])
def test_a_handler_of_two_arguments_tells_python_from_a_server(
        text, is_python):
    files = {"main.py": text.encode(), "requirements.txt": b""}
    assert has_marks(TONGUES["python"], files, files.get) is is_python
    assert tongue_or_kind("", files) == ("python" if is_python else "server")


@pytest.mark.parametrize("package, tongue", [
    ('{"name": "fn"}', "nodejs"), ('{ "name" :\n"fn", "main": "x"}', "nodejs"),
    ('{"name": "fn2"}', "server"), ('{"name": "Fn"}', "server"),
    ('{"description": "name", "main": "fn"}', "server"), ("", "server"),
    ("\xff", "server")])
def test_a_package_named_fn_is_a_function_and_any_other_a_server(
        package, tongue):
    files = {"package.json": package.encode("latin-1"), "index.js": b""}
    assert tongue_or_kind("", files) == tongue


def test_a_folder_a_bundle_and_a_list_of_paths_say_the_same(tmp_path):
    for number, files in enumerate(itertools.islice(bundles(), 0, None, 97)):
        folder = tmp_path / str(number)
        folder.mkdir()
        for path, text in files.items():
            (folder / path).write_bytes(text)
        found = tongue_or_kind("", files)
        for ask in (lambda: folder_tongue(folder),
                    lambda: tongue_of("", {path: Item(text) for path, text
                                           in files.items()})):
            try:
                assert ask() == found, files
            except FaasError as error:
                assert error.kind == found, files


def test_only_what_tells_is_read_of_a_bundle():
    """A folder may be any: of what is no mark, nothing is opened."""
    read = []

    def reader(path):
        read.append(path)
        return b""
    paths = [*MARKS, "secret.txt", "sub/main.py"]
    paths.remove("fn.sh"), paths.remove("fn.py"), paths.remove("fn.yaml")
    assert choose_tongue("", paths, reader) == "go"
    assert read == ["package.json"]


def test_every_tongue_runs_in_one_of_three_ways():
    ways = {name: tongue.runs for name, tongue in TONGUES.items()}
    assert len(ways) == 9
    assert [name for name, way in ways.items() if way == "process"] == [
        "script", "binary"]
    assert [name for name, way in ways.items() if way == "server"] == [
        "server"]
    assert set(ways.values()) == {"process", "worker", "server"}


def test_every_row_of_the_table_is_whole():
    for name, tongue in TONGUES.items():
        assert bool(tongue.needs) == bool(tongue.package), name
        assert tongue.goes_in and tongue.comes_out and tongue.taken_from
        assert isinstance(tongue.chooses, bool) and isinstance(
            tongue.asks, bool)
        # Who may ask is a worker, and chooses its status too.
        assert not tongue.asks or tongue.chooses and tongue.runs == "worker"
        if tongue.text and name != "nodejs":
            assert any(tongue.text in mark.split() for mark in tongue.marks)


# Interpreters that are not there


def programs_in(folder, *names):
    """Make files that could be run; give the folder as a PATH."""
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return str(folder)


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine on which nothing is installed but what bare(...) installs."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def bare(*names):
        return programs_in(folder, *names)
    monkeypatch.setenv("PATH", bare())
    monkeypatch.setattr(book, "SEARCH_PATH", bare())
    return bare


NEEDS = {
    "node": "node functions need node on this machine: apt install nodejs",
    "nodejs": "nodejs functions need node on this machine: apt install "
              "nodejs",
    "go": "go functions need go on this machine: apt install golang-go",
    "lua": "lua functions need luajit on this machine: apt install luajit"}


@pytest.mark.parametrize("tongue", TONGUES)
def test_a_missing_interpreter_is_named_with_its_debian_package(bare, tongue):
    assert NEEDS.keys() == {name for name, row in TONGUES.items()
                            if row.needs}
    try:
        assert (find_tool(tongue), tongue in NEEDS) == ("", False)
    except FaasError as error:
        assert (error.kind, str(error)) == ("bad_input", NEEDS[tongue])


def test_any_lua_will_do_and_the_fastest_is_taken_first(bare):
    for name in "lua", "lua5.3", "lua5.4", "lua5.1", "luajit":
        folder = bare(name)
        assert find_tool("lua") == f"{folder}/{name}"


def test_an_interpreter_is_a_file_that_may_be_run(bare, tmp_path):
    folder = bare()
    os.mkdir(f"{folder}/luajit")
    with open(f"{folder}/lua5.1", "w"):
        pass                        # and nobody may execute it
    bare("lua5.4")
    assert find_tool("lua") == f"{folder}/lua5.4"


def test_an_interpreter_on_our_path_is_found_and_named_in_full(
        bare, monkeypatch, tmp_path):
    bare("go")
    (tmp_path / "own").mkdir()
    programs_in(tmp_path / "own", "node")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "own")
    assert find_tool("node") == str(tmp_path / "own" / "node")
    assert find_tool("go") == f"{bare()}/go"


def test_what_lies_in_the_working_folder_is_no_interpreter(
        bare, monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    programs_in(tmp_path / "here", "node", "go", "luajit")
    monkeypatch.chdir(tmp_path / "here")
    for path in "", None:
        monkeypatch.setenv("PATH", path or "")
        if path is None:
            monkeypatch.delenv("PATH")
        for tongue in NEEDS:
            with pytest.raises(FaasError, match="apt install"):
                find_tool(tongue)


MISSING = {
    "node": {"fn.yaml": "", "index.js": ""},
    "nodejs": {"package.json": '{"name": "fn"}', "index.js": ""},
    "go": {"fn.go": "package main"},
    "lua": {"main.lua": "function handler() end"},
    "a server in JavaScript": {"package.json": "{}", "index.js": ""},
    "a server in Go": {"go.mod": "module main", "main.go": "package main"}}

SENTENCES = {**NEEDS, "a server in Go": NEEDS["go"],
             "a server in JavaScript": "server functions need node on this "
             "machine: apt install nodejs"}


@pytest.fixture
def managed(tmp_path):
    """A platform in this process, and how to ask it as over HTTP."""
    with Platform((tmp_path / "home").as_posix()) as platform:
        door = Door(platform, ROUTES, key="k", refusals=REFUSALS)

        def managed(method, path, value):
            return handle(door, Request(method, path, "", (
                ("host", "localhost"), ("authorization", "Bearer k")),
                json.dumps(value).encode()))
        managed.platform = platform
        yield managed


@pytest.mark.parametrize("case", MISSING)
def test_without_its_interpreter_a_deploy_is_a_400_that_says_what_to_install(
        bare, managed, case):
    files = {path: text.encode() for path, text in MISSING[case].items()}
    packed = base64.b64encode(zip_of(files)).decode()
    tar = base64.b64encode(pack_tar({path: Item(text) for path, text
                                     in files.items()})).decode()
    tongue = case if case in TONGUES else "server"
    managed.platform.deploy("f", {"fn.py": Item(
        b"def fn(input): return 'old'")})
    for name in "f", "g":
        for reply in (
                managed("POST", "/upload", {"name": name, "env": tongue,
                                            "zip": packed}),
                managed("PUT", f"/-/functions/{name}", {"bundle": packed}),
                managed("POST", "/functions", {"name": name, "file": tar})):
            assert reply.status == 400, reply.body
            assert SENTENCES[case] in reply.body.decode()
    assert managed.platform.uploaded() == ["f"]
    assert os.listdir(managed.platform.shelf.folder) == ["f"]
    assert len(managed.platform.shelf.versions("f")) == 1
    assert managed.platform.invoke(Call("f")).body == b"old"


def test_without_lua_a_text_sent_to_faas_go_s_api_is_a_400_too(bare, managed):
    reply = managed("POST", "/api/functions", {
        "name": "hits", "code": "function handler() return {} end"})
    assert (reply.status, json.loads(reply.body)) == (
        400, {"error": NEEDS["lua"]})
    reply = managed("GET", "/api/functions", None)
    assert json.loads(reply.body)["functions"] == []


def test_without_npm_what_a_package_needs_cannot_be_had(bare, managed):
    bare("node")
    files = {"index.js": "", "package.json": json.dumps(
        {"name": "fn", "dependencies": {"left-pad": "1"}})}
    reply = managed("POST", "/upload", {
        "name": "f", "env": "nodejs",
        "zip": base64.b64encode(zip_of(files)).decode()})
    assert reply.status == 400
    assert b"need npm on this machine: apt install npm" in reply.body


def test_an_interpreter_that_was_removed_is_missed_at_the_next_start(
        monkeypatch, tmp_path):
    lua = shutil.which("lua5.4") or shutil.which("lua5.1") or (
        shutil.which("luajit"))
    if not lua:
        pytest.skip("lua functions need luajit: apt install luajit")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "lua").symlink_to(lua)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(book, "SEARCH_PATH", str(tools))
    home = (tmp_path / "home").as_posix()
    with Platform(home) as platform:
        platform.deploy("f", {"main.lua": Item(
            b"function handler() return {body = 'here'} end")})
        assert platform.invoke(Call("f")).body == b"here"
    (tools / "lua").unlink()
    with Platform(home) as platform:        # It starts all the same.
        result = platform.invoke(Call("f"))
        assert result.kind in ("unavailable", "bad_input")
        assert "apt install luajit" in result.sentence
    (tools / "lua").symlink_to(lua)
    with Platform(home) as platform:
        assert platform.invoke(Call("f")).body == b"here"


# 5.1 Script and binary


def test_the_environment_is_made_from_nothing(monkeypatch):
    monkeypatch.setenv("OUR_SECRET", "s3cr3t")
    monkeypatch.delenv("TZ", raising=False)
    env = clean_environment(Function("f", "binary", "/tmp", 3,
                                     env={"COLOUR": "red"}))
    assert env == {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", "HOME": "/tmp",
                   "FAAS_FUNCTION": "f", "FAAS_VERSION": "3",
                   "COLOUR": "red"}


def test_a_function_lives_in_the_platforms_time_zone(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    fn = Function("f", "binary", "/tmp")
    assert clean_environment(fn)["TZ"] == "Europe/Berlin"
    own = clean_environment(fn._replace(env={"TZ": "UTC"}))
    assert own["TZ"] == "UTC"


@pytest.mark.parametrize("tongue", TONGUES)
def test_who_may_ask_for_its_variables_does_not_carry_them_about(tongue):
    fn = Function("f", tongue, "/tmp", env={"DB_PASSWORD": "hunter2!"})
    carries = "DB_PASSWORD" in clean_environment(fn)
    assert carries is not (tongue in ("lua", "python"))


def test_a_function_may_set_its_own_path():
    fn = Function("f", "binary", "/tmp", env={"PATH": "/opt/bin"})
    assert clean_environment(fn)["PATH"] == "/opt/bin"


def test_cgi_variables_carry_what_does_not_fit_into_the_body():
    call = Call("f", b"hello", {"Lab": "a", "Content-Type": "text/csv",
                                "X-Two-Words": "b"},
                "PUT", "/items/3", query="a=1&b=%20")
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


def test_a_call_of_a_program_carries_its_variables():
    fn = Function("f", "binary", "/f", 2, env={"COLOUR": "red"},
                  limits=Limits(cpu=7))
    program = program_of(fn, Call("f", b"hi", query="a=1"), "id-1")
    assert program.env.items() >= {
        "COLOUR": "red", "FAAS_VERSION": "2", "QUERY_STRING": "a=1",
        "FAAS_EXECUTION": "id-1", "CONTENT_LENGTH": "2"}.items()
    assert (program.limits, program.tongue) == (fn.limits, "")


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


# 5.10 From a folder to a process

STAYING = [name for name, tongue in TONGUES.items()
           if tongue.runs != "process"]


@pytest.fixture
def staying(bare, tmp_path):
    """Make the Program of a function of a tongue, on a machine with all."""
    bare("node", "go", "luajit")

    def staying(tongue, files=(), **rest):
        for path in files:
            (tmp_path / path).write_text("")
        return staying_program(Function("f", tongue, tmp_path.as_posix(), 3,
                                        env={"COLOUR": "red"}, **rest))
    return staying


def test_every_tongue_that_stays_has_a_program_or_a_loader(staying):
    for tongue in STAYING:
        program = staying(tongue)
        assert program.cwd and program.env["FAAS_VERSION"] == "3"
        assert bool(program.argv) is not bool(program.tongue), tongue
        assert not program.tongue or program.tongue in LOADERS
    assert {"echo", *LOADERS} == {"echo", "python3", "python"}


def test_what_is_executed_has_no_limit_of_cpu_time_and_may_reserve(staying):
    """A worker of ours is granted its seconds call by call; these by time."""
    for tongue in STAYING:
        program = staying(tongue, limits=Limits(cpu=7, memory=1000))
        assert program.limits.memory == 1000
        assert program.limits.cpu == (7 if program.tongue else 0), tongue
        assert program.reserves is (tongue in ("node", "nodejs", "go",
                                               "server"))


def test_each_runtime_is_started_by_its_own_line(staying, bare, tmp_path):
    folder = bare()
    for tongue in "node", "nodejs":
        assert staying(tongue).argv == (f"{folder}/node", "-e",
                                        book.NODE_SHIM, tongue)
    assert staying("go").argv == (f"{tmp_path}/{PROGRAM}",)
    lua = staying("lua").argv
    assert (lua[0], lua[1], lua[3]) == ("/bin/sh", "-c", f"{folder}/luajit")
    assert lua[-1] == book.LUA_SHIM


def test_a_server_is_started_by_its_marks_as_smolfaas_does(
        staying, bare, tmp_path):
    python = staying("server", ["requirements.txt", "main.py"])
    assert python.argv == (sys.executable, "-S", "main.py")
    assert python.env["PYTHONPATH"] == f"{tmp_path}/{PACKAGES}"
    assert python.env["PYTHONUNBUFFERED"] == "1"
    node = staying("server", ["package.json"])
    assert node.argv == (f"{bare()}/node", ".")
    go = staying("server", ["go.mod"])
    assert go.argv == (f"{tmp_path}/{PROGRAM}",)
    assert {program.env["COLOUR"] for program in (python, node, go)} == {
        "red"}


def test_what_a_call_is_asked_with_depends_on_its_contract():
    call = Call("f", b"hi", {"Lab": "a", "Host": "h"}, "PUT", "/x y",
                query="a=1")
    asked = {tongue: question_of(Function("f", tongue, "/f", 2, id="06f1"),
                                 call, "id-1", 7.9, "http://b")
             for tongue in STAYING}
    for tongue in "python3", "node", "nodejs", "go":
        assert asked[tongue] == {"headers": {
            "Lab": "a", "Host": "h", "X-Faas-Method": "PUT",
            "X-Faas-Path": "/x y", "X-Faas-Query": "a=1",
            "X-Faas-Execution": "id-1", "X-Faas-Trigger": "http"}}
    for tongue in "lua", "python":
        assert asked[tongue] == {
            "ctx": {"executionId": "id-1", "requestId": "id-1",
                    "functionId": "06f1", "functionName": "f",
                    "startedAt": 7, "version": "2", "baseUrl": "http://b"},
            "event": {"method": "PUT", "path": "/fn/06f1/x y",
                      "relativePath": "/x y", "headers": {"Lab": "a"},
                      "query": {"a": "1"}}}
    assert (asked["server"]["method"], asked["server"]["target"]) == (
        "PUT", "/x%20y?a=1")
    assert asked["server"]["headers"]["X-Faas-Execution"] == "id-1"


def test_a_query_that_names_a_thing_twice_gives_a_handler_the_first():
    fn = Function("f", "lua", "/f", id="06f1")
    event = question_of(fn, Call("f", query="a=1&a=2&b=&c&d=%20+"), "", 0,
                        "")["event"]
    assert event["query"] == {"a": "1", "b": "", "c": "", "d": "  "}
    assert (event["path"], event["relativePath"]) == ("/fn/06f1", "/")


# 5.11 Dependencies

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
    assert re.match(rb"requirements.txt could not be installed "
                    rb"\(python[0-9.]* exited with status 1\):\n", answer.body)
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


SERVES = """
import demo, http.server, os

class Version(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(demo.version.encode())

http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])),
                       Version).serve_forever()
"""


@needs_pip
def test_a_servers_packages_may_stand_in_its_pyproject(faas):
    path = "demo-1.0-py3-none-any.whl"
    assert faas.upload("pyproject", {
        "main.py": SERVES, path: wheel("1.0"), "pyproject.toml":
        f'[project]\nname = "x"\ndependencies = ["./{path}"]\n'},
        env="server").status == 200
    assert faas.post("/pyproject").body == b"1.0"


@needs_pip
def test_a_python_function_may_have_requirements_too(faas):
    path = "demo-2.0-py3-none-any.whl"
    assert faas.upload("pydemo", {
        "main.py": "import demo\ndef handler(ctx, event):\n"
                   "    return {'body': demo.version}",
        path: wheel("2.0"), "requirements.txt": f"./{path}\n"},
        env="python").status == 200
    assert faas.post("/pydemo").body == b"2.0"


@pytest.mark.parametrize("files, sentence", [
    ({"main.py": "", "pyproject.toml": "[project"},
     b"pyproject.toml cannot be read:"),
    ({"main.py": "", "pyproject.toml": "project = 5"},
     b"pyproject.toml cannot be read:"),
    ({"main.py": "", "pyproject.toml": "[project]\ndependencies = 5"},
     b"pyproject.toml cannot be read:"),
    ({"main.py": "", "pyproject.toml": b"\xff"},
     b"pyproject.toml cannot be read:"),
    ({"index.js": "", "package.json": "{"}, b"package.json cannot be read:"),
    ({"index.js": "", "package.json": "[]"}, b"package.json cannot be read:"),
    ({"index.js": "", "package.json": '{"scripts": "build"}'},
     b"package.json cannot be read:"),
    ({"index.js": "", "package.json": b"\xff"},
     b"package.json cannot be read:")])
def test_a_list_of_needs_that_cannot_be_read_is_a_400(faas, files, sentence):
    answer = faas.upload("unread", files, env="server")
    assert answer.status == 400 and answer.body.startswith(sentence)
    assert not (faas.data / "shelf" / "unread").exists()


needs_npm = pytest.mark.skipif(
    not shutil.which("npm"), reason="npm is missing: apt install npm")

NEEDS_LIB = {
    "package.json": json.dumps({
        "name": "fn", "dependencies": {"lib": "file:./lib"},
        "scripts": {"build": "node make.js"}}),
    "make.js": "require('fs').writeFileSync('made.txt', 'made by '"
               " + require('lib'))",
    "lib/package.json": '{"name": "lib", "version": "1.0.0"}',
    "lib/index.js": "module.exports = 'the lib';",
    "index.js": "const made = require('fs').readFileSync('made.txt');\n"
                "module.exports = (req, res) => res.send(made + '; '"
                " + require('lib'));"}


@needs_npm
def test_npm_installs_what_a_package_names_and_runs_its_build(faas):
    reply = faas.upload("built", NEEDS_LIB, env="nodejs")
    assert reply.status == 200, reply.body
    assert faas.post("/built").body == b"made by the lib; the lib"
    [folder] = (faas.data / "shelf" / "built").iterdir()
    assert (folder / "node_modules" / "lib").exists()


@needs_npm
@pytest.mark.parametrize("change, sentence", [
    ({"package.json": json.dumps({
        "name": "fn", "dependencies": {"lib": "file:./none.tgz"}})},
     b"package.json could not be installed (npm exited with status"),
    ({"make.js": "process.exit(3)"},
     b"the build script of package.json failed (npm exited with status 3)")])
def test_what_npm_cannot_do_is_a_400_and_leaves_nothing(
        faas, change, sentence):
    answer = faas.upload("unbuilt", {**NEEDS_LIB, **change}, env="nodejs")
    assert answer.status == 400 and answer.body.startswith(sentence)
    assert not (faas.data / "shelf" / "unbuilt").exists()


def test_a_build_sees_what_the_machine_needs_and_none_of_our_secrets(
        monkeypatch, tmp_path):
    monkeypatch.setenv("OUR_SECRET", "s3cr3t-4711")
    monkeypatch.setenv("GOPROXY", "off")
    with pytest.raises(FaasError) as error:
        book.build(book.HERE, str(tmp_path), "it failed", "go",
                   "/bin/sh", "-c",
                   "env; pwd; exit 9", env={"CGO_ENABLED": "0"})
    said = str(error.value)
    assert said.startswith("it failed (sh exited with status 9):\n")
    assert error.value.kind == "bad_input" and "s3cr3t" not in said
    for line in "GOPROXY=off", "CGO_ENABLED=0", f"HOME={tmp_path}":
        assert f"\n{line}\n" in said
    assert said.endswith(str(tmp_path))


def test_both_ends_of_what_a_build_said_are_told(tmp_path):
    with pytest.raises(FaasError) as error:
        book.build(book.HERE, str(tmp_path), "it failed", "go",
                   "/bin/sh", "-c",
                   "seq 10000; exit 1")
    lines = str(error.value).splitlines()
    assert lines[1:] == [*map(str, range(1, 13)), "...",
                         *map(str, range(9989, 10001))]


def test_a_function_without_a_caller_ends_with_the_server(server):
    faas = server()
    faas.upload("naps", {"fn.py": "import os\ndef fn(i): return os.getpid()"},
                threads=2)
    pid = int(faas.post("/naps").body)
    faas.stop()
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))
