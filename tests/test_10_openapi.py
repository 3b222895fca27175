"""Chapter 10.7: what the API says about itself, and whether it is true."""

import collections
import concurrent.futures
import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from conftest import script

import faas

METHODS = {"get", "put", "post", "delete", "patch", "head", "options",
           "trace"}
HITS = ("function handler(ctx, event)\n"
        "  log.warn('hit')\n"
        "  return {body = {hits = kv.increment('hits')}}\n"
        "end\n")


@pytest.fixture(scope="module")
def document():
    return json.loads(json.dumps(faas.openapi(faas.ROUTES)))


def operations(document):
    """Give (method, path, operation) for each operation of a document."""
    return [(method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()]


# The document


def test_it_is_valid_openapi_3_1(document):
    validator = pytest.importorskip(
        "openapi_spec_validator", reason="this test needs a validator: "
        "pip install openapi-spec-validator")
    found = validator.OpenAPIV31SpecValidator(document).iter_errors()
    assert [str(error) for error in found] == []


def test_it_is_well_formed_by_the_rules_of_openapi_itself(document):
    """Sections 4.8.1, 4.8.8 to 4.8.12, 4.8.17 and 4.8.30 of OAS 3.1.0."""
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] and document["info"]["version"]
    known = document["components"]["securitySchemes"]
    for method, path, operation in operations(document):
        assert path.startswith("/") and method in METHODS
        there = [(one["in"], one["name"]) for one in operation["parameters"]]
        assert len(there) == len(set(there)), path
        assert {name for place, name in there if place == "path"} == set(
            re.findall(r"\{(\w+)\}", path)), path
        assert all(one["required"] for one in operation["parameters"]
                   if one["in"] == "path")
        assert operation["responses"], path
        for status, response in operation["responses"].items():
            assert re.fullmatch("[1-5][0-9][0-9]|default", status), path
            assert response["description"], path
        for wish in operation.get("security", ()):
            assert set(wish) <= set(known), path
        if "requestBody" in operation:
            assert operation["requestBody"]["content"], path


def test_no_two_operations_have_one_id(document):
    found = collections.Counter(operation["operationId"] for _, _, operation
                                in operations(document))
    assert [name for name, times in found.items() if times > 1] == []


def test_no_two_paths_differ_only_in_the_names_of_their_parts(document):
    bare = [re.sub(r"\{\w+\}", "{}", path) for path in document["paths"]]
    assert len(bare) == len(set(bare))


def test_every_route_is_in_it_and_nothing_else(document):
    written = {(method, path) for method, path, _ in operations(document)}
    for route in faas.ROUTES:
        methods = {method for method, path in written if path == route.path}
        if route.method == "*":
            assert methods >= {"get", "post", "put", "delete", "patch"}
        else:
            assert route.method.lower() in methods, route.path
    assert {path for _, path in written} == {
        route.path for route in faas.ROUTES}
    for method, path in written:
        assert any(route.path == path and route.method in
                   (method.upper(), "*") for route in faas.ROUTES)


def test_what_is_guarded_says_which_key_it_takes(document):
    for method, path, operation in operations(document):
        guard = next(route.guard for route in faas.ROUTES
                     if route.path == path
                     and route.method in (method.upper(), "*"))
        wishes = [set(wish) for wish in operation.get("security", ())]
        if guard == "open":
            assert wishes == []
        elif guard == "key":
            assert wishes == [{"key"}, {"cookie"}]
        else:
            assert {"key"} in wishes
        if guard != "open":
            assert {"401", "403"} <= set(operation["responses"]), path


def test_refusals_are_written_one_by_one_and_not_as_a_default(document):
    """A default that fits everything promises nothing."""
    for method, path, operation in operations(document):
        calls = any(route.path == path and route.gives is None
                    for route in faas.ROUTES)
        assert ("default" in operation["responses"]) == calls, path


def test_the_sizes_that_are_refused_are_announced(document):
    for method, path, operation in operations(document):
        if method != "get" and "default" not in operation["responses"] or (
                "/diff/" in path):
            assert "413" in operation["responses"], path


def test_the_server_gives_this_document_to_anybody(server, document):
    reply = server().get("/openapi.json", headers={"Host": "example.org"})
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert json.loads(reply.body) == document


# The server beside its document. First with a checker of some thirty lines,
# which knows as much of JSON Schema as 10.7 uses, so that this is tested where
# nothing is installed; then with one that thinks of more than we do.

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool,
         "integer": int, "number": (int, float), "null": type(None)}


