"""The security promises of the title page, seen from outside.

Each promise Sn has tests called test_sn_...; the page test_book.py looks for
them. Chapters test the parts; here a real server is asked.
"""

import base64
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import urllib.parse
import zipfile

import pytest
from conftest import FAAS, OURS, Server, eventually, script, zip_of

import faas as book

ECHO = {"fn.py": "def fn(input): return input"}


def marked(mark):
    """List the processes whose command line has `mark` in it."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if mark.encode() in file.read():
                    found.append(int(pid))
        except OSError:
            pass                # It ended while we looked.
    return found


def nothing_left(faas, before):
    """Wait until the server's family is what it was; zombies count too."""
    eventually(lambda: set(book.family(faas.pid)) <= set(before))


def unfinished(faas):
    """List what a deploy or a start has left half-written."""
    return [path for path in faas.data.rglob("*")
            if path.name.startswith(".new") or path.name.endswith(".new")]


# S1: loopback by default; elsewhere management needs the key


def listeners_of(pid):
    """Give the local addresses on which a process listens, in hex.

    The state of a socket is 0A where it listens (TCP), or 07 where it hears
    whoever knows its port (UDP).
    """
    inodes, found = set(), set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            inodes.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            pass
    for table in "tcp", "tcp6", "udp", "udp6":
        with open(f"/proc/{pid}/net/{table}") as file:
            for line in file.readlines()[1:]:
                cells = line.split()
                mine = f"socket:[{cells[9]}]" in inodes
                if mine and cells[3] in ("0A", "07"):
                    found.add(cells[1].partition(":")[0])
    return found


def test_s1_it_listens_on_loopback_by_default(server):
    ipv4, ipv6 = "0100007F", "00000000000000000000000001000000"
    assert listeners_of(server().pid) | {ipv6} == {ipv4, ipv6}


def test_s1_on_any_other_address_management_needs_the_key(server):
    faas = server("--host", "0.0.0.0")
    script(faas, "shout", "tr a-z A-Z")
    key = (faas.data / "api_key").read_text()
    port = urllib.parse.urlsplit(faas.url).port
    url = f"http://127.0.0.1:{port}"
    assert listeners_of(faas.pid) == {"00000000"}
    # Calls and health are open; all else needs the key, the whole key.
    assert faas.post("/shout", b"hi", url=url).body == b"HI"
    assert faas.get("/health", url=url).status == 200
    for method, path in managed():
        reply = faas.request(method, path, b"", url=url)
        assert reply.status == 401, path
        assert reply.headers["WWW-Authenticate"] == "Bearer"
    for wrong in key[:-1], key + "0", "", key.upper() + "g":
        reply = faas.get("/list", headers={"Authorization": f"Bearer {wrong}"},
                         url=url)
        assert reply.status == 401
    reply = faas.get("/list", headers={"Authorization": f"Bearer {key}"},
                     url=url)
    assert reply.status == 200


def managed(guard="manage"):
    """List a request for each route that manages."""
    return [(route.method.replace("*", "GET"),
             re.sub(r"\{\w+\}", "x", route.path))
            for route in book.ROUTES if route.guard == guard]


def test_s1_what_faas_go_guards_needs_the_key_on_loopback_too(server):
    for flags in (), ("--host", "0.0.0.0"):
        faas = server(*flags)
        key = (faas.data / "api_key").read_text()
        url = f"http://127.0.0.1:{urllib.parse.urlsplit(faas.url).port}"
        wrong = [{}, {"Authorization": f"Bearer {key[:-1]}"},
                 {"Authorization": f"Basic {key}"},
                 {"Cookie": f"auth_token={key[:-1]}"}, {"Cookie": key}]
        for method, path in managed("key"):
            for headers in wrong:
                reply = faas.request(method, path, b"", headers, url=url)
                assert reply.status == 401, (path, headers)
                assert json.loads(reply.body) == {
                    "error": "Authentication required"}
        assert len(managed("key")) > 15
        for headers in ({"Authorization": f"Bearer {key}"},
                        {"Cookie": f"a=1; auth_token={key}"}):
            reply = faas.get("/api/functions", headers=headers, url=url)
            assert reply.status == 200, headers


def test_s1_the_key_is_new_long_and_for_its_owner(server):
    one, two = server(), server()
    keys = [(faas.data / "api_key").read_text() for faas in (one, two)]
    assert keys[0] != keys[1] and min(map(len, keys)) == 64
    assert stat.S_IMODE((one.data / "api_key").stat().st_mode) == 0o600


# S2: a web page cannot drive the platform


def test_s2_a_web_page_cannot_manage(server):
    faas = server()
    faas.upload("echo", ECHO)
    place = urllib.parse.urlsplit(faas.url).netloc
    for headers in ({"Host": "evil.example"}, {"Host": f"evil.example:{8080}"},
                    {"Origin": "http://evil.example"}, {"Origin": "null"},
                    {"Origin": "http://localhost:1"},
                    {"Origin": f"http://{place}.evil.example"},
                    {"Sec-Fetch-Site": "cross-site"}):
        for method, path in managed():
            reply = faas.request(method, path, b"", headers)
            assert reply.status == 403, (headers, path)
            assert "Access-Control-Allow-Origin" not in reply.headers
    assert faas.get("/list").body == b"echo\n"
    # Our own page, and whoever is no page at all, may.
    assert faas.get("/list", headers={"Origin": faas.url}).status == 200


