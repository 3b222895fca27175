"""Chapter 10.5: FaaS-Go's API, route by route, and where it is put right.

The tests follow its README: keys, functions, versions, variables, schedules,
calls, executions, logs, and the counter at its end.
"""

import collections
import concurrent.futures
import contextlib
import http.client
import http.server
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import urllib.parse

import pytest
from conftest import FAAS, FREE_DOORS, eventually, script, zip_of

import faas

HI = "function handler(ctx, event)\n  return {body = 'hi'}\nend\n"


def lua(lines):
    return f"function handler(ctx, event)\n{lines}\nend\n"


def python(lines):
    return "def handler(ctx, event):\n" + "".join(
        f"    {line}\n" for line in lines.splitlines())


class Go:
    """A client of FaaS-Go's API, with the key of one server."""

    def __init__(self, server):
        self.server = server
        self.key = (server.data / "api_key").read_text()
        self.bearer = {"Authorization": "Bearer " + self.key}

    def ask(self, method, path, value=None, headers=None):
        """Ask the API; give (status, the JSON or None)."""
        body = value if isinstance(value, bytes) else (
            b"" if value is None else json.dumps(value))
        reply = self.server.request(
            method, "/api" + path, body,
            self.bearer if headers is None else headers)
        return reply.status, json.loads(reply.body) if reply.body else None

    def good(self, method, path, value=None):
        """Ask what must be granted; give the JSON."""
        status, answer = self.ask(method, path, value)
        assert status in (200, 204), answer
        return answer

    def make(self, code, name="f", **more):
        """Create a function; give what the API says of it."""
        status, answer = self.ask("POST", "/functions", {
            "name": name, "code": code, **more})
        if status == 400 and "apt install" in answer["error"]:
            pytest.skip(answer["error"])
        assert status == 200, answer
        return answer

    def call(self, path, body=b"", method="POST", headers={}):
        return self.server.request(method, path, body, headers)

    def run(self, code, body=b"", path="", headers={}, **more):
        """Create a function, call it once; give answer and execution."""
        fn = self.make(code, **more)
        reply = self.call(f"/fn/{fn['id']}{path}", body, headers=headers)
        return reply, self.execution(reply)

    def execution(self, reply):
        return self.good("GET", "/executions/"
                         + reply.headers["X-Execution-Id"])


@pytest.fixture(scope="module")
def shared(module_server):
    return module_server()


@pytest.fixture
def go(request):
    """One server for most tests, and one of its own for who is alone."""
    return Go(request.getfixturevalue("server")() if hasattr(request, "param")
              else request.getfixturevalue("shared"))


# Who stops the server, or looks at all that it has.
alone = pytest.mark.parametrize("go", ["alone"], indirect=True)


def rows(go, table, column="function"):
    """Count what a table of the database knows of each function."""
    file = "kv.db" if table == "kv" else "faas.db"
    with contextlib.closing(sqlite3.connect(
            go.server.data / file, timeout=30)) as database:
        return collections.Counter(row[0] for row in database.execute(
            f"SELECT {column} FROM {table}").fetchall())


@contextlib.contextmanager
def web(answer):
    """Serve answer(method, path, headers, body) -> (status, body)."""
    class Page(http.server.BaseHTTPRequestHandler):
        def reply(self):
            size = int(self.headers.get("Content-Length") or 0)
            status, body = answer(self.command, self.path, self.headers,
                                  self.rfile.read(size))
            self.send_response(status)
            self.send_header("Lab", "one")
            self.send_header("Content-Length", str(len(body)))
            if status == 302:
                self.send_header("Location", "/there")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = reply

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


# The key


def guarded():
    """List a request for each route that takes the key."""
    return [("POST" if route.method == "*" else route.method,
             re.sub(r"\{\w+\}", "x", route.path))
            for route in faas.ROUTES if route.guard == "key"]


def test_without_the_key_every_route_of_the_api_is_a_401(go):
    assert len(guarded()) > 15
    for method, path in guarded():
        for headers in (
                {}, {"Authorization": "Bearer " + go.key[:-1]},
                {"Authorization": "bearer " + go.key},
                {"Authorization": "Basic " + go.key},
                {"Authorization": go.key}, {"Authorization": "Bearer"},
                {"Cookie": "auth_token=" + go.key[1:]},
                {"Cookie": "token=" + go.key}):
            reply = go.server.request(method, path, b"{}", headers)
            assert (reply.status, json.loads(reply.body)) == (
                401, {"error": "Authentication required"}), (path, headers)
            assert reply.headers["Content-Type"] == "application/json"
            assert reply.headers["WWW-Authenticate"] == "Bearer"


def test_a_login_trades_the_key_for_a_cookie_that_opens_the_api(go):
    reply = go.server.post("/api/auth/login",
                           json.dumps({"apiKey": go.key}))
    assert (reply.status, json.loads(reply.body)) == (200, {"success": True})
    value, *attributes = reply.headers["Set-Cookie"].split("; ")
    assert value == "auth_token=" + go.key
    assert set(attributes) == {"Path=/", "Max-Age=86400", "HttpOnly",
                               "SameSite=Strict"}
    for cookie in value, "a=b; " + value, value + "; a=b":
        status, answer = go.ask("GET", "/functions",
                                headers={"Cookie": cookie})
        assert (status, answer["functions"]) == (200, [])


def test_what_is_no_login_is_told_so_in_the_same_form(go):
    for body, status, error in [
            (b"", 401, "Invalid API key"), (b"{}", 401, "Invalid API key"),
            (b'{"apiKey": ""}', 401, "Invalid API key"),
            (b'{"apiKey": "no"}', 401, "Invalid API key"),
            (b"no json", 400, "Invalid request body"),
            (b"[]", 400, "Invalid request body"),
            (b'{"apiKey": 5}', 400, "Invalid request body")]:
        reply = go.server.post("/api/auth/login", body)
        assert (reply.status, json.loads(reply.body)) == (
            status, {"success": False, "error": error}), body
        assert "Set-Cookie" not in reply.headers


def test_a_logout_takes_the_cookie_back_and_needs_no_key(go):
    reply = go.server.post("/api/auth/logout")
    assert (reply.status, json.loads(reply.body)) == (200, {"success": True})
    value, *attributes = reply.headers["Set-Cookie"].split("; ")
    assert value == "auth_token=" and "Max-Age=0" in attributes
    assert {"Path=/", "HttpOnly", "SameSite=Strict"} <= set(attributes)


def test_a_cookie_that_a_page_from_elsewhere_brought_opens_nothing(go):
    cookie = {"Cookie": "auth_token=" + go.key}
    place = urllib.parse.urlsplit(go.server.url).netloc
    for page in ({"Origin": "http://evil.example"}, {"Origin": "null"},
                 {"Origin": f"http://{place}.evil.example"},
                 {"Sec-Fetch-Site": "cross-site"},
                 {"Sec-Fetch-Site": "same-site"},
                 {"Host": "evil.example"}):
        status, answer = go.ask("GET", "/functions",
                                headers={**cookie, **page})
        assert (status, list(answer)) == (403, ["error"]), page
    for page in ({"Origin": go.server.url}, {"Sec-Fetch-Site": "same-origin"},
                 {"Sec-Fetch-Site": "none"}):
        assert go.ask("GET", "/functions", headers={**cookie, **page}
                      )[0] == 200


def test_on_any_address_the_key_opens_the_api_and_nothing_else_does(server):
    go = Go(server("--host", "0.0.0.0"))
    port = urllib.parse.urlsplit(go.server.url).port
    go.server.url = f"http://127.0.0.1:{port}"
    fn = go.make(HI)
    for headers, status in (
            ({}, 401), (go.bearer, 200), ({"Cookie": "auth_token=x"}, 401),
            ({"Cookie": "auth_token=" + go.key}, 200)):
        assert go.ask("GET", "/functions", headers=headers)[0] == status
    assert go.call(f"/fn/{fn['id']}").body == b"hi"


def test_the_key_may_be_given_in_a_variable(server):
    home = server(env={"API_KEY": "4711-4711"})
    assert not (home.data / "api_key").exists()
    for key, status in ("4711-4711", 200), ("4711", 401):
        reply = home.get("/api/functions",
                         headers={"Authorization": "Bearer " + key})
        assert reply.status == status


def test_the_key_lies_in_a_file_for_its_owner_and_stays_the_same(server):
    one = server()
    key = (one.data / "api_key").read_text()
    assert re.fullmatch("[0-9a-f]{64}", key)
    assert stat.S_IMODE((one.data / "api_key").stat().st_mode) == 0o600
    one.stop()
    two = Go(server(home=one.home))
    assert two.key == key and two.ask("GET", "/functions")[0] == 200


# Create


def test_a_function_is_created_with_its_first_version(go):
    fn = go.make(HI, "hits", description="counts")
    version = fn.pop("active_version")
    assert re.fullmatch("[0-9a-f]{20}", fn["id"])
    now = fn["created_at"]
    assert fn == {
        "id": fn["id"], "name": "hits", "description": "counts",
        "env_vars": {}, "disabled": False, "retention_days": None,
        "cron_schedule": None, "cron_status": "paused",
        "save_response": False, "created_at": now, "updated_at": now}
    assert version == {
        "id": f"ver_{fn['id']}_v1", "function_id": fn["id"], "version": 1,
        "code": HI, "created_at": now, "created_by": None, "is_active": True}
    assert go.good("GET", f"/functions/{fn['id']}") == {
        **fn, "active_version": version}


NO_CREATE = [
    ({"code": HI}, "name: name cannot be empty"),
    ({"name": "", "code": HI}, "name: name cannot be empty"),
    ({"name": " \t", "code": HI}, "name: name cannot be empty"),
    ({"name": "x" * 101, "code": HI}, "name: "),
    ({"name": "ä" * 51, "code": HI}, "name: "),
    ({"name": 5, "code": HI}, ""),
    ({"name": "x"}, "code: code cannot be empty"),
    ({"name": "x", "code": " \n"}, "code: code cannot be empty"),
    ({"name": "x", "code": ["a"]}, ""),
    ({"name": "x", "code": "-" * (1 << 20) + "-"}, "code: "),
    ({"name": "x", "code": HI, "description": "d" * 501}, "description: "),
    ({"name": "x", "code": HI, "description": 5}, ""),
    ({"name": "x", "code": HI, "tongue": "cobol"}, "tongue: "),
    ({"name": "x", "code": HI, "tongue": "server"}, "tongue: "),
    ({"name": "x", "code": "return 5"}, "x does not start: Error"),
    ([], "Invalid request body"), ("x", "Invalid request body"),
    (b"{", "Invalid request body"), (b"", "name: name cannot be empty"),
    (b"\xff", "Invalid request body"), (b"[" * 9999, "Invalid request body")]


