"""Chapter 5.6: the Lua shim, driven frame by frame, on each Lua that is here.

And 5.8, what an author is told: the tips know the words of each interpreter,
so each makes every mistake.

What takes quadratic time fails without a clock: a megabyte would take
minutes, and the channel is patient for 20 s.
"""

import base64
import json
import os
import re
import resource
import socket
import struct
import subprocess
import textwrap
import warnings

import pytest

from faas import (LUA_SHIM, LUA_START, TIPS, FaasError, explain, find_tip,
                  find_tool, lua_services)

LUAS = "luajit", "lua5.1", "lua5.4"
ENV = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/tmp"}


class Broken(Exception):
    """What a service of ours raises to be told as {"error": ...}."""


class LuaWorker:
    """One interpreter that runs the shim, and our end of its frames."""

    def __init__(self, lua, folder, services, memory):
        self.services, self.logged, self.asked = services, [], []
        self.count = 0
        self.folder = folder
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(20)
        bound = (memory, memory)

        def before():
            os.dup2(theirs.fileno(), 3)
            os.set_inheritable(3, True)
            resource.setrlimit(resource.RLIMIT_AS, bound)

        with theirs, open(folder / "stderr", "wb") as log:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", LUA_START, lua,
                 f"services=[[{lua_services()}]]", LUA_SHIM], cwd=folder,
                env=ENV, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=before, close_fds=False)

    def read(self, size):
        parts = []
        while size:
            part = self.channel.recv(min(size, 1 << 20))
            if not part:
                raise EOFError(self.log())
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def receive(self):
        size, = struct.unpack(">I", self.read(4))
        rest = self.read(size)
        ident, verb, length = struct.unpack(">IcI", rest[:9])
        text = rest[9:9 + length].decode("utf-8", "surrogateescape")
        return ident, verb, json.loads(text), rest[9 + length:]

    def send(self, ident, verb, meta, body=b""):
        meta = json.dumps(meta).encode()
        rest = struct.pack(">IcI", ident, verb, len(meta)) + meta + body
        self.channel.sendall(struct.pack(">I", len(rest)) + rest)

    def answer(self, ident, meta):
        self.asked.append((meta["do"], meta["args"]))
        try:
            value = self.services[meta["do"]](*meta["args"])
            self.send(ident, b"A", {"value": value})
        except Broken as error:
            self.send(ident, b"A", {"error": str(error)})

    def until_done(self):
        """Answer questions until H, R or E; give (id, verb, meta, body)."""
        while True:
            ident, verb, meta, body = frame = self.receive()
            if verb == b"Q":
                self.answer(ident, meta)
            elif verb == b"L":
                assert ident == 0
                self.logged.append((meta["level"], body.decode()))
            else:
                return frame

    def __call__(self, body=b"", event={}, ctx={}):
        """Put a call; give (meta, body) of its R, or the meta of its E."""
        self.count += 1
        self.send(self.count, b"C", {"ctx": ctx, "event": event}, body)
        ident, verb, meta, out = self.until_done()
        assert ident == self.count
        if verb == b"R":
            return meta, out
        assert (verb, meta.pop("kind")) == (b"E", "crashed")
        return meta

    def value(self, body=b"", **rest):
        """Call, and read the answer's body as JSON."""
        answer = self(body, **rest)
        assert isinstance(answer, tuple), answer
        return json.loads(answer[1])

    def log(self):
        return (self.folder / "stderr").read_text("utf-8", "replace")

    def close(self):
        self.channel.close()
        status = self.process.wait(10)
        return status


@pytest.fixture(params=LUAS)
def lua(request):
    """Each Lua in its turn, or a skip with the package that has it."""
    try:
        return find_tool("lua", request.param, request.param)
    except FaasError as error:
        pytest.skip(str(error))


@pytest.fixture
def start(lua, tmp_path):
    """Start a worker for the text of a main.lua; give it and its hello."""
    workers = []

    def start(text, memory=1 << 30, files={}, **services):
        names = {name.replace("_", ".", 1): task
                 for name, task in services.items()}
        for name, more in {"main.lua": text, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(more).lstrip("\n"))
        worker = LuaWorker(lua, tmp_path, names, memory)
        workers.append(worker)
        return worker, worker.until_done()
    yield start
    for worker in workers:
        worker.channel.close()
        try:
            worker.process.wait(5)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()


@pytest.fixture
def fn(start):
    """Make a worker that is ready, from the text of its main.lua."""
    def fn(text, **rest):
        worker, hello = start(text, **rest)
        assert hello == (0, b"H", {}, b"")
        return worker
    return fn


@pytest.fixture
def handler(fn):
    """The same, where the text is a handler's own lines."""
    def handler(lines, **rest):
        return fn(f"function handler(ctx, event)\n{lines}\nend", **rest)
    return handler


