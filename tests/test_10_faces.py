"""Chapter 10: PiFaaS's and tinyFaaS's commands, typed as they are, and ours.

The other faces have files of their own: test_10_rknizzle.py,
test_10_faas_go.py and test_10_smolfaas.py.
"""

import base64
import contextlib
import http.server
import io
import json
import re
import shutil
import subprocess
import tarfile
import threading

import pytest
from conftest import eventually, script, zip_of

import faas
from faas import FaasError

ECHO = {"fn.py": "def fn(input, headers):\n    print('got', input)\n"
                 "    return input\n", "requirements.txt": ""}


def shell(folder, command, **variables):
    """Type a command into a shell, as the older READMEs do."""
    for tool in "curl", "zip", "base64":
        if tool in command and not shutil.which(tool):
            pytest.skip(f"this command needs {tool}: apt install {tool}")
    done = subprocess.run(["bash", "-c", command], cwd=folder, timeout=60,
                          capture_output=True,
                          env={"PATH": "/usr/local/bin:/usr/bin:/bin",
                               **variables})
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


# 10.1 PiFaaS


@pytest.fixture
def pifaas(server):
    """A server with PiFaaS's hello.py, which is not executable yet."""
    faas = server()
    (faas.functions / "hello.py").write_text(
        "#!/usr/bin/env python3\nimport sys\n"
        "print('Hello', sys.stdin.read() or 'World')\n")
    return faas


def test_the_bodies_of_pifaas_are_the_same_to_the_byte(pifaas):
    def said(method, path, body=b""):
        reply = pifaas.request(method, path, body)
        return reply.status, reply.body

    status, body = said("POST", "/hello.py")
    assert (status, body.splitlines()[0][:53]) == (
        403, b"Permission denied (is the script executable?): run ch")
    (pifaas.functions / "hello.py").chmod(0o755)
    assert said("POST", "/hello.py", b"Pi") == (200, b"Hello Pi\n")
    assert said("POST", "/hello.py") == (200, b"Hello World\n")
    assert said("GET", "/hello.py") == (200, b"Hello World\n")
    assert said("POST", "/schedule/hello.py", b"*/5 * * * *\n") == (
        200, b"Cron job set")
    assert said("GET", "/schedule") == (200, b'{"hello.py": "*/5 * * * *"}\n')
    assert said("DELETE", "/schedule/hello.py") == (200, b"Removed schedule")
    assert said("GET", "/schedule") == (200, b"{}\n")


def test_the_failures_of_pifaas_keep_their_status_and_first_words(pifaas):
    for method, path, body, status, words in [
            ("POST", "/nobody", b"", 404, b"Function not found"),
            ("GET", "/logs/nobody", b"", 404,
             b"No logs found for function"),
            ("POST", "/schedule/nobody", b"* * * * *", 404,
             b"Function not found for scheduling"),
            ("POST", "/schedule/hello.py", b"", 400,
             b"Invalid cron expression"),
            ("POST", "/schedule/hello.py", b"* * * *", 400,
             b"Invalid cron expression"),
            ("POST", "/schedule/hello.py", b"61 * * * *", 400,
             b"Invalid cron expression"),
            ("POST", "/schedule/hello.py", b"\xff * * * *", 400,
             b"Invalid cron expression")]:
        reply = pifaas.request(method, path, body)
        assert (reply.status, reply.body[:len(words)]) == (status, words)


def test_json_and_logs_have_pifaas_types(pifaas):
    (pifaas.functions / "hello.py").chmod(0o755)
    pifaas.post("/hello.py", b"log")
    schedules, log = pifaas.get("/schedule"), pifaas.get("/logs/hello.py")
    assert schedules.headers["Content-Type"] == "application/json"
    assert log.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert re.fullmatch(
        rb"\n--- Run at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6} ---\n"
        rb"Hello log\n", log.body)
    assert log.body == (pifaas.logs / "hello.py.log").read_bytes()