@alone
def test_what_is_no_function_is_a_400_that_names_the_field(go):
    for value, error in NO_CREATE:
        status, answer = go.ask("POST", "/functions", value)
        assert (status, list(answer)) == (400, ["error"]), value
        assert answer["error"].startswith(error), answer
    assert go.good("GET", "/functions")["functions"] == []
    assert list((go.server.data / "shelf").iterdir()) == []


def test_the_bounds_of_a_name_and_a_description_are_in_bytes(go):
    for name in "x" * 100, "ä" * 50:
        assert go.make(HI, name, description="é" * 250)["name"] == name


@alone
@pytest.mark.parametrize("tongue, text, line, sentence", [
    ("lua", "function handler(ctx, event)\n  return {\nend\n", 3, "'end'"),
    ("lua", "local x = nil\nx.y = 1\n" + HI, 2, "index"),
    ("lua", "function Handler() end", 0, "no function called handler"),
    ("python", "def handler(ctx, event):\n    return {\n", 2, "Error"),
    ("python", "import no_such_module\n", 1, "no_such_module"),
    ("python", "def handle(ctx, event): pass\n", 0,
     "no function called handler")])
def test_a_text_that_does_not_load_is_explained_and_leaves_nothing(
        go, tongue, text, line, sentence):
    go.make(HI, "other")
    status, answer = go.ask("POST", "/functions", {
        "name": "broken", "code": text, "tongue": tongue})
    assert status == 400
    where = f"Error at line {line}: " if line else "Error: "
    assert answer["error"].startswith("broken does not start: " + where)
    assert sentence in answer["error"] and "[TIP] " in answer["error"]
    if line:
        assert "\n[CODE]\n" in answer["error"]
        assert re.search(rf"^> *{line} \|", answer["error"], re.MULTILINE)
    assert [fn["name"] for fn in
            go.good("GET", "/functions")["functions"]] == ["other"]
    assert [path.name for path in
            (go.server.data / "shelf").iterdir()] == ["other"]
    good = go.make(HI, "broken")
    assert go.call("/broken").body == b"hi" and good["name"] == "broken"


ODD = ["Größe", "日本", "a/b", "../../etc/passwd", "a b", " padded ", ".git",
       "-rf", "fn", "api", "upload", "functions", "x" * 100, "a\nb", "\0",
       "<script>", "%2e", "\ud800", "hits", "hits", "shout", "bare"]


@alone
def test_a_name_may_be_anything_and_need_not_be_the_only_one(go):
    script(go.server, "shout", "tr a-z A-Z")
    (go.server.functions / "bare").mkdir()
    made = [go.make(lua(f"return {{body = '{number}'}}"), name)
            for number, name in enumerate(ODD)]
    assert [fn["name"] for fn in made] == ODD       # as it was given
    assert len({fn["id"] for fn in made}) == len(ODD)
    for number, fn in enumerate(made):
        assert go.call(f"/fn/{fn['id']}").body == str(number).encode()
    # On the other faces each has a name that is a path, and its own.
    names = go.server.get("/list").body.decode().split()
    assert len(set(names)) == len(ODD)
    assert {"hits", "hits-2", "shout-2", "bare-2", "fn-2"} <= set(names)
    assert all(faas.NAME.fullmatch(name) for name in names)
    assert go.server.post("/shout", b"hi").body == b"HI"


@alone
def test_creates_of_one_name_at_the_same_time_make_as_many_functions(go):
    go.make(HI, "first")
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        made = list(pool.map(lambda number: go.make(
            lua(f"return {{body = '{number}'}}"), "same"), range(12)))
        listed = list(pool.map(lambda _: go.ask("GET", "/functions")[0],
                               range(12)))
    assert len({fn["id"] for fn in made}) == 12 and set(listed) == {200}
    assert sorted(go.call(f"/fn/{fn['id']}").body for fn in made) == sorted(
        str(number).encode() for number in range(12))
    assert sorted(go.server.get("/list").body.decode().split()) == sorted(
        ["first", "same", *(f"same-{n}" for n in range(2, 13))])


@alone
def test_a_list_that_is_asked_while_functions_come_and_go_is_a_list(go):
    def come_and_go(number):
        for _ in range(6):
            fn = go.make(HI, f"n{number}")
            go.good("DELETE", f"/functions/{fn['id']}")

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        work = [pool.submit(come_and_go, number) for number in range(3)]
        while not all(one.done() for one in work):
            assert go.ask("GET", "/functions")[0] == 200
        assert [one.result() for one in work] == [None] * 3
    assert go.good("GET", "/functions")["functions"] == []


def test_a_body_that_is_too_large_is_a_413(go):
    fn = go.make(HI)
    large = b'{"name": "' + b"x" * (6 << 20) + b'"}'
    for method, path in [("POST", "/api/functions"),
                         ("PUT", f"/api/functions/{fn['id']}"),
                         ("PUT", f"/api/functions/{fn['id']}/env"),
                         ("POST", "/api/auth/login"),
                         ("POST", f"/fn/{fn['id']}")]:
        assert go.server.request(method, path, large, go.bearer
                                 ).status == 413, path


# Lists


@alone
def test_what_is_empty_is_an_empty_list_and_not_null(go):
    page = {"total": 0, "limit": 20, "offset": 0}
    assert go.good("GET", "/functions") == {
        "functions": [], "pagination": page}
    fn = go.make(HI)
    assert go.good("GET", f"/functions/{fn['id']}/executions") == {
        "executions": [], "pagination": page}
    reply = go.call(f"/fn/{fn['id']}")
    ident = reply.headers["X-Execution-Id"]
    logs = go.good("GET", f"/executions/{ident}/logs")
    assert (logs["logs"], logs["pagination"]) == ([], page)


@pytest.mark.parametrize("query, limit, offset", [
    ("", 20, 0), ("limit=5", 5, 0), ("limit=100", 100, 0),
    ("limit=101", 20, 0), ("limit=0", 20, 0), ("limit=-1", 20, 0),
    ("limit=abc", 20, 0), ("limit=5.0", 20, 0), ("limit=", 20, 0),
    ("limit=%D9%A3", 20, 0), ("limit=99999999999999999999", 20, 0),
    ("offset=2", 20, 2), ("offset=-2", 20, 0), ("offset=x", 20, 0),
    ("offset=99999999999999999999", 20, 0), ("limit=1&offset=1", 1, 1),
    ("limit=2&limit=3", 3, 0), ("other=1", 20, 0)])
def test_a_page_has_a_limit_and_an_offset_or_their_defaults(query, limit,
                                                            offset):
    page = faas.lunar_page(
        faas.Request("GET", "/", query), "rows",
        lambda limit, at: list(range(at, min(at + limit, 30))), 30)
    assert page == {
        "rows": list(range(30))[offset:offset + limit],
        "pagination": {"total": 30, "limit": limit, "offset": offset}}


@alone
def test_functions_versions_executions_and_logs_come_in_pages(go):
    made = [go.make(lua("for i = 1, 5 do log.info('n' .. i) end "
                        "return {}"), f"f{n}") for n in range(3)]
    for text in "two", "three":
        go.good("PUT", f"/functions/{made[0]['id']}",
                {"code": lua(f"log.info('{text}') return {{}}")})
    replies = [go.call(f"/fn/{made[1]['id']}") for _ in range(3)]
    idents = [reply.headers["X-Execution-Id"] for reply in replies]

    def pages(path, name, key):
        first = go.good("GET", path + "?limit=2")
        rest = go.good("GET", path + "?limit=2&offset=2")
        assert first["pagination"] == {"total": rest["pagination"]["total"],
                                       "limit": 2, "offset": 0}
        assert len(first[name]) == 2
        return [one[key] for one in first[name] + rest[name]]

    # The newest first, and a log as it was written.
    assert pages("/functions", "functions", "name") == ["f2", "f1", "f0"]
    assert pages(f"/functions/{made[0]['id']}/versions", "versions",
                 "version") == [3, 2, 1]
    assert pages(f"/functions/{made[1]['id']}/executions", "executions",
                 "id") == idents[::-1]
    assert pages(f"/executions/{idents[0]}/logs", "logs", "message") == [
        "n1", "n2", "n3", "n4"]


def test_a_list_shows_no_variables_and_a_read_does(go):
    fn = go.make(HI)
    go.good("PUT", f"/functions/{fn['id']}/env",
            {"env_vars": {"API_KEY": "sesame-4711"}})
    listed = go.good("GET", "/functions")["functions"][0]
    assert listed["env_vars"] == {}
    read = go.good("GET", f"/functions/{fn['id']}")
    assert read["env_vars"] == {"API_KEY": "sesame-4711"}
    for path in "/-/functions", "/", "/list", "/metrics", "/-/executions":
        assert b"sesame" not in go.server.get(path).body


# Unknown ids


def unknown():
    """List (method, path, body) of each route that takes an id."""
    bodies = {("PUT", "/env"): {"env_vars": {}}, ("PUT", ""): {"name": "x"}}
    for route in faas.ROUTES:
        if route.face == "FaaS-Go" and route.guard == "key" and (
                "{name}" in route.path or "{ident}" in route.path):
            path = route.path.removeprefix("/api").format(
                name="nobody", ident="nobody", version=1, old=1, new=1)
            tail = path.removeprefix("/functions/nobody")
            yield route.method, path, bodies.get((route.method, tail))


def test_an_unknown_id_is_a_404_on_every_route(go):
    assert len(list(unknown())) == 13
    for method, path, value in unknown():
        status, answer = go.ask(method, path, value)
        assert (status, list(answer)) == (404, ["error"]), path
        assert answer["error"].startswith(
            "Execution not found" if path.startswith("/executions") else
            "Function not found"), path
    status, answer = go.ask("PUT", "/functions/nobody", {"code": HI})
    assert status == 404                # FaaS-Go: 500
    reply = go.call("/fn/nobody/a")
    assert reply.status == 404 and json.loads(reply.body)["error"].startswith(
        "Function not found")
    status, answer = go.ask("GET", "/nothing/here")
    assert (status, list(answer)) == (404, ["error"])


def test_a_file_is_no_function_of_this_api_and_can_be_called(go):
    script(go.server, "shout", "tr a-z A-Z")
    assert go.ask("GET", "/functions/shout")[0] == 404
    reply = go.call("/fn/shout", b"hi")
    assert (reply.status, reply.body) == (200, b"HI")
    execution = go.execution(reply)
    assert execution["function_id"] == "shout"


# Update


def test_an_update_answers_nothing_and_changes_what_it_names(go):
    fn = go.make(HI, "old", description="was")
    path = f"/functions/{fn['id']}"
    for change in ({"name": "Neu"}, {"description": "is"},
                   {"description": ""}, {"save_response": True},
                   {"retention_days": 7}, {"retention_days": 365},
                   {"disabled": True}, {"disabled": False},
                   {"name": "a", "description": "b", "disabled": False}):
        before = go.good("GET", path)
        reply = go.server.request("PUT", "/api" + path, json.dumps(change),
                                  go.bearer)
        assert (reply.status, reply.body) == (200, b"")
        after = go.good("GET", path)
        assert after == {**before, **change,
                         "updated_at": after["updated_at"]}
    assert go.call("/old").body == b"hi"    # Its name in paths stays.


