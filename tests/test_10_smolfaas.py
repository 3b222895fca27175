"""Chapters 10.2 and 10.4: the same names, called as two others call them."""

import http.server
import io
import json
import os
import shutil
import subprocess
import threading
import zipfile

import pytest
from conftest import eventually, zip_of


def need(program, package):
    """Skip a test whose program is not here."""
    if not shutil.which(program):
        pytest.skip(f"this needs {program}: apt install {package}")


# 10.4 SmolFaaS. Its functions are servers; this one says what it was asked.

PYTHON = """
import http.server, json, os

class Mirror(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        size = int(self.headers.get("Content-Length") or 0)
        said = json.dumps({
            "method": self.command, "path": self.path,
            "headers": dict(self.headers),
            "body": self.rfile.read(size).decode()}).encode()
        self.send_response(203)
        self.send_header("X-Own", "mine")
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer
    do_PATCH = do_OPTIONS = do_PURGE = answer

http.server.ThreadingHTTPServer(
    ("127.0.0.1", int(os.environ["PORT"])), Mirror).serve_forever()
"""

NODE = """
require("http").createServer((req, res) => {
  res.setHeader("Content-Type", "application/json");
  res.end(JSON.stringify({by: "node", path: req.url}));
}).listen(process.env.PORT);
"""

GO = """package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "{\\"by\\": \\"go\\", \\"path\\": %q}", r.URL.String())
	})
	http.ListenAndServe(":"+os.Getenv("PORT"), nil)
}
"""

PROJECT = '[project]\nname = "mirror"\nversion = "1"\ndependencies = []\n'


def folder(faas, name, **files):
    """Put a folder into functions/: main_py="..." is its file main.py."""
    made = faas.functions / name
    made.mkdir()
    for path, text in files.items():
        (made / path.replace("_", ".")).write_text(text)
    return made


@pytest.fixture(scope="module")
def mirror(module_server):
    """A server, with a function that says what it was asked."""
    faas = module_server()
    folder(faas, "mirror", main_py=PYTHON, requirements_txt="")
    return faas


def test_a_function_sees_the_path_slash_and_the_query_as_it_was_sent(mirror):
    for path, seen in {
            "/invoke/mirror": "/", "/invoke/mirror?": "/",
            "/invoke/mirror?zone=utc&a=%20b+c": "/?zone=utc&a=%20b+c",
            "/invoke/%6Dirror?x": "/?x"}.items():
        assert json.loads(mirror.get(path).body)["path"] == seen


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH",
                                    "OPTIONS", "PURGE"])
def test_every_method_passes_with_body_status_and_headers(mirror, method):
    reply = mirror.request(method, "/invoke/mirror", b"h\xc3\xb6",
                           {"Lab": "group", "Content-Type": "text/plain"})
    said = json.loads(reply.body)
    assert (reply.status, said["method"], said["body"]) == (203, method, "hö")
    assert (said["headers"]["Lab"], said["headers"]["Content-Type"]) == (
        "group", "text/plain")
    assert reply.headers["X-Own"] == "mine"
    assert reply.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert reply.headers["Content-Type"] == "application/json"


def test_head_has_the_headers_and_no_body(mirror):
    reply = mirror.request("HEAD", "/invoke/mirror")
    assert (reply.status, reply.body) == (203, b"")
    assert int(reply.headers["Content-Length"]) > 0


def test_one_call_after_another_is_answered(mirror):
    for number in range(6):
        reply = mirror.post("/invoke/mirror", str(number).encode())
        assert (reply.status, json.loads(reply.body)["body"]) == (
            203, str(number))