def test_s2_a_web_page_cannot_use_the_cookie_of_its_reader(server):
    """A browser sends it along with whatever any page asks for."""
    faas = server()
    key = (faas.data / "api_key").read_text()
    cookie = {"Cookie": f"auth_token={key}"}
    for headers in ({"Host": "evil.example"}, {"Origin": "null"},
                    {"Origin": "http://evil.example"},
                    {"Sec-Fetch-Site": "cross-site"},
                    {"Sec-Fetch-Site": "same-site"}):
        for method, path in managed("key"):
            reply = faas.request(method, path, b"", {**cookie, **headers})
            assert reply.status == 403, (headers, path)
            assert "Access-Control-Allow-Origin" not in reply.headers
    own = {**cookie, "Origin": faas.url}
    assert faas.get("/api/functions", headers=own).status == 200
    # Nor does the cookie open what needs no key here, to such a page.
    assert faas.get("/list", headers={**cookie, "Origin": "http://a.example"}
                    ).status == 403
    # And no browser keeps it where a script could read it.
    reply = faas.post("/api/auth/login", json.dumps({"apiKey": key}))
    said = reply.headers["Set-Cookie"]
    assert "HttpOnly" in said and "SameSite=Strict" in said


# S3: no name leaves its folder


def test_s3_no_name_leaves_its_folder(server):
    faas = server()
    outside = script(faas, "../outside", f"echo >{faas.home}/ran")
    assert outside.parent == faas.functions / ".."
    (faas.home / "secret.log").write_text("secret")
    key = {"Authorization": f"Bearer {(faas.data / 'api_key').read_text()}"}
    for name in ("../outside", "..%2foutside", "%2e%2e%2foutside",
                 "%2e%2e/outside", "..%252foutside", "..%5coutside",
                 "x/../../outside", "..;/outside", "outside%00", ".",
                 "%2e", "..", "%2e%2e", str(outside), "%2f" + str(outside)):
        for method, path in (("POST", f"/{name}"), ("GET", f"/logs/{name}"),
                             ("POST", f"/schedule/{name}"),
                             ("PUT", f"/-/functions/{name}"),
                             ("GET", f"/-/functions/{name}/versions"),
                             ("POST", f"/fn/{name}"),
                             ("POST", f"/invoke/{name}"),
                             ("POST", f"/functions/{name}"),
                             ("GET", f"/api/functions/{name}"),
                             ("PUT", f"/api/functions/{name}/env"),
                             ("DELETE", f"/api/functions/{name}"),
                             ("DELETE", f"/-/functions/{name}")):
            body = json.dumps({"env_vars": {}, "bundle": base64.b64encode(
                zip_of(ECHO)).decode()})
            reply = faas.request(method, path, body, key)
            assert reply.status in (400, 404, 405), (path, reply.body)
            assert b"secret" not in reply.body
    for name in "../outside", "/etc/x", ".hidden", "a/b", "a\0b", "\u00e9":
        assert faas.upload(name, ECHO).status == 400
        reply = faas.post("/delete", json.dumps({"name": name}))
        assert reply.status == 400
        reply = faas.post("/functions", json.dumps({
            "name": name, "file": base64.b64encode(tar_of()).decode()}))
        assert reply.status == 400
    reply = faas.get("/logs?name=../secret")
    assert reply.status == 400 and b"secret\n" != reply.body
    assert not (faas.home / "ran").exists() and outside.exists()


# S4: no bundle leaves its folder, and none outgrows its limits


def tar_of(*infos):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as bundle:
        for name, kind, link in (("fn.py", tarfile.REGTYPE, ""), *infos):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            bundle.addfile(info)
    return packed.getvalue()


def bomb(size):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("fn.py", bytes(size))
    return packed.getvalue()


@pytest.mark.parametrize("bundle, status", [
    (zip_of({"fn.py": "", "../../evil": ""}), 400),
    (zip_of({"fn.py": "", "/tmp/evil": ""}), 400),
    (zip_of({"fn.py": "", "a/../../../evil": ""}), 400),
    (tar_of(("../evil", tarfile.REGTYPE, "")), 400),
    (tar_of(("link", tarfile.SYMTYPE, "/etc/passwd")), 400),
    (tar_of(("link", tarfile.SYMTYPE, "../../../../etc/passwd")), 400),
    (tar_of(("link", tarfile.LNKTYPE, "/etc/passwd")), 400),
    (tar_of(("a", tarfile.SYMTYPE, ".."), ("a/evil", tarfile.REGTYPE, "")),
     400),
    (tar_of(("null", tarfile.CHRTYPE, "")), 400),
    (tar_of(("pipe", tarfile.FIFOTYPE, "")), 400),
    (bomb(5_000_000), 413), (bomb(70_000_000), 413),
    (zip_of({f"f{number}": "" for number in range(10_001)}), 413)],
    ids=range(13))
def test_s4_no_bundle_leaves_its_folder_or_outgrows_its_limits(
        refuser, bundle, status):
    faas = refuser
    reply = faas.upload("evil", bundle)
    assert reply.status == status and b"bundle" in reply.body
    # rknizzle's client may leave a tar's end out, and nothing else.
    packed = base64.b64encode(bundle).decode()
    for request in (
            ("POST", "/functions", {"name": "evil", "file": packed}),
            ("PUT", "/-/functions/evil", {"bundle": packed})):
        reply = faas.request(*request[:2], json.dumps(request[2]))
        assert reply.status == status and b"bundle" in reply.body
    assert faas.get("/list").body == b""
    assert list((faas.data / "shelf").rglob("*")) == []
    assert list(faas.home.rglob("evil*")) == []


@pytest.fixture(scope="module")
def refuser(tmp_path_factory):
    """One server for all that leaves it as it was."""
    faas = Server(tmp_path_factory.mktemp("s4") / "home", [], None)
    faas.wait_until_ready()
    yield faas
    faas.stop()


# S5: a schedule writes one validated line of ours