def test_a_script_that_fails_is_a_502_with_the_tail_of_its_output(pifaas):
    script(pifaas, "fails", "echo nearly; echo why >&2; exit 3")
    reply = pifaas.post("/fails")
    assert reply.status == 502
    assert reply.body == b"fails exited with status 3\nnearly\n"
    log = pifaas.get("/logs/fails").body
    assert b"nearly\nwhy\n" in log and b"[crashed]" in log


def test_each_way_in_which_a_file_is_no_function_has_its_own_sentence(pifaas):
    (pifaas.functions / "plain").write_text("echo no shebang\n")
    (pifaas.functions / "plain").chmod(0o755)
    (pifaas.functions / "lost").write_text("#!/no/such/interpreter\n")
    (pifaas.functions / "lost").chmod(0o755)
    (pifaas.functions / "folder").mkdir()
    answers = {path: pifaas.post(path) for path in (
        "/plain", "/lost", "/folder", "/..%2ffaas.db", "/hello.py")}
    assert [answer.status for answer in answers.values()] == [
        502, 502, 400, 400, 403]
    assert len({answer.body for answer in answers.values()}) == 5
    assert b"shebang" in answers["/plain"].body
    assert b"not installed" in answers["/lost"].body


def test_a_schedule_that_is_not_there_cannot_be_removed(pifaas):
    reply = pifaas.request("DELETE", "/schedule/nobody")
    assert (reply.status, reply.body) == (404, b"nobody has no schedule\n")


# 10.2 tinyFaaS, by the lines of its own shell scripts

UPLOAD_SH = """
pushd "$1" >/dev/null || exit 1
curl -sS "$URL/upload" --data "{\\"name\\": \\"$2\\", \\"env\\": \\"$3\\", \
\\"threads\\": $4, \\"zip\\": \\"$(zip -r - ./* | base64 | tr -d '\\n')\\"}"
popd >/dev/null || exit 1
"""
UPLOAD_URL_SH = """
curl -sS "$URL/uploadURL" --data "{\\"name\\": \\"$3\\", \\"env\\": \\"$4\\",\
\\"threads\\": $5,\\"url\\": \\"$1\\",\\"subfolder_path\\": \\"$2\\"}"
"""
LIST_SH = 'curl -sS "$URL/list"'
LOGS_SH = 'curl -sS "$URL/logs"'
DELETE_SH = """curl -sS "$URL/delete" --data "{\\"name\\": \\"$1\\"}" """
WIPE_SH = 'curl -sS -X POST "$URL/wipe"'


def tinyfaas(server, lines, *arguments, folder="/"):
    """Run one of tinyFaaS's scripts against a server."""
    words = " ".join(f"'{word}'" for word in arguments)
    return shell(folder, f"set -- {words}\n{lines}", URL=server.url)


def folder_of(path, files):
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def test_tinyfaas_scripts_work_from_upload_to_wipe(server, tmp_path):
    faas = server()
    echo = folder_of(tmp_path / "echo", ECHO)
    binary = folder_of(tmp_path / "binary", {"fn.sh": "#!/bin/sh\ncat\n"})
    assert tinyfaas(faas, LIST_SH) == b""

    said = tinyfaas(faas, UPLOAD_SH, echo, "echo", "python3", 2)
    assert said == f"{faas.data_url}/echo\n".encode()
    assert shell("/", f"curl -sS {said.decode().strip()} -d hello") == b"hello"
    said = tinyfaas(faas, UPLOAD_SH, binary, "echobinary", "binary", 1)
    assert shell("/", f"curl -sS {said.decode().strip()} -d hi") == b"hi"

    assert sorted(tinyfaas(faas, LIST_SH).split()) == [b"echo", b"echobinary"]
    logs = tinyfaas(faas, LOGS_SH).decode()
    assert re.search(r"^function=echo handler=\S+ \d{4}-\d\d-\d\dT\d\d:\d\d:"
                     r"\d\d\.\d+Z got hello$", logs, re.MULTILINE)

    assert tinyfaas(faas, DELETE_SH, "echo") == b""
    assert tinyfaas(faas, LIST_SH) == b"echobinary\n"
    assert faas.get("/echo", url=faas.data_url).status == 404
    assert tinyfaas(faas, WIPE_SH) == b""
    assert tinyfaas(faas, LIST_SH) == b""