@pytest.fixture
def expression(handler):
    """Work out one Lua expression; give its values, spelled by json."""
    def expression(text, **rest):
        return handler(f"""
            local a, b, c = {text}
            return {{body = json.encode({{a, b, c}})}}
            """, **rest).value()
    return expression


# Loading


def test_a_function_says_that_it_is_ready(fn):
    fn("function handler() return {} end")


def test_globals_live_as_long_as_the_worker(fn):
    count = fn("""
        local n = 0
        function handler() n = n + 1; return {body = n} end
        """)
    assert [count()[1] for _ in range(3)] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("text, sentence, line", [
    ("x = = 1", "unexpected symbol near '='", 1),
    ("--\n--\nfunction handler(", "expected near", 3),
    ("--\nerror('no luck')", "no luck", 2),
    ("--\nlocal x = nil\nx.y = 1", "attempt to index", 3),
    ("error('no place', 0)", "no place", None),
    ("error({code = 3})", "error object is a table", None),
    ("error(setmetatable({}, {__tostring = function() return 'told' end}))",
     "told", None),
    ("error()", "error object is a nil", None),
    ("", "main.lua defines no function called handler", None),
    ("handler = 3", "main.lua defines no function called handler", None)])
def test_a_main_lua_that_fails_is_bad_input(start, text, sentence, line):
    worker, (ident, verb, meta, body) = start(text)
    assert (ident, verb, meta["kind"], body) == (0, b"E", "bad_input", b"")
    assert sentence in meta["sentence"]
    assert not meta["sentence"].startswith(("main.lua:", "(command line)"))
    assert meta.get("line") == line
    assert worker.process.wait(5) == 0


def test_no_main_lua_is_told(lua, tmp_path):
    worker = LuaWorker(lua, tmp_path, {}, 1 << 30)
    _, verb, meta, _ = worker.until_done()
    assert verb == b"E" and "cannot open main.lua" in meta["sentence"]
    assert worker.close() == 0


def test_questions_work_while_loading(fn):
    greet = fn("""
        local greeting = kv.get("greeting")
        log.info("loaded")
        function handler() return {body = greeting} end
        """, kv_get=lambda key: f"hi {key}")
    assert greet()[1] == b"hi greeting"
    assert greet.logged == [("info", "loaded")]


def test_a_function_may_require_its_own_files(fn):
    both = fn("""
        local one, two = require("one"), require("lib.two")
        local three = require("three")
        function handler() return {body = one .. two .. three} end
        """, files={"one.lua": "return 'a'", "lib/two.lua": "return 'b'",
                    "three/init.lua": "return 'c'"})
    assert both()[1] == b"abc"


def test_an_error_in_another_file_keeps_that_files_name(start):
    _, (_, verb, meta, _) = start("require('one')",
                                  files={"one.lua": "--\nerror('no luck')"})
    assert verb == b"E" and "one.lua:2: no luck" in meta["sentence"]
    assert "line" not in meta


def test_names_of_lua_5_1_are_there_on_every_lua(expression):
    assert expression("unpack({1, 2})") == [1, 2]
    assert expression("loadstring('return 3')()") == [3]
    assert expression("table.getn({1, 2})") == [2]
    assert expression("math.pow(2, 3)") == [8]


def test_what_the_shim_was_given_is_out_of_sight(expression):
    assert expression("tostring(services), tostring(arg)") == ["nil", "nil"]


# Calls


def test_a_handler_sees_ctx_and_event(handler):
    echo = handler("return {body = json.encode({ctx, event})}")
    ctx = {"functionId": "f1", "startedAt": 1700000000, "version": "5"}
    event = {"method": "POST", "path": "/fn/f1/a", "relativePath": "/a",
             "headers": {"Content-Type": "text/plain"}, "query": {"q": "ü"}}
    assert echo.value(b"hi", event=event, ctx=ctx) == [
        ctx, {**event, "body": "hi"}]


def test_a_megabyte_of_any_bytes_comes_back(handler):
    echo = handler("return {body = event.body}")
    body = bytes(range(256)) * 4096 + b"\xff\x00end"
    assert echo(body)[1] == body


def test_a_thousand_calls_in_a_row(handler):
    echo = handler("return {body = event.body}")
    for number in range(1000):
        assert echo(b"%d" % number)[1] == b"%d" % number


