"""Chapter 14 from outside: CoAP clients that others wrote, as they come."""

import json
import pathlib
import re
import shutil
import signal
import subprocess

import pytest
from clients import HOSTS, NO_IPV6, has_ipv6, node_client, python_client
from conftest import Server, eventually, script

CLIENTS = ["aiocoap", "aiocoap 0.4.7", "npm's coap"]

SIZES = [0, 1, 1024, 1025, 64 << 10, 1 << 20]

FUNCTIONS = {
    "echo": "def fn(input):\n    return input",
    # It leaves a dot behind for each time that it ran.
    "counted": "import os\ndef fn(input):\n    open(os.environ['RUNS'], 'a'"
               ").write('.')\n    return input",
    # Longer than a client waits before it asks again (RFC 7252, 4.2).
    "slow": "import os, time\ndef fn(input):\n    open(os.environ['RUNS'], "
            "'a').write('.')\n    time.sleep(3.2)\n    return 'at last'",
    "news": "def fn(input):\n    return 'news: ' + (input or '')",
    "sized": "def fn(input):\n    return 'abcdefg\\n' * int(input or 1)",
    "raises": "def fn(input):\n    raise ValueError('no colour')",
    "raw": "def fn(input):\n    return bytes(range(256))",
}
METHOD = "def handler(ctx, event):\n    return {'body': event['method']}"


@pytest.fixture(scope="module")
def faas(tmp_path_factory):
    """A server with all of these functions."""
    server = Server(tmp_path_factory.mktemp("coap") / "home", [], None)
    server.wait_until_ready()
    for name, text in FUNCTIONS.items():
        assert server.upload(name, {"fn.py": text}, envs=[
            f"RUNS={server.home}/{name}.runs"]).status == 200
    assert server.upload("method", {"main.py": METHOD}, "python"
                         ).status == 200
    yield server
    server.stop()


def runs(faas, name):
    """Tell how often a function has run that counts its runs."""
    path = pathlib.Path(faas.home, f"{name}.runs")
    return len(path.read_text()) if path.exists() else 0


def start(kind, faas, peer_python, peer_node, host="127.0.0.1"):
    """Start one of CLIENTS; skip where it is not installed."""
    address = f"coap://{host}:{faas.coap_port}"
    if kind == "npm's coap":
        return node_client(peer_node(), "coap_client.js", address)
    which = "new" if kind == "aiocoap" else "old"
    return python_client(peer_python("aiocoap", which), "coap_client.py",
                         address)


@pytest.fixture(scope="module", params=CLIENTS)
def client(request, faas, peer_python, peer_node):
    """Each of CLIENTS in turn."""
    with start(request.param, faas, peer_python, peer_node) as client:
        yield client


@pytest.fixture(scope="session")
def coap_client():
    """Run libcoap's client: coap_client(faas, "echo", "-e", "hi")."""
    names = ("coap-client", "coap-client-notls", "coap-client-openssl")
    program = next(filter(None, map(shutil.which, names)), None)

    def command(faas, path, *options, host="127.0.0.1"):
        if not program:
            pytest.skip("libcoap's client is not here: apt install "
                        "libcoap3-bin")
        return [program, *map(str, options),
                f"coap://{host}:{faas.coap_port}/{path}"]

    def run(*args, **rest):
        done = subprocess.run(command(*args, **rest), capture_output=True,
                              timeout=60)
        assert done.returncode == 0, done
        return done.stdout + done.stderr
    run.command = command
    return run


# What goes in comes out, once


def test_each_size_comes_back_whole_and_the_function_ran_once(client, faas):
    for size in SIZES:
        before = runs(faas, "counted")
        answer = client.ask(path="counted", size=size)
        assert answer["code"] == "2.04", (size, answer)
        assert (answer["size"], answer["same"]) == (size, True)
        assert runs(faas, "counted") == before + 1, size


@pytest.mark.parametrize("size, block", [
    *((size, 1024) for size in SIZES), (100_000, 256), (1000, 16)])