def test_threads_are_workers_that_are_ready_before_the_upload_answers(server):
    faas = server()
    assert faas.upload("echo", ECHO, threads=3).status == 200
    assert b'faas_workers{function="echo"} 3' in faas.get("/metrics").body
    reply = faas.post("/echo", b"hi", url=faas.data_url)
    assert reply.headers["Server-Timing"].startswith("warm")
    assert faas.upload("zero", ECHO, threads=0).status == 200
    assert b'faas_workers{function="zero"} 1' in faas.get("/metrics").body


def test_envs_are_the_functions_variables(server):
    faas = server()
    text = "import os\ndef fn(input): return os.environ.get(input, 'unset')\n"
    faas.upload("env", {"fn.py": text}, envs=["A=1", "B=2=3", "no pair"])
    for name, value in ("A", b"1"), ("B", b"2=3"), ("C", b"unset"):
        assert faas.post("/env", name.encode()).body == value


def test_a_function_sees_gos_capitals_and_the_rest_of_the_path(server):
    faas = server()
    faas.upload("seen", {"fn.py": "def fn(input, headers): return headers"})
    reply = faas.request("PUT", "/seen/a%20b?c=1", b"hi", {"lab": "x"},
                         url=faas.data_url)
    seen = json.loads(reply.body)
    assert (seen["Lab"], seen["Content-Length"]) == ("x", "2")
    assert (seen["X-Faas-Method"], seen["X-Faas-Path"],
            seen["X-Faas-Query"]) == ("PUT", "/a b", "c=1")


def test_an_async_call_answers_202_and_its_end_is_in_the_log(server):
    faas = server()
    faas.upload("echo", ECHO)
    reply = faas.post("/echo", b"later", {"X-tinyFaaS-Async": "1"},
                      url=faas.data_url)
    assert (reply.status, reply.body) == (202, b"")
    eventually(lambda: b"got later" in faas.get("/logs?name=echo").body)
    reply = faas.post("/nobody", b"", {"X-tinyFaaS-Async": "1"})
    assert reply.status == 404
    reply = faas.post("/echo", b"now", {"X-tinyFaaS-Async": ""})
    assert (reply.status, reply.body) == (200, b"now")


@pytest.mark.parametrize("method, path", [
    ("GET", "/upload"), ("GET", "/uploadURL"), ("GET", "/delete"),
    ("POST", "/list"), ("GET", "/wipe"), ("POST", "/logs"),
    ("PUT", "/upload"), ("DELETE", "/list")])
def test_a_wrong_method_is_tinyfaas_400(method, path):
    response = faas.handle(faas.Door(None, faas.ROUTES),
                           faas.Request(method, path))
    assert response.status == 400


WRONG_UPLOADS = [
    ({"zip": "%%%"}, 400), ({"zip": ""}, 400), ({"zip": 5}, 400),
    ({"zip": base64.b64encode(b"no zip").decode()}, 400),
    ({"name": "../x"}, 400), ({"name": ""}, 400), ({"name": None}, 400),
    ({"name": "list"}, 409), ({"name": "taken"}, 409),
    ({"env": "cobol"}, 400), ({"env": "binary"}, 400),
    ({"threads": -1}, 400), ({"threads": 65}, 400), ({"threads": "2"}, 400),
    ({"threads": True}, 400), ({"threads": 1.5}, 400),
    ({"envs": "A=1"}, 400), ({"envs": ["1A=1"]}, 400),
    ({"envs": ["A=\0"]}, 400), ({"envs": ["=1"]}, 400)]


