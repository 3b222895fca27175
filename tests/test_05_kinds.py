"""Chapter 5: every kind of function, asked the same things over HTTP.

One function per kind does what the header `Do` says, and echoes its body
where it says nothing. The texts and what is expected of them are the table
KINDS; the tests below it are the same for all.

Two rows are different by their contracts. What a `node` function gets is the
JSON in the body, and no headers: it is told what to do by a member `do`, and
its echo is one of JSON. And `nodejs` echoes `req.rawBody`, for a JavaScript
string such as `req.body` cannot hold every byte.
"""

import base64
import concurrent.futures
import http.client
import json
import random
import shutil
import subprocess
import sys
import typing
import urllib.parse

import pytest
from conftest import FAAS, ROOT, Server, eventually, script, zip_of

from faas import TONGUES, FaasError, Item, find_tool, pack_tar

LIMIT = 2_000_000       # bytes of output; the functions know it too
HANG_TIME = 3           # s that a call may take of a function that hangs


class Kind(typing.NamedTuple):
    """One row: a tongue, a function in it, and how that fails."""
    tongue: str
    files: dict             # {path: text}
    fails: str              # in the sentence of an exception
    exits: str              # and in that of a process that ends
    program: tuple = ()     # what find_tool looks for, where not the tongue's


SHELL = r"""#!/bin/sh
case "$HTTP_DO" in
  lab)    printf %s "$HTTP_LAB" ;;
  choose) printf 'Status: 418\r\nMade: here\r\n\r\ntea' ;;
  fail)   echo "no luck" >&2; exit 7 ;;
  exit)   kill -9 $$ ;;
  hang)   sleep 600 ;;
  flood)  head -c 2000001 /dev/zero ;;
  *)      cat ;;
esac
"""

PYTHON3 = """
import os
import time

def fn(input, headers):
    do = headers.get("Do")
    if do == "lab":
        return headers["Lab"]
    if do == "choose":
        return {"statusCode": 418, "headers": {"Made": "here"}, "body": "tea"}
    if do == "fail":
        raise ValueError("no luck")
    if do == "exit":
        os._exit(3)
    if do == "hang":
        time.sleep(600)
    if do == "flood":
        return "x" * 2_000_001
    return input
"""

NODE = """
module.exports = (context, cb) => {
  switch (context.do) {
    case "choose":
      return cb({ statusCode: 418, headers: { Made: "here" }, body: "tea" });
    case "fail":
      throw new TypeError("no luck");
    case "exit":
      process.exit(3);
    case "hang":
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    case "flood":
      return cb("x".repeat(2000001));
  }
  cb(context);
};
"""

NODEJS = """
module.exports = (req, res) => {
  switch (req.headers.do) {
    case "lab":
      return res.send(req.headers.lab);
    case "choose":
      return res.status(418).set("Made", "here").send("tea");
    case "fail":
      throw new TypeError("no luck");
    case "exit":
      process.exit(3);
    case "hang":
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    case "flood":
      return res.send("x".repeat(2000001));
  }
  res.send(req.rawBody);
};
"""

GO = """
package main

import (
	"errors"
	"os"
	"strings"
	"time"
)

func fn(data string, headers map[string]string) (string, error) {
	switch headers["Do"] {
	case "lab":
		return headers["Lab"], nil
	case "choose":
		return `{"statusCode": 418, "headers": {"Made": "here"}}`, nil
	case "fail":
		return "", errors.New("no luck")
	case "exit":
		os.Exit(3)
	case "hang":
		time.Sleep(10 * time.Minute)
	case "flood":
		return strings.Repeat("x", 2000001), nil
	}
	return data, nil
}
"""

LUA = """
function handler(ctx, event)
  local word = event.headers["Do"]
  if word == "lab" then return { body = event.headers["Lab"] } end
  if word == "choose" then
    return { statusCode = 418, headers = { Made = "here" }, body = "tea" }
  end
  if word == "fail" then error("no luck") end
  if word == "exit" then os.exit(3) end
  while word == "hang" do end
  if word == "flood" then return { body = ("x"):rep(2000001) } end
  return { body = event.body }
end
"""

PYTHON = """
import os
import time

def handler(ctx, event):
    do = event["headers"].get("Do")
    if do == "lab":
        return {"body": event["headers"]["Lab"]}
    if do == "choose":
        return {"statusCode": 418, "headers": {"Made": "here"}, "body": "tea"}
    if do == "fail":
        raise ValueError("no luck")
    if do == "exit":
        os._exit(3)
    if do == "hang":
        time.sleep(600)
    if do == "flood":
        return {"body": "x" * 2_000_001}
    return {"body": event["body"]}
"""