def test_s5_a_schedule_changes_nothing_but_its_own_line(server, tmp_path):
    tab, tool = tmp_path / "tab", tmp_path / "tools" / "crontab"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\n[ "$1" = -l ] && exec cat {tab}\n'
                    f'cat >{tab}\n')
    tool.chmod(0o755)
    own = b"# mine\n\n*/7 * * * *\ttrue \\%\nMAILTO=\xff\n"
    tab.write_bytes(own)
    faas = server("--clock", "crontab",
                  env={"PATH": f"{tool.parent}:{os.environ['PATH']}"})
    script(faas, "tick", "true")
    for evil in (b"* * * * *\n* * * * * id", b"* * * * * id #",
                 b"* * * * *; id", b"@reboot", b"$(id) * * * *",
                 b"* * * * %", b"\xff * * * *", b""):
        assert faas.post("/schedule/tick", evil).status == 400, evil
        assert tab.read_bytes() == own
    for evil in "/schedule/tick%0aid", "/schedule/tick;id", "/schedule/a%20b":
        assert faas.post(evil, b"@daily").status in (400, 404)
        assert tab.read_bytes() == own
    # FaaS-Go's way to a schedule is no other way to the crontab.
    key = {"Authorization": f"Bearer {(faas.data / 'api_key').read_text()}"}
    faas.upload("up", ECHO)
    for evil in ("* * * * *\n* * * * * id", "* * * * * id #", "@reboot",
                 "* * * * %", "0 0 30 2 *"):
        for status in "active", "paused":
            reply = faas.request("PUT", "/api/functions/up", json.dumps(
                {"cron_schedule": evil, "cron_status": status}), key)
            assert reply.status == 400, evil
            assert tab.read_bytes() == own
    assert faas.post("/schedule/tick", b"@daily").status == 200
    before, line, after = re.fullmatch(
        rb"(.*)# BEGIN faas.py [^\n]+\n([^\n]+)\n# END faas.py [^\n]+\n(.*)",
        tab.read_bytes(), re.DOTALL).groups()
    assert (before, after) == (own, b"")
    assert line.startswith(b"0 0 * * * /") and b" invoke tick " in line
    faas.request("DELETE", "/schedule/tick")
    assert tab.read_bytes() == own


# S6: every call is bounded, and nothing of it is left
#
# The bombs go off under a limit of 12 processes, and stop by themselves after
# a few generations, should the limit fail.

GENERATIONS = 9

S6_SCRIPTS = {
    "time": ("exec -a MARK sleep 1000", 504, b"0.7 s"),
    "grandchild": ("(exec -a MARK sleep 1000) & (exec -a MARK sleep 1000)",
                   504, b"0.7 s"),
    "session": ("setsid bash -c 'exec -a MARK sleep 1000' & "
                "exec -a MARK sleep 1000", 504, b"0.7 s"),
    "output": ("exec yes MARK", 413, b"100000 bytes"),
    "stderr": ("exec yes MARK >&2", 413, b"100000 bytes"),
    "memory": (f"exec {sys.executable} -c 'MARK = bytearray(400_000_000)'",
               502, b"exited with status"),
    "cpu": ("while :; do : MARK; done", 502, b"CPU"),
    "file": ("yes MARK >file; exit $?", 502, b""),
    "processes": ("n=${1:-0}; [ $n -lt NINE ] || exec -a MARK sleep 1000\n"
                  "$0 $((n + 1)) & $0 $((n + 1)) & wait", 502,
                  b"more than 12 processes"),
}

LIMITS = ["--limit", "output=100000", "--limit", "memory=300000000",
          "--limit", "processes=12", "--limit", "file_size=100000"]


@pytest.mark.parametrize("name", S6_SCRIPTS)
def test_s6_a_script_that_takes_too_much_is_ended(server, name):
    faas = server(*LIMITS, "--limit", "cpu=1")
    mark = f"mark-{os.getpid()}-{name}"
    lines, status, sentence = S6_SCRIPTS[name]
    path = script(faas, "bad", "")
    path.write_text("#!/bin/bash\n" + lines.replace("MARK", mark).replace(
        "NINE", str(GENERATIONS)) + "\n")
    before = book.family(faas.pid)
    patience = "0.7s" if status == 504 else "20s"
    reply = faas.post("/bad", b"", {"X-Timeout": patience})
    assert (reply.status, sentence in reply.body) == (status, True), reply.body
    nothing_left(faas, before)
    assert marked(mark) == [] and faas.get("/health").status == 200


S6_FUNCTIONS = {
    "time": ("import time; time.sleep(1000)", 504, b"0.7 s"),
    "spin": ("while True: pass", 504, b"0.7 s"),
    "grandchild": ("import subprocess; subprocess.Popen(SLEEP, "
                   "start_new_session=True); subprocess.run(SLEEP)", 504,
                   b"0.7 s"),
    "output": ("return 'a' * 200_000", 413, b"100000 bytes"),
    "print": ("print('a' * 200_000); import time; time.sleep(1000)", 413,
              b"100000 bytes"),
    "memory": ("return len(bytearray(400_000_000))", 502, b"MemoryError"),
    "processes": ("import os, time\n"
                  "    for n in range(NINE): os.fork()\n"
                  "    time.sleep(1000)", 502, b"more than 12 processes"),
    "exit": ("import os; os._exit(7)", 502, b"exited with status 7"),
    "kill": ("import os; os.kill(os.getpid(), 11)", 502, b"SIGSEGV"),
    "channel": ("import os, time; os.close(3); time.sleep(1000)", 502,
                b"closed its channel"),
    "nonsense": ("import os, time; os.write(3, b'x' * 100)\n"
                 "    time.sleep(1000)", 502, b"no frame"),
    "stop": ("import os; os.kill(os.getpid(), 19)", 504, b"0.7 s"),
}


@pytest.mark.parametrize("name", S6_FUNCTIONS)
def test_s6_a_python_function_that_takes_too_much_is_ended(server, name):
    faas = server(*LIMITS)
    mark = f"mark-{os.getpid()}-{name}"
    text, status, sentence = S6_FUNCTIONS[name]
    text = text.replace("SLEEP", repr(["bash", "-c", f"exec -a {mark} "
                                       "sleep 1000"]))
    before = book.family(faas.pid)      # the server and its nursery
    reply = faas.upload("bad", {"fn.py": "def fn(input):\n"
                                "    if input == 'good': return 'good'\n    "
                                + text.replace("NINE", str(GENERATIONS))})
    assert reply.status == 200, reply.body
    patience = "0.7s" if status == 504 else "20s"
    reply = faas.post("/bad", b"", {"X-Timeout": patience})
    assert (reply.status, sentence in reply.body) == (status, True), reply.body
    assert marked(mark) == []
    assert faas.post("/bad", b"good").body == b"good"
    faas.post("/delete", b'{"name": "bad"}')
    nothing_left(faas, before)