NO_UPDATE = [
    ({}, "request: at least one field must be provided for update"),
    ({"other": 1}, "request: at least one field must be provided for update"),
    ({"name": None}, "request: at least one field"),
    ({"name": ""}, "name: name cannot be empty"),
    ({"name": "x" * 101}, "name: "), ({"name": 5}, ""),
    ({"description": "d" * 501}, "description: "),
    ({"code": ""}, "code: code cannot be empty"), ({"code": 5}, ""),
    ({"disabled": "yes"}, "disabled: "), ({"disabled": 1}, "disabled: "),
    ({"save_response": 0}, "save_response: "),
    ({"retention_days": 8},
     "retention_days: retention_days must be one of: [7 15 30 365]"),
    ({"retention_days": "7"}, "retention_days: "),
    ({"retention_days": []}, "retention_days: "),
    ({"retention_days": True}, "retention_days: "),
    ({"cron_schedule": "often"},
     "cron_schedule: invalid cron expression: "),
    ({"cron_schedule": "60 * * * *"},
     "cron_schedule: invalid cron expression: "),
    ({"cron_schedule": "0 0 30 2 *"},
     "cron_schedule: invalid cron expression: "),
    ({"cron_schedule": 5}, ""),
    ({"cron_status": "on"},
     "cron_status: cron_status must be one of: [active paused]"),
    ({"cron_status": 5}, "cron_status: "),
    (b"[]", "Invalid request body"), (b"{", "Invalid request body")]


def test_an_update_that_is_wrong_in_one_field_changes_none(go):
    fn = go.make(HI)
    path = f"/functions/{fn['id']}"
    before = go.good("GET", path)
    for value, error in NO_UPDATE:
        if isinstance(value, dict) and set(value) - {"name", "other"}:
            value = {"name": "changed", **value}
        status, answer = go.ask("PUT", path, value)
        assert (status, list(answer)) == (400, ["error"]), value
        assert answer["error"].startswith(error), (value, answer)
    assert go.good("GET", path) == before


def test_a_broken_text_leaves_the_old_version_serving(go):
    fn = go.make(HI)
    path = f"/functions/{fn['id']}"
    status, answer = go.ask("PUT", path, {
        "name": "changed", "code": "function handler(ctx, event)\nreturn {"})
    assert status == 400 and "Error at line 2: " in answer["error"]
    assert go.call(f"/fn/{fn['id']}").body == b"hi"
    read = go.good("GET", path)
    assert (read["name"], read["active_version"]["version"]) == ("f", 1)
    assert go.good("GET", path + "/versions")["pagination"]["total"] == 1


@alone
def test_an_update_of_the_text_keeps_the_other_files_and_settings(go):
    bundle = {"main.lua": "local b = require('b')\n" + lua(
        "return {body = 'one' .. b}"), "b.lua": "return ' and b'\n"}
    go.server.upload("f", zip_of(bundle), env="lua", envs=["COLOUR=red"])
    go.good("PUT", "/functions/f", {"save_response": True})
    go.good("PUT", "/functions/f", {"code": bundle["main.lua"].replace(
        "one", "two")})
    assert go.call("/fn/f").body == b"two and b"
    read = go.good("GET", "/functions/f")
    assert read["save_response"] and read["env_vars"] == {"COLOUR": "red"}


@alone
def test_a_function_that_is_disabled_refuses_calls_on_every_face(go):
    fn = go.make(HI)
    go.good("PUT", f"/functions/{fn['id']}", {"disabled": True})
    reply = go.call(f"/fn/{fn['id']}")
    assert (reply.status, json.loads(reply.body)) == (
        403, {"error": "Function is disabled"})
    assert not {"X-Function-Id", "X-Function-Version-Id"} & set(
        reply.headers)
    for path in "/f", "/invoke/f", "/functions/f", "/-/functions/f/run":
        assert go.call(path).status == 403, path
    go.good("PUT", f"/functions/{fn['id']}", {"disabled": False})
    assert go.call(f"/fn/{fn['id']}").body == b"hi"


# Versions


def three(go):
    """Make a function of three versions; give its path in the API."""
    fn = go.make(lua("return {body = 'v1'}"))
    for number in 2, 3:
        go.good("PUT", f"/functions/{fn['id']}",
                {"code": lua(f"return {{body = 'v{number}'}}")})
    return f"/functions/{fn['id']}", fn["id"]


def test_each_text_is_a_version_and_one_of_them_is_active(go):
    path, ident = three(go)
    versions = go.good("GET", path + "/versions")["versions"]
    assert [(one["version"], one["is_active"]) for one in versions] == [
        (3, True), (2, False), (1, False)]
    for one in versions:
        assert one["id"] == f"ver_{ident}_v{one['version']}"
        assert one["code"] == lua(f"return {{body = 'v{one['version']}'}}")
        for way in one["version"], one["id"]:
            assert go.good("GET", f"{path}/versions/{way}") == one
    assert go.call(f"/fn/{ident}").body == b"v3"


def test_a_version_is_activated_by_its_number_or_by_its_id(go):
    path, ident = three(go)
    for way, body in ("1", b"v1"), (f"ver_{ident}_v2", b"v2"), ("2", b"v2"):
        reply = go.server.post(f"/api{path}/versions/{way}/activate", b"",
                               go.bearer)
        assert (reply.status, reply.body) == (200, b"")
        reply = go.call(f"/fn/{ident}")
        assert reply.body == body
        assert reply.headers["X-Function-Version-Id"] == (
            f"ver_{ident}_{body.decode()}")
    versions = go.good("GET", path + "/versions")["versions"]
    assert [one["version"] for one in versions if one["is_active"]] == [2]


def test_a_version_that_is_not_there_is_a_404_and_no_number_a_400(go):
    path, ident = three(go)
    other = go.make(HI, "other")
    for method, tail in (("GET", ""), ("POST", "/activate"), ("DELETE", "")):
        for way in "0", "4", "999999999", f"ver_{ident}_v9":
            status, answer = go.ask(method, f"{path}/versions/{way}{tail}")
            assert status == 404, (method, way)
            assert answer["error"].startswith("Version not found")
        for way in ("x", "-1", "1.0", "1e0", "%D9%A3", "9999999999",
                    f"ver_{other['id']}_v1", "ver_x_v1"):
            status, answer = go.ask(method, f"{path}/versions/{way}{tail}")
            assert (status, answer["error"]) == (
                400, "Invalid version number"), (method, way)
    assert go.call(f"/fn/{ident}").body == b"v3"


@alone
def test_a_version_is_deleted_unless_it_serves(go):
    path, ident = three(go)
    for way in "3", f"ver_{ident}_v3":
        status, answer = go.ask("DELETE", f"{path}/versions/{way}")
        assert (status, answer) == (
            400, {"error": "Cannot delete active version"})
    digests = len(list((go.server.data / "shelf" / "f").iterdir()))
    reply = go.server.request("DELETE", f"/api{path}/versions/ver_{ident}_v1",
                              b"", go.bearer)
    assert (reply.status, reply.body) == (204, b"")
    assert len(list((go.server.data / "shelf" / "f").iterdir())) == (
        digests - 1)
    assert go.ask("DELETE", path + "/versions/1")[0] == 404
    assert go.ask("POST", path + "/versions/1/activate")[0] == 404
    assert [one["version"] for one in
            go.good("GET", path + "/versions")["versions"]] == [3, 2]
    assert go.call(f"/fn/{ident}").body == b"v3"


def test_a_diff_tells_line_by_line_what_was_added_and_removed(go):
    old = "-- one\n\n" + lua("  return {}") + "\n-- end\n"
    new = "-- one\n\n-- two\n" + lua("  return {body = 'x'}") + "\n-- end\n"
    fn = go.make(old)
    go.good("PUT", f"/functions/{fn['id']}", {"code": new})
    diff = go.good("GET", f"/functions/{fn['id']}/diff/1/2")
    assert (diff["old_version"], diff["new_version"]) == (1, 2)
    assert [(row["line_type"][0], row.get("old_line"), row.get("new_line"),
             row["content"]) for row in diff["diff"]] == [
        ("u", 1, 1, "-- one"), ("u", 2, 2, ""),
        ("a", None, 3, "-- two"),
        ("u", 3, 4, "function handler(ctx, event)"),
        ("r", 4, None, "  return {}"), ("a", None, 5, "  return {body = 'x'}"),
        ("u", 5, 6, "end"), ("u", 6, 7, ""), ("u", 7, 8, "-- end")]
    back = go.good("GET", f"/functions/{fn['id']}/diff/2/1")["diff"]
    assert collections.Counter(row["line_type"] for row in back) == {
        "unchanged": 6, "removed": 2, "added": 1}
    same = go.good("GET", f"/functions/{fn['id']}/diff/"
                   f"ver_{fn['id']}_v2/2")["diff"]
    assert {row["line_type"] for row in same} == {"unchanged"}


def test_a_diff_counts_lines_as_every_editor_does(go):
    """A form feed, or Unicode's line separator, ends no line of a text."""
    one = go.make(lua("local s = 'a\x0cb\u2028c\x85d'\nreturn {body = s}"))
    rows = go.good("GET", f"/functions/{one['id']}/diff/1/1")["diff"]
    assert [row["old_line"] for row in rows][:4] == [1, 2, 3, 4]
    assert rows[1]["content"] == "local s = 'a\x0cb\u2028c\x85d'"


def test_a_diff_of_what_is_not_there_is_refused(go):
    path, _ = three(go)
    for tail, status, error in [
            ("x/1", 400, "Invalid version number v1"),
            ("1/x", 400, "Invalid version number v2"),
            ("9/1", 404, "Version"), ("1/9", 404, "Version"),
            ("0/1", 404, "Version"), ("1/0", 404, "Version")]:
        found, answer = go.ask("GET", f"{path}/diff/{tail}")
        assert (found, answer["error"][:len(error)]) == (status, error), tail


def test_texts_that_are_too_long_to_compare_are_a_413(go):
    """To compare takes longer than in proportion to what is compared."""
    lines = "".join(f"-- {number}\n" for number in range(100_000))
    fn = go.make(HI + lines)
    go.good("PUT", f"/functions/{fn['id']}",
            {"code": HI + lines.replace("7", "8")})
    status, answer = go.ask("GET", f"/functions/{fn['id']}/diff/1/2")
    assert (status, list(answer)) == (413, ["error"])


# Variables


def test_variables_are_replaced_as_a_whole_and_seen_at_once(go):
    fn = go.make(lua("return {body = (env.get('A') or '-') .. "
                     "(env.get('B') or '-')}"))
    path = f"/functions/{fn['id']}"
    for env, body in (({"A": "1", "B": "2"}, b"12"), ({"B": "ü "}, "-ü "),
                      ({}, b"--")):
        answer = go.good("PUT", path + "/env", {"env_vars": env})
        assert answer == go.good("GET", path + "/versions/1")
        assert go.good("GET", path)["env_vars"] == env
        body = body if isinstance(body, bytes) else body.encode()
        assert go.call(f"/fn/{fn['id']}").body == body