PYTHON_SERVER = """
import http.server
import os
import time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        do, status = self.headers.get("Do"), 200
        if do == "lab":
            body = self.headers["Lab"].encode()
        elif do == "choose":
            status, body = 418, b"tea"
        elif do == "fail":
            raise ValueError("no luck")
        elif do == "exit":
            os._exit(3)
        elif do == "hang":
            time.sleep(600)
        elif do == "flood":
            body = b"x" * 2_000_001
        self.send_response(status)
        if do == "choose":
            self.send_header("Made", "here")
        if do == "stream":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for _ in range(3000):
                self.wfile.write(b"3e8\\r\\n" + b"x" * 1000 + b"\\r\\n")
            return self.wfile.write(b"0\\r\\n\\r\\n")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):               # the greeting
        self.send_error(404)

http.server.ThreadingHTTPServer(
    ("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""

NODE_SERVER = """
require("http").createServer((req, res) => {
  const pieces = [];
  req.on("data", (piece) => pieces.push(piece)).on("end", () => {
    switch (req.headers.do) {
      case "lab":
        return res.end(req.headers.lab);
      case "choose":
        return res.writeHead(418, { Made: "here" }).end("tea");
      case "fail":
        throw new TypeError("no luck");
      case "exit":
        process.exit(3);
      case "hang":
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      case "flood":
        return res.end("x".repeat(2000001));
      case "stream":
        for (let i = 0; i < 3000; i++) res.write("x".repeat(1000));
        return res.end();
    }
    res.end(Buffer.concat(pieces));
  });
}).listen(process.env.PORT, "127.0.0.1");
"""

GO_SERVER = """
package main

import (
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

func serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	switch r.Header.Get("Do") {
	case "lab":
		body = []byte(r.Header.Get("Lab"))
	case "choose":
		w.Header().Set("Made", "here")
		w.WriteHeader(418)
		body = []byte("tea")
	case "fail":
		panic("no luck")
	case "exit":
		os.Exit(3)
	case "hang":
		time.Sleep(10 * time.Minute)
	case "flood":
		w.Header().Set("Content-Length", "2000001")
		body = []byte(strings.Repeat("x", 2000001))
	case "stream":
		for i := 0; i < 3000; i++ {
			io.WriteString(w, strings.Repeat("x", 1000))
		}
		return
	}
	w.Write(body)
}

func main() {
	http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"),
		http.HandlerFunc(serve))
}
"""

BROKEN = "the server broke the connection"
EXITED = "its worker exited with status 3"

KINDS = {
    "script": Kind("script", {"": SHELL}, "exited with status 7",
                   "was ended by SIGKILL"),
    "binary": Kind("binary", {"fn.sh": SHELL}, "fn.sh exited with status 7",
                   "fn.sh was ended by SIGKILL"),
    "python3": Kind("python3", {"fn.py": PYTHON3}, "ValueError: no luck",
                    EXITED),
    "node": Kind("node", {"fn.yaml": "language: node\n", "index.js": NODE},
                 "TypeError: no luck", EXITED),
    "nodejs": Kind("nodejs", {"package.json": '{"name": "fn"}',
                              "index.js": NODEJS},
                   "TypeError: no luck", EXITED),
    "go": Kind("go", {"fn.go": GO}, "no luck", EXITED),
    "lua": Kind("lua", {"main.lua": LUA}, "Error at line 8: no luck", EXITED),
    "python": Kind("python", {"main.py": PYTHON},
                   "Error at line 12: ValueError: no luck", EXITED),
    # Each library has its own idea of what an exception ends.
    "server-python": Kind("server", {"requirements.txt": "# none\n",
                                     "main.py": PYTHON_SERVER},
                          BROKEN, "the server exited with status 3"),
    "server-node": Kind("server", {"package.json": '{"main": "server.js"}',
                                   "server.js": NODE_SERVER},
                        "the server exited with status 1",
                        "the server exited with status 3",
                        ("server", "node", "nodejs")),
    "server-go": Kind("server", {"go.mod": "module main\n\ngo 1.18\n",
                                 "main.go": GO_SERVER},
                      BROKEN, "the server exited with status 3", ("go",)),
}

NOISE = random.Random(4711).randbytes(1 << 20)

# name: a body, and what a node function is sent instead. None is for what
# JSON cannot be.
BODIES = {
    "a text": (b"hello", b'{"text":"hello"}'),
    "nothing": (b"", b"{}"),
    "unicode": ("grüße 日本 \0 😀\r\n".encode(),
                '{"text":"grüße 日本 😀"}'.encode()),
    "no UTF-8": (b"caf\xe9 \xff\xfe\x80\0 \xc3", None),
    "1 MB of noise": (NOISE, b'{"hex":"%s"}' % NOISE[1 << 19:].hex().encode()),
}


def missing(kind):
    """Give the sentence in which find_tool misses a program, or ''."""
    try:
        find_tool(*(kind.program or (kind.tongue,)))
    except FaasError as error:
        return str(error)
    return ""


def deploy(faas, name, kind, **more):
    """Put a function on the shelf, or, for a script, in its place."""
    if kind.tongue == "script":
        return script(faas, name, kind.files[""])
    said = {"bundle": base64_of(zip_of(kind.files)), "tongue": kind.tongue}
    answer = faas.request("PUT", f"/-/functions/{name}",
                          json.dumps({**said, **more}), timeout=300)
    assert answer.status == 200, answer.body.decode()
    return answer


def base64_of(data):
    return base64.b64encode(data).decode()


def ask(faas, name, kind, do="", headers={}, body=b""):
    """Call a function, and tell it what to do in its contract's way."""
    if kind.tongue == "node":
        body = json.dumps({"do": do}).encode() if do else body
    elif do:
        headers = {"Do": do, **headers}
    return faas.post(f"/{name}", body, headers)