@pytest.mark.parametrize("result, meta, body", [
    ("{}", {}, b""),
    ("{body = 'hi'}", {}, b"hi"),
    ("{body = 12.5}", {}, b"12.5"),
    ("{body = 10 / 2}", {}, b"5"),
    ("{body = {a = 1}}", {}, b'{"a":1}'),
    ("{body = {}}", {}, b"{}"),
    ("{body = true}", {}, b"true"),
    ("{body = false}", {}, b"false"),
    ("{statusCode = 404}", {"status": 404}, b""),
    ("{statusCode = '201'}", {"status": 201}, b""),
    ("{statusCode = 400 / 2}", {"status": 200}, b""),
    ("{statusCode = 0}", {}, b""),
    ("{headers = {}}", {}, b""),
    ("{headers = 'x'}", {}, b""),
    ("{headers = {['content-TYPE'] = 'text/csv'}}",
     {"headers": {"content-TYPE": "text/csv"}}, b""),
    ("{headers = {Lab = 'a', N = 3.0, Bad = {}, [1] = 'x', No = false}}",
     {"headers": {"Lab": "a", "N": "3",
                  "Content-Type": "application/json"}}, b""),
    ("{headers = {Lab = 'gr\\195\\188n \\255'}}",
     {"headers": {"Lab": "grün \udcff", "Content-Type": "application/json"}},
     b""),
    ("{body = 'aGk=', isBase64Encoded = true}", {}, b"hi"),
    ("{body = 'hi', isBase64Encoded = 'yes'}", {}, b"hi")])
def test_what_is_returned_becomes_a_result(handler, result, meta, body):
    answer = handler(f"return {result}", base64_decode=lambda text:
                     base64.b64decode(text).decode())()
    whole = {"status": 200, "headers": {"Content-Type": "application/json"}}
    assert answer == ({**whole, **meta}, body)


@pytest.mark.parametrize("result, sentence", [
    ("nil", "handler must return a table, and returned a nil"),
    ("'x'", "handler must return a table, and returned a string"),
    ("{statusCode = 99}", "statusCode 99 is no status"),
    ("{statusCode = 600}", "statusCode 600 is no status"),
    ("{statusCode = 200.5}", "statusCode 200.5 is no status"),
    ("{statusCode = 0/0}", "is no status"),
    ("{statusCode = 'ok'}", "statusCode ok is no status"),
    ("{statusCode = true}", "statusCode true is no status"),
    ("{body = {0/0}}", "body: json: unsupported value"),
    ("{body = '!', isBase64Encoded = true}", "body: that is no base64")])
def test_what_is_no_response_is_told(handler, result, sentence):
    def refuse(text):
        raise Broken("that is no base64")
    error = handler(f"return {result}", base64_decode=refuse)()
    assert sentence in error["sentence"] and "line" not in error


def test_a_binary_body_may_come_as_base64(handler):
    data = bytes(range(256)) * 4096
    image = handler("return {body = event.body, isBase64Encoded = true}",
                    base64_decode=lambda text: base64.b64decode(text).decode(
                        "utf-8", "surrogateescape"))
    assert image(base64.b64encode(data))[1] == data


# Errors


@pytest.mark.parametrize("line, sentence", [
    ("local x; x.y = 1", "attempt to index"),
    ("nothing()", "attempt to call"),
    ("local n = 1 + nil", "attempt to perform arithmetic"),
    ("local s = 'a' .. {}", "attempt to concatenate"),
    ("local b = 1 < 'x'", "attempt to compare"),
    ("kv.get()", "bad argument #1 to get (string expected, got nil)"),
    ("error('no luck')", "no luck"),
    ("require('missing')", "module 'missing' not found")])
def test_an_error_is_told_with_its_line(handler, line, sentence):
    error = handler(f"\n{line}")()
    assert sentence in error["sentence"]
    assert not error["sentence"].startswith("main.lua")
    assert error["line"] == 3 or "module" in sentence


def test_the_traceback_is_in_the_log_without_our_lines(fn):
    shout = fn("""
        local function deep() error("no luck") end
        function handler() deep() return {} end
        """)
    shout()
    assert "main.lua:1: no luck\nstack traceback:" in shout.log()
    assert "main.lua:2: in " in shout.log()
    assert "(command line)" not in shout.log()
    assert "xpcall" not in shout.log()


def test_a_worker_goes_on_after_an_error(handler):
    maybe = handler("if event.body == 'x' then error('no luck') end\n"
                    "return {body = 'well'}")
    for _ in range(3):
        assert maybe(b"x") == {"sentence": "no luck", "line": 2}
        assert maybe()[1] == b"well"


@pytest.mark.parametrize("thrown, sentence", [
    ("{}", "error object is a table"),
    ("nil", "error object is a nil"),
    ("true", "error object is a boolean"),
    ("setmetatable({}, {__tostring = function() return 'told' end})", "told"),
    ("setmetatable({}, {__tostring = function() error('x') end})",
     "error object is a table"),
    ("setmetatable({}, {__metatable = 'no'})", "error object is a table")])
def test_any_value_may_be_thrown(handler, thrown, sentence):
    assert handler(f"error({thrown})")() == {"sentence": sentence}


