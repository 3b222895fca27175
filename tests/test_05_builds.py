"""Chapter 5.11: what a function needs is fetched and built when deployed.

The packages are made here, and named by their paths, so that no test needs
a network; but for one, which asks the registry of npm for a small package.
A build tells that it ran by a line in a file outside of its folder.
"""

import base64
import concurrent.futures
import contextlib
import importlib.util
import json
import os
import signal
import subprocess

import pytest
from conftest import Server, eventually, zip_of

from faas import PACKAGES, PROGRAM, FaasError, Item, Platform, find_tool


def needs(*tool):
    """Give a mark that skips with the package of a missing program."""
    try:
        find_tool(*tool)
        return pytest.mark.skipif(False, reason="it is here")
    except FaasError as error:
        return pytest.mark.skipif(True, reason=str(error))


needs_npm = needs("node", "npm", "npm")
needs_go = needs("go")
needs_pip = pytest.mark.skipif(
    not importlib.util.find_spec("pip"),
    reason="pip is missing: apt install python3-pip")


@pytest.fixture(scope="module")
def faas(tmp_path_factory):
    """One server for all; its Go compiler has nobody to fetch from."""
    faas = Server(tmp_path_factory.mktemp("builds"), [], {"GOPROXY": "off"})
    try:
        faas.wait_until_ready()
        yield faas
        faas.stop()
    finally:
        faas.kill()


def deploy(faas, name, files, tongue=""):
    """Deploy {path: text or bytes}; a first build may take its time."""
    bundle = base64.b64encode(zip_of(files)).decode()
    return faas.request("PUT", f"/-/functions/{name}", json.dumps(
        {"bundle": bundle, "tongue": tongue}), timeout=300)


def deployed(faas, name, files, tongue=""):
    answer = deploy(faas, name, files, tongue)
    assert answer.status == 200, answer.body.decode()
    return json.loads(answer.body)


def refused(faas, name, files, tongue=""):
    """See that a deploy is a 400 that leaves nothing; give its text."""
    answer = deploy(faas, name, files, tongue)
    assert answer.status == 400
    assert faas.post(f"/{name}").status == 404
    assert not (faas.data / "shelf" / name).exists()
    return answer.body.decode()


def folders(faas, name):
    """Give the names of what lies on the shelf for a function."""
    place = faas.data / "shelf" / name
    return set(os.listdir(place)) if place.exists() else set()


# pip

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


WHEEL = "demo-1.0-py3-none-any.whl"

SAYS_VERSION = {
    "python3": {"fn.py": "import demo\ndef fn(input): return demo.version\n"},
    "python": {"main.py": "import demo\n\ndef handler(ctx, event):\n"
                          "    return {'body': demo.version}\n"},
    "server": {"main.py": """
import http.server
import os

import demo

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(demo.version.encode())
    do_GET = do_POST

http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])),
                       Handler).serve_forever()
"""}}


@needs_pip
@pytest.mark.parametrize("tongue", SAYS_VERSION)
def test_requirements_are_installed_for_all_that_is_python(faas, tongue):
    fn = deployed(faas, f"requires-{tongue}", {
        "requirements.txt": f"# ours\n./{WHEEL}\n", WHEEL: wheel("1.0"),
        **SAYS_VERSION[tongue]})
    assert fn["tongue"] == tongue
    assert faas.post(f"/requires-{tongue}").body == b"1.0"
    folder = faas.data / "shelf" / fn["name"] / fn["digest"]
    assert (folder / PACKAGES / "demo.py").exists()


@needs_pip
@pytest.mark.parametrize("tongue", ["python3", "server"])
def test_a_projects_dependencies_are_installed(faas, tongue, tmp_path):
    (tmp_path / WHEEL).write_bytes(wheel("1.0"))
    fn = deployed(faas, f"project-{tongue}", {
        "pyproject.toml": "[project]\nname = 'it'\nversion = '1'\n"
                          f"dependencies = ['demo @ file://{tmp_path}/"
                          f"{WHEEL}']\n",
        **SAYS_VERSION[tongue]})
    assert fn["tongue"] == tongue
    assert faas.post(f"/project-{tongue}").body == b"1.0"


@needs_pip
def test_what_pip_cannot_find_is_in_the_400(faas):
    said = refused(faas, "missing", {
        "requirements.txt": f"./{WHEEL}\n", **SAYS_VERSION["python3"]})
    assert "requirements.txt could not be installed" in said and WHEEL in said


@pytest.mark.parametrize("text", ["[project", "project = 5\n",
                                  "[project]\ndependencies = 5\n"], ids=[
    "no TOML", "no table", "no list"])