S6_SERVER = """
import http.server, os, time

class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.do(self.path)
    do_POST = do_GET

    def do(self, what):
        if what == "/hang":
            time.sleep(1000)
        self.send_response(200)
        self.end_headers()
        try:
            while what == "/drip":
                self.wfile.write(b"x")
                time.sleep(0.05)
            while what == "/flood":
                self.wfile.write(bytes(65536))
        except OSError:
            return
        self.wfile.write(str(os.getpid()).encode())

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])),
                                Slow).serve_forever()
"""


def test_s6_a_call_of_a_server_is_bounded_and_harms_no_other(server):
    faas = server("--limit", "output=100000")
    before = book.family(faas.pid)
    assert faas.upload("web", {"main.py": S6_SERVER, "requirements.txt": ""},
                       env="server").status == 200
    pid = faas.post("/web").body
    reply = faas.post("/web/hang", b"", {"X-Timeout": "0.7s"})
    assert (reply.status, b"0.7 s" in reply.body) == (504, True)
    # Where an answer has begun, all that can be done is to break it off.
    for path in "/drip", "/flood":
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            faas.post(f"/web{path}", b"", {"X-Timeout": "0.7s"})
    assert faas.post("/web").body == pid        # It answers others still.
    done = json.loads(faas.get("/-/functions/web/executions").body)
    assert sorted(one["status"] for one in done) == [
        "ok", "ok", "timeout", "timeout", "too_large"]
    faas.post("/delete", b'{"name": "web"}')
    nothing_left(faas, before)


S6_HANDLERS = {
    "web": ("ctx.http.get(event['body'])", 504, b"0.7 s"),
    "sleep": ("ctx.time.sleep(600_000)", 504, b"0.7 s"),
    "log": ("[ctx.log.info('x' * 1000) for _ in range(1000)]", 413,
            b"100000 bytes"),
    "value": ("ctx.kv.set('a', 'x' * 2_000_000)", 413, b"100000 bytes"),
    "values": ("[ctx.kv.set(str(n), '') for n in range(10_002)]", 502,
               b"at most 10000 values"),
    "repeat": ("ctx.strings.repeat('x', 1 << 40)", 502, b"more than"),
}


@pytest.mark.parametrize("name", S6_HANDLERS)
def test_s6_what_a_function_asks_for_is_bounded_too(server, name):
    faas = server("--limit", "output=100000", env={"no_proxy": "*"})
    text, status, sentence = S6_HANDLERS[name]
    assert faas.upload("asks", {"main.py": f"""
def handler(ctx, event):
    if event["body"] != "good":
        {text}
    return {{"body": "good"}}
"""}, env="python").status == 200
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        patience = "0.7s" if status == 504 else "60s"
        reply = faas.post("/asks", url.encode(), {"X-Timeout": patience},
                          timeout=90)
    assert (reply.status, sentence in reply.body) == (status, True), reply
    assert faas.post("/asks", b"good").body == b"good"


def test_s6_more_callers_than_places_are_turned_away(server):
    faas = server("--limit", "concurrency=2", "--limit", "queue=1")
    script(faas, "slow", f"while [ ! -e {faas.home}/go ]; do sleep 0.05; done")
    answers = []
    callers = [threading.Thread(target=lambda: answers.append(
        faas.post("/slow"))) for _ in range(8)]
    for one in callers:
        one.start()
    eventually(lambda: len(answers) == 5)
    (faas.home / "go").touch()
    for one in callers:
        one.join()
    assert sorted(answer.status for answer in answers) == [200] * 3 + [429] * 5
    assert {answer.headers["Retry-After"] for answer in answers
            if answer.status == 429} == {"1"}


# S7: its own environment, none of ours, and none of our descriptors

SECRETS = {"AWS_SECRET_ACCESS_KEY": "sesame-4711", "API_KEY": "sesame-4712"}

LOOK = ("import os\n"
        "def fn(input):\n"
        "    fds = {n: os.readlink(f'/proc/self/fd/{n}')\n"
        "           for n in os.listdir('/proc/self/fd')\n"
        "           if os.path.lexists(f'/proc/self/fd/{n}')}\n"
        "    return {'env': dict(os.environ), 'fds': fds,\n"
        "            'start': open('/proc/self/environ').read(),\n"
        "            'parent': open(f'/proc/{os.getppid()}/environ').read()}")


def test_s7_a_worker_sees_its_own_environment_and_none_of_ours(server):
    faas = server(env=SECRETS)
    faas.upload("look", {"fn.py": LOOK}, envs=["COLOUR=red"])
    seen = json.loads(faas.post("/look").body)
    assert seen["env"]["COLOUR"] == "red"
    assert set(seen["env"]) - {"TZ"} == {
        "PATH", "LANG", "HOME", "FAAS_FUNCTION", "FAAS_VERSION", "COLOUR"}
    assert "sesame" not in json.dumps(seen)
    assert (seen["start"], seen["parent"]) == ("", "")