def test_variables_have_bounds(go):
    fn = go.make(HI)
    path = f"/functions/{fn['id']}/env"
    full = {f"K{n}": "x" for n in range(100)}
    go.good("PUT", path, {"env_vars": full})
    go.good("PUT", path, {"env_vars": {"K" * 100: "x" * 10000}})
    before = go.good("GET", f"/functions/{fn['id']}")["env_vars"]
    for env in ({**full, "K": "x"}, {"": "x"}, {"a-b": "x"}, {"a b": "x"},
                {"A=B": "x"}, {"ä": "x"}, {"A\n": "x"}, {"K" * 101: "x"},
                {"A": ""}, {"A": " \t"}, {"A": "x" * 10001}, {"A": "\0"},
                {"A": 5}, {"A": None}, {"A": ["x"]}, ["A"], "A", None, 5):
        status, answer = go.ask("PUT", path, {"env_vars": env})
        assert (status, list(answer)) == (400, ["error"]), env
    for body in b"", b"{}", b"[]", b"{":
        assert go.ask("PUT", path, body)[0] == 400
    assert go.good("GET", f"/functions/{fn['id']}")["env_vars"] == before


@pytest.mark.parametrize("tongue, text", [
    ("lua", lua("""
        local do_, name, value = event.body:match("(%S+) (%S+) ?(%S*)")
        if do_ == "set" then return {body = env.set(name, value)} end
        if do_ == "delete" then return {body = env.delete(name)} end
        return {body = env.get(name) or "nil"}""")),
    ("python", python("""\
do, name, *value = event["body"].split(" ")
if do == "set":
    return {"body": ctx.env.set(name, value[0])}
if do == "delete":
    return {"body": ctx.env.delete(name)}
return {"body": ctx.env.get(name) or "nil"}"""))])
def test_a_function_sets_and_deletes_variables_of_its_own(go, tongue, text):
    fn = go.make(text, tongue=tongue)
    other = go.make(text, "other", tongue=tongue)

    def do(line, fn=fn):
        return go.call(f"/fn/{fn['id']}", line.encode()).body

    assert do("get A") == b"nil" and do("set A 1") == b"true"
    assert do("get A") == b"1" and do("get A", other) == b"nil"
    assert do("set B 2") == b"true" and do("delete A") == b"true"
    assert do("get A") == b"nil" and do("delete A") == b"true"
    read = go.good("GET", f"/functions/{fn['id']}")
    assert read["env_vars"] == {"B": "2"}
    assert read["active_version"]["version"] == 1
    # The variables of the process are none of its variables.
    assert do("get PATH") == do("get HOME") == b"nil"