def test_a_pyproject_that_cannot_be_read_is_a_400(faas, text):
    said = refused(faas, "toml", {"pyproject.toml": text,
                                  **SAYS_VERSION["server"]})
    assert "pyproject.toml cannot be read: " in said


# npm

PARROT = ("const say = require('parrot');\n"
          "module.exports = (req, res) => res.send(say(req.body));\n")
LIBRARY = {"lib/package.json": '{"name": "parrot", "version": "1.0.0"}',
           "lib/index.js": "module.exports = (it) => it + ', it says';\n"}
PACKAGE = {"name": "fn", "dependencies": {"parrot": "file:./lib"}}
LOCK = {"name": "fn", "lockfileVersion": 3, "requires": True, "packages": {
    "": {"name": "fn", "dependencies": {"parrot": "file:./lib"}},
    "lib": {"name": "parrot", "version": "1.0.0"},
    "node_modules/parrot": {"resolved": "lib", "link": True}}}


def parrot(package=PACKAGE, **more):
    return {"package.json": json.dumps(package), "index.js": PARROT,
            **LIBRARY, **more}


@needs_npm
def test_the_packages_of_a_package_json_are_installed(faas):
    fn = deployed(faas, "parrot", parrot())
    assert fn["tongue"] == "nodejs"
    assert faas.post("/parrot", b"hi").body == b"hi, it says"


@needs_npm
def test_a_node_function_and_a_server_have_packages_too(faas):
    fn = deployed(faas, "parrot-node", {**parrot(), "fn.yaml": "", "index.js":
                  "module.exports = (context, cb) =>"
                  " cb(require('parrot')(context.a));\n"})
    assert fn["tongue"] == "node"
    assert faas.post("/parrot-node", b'{"a":"hi"}').body == b'"hi, it says"'
    fn = deployed(faas, "parrot-server", {**parrot({
        **PACKAGE, "name": "web"}), "index.js":
        "require('http').createServer((req, res) => res.end(\n"
        "  require('parrot')(req.method))).listen(process.env.PORT);\n"})
    assert fn["tongue"] == "server"
    assert faas.post("/parrot-server").body == b"POST, it says"


@needs_npm
def test_a_lock_file_is_obeyed_to_the_letter(faas):
    lock = {"package-lock.json": json.dumps(LOCK)}
    deployed(faas, "locked", parrot(**lock))
    assert faas.post("/locked", b"hi").body == b"hi, it says"
    # `npm install` would add what the lock file lacks; `npm ci` refuses.
    said = refused(faas, "unlocked", parrot({
        **PACKAGE, "dependencies": {**PACKAGE["dependencies"],
                                    "other": "file:./lib"}}, **lock))
    assert "package.json could not be installed" in said
    assert "npm ci" in said and "in sync" in said


@needs_npm
def test_a_package_from_the_registry_is_installed(faas):
    with contextlib.suppress(subprocess.TimeoutExpired):
        found = subprocess.run(
            [find_tool("node", "npm", "npm"), "view", "is-number@7.0.0",
             "version"], capture_output=True, timeout=60)
        if found.returncode == 0:
            deployed(faas, "registry", {
                "package.json": '{"name": "fn", "dependencies": '
                                '{"is-number": "7.0.0"}}',
                "index.js": "const isNumber = require('is-number');\n"
                            "module.exports = (req, res) =>"
                            " res.json(isNumber(req.body));\n"})
            assert faas.post("/registry", b"12").body == b"true"
            assert faas.post("/registry", b"no").body == b"false"
            return
    pytest.skip("npm finds no registry: connect this machine to one")


@needs_npm
def test_what_npm_cannot_find_is_in_the_400(faas):
    said = refused(faas, "lost", {
        "package.json": '{"name": "fn", "dependencies": '
                        '{"parrot": "file:./nowhere.tgz"}}',
        "index.js": PARROT})
    assert "package.json could not be installed (npm exited with" in said
    assert "nowhere.tgz" in said


@needs_npm
def test_what_a_build_script_makes_is_there_when_it_starts(faas):
    deployed(faas, "built", {
        "package.json": json.dumps({"name": "fn", "scripts": {
            "build": "echo \"module.exports = 'made'\" > made.js"}}),
        "index.js": "const made = require('./made.js');\n"
                    "module.exports = (req, res) => res.send(made);\n"})
    assert faas.post("/built").body == b"made"