ASK = {
    "python": {"main.py": """
import os, subprocess
def handler(ctx, event):
    ctx.kv.set("mine", event["headers"]["Lab"])
    with open("/proc/self/environ") as file:
        start = file.read()
    child = subprocess.run(["env"], capture_output=True, text=True).stdout
    return {"body": {"env": dict(os.environ), "start": start, "child": child,
                     "asked": [ctx.env.get("COLOUR"), ctx.env.get("API_KEY"),
                               ctx.kv.get("mine"), ctx.kv.get("other")]}}
"""},
    "lua": {"main.lua": """
function handler(ctx, event)
  kv.set("mine", event.headers["Lab"])
  local names, found = {"PATH", "COLOUR", "API_KEY", "HOME",
    "FAAS_FUNCTION", "AWS_SECRET_ACCESS_KEY"}, {}
  for _, name in ipairs(names) do found[name] = os.getenv(name) end
  local pipe = io.popen("env; cat /proc/$PPID/environ | tr '\\\\0' ' '")
  local child = pipe:read("*a")
  return {body = {env = found, start = "", child = child, asked = {
    env.get("COLOUR") or false, env.get("API_KEY") or false,
    kv.get("mine") or false, kv.get("other") or false}}}
end
"""}}


@pytest.mark.parametrize("tongue", ASK)
def test_s7_who_may_ask_has_to_and_sees_nobody_elses_values(server, tongue):
    faas = server(env=SECRETS)
    for name, colour in ("one", "red"), ("two", "blue"):
        reply = faas.upload(name, ASK[tongue], env=tongue,
                            envs=[f"COLOUR={colour}"])
        if b"apt install" in reply.body:
            pytest.skip(reply.body.decode().strip())
        assert reply.status == 200, reply.body
    for name, colour in ("one", "red"), ("two", "blue"):
        reply = faas.post(f"/{name}", b"", {"Lab": f"value of {name}"})
        seen = json.loads(reply.body)
        assert "COLOUR" not in seen["env"] and colour not in (
            seen["start"] + seen["child"])
        assert seen["env"]["FAAS_FUNCTION"] == name
        assert "sesame" not in reply.body.decode()
        asked = [value or None for value in seen["asked"]]
        assert asked == [colour, None, f"value of {name}", None]


NODE = """
module.exports = (req, res) => res.json({env: process.env,
  parent: require("fs").readFileSync(`/proc/${process.ppid}/environ`, "utf8"),
  fds: require("fs").readdirSync("/proc/self/fd")});
"""


def test_s7_a_process_of_another_language_sees_no_more(server):
    faas = server(env=SECRETS)
    reply = faas.upload("look", {
        "index.js": NODE, "package.json": '{"name": "fn"}'}, env="nodejs",
        envs=["COLOUR=red"])
    if b"apt install" in reply.body:
        pytest.skip(reply.body.decode().strip())
    said = faas.post("/look").body
    seen = json.loads(said)
    assert b"sesame" not in said and seen["parent"] == ""
    assert set(seen["env"]) - {"TZ"} == {
        "PATH", "LANG", "HOME", "FAAS_FUNCTION", "FAAS_VERSION", "COLOUR"}


def test_s7_a_script_sees_its_own_environment_and_none_of_ours(server):
    faas = server(env=SECRETS)
    script(faas, "look", "env; tr '\\0' '\\n' </proc/self/environ; "
           "tr '\\0' '\\n' </proc/$PPID/environ")
    seen = faas.post("/look", b"", {"Lab": "x", "Proxy": "evil"}).body.decode()
    assert "sesame" not in seen and "HTTP_LAB=x" in seen
    assert "HTTP_PROXY" not in seen
    names = {line.partition("=")[0] for line in seen.splitlines()}
    assert not names & (OURS | set(SECRETS))


def test_s7_a_worker_has_no_descriptor_but_its_four(server):
    faas = server()
    faas.upload("other", ECHO)
    faas.upload("look", {"fn.py": LOOK})
    seen = json.loads(faas.post("/look").body)["fds"]
    assert set(seen) == {"0", "1", "2", "3"}
    assert seen["0"] == "/dev/null" and seen["1"] == seen["2"]
    assert seen["1"].startswith("pipe:") and seen["3"].startswith("socket:")


def test_s7_a_script_has_no_descriptor_but_its_three(server):
    faas = server()
    script(faas, "look", "exec ls -l /proc/self/fd")
    seen = re.findall(r" (\d+) -> (\S+)", faas.post("/look").body.decode())
    # The fourth is the one with which ls reads the list.
    assert [number for number, _ in seen] == ["0", "1", "2", "3"]
    assert all(target.startswith("pipe:") for _, target in seen[:3])
    assert seen[3][1].endswith("/fd")


def test_s7_the_api_key_is_not_told_to_a_function(server):
    faas = server()
    script(faas, "env", "env")
    key = (faas.data / "api_key").read_text()
    for path in "/-/functions/env/run", "/env":
        reply = faas.post(path, b"", {"Authorization": f"Bearer {key}"})
        assert reply.status == 200 and key.encode() not in reply.body, path
    for path in "/env", "/fn/env", "/invoke/env", "/functions/env":
        for headers in ({"Cookie": f"a=1; auth_token={key}; b=2"},
                        {"Authorization": f"bearer {key}"}):
            reply = faas.post(path, b"", headers)
            assert reply.status == 200, path
            assert key.encode() not in reply.body, (path, headers)
    # What is no key of ours is the caller's business with the function.
    reply = faas.post("/env", b"", {"Authorization": "Basic c2VzYW1l"})
    assert b"HTTP_AUTHORIZATION=Basic c2VzYW1l" in reply.body


# S8: what two parsers could read in two ways


@pytest.mark.parametrize("fields", [
    b"Content-Length: 6\r\nTransfer-Encoding: chunked",
    b"Content-Length: 6\r\nContent-Length: 0", b"Content-Length: +6",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding : chunked", b"X: y\r\n Content-Length: 6",
    b"X: y\nContent-Length: 6", b"Host: other"])
def test_s8_a_request_with_two_readings_is_refused_and_the_line_closed(
        refuser, fields):
    place = urllib.parse.urlsplit(refuser.url)
    with socket.create_connection((place.hostname, place.port), 20) as line:
        line.sendall(b"POST /x HTTP/1.1\r\nHost: localhost\r\n" + fields
                     + b"\r\n\r\n0\r\n\r\nGGET /health HTTP/1.1\r\n"
                     b"Host: localhost\r\n\r\n")
        said = line.makefile("rb").read()
    assert re.findall(rb"HTTP/1.1 [0-9]+", said) == [b"HTTP/1.1 400"]
    assert b"Connection: close\r\n" in said