def test_endless_recursion_is_an_error(handler):
    fall = handler("local function f() return 1 + f() end\n"
                   "if event.body == 'x' then f() end return {}")
    assert "overflow" in fall(b"x")["sentence"]
    assert fall()[1] == b""


def test_too_little_memory_is_an_error(handler):
    eat = handler("""
        local s = "x"
        while event.body == "x" do s = s .. s end
        return {body = "well"}
        """, memory=1 << 28)
    assert "not enough memory" in eat(b"x")["sentence"]
    assert eat()[1] == b"well"


def test_the_handler_may_be_taken_away(handler):
    once = handler("handler = nil return {}")
    assert once()[1] == b""
    assert once()["sentence"] == "main.lua defines no function called handler"


@pytest.mark.parametrize("line, status", [("os.exit()", 0), ("os.exit(3)", 3)])
def test_exit_in_a_handler_ends_the_worker(handler, line, status):
    leave = handler(f"io.write('bye') {line}")
    with pytest.raises(EOFError):
        leave()
    assert leave.process.wait(5) == status
    assert leave.log() == "bye"


def test_a_worker_ends_with_its_channel(handler):
    assert handler("return {}").close() == 0


# The frames are out of reach


def test_what_is_printed_goes_to_the_log(handler):
    noisy = handler("""
        print("one", nil, 2, setmetatable({}, {__tostring = function()
            return "three" end}))
        io.write("four\\n")
        io.stdout:write("five\\n")
        io.output():write("six\\n")
        io.stderr:write("seven\\n")
        return {body = "well"}
        """)
    assert noisy()[1] == b"well" and noisy()[1] == b"well"
    assert noisy.log() == 2 * (
        "one\tnil\t2\tthree\nfour\nfive\nsix\nseven\n")


def test_there_is_nothing_to_read(handler):
    curious = handler("""
        local lines = 0
        for line in io.lines() do lines = lines + 1 end
        io.input(io.stdin)
        return {body = {tostring(io.read()), tostring(io.stdin:read("*a")),
            lines, tostring(loadfile()), debug.debug == nil, dofile() == nil}}
        """)
    nothing = curious.value()
    assert nothing[1:3] == ["", 0] and nothing[4:] == [True, True]
    assert nothing[0] == "nil" and nothing[3].startswith("function")
    assert curious.value() is not None


def test_programs_that_a_handler_runs_do_not_touch_the_frames(handler):
    runner = handler("""
        os.execute("echo hi; cat")
        local out = io.popen("cat; echo out"):read("*a")
        local pipe = io.popen("cat", "w")
        pipe:write("in\\n")
        pipe:close()
        return {body = out .. tostring(os.execute() ~= false)}
        """)
    for _ in range(3):
        assert runner()[1] == b"out\ntrue"
    assert runner.log() == 3 * "hi\nin\n"


# Questions


def test_a_question_is_asked_and_answered(handler):
    shop = {"a": "1"}
    ask = handler("""
        kv.set("n", 5)
        kv.set("half", 10 / 4)
        return {body = {kv.get("a"), kv.get("n"), kv.get("none") == nil,
            time.now(), kv.increment("n")}}
        """, kv_get=shop.get, kv_set=shop.__setitem__, time_now=lambda: 17e8,
        kv_increment=lambda key: 6)
    assert ask.value() == ["1", "5", True, 1700000000, 6]
    assert ask.asked == [("kv.set", ["n", "5"]), ("kv.set", ["half", "2.5"]),
                         ("kv.get", ["a"]), ("kv.get", ["n"]),
                         ("kv.get", ["none"]), ("time.now", []),
                         ("kv.increment", ["n"])]


def test_tables_go_out_and_come_back(handler):
    post = handler("""
        local answer, problem = http.post("http://x", {body = event.body,
            headers = {A = "b"}})
        return {body = {answer.statusCode, answer.headers.B, problem == nil,
            answer.body == event.body}}
        """, http_post=lambda url, more: {
            "statusCode": 201, "headers": {"B": "c"}, "body": more["body"]})
    body = bytes(range(256)) + "grün €  \u2028 😀".encode()
    assert post.value(body) == [201, "c", True, True]
    assert post.asked == [("http.post", ["http://x", {
        "body": body.decode("utf-8", "surrogateescape"),
        "headers": {"A": "b"}}])]


def test_an_error_comes_as_the_second_value(expression):
    def refuse(key):
        raise Broken("the shop is closed")
    assert expression("tostring(kv.get('a')), select(2, kv.get('a'))",
                      kv_get=refuse) == ["nil", "the shop is closed"]


def test_what_cannot_be_sent_is_an_error_and_no_question(expression):
    assert expression("select(2, http.post('u', {0/0}))")[0].startswith(
        "json: unsupported value")