@needs_npm
def test_a_build_script_that_fails_is_in_the_400(faas):
    said = refused(faas, "unbuilt", {
        "package.json": json.dumps({"name": "fn", "scripts": {
            "build": "echo line 7 is wrong; exit 3"}}),
        "index.js": PARROT})
    assert "the build script of package.json failed" in said
    assert "line 7 is wrong" in said


@pytest.mark.parametrize("text", ["{", "[]", '{"scripts": 5}', "\x00"])
def test_a_package_json_that_cannot_be_read_is_a_400(faas, text):
    said = refused(faas, "odd", {"package.json": text, "index.js": PARROT},
                   "nodejs")
    assert "package.json cannot be read: " in said


# go

FN_GO = """package main

import "example.com/words"

func fn(data string, headers map[string]string) (string, error) {
	return words.Greet(data), nil
}
"""

WORDS = {"words/go.mod": "module example.com/words\n\ngo 1.18\n",
         "words/words.go": "package words\n\n"
                           "func Greet(name string) string {\n"
                           '\treturn "hello " + name\n}\n'}

GO_MOD = """module main

go 1.18

require example.com/words v0.0.0

replace example.com/words => ./words
"""


@needs_go
def test_a_go_module_beside_a_function_is_built_with_it(faas):
    fn = deployed(faas, "words", {"fn.go": FN_GO, "go.mod": GO_MOD, **WORDS})
    assert fn["tongue"] == "go"
    assert faas.post("/words", b"you").body == b"hello you"
    folder = faas.data / "shelf" / "words" / fn["digest"]
    assert os.access(folder / PROGRAM, os.X_OK)
    assert set(os.listdir(folder)) == {"fn.go", "go.mod", "words", PROGRAM,
                                       "faas_main.go"}


PLAIN = """package main

func fn(data string, headers map[string]string) (string, error) {
	return data, nil
}
"""


@needs_go
@pytest.mark.parametrize("text, said", [
    (PLAIN.replace("return data,", "return date,"),
     ["go build failed", "fn.go:4:", "undefined: date"]),
    (PLAIN.replace("return data,", "return data, 5,"),
     ["go build failed", "fn.go:4:", "too many return values"]),
    (PLAIN.replace("package main", "package fn"),
     ["fn.go must be of package main"]),
    (PLAIN.replace("func fn", "func handler"),
     ["define func fn(data string", "undefined: fn"]),
    (PLAIN.replace(", headers map[string]string", ""),
     ["define func fn(data string"]),
    (PLAIN + "\nfunc main() {}\n", ["define no main", "main redeclared"]),
    (PLAIN.replace('package main', 'package main\n\nimport "example.com/no"'),
     ["go mod tidy failed", "example.com/no"]),
    ("func {", ["fn.go:1:"])], ids=[
        "a typo", "three values", "another package", "no fn", "one argument",
        "a main", "no such module", "no Go"])
def test_what_does_not_compile_is_a_400_with_its_line(faas, text, said):
    answer = refused(faas, "uncompiled", {"fn.go": text})
    for words in said:
        assert words in answer


@needs_go
def test_a_redeploy_that_does_not_compile_leaves_the_old_program(faas):
    first = deployed(faas, "lasting", {"fn.go": PLAIN})
    answer = deploy(faas, "lasting", {"fn.go": PLAIN + "oops\n"})
    assert answer.status == 400 and b"fn.go:" in answer.body
    assert faas.post("/lasting", b"still here").body == b"still here"
    assert folders(faas, "lasting") == {first["digest"]}


# Where a tool is missing


@pytest.mark.parametrize("files, package", [
    ({"fn.yaml": "", "index.js": ""}, "nodejs"),
    ({"package.json": '{"name": "fn"}', "index.js": ""}, "nodejs"),
    ({"package.json": '{"name": "web"}', "index.js": ""}, "nodejs"),
    (parrot(), "npm"), ({"fn.go": PLAIN}, "golang-go"),
    ({"go.mod": "module main\n", "main.go": ""}, "golang-go"),
    ({"main.lua": "function handler() end"}, "luajit")], ids=[
        "node", "nodejs", "server in Node", "npm", "go", "server in Go",
        "lua"])
def test_a_missing_tool_is_a_400_that_names_its_package(
        tmp_path, monkeypatch, files, package):
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    bundle = {path: Item(text.encode()) for path, text in files.items()}
    with Platform(tmp_path.as_posix()) as platform:
        with pytest.raises(FaasError, match=f"apt install {package}$") as no:
            platform.deploy("it", bundle)
        assert no.value.kind == "bad_input"
        assert not (tmp_path / "data" / "shelf" / "it").exists()


# Once per digest