FORGED = """
import json, os, struct, time

def fn(input):
    verb, meta = json.loads(input)
    meta = json.dumps(meta).encode()
    os.write(3, struct.pack(">IIcI", 9 + len(meta), 1, verb.encode(),
                            len(meta)) + meta)      # an answer of our own
    time.sleep(1000)
"""


@pytest.mark.parametrize("verb, meta", [
    ("R", {"headers": {"X": "a\r\nSet-Cookie: b"}}),
    ("R", {"headers": {"X\r\nY": "a"}}), ("R", {"headers": {"X Y": "a"}}),
    ("R", {"headers": {"Content-Type": "a\r\nX: b"}}),
    ("R", {"headers": {"Content-Length": "3"}}),
    ("R", {"headers": {"Transfer-Encoding": "chunked"}}),
    ("R", {"headers": {"X": 5}}), ("R", {"headers": [1]}),
    ("R", {"headers": "X"}), ("E", {"kind": [], "sentence": 5}),
    ("E", {"kind": "ok", "sentence": None}), ("H", {}), ("?", {})])
def test_s8_a_worker_that_forges_an_answer_frames_nothing(
        refuser, verb, meta):
    faas = refuser
    assert faas.upload("forger", {"fn.py": FORGED}).status == 200
    reply = faas.post("/forger", json.dumps([verb, meta]),
                      {"X-Timeout": "5s"}, timeout=10)
    assert faas.post("/wipe").status == 200
    # An answer without the forged lines, or the failure that it is.
    assert reply.status == (200 if verb == "R" else 502)
    assert set(reply.headers) <= {
        "Content-Type", "Content-Length", "Server-Timing", "X-Execution-Id",
        "X-Function-Version", "Date"}
    assert len(reply.body) == int(reply.headers["Content-Length"])


FORGED_HANDLER = FORGED.replace("def fn(input):", "def handler(ctx, event):"
                                ).replace("(input)", '(event["body"])')


@pytest.mark.parametrize("meta", [
    {"headers": {"X": "a\r\nSet-Cookie: b"}},
    {"headers": {"X\r\nY": "a"}}, {"headers": {"X Y": "a"}},
    {"headers": {"X": ["a\nb", "c"]}}, {"headers": {"X": ["a", 5]}},
    {"headers": {"Content-Length": "3"}},
    {"headers": {"content-length": ["3", "4"]}},
    {"headers": {"Transfer-Encoding": "chunked"}},
    {"headers": {"Connection": "close"}}, {"headers": {"Upgrade": "h2c"}},
    {"headers": {"Trailer": "X"}}, {"headers": {"": "a"}},
    {"headers": {"X-Execution-Id": "mine", "X-Function-Version": "9"}},
    {"status": 99}, {"status": 101}, {"status": "200"}, {"status": 1000},
    {"status": [200]}])
def test_s8_who_may_choose_its_headers_frames_nothing_either(refuser, meta):
    faas = refuser
    assert faas.upload("forger", {"main.py": FORGED_HANDLER}, env="python"
                       ).status == 200
    reply = faas.post("/forger", json.dumps(["R", meta]),
                      {"X-Timeout": "5s"}, timeout=10)
    assert faas.post("/wipe").status == 200
    assert reply.status == (200 if "headers" in meta else 502)
    assert set(reply.headers) <= {
        "Content-Type", "Content-Length", "Server-Timing", "X-Execution-Id",
        "X-Function-Version", "Date"}
    assert len(reply.body) == int(reply.headers["Content-Length"])
    assert reply.headers["X-Execution-Id"] != "mine"
    assert reply.headers["X-Function-Version"] == "1"


# S9: what looks like a secret is masked before it is stored

SECRET = "hunter2hunter2"
SHAPES = [f"password={SECRET}", f'"api_key": "{SECRET}"', f"token: {SECRET}",
          f"Authorization: Bearer {SECRET}", f"secret = '{SECRET}'",
          f"eyJ{SECRET}.{SECRET}.{SECRET}"]


def stored(faas, word):
    """List the files of the platform in which a word stands."""
    places = [*faas.logs.rglob("*"), *faas.data.glob("faas.db*")]
    return [path.name for path in places if path.is_file()
            and word.encode() in path.read_bytes()]


def test_s9_what_looks_like_a_secret_is_stored_nowhere(server):
    faas = server()
    script(faas, "cat", "cat; cat >&2")
    faas.upload("raise", {"fn.py": "def fn(input): print(input); "
                                   "raise ValueError(input)"})
    for shape in SHAPES:
        assert faas.post("/cat", shape.encode()).status == 200
        assert faas.post("/raise", shape.encode()).status == 502
    faas.get("/-/executions")           # all is written now
    assert faas.get("/logs/cat").body.count(b"[REDACTED]") == len(SHAPES)
    faas.stop()
    assert stored(faas, SECRET) == []


def test_s9_what_was_asked_and_answered_is_masked_too(server):
    """Of a handler's calls the event is kept, and the answer if so set."""
    faas = server()
    faas.upload("kept", {"main.py": """
def handler(ctx, event):
    ctx.log.info("token: " + event["query"]["token"])
    return {"body": event["body"], "headers": {
        "Set-Cookie": "sid=" + event["query"]["token"]}}
"""}, env="python")
    key = (faas.data / "api_key").read_text()
    opens = {"Authorization": f"Bearer {key}"}
    assert faas.request("PUT", "/api/functions/kept", json.dumps(
        {"save_response": True}), opens).status == 200
    for shape in [*SHAPES, json.dumps({"password": SECRET})]:
        reply = faas.post(f"/kept?token={SECRET}&a=1", shape.encode(), {
            "Cookie": f"sid={SECRET}", "X-Api-Key": SECRET,
            "Authorization": f"Bearer {SECRET}"})
        assert reply.body == shape.encode()
    ident = reply.headers["X-Execution-Id"]
    kept = faas.get(f"/api/executions/{ident}/logs", headers=opens).body
    assert b"event_json" in kept and kept.count(b"[REDACTED]") >= 6
    faas.stop()
    assert stored(faas, SECRET) == []


