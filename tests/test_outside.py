"""What a stranger sees who pastes, hammers, and pulls the plug."""

import base64
import http.client
import json
import os
import random
import re
import shutil
import subprocess
import threading
import urllib.parse

import pytest
from conftest import eventually, script, zip_of

import faas as book

# 1. PiFaaS's README, pasted line by line. HOST stands for localhost:8080.

PIFAAS = [
    ("chmod +x functions/hello.py", ""),
    ("curl -X POST http://HOST/hello.py -d 'World'", "Hello, World\n"),
    ("curl -X POST http://HOST/hello.py", "Hello, stranger\n"),
    ("curl http://HOST/logs/hello.py", r"\n--- Run at [-0-9T:.]+ ---\n"
     r"Hello, World\n\n--- Run at [-0-9T:.]+ ---\nHello, stranger\n"),
    ("curl -X POST http://HOST/schedule/hello.py -d '*/5 * * * *'",
     "Cron job set"),
    ("curl http://HOST/schedule", r'\{"hello.py": "\*/5 \* \* \* \*"\}\n?'),
    ("curl -X DELETE http://HOST/schedule/hello.py", "Removed schedule"),
    ("curl http://HOST/schedule", r"\{\}\n?"),
    ("curl http://HOST/logs/nobody", "No logs found for function\n?"),
    ("curl -X POST http://HOST/nobody", "Function not found.*\n?"),
]

HELLO = """#!/usr/bin/env python3
import sys
print("Hello,", sys.stdin.read().strip() or "stranger")
"""


def test_the_usage_lines_of_pifaas_work_when_they_are_pasted(server):
    if not shutil.which("curl"):
        pytest.skip("the README's lines are for curl: apt install curl")
    faas = server()
    (faas.functions / "hello.py").write_text(HELLO)
    for line, expected in PIFAAS:
        line = line.replace("HOST", urllib.parse.urlsplit(faas.url).netloc)
        done = subprocess.run(["sh", "-c", line.replace("curl", "curl -sS")],
                              cwd=faas.home, capture_output=True, text=True,
                              timeout=30)
        assert re.fullmatch(expected, done.stdout), (line, done)
        assert done.stderr == ""


# 3. 2,000 calls over 64 connections, during 20 redeploys


def version_of(text):
    return {"fn.py": f"def fn(input): return {text!r} + (input or '')"}


def test_2000_calls_during_20_redeploys_all_get_an_answer(server):
    faas = server()
    assert faas.upload("f", version_of("v0:"), threads=2).status == 200
    place = urllib.parse.urlsplit(faas.data_url)
    left, wrong, seen = iter(range(2000)), [], set()
    turn = threading.Lock()

    def next_number():
        with turn:
            return next(left, None)

    def client():
        line = http.client.HTTPConnection(place.hostname, place.port,
                                          timeout=60)
        while (number := next_number()) is not None:
            line.request("POST", "/f", f"{number}")
            reply = line.getresponse()
            version, _, rest = reply.read().decode().partition(":")
            if reply.status != 200 or rest != str(number):
                wrong.append((reply.status, version, rest))
            seen.add(version)
        line.close()

    clients = [threading.Thread(target=client) for _ in range(64)]
    for one in clients:
        one.start()
    deployed = [faas.upload("f", version_of(f"v{number}:"), threads=2).status
                for number in range(1, 21)]
    for one in clients:
        one.join()
    assert deployed == [200] * 20 and wrong == []
    assert seen <= {f"v{number}" for number in range(21)} and len(seen) > 1
    assert faas.post("/f", b"x").body == b"v20:x"


# 4. kill -9 during deploys, in a loop

DEPLOYS = 50


