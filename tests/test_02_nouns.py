"""Chapter 2: what passes through every door."""

import http
import re
import subprocess
import sys

import pytest
from conftest import ROOT

import faas

# The 16 ways to fail of grpc/grpc, doc/statuscodes.md.
GRPC = set("""CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND
    ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION
    ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS
    UNAUTHENTICATED""".split())

# RFC 7252, section 12.1.2, and 4.09 from RFC 8132, section 6.
COAP = set("4.00 4.01 4.02 4.03 4.04 4.05 4.06 4.09 4.12 4.13 4.15 "
           "5.00 5.01 5.02 5.03 5.04 5.05".split())


# 2.1 How a call can fail


@pytest.mark.parametrize("name", faas.KINDS)
def test_every_kind_has_a_code_on_every_door(name):
    kind = faas.KINDS[name]
    assert http.HTTPStatus(kind.http).phrase
    assert kind.coap in COAP and kind.grpc in GRPC and kind.when


def test_a_failure_is_never_a_success():
    assert all(kind.http >= 400 and kind.exit for kind in
               faas.KINDS.values())
    assert faas.Result().kind not in faas.KINDS


def test_a_script_can_tell_every_kind_by_its_exit_code():
    codes = [kind.exit for kind in faas.KINDS.values()]
    assert len(set(codes)) == len(codes)
    # 1 is Python's own; from 126 on a shell means something else by them.
    assert all(1 < code < 126 for code in codes)


def test_a_failure_carries_its_kind_its_sentence_and_its_detail():
    error = faas.FaasError("crashed", "it exited", b"the tail")
    assert (error.kind, str(error), error.detail) == (
        "crashed", "it exited", b"the tail")
    assert faas.FaasError("crashed", "it exited").detail == b""
    assert faas.FaasError("crashed", "it exited").line == 0     # not known


def test_a_sentence_is_text_whatever_a_function_put_into_it():
    sentence = str(faas.FaasError("crashed", "bad input \udcff\ud800 \u00e9"))
    assert sentence == "bad input ?? \u00e9" and sentence.encode()


def test_every_failure_in_the_book_is_of_a_kind_in_the_table():
    with open(faas.__file__, encoding="utf-8") as file:
        used = set(re.findall(r'FaasError\(\s*"([^"]*)"', file.read()))
    assert used and used <= set(faas.KINDS)


# 2.2 Names


@pytest.mark.parametrize("name", [
    "a", "7", "hello", "hello.py", "Hello-World_2", "a..b", "a.", "a-",
    "x" * 64])
def test_a_plain_name_is_returned_as_it_is(name):
    assert faas.check_name(name) == name


@pytest.mark.parametrize("name", [
    "", ".", "..", ".git", "-rf", "_x", "a/b", "/etc/passwd", "../x",
    "a\\b", "%2e%2e", "a b", "a\0", "a\n", "\na", "a\r", "naïve", "１",
    "a:b", "~root", "$HOME", "*", "x" * 65, "x" * 100000])
def test_a_name_that_could_be_more_than_a_name_is_refused(name):
    with pytest.raises(faas.FaasError) as refusal:
        faas.check_name(name)
    assert refusal.value.kind == "bad_input"
    assert "is no function name: use 1 to 64" in str(refusal.value)
    assert len(str(refusal.value)) < 400 and "\n" not in str(refusal.value)


def test_no_accepted_name_leaves_its_folder(tmp_path):
    """Promise S3, for every name of up to three of these characters."""
    letters = ["a", "0", ".", "-", "_", "/", "\\", "\0", "%", "~", "\n"]
    names = [a + b + c for a in letters for b in ["", *letters]
             for c in ["", *letters]]
    accepted = [name for name in names if faas.NAME.fullmatch(name)]
    assert 50 < len(accepted) < len(names) / 2
    for name in accepted:
        path = (tmp_path / name).resolve()
        assert path.parent == tmp_path.resolve() and path.name == name


def test_a_reserved_word_is_one_that_a_function_could_have_been_called():
    assert all(faas.NAME.fullmatch(word) for word in faas.RESERVED)


# 2.3 Limits


def test_every_word_that_is_reserved_is_a_name():
    """Else it would protect nothing; and fn is rknizzle's first function."""
    for word in faas.RESERVED:
        assert faas.check_name(word) == word
    assert "fn" not in faas.RESERVED


def test_ids_sort_by_time_and_two_processes_do_not_agree():
    ids = [faas.new_id(now) for now in (0.0, 0.001, 1.0, 1e9, 4e9)]
    assert ids == sorted(ids) and {len(one) for one in ids} == {20}
    assert len({faas.new_id(1.0) for _ in range(1000)}) == 1000
    said = subprocess.run([sys.executable, "-c", "import faas\n"
                           "print(faas.new_id(1.0))"], cwd=ROOT, text=True,
                          capture_output=True, check=True).stdout.strip()
    assert said[:12] == faas.new_id(1.0)[:12] and said != faas.new_id(1.0)


def test_an_id_is_a_name_so_that_it_can_stand_for_one():
    for now in 0.0, 1.5, 4e9:
        assert faas.check_name(faas.new_id(now))


def test_every_limit_is_a_bound():
    for name, value in faas.Limits()._asdict().items():
        assert 0 < value < float("inf"), name


def test_a_spinning_program_meets_its_time_limit_before_that_of_the_cpu():
    assert faas.Limits().cpu >= faas.Limits().timeout


def test_limits_cross_json_unchanged():
    import json
    limits = faas.Limits(timeout=0.25, output=7)
    assert faas.Limits(*json.loads(json.dumps(limits))) == limits


# 2.4 The three nouns


@pytest.mark.parametrize("noun", [
    faas.Call("shout"), faas.Result(), faas.Limits(), faas.Settings(),
    faas.Function("shout", "script", "functions/shout")])
def test_a_noun_cannot_be_changed_on_its_way(noun):
    with pytest.raises(AttributeError):
        setattr(noun, noun._fields[0], "other")


def test_a_call_needs_no_more_than_a_name():
    call = faas.Call("shout")
    assert (call.body, call.method, call.path, call.trigger) == (
        b"", "POST", "/", "http")
    assert (call.raw, call.query, call.more, call.gone()) == (
        "", "", (), False)      # its body is whole, and its caller there


def test_settings_ask_for_nothing_unless_their_owner_does():
    assert not any(faas.Settings())
    fn = faas.Function("shout", "script", "functions/shout")
    assert (fn.settings, fn.id, fn.env) == (faas.Settings(), "", {})


def test_a_result_is_a_success_unless_it_says_otherwise():
    assert (faas.Result().kind, faas.Result().status) == ("ok", 200)


def test_a_function_has_the_limits_of_the_book_unless_it_has_its_own():
    fn = faas.Function("shout", "script", "functions/shout")
    assert fn.limits == faas.Limits() and fn.version == 0
    assert fn._replace(limits=faas.Limits(timeout=1)).limits.timeout == 1