def test_libcoap_gets_each_size_back_whole_after_one_run(
        coap_client, faas, tmp_path, size, block):
    body, got = bytes(range(1, 256)) * (size // 255 + 1), tmp_path / "got"
    (tmp_path / "body").write_bytes(body[:size])
    before = runs(faas, "counted")
    more = ["-f", tmp_path / "body"] if size else []
    coap_client(faas, "counted", "-m", "post", "-b", block, "-o", got, *more)
    assert (got.read_bytes() if size else b"") == body[:size]
    assert runs(faas, "counted") == before + 1


@pytest.mark.parametrize("method, code", [
    ("GET", "2.05"), ("POST", "2.04"), ("PUT", "2.04"), ("DELETE", "2.02"),
    ("FETCH", "2.05")])
def test_each_method_reaches_the_function_and_has_its_code(
        client, method, code):
    text = "" if method in ("GET", "DELETE") else "ignored"
    answer = client.ask(method=method, path="method", text=text)
    assert (answer["code"], answer["text"]) == (code, method)


@pytest.mark.parametrize("method", ["get", "post", "put", "delete", "fetch"])
def test_each_method_of_libcoap_reaches_the_function(coap_client, faas,
                                                     method):
    said = coap_client(faas, "method", "-m", method)
    assert said.strip() == method.upper().encode()


def test_a_message_that_is_not_confirmed_is_answered_too(client):
    answer = client.ask(path="echo", text="non", non=True)
    assert (answer["code"], answer["text"]) == ("2.04", "non")


def test_bytes_that_are_no_text_come_back_as_they_are(client):
    answer = client.ask(path="echo", hex=bytes(range(256)).hex())
    assert (answer["size"], answer["same"]) == (256, True)


def test_an_answer_past_2_s_comes_later_and_the_function_ran_once(
        client, faas):
    before = runs(faas, "slow")
    answer = client.ask(path="slow")
    assert (answer["code"], answer["text"]) == ("2.04", "at last")
    assert runs(faas, "slow") == before + 1


def test_libcoap_is_told_early_that_a_slow_answer_will_come(
        coap_client, faas):
    before = runs(faas, "slow")
    said = coap_client(faas, "slow", "-m", "post", "-v", 7).decode()
    heard = re.findall(r"t:(ACK|CON) c:(0\.00|2\.04)", said)
    assert heard.index(("ACK", "0.00")) < heard.index(("CON", "2.04"))
    assert "at last" in said and runs(faas, "slow") == before + 1


def test_a_large_answer_to_a_get_is_made_once(client, faas):
    script(faas, "large", f"echo >>{faas.home}/large.runs\n"
           "head -c 100000 /dev/zero | tr '\\0' x")
    before = runs(faas, "large")
    answer = client.ask(method="GET", path="large")
    assert (answer["code"], answer["size"]) == ("2.05", 100_000)
    assert runs(faas, "large") == before + 1


# What is not there, and what fails


def test_an_unknown_function_is_a_404_that_says_so(client, coap_client, faas):
    answer = client.ask(path="nobody", text="hi")
    assert answer["code"] == "4.04" and "nobody" in answer["text"]
    assert b"4.04" in coap_client(faas, "nobody", "-m", "get")


def test_a_function_that_raises_is_a_502_with_its_words(client):
    answer = client.ask(path="raises", text="hi")
    assert answer["code"] == "5.02"
    assert answer["text"] == "ValueError: no colour"


def test_an_unknown_critical_option_is_a_402(client):
    answer = client.ask(path="echo", text="hi", options=[[2049, "01"]])
    assert answer["code"] == "4.02"


# Discovery


def test_what_can_be_called_is_listed_and_can_be_filtered(client):
    def listed(query=""):
        answer = client.ask(method="GET", path=".well-known/core" + query)
        assert answer["code"] == "2.05"
        return set(re.findall("<(/[^>]*)>", answer["text"]))
    everything = listed()
    assert everything >= {f"/{name}" for name in FUNCTIONS}
    assert listed("?href=/echo") == {"/echo"}
    assert listed("?href=/ra*") == {"/raises", "/raw"}
    assert listed("?rt=nothing-of-this-kind") == set()


def test_the_list_is_in_the_link_format(faas, peer_python, peer_node):
    with start("aiocoap", faas, peer_python, peer_node) as client:
        answer = client.ask(method="GET", path=".well-known/core")
    assert answer["options"]["12"] == "28"      # Content-Format 40
    assert "</news>;" in answer["text"] and "obs" in answer["text"]


# Observe (RFC 7641): who asked once is told again


def cron_call(faas, name):
    """Do what a crontab line does, without the wait for the minute."""
    reply = faas.post(f"/-/functions/{name}/run?trigger=cron")
    assert reply.status == 200, reply


def test_an_observer_is_told_of_every_door_s_results(client, faas):
    first = client.ask(do="observe", method="GET", path="news")
    assert (first["code"], first["text"]) == ("2.05", "news: ")
    assert faas.post("/news", b"by http").body == b"news: by http"
    assert client.ask(do="next")["text"] == "news: by http"
    client.ask(path="news", text="by coap")
    assert client.ask(do="next")["text"] == "news: by coap"
    cron_call(faas, "news")
    assert client.ask(do="next")["text"] == "news: "
    client.ask(do="stop")
    answer = client.ask(path="news", text="still there")
    assert answer["text"] == "news: still there"


def test_an_observer_gets_a_large_result_whole(faas, peer_python, peer_node):
    with start("aiocoap", faas, peer_python, peer_node) as client:
        client.ask(do="observe", method="GET", path="sized")
        faas.post("/sized", b"1000")
        answer = client.ask(do="next")
        assert answer["size"] == 8000
        client.ask(do="stop")


def test_a_function_that_is_deleted_ends_its_observation(
        faas, peer_python, peer_node):
    faas.upload("brief", {"fn.py": FUNCTIONS["news"]})
    with start("aiocoap", faas, peer_python, peer_node) as client:
        client.ask(do="observe", method="GET", path="brief")
        faas.post("/delete", json.dumps({"name": "brief"}))
        assert client.ask(do="next")["code"] in ("4.04", "")


def test_libcoap_s_client_prints_what_it_is_told(coap_client, faas):
    watching = subprocess.Popen(
        coap_client.command(faas, "news", "-s", 30, "-w"),
        stdout=subprocess.PIPE, text=True)
    try:
        assert watching.stdout.readline() == "news: \n"
        for word in "one", "two":
            faas.post("/news", word.encode())
            assert watching.stdout.readline() == f"news: {word}\n"
    finally:
        watching.send_signal(signal.SIGINT)
        watching.wait(20)
        watching.stdout.close()


# Many, and wherever they come from


def test_20_clients_at_once_are_all_answered(coap_client, faas):
    calls = [subprocess.Popen(
        coap_client.command(faas, "echo", "-m", "post", "-e", f"client-{n}"),
        stdout=subprocess.PIPE) for n in range(20)]
    said = [call.communicate(timeout=60)[0].decode().strip()
            for call in calls]
    assert said == [f"client-{n}" for n in range(20)]


def test_20_calls_of_one_client_at_once_are_all_answered(client, faas):
    before = runs(faas, "counted")
    answer = client.ask(do="many", count=20, path="counted", text="x")
    assert (answer["codes"], answer["same"]) == (["2.04"], 20)
    assert runs(faas, "counted") == before + 20


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [*CLIENTS, "libcoap"])
def test_each_client_finds_the_door_on_both_families(
        faas, peer_python, peer_node, coap_client, kind, host):
    if host == "[::1]" and not has_ipv6():
        pytest.skip(NO_IPV6)
    if kind == "libcoap":
        said = coap_client(faas, "echo", "-m", "post", "-e", "hi", host=host)
        assert said.strip() == b"hi"
        return
    with start(kind, faas, peer_python, peer_node, host) as client:
        assert client.ask(path="echo", text="hi")["text"] == "hi"