@pytest.fixture
def builds(tmp_path):
    """A file to which each build adds a line, and how to count them."""
    class Builds:
        path = tmp_path / "builds"

        def count(self):
            return len(self.path.read_text().splitlines())
    return Builds()


def versioned(builds, text, then="true"):
    """Make a nodejs bundle that says `text`, and whose build is counted."""
    return {"package.json": json.dumps({"name": "fn", "scripts": {
                "build": f"echo {text} >> '{builds.path}'; {then}; "
                         f"echo {text} > made"}}),
            "index.js": "const made = require('fs').readFileSync('made');\n"
                        "module.exports = (req, res) => res.send("
                        "made.toString());\n"}


@needs_npm
def test_a_digest_is_built_once(faas, builds):
    for text, version, count in (("one", 1, 1), ("one", 1, 1), ("two", 2, 2),
                                 ("two", 2, 2), ("one", 1, 2)):
        fn = deployed(faas, "once", versioned(builds, text))
        assert (fn["version"], builds.count()) == (version, count)
        assert faas.post("/once").body == text.encode() + b"\n"
    assert len(folders(faas, "once")) == 2


@needs_npm
def test_a_rollback_builds_nothing(faas, builds):
    for text in "one", "two":
        deployed(faas, "back", versioned(builds, text))
    for number, body in (1, b"one\n"), (2, b"two\n"):
        answer = faas.post("/-/functions/back/rollback",
                           json.dumps({"version": number}))
        assert answer.status == 200 and faas.post("/back").body == body
    assert builds.count() == 2


@needs_npm
def test_a_build_that_fails_leaves_what_was_built_before(faas, builds):
    first = deployed(faas, "keeps", versioned(builds, "one"))
    answer = deploy(faas, "keeps", versioned(builds, "two", "exit 1"))
    assert answer.status == 400 and builds.count() == 2
    assert faas.post("/keeps").body == b"one\n"
    assert folders(faas, "keeps") == {first["digest"]}
    # And it is tried again, when it comes again.
    deploy(faas, "keeps", versioned(builds, "two", "exit 1"))
    assert builds.count() == 3


@needs_npm
@pytest.mark.parametrize("before", [[], ["one"]], ids=["first", "second"])
def test_a_kill_in_the_middle_of_a_build_leaves_no_version(
        server, builds, tmp_path, before):
    faas = server()
    kept = {deployed(faas, "cut", versioned(builds, text))["digest"]
            for text in before}
    shell = tmp_path / "shell"
    slow = versioned(builds, "two", f"echo $$ > '{shell}'; sleep 300")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(deploy, faas, "cut", slow)
        pid = int(eventually(lambda: shell.exists() and shell.read_text()))
        try:
            assert folders(faas, "cut") > kept      # It is being built,
            faas.kill()                             # and the power is cut.
            with pytest.raises(OSError):
                answer.result()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(os.getpgid(pid), signal.SIGKILL)
    faas = server(home=faas.home)
    assert folders(faas, "cut") == kept
    answer = faas.post("/cut")
    assert (answer.status, answer.body) == (
        (200, b"one\n") if before else (404, answer.body))
    assert deployed(faas, "cut", versioned(builds, "two"))["version"] == (
        len(before) + 1)
    assert faas.post("/cut").body == b"two\n"


@pytest.mark.parametrize("text, sentence", [
    ('dependencies = "requests"', b"must be a list of packages"),
    ('dependencies = ["--target=/tmp"]', b"must be a list of packages"),
    ("a = " + "[" * 5000, b"pyproject.toml cannot be read")])
def test_a_pyproject_that_would_mislead_pip_is_refused(faas, text, sentence):
    answer = faas.upload("misled", {
        "main.py": "", "pyproject.toml": f"[project]\n{text}\n"},
        env="server")
    assert answer.status == 400 and sentence in answer.body


def test_a_package_json_without_end_is_refused(faas):
    answer = faas.upload("deep", {
        "index.js": "",
        "package.json": '{"name": "fn", "a": ' + "[" * 200_000},
        env="nodejs")
    assert answer.status == 400 and b"package.json cannot" in answer.body


@needs_go
def test_what_lies_above_the_data_folder_does_not_matter_to_go(server):
    faas = server()
    (faas.home / "go.work").write_text("go 1.20\n")
    (faas.home / ".git").mkdir()
    (faas.home / ".git" / "HEAD").write_text("junk")
    assert faas.upload("above", {"fn.go": PLAIN}, env="go").status == 200
    assert faas.upload("taken", {"fn.go": PLAIN, "faas_main.go": ""},
                       env="go").status == 400