@pytest.mark.parametrize("call, sentence", [
    ("kv.get()", "bad argument #1 to get (string expected, got nil)"),
    ("kv.get({})", "bad argument #1 to get (string expected, got table)"),
    ("kv.set('a')", "bad argument #2 to set (string expected, got nil)"),
    ("kv.set('a', true)",
     "bad argument #2 to set (string expected, got boolean)"),
    ("kv.increment('a', 'b')",
     "bad argument #2 to increment (number expected, got string)"),
    ("http.post('u', 'body')",
     "bad argument #2 to post (table expected, got string)"),
    ("time.sleep()", "bad argument #1 to sleep (number expected, got nil)"),
    ("crypto.hmac_sha1('a')",
     "bad argument #2 to hmac_sha1 (string expected, got nil)"),
    ("log.info()", "bad argument #1 to info (string expected, got nil)"),
    ("json.decode()", "bad argument #1 to decode (string expected, got nil)"),
    ("strings.split('a')",
     "bad argument #2 to split (string expected, got nil)"),
    ("strings['repeat']('a', {})",
     "bad argument #2 to repeat (number expected, got table)")])
def test_arguments_of_a_wrong_type_raise(handler, call, sentence):
    wrong = handler(f"local x = {call} return {{}}")
    assert wrong() == {"sentence": sentence, "line": 2}
    assert not wrong.asked


def test_a_text_that_is_a_number_will_do_for_one(handler):
    wait = handler("return {body = {time.sleep('5'), time.sleep(2.5)}}",
                   time_sleep=lambda ms: ms)
    assert wait.value() == [5, 2.5]


def test_a_false_answer_is_false(expression):
    assert expression("kv.set('a', 'b')", kv_set=lambda *_: False) == [False]


def test_log_lines_are_frames(handler):
    chatty = handler("""
        log.debug("a") log.info("b\\nc") log.warn("grün") log.error(10 / 2)
        return {}
        """)
    chatty()
    assert chatty.logged == [("debug", "a"), ("info", "b\nc"),
                             ("warn", "grün"), ("error", "5")]


# json


@pytest.mark.parametrize("value, text", [
    ("nil", "null"), ("{}", "{}"), ("true", "true"), ("'a'", '"a"'),
    ("{1, 2, 3}", "[1,2,3]"), ("{1, nil, 3}", "[1,null,3]"),
    ("{[2] = 'b'}", '[null,"b"]'), ("{b = 1, a = 2}", '{"a":2,"b":1}'),
    ("{1, a = 2}", '{"1":1,"a":2}'), ("{[0] = 1}", '{"0":1}'),
    ("{[1.5] = 1}", '{"1.5":1}'), ("{{}, {{}}}", "[{},[{}]]"),
    ("3", "3"), ("6 / 2", "3"), ("-0.5", "-0.5"), ("0.1", "0.1"),
    ("1e15", "1000000000000000"), ("2^53", "9007199254740992"),
    ("0.1 + 0.2", "0.30000000000000004"), ("1e300", "1e+300"),
    ("print", "null"), ("{f = print}", '{"f":null}'),
    ("'<a>&\"\\\\/\\n\\t\\r\\0\\1\\31'",
     r'"\u003ca\u003e\u0026\"\\/\n\t\r\u0000\u0001\u001f"'),
    ("'\\226\\128\\168\\226\\128\\169\\226\\128\\170'",
     '"\\u2028\\u2029\u202a"'),
    ("'grün 😀'", '"grün 😀"')])
def test_json_is_written_as_go_does(handler, value, text):
    write = handler(f"return {{body = json.encode({value})}}")
    assert write()[1].decode() == text


@pytest.mark.parametrize("value, sentence", [
    ("0/0", "json: unsupported value: "),
    ("{math.huge}", "json: unsupported value: "),
    ("-math.huge", "json: unsupported value: "),
    ("ring", "json: a table too deep, or a ring"),
    ("deep", "json: a table too deep, or a ring"),
    ("{[2^40] = 1}", "json: an array of mostly holes"),
    ("{[setmetatable({}, {__tostring = function() error('no', 0) end})] = 1}",
     "no")])
def test_what_json_cannot_say_is_an_error(handler, value, sentence):
    text, told = handler(f"""
        local ring, deep = {{}}, {{}}
        ring.ring = ring
        for i = 1, 100000 do deep = {{deep}} end
        local text, told = json.encode({value})
        return {{body = {{text == nil, told}}}}
        """).value()
    assert text and sentence in told


@pytest.mark.parametrize("text", [
    "1", "-0.5", "1e3", "1E-2", "0", '""', '"a"', "true", "false", "[]", "{}",
    "[1,[2,[3]]]", '{"a":{"b":[1,2]}}', ' \t\n\r[ 1 , 2 ] ', '{"":1}',
    r'"\"\\\/\b\f\n\r\t"', r'"\u0041\u00fc\u20ac\ud83d\ude00"',
    r'"\\u0041"', r'"\\\\"', r'"\\"', r'["\\",""]', r'"\u005cn"',
    r'"\\\u0041\\n"', '"grün 😀"', '["a\\"]", "[\\"b"]', "123456789012",
    "1.7976931348623157e308", "[" * 400 + "1" + "]" * 400, r'"\u0000\u001f"'])