def test_variables_that_are_set_at_the_same_time_are_all_there(go):
    fn = go.make(lua("return {body = env.set(event.body, 'x')}"))
    names = [f"K{number}" for number in range(40)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        bodies = list(pool.map(lambda name: go.call(
            f"/fn/{fn['id']}", name.encode()).body, names))
    assert set(bodies) == {b"true"}
    read = go.good("GET", f"/functions/{fn['id']}")
    assert sorted(read["env_vars"]) == sorted(names)


@pytest.mark.parametrize("tongue, text", [
    ("lua", "env.set('A', '1')\n" + HI),
    ("python", python("return {'body': 'hi'}"))])
def test_a_text_that_asks_while_it_loads_does_not_wait_for_itself(
        go, tongue, text):
    fn = go.make(lua("return {body = 'old'}") if tongue == "lua" else
                 python("return {'body': 'old'}"), tongue=tongue)
    status, _ = go.ask("PUT", f"/functions/{fn['id']}", {"code": text})
    assert status in (200, 400)
    body = go.call(f"/fn/{fn['id']}").body
    assert body == (b"hi" if status == 200 else b"old")
    assert go.ask("DELETE", f"/functions/{fn['id']}")[0] == 204


def family(pid):
    """List the processes that descend from one."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(
                    file.read().rpartition(")")[2].split()[1])
    found, new = set(), {pid}
    while new:
        found |= new
        new = {one for one, parent in parents.items() if parent in found
               } - found
    return found


@pytest.mark.parametrize("tongue, text", [
    ("lua", lua("local file = io.open('/proc/self/environ')\n"
                "return {body = {mine = file:read('*a'), "
                "key = env.get('API_KEY'), os = os.getenv('API_KEY')}}")),
    ("python", python(
        "import os\nreturn {'body': {'mine': open('/proc/self/environ')"
        ".read() + str(os.environ),\n"
        "        'key': ctx.env.get('API_KEY')}}"))])
def test_a_functions_variables_are_in_no_processs_environment(server, tongue,
                                                              text):
    go = Go(server())
    fn = go.make(text, tongue=tongue)
    go.good("PUT", f"/functions/{fn['id']}/env",
            {"env_vars": {"API_KEY": "sesame-4711"}})
    for _ in range(2):
        seen = json.loads(go.call(f"/fn/{fn['id']}").body)
        assert seen["key"] == "sesame-4711"
        assert "sesame" not in seen["mine"] and "os" not in seen
        workers = family(go.server.pid)
        assert len(workers) > 2
        for pid in workers:
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/environ", "rb") as file:
                    assert b"sesame" not in file.read()
        go.server.kill()
        go = Go(server(home=go.server.home))    # and once more after a start


# Schedules


@alone
def test_a_schedule_is_set_paused_activated_and_cleared(go):
    fn = go.make(HI)
    path = f"/functions/{fn['id']}"

    def state():
        known = go.good("GET", path)
        return known["cron_schedule"], known["cron_status"]

    assert go.good("GET", path + "/next-run") == {"has_schedule": False}
    go.good("PUT", path, {"cron_schedule": "*/5 * * * *"})
    assert state() == ("*/5 * * * *", "paused")
    assert go.good("GET", path + "/next-run") == {
        "has_schedule": True, "cron_schedule": "*/5 * * * *",
        "cron_status": "paused", "is_paused": True}
    assert go.server.get("/schedule").body == b"{}\n"

    go.good("PUT", path, {"cron_status": "active"})
    assert state() == ("*/5 * * * *", "active")
    known = go.good("GET", path + "/next-run")
    due, human = known.pop("next_run"), known.pop("next_run_human")
    assert known == {"has_schedule": True, "cron_schedule": "*/5 * * * *",
                     "cron_status": "active", "is_paused": False}
    assert due % 300 == 0
    assert re.fullmatch("in less than a minute|in 1 minute|in [2-5] minutes|"
                        "overdue", human)
    assert json.loads(go.server.get("/schedule").body) == {
        "f": "*/5 * * * *"}

    go.good("PUT", path, {"cron_schedule": "0 0 * * *"})    # still active
    assert state() == ("0 0 * * *", "active")
    go.good("PUT", path, {"cron_status": "paused"})
    assert state() == ("0 0 * * *", "paused")
    go.good("PUT", path, {"cron_schedule": "", "cron_status": "active"})
    assert state() == (None, "paused")
    assert go.good("GET", path + "/next-run") == {"has_schedule": False}


def test_a_schedule_survives_a_start_whether_it_runs_or_not(server):
    go = Go(server())
    for name, status in ("a", "active"), ("b", "paused"):
        fn = go.make(HI, name)
        go.good("PUT", f"/functions/{fn['id']}", {
            "cron_schedule": "0 0 1 1 *", "cron_status": status})
    go.server.kill()
    go = Go(server(home=go.server.home))
    for name, status in ("a", "active"), ("b", "paused"):
        known = go.good("GET", f"/functions/{name}")
        assert (known["cron_schedule"], known["cron_status"]) == (
            "0 0 1 1 *", status)


@pytest.mark.parametrize("seconds, text", [
    (-1, "overdue"), (0, "in less than a minute"),
    (59.9, "in less than a minute"), (60, "in 1 minute"),
    (119, "in 1 minute"), (120, "in 2 minutes"), (3599, "in 59 minutes"),
    (3600, "in 1 hour"), (7200, "in 2 hours"), (86399, "in 23 hours"),
    (86400, "in 1 day"), (172800, "in 2 days")])
def test_a_time_is_told_as_people_tell_it(seconds, text):
    assert faas.human_time(seconds) == text


def test_a_scheduled_run_is_an_execution_that_cron_has_triggered(go):
    fn = go.make(lua("return {body = event.headers['X-Trigger']}"))
    go.good("PUT", f"/functions/{fn['id']}", {"save_response": True})
    reply = go.server.post(f"/-/functions/{fn['id']}/run?trigger=cron")
    assert reply.body == b"cron"
    one, = go.good("GET", f"/functions/{fn['id']}/executions")["executions"]
    assert (one["trigger"], one["status"]) == ("cron", "success")


# Calls


def test_the_answer_of_a_call_says_what_ran(go):
    fn = go.make(HI)
    reply = go.call(f"/fn/{fn['id']}")
    assert (reply.status, reply.body) == (200, b"hi")
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["X-Function-Id"] == fn["id"]
    assert reply.headers["X-Function-Version-Id"] == f"ver_{fn['id']}_v1"
    assert re.fullmatch("[0-9]+", reply.headers["X-Execution-Duration-Ms"])
    assert go.execution(reply) == {
        "id": reply.headers["X-Execution-Id"], "function_id": fn["id"],
        "function_version_id": f"ver_{fn['id']}_v1", "status": "success",
        "duration_ms": pytest.approx(
            int(reply.headers["X-Execution-Duration-Ms"]), abs=1000),
        "error_message": None, "trigger": "http",
        "created_at": pytest.approx(fn["created_at"], abs=60),
        "event_json": go.execution(reply)["event_json"],
        "response_json": None}


def test_a_page_from_anywhere_may_call_and_read_the_answer(go):
    fn = go.make(HI)
    origin = {"Origin": "https://elsewhere.example"}
    for path in f"/fn/{fn['id']}", f"/fn/{fn['id']}/a", "/fn/nobody":
        for method in "GET", "OPTIONS":
            reply = go.call(path, method=method, headers=origin)
            assert reply.headers["Access-Control-Allow-Origin"] == "*"
            methods = reply.headers["Access-Control-Allow-Methods"]
            assert methods.split(", ") == [
                "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
            assert reply.headers["Access-Control-Allow-Headers"] == (
                "Content-Type, Authorization")
            assert reply.headers["Access-Control-Expose-Headers"] == (
                "X-Function-Id, X-Function-Version-Id, X-Execution-Id, "
                "X-Execution-Duration-Ms")
            assert (method == "OPTIONS") == (reply.status == 204)
    executions = go.good("GET", f"/functions/{fn['id']}/executions")
    assert executions["pagination"]["total"] == 2       # None for OPTIONS.


def test_every_options_is_a_204_and_the_api_is_not_for_pages(go):
    for path in "/api/functions", "/api/auth/login", "/api/executions/x":
        reply = go.call(path, method="OPTIONS")
        assert (reply.status, reply.body) == (204, b"")
        assert "Access-Control-Allow-Origin" not in reply.headers


def test_a_function_may_say_who_reads_it_but_not_that_it_is_another(go):
    """FaaS-Go lets it override X-Function-Id too."""
    fn = go.make(lua("""return {headers = {
        ["X-Function-Id"] = "another", ["x-execution-id"] = "another",
        ["Access-Control-Allow-Origin"] = "https://one.example"}}"""))
    reply = go.call(f"/fn/{fn['id']}")
    assert reply.headers.get_all("X-Function-Id") == [fn["id"]]
    assert len(reply.headers.get_all("X-Execution-Id")) == 1
    assert go.execution(reply)["function_id"] == fn["id"]
    assert reply.headers.get_all("Access-Control-Allow-Origin") == [
        "https://one.example"]


EVENTS = {"lua": lua("return {body = {ctx = ctx, event = event}}"),
          "python": python(
              "known = {name: value for name, value in vars(ctx).items()\n"
              "         if isinstance(value, (str, int, float))}\n"
              "return {'body': {'ctx': known, 'event': event}}")}


@alone
@pytest.mark.parametrize("tongue", EVENTS)
def test_a_handler_is_given_ctx_and_event(go, tongue):
    fn = go.make(EVENTS[tongue], "Gäste", tongue=tongue)
    reply = go.call(f"/fn/{fn['id']}/users/a%20b?x=1&y=%C3%BC&x=2&z=",
                    "grüß".encode(), headers={
                        "lab-mice": "1", "Content-Type": "text/plain",
                        "Authorization": "Bearer of-the-caller"})
    seen = json.loads(reply.body)
    event, ctx = seen["event"], seen["ctx"]
    assert (event["method"], event["body"]) == ("POST", "grüß")
    assert event["path"] == f"/fn/{fn['id']}/users/a b"
    assert event["relativePath"] == "/users/a b"
    assert event["query"] == {"x": "1", "y": "ü", "z": ""}      # the first
    assert event["headers"]["Lab-Mice"] == "1"
    assert event["headers"]["Content-Type"] == "text/plain"
    assert event["headers"]["Authorization"] == "Bearer of-the-caller"
    assert "Host" not in event["headers"]
    started = ctx.pop("startedAt")
    assert ctx == {
        "executionId": reply.headers["X-Execution-Id"],
        "requestId": reply.headers["X-Execution-Id"],
        "functionId": fn["id"], "functionName": ctx["functionName"],
        "version": "1", "baseUrl": go.server.url}
    assert ctx["functionName"] in ("Gäste", "G-ste")
    assert started == pytest.approx(fn["created_at"], abs=60)


@pytest.mark.parametrize("tongue", EVENTS)
def test_a_call_without_a_rest_has_the_relative_path_of_a_slash(go, tongue):
    fn = go.make(EVENTS[tongue], tongue=tongue)
    for tail, path, relative in (
            ("", "", "/"), ("/", "", "/"), ("/a", "/a", "/a"),
            ("//a", "//a", "//a"), ("/a/", "/a/", "/a/")):
        event = json.loads(go.call(f"/fn/{fn['id']}{tail}").body)["event"]
        assert event["path"] == f"/fn/{fn['id']}{path}", tail
        assert event["relativePath"] == relative, tail
        assert event["query"] == {}


@pytest.mark.parametrize("tongue, text", [
    ("lua", lua("return {body = event.method .. event.relativePath}")),
    ("python", python(
        "return {'body': event['method'] + event['relativePath']}"))])
def test_every_method_reaches_the_function(go, tongue, text):
    fn = go.make(text, tongue=tongue)
    for method in "GET", "POST", "PUT", "DELETE", "PATCH":
        for tail in "", "/a/b":
            reply = go.call(f"/fn/{fn['id']}{tail}", method=method)
            assert reply.body.decode() == method + (tail or "/")
    reply = go.call(f"/fn/{fn['id']}", method="HEAD")
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["X-Function-Id"] == fn["id"]


@pytest.mark.parametrize("tongue, text", [
    ("lua", lua("return {body = event.body}")),
    ("python", python("return {'body': event['body']}"))])
def test_any_bytes_go_in_and_come_out(go, tongue, text):
    fn = go.make(text, tongue=tongue)
    for body in (b"", b"\0", bytes(range(256)), "🐍".encode(), b"\xff" * 9999,
                 b'"\\', b"\r\n" * 100):
        assert go.call(f"/fn/{fn['id']}", body).body == body


# What of a response becomes of it: in Lua, in Python, status and body. None:
# it is no response, and the call failed.

RULES = [
    ("{}", "{}", 200, b""),
    ("{statusCode = 201, body = 'x'}", "{'statusCode': 201, 'body': 'x'}",
     201, b"x"),
    ("{statusCode = '404'}", "{'statusCode': '404'}", 404, b""),
    ("{statusCode = 0}", "{'statusCode': 0}", 200, b""),
    ("{statusCode = '0'}", "{'statusCode': '0'}", 200, b""),
    ("{statusCode = nil}", "{'statusCode': None}", 200, b""),
    ("{statusCode = 99}", "{'statusCode': 99}", None, b""),
    ("{statusCode = 600}", "{'statusCode': 600}", None, b""),
    ("{statusCode = -1}", "{'statusCode': -1}", None, b""),
    ("{statusCode = 200.5}", "{'statusCode': 200.5}", None, b""),
    ("{statusCode = 'x'}", "{'statusCode': 'x'}", None, b""),
    ("{statusCode = true}", "{'statusCode': True}", None, b""),
    ("{statusCode = {}}", "{'statusCode': {}}", None, b""),
    ("{body = 5}", "{'body': 5}", 200, b"5"),
    ("{body = 2.5}", "{'body': 2.5}", 200, b"2.5"),
    ("{body = true}", "{'body': True}", 200, b"true"),
    ("{body = {a = {1, 'ü'}}}", "{'body': {'a': [1, 'ü']}}", 200,
     {"a": [1, "ü"]}),
    ("{body = {1, 2}}", "{'body': [1, 2]}", 200, [1, 2]),
    ("{body = 'aGk=', isBase64Encoded = true}",
     "{'body': 'aGk=', 'isBase64Encoded': True}", 200, b"hi"),
    ("{body = '/wA=', isBase64Encoded = true}",
     "{'body': '/wA=', 'isBase64Encoded': True}", 200, b"\xff\0"),
    ("{body = 'aGk=', isBase64Encoded = false}",
     "{'body': 'aGk=', 'isBase64Encoded': False}", 200, b"aGk="),
    ("{body = '%%%', isBase64Encoded = true}",
     "{'body': '%%%', 'isBase64Encoded': True}", None, b""),
    ("nil", "None", None, b""), ("'text'", "'text'", None, b""),
    ("5", "5", None, b""), ("true", "True", None, b"")]


@pytest.mark.parametrize("tongue", ["lua", "python"])
def test_what_a_handler_returns_is_the_answer_or_a_failure(go, tongue):
    for in_lua, in_python, status, body in RULES:
        text = (lua(f"return {in_lua}") if tongue == "lua" else
                python(f"return {in_python}"))
        reply, execution = go.run(text, tongue=tongue)
        assert reply.status == (status or 500), text
        if status is None:
            assert json.loads(reply.body) == {
                "error": "Function execution failed"}
            assert execution["error_message"].startswith("Error"), text
            assert reply.headers["X-Function-Id"]
        else:
            found = (reply.body if isinstance(body, bytes) else
                     json.loads(reply.body))
            assert found == body, text
            assert reply.headers["Content-Type"] == "application/json"
            assert execution["error_message"] is None
        assert execution["status"] == (
            "success" if status and status < 400 else "error"), text


@pytest.mark.parametrize("tongue, text", [
    ("lua", lua("""return {body = 'x', headers = {
        ["content-type"] = "text/html", Lab = "ü", Number = 5,
        ["Content-Length"] = "99", Connection = "close", Evil = "a\\r\\nB: c",
        ["Set-Cookie"] = "a=b"}}""")),
    ("python", python("""\
return {"body": "x", "headers": {
    "content-type": "text/html", "Lab": "ü", "Number": 5,
    "Content-Length": "99", "Connection": "close", "Evil": "a\\r\\nB: c",
    "Set-Cookie": "a=b"}}"""))])
def test_headers_go_out_unless_they_are_the_connections(go, tongue, text):
    reply, _ = go.run(text, tongue=tongue)
    assert (reply.status, reply.body) == (200, b"x")
    assert reply.headers.get_all("Content-Type") == ["text/html"]
    assert reply.headers["Lab"].encode("latin-1") in ("ü".encode("latin-1"),
                                                      "ü".encode())
    assert reply.headers["Number"] == "5"
    assert reply.headers["Set-Cookie"] == "a=b"
    assert "Evil" not in reply.headers and "B" not in reply.headers


# Failures


@pytest.mark.parametrize("tongue, text, line, sentence, tip", [
    ("lua", "local user = nil\n\n" + lua("  -- x\n  return {a = user.name}\n"),
     5, "attempt to index", True),
    ("lua", lua("  return {body = 1 + {}}"), 2, "arithmetic", True),
    ("lua", lua("  return missing()"), 2, "attempt to call", True),
    ("lua", lua("  error('out of cheese')"), 2, "out of cheese", False),
    ("lua", lua("  error({})"), 0, "error object is a table", False),
    ("lua", lua("  return 'text'"), 0, "handler must return a table", True),
    ("python", python("x = None\nreturn {'body': x['name']}"), 3,
     "TypeError: 'NoneType' object is not subscriptable", True),
    ("python", python("raise ValueError('out of cheese')"), 2,
     "ValueError: out of cheese", False),
    ("python", python("return 'text'"), 0, "handler must return a dict",
     True)])
def test_a_failure_is_explained_to_the_author_and_not_to_the_caller(
        go, tongue, text, line, sentence, tip):
    reply, execution = go.run(text, tongue=tongue)
    assert (reply.status, json.loads(reply.body)) == (
        500, {"error": "Function execution failed"})
    assert (execution["status"], execution["response_json"]) == ("error",
                                                                 None)
    head, *parts = execution["error_message"].split("\n\n")
    assert head.startswith(f"Error at line {line}: " if line else "Error: ")
    assert sentence in head
    lines = text.split("\n")
    if line:
        code = execution["error_message"].partition("[CODE]\n")[2].partition(
            "\n[/CODE]")[0].split("\n")
        near = range(max(1, line - 2), min(len(lines), line + 2) + 1)
        assert code == [f"{'>' if n == line else ' '} {n:3} | {lines[n - 1]}"
                        .rstrip() for n in near]
    assert ("[CODE]" in execution["error_message"]) == bool(line)
    assert ("[TIP] " in execution["error_message"]) == tip


def test_a_function_that_answers_with_an_error_is_recorded_as_one(go):
    for status in 400, 404, 500, 503:
        reply, execution = go.run(lua(
            f"return {{statusCode = {status}, body = 'no'}}"))
        assert (reply.status, reply.body) == (status, b"no")
        assert (execution["status"], execution["error_message"]) == (
            "error", None)
    _, execution = go.run(lua("return {statusCode = 399}"))
    assert execution["status"] == "success"


def test_a_call_that_takes_too_long_ends_with_the_limit_that_fired(server):
    go = Go(server(env={"EXECUTION_TIMEOUT": "1"}))
    for number, text in enumerate((lua("while true do end"),
                                   lua("time.sleep(60000) return {}"))):
        reply, execution = go.run(text, name=f"slow{number}")
        assert reply.status == 504
        assert "limit of 1 s" in json.loads(reply.body)["error"]
        assert execution["status"] == "error"
        assert "limit of 1 s" in execution["error_message"]
        assert reply.headers["X-Function-Id"]


@pytest.mark.parametrize("tongue, text", [
    ("lua", lua("os.exit(3)")), ("python", python("import os; os._exit(3)"))])
def test_a_worker_that_ends_takes_one_call_with_it_and_no_more(go, tongue,
                                                               text):
    fn = go.make(text, tongue=tongue)
    for _ in range(2):
        reply = go.call(f"/fn/{fn['id']}")
        assert (reply.status, json.loads(reply.body)) == (
            500, {"error": "Function execution failed"})
        assert "exited with status 3" in go.execution(reply)["error_message"]
    assert go.server.get("/health").status == 200


# Ids and names


@alone
def test_an_id_is_as_good_as_a_name_on_every_face(go):
    fn = go.make(HI, "hits")
    for word in fn["id"], "hits":
        assert go.call(f"/{word}").body == b"hi"
        assert go.call(f"/{word}/a/b").body == b"hi"
        assert go.server.post(f"/{word}", url=go.server.data_url
                              ).body == b"hi"
        assert go.call(f"/invoke/{word}").body == b"hi"
        assert json.loads(go.call(f"/functions/{word}", b"{}").body) == {
            "response": "hi"}
        assert go.call(f"/fn/{word}").headers["X-Function-Id"] == fn["id"]
        assert go.call(f"/-/functions/{word}/run").body == b"hi"
        reply = go.call(f"/{word}", headers={"X-tinyFaaS-Async": "1"})
        assert reply.status == 202
        for path in (f"/-/functions/{word}/versions",
                     f"/-/functions/{word}/executions"):
            assert len(json.loads(go.server.get(path).body)) >= 1, path
        assert go.good("GET", f"/functions/{word}")["id"] == fn["id"]
        assert go.good("GET", f"/functions/{word}/executions")[
            "pagination"]["total"] >= 1
        assert go.server.post(f"/schedule/{word}", b"0 0 1 1 *").body == (
            b"Cron job set")
        assert json.loads(go.server.get("/schedule").body) == {
            "hits": "0 0 1 1 *"}
        assert go.server.request("DELETE", f"/schedule/{word}").status == 200
        assert go.server.post(f"/-/functions/{word}/rollback",
                              b'{"version": 1}').status == 200
        eventually(lambda: go.server.get(f"/logs/{word}").status == 200)
        assert go.server.get(f"/logs?name={word}").status == 200
        done = subprocess.run(
            [sys.executable, FAAS, "invoke", word, "--data", go.server.data],
            capture_output=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, b"hi"), done.stderr


def test_a_function_is_deleted_by_its_id_on_every_face(go):
    ways = {
        "go": lambda ident: go.ask("DELETE", f"/functions/{ident}")[0],
        "ours": lambda ident: go.server.request(
            "DELETE", f"/-/functions/{ident}").status,
        "tiny": lambda ident: go.server.post(
            "/delete", json.dumps({"name": ident})).status,
        "command": lambda ident: 200 + subprocess.run(
            [sys.executable, FAAS, "delete", ident, "--data",
             go.server.data], capture_output=True, timeout=60).returncode}
    for name, delete in ways.items():
        ident = go.make(HI, name)["id"]
        assert delete(ident) in (200, 204), name
        for word in ident, name:
            assert go.call(f"/fn/{word}").status == 404
            assert go.call(f"/{word}").status == 404


def test_an_id_outlives_a_start_a_rollback_and_a_redeploy(server):
    go = Go(server())
    ident = go.make(HI)["id"]
    go.good("PUT", f"/functions/{ident}", {"code": lua("return {}")})
    go.good("POST", f"/functions/{ident}/versions/1/activate")
    go.server.upload("f", {"main.lua": HI + "-- again\n"}, env="lua")
    go.server.kill()
    go = Go(server(home=go.server.home))
    assert go.call(f"/fn/{ident}").body == b"hi"
    assert go.good("GET", "/functions/f")["id"] == ident


def test_a_functions_name_cannot_be_the_id_of_another(go):
    ident = go.make(HI)["id"]
    assert go.server.upload(ident, {"fn.py": "def fn(i): return 'evil'"}
                            ).status == 409
    made = go.make(lua("return {body = 'mine'}"), ident)
    assert made["name"] == ident and made["id"] != ident
    assert go.call(f"/{ident}").body == b"hi"


@alone
def test_what_another_face_has_uploaded_is_a_function_here(go):
    go.server.upload("up", {"fn.py": "def fn(input): return input"},
                     envs=["A=1"])
    fn = go.good("GET", "/functions/up")
    assert re.fullmatch("[0-9a-f]{20}", fn["id"])
    assert fn["name"] == "up" and fn["env_vars"] == {"A": "1"}
    assert fn["active_version"]["code"] == "def fn(input): return input"
    assert go.call(f"/fn/{fn['id']}", b"x").body == b"x"
    go.good("PUT", f"/functions/{fn['id']}", {"code": "def fn(input): "
                                              "return 'new'"})
    assert go.call("/up").body == b"new"
    assert [one["name"] for one in
            go.good("GET", "/functions")["functions"]] == ["up"]


def test_a_folder_is_a_function_here_and_its_text_stays_its_owners(go):
    folder = go.server.functions / "mine"
    folder.mkdir()
    (folder / "main.lua").write_text(lua("return {body = 'one'}"))
    assert go.call("/fn/mine").body == b"one"
    fn = go.good("GET", "/functions/mine")
    settings = {"name": "Mein", "description": "d", "save_response": True,
                "retention_days": 7}
    go.good("PUT", f"/functions/{fn['id']}", settings)
    go.good("PUT", f"/functions/{fn['id']}/env", {"env_vars": {"A": "1"}})
    for value in {"code": HI}, {"code": HI, "description": "changed"}:
        status, answer = go.ask("PUT", f"/functions/{fn['id']}", value)
        assert (status, list(answer)) == (409, ["error"])
    assert go.ask("DELETE", f"/functions/{fn['id']}")[0] == 409
    (folder / "main.lua").write_text(lua("return {body = env.get('A')}"))
    assert go.call(f"/fn/{fn['id']}").body == b"1"      # An edit keeps them.
    edited = go.good("GET", "/functions/mine")
    assert {name: edited[name] for name in settings} == settings
    assert (edited["id"], edited["active_version"]["version"]) == (
        fn["id"], 2)


@alone
def test_what_is_listed_can_be_read(go):
    folder = go.server.functions / "mine"
    folder.mkdir()
    (folder / "main.lua").write_text(HI)
    go.make(HI, "up")
    assert go.call("/fn/mine").body == b"hi"
    for names in {"up", "mine"}, {"up"}:
        listed = go.good("GET", "/functions")
        assert {fn["name"] for fn in listed["functions"]} == names
        assert listed["pagination"]["total"] == len(names)
        for fn in listed["functions"]:
            assert go.good("GET", f"/functions/{fn['id']}")["name"] in names
        (folder / "main.lua").unlink(missing_ok=True)
        folder.exists() and folder.rmdir()


# Executions and logs


def test_an_execution_keeps_the_event_and_the_answer_where_it_should(go):
    fn = go.make(lua("return {statusCode = 201, headers = {Lab = 'x'}, "
                     "body = {ok = true}}"))
    path = f"/functions/{fn['id']}"
    reply = go.call(f"/fn/{fn['id']}/a?b=c", b'{"d": 1}')
    event = json.loads(go.execution(reply)["event_json"])
    assert (event["method"], event["relativePath"]) == ("POST", "/a")
    assert event["query"] == {"b": "c"}
    assert json.loads(event["body"]) == {"d": 1}
    assert go.execution(reply)["response_json"] is None

    go.good("PUT", path, {"save_response": True})
    reply = go.call(f"/fn/{fn['id']}")
    answer = json.loads(go.execution(reply)["response_json"])
    assert answer["statusCode"] == 201
    assert answer["headers"]["Lab"] == "x"
    assert json.loads(answer["body"]) == {"ok": True}
    listed = go.good("GET", path + "/executions")["executions"]
    assert all("response_json" not in one for one in listed)
    go.good("PUT", path, {"save_response": False})
    reply = go.call(f"/fn/{fn['id']}")
    assert go.execution(reply)["response_json"] is None


def test_what_is_kept_of_a_large_body_is_still_json(go):
    fn = go.make(lua("return {body = event.body}"))
    go.good("PUT", f"/functions/{fn['id']}", {"save_response": True})
    for body in (b"a" * 200_000, b"\xff" * 100_000, "ü".encode() * 50_000,
                 b'"' * 70_000, json.dumps(["x" * 99_000]).encode(),
                 b"\\" * 65_000, b"a" * 65_536):
        execution = go.execution(go.call(f"/fn/{fn['id']}", body))
        event = json.loads(execution["event_json"])
        answer = json.loads(execution["response_json"])
        assert event["method"] == "POST" and answer["statusCode"] == 200
        for kept in event["body"], answer["body"]:
            assert "TRUNCATED" in kept[-60:]
    execution = go.execution(go.call(f"/fn/{fn['id']}", b"a" * 10_000))
    assert json.loads(execution["event_json"])["body"] == "a" * 10_000


@alone
@pytest.mark.parametrize("tongue, text", [
    ("lua", lua("log.info('one') log.debug('two') log.warn('three')\n"
                "log.error('four: ü') print('five') return {}")),
    ("python", python("for level in 'info', 'debug', 'warn':\n"
                      "    getattr(ctx.log, level)({'info': 'one', 'debug': "
                      "'two', 'warn': 'three'}[level])\n"
                      "ctx.log.error('four: ü')\n"
                      "print('five', flush=True)\n"
                      "return {}"))])
def test_what_a_function_logs_is_found_with_its_execution(go, tongue, text):
    reply, execution = go.run(text, tongue=tongue)
    other = go.call("/fn/f")
    logs = go.good("GET", f"/executions/{execution['id']}/logs")
    said = [(line["level"], line["message"]) for line in logs["logs"]]
    said.remove((0, "five"))    # What is printed comes another way.
    assert said == [(0, "one"), (1, "two"), (2, "three"), (3, "four: ü")]
    assert all(line["created_at"] == execution["created_at"]
               for line in logs["logs"])
    assert {name: logs[name] for name in execution} == execution
    assert go.execution(other)["id"] != execution["id"]
    text = go.server.get("/logs/f").body.decode()
    assert text.count("[warn] three\n") == 2


def test_only_a_line_feed_ends_a_message(go):
    reply, execution = go.run(lua(
        "log.warn('a\u2028b\x0cc\x85d') log.error('e') return {}"))
    logs = go.good("GET", f"/executions/{execution['id']}/logs")["logs"]
    assert [(line["level"], line["message"]) for line in logs] == [
        (2, "a\u2028b\x0cc\x85d"), (3, "e")]


# What looks like a secret

SECRET_CALL = {
    "Authorization": "Bearer geheim-A-0123456789", "Cookie": "a=geheim-B",
    "X-Api-Key": "geheim-C", "X-Auth-Token": "geheim-D",
    "Lab": "Bearer geheim-E-0123456789", "Own": "geheim-F-own"}


@pytest.mark.parametrize("tongue, text", [
    ("lua", lua("""
        log.info("login with password=geheim-G and geheim-F-own")
        print("Authorization: Bearer geheim-H-0123456789")
        if event.query.fail then
            error("my token is geheim-F-own")
        end
        -- The lines around a failure are stored with it; what follows
        -- here stands in the text, and is its author's.
        return {headers = {["Set-Cookie"] = "sid=geheim-I",
                           ["X-Api-Key"] = "geheim-J",
                           Lab = "Bearer geheim-K-0123456789"},
                body = {password = "geheim-L", own = env.get("MY_TOKEN"),
                        deep = {{client_secret = "geheim-M"}}, ok = 1}}""")),
    ("python", python("""\
ctx.log.info("login with password=geheim-G and geheim-F-own")
print("Authorization: Bearer geheim-H-0123456789")
if "fail" in event["query"]:
    raise ValueError("my token is geheim-F-own")
# The lines around a failure are stored with it; what follows
# here stands in the text, and is its author's.
return {"headers": {"Set-Cookie": "sid=geheim-I", "X-Api-Key": "geheim-J",
                    "Lab": "Bearer geheim-K-0123456789"},
        "body": {"password": "geheim-L", "own": ctx.env.get("MY_TOKEN"),
                 "deep": [{"client_secret": "geheim-M"}], "ok": 1}}"""))])
@alone
def test_what_looks_like_a_secret_is_stored_nowhere(go, tongue, text):
    fn = go.make(text, tongue=tongue)
    path = f"/functions/{fn['id']}"
    go.good("PUT", path + "/env", {"env_vars": {"MY_TOKEN": "geheim-F-own"}})
    go.good("PUT", path, {"save_response": True})
    body = json.dumps({"api_key": "geheim-N", "own": "geheim-F-own", "ok": 1,
                       "deep": [{"private_key": {"x": "geheim-O"}}]})
    query = "?token=geheim-P&url=https://u:geheim-Q@h/&x=geheim-F-own&ok=1"
    for tail, sent in ((query, body), (query, "password=geheim-R&ok=1"),
                       (query + "&fail=1", body)):
        reply = go.call(f"/fn/{fn['id']}{tail}", sent.encode(),
                        headers=SECRET_CALL)
        if reply.status == 200:         # The caller gets what was meant.
            assert b"geheim-F-own" in reply.body
            assert reply.headers["Set-Cookie"] == "sid=geheim-I"
        execution = go.execution(reply)
        event = json.loads(execution["event_json"])
        assert event["query"]["ok"] == "1" and "ok" in event["body"]
        logs = go.good("GET", f"/executions/{execution['id']}/logs")
        stored = json.dumps([execution, logs])
        assert "geheim" not in stored, re.findall("geheim-.", stored)
        assert "[REDACTED]" in stored
    assert b"geheim" not in go.server.get("/logs/f").body
    go.server.stop()
    for file in go.server.data.rglob("faas.db*"):
        assert not re.findall(rb"geheim-[^F]", file.read_bytes()), file


def test_a_failure_tells_a_caller_no_variable_on_any_face(go):
    fn = go.make(lua("print('it is ' .. env.get('API_KEY'))\n"
                     "error('my key is ' .. env.get('API_KEY'))"), "leak")
    go.good("PUT", f"/functions/{fn['id']}/env",
            {"env_vars": {"API_KEY": "sesame-4711"}})
    for path in ("/leak", "/fn/leak", "/functions/leak", "/invoke/leak",
                 "/-/functions/leak/run"):
        reply = go.call(path, b"{}")
        assert reply.status in (500, 502), path
        assert b"sesame" not in reply.body, path


# Retention, with a time of ours


def test_each_function_keeps_its_executions_for_days_of_its_own(tmp_path):
    database = faas.open_database(str(tmp_path / "db"), faas.EXECUTION_TABLE)
    day, now = 86400.0, 1_000 * 86400.0
    for name in "short", "long", "plain":
        for age in range(400):
            ident = faas.new_id(now - age * day - 1) + name
            faas.insert_executions(database, [
                faas.Execution(ident, name, 1, "http", now - age * day, 0.1,
                               "warm", "ok", 0, 0, ""),
                faas.Detail(ident, "x", "", "")])
    faas.forget(database, faas.Retention(days=30), now,
                {"short": 7, "long": 365})
    for table in "executions", "details":
        left = collections.Counter(
            re.sub("^[0-9a-f]{20}", "", row[0]) for row in
            database.execute(f"SELECT id FROM {table}"))
        assert left == {"short": 7, "long": 365, "plain": 30}, table
    database.close()


@alone
def test_the_platform_asks_each_function_for_its_days(go):
    for name, days in ("a", 7), ("b", 365), ("c", None):
        fn = go.make(HI, name)
        if days:
            go.good("PUT", f"/functions/{fn['id']}",
                    {"retention_days": days})
    home = go.server.home
    go.server.stop()
    with faas.Platform(str(home)) as platform:
        assert platform.keep_days() == {"a": 7, "b": 365}


# Delete


@alone
def test_a_delete_takes_everything_along(go):
    body = ("kv.set('k', 'v') log.info('said') return {body = 'hi'}")
    gone, kept = go.make(lua(body), "gone"), go.make(lua(body), "kept")
    for fn in gone, kept:
        path = f"/functions/{fn['id']}"
        go.good("PUT", path, {"code": lua(body) + "-- two\n",
                              "cron_schedule": "0 0 1 1 *",
                              "cron_status": "active", "save_response": True})
        go.good("PUT", path + "/env", {"env_vars": {"A": "geheim"}})
    replies = [go.call(f"/fn/{fn['id']}") for fn in (gone, kept)]
    before = go.execution(replies[0])
    reply = go.server.request("DELETE", f"/api/functions/{gone['id']}", b"",
                              go.bearer)
    assert (reply.status, reply.body) == (204, b"")

    for method, path, value in unknown():
        for word in gone["id"], "gone":
            ident = before["id"] if "executions/" in path else word
            status, _ = go.ask(method, path.replace("nobody", ident), value)
            assert status == 404, (method, path)
    assert go.call(f"/fn/{gone['id']}").status == 404
    assert go.server.get("/logs/gone").status == 404
    assert json.loads(go.server.get("/schedule").body) == {
        "kept": "0 0 1 1 *"}
    assert not list(go.server.logs.glob("gone*"))
    assert not (go.server.data / "shelf" / "gone").exists()
    for table in "versions", "executions":
        assert set(rows(go, table)) == {"kept"}, table
    assert set(rows(go, "functions", "name")) == {"kept"}
    assert before["id"] not in rows(go, "details", "id")
    assert sum(rows(go, "kv").values()) == 1

    # Who comes next under this name, begins with nothing.
    again = go.make(lua("return {body = {kv = kv.get('k'), "
                        "env = env.get('A')}}"), "gone")
    assert again["id"] != gone["id"] and again["env_vars"] == {}
    assert again["cron_schedule"] is None and not again["save_response"]
    assert go.call("/gone").body == b"{}"
    assert go.good("GET", f"/functions/{again['id']}/versions")[
        "pagination"]["total"] == 1
    assert go.execution(replies[1])["function_id"] == kept["id"]


def test_a_delete_takes_the_line_in_the_crontab_along(server, tmp_path):
    tools, tab = tmp_path / "tools", tmp_path / "tab"
    tools.mkdir()
    tab.write_text("0 0 * * * mine\n")
    (tools / "crontab").write_text(
        f"#!/bin/sh\n[ \"$1\" = -l ] && exec cat '{tab}'\n"
        f"cat >'{tab}.new' && mv '{tab}.new' '{tab}'\n")
    (tools / "crontab").chmod(0o755)
    go = Go(server("--clock", "crontab", env={
        "PATH": f"{tools}:/usr/local/bin:/usr/bin:/bin"}))
    fn = go.make(HI, "tick")
    path = f"/functions/{fn['id']}"
    go.good("PUT", path, {"cron_schedule": "*/5 * * * *",
                          "cron_status": "active"})
    assert "invoke tick --trigger cron" in tab.read_text()
    go.good("PUT", path, {"cron_status": "paused"})
    assert tab.read_text() == "0 0 * * * mine\n"
    go.good("PUT", path, {"cron_status": "active"})
    assert "invoke tick --trigger cron" in tab.read_text()
    go.good("DELETE", path)
    assert tab.read_text() == "0 0 * * * mine\n"


@alone
def test_a_call_that_still_runs_leaves_nothing_behind_a_delete(go):
    inside, leave = threading.Event(), threading.Event()

    def answer(*_):
        inside.set()
        return (200, b"") if leave.wait(30) else (500, b"")

    with web(answer) as url, concurrent.futures.ThreadPoolExecutor(1) as pool:
        fn = go.make(lua(f"http.get('{url}/') kv.set('late', 'x') "
                         "log.info('late') return {body = 'done'}"))
        call = pool.submit(go.call, f"/fn/{fn['id']}")
        assert inside.wait(30)
        assert go.ask("DELETE", f"/functions/{fn['id']}")[0] == 204
        leave.set()
        call.result()
    go.make(lua("return {body = kv.get('late') or 'nothing'}"))
    reply = go.call("/fn/f")
    assert reply.body == b"nothing"
    assert go.good("GET", "/functions/f/executions")[
        "pagination"]["total"] == 1
    assert sum(rows(go, "kv").values()) == 0


# The counter at the end of its README

COUNT = {
    "lua": lua("return {body = {count = kv.increment('hits')}}"),
    "python": python("return {'body': {'count': ctx.kv.increment('hits')}}")}


def hammer(go, path, clients, calls):
    """Call from many clients, each on a connection; give the bodies."""
    address = urllib.parse.urlsplit(go.server.url)

    def client(calls):
        line = http.client.HTTPConnection(address.hostname, address.port,
                                          timeout=60)
        with contextlib.closing(line):
            found = []
            for _ in range(calls):
                line.request("POST", path, b"")
                reply = line.getresponse()
                found.append((reply.status, reply.read()))
            return found

    share = [calls // clients + (number < calls % clients)
             for number in range(clients)]
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        return [one for found in pool.map(client, share) for one in found]


@pytest.mark.parametrize("tongue", COUNT)
def test_a_thousand_increments_from_32_clients_are_a_thousand(go, tongue):
    fn = go.make(COUNT[tongue], tongue=tongue)
    done = hammer(go, f"/fn/{fn['id']}", 32, 1000)
    assert {status for status, _ in done} == {200}
    # Not only the last: each of the numbers was given once.
    assert sorted(json.loads(body)["count"] for _, body in done) == list(
        range(1, 1001))
    reply = go.call(f"/fn/{fn['id']}")
    assert json.loads(reply.body) == {"count": 1001}


RACE = {
    "lua": lua("local old = tonumber(kv.get('hits') or '0')\n"
               "http.get(event.body)\n"
               "kv.set('hits', old + 1)\n"
               "return {body = kv.get('hits')}"),
    "python": python("old = int(ctx.kv.get('hits') or 0)\n"
                     "ctx.http.get(event['body'])\n"
                     "ctx.kv.set('hits', old + 1)\n"
                     "return {'body': ctx.kv.get('hits')}")}


@pytest.mark.parametrize("tongue", RACE)
def test_get_and_then_set_loses_a_count_when_two_calls_meet(go, tongue):
    """The race of chapter 7.5, with a page at which the two calls meet."""
    meet = threading.Barrier(2)

    def answer(*_):
        meet.wait(30)
        return 200, b""

    fn = go.make(RACE[tongue], tongue=tongue)
    with web(answer) as url, concurrent.futures.ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(lambda _: go.call(
            f"/fn/{fn['id']}", url.encode()), range(2)))
    assert [reply.body for reply in replies] == [b"1", b"1"]


def test_get_and_then_set_from_many_clients_counts_no_more_than_calls(go):
    """What a race ends at is not certain; only between what it lies."""
    fn = go.make(lua("local n = tonumber(kv.get('hits') or '0') + 1\n"
                     "kv.set('hits', n)\nreturn {body = n}"))
    done = hammer(go, f"/fn/{fn['id']}", 8, 80)
    assert {status for status, _ in done} == {200}
    assert 80 / 8 <= max(int(body) for _, body in done) <= 80


@pytest.mark.parametrize("tongue, text", [
    ("lua", lua("""
        local do_, key, value = event.body:match("(%S+) (%S+) ?(.*)")
        if do_ == "get" then return {body = kv.get(key) or "nil"} end
        if do_ == "set" then return {body = kv.set(key, value)} end
        if do_ == "delete" then return {body = kv.delete(key)} end
        local total, problem = kv.increment(key, tonumber(value))
        return {body = total or problem}""")),
    ("python", python("""\
do, key, *value = event["body"].split(" ", 2)
if do == "get":
    found = ctx.kv.get(key)
    return {"body": "nil" if found is None else found}
if do == "set":
    return {"body": ctx.kv.set(key, value[0])}
if do == "delete":
    return {"body": ctx.kv.delete(key)}
try:
    return {"body": ctx.kv.increment(key, *map(int, value))}
except Exception as error:
    return {"body": str(error)}"""))])
def test_a_function_keeps_values_that_no_other_sees(server, tongue, text):
    go = Go(server())
    one, two = (go.make(text, name, tongue=tongue) for name in "ab")

    def do(line, fn=one):
        line = line if isinstance(line, bytes) else line.encode()
        return go.call(f"/fn/{fn['id']}", line).body

    assert do("get k") == b"nil" and do("set k v w") == b"true"
    assert do("get k") == b"v w" and do("get k", two) == b"nil"
    assert do("set k 41") == b"true" and do("increment k") == b"42"
    assert do("increment k 8") == b"50" and do("increment k -60") == b"-10"
    assert do("increment fresh") == b"1" and do("get fresh") == b"1"
    do("set k words")
    assert b"is no number" in do("increment k") and do("get k") == b"words"
    assert do(b"set raw \xff\x00\xfe") == b"true"
    assert do("get raw") == b"\xff\x00\xfe"
    assert do("delete k") == b"true" and do("get k") == b"nil"
    assert do("delete k") == b"true"
    assert sum(rows(go, "kv").values()) == 2

    go.server.process.send_signal(signal.SIGKILL)
    go.server.process.wait(timeout=20)
    go = Go(server(home=go.server.home))
    assert go.call(f"/fn/{one['id']}", b"get raw").body == b"\xff\x00\xfe"
    assert go.call(f"/fn/{one['id']}", b"increment fresh").body == b"2"
    assert go.call(f"/fn/{two['id']}", b"get raw").body == b"nil"


def test_an_update_of_the_text_keeps_the_values(go):
    fn = go.make(COUNT["lua"])
    for _ in range(3):
        go.call(f"/fn/{fn['id']}")
    go.good("PUT", f"/functions/{fn['id']}", {"code": COUNT["lua"] + "--\n"})
    assert json.loads(go.call(f"/fn/{fn['id']}").body) == {"count": 4}


# http, from inside a function

HTTP = {
    "lua": lua("""
        local ask = json.decode(event.body)
        local answer, problem = http[ask.do_](ask.url, ask.options)
        return {body = {answer = answer, problem = problem}}"""),
    "python": python("""\
ask = ctx.json.decode(event["body"])
try:
    answer = getattr(ctx.http, ask["do_"])(ask["url"], ask.get("options"))
    return {"body": {"answer": answer}}
except Exception as error:
    return {"body": {"problem": str(error)}}""")}


@pytest.fixture
def ask(server, request):
    go = Go(server(env={"no_proxy": "*"}))
    fn = go.make(HTTP[request.param], tongue=request.param)

    def ask(do, url, **options):
        value = {"do_": do, "url": url}
        if options:
            value["options"] = options.get("raw", options)
        reply = go.call(f"/fn/{fn['id']}", json.dumps(value).encode())
        assert reply.status == 200, reply.body
        return json.loads(reply.body)
    ask.go = go
    return ask


both = pytest.mark.parametrize("ask", HTTP, indirect=True)


@both
def test_a_function_asks_others_over_http(ask):
    def answer(method, path, headers, body):
        if path == "/moved":
            return 302, b""
        return (404 if path == "/missing" else 200), json.dumps({
            "method": method, "path": path, "body": body.decode("latin-1"),
            "lab": headers.get("Lab")}).encode()

    with web(answer) as url:
        for do in "get", "post", "put", "delete":
            answer = ask(do, f"{url}/a?b=1", headers={"Lab": "mice"},
                         query={"c": "d e", "f": 5},
                         **({"body": "gr\u00fc\u00df"} if do in (
                             "post", "put") else {}))["answer"]
            assert answer["statusCode"] == 200
            assert answer["headers"]["Lab"] == "one"
            seen = json.loads(answer["body"])
            path, _, query = seen.pop("path").partition("?")
            assert path == "/a"
            assert urllib.parse.parse_qs(query) == {
                "b": ["1"], "c": ["d e"], "f": ["5"]}
            body = "grüß".encode().decode("latin-1")
            assert seen == {"method": do.upper(), "lab": "mice",
                            "body": body if do in ("post", "put") else ""}
        assert ask("get", url + "/missing")["answer"]["statusCode"] == 404
        moved = ask("get", url + "/moved")["answer"]
        assert json.loads(moved["body"])["path"] == "/there"
        json_body = ask("post", url, body={"a": [1]})["answer"]["body"]
        assert json.loads(json.loads(json_body)["body"]) == {"a": [1]}


@both
def test_what_is_no_request_is_a_sentence_and_the_worker_goes_on(ask):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        for url, options in [
                (nobody, {}), ("file:///etc/passwd", {}), ("ftp://x/", {}),
                ("", {}), ("http://", {}), ("http://[::1/", {}),
                ("http://127.0.0.1:99999/", {}), ("/etc/passwd", {}),
                (nobody, {"raw": ["x"]}), (nobody, {"headers": "x"}),
                (nobody, {"headers": ["a"]}), (nobody, {"query": ["a"]}),
                (nobody, {"query": "x"}), (nobody, {"query": 5}),
                (nobody, {"headers": {"A": "b\r\nc: d"}}),
                (nobody, {"headers": {"A b": "c"}})]:
            found = ask("get", url, **options)
            assert found.get("problem") and not found.get("answer"), url
    assert "Traceback" not in ask.go.server.output


# Variables of the platform


def start(tmp_path, **env):
    """Start a platform as FaaS-Go is started: by variables alone."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG")
             if name in os.environ}
    return subprocess.Popen(
        [sys.executable, FAAS, "serve", "--data-port", "-1", "--clock",
         "off"], cwd=tmp_path, env=clean | FREE_DOORS | env,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE)


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def test_port_and_data_dir_say_where_it_listens_and_what_it_keeps(tmp_path):
    port = free_port()
    process = start(tmp_path, PORT=str(port), DATA_DIR="elsewhere",
                    BASE_URL="https://faas.example/", API_KEY="4711-4711")
    try:
        note = tmp_path / "elsewhere" / "server.json"
        eventually(note.exists)
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        line.request("POST", "/api/functions", json.dumps({
            "name": "where", "tongue": "python", "code": python(
                "return {'body': [ctx.baseUrl, ctx.router.url('/a/:b', "
                "{'b': 1}), ctx.router.path('/c')]}")}),
            {"Authorization": "Bearer 4711-4711"})
        fn = json.loads(line.getresponse().read())
        line.request("GET", f"/fn/{fn['id']}")
        assert json.loads(line.getresponse().read()) == [
            "https://faas.example", f"https://faas.example/fn/{fn['id']}/a/1",
            f"/fn/{fn['id']}/c"]
        line.close()
        assert not (tmp_path / "data").exists()
        assert (tmp_path / "elsewhere" / "faas.db").exists()
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0
        process.stderr.close()


@pytest.mark.parametrize("env", [{"PORT": "http"}, {"PORT": "70000"},
                                 {"EXECUTION_TIMEOUT": "soon"}])
def test_a_variable_that_makes_no_sense_is_told_at_the_start(tmp_path, env):
    process = start(tmp_path, **{"PORT": "0", **env})
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.startswith(b"faas: ") and b"Traceback" not in said


@pytest.mark.parametrize("text, seconds", [("", 300), ("0", 300), ("2", 2)])
def test_execution_timeout_is_in_seconds_and_0_is_the_default(text, seconds):
    env = {"EXECUTION_TIMEOUT": text} if text else {}
    assert faas.limits_from([], env).timeout == seconds