def faults(value, schema, at="it"):
    """List in what a JSON value differs from its schema."""
    found, kinds = [], schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(
            isinstance(value, TYPES[kind]) and
            (kind == "boolean" or not isinstance(value, bool))
            for kind in kinds):
        return [f"{at} is {value!r}, and no {' or '.join(kinds)}"]
    if value not in schema.get("enum", [value]):
        found.append(f"{at} is {value!r}, none of {schema['enum']}")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""),
                                                value):
        found.append(f"{at} is {value!r}, not like {schema['pattern']}")
    if isinstance(value, (int, float)) and value < schema.get(
            "minimum", value):
        found.append(f"{at} is less than {schema['minimum']}")
    if isinstance(value, list):
        for number, one in enumerate(value):
            found += faults(one, schema.get("items", {}), f"{at}[{number}]")
    if isinstance(value, dict):
        members = schema.get("properties", {})
        found += [f"{at} lacks {name}" for name in
                  schema.get("required", ()) if name not in value]
        others = schema.get("additionalProperties", True)
        for name, one in value.items():
            if name in members:
                found += faults(one, members[name], f"{at}.{name}")
            elif others is False:
                found.append(f"{at} has {name}, which is written nowhere")
            elif isinstance(others, dict):
                found += faults(one, others, f"{at}.{name}")
    return found


@pytest.mark.parametrize("value, schema, number", [
    ({"a": 1}, {"type": "object", "properties": {"a": {"type": "string"}}},
     1),
    ({"b": 1}, {"type": "object", "additionalProperties": False}, 1),
    ({}, {"type": "object", "required": ["a"]}, 1),
    ([1, "2"], {"type": "array", "items": {"type": "integer"}}, 1),
    (True, {"type": "integer"}, 1), (None, {"type": ["string", "null"]}, 0),
    ("b", {"enum": ["a"]}, 1), ("b", {"type": "string", "pattern": "^a"}, 1),
    (-1, {"type": "integer", "minimum": 0}, 1), ({"a": 1}, {}, 0)])
def test_the_checker_finds_what_it_should(value, schema, number):
    assert len(faults(value, schema)) == number


def check(document, method, path, reply):
    """See that an answer is one of those that its operation announces."""
    answers = document["paths"][path][method.lower()]["responses"]
    where = f"{method} {path} {reply.status}"
    assert str(reply.status) in answers or "default" in answers, where
    content = answers.get(str(reply.status), {}).get("content")
    if content:
        kind = reply.headers["Content-Type"].partition(";")[0]
        assert kind in content, where
        if kind == "application/json":
            assert faults(json.loads(reply.body),
                          content[kind]["schema"]) == [], where
    elif content == {}:
        assert reply.body == b"", where


def lived_in(server, **rest):
    """Give a server on which something has happened, its key, and ids."""
    home = server(**rest)
    script(home, "shout", "tr a-z A-Z")
    bearer = {"Authorization": "Bearer "
              + (home.data / "api_key").read_text()}

    def api(method, path, value):
        reply = home.request(method, "/api" + path, json.dumps(value), bearer)
        assert reply.status == 200, reply.body
        return reply

    fn = json.loads(api("POST", "/functions", {
        "name": "hits", "description": "counts", "code": HITS}).body)
    api("PUT", f"/functions/{fn['id']}", {
        "save_response": True, "retention_days": 7, "cron_status": "active",
        "cron_schedule": "0 0 1 1 *", "code": HITS + "-- the same\n"})
    api("PUT", f"/functions/{fn['id']}/env", {"env_vars": {"COLOUR": "red"}})
    run = home.post(f"/fn/{fn['id']}/a?b=c", b"{}")
    home.post("/shout", b"hi")
    return home, bearer, {"name": fn["id"], "version": "1", "old": "1",
                          "new": "2", "rest": "x",
                          "ident": run.headers["X-Execution-Id"]}


def fill(path, parts):
    return re.sub(r"\{(\w+)\}", lambda found: parts[found[1]], path)


def test_every_answer_to_a_reader_is_as_announced(server, document):
    home, bearer, parts = lived_in(server)
    nobody = {name: "nobody" for name in parts}
    statuses = collections.Counter()
    for method, path, _ in operations(document):
        if method != "get":
            continue
        for given in parts, nobody, {**parts, "version": "x", "old": "x"}:
            reply = home.get(fill(path, given), headers=bearer)
            check(document, method, path, reply)
            statuses[reply.status] += 1
        for headers in {}, {"Authorization": "Bearer no"}, {
                **bearer, "Host": "evil.example"}:
            reply = home.get(fill(path, parts), headers=headers)
            check(document, method, path, reply)
            statuses[reply.status] += 1
    # It would prove little if all of them were refused.
    assert statuses[200] > 40 and statuses[404] > 10 and statuses[401] > 10