def test_json_is_read_as_python_reads_it(handler, text):
    read = handler("return {body = json.encode((json.decode(event.body)))}")
    value = json.loads(text)
    if value == []:
        value = {}
    assert read.value(text.encode()) == value


@pytest.mark.parametrize("text", [
    "", " ", "nul", "nulls", "truee", "1 2", "[1,]", "[,1]", "[1 2]", "[",
    "]", '{"a"}', '{"a":}', '{"a":1,}', '{a:1}', "{1:1}", '"', '"a', '"\\"',
    '"\\x"', '"\\u12"', '"\\u12\\u0041"', '"\\uzzzz"', '"a\nb"', "'a'", "01",
    "-", "-a", "+1", ".5", "1.", "1.e5", "1e", "1e5.0", "0x10", "1-2", "1e999",
    "NaN", "Infinity", "[1]]", "{}{}", "[" * 600 + "]" * 600,
    "[" * 100000, '{"a":' * 100000])
def test_what_is_no_json_is_told_with_its_position(handler, text):
    with pytest.raises((ValueError, RecursionError)):
        if "e999" in text or text in ("NaN", "Infinity") or len(text) > 999:
            raise ValueError("Python is more patient here")
        json.loads(text)
    good, told = handler("""
        local value, told = json.decode(event.body)
        return {body = {value == nil, told}}
        """).value(text.encode())
    assert good and told.startswith("json: ") and " at position " in told


def test_null_is_nil(expression):
    assert expression("""json.decode('{"a":null,"b":[1,null,3]}').a == nil,
                      json.decode('[1,null,3]')[3],
                      select('#', json.decode('null'))""") == [True, 3, 1]


@pytest.mark.parametrize("text, body", [
    (r'"\udc80\udcff"', b"\x80\xff"), (r'"\ud800"', "\ufffd".encode()),
    (r'"\udfff!"', "\ufffd!".encode()), (r'"\uD83D\uDE00"', "😀".encode()),
    (r'"\ud83d\ude00\udcff"', "😀".encode() + b"\xff")])
def test_a_lone_escape_is_a_raw_byte(handler, text, body):
    read = handler("return {body = json.decode(event.body)}")
    assert read(text.encode())[1] == body


@pytest.mark.parametrize("text", [
    b'"' + b"x" * 1000000 + b'"', b'"' + b"\\n" * 500000 + b'"',
    b'"' + b"\\u00fc" * 170000 + b'"', b'"' + b"\\\\" * 500000 + b'"',
    b'"' + b'\\"' * 500000 + b'"', b'"' + "ü".encode() * 500000 + b'"',
    b"[" + b"1," * 200000 + b"1]", b"[" + b'"a",' * 200000 + b"1]"])
def test_a_megabyte_of_json_takes_no_quadratic_time(handler, text):
    read = handler("return {body = #json.decode(event.body)}")
    value = json.loads(text)
    assert read.value(text) == len(
        value if isinstance(value, list) else value.encode())


def test_json_round_trips_whatever_it_is(handler):
    echo = handler("return {body = json.encode(json.decode(event.body))}")
    value = {"a": [1, 2.5, True, {"b": "c"}], "ü": "\u2028<\x00\x7f>",
             "n": -1e-7}
    assert echo.value(json.dumps(value).encode()) == value


# strings