def goes_on(faas, name, kind):
    """See that the call after a failure is answered as ever."""
    body = BODIES["a text"][kind.tongue == "node"]
    answer = ask(faas, name, kind, body=body)
    assert (answer.status, answer.body) == (200, body)
    return True


@pytest.fixture(scope="module")
def faas(tmp_path_factory):
    """One server for all; in its functions/ are copies of our examples."""
    home = tmp_path_factory.mktemp("kinds")
    shutil.copytree(ROOT / "functions", home / "functions")
    faas = Server(home, ["--limit", f"output={LIMIT}"], {})
    try:
        faas.wait_until_ready()
        yield faas
        faas.stop()
    finally:
        faas.kill()


@pytest.fixture(scope="module")
def deployed(faas):
    """Deploy each kind once, all at the same time; {kind: a Future}."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        yield {name: pool.submit(deploy, faas, f"do-{name}", kind)
               for name, kind in KINDS.items() if not missing(kind)}


@pytest.fixture(params=KINDS)
def name(request):
    if sentence := missing(KINDS[request.param]):
        pytest.skip(sentence)
    return request.param


@pytest.fixture
def call(faas, deployed, name):
    """Give a way to call the function of a kind."""
    deployed[name].result()

    def call(do="", headers={}, body=b""):
        return ask(faas, f"do-{name}", KINDS[name], do, headers, body)
    call.goes_on = lambda: goes_on(faas, f"do-{name}", KINDS[name])
    return call


# The matrix


def test_every_tongue_is_asked():
    assert {kind.tongue for kind in KINDS.values()} == set(TONGUES)


@pytest.mark.parametrize("what", BODIES)
def test_a_body_comes_back_as_it_went_in(call, name, what):
    body = BODIES[what][KINDS[name].tongue == "node"]
    if body is None:
        answer = call(body=BODIES[what][0])
        assert answer.status == 400
        assert b"the body is no JSON object or array" in answer.body
        assert call.goes_on()
    else:
        answer = call(body=body)
        assert (answer.status, answer.body) == (200, body)


def test_an_empty_body_is_an_empty_object_for_node(call, name):
    answer = call(body=b"")
    assert answer.status == 200
    assert answer.body == (b"{}" if name == "node" else b"")


def test_a_header_is_seen_in_the_spelling_of_the_contract(call, name):
    answer = call("lab", {"lAB": "7"})
    assert answer.status == 200
    # Its contract has no headers, so its function has no case for them.
    assert answer.body == (b'{"do":"lab"}' if name == "node" else b"7")


def test_status_and_headers_are_chosen_where_the_contract_lets_it(call, name):
    answer = call("choose")
    if TONGUES[KINDS[name].tongue].chooses:
        assert (answer.status, answer.body) == (418, b"tea")
        assert answer.headers["Made"] == "here"
    else:       # What would choose them elsewhere is a part of the body here.
        assert answer.status == 200 and "Made" not in answer.headers
        assert b"418" in answer.body and b"Made" in answer.body


def test_an_exception_is_a_502_with_its_sentence(call, name):
    answer = call("fail")
    assert answer.status == 502
    assert KINDS[name].fails in answer.body.decode()
    assert call.goes_on()


def test_a_process_that_ends_is_a_502_with_its_end(call, name):
    answer = call("exit")
    assert answer.status == 502
    assert KINDS[name].exits in answer.body.decode()
    assert call.goes_on()


def test_an_answer_past_the_limit_is_a_413_that_names_it(call, name):
    answer = call("flood")
    assert answer.status == 413
    assert b"it wrote more than its 2000000 bytes of output" in answer.body
    assert call.goes_on()


@pytest.fixture(scope="module")
def hanging(faas, deployed):
    """Let a function of each kind hang, all at once; {kind: a Future}."""
    def hang(name, kind):
        deploy(faas, f"hang-{name}", kind, timeout=HANG_TIME)
        # A script is a file, and has no settings, but its caller has a say.
        patience = ({"X-Timeout": f"{HANG_TIME}s"}
                    if kind.tongue == "script" else {})
        return ask(faas, f"hang-{name}", kind, "hang", patience)
    with concurrent.futures.ThreadPoolExecutor(len(KINDS)) as pool:
        yield {name: pool.submit(hang, name, KINDS[name])
               for name, made in deployed.items() if made.result()}


def test_a_call_that_hangs_is_a_504_that_names_the_limit(hanging, name, faas):
    answer = hanging[name].result()
    assert answer.status == 504
    assert f" {HANG_TIME} s".encode() in answer.body
    assert goes_on(faas, f"hang-{name}", KINDS[name])


@pytest.mark.parametrize("name", ["server-python", "server-node", "server-go"],
                         indirect=True)
def test_a_stream_past_the_limit_breaks_off_and_is_written_down(
        call, name, faas):
    # Its head was sent long before, so there is no status left to tell it.
    with pytest.raises(http.client.IncompleteRead) as broken:
        call("stream")
    assert len(broken.value.partial) <= LIMIT
    eventually(lambda: "too_large" == json.loads(faas.get(
        f"/-/functions/do-{name}/executions?limit=1").body)[0]["status"])
    assert call.goes_on()


# Four doors for one function


def through_upload(faas, name, kind, folder):
    return faas.upload(name, kind.files, env=kind.tongue)


def through_functions(faas, name, kind, folder):
    bundle = pack_tar({path: Item(text.encode(), path == "fn.sh")
                       for path, text in kind.files.items()})
    return faas.post("/functions", json.dumps(
        {"Name": name, "File": base64_of(bundle)}))


def through_the_command_line(faas, name, kind, folder):
    lay(folder, kind)
    return subprocess.run(
        [sys.executable, FAAS, "deploy", name, folder, "--data", faas.data],
        capture_output=True, text=True, timeout=300)


def through_the_folder(faas, name, kind, folder):
    lay(folder, kind)
    shutil.move(folder, faas.functions / name)


def lay(folder, kind):
    for path, text in kind.files.items():
        (folder / path).write_text(text)


DOORS = [through_upload, through_functions, through_the_command_line,
         through_the_folder]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_a_function_of_each_kind_comes_in_by_each_door(
        faas, deployed, name, door, tmp_path):
    kind = KINDS[name]
    if kind.tongue == "script":
        return only_a_file_is_a_script(faas, kind, door, tmp_path)
    called = f"{door.__name__}-{name}"
    folder = tmp_path / "it"
    folder.mkdir()
    said = door(faas, called, kind, folder)
    assert goes_on(faas, called, kind), said
    fn, = (fn for fn in json.loads(faas.get("/-/functions").body)
           if fn["name"] == called)
    assert (fn["tongue"], fn["version"]) == (kind.tongue, 1)
    assert fn["source"] == ("folder" if door is through_the_folder
                            else "upload")


def only_a_file_is_a_script(faas, kind, door, tmp_path):
    """A script is a file that is run in place; sent, it is a binary."""
    name = f"{door.__name__}-script"
    if door is through_the_folder:
        deploy(faas, name, kind)
        assert goes_on(faas, name, kind)
    elif door is through_the_command_line:
        path = script(faas, "to-send", kind.files[""])
        said = subprocess.run(
            [sys.executable, FAAS, "deploy", name, path, "--data", faas.data],
            capture_output=True, text=True, timeout=60)
        assert "binary" in said.stdout and goes_on(faas, name, kind)
    else:
        answer = door(faas, name, kind._replace(
            files={"it": kind.files[""]}), tmp_path)
        assert answer.status == 400 and faas.post(f"/{name}").status == 404


# The examples


def words(answer):
    return answer.body.decode().split()


def skip_without(tongue):
    """Skip where the machine lacks what a tongue needs."""
    if sentence := missing(Kind(tongue, {}, "", "")):
        pytest.skip(sentence)


EXAMPLES = {
    "shout": ("script", "", b"hello", lambda a: a.body == b"HELLO"),
    "hello.py": ("script", "", b"you", lambda a: a.body == b"Hello, you!\n"),
    "machine": ("binary", "", b"", lambda a: {"load", "memory", "disk"} <=
                set(words(a))),
    "csv2json": ("python3", "?sep=%3B", b"a;b\n1;2\n", lambda a: json.loads(
        a.body) == [{"a": "1", "b": "2"}]),
    "sum": ("node", "", b'{"a": 20, "b": 3}', lambda a: a.body ==
            b'{"sum":23}'),
    "wordcount": ("nodejs", "?top=1", b"to be or not to be", lambda a:
                  json.loads(a.body) == {"words": 6, "different": 4,
                                         "top": {"to": 2}}),
    "primes": ("go", "", b"100", lambda a: a.body ==
               b"Found 25 primes under 100\n"),
    "counter": ("lua", "", b"", lambda a: json.loads(a.body) == {"count": 1}),
    "counter-py": ("python", "", b"", lambda a: json.loads(a.body) ==
                   {"count": 1}),
    "clock": ("server", "/echo", b"hello", lambda a: a.body == b"hello"),
}


def test_every_kind_has_an_example_and_every_example_is_called():
    assert set(EXAMPLES) == {
        path.name for path in (ROOT / "functions").glob("[!._]*")}
    assert {tongue for tongue, *_ in EXAMPLES.values()} == set(TONGUES)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_answers_from_its_folder(faas, example):
    tongue, rest, body, good = EXAMPLES[example]
    skip_without(tongue)
    answer = faas.post(f"/{example}{rest}", body, timeout=300)
    assert answer.status == 200 and good(answer), answer.body
    fn, = (fn for fn in json.loads(faas.get("/-/functions").body)
           if fn["name"] == example)
    assert fn["tongue"] == tongue
    assert fn["source"] == ("file" if tongue == "script" else "folder")


@pytest.mark.parametrize("example, body, status, said", [
    ("sum", b"[1, 2.5, [3]]", 200, b'{"sum":6.5}'),
    ("sum", b"7", 400, b"the body is no JSON object or array"),
    ("wordcount?top=x", b"", 400, b"top and least are whole numbers"),
    ("wordcount?least=4", "’tis über".encode(), 200, '"über":1'.encode()),
    ("primes", b"10000000", 200, b"Found 664579 primes under 10000000\n"),
    ("primes", b"many", 502, b"is no limit: use 0 to 10000000"),
    ("csv2json", b"a,b\n1,2\n", 200, b'[{"a": "1", "b": "2"}]')])
def test_an_example_says_what_it_does_not_take(
        faas, example, body, status, said):
    skip_without(EXAMPLES[example.partition("?")[0]][0])
    answer = faas.post(f"/{example}", body, timeout=300)
    assert answer.status == status and said in answer.body


def test_the_clock_is_heard_while_it_ticks(faas):
    address = urllib.parse.urlsplit(faas.url).netloc
    line = http.client.HTTPConnection(address, timeout=30)
    line.request("GET", "/clock/ticks?n=100")       # 20 s of them
    reply = line.getresponse()
    assert (reply.readline(), reply.readline()) == (b"tick 1\n", b"tick 2\n")
    reply.close()
    line.close()
    assert set(json.loads(faas.get("/clock").body)) == {"time"}


@pytest.mark.parametrize("example, tongue", [("counter", "lua"),
                                             ("counter-py", "python")])
def test_a_counter_counts_every_call_of_many_clients(faas, example, tongue):
    skip_without(tongue)
    before = json.loads(faas.post(f"/{example}").body)["count"]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: faas.post(f"/{example}"),
                                range(1000)))
    assert {answer.status for answer in answers} == {200}
    counts = sorted(json.loads(answer.body)["count"] for answer in answers)
    assert counts == list(range(before + 1, before + 1001))
    log = faas.get(f"/logs/{example}").body.decode()
    assert f"[info] Counter incremented to: {before + 1000}\n" in log


def test_the_two_counters_can_be_laid_side_by_side():
    lua, python = ((ROOT / "functions" / path).read_text().splitlines()
                   for path in ("counter/main.lua", "counter-py/main.py"))
    assert lua[-1] == "end"             # the only line that Python has not
    assert len(lua) == len(python) + 1
    for one, other in zip(lua, python):
        assert len(one) - len(one.lstrip(" ")) == (
            len(other) - len(other.lstrip(" "))) / 2