def test_s9_the_functions_own_secrets_are_masked_by_value(server):
    faas = server()
    faas.upload("own", {"fn.py": "import os\ndef fn(input):\n"
                        "    print('got', os.environ['DB_PASSWORD'])"},
                envs=["DB_PASSWORD=correct horse"])
    faas.post("/own")
    assert b"got [REDACTED]" in faas.get("/logs?name=own").body
    assert not [path for path in faas.logs.rglob("*")
                if b"correct horse" in path.read_bytes()]


def test_s9_the_note_of_a_broken_edit_is_masked(server):
    faas = server()
    folder = faas.functions / "f"
    folder.mkdir()
    (folder / "fn.py").write_text("def fn(input): return 'good'")
    assert faas.post("/f").body == b"good"
    (folder / "fn.py").write_text(f"raise ValueError('password={SECRET}')")
    assert faas.post("/f").body == b"good"
    assert b"does not work" in faas.get("/-/functions").body
    assert SECRET.encode() not in faas.get("/-/functions").body
    faas.stop()
    assert stored(faas, SECRET) == []


def test_s9_a_strangers_path_is_not_stored_as_it_came(server):
    faas = server()
    faas.get(f"/password={SECRET}")
    faas.get(f"/token={SECRET}/x")
    faas.get("/" + "x" * 30_000)
    names = [one["function"] for one in
             json.loads(faas.get("/-/executions").body)]
    assert max(map(len, names), default=0) <= 80
    faas.stop()
    assert stored(faas, SECRET) == []