@pytest.mark.parametrize("call, value", [
    ("trim(' \\t\\n\\va b \\r\\n')", "a b"), ("trim('  ')", ""),
    ("trim('')", ""), ("trimLeft(' \\t a ')", "a "), ("trimLeft('')", ""),
    ("trimRight(' a \\n')", " a"), ("trimRight(' \\n')", ""),
    ("split('a,b,,c', ',')", ["a", "b", "", "c"]), ("split('', ',')", [""]),
    ("split('a.b', '.')", ["a", "b"]), ("split('a%b', '%')", ["a", "b"]),
    ("split('aüb😀', '')", ["a", "ü", "b", "😀"]), ("split('', '')", {}),
    ("split('abc', 'abcd')", ["abc"]), ("split('--', '--')", ["", ""]),
    ("join({'a', 1, 2.0}, ', ')", "a, 1, 2"), ("join({}, ',')", ""),
    ("hasPrefix('abc', 'ab')", True), ("hasPrefix('abc', '')", True),
    ("hasPrefix('a', 'ab')", False), ("hasPrefix('abc', '.')", False),
    ("hasSuffix('abc', 'bc')", True), ("hasSuffix('abc', '')", True),
    ("hasSuffix('c', 'bc')", False), ("contains('a.c', '.')", True),
    ("contains('abc', '.')", False), ("contains('abc', '')", True),
    ("replace('a.b.c', '.', '%1')", "a%1b%1c"),
    ("replace('aaa', 'a', 'b', 2)", "bba"),
    ("replace('aaa', 'a', 'b', 0)", "aaa"),
    ("replace('aaa', 'a', 'b', -1)", "bbb"),
    ("replace('aüb', '', '-')", "-a-ü-b-"),
    ("replace('ab', '', '-', 2)", "-a-b"), ("replace('ab', '', '-', 0)", "ab"),
    ("replace('', '', '-')", "-"), ("replace('abab', 'ab', 'abab')",
                                    "abababab"),
    ("toLower('ABC')", "abc"), ("toUpper('abc')", "ABC"),
    ("toUpper(5)", "5"), ("rep('ab', 3)", "ababab"), ("rep('a', 0)", ""),
    ("rep('a', -1)", ""), ("trim('a', 'b')", "a")])
def test_strings_are_gos(expression, call, value):
    assert expression(f"strings.{call}") == [value]


def test_repeat_is_a_keyword_and_needs_brackets(expression):
    assert expression("strings['repeat']('ab', '3')") == ["ababab"]


def test_strings_take_no_quadratic_time_on_long_runs_of_spaces(handler):
    long = handler("""
        local s = ("a" .. (" "):rep(1000)):rep(300)
        local blank = (" "):rep(300000)
        local n = #strings.trim(s) + #strings.trimLeft(s)
            + #strings.trimRight(s) + #strings.replace(s, " ", "")
            + #strings.trim(blank) + #strings.trimLeft(blank)
            + #strings.trimRight(blank)
        return {body = n}
        """)
    assert long.value() == 299300 * 2 + 300300 + 300


# What went wrong, for its author

LUA_TIPS = dict(zip(
    "no_handler bad_return nil_index non_table_index nil_call bad_argument "
    "arithmetic concat compare missing_end syntax_error".split(),
    (tip for _, tip in TIPS["lua"]), strict=True))

LUA_MISTAKES = [
    ("no_handler", "x = 1"),
    ("bad_return", "function handler() return 'hi' end"),
    ("bad_return", "function handler() end"),
    ("nil_index", "local x; x.y = 1"),
    ("nil_index", "local t = {}; local x = t.a.b"),
    ("nil_index", "local x = nothere.y"),
    ("nil_index", "local x; x:foo()"),
    ("nil_index", "local x; print(#x)"),
    ("non_table_index", "local x = 5; print(x.y)"),
    ("non_table_index", "local x = true; x[1] = 2"),
    ("non_table_index", "local s = 'a'; s.y = 1"),
    ("nil_call", "nothing()"),
    ("nil_call", "local t = {}; t:foo()"),
    ("nil_call", "kv.list()"),
    ("nil_call", "for k in {} do end"),
    ("bad_argument", "('x'):rep({})"),
    ("bad_argument", "string.rep()"),
    ("bad_argument", "kv.get()"),
    ("bad_argument", "for k in pairs(nil) do end"),
    ("bad_argument", "for i = 1, 'x' do end"),
    ("arithmetic", "local n = 1 + nil"),
    ("arithmetic", "local t = {}; local n = t.n * 2"),
    ("arithmetic", "local n = 'a' + 1"),
    ("arithmetic", "local n = -{}"),
    ("concat", "local s = 'a' .. nil"),
    ("concat", "local t = {}; local s = 'a' .. t.name"),
    ("concat", "local s = table.concat({{}})"),
    ("compare", "local b = 1 < 'x'"),
    ("compare", "local b = {} < {}"),
    ("compare", "local b = nil < 1"),
    ("missing_end", "function handler()"),
    ("missing_end", "if true then x = 1"),
    ("missing_end", "repeat x = 1"),
    ("syntax_error", "x = = 1"),
    ("syntax_error", "local s = \"abc"),
    ("syntax_error", "x = {1, 2"),
    ("syntax_error", "if x = 1 then end"),
    ("syntax_error", "x ++"),
    ("syntax_error", "print('a' 'b'"),
    ("syntax_error", "end"),
    ("", "error('no luck')"),
    ("", "assert(false)")]


@pytest.mark.parametrize("tip, text", LUA_MISTAKES)
def test_a_tip_knows_the_words_of_every_lua(start, tip, text):
    worker, (_, verb, meta, _) = start(text)
    if verb == b"H":
        meta = worker()
    assert find_tip("lua", meta["sentence"]) == (
        tip and f"[TIP] {LUA_TIPS[tip]}"), meta