def test_a_function_is_told_who_asked_and_how(mirror):
    said = json.loads(mirror.get("/invoke/mirror", headers={
        "Host": "fn.localhost:8080", "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
        ).body)["headers"]
    assert said["X-Forwarded-For"] == "127.0.0.1"       # not what was claimed
    assert said["X-Forwarded-Proto"] == "http"
    assert said["X-Forwarded-Host"] == "fn.localhost:8080"


def test_only_the_exact_path_is_a_call(mirror):
    for path in "/invoke/mirror/", "/invoke/mirror/sub", "/invoke/", \
            "/invoke", "/INVOKE/mirror", "/invoke/nobody", "/health/x":
        reply = mirror.get(path, headers={"Host": "fn.localhost"})
        assert reply.status == 404, path
        assert reply.body
    assert mirror.get("/invoke/mirror%2Fsub").status == 400
    # The path of our own passes the rest on, as FaaS-Go's does.
    assert json.loads(mirror.get("/mirror/sub?a").body)["path"] == "/sub?a"


def test_names_have_case(server):
    faas = server()
    folder(faas, "Mirror", main_py=PYTHON, requirements_txt="")
    assert faas.get("/invoke/Mirror").status == 203
    assert faas.get("/invoke/mirror").status == 404


def test_a_file_and_an_upload_can_be_invoked_too(server):
    faas = server()
    (faas.functions / "hi").write_text("#!/bin/sh\necho hi $QUERY_STRING\n")
    (faas.functions / "hi").chmod(0o755)
    assert faas.get("/invoke/hi?you").body == b"hi you\n"
    faas.upload("echo", {"fn.py": "def fn(input, headers):\n"
                         "    return headers['X-Faas-Path'] + input\n"})
    assert faas.post("/invoke/echo", b"hi").body == b"/hi"


@pytest.mark.parametrize("host, words", [
    ("fn.localhost", b"SmolFaaS Router OK"),
    ("fn.localhost:8080", b"SmolFaaS Router OK"),
    ("FN.localhost", b"SmolFaaS Router OK"),
    ("localhost", b"OK\n"), ("localhost:8080", b"OK\n"),
    ("127.0.0.1", b"OK\n"), ("fn.localhost.example", b"OK\n")])
def test_health_is_the_routers_for_the_routers_visitors(mirror, host, words):
    reply = mirror.get("/health", headers={"Host": host})
    assert (reply.status, reply.body) == (200, words)


def test_the_routers_host_is_this_machine(server):
    faas = server()
    for host in "fn.localhost", "fn.localhost:8080", "FN.LOCALHOST":
        assert faas.get("/list", headers={"Host": host}).status == 200
        assert faas.get("/list", headers={
            "Host": host, "Origin": "http://evil.example"}).status == 403
    for host in "fn.localhost.example", "fnlocalhost":
        assert faas.get("/list", headers={"Host": host}).status == 403


# Its markers


def test_a_folder_is_recognised_by_its_markers(server):
    need("node", "nodejs")
    faas = server()
    folder(faas, "project", main_py=PYTHON, pyproject_toml=PROJECT)
    folder(faas, "wants", main_py=PYTHON, requirements_txt="# nothing\n")
    folder(faas, "node", index_js=NODE, package_json='{"name": "node"}')
    assert faas.get("/invoke/project").status == 203
    assert faas.get("/invoke/wants").status == 203
    assert json.loads(faas.get("/invoke/node?a").body) == {
        "by": "node", "path": "/?a"}
    assert {fn["name"]: fn["tongue"] for fn in json.loads(
        faas.get("/-/functions").body)} == {
            "project": "server", "wants": "server", "node": "server"}


def test_go_comes_before_node_and_node_before_python(server):
    need("node", "nodejs")
    need("go", "golang-go")
    faas = server()
    python = {"main_py": PYTHON, "requirements_txt": ""}
    node = {"index_js": NODE, "package_json": '{"name": "node"}'}
    go = {"main_go": GO, "go_mod": "module mirror\n\ngo 1.18\n"}
    folder(faas, "three", **python, **node, **go)
    folder(faas, "two", **python, **node)
    assert json.loads(faas.get("/invoke/three?a", timeout=200).body) == {
        "by": "go", "path": "/?a"}
    assert json.loads(faas.get("/invoke/two").body)["by"] == "node"


def test_a_handler_in_a_folder_with_its_markers_is_no_server(server):
    faas = server()
    folder(faas, "f", requirements_txt="", main_py="def handler(ctx, event):\n"
           "    return {'statusCode': 202, 'body': event['relativePath']}\n")
    reply = faas.get("/invoke/f?a=1")
    assert (reply.status, reply.body) == (202, b"/")


def test_a_dockerfile_alone_is_told_in_one_sentence(server):
    faas = server()
    folder(faas, "boxed", Dockerfile="FROM alpine\n", app_rb="")
    folder(faas, "both", Dockerfile="FROM python\n", main_py=PYTHON,
           requirements_txt="")
    reply = faas.get("/invoke/boxed")
    assert (reply.status, reply.body.count(b"\n")) == (400, 1)
    assert reply.body.startswith(b"a Dockerfile needs a container engine")
    assert faas.get("/invoke/both").status == 203


def test_a_folder_without_a_marker_is_told_which_there_are(server):
    faas = server()
    folder(faas, "bare", requirements_txt="")
    reply = faas.get("/invoke/bare")
    assert (reply.status, reply.body.count(b"\n")) == (400, 1)
    for marker in b"go.mod", b"package.json", b"pyproject.toml and main.py":
        assert marker in reply.body


def test_its_settings_file_does_no_harm(server):
    faas = server()
    made = folder(faas, "mirror", main_py=PYTHON, pyproject_toml=PROJECT)
    (made / ".smolfaas.json").write_text('{"runtime_version": "3.11"}')
    assert faas.get("/invoke/mirror").status == 203
    (made / ".smolfaas.json").write_text("{")
    assert faas.get("/invoke/mirror").status == 203
    assert [one["number"] for one in json.loads(
        faas.get("/-/functions/mirror/versions").body)] == [1]


def test_a_build_script_is_run_before_the_first_start(server):
    need("node", "nodejs")
    need("npm", "npm")
    faas = server()
    made = folder(faas, "built", make_js="require('fs').writeFileSync("
                  "'index.js', require('fs').readFileSync('source'));",
                  package_json='{"name": "built", "scripts": '
                  '{"build": "node make.js"}}')
    (made / "source").write_text(NODE)
    assert json.loads(faas.get("/invoke/built?a", timeout=120).body) == {
        "by": "node", "path": "/?a"}
    (made / "source").write_text(NODE.replace("node", "edit"))
    (made / "make.js").write_text("process.exit(7)")
    assert json.loads(faas.get("/invoke/built", timeout=120).body)[
        "by"] == "node"
    note = json.loads(faas.get("/-/functions").body)[0]["note"]
    assert "the build script of package.json failed" in note


def test_an_edit_serves_at_the_next_call(mirror):
    path = folder(mirror, "edited", main_py=PYTHON, requirements_txt="")
    assert mirror.get("/invoke/edited").status == 203
    (path / "main.py").write_text(PYTHON.replace("203", "207"))
    assert mirror.get("/invoke/edited").status == 207
    (path / "main.py").write_text("this is no Python")
    assert mirror.get("/invoke/edited").status == 207   # the last that worked


def test_who_listens_on_8000_whatever_port_says_is_told(server):
    faas = server()
    folder(faas, "deaf", requirements_txt="",
           main_py=PYTHON.replace('int(os.environ["PORT"])', "0"))
    reply = faas.get("/invoke/deaf")
    assert reply.status == 400
    assert reply.body.count(b"\n") == 1
    assert b"not on the one that the variable PORT names" in reply.body


# 10.2 tinyFaaS. The functions of its test suite, written anew, and the lines
# of its scripts.

ECHO = {"fn.py": "import typing\n\n\n"
        "def fn(input: typing.Optional[str],\n"
        "       headers: typing.Optional[typing.Dict[str, str]]\n"
        "       ) -> typing.Optional[str]:\n    return input\n",
        "requirements.txt": ""}
PACKAGE = '{"name": "fn", "version": "1.0.0", "main": "index.js"}'
ECHO_JS = {"index.js": "module.exports = (req, res) => {\n"
           "  console.log(req.headers, req.body);\n"
           "  res.send(req.body);\n};\n", "package.json": PACKAGE}
SIEVE = {"index.js": """module.exports = (req, res) => {
  const max = 10000, composite = [];
  let count = 0;
  for (let i = 2; i <= max; i++) {
    if (composite[i]) continue;
    count++;
    for (let j = i * i; j <= max; j += i) composite[j] = true;
  }
  said = "Found " + count + " primes under " + max;     // global, as there
  console.log(said);
  res.send(said + "\\n");
};
""", "package.json": PACKAGE}
ECHO_BINARY = {"fn.sh": "#!/bin/sh\nINPUT=$(cat)\nprintf %s \"$INPUT\"\n"}
HEADERS = {"fn.py": "import json\n\n\ndef fn(input, headers):\n"
           "    return json.dumps(headers)\n", "requirements.txt": ""}
HEADERS_JS = {"index.js": "module.exports = (req, res) => {\n"
              "  res.send(req.headers);\n};\n", "package.json": PACKAGE}
HELLO_GO = {"fn.go": """package main

import "fmt"

func fn(data string, headers map[string]string) (string, error) {
	return "Hello, " + data + " from " + fmt.Sprint(headers["Lab"]), nil
}
""", "go.mod": "module main\n\ngo 1.18"}

SCRIPTS = {     # with another address in the place of localhost:8080
    "upload": "cd $1; curl -s $AT/upload --data \"{\\\"name\\\": \\\"$2\\\", "
    "\\\"env\\\": \\\"$3\\\", \\\"threads\\\": $4, \\\"zip\\\": "
    "\\\"$(zip -r - ./* | base64 | tr -d '\\n')\\\"}\"",
    "uploadURL": "curl -s $AT/uploadURL --data \"{\\\"name\\\": \\\"$3\\\", "
    "\\\"env\\\": \\\"$4\\\",\\\"threads\\\": $5,\\\"url\\\": \\\"$1\\\","
    "\\\"subfolder_path\\\": \\\"$2\\\"}\"",
    "list": "curl -s $AT/list",
    "logs": "curl -s $AT/logs",
    "delete": "curl -s $AT/delete --data \"{\\\"name\\\": \\\"$1\\\"}\"",
    "wipe": 'curl -s $AT/wipe --data ""'}


class Tiny:
    """A server, and tinyFaaS's scripts in a folder of its test functions."""

    def __init__(self, faas, home):
        self.faas, self.home = faas, home

    def type(self, script, *arguments):
        """Run one of its scripts; what it prints is the answer."""
        done = subprocess.run(
            ["bash", "-ec", SCRIPTS[script], script, *arguments],
            cwd=self.home, env=os.environ | {"AT": self.faas.url},
            capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def upload(self, name, files, env, threads=1):
        (self.home / name).mkdir(exist_ok=True)
        for path, text in files.items():
            (self.home / name / path).write_text(text)
        return self.type("upload", name, name, env, str(threads))

    def call(self, name, body=None, **headers):
        """Call on the second port, as urllib does: GET, or POST a form."""
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        return self.faas.request("GET" if body is None else "POST",
                                 "/" + name, body, headers,
                                 url=self.faas.data_url)


@pytest.fixture
def tiny(server, tmp_path):
    """tinyFaaS's two ports, and its scripts."""
    for program in "curl", "zip", "base64":
        need(program, "coreutils" if program == "base64" else program)
    return Tiny(server(), tmp_path)


@pytest.mark.parametrize("env, files", [
    ("python3", ECHO), ("nodejs", ECHO_JS), ("binary", ECHO_BINARY)])
def test_its_echo_functions_give_back_what_they_are_given(tiny, env, files):
    if env == "nodejs":
        need("node", "nodejs")
    assert tiny.upload("echo", files, env) == (
        f"{tiny.faas.data_url}/echo\n")
    for body in b"Hello World!", "grüß Gott ☃".encode(), b'{"a": "b=c&d"}':
        reply = tiny.call("echo", body)
        assert (reply.status, reply.body) == (200, body)
    assert tiny.call("echo")[::2] == (200, b"")


def test_its_sieve_finds_1229_primes_at_once_and_later(tiny):
    need("node", "nodejs")
    tiny.upload("sieve", SIEVE, "nodejs", 4)
    assert tiny.call("sieve")[::2] == (
        200, b"Found 1229 primes under 10000\n")
    assert tiny.call("sieve", **{"X-tinyFaaS-Async": "true"})[::2] == (
        202, b"")
    # What nobody waits for is in the log: how it ended, and its answer.
    eventually(lambda: tiny.type("logs").rstrip().endswith("[ok]"))
    assert tiny.type("logs").count("Found 1229 primes under 10000\n") == 3


@pytest.mark.parametrize("env, files, lab, agent", [
    ("python3", HEADERS, "Lab", "User-Agent"),
    ("nodejs", HEADERS_JS, "lab", "user-agent")])
def test_headers_are_spelled_as_each_language_spells_them(
        tiny, env, files, lab, agent):
    if env == "nodejs":
        need("node", "nodejs")
    tiny.upload("headers", files, env)
    said = json.loads(tiny.call("headers", **{
        "lab": "scalable_software", "User-agent": "Python-urllib/3.11"}).body)
    assert (said[lab], said[agent]) == (
        "scalable_software", "Python-urllib/3.11")


def test_a_go_function_greets_and_one_that_does_not_compile_is_refused(tiny):
    need("go", "golang-go")
    assert tiny.upload("hello", HELLO_GO, "go") == (
        f"{tiny.faas.data_url}/hello\n")
    assert tiny.call("hello", b"Pi", lab="group").body == (
        b"Hello, Pi from group")
    said = tiny.upload("hello", {**HELLO_GO, "fn.go": HELLO_GO[
        "fn.go"].replace("data +", "date +")}, "go")
    assert "undefined: date" in said
    assert tiny.call("hello", b"Pi").body == b"Hello, Pi from "


def test_its_list_logs_delete_and_wipe_work_line_by_line(tiny):
    assert tiny.type("list") == tiny.type("wipe") == tiny.type("logs") == ""
    tiny.upload("one", {"fn.sh": "#!/bin/sh\necho heard >&2\n"}, "binary")
    tiny.upload("two", ECHO, "python3")
    assert sorted(tiny.type("list").split("\n")) == ["", "one", "two"]
    tiny.call("one")
    assert tiny.type("logs").splitlines()[0].startswith(
        "function=one handler=one 2")
    assert " heard\n" in tiny.type("logs")
    assert tiny.type("delete", "one") == ""
    assert tiny.type("list") == "two\n"
    assert tiny.type("delete", "one") == (
        "one is not among the uploaded functions\n")
    assert tiny.type("wipe") == ""
    assert tiny.type("list") == ""
    assert tiny.call("two").status == 404


@pytest.fixture
def web():
    """A web server with one zip, at /archive/main.zip."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as bundle:
        bundle.writestr("repo-main/", "")       # as GitHub's archives begin
        bundle.writestr("repo-main/README.md", "hi")
        for path, text in ECHO.items():
            bundle.writestr(f"repo-main/fns/echo/{path}", text)

    class Web(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/archive/main.zip"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(packed.getvalue() if found else b"no such zip")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}/archive/"
        listener.shutdown()


def test_a_function_comes_from_the_web_by_its_script(tiny, web):
    assert tiny.type("uploadURL", web + "main.zip", "repo-main/fns/echo",
                     "echo", "python3", "1") == (
        f"{tiny.faas.data_url}/echo\n")
    assert tiny.call("echo", b"hi").body == b"hi"
    said = tiny.type("uploadURL", web + "other.zip", "", "other", "python3",
                     "1")
    assert "answers 404" in said
    said = tiny.type("uploadURL", web + "main.zip", "nowhere", "other",
                     "python3", "1")
    assert "a python3 function needs at its top: fn.py" in said
    assert tiny.type("list") == "echo\n"


def test_its_test_suite_may_look_for_a_start_on_both_ports(tiny):
    for url in tiny.faas.url, tiny.faas.data_url:
        assert 200 <= tiny.faas.get("/", url=url).status < 500


def test_an_id_is_taken_wherever_a_name_is(tiny):
    tiny.upload("echo", ECHO, "python3")
    key = (tiny.faas.data / "api_key").read_text()
    ident = json.loads(tiny.faas.get("/api/functions", headers={
        "Authorization": "Bearer " + key}).body)["functions"][0]["id"]
    assert tiny.call(ident, b"hi").body == b"hi"
    assert tiny.faas.post("/invoke/" + ident, b"hi").body == b"hi"
    assert json.loads(tiny.faas.post("/functions/" + ident, b"hi").body) == {
        "response": "hi"}
    assert tiny.faas.get("/logs?name=" + ident).status == 200
    # Nobody can take an id as the name of another function.
    reply = tiny.faas.upload(ident, zip_of(ECHO))
    assert reply.status == 409
    assert b"is the id of echo" in reply.body
    assert tiny.type("delete", ident) == ""
    assert tiny.type("list") == ""
    assert tiny.call(ident, b"hi").status == 404