def test_kill_9_during_50_deploys_leaves_one_of_two_versions(server):
    chance, faas, deploys, kills = random.Random(50), server(), 0, 0
    names = ["a", "b", "c"]
    has = {}
    for name in names:
        has[name] = {f"{name}-0"}
        assert faas.upload(name, version_of(f"{name}-0")).status == 200
    while deploys < DEPLOYS:
        # Some deploys that answer, and one during which the plug is pulled.
        for _ in range(chance.randint(0, 3)):
            deploys += 1
            name, text = chance.choice(names), f"{deploys}"
            assert faas.upload(name, version_of(text)).status == 200
            has[name] = {text}
        deploys += 1
        name, text = chance.choice(names), f"{deploys}"
        has[name] |= {text}
        deploy = threading.Thread(target=forgotten, args=(faas, name, text))
        deploy.start()
        deploy.join(chance.random() * 0.04)     # not to wait: to choose when
        faas.kill()
        kills += 1
        deploy.join()
        faas = server(home=faas.home)
        for name in names:
            reply = faas.post(f"/{name}")
            assert reply.status == 200
            assert reply.body.decode() in has[name], (name, has)
            has[name] = {reply.body.decode()}
            folders = list((faas.data / "shelf" / name).iterdir())
            versions = json.loads(
                faas.get(f"/-/functions/{name}/versions").body)
            assert {path.name for path in folders} == {
                version["digest"] for version in versions}
    assert kills >= 12


def forgotten(faas, name, text):
    try:
        faas.upload(name, version_of(text))
    except (OSError, http.client.HTTPException):
        pass                    # The plug was pulled; that is the test.


# 5. Five functions that misbehave: each ends in its own sentence

MISBEHAVING = {
    "grandchild": ("import subprocess, time\ndef fn(input):\n"
                   "    subprocess.Popen(['sleep', 'MARK'], "
                   "start_new_session=True)\n    time.sleep(1000)",
                   504, "it ran longer than the 1 s that the caller allowed"),
    "gigabyte": ("import sys\ndef fn(input):\n    for _ in range(1024):\n"
                 "        sys.stdout.write('MARK' + 'a' * (1 << 20))",
                 413, "it wrote more than its 1000000 bytes of output"),
    "bomb": ("import os, time\ndef fn(input):\n    for _ in range(9):\n"
             "        os.fork()\n    time.sleep(1000)",
             502, "it started more than 16 processes"),
    "closes": ("import os, time\ndef fn(input):\n    os.close(3)\n"
               "    time.sleep(1000)",
               502, "its worker closed its channel before it answered"),
    "exits": ("import os\ndef fn(input):\n    print('half')\n"
              "    os._exit(3)",
              502, "its worker exited with status 3"),
}

MISBEHAVING_SCRIPTS = {
    "grandchild.sh": ("setsid sleep MARK & sleep 1000", 504,
                      "it ran longer than the 1 s that the caller allowed"),
    "gigabyte.sh": ("head -c 1000000000 /dev/zero", 413,
                    "it wrote more than its 1000000 bytes of output"),
    "bomb.sh": ('n=${1:-0}; [ "$n" -lt 9 ] || exec sleep MARK\n'
                '"$0" $((n + 1)) & "$0" $((n + 1)) & wait', 502,
                "it started more than 16 processes"),
    "closes.sh": ("exec >&- 2>&-; sleep 1000", 504,
                  "it ran longer than the 1 s that the caller allowed"),
    "exits.sh": ("echo half; exit 3", 502, "exits.sh exited with status 3"),
}