def test_an_upload_that_is_wrong_is_refused_and_leaves_nothing(server):
    faas = server()
    script(faas, "taken", "true")
    value = {"name": "f", "env": "python3", "threads": 1,
             "zip": base64.b64encode(zip_of(ECHO)).decode()}
    for change, status in WRONG_UPLOADS:
        reply = faas.post("/upload", json.dumps({**value, **change}))
        assert (reply.status, reply.body != b"") == (status, True), change
    assert faas.get("/list").body == b""
    assert list((faas.data / "shelf").rglob("*.py")) == []


def test_a_body_that_is_no_json_object_is_refused(server):
    faas = server()
    for body in (b"", b"[]", b"no json", b'"a"', b"\xff", b"[" * 100_000,
                 b"{}"):
        assert faas.post("/upload", body).status == 400, body[:10]


def test_what_is_not_there_cannot_be_deleted(server):
    faas = server()
    script(faas, "mine", "true")
    for name, status in ("nobody", 404), ("mine", 409), ("../x", 400):
        body = json.dumps({"name": name})
        assert faas.post("/delete", body).status == status
    assert (faas.functions / "mine").exists()


def test_logs_of_one_function_and_of_all(server):
    faas = server()
    for name in "a", "b":
        faas.upload(name, ECHO)
    faas.post("/a", b"1")
    assert faas.get("/logs?name=b").body == b""
    one, both = faas.get("/logs?name=a").body, faas.get("/logs").body
    assert one.endswith(b"got 1\n") and both == one + b"\n\n"
    assert faas.get("/logs?name=nobody").status == 404


def test_a_wipe_takes_what_was_uploaded_and_nothing_else(server):
    faas = server()
    script(faas, "mine", "echo mine")
    faas.upload("a", ECHO)
    faas.upload("b", ECHO)
    assert faas.post("/wipe").status == 200
    assert faas.get("/list").body == b""
    assert faas.post("/mine").body == b"mine\n"
    assert list((faas.data / "shelf").iterdir()) == []


# uploadURL


@contextlib.contextmanager
def web(pages):
    """Serve {path: bytes, status or address to go to} on loopback."""
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            page = pages.get(self.path, 404)
            status = (page if isinstance(page, int) else
                      302 if isinstance(page, str) else 200)
            self.send_response(status)
            if isinstance(page, str):
                self.send_header("Location", page)
            self.end_headers()
            if isinstance(page, bytes):
                self.wfile.write(page)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{host.server_address[1]}"
        finally:
            host.shutdown()
            thread.join()


def test_a_function_comes_from_a_subfolder_of_a_zip_on_the_web(server):
    faas = server(env={"no_proxy": "*"})
    files = {f"repo-main/test/fns/echo/{name}": text
             for name, text in ECHO.items()}
    with web({"/main.zip": zip_of({**files, "README": "x"})}) as url:
        said = tinyfaas(faas, UPLOAD_URL_SH, f"{url}/main.zip",
                        "repo-main/test/fns/echo/", "echo", "python3", 1)
    assert said == f"{faas.data_url}/echo\n".encode()
    assert faas.post("/echo", b"hi", url=faas.data_url).body == b"hi"