def test_every_answer_to_nonsense_is_as_announced(server, document):
    home, bearer, parts = lived_in(server)
    for method, path, _ in operations(document):
        if method == "get":
            continue
        for body in (b"", b"{", b"[]", b"{}", b'{"name": 5}', b"\xff",
                     b'{"version": 1e400}', b'{"version": -1}',
                     b'{"version": 99999999999999999999999999}',
                     b'{"timeout": {}, "env": 5, "threads": []}',
                     b'{"env_vars": {"A": null}}', b'{"cron_schedule": []}',
                     b'{"retention_days": []}', b'{"apiKey": {}}',
                     b"[" * 10_000):
            given = {**parts, "name": "nobody"} if method == "delete" or (
                body == b"{}") else parts
            reply = home.request(method.upper(), fill(path, given), body,
                                 bearer)
            check(document, method, path, reply)
    assert "Traceback" not in home.output


# What schemathesis is told. All of its checks are on, but for these:
#
#   unsupported_method      the six paths of tinyFaaS answer a wrong method
#                           by 400, as its clients know it
#   positive_data_...       a body that is a text in some language (Lua, a
#                           cron expression, a zip in base64) may be wrong in
#                           ways that no schema can say; and in sequences of
#                           calls it puts into a path whatever an earlier
#                           answer held
#   use_after_free          DELETE /fn/x is a call like any other, and does
#                           not delete x

CONFIG = r"""
[checks]
enabled = true

[generation]
deterministic = true
max-examples = 5

[phases.stateful]
max-steps = 4
[phases.stateful.checks.positive_data_acceptance]
enabled = false

[[operations]]
include-tag = "tinyFaaS"
checks.unsupported_method.enabled = false

[[operations]]
include-method = "PUT"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-name-regex = '^POST /(upload|functions/?$|schedule|api/functions$)'
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path-regex = '^/(fn/|invoke/|functions/|\{name\})'
checks.use_after_free.enabled = false
"""


def schemathesis(folder, home, bearer, config, *flags):
    """Let schemathesis ask a server; give what it printed."""
    tool = shutil.which("schemathesis", path=pathlib.Path(
        sys.executable).parent) or shutil.which("schemathesis")
    if not tool:
        pytest.skip("this test needs a tester of APIs: "
                    "pip install schemathesis")
    (folder / "schemathesis.toml").write_text(config)
    done = subprocess.run(
        [tool, "run", home.url + "/openapi.json", "--request-timeout", "30",
         "-H", "Authorization: " + bearer["Authorization"], *flags],
        cwd=folder, capture_output=True, text=True, timeout=300)
    found = done.stdout.partition(" FAILURES ")[2].partition(" WARNINGS ")[0]
    assert done.returncode == 0, found[:9000] or done.stdout + done.stderr
    return done.stdout


# /uploadURL fetches what a stranger names; a tester must not reach the web.
NO_WEB = {"http_proxy": "http://127.0.0.1:9",
          "https_proxy": "http://127.0.0.1:9"}


@pytest.fixture(scope="module")
def testers(module_server, tmp_path_factory):
    """Let two testers ask at the same time, each a server of its own.

    The one sends anything. The other knows real ids; it does not delete, so
    that what it asks about stays there.
    """
    def start(config, *flags):
        return pool.submit(
            schemathesis, tmp_path_factory.mktemp("tester"), home, bearer,
            config, *flags)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        home, bearer, _ = lived_in(module_server, env=NO_WEB)
        anything = start(CONFIG), home
        home, bearer, parts = lived_in(module_server, env=NO_WEB)
        known = "".join(f'"path.{name}" = "{value}"\n'
                        for name, value in parts.items() if name != "rest")
        yield anything, (start(
            f"[parameters]\n{known}{CONFIG}",
            "--phases", "coverage,fuzzing", "--exclude-method", "DELETE",
            "--exclude-path-regex", "^/(wipe|delete|upload|functions/?$)",
            "--exclude-checks", "unsupported_method"), home, bearer, parts)


def test_a_tester_that_sends_anything_finds_no_inconsistency(testers):
    said, home = testers[0]
    assert int(re.search(r"(\d+) generated", said.result())[1]) > 500
    assert "Traceback" not in home.output
    assert home.get("/health").status == 200


def test_a_tester_that_knows_real_ids_finds_no_inconsistency(testers):
    said, home, bearer, parts = testers[1]
    assert int(re.search(r"(\d+) generated", said.result())[1]) > 300
    assert "Traceback" not in home.output
    reply = home.get(f"/api/functions/{parts['name']}", headers=bearer)
    assert reply.status == 200