def test_five_misbehaving_functions_each_end_in_their_own_sentence(server):
    faas = server("--limit", "output=1000000", "--limit", "processes=16")
    mark = f"{1000 + os.getpid()}.5"        # seconds that nobody else sleeps
    before = set(book.family(faas.pid))
    cases = {**MISBEHAVING, **MISBEHAVING_SCRIPTS}
    for name, (text, status, sentence) in cases.items():
        text = text.replace("MARK", mark)
        if name in MISBEHAVING:
            assert faas.upload(name, {"fn.py": text}).status == 200
        else:
            script(faas, name, text)
        patience = "1s" if status == 504 else "30s"
        reply = faas.post(f"/{name}", b"", {"X-Timeout": patience})
        assert reply.status == status, (name, reply.body)
        assert reply.body.decode().startswith(sentence), name
    # They are known for what they did, and nothing of them is left.
    done = json.loads(faas.get("/-/executions").body)
    assert [one["status"] for one in reversed(done)] == [
        "timeout", "too_large", "crashed", "crashed", "crashed"] + [
        "timeout", "too_large", "crashed", "timeout", "crashed"]
    faas.post("/wipe")
    eventually(lambda: set(book.family(faas.pid)) <= before)
    assert sleepers(mark) == []
    assert faas.get("/health").status == 200


def sleepers(mark):
    """List the processes that have `mark` on their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if mark.encode() in file.read():
                    found.append(pid)
        except OSError:
            pass                # It ended while we looked.
    return found


# And what a newcomer may do first


def test_the_toy_and_the_platform_agree_on_what_is_benign(server):
    faas = server()
    script(faas, "shout", "tr a-z A-Z")
    script(faas, "cat", "cat")
    toy = book.toy(str(faas.functions), port=0)
    thread = threading.Thread(target=toy.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{toy.server_address[1]}"
        for name in "shout", "cat":
            for body in b"hello", b"", b"\n", bytes(range(256)) * 100:
                one = faas.post(f"/{name}", body)
                two = faas.post(f"/{name}", body, url=url)
                assert (one.status, one.body) == (two.status, two.body)
    finally:
        toy.shutdown()
        toy.server_close()
        thread.join()


def test_an_edit_is_served_at_the_next_call(server):
    faas = server()
    folder = faas.functions / "f"
    folder.mkdir()
    for text in "one", "two", "three":
        (folder / "fn.py").write_text(f"def fn(input): return {text!r}")
        assert faas.post("/f").body == text.encode()
    path = script(faas, "g", "echo one")
    assert faas.post("/g").body == b"one\n"
    path.write_text("#!/bin/sh\necho two\n")
    assert faas.post("/g").body == b"two\n"


def test_ten_calls_that_sleep_run_at_the_same_time(server):
    faas = server()
    faas.upload("meet", {"fn.py": (
        "import os, time\ndef fn(input):\n"
        f"    open('{faas.home}/' + input, 'w')\n"
        "    all = int(os.environ['ALL'])\n"
        f"    while len(os.listdir('{faas.home}')) < all:\n"
        "        time.sleep(0.01)\n    return 'met'")},
        envs=[f"ALL={len(os.listdir(faas.home)) + 10}"])
    answers = []
    callers = [threading.Thread(target=lambda number=number: answers.append(
        faas.post("/meet", f"call{number}".encode(),
                  {"X-Timeout": "25s"}).body)) for number in range(10)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    assert answers == [b"met"] * 10     # none would end if one came last


def test_a_bundle_of_the_shipped_examples_deploys_as_it_is(server):
    faas, shipped = server(), book.__file__.replace("faas.py", "functions")
    missing = []
    for name in sorted(os.listdir(shipped)):
        if os.path.isdir(os.path.join(shipped, name)):
            files = book.read_folder(os.path.join(shipped, name))
            bundle = zip_of({path: item.data for path, item in files.items()})
            reply = faas.post("/upload", json.dumps({
                "name": name, "env": book.tongue_of("", files),
                "threads": 1, "zip": base64.b64encode(bundle).decode()}))
            if b"apt install" in reply.body:
                missing.append(reply.body.decode())
                continue
            assert reply.status == 200, reply.body
            # An empty body is not what each of them takes; but none of them
            # breaks, or is not found.
            assert faas.get(f"/{name}").status in (200, 400, 502), name
            assert name in faas.get("/list").body.decode().split()
    if missing:
        pytest.skip("; ".join(missing))