def test_what_the_web_answers_may_also_be_no_function(server):
    faas = server(env={"no_proxy": "*"})
    (faas.home / "secret.zip").write_bytes(zip_of(ECHO))
    pages = {"/ok.zip": zip_of(ECHO), "/text": b"no zip", "/error": 500,
             "/moved": "/ok.zip", "/loop": "/loop",
             "/file": f"file://{faas.home}/secret.zip"}
    with web(pages) as url:
        for path, subfolder, status in [
                (f"{url}/moved", "", 200), (f"{url}/ok.zip", "/", 200),
                (f"{url}/ok.zip", "no/such", 400),
                (f"{url}/ok.zip", "a/../..", 400),
                (f"{url}/text", "", 400), (f"{url}/error", "", 400),
                (f"{url}/nothing", "", 400), (f"{url}/loop", "", 400),
                (f"{url}/file", "", 400),
                (f"file://{faas.home}/secret.zip", "", 400),
                (f"{faas.home}/secret.zip", "", 400),
                ("ftp://127.0.0.1/x.zip", "", 400), ("http://", "", 400),
                ("http://127.0.0.1:1/x.zip", "", 400),
                ("http://[::1/x.zip", "", 400), ("", "", 400),
                (f"{url}/ok.zip\r\nX: y", "", 400)]:
            reply = faas.post("/uploadURL", json.dumps({
                "name": "f", "env": "python3", "threads": 1, "url": path,
                "subfolder_path": subfolder}))
            assert reply.status == status, (path, reply.body)
    assert "Traceback" not in faas.output


# 10.3 Our own


def test_our_own_routes_tell_and_change_what_the_older_ones_cannot(server):
    faas = server()
    script(faas, "mine", "echo mine")

    def ask(method, path, value=None):
        body = b"" if value is None else json.dumps(value)
        reply = faas.request(method, "/-" + path, body)
        return json.loads(reply.body) if reply.status == 200 else reply.status

    def put(text, **more):
        bundle = zip_of({"fn.py": f"def fn(input): return {text!r}"})
        return ask("PUT", "/functions/f", {
            "bundle": base64.b64encode(bundle).decode(), **more})

    one = put("one", env={"KEY": "4711"}, timeout=2.5, threads=2)
    assert (one["version"], one["tongue"]) == (1, "python3")
    assert (one["env"], one["timeout"], one["threads"]) == (["KEY"], 2.5, 2)
    assert put("two")["version"] == 2
    assert put("two")["version"] == 2            # the same bytes again
    assert faas.post("/f").body == b"two"

    versions = ask("GET", "/functions/f/versions")
    assert [(v["number"], v["active"]) for v in versions] == [
        (2, True), (1, False)]
    assert ask("POST", "/functions/f/rollback", {"version": 1})["version"] == 1
    reply = faas.post("/f")
    assert (reply.body, reply.headers["X-Function-Version"]) == (b"one", "1")
    assert ask("POST", "/functions/f/rollback", {"version": 9}) == 404
    assert ask("GET", "/functions/nobody/versions") == 404
    assert ask("DELETE", "/functions/f") == 204
    assert faas.post("/f").status == 404
    assert ask("DELETE", "/functions/mine") == 409


def test_every_function_is_listed_wherever_it_came_from(server):
    faas = server()
    script(faas, "mine", "echo mine")
    (faas.functions / "folder").mkdir()
    (faas.functions / "folder" / "fn.sh").write_text("#!/bin/sh\necho f\n")
    faas.upload("up", ECHO)
    listed = json.loads(faas.get("/-/functions").body)
    assert [(fn["name"], fn["tongue"], fn["source"]) for fn in listed] == [
        ("folder", "binary", "folder"), ("mine", "script", "file"),
        ("up", "python3", "upload")]
    page = faas.get("/").body.decode()
    assert all(fn["name"] in page for fn in listed)


def test_executions_are_remembered_newest_first(server):
    faas = server()
    script(faas, "ok", "echo ok")
    script(faas, "bad", "exit 1")
    for name in "ok", "bad", "ok":
        faas.post("/" + name)
    done = json.loads(faas.get("/-/executions?limit=2").body)
    assert [(one["function"], one["status"], one["trigger"]) for one in done
            ] == [("ok", "ok", "http"), ("bad", "crashed", "http")]
    done = json.loads(faas.get("/-/functions/bad/executions").body)
    assert [one["error"] for one in done] == ["bad exited with status 1"]
    assert faas.get("/-/executions?limit=-1").status == 400