def test_s9_no_text_makes_masking_take_for_ever(server):
    faas = server()
    script(faas, "cat", "cat")
    for shape in (b"eyJaaaaa", b"eyJaaaaa.", b"token", b"Bearer ", b"a",
                  b"PRIVATE KEY-----", b"password   "):
        text = shape * (200_000 // len(shape))
        assert faas.post("/cat", text, timeout=10).body == text


# S11: a deploy that answered 2xx is on disk


def test_s11_a_deploy_that_answered_survives_kill_9(server):
    faas = server()
    for number in range(1, 5):
        text = f"def fn(input): return 'version {number}'"
        assert faas.upload("f", {"fn.py": text}).status == 200
        faas.kill()                     # at once
        faas = server(home=faas.home)
        reply = faas.post("/f")
        assert reply.body == f"version {number}".encode()
        assert reply.headers["X-Function-Version"] == str(number)


def test_s11_what_was_set_and_kept_survives_too(server):
    faas = server()
    key = (faas.data / "api_key").read_text()
    opens = {"Authorization": f"Bearer {key}"}
    faas.upload("f", {"main.py": """
def handler(ctx, event):
    return {"body": [ctx.env.get("COLOUR"), ctx.kv.increment("hits")]}
"""}, env="python")
    path = "/api/functions/f"
    for number, colour in enumerate(["red", "blue"], 1):
        assert faas.request("PUT", path + "/env", json.dumps(
            {"env_vars": {"COLOUR": colour}}), opens).status == 200
        assert faas.request("PUT", path, json.dumps(
            {"description": colour}), opens).status == 200
        assert json.loads(faas.post("/f").body) == [colour, 2 * number - 1]
        faas.kill()                     # at once
        faas = server(home=faas.home)
        assert json.loads(faas.post("/f").body) == [colour, 2 * number]
        said = json.loads(faas.get(path, headers=opens).body)
        assert (said["description"], said["env_vars"]) == (
            colour, {"COLOUR": colour})


def test_s11_a_delete_and_a_rollback_survive_too(server):
    faas = server()
    for text in "one", "two":
        faas.upload("f", {"fn.py": f"def fn(input): return {text!r}"})
    faas.upload("g", ECHO)
    faas.post("/-/functions/f/rollback", b'{"version": 1}')
    faas.post("/delete", b'{"name": "g"}')
    faas.kill()
    faas = server(home=faas.home)
    assert faas.post("/f").body == b"one"
    assert faas.post("/g").status == 404
    assert not (faas.data / "shelf" / "g").exists()


def test_s11_a_deploy_that_failed_leaves_the_old_version(server):
    faas = server()
    faas.upload("f", {"fn.py": "def fn(input): return 'old'"})
    for text in "def fn(input return", "raise SystemExit", "x = 1", "1 / 0":
        assert faas.upload("f", {"fn.py": text}).status == 400
        assert faas.post("/f").body == b"old"
    assert len(json.loads(faas.get("/-/functions/f/versions").body)) == 1
    assert len(list((faas.data / "shelf" / "f").iterdir())) == 1


# S12: stopping leaves no process and no half-written file


def busy_server(server):
    """A server in the middle of all it does; and its whole family."""
    faas = server(changes=["faas.DRAIN = 1.0"])     # a server hangs in a call
    script(faas, "sh", f"echo >{faas.home}/begun; sleep 1000 & sleep 1")
    for name in "a", "b":
        faas.upload(name, ECHO, threads=2)
    faas.upload("web", {"main.py": S6_SERVER, "requirements.txt": ""},
                env="server")
    threading.Thread(target=call_and_forget, args=(faas, "/web/hang"),
                     daemon=True).start()
    caller = threading.Thread(target=call_and_forget, args=(faas, "/sh"))
    caller.start()
    deploys = threading.Thread(target=deploy_and_forget, args=(faas,))
    deploys.start()
    eventually((faas.home / "begun").exists)
    return faas, book.family(faas.pid), (caller, deploys)


def call_and_forget(faas, path):
    try:
        faas.post(path)
    except (OSError, http.client.HTTPException):
        pass                    # The server ended; that is the test.


def deploy_and_forget(faas):
    try:
        for number in range(1000):
            faas.upload("a", {"fn.py": f"# {number}\n{ECHO['fn.py']}"})
    except (OSError, http.client.HTTPException):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_s12_a_stop_leaves_no_process_and_no_half_written_file(server, number):
    faas, family, threads = busy_server(server)
    assert len(family) > 5
    faas.process.send_signal(number)
    assert faas.process.wait(timeout=20) == (0 if number == signal.SIGTERM
                                             else -signal.SIGKILL)
    eventually(lambda: not [pid for pid in family
                            if os.path.exists(f"/proc/{pid}")])
    for one in threads:
        one.join(timeout=30)
    assert not marked(str(faas.home))
    if number == signal.SIGKILL:        # what a crash leaves, a start removes
        faas = server(home=faas.home)
        assert faas.post("/b", b"hi").body == b"hi"
    eventually(lambda: unfinished(faas) == [])


def test_s12_a_nursery_that_is_killed_takes_everything_along(server):
    faas = server()
    faas.upload("a", ECHO, threads=2)
    nursery, = book.children(faas.pid)
    family = book.family(nursery)
    os.kill(nursery, signal.SIGKILL)
    eventually(lambda: not [pid for pid in family[1:]
                            if os.path.exists(f"/proc/{pid}")])
    eventually(lambda: faas.post("/a", b"hi").status == 200)


def test_s12_a_command_that_is_interrupted_leaves_nothing(tmp_path):
    functions = tmp_path / "functions"
    functions.mkdir()
    mark = f"mark-{os.getpid()}-interrupted"
    path = functions / "slow"
    path.write_text(f"#!/bin/bash\necho >begun\nexec -a {mark} sleep 1000\n")
    path.chmod(0o755)
    env = {name: os.environ[name] for name in os.environ.keys() - OURS}
    command = subprocess.Popen([sys.executable, FAAS, "invoke", "slow"],
                               cwd=tmp_path, env=env)
    try:
        eventually(lambda: marked(mark))
        command.send_signal(signal.SIGINT)
        assert command.wait(timeout=20) == 130
        eventually(lambda: not marked(mark))
    finally:
        command.kill()
        command.wait()


def test_s12_the_data_folder_can_be_moved_after_a_stop(server, tmp_path):
    faas = server()
    faas.upload("a", ECHO)
    faas.stop()
    shutil.move(faas.home, tmp_path / "moved")
    again = server(home=tmp_path / "moved")
    assert again.post("/a", b"hi").body == b"hi"


# S13. The door is asked from an address that is not this machine's: in a
# network of its own, where 192.0.2.1 (RFC 5737) is an address of `lo`.

FROM_ELSEWHERE = """
import json, os, socket, subprocess, sys, time
import faas
from coap_peer import CoapPeer

server = subprocess.Popen(
    [sys.executable, faas.__file__, "--host", "192.0.2.1", "--clock", "off",
     *"--port 0 --data-port 0 --grpc-port 0 --coap-port 0".split()])
try:
    while not os.path.exists("data/server.json"):
        time.sleep(0.02)
    port = json.load(open("data/server.json"))["coap"].split(":")[-1]
    victim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    victim.bind(("192.0.2.2", 0))
    victim.connect(("192.0.2.1", int(port)))
    victim.settimeout(10)
    began, replies, questions = time.monotonic(), [], []
    for mid in range(1000):
        questions.append(faas.coap_encode(faas.CoapMessage(
            faas.COAP_CON, 1, mid, b"", ((11, b"large"),))))
        victim.send(questions[-1])
        if mid % 10 == 9:
            replies += [victim.recv(4096) for _ in range(10)]
    seconds = time.monotonic() - began
    neighbour = CoapPeer(int(port), "192.0.2.1")
    print(json.dumps({
        "seconds": seconds, "asked": [len(data) for data in questions],
        "replies": [(data[1], len(data)) for data in replies],
        "neighbour": neighbour.ask("GET", "large")[0]}))
finally:
    server.terminate()
    server.wait()
"""


def test_s13_what_an_address_elsewhere_is_sent_has_a_budget(tmp_path):
    setup = ("ip link set lo up && ip addr add 192.0.2.1/24 dev lo && "
             "ip addr add 192.0.2.2/24 dev lo && exec \"$@\"")
    if not shutil.which("unshare") or not shutil.which("ip") or (
            subprocess.run(["unshare", "--net", "true"]).returncode):
        pytest.skip("no network of our own: apt install util-linux iproute2, "
                    "and be root")
    (tmp_path / "functions").mkdir()
    large = tmp_path / "functions" / "large"
    large.write_text("#!/bin/sh\nhead -c 900 /dev/zero\n")
    large.chmod(0o755)
    (tmp_path / "forged.py").write_text(FROM_ELSEWHERE)
    env = {name: os.environ[name] for name in os.environ.keys() - OURS}
    here = os.path.dirname(__file__)
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", setup, "sh", sys.executable,
         "forged.py"], cwd=tmp_path, capture_output=True, text=True,
        timeout=100, env=env | {"PYTHONPATH": f"{os.path.dirname(here)}:"
                                f"{here}"})
    said = json.loads(done.stdout.splitlines()[-1]), done.stderr
    counts = said[0]
    full = [size for code, size in counts["replies"] if code == 0x45]
    rest = [size for code, size in counts["replies"] if code == 0xa3]
    allowed = book.COAP_BURST + counts["seconds"] * book.COAP_RATE
    assert len(full) + len(rest) == 1000, said
    assert full and sum(full) <= allowed, said
    assert rest and max(rest) <= min(counts["asked"]), said
    assert counts["neighbour"] == "2.05", said      # nobody else pays for it