def test_an_error_is_explained_with_its_lines_and_a_tip(handler):
    text = "--\n--\nlocal user\nprint(user.name)\n--\n--"
    error = handler(text)()
    story = explain("lua", "main.lua", text="function handler(ctx, event)\n"
                    f"{text}\nend", **error)
    first, rest = story.split("\n\n", 1)
    assert first == f"Error at line 5: {error['sentence']}"
    assert rest == ("[CODE]\n"
                    "    3 | --\n"
                    "    4 | local user\n"
                    ">   5 | print(user.name)\n"
                    "    6 | --\n"
                    "    7 | --\n"
                    "[/CODE]\n\n"
                    f"[TIP] {LUA_TIPS['nil_index']}")


@pytest.mark.parametrize("line, shown", [
    (1, ">   1 | a\n    2 | b\n    3 | c"),
    (4, "    2 | b\n    3 | c\n>   4 |"), (0, ""), (None, ""), (9, "")])
def test_lines_that_are_not_there_are_not_shown(line, shown):
    story = explain("lua", "main.lua", "no luck", line, "a\r\nb\r\nc\r\n")
    where = f"Error at line {line}" if line else "Error"
    assert story == f"{where}: no luck" + (
        shown and f"\n\n[CODE]\n{shown}\n[/CODE]")


def test_a_long_line_is_cut_and_a_missing_text_left_out():
    story = explain("lua", "main.lua", "no luck", 1, "x" * 1000)
    assert story.count("x") == 160
    assert explain("lua", "main.lua", "no luck", 1, "") == (
        "Error at line 1: no luck")


@pytest.mark.parametrize("words, text", [
    ("def handler", "raise ValueError('main.py defines no function called "
     "handler')"),
    ("is no function", "None()"), ("is no function", "5()"),
    ("There is None", "x = None; x['a']"), ("There is None", "x = None; x.a"),
    ("There is None", "for x in None: pass"), ("There is None", "len(None)"),
    ("There is None", "x = None; x['a'] = 1"),
    ("Only a dict", "x = 5; x['a']"), ("Only a dict", "x = [1]; x['a']"),
    ("Only a dict", "x = 'a'; x['b']"), ("Only a dict", "'ab'[0] = 'c'"),
    ("not in the dict", "{}['colour']"), ("The list is shorter", "[1][3]"),
    ("no such name", "'a'.nope()"), ("go together", "1 + 'a'"),
    ("go together", "None + 1"), ("go together", "-None"),
    ("joined", "'a' + 1"), ("joined", "b'a' + 'b'"), ("joined", "[] + 1"),
    ("joined", "' '.join([1])"), ("compared", "1 < 'a'"),
    ("compared", "sorted([1, None])"), ("An argument", "(lambda a: a)()"),
    ("An argument", "(lambda a: a)(1, 2)"),
    ("An argument", "(lambda a: a)(b=1)"), ("An argument", "int(None)"),
    ("An argument", "import json; json.loads(None)"),
    ("JSON knows", "import json; json.dumps({1})"),
    ("is no JSON", "import json; json.loads('')"),
    ("is no number", "int('x')"), ("is no number", "float('x')"),
    ("misspelt, not yet", "nothere"),
    ("misspelt, not yet", "def f():\n  y += 1\nf()"),
    ("requirements.txt", "import nope"),
    ("requirements.txt", "from json import nope"),
    ("same column", "if True:\nx = 1"), ("same column", " x = 1"),
    ("same column", "if True:\n\tx = 1\n        y = 2"),
    ("This is no Python", "if True\n  pass"), ("This is no Python", "x = = 1"),
    ("This is no Python", "f("), ("This is no Python", "x = 'abc"),
    ("This is no Python", "print 'a'"),
    ("without end", "def h(x): return h(x)\nh(1)"),
    (None, "raise ValueError('no luck')"), (None, "1 / 0")])
def test_a_tip_knows_the_words_of_python(words, text):
    with pytest.raises(Exception) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        exec(compile(text, "main.py", "exec"), {})
    sentence = f"{caught.type.__name__}: {caught.value}"
    tip = find_tip("python", sentence)
    assert re.search(words, tip) if words else not tip, (sentence, tip)


def test_a_syntax_error_names_its_place_once():
    with pytest.raises(SyntaxError) as caught:
        compile("if True\n", "main.py", "exec")
    sentence = f"SyntaxError: {caught.value}"
    assert "(main.py, line 1)" in sentence
    assert explain("python", "main.py", sentence, 1, "if True\n").startswith(
        "Error at line 1: SyntaxError: expected ':'\n\n[CODE]\n>   1 | if")


def test_each_tip_is_the_only_one_of_its_words():
    for tips in TIPS.values():
        assert len({tip for _, tip in tips}) == len(tips)
    assert find_tip("binary", "attempt to call") == ""