def test_run_is_a_call_in_the_name_of_the_command_line(server):
    faas = server()
    script(faas, "who", "echo $FAAS_TRIGGER; cat")
    assert faas.post("/-/functions/who/run", b"hi").body == b"cli\nhi"
    reply = faas.post("/-/functions/who/run?trigger=cron")
    assert reply.body == b"cron\n"


def test_a_function_may_have_any_name_that_is_no_path_of_ours(server):
    faas = server()
    for name in "hello.py", "a-b_c", "9", "x" * 64, "schedules", "Upload":
        assert faas.upload(name, ECHO).status == 200, name
        assert faas.post("/" + name, b"hi").body == b"hi"
    for name in faas_reserved():
        assert faas.upload(name, ECHO).status == 409, name


def faas_reserved():
    """Give the first parts of all fixed paths of the everything port.

    Of /fn only what is below it is a path of ours: rknizzle's readers call
    their first function just that.
    """
    return {route.path.split("/")[1] for route in faas.ROUTES} - {
        "", "-", "{name}", "fn"}


def test_a_function_called_fn_can_be_called(server):
    faas = server()
    assert faas.upload("fn", ECHO).status == 200
    for path in "/fn", "/invoke/fn", "/fn/fn":
        assert faas.post(path, b"hi").body == b"hi", path
    assert faas.post("/fn", b"hi", url=faas.data_url).body == b"hi"
    assert faas.post("/fn/other").status == 404     # FaaS-Go's: by its name
    assert json.loads(faas.post("/functions/fn", b"hi").body) == {
        "response": "hi"}


def test_the_data_port_serves_calls_and_nothing_else(server):
    faas = server()
    faas.upload("echo", ECHO)
    assert faas.post("/echo", b"hi", url=faas.data_url).body == b"hi"
    for method, path in [("GET", "/list"), ("POST", "/upload"),
                         ("POST", "/wipe"), ("GET", "/metrics"), ("GET", "/"),
                         ("GET", "/-/functions"), ("GET", "/logs/echo"),
                         ("POST", "/schedule/echo")]:
        reply = faas.request(method, path, b"", url=faas.data_url)
        assert reply.status in (400, 404), path
    assert faas.get("/list").body == b"echo\n"


# Parts


@pytest.mark.parametrize("value, good", [
    ({"n": 4}, 4), ({}, 1), ({"n": None}, 1), ({"n": "4"}, None),
    ({"n": True}, None), ({"n": [4]}, None), ({"n": 4.0}, None)])
def test_a_member_has_its_type_or_is_refused(value, good):
    try:
        found = faas.member(value, "n", int, 1)
    except FaasError as refusal:
        assert refusal.kind == "bad_input"
        found = None
    assert found == good


def test_base64_may_be_wrapped_as_base64_1_does():
    text = base64.encodebytes(zip_of(ECHO)).decode()
    assert "\n" in text[:-1]
    assert faas.decode_bundle(text)["fn.py"].data == ECHO["fn.py"].encode()


def test_a_tar_gz_is_as_good_as_a_zip(server):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as bundle:
        for name, text in ECHO.items():
            info = tarfile.TarInfo("./" + name)
            info.size = len(text)
            bundle.addfile(info, io.BytesIO(text.encode()))
    faas = server()
    assert faas.upload("echo", packed.getvalue()).status == 200
    assert faas.post("/echo", b"hi").body == b"hi"


def test_every_route_leads_to_a_function_of_this_book():
    for route in faas.ROUTES:
        assert getattr(faas, route.handler.__name__) is route.handler
        assert route.what and route.face


def test_no_path_of_ours_takes_away_a_functions_name():
    for route in faas.ROUTES:
        first = route.path.split("/")[1]
        assert first in ("", "-", "{name}", "fn") or first in faas.RESERVED
    assert "/fn" not in {route.path for route in faas.ROUTES}
