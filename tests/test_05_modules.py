"""Chapter 5.5: the built-in modules. Results in tables are Go's own.

That nothing takes quadratic time is tested without a clock: what does would
take minutes of CPU time for these sizes, and `in_time` ends it after 20 s.
"""

import base64
import hashlib
import re
import signal
import time

import pytest
from conftest import eventually

from faas import PURE, check_arguments, router_fill


def call(name, *given):
    """Call a built-in function as a worker does."""
    return PURE[name].do(*check_arguments(name, PURE[name].takes, given))


@pytest.fixture(params=["UTC", "Europe/Berlin"])
def zone(request, monkeypatch):
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def in_time():
    """End what takes more than 20 s of CPU time."""
    def enough(*_):
        pytest.fail("it has taken 20 s of CPU time")
    before = signal.signal(signal.SIGVTALRM, enough)
    signal.setitimer(signal.ITIMER_VIRTUAL, 20)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


@pytest.fixture
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


# Arguments

@pytest.mark.parametrize("given, sentence", [
    ([], "bad argument #1 to md5 (string expected, got nil)"),
    ([None], "bad argument #1 to md5 (string expected, got nil)"),
    ([True], "bad argument #1 to md5 (string expected, got boolean)"),
    ([["a"]], "bad argument #1 to md5 (string expected, got table)"),
    ([{}], "bad argument #1 to md5 (string expected, got table)"),
])
def test_a_wrong_argument_is_named_as_lua_names_it(given, sentence):
    with pytest.raises(TypeError, match=re.escape(sentence)):
        call("crypto.md5", *given)


@pytest.mark.parametrize("value", ["7", None, True, float("inf"),
                                   float("nan"), 1e300])
def test_what_is_no_number_is_no_number(value):
    with pytest.raises(TypeError, match=r"bad argument #2 to repeat"):
        call("strings.repeat", "a", value)


@pytest.mark.parametrize("number, text", [
    (3, "3"), (3.0, "3"), (0.5, "0.5"), (-1e15, "-1000000000000000"),
    (1e21, "1e+21"), (1e-7, "1e-07")])
def test_a_number_may_stand_for_a_string(number, text):
    assert call("strings.trim", number) == text


def test_what_may_be_left_out_may_be_left_out_and_more_is_ignored():
    assert call("strings.replace", "aa", "a", "b") == "bb"
    assert call("strings.replace", "aa", "a", "b", None) == "bb"
    assert call("strings.trim", " a ", "more") == "a"


# crypto and base64

@pytest.mark.parametrize("name", ["md5", "sha1", "sha256", "sha512"])
@pytest.mark.parametrize("data", [b"", b"hi", b"\xff\x00", "é".encode()])
def test_digests_are_those_of_the_bytes(name, data):
    text = data.decode("utf-8", "surrogateescape")
    assert call(f"crypto.{name}", text) == hashlib.new(name, data).hexdigest()


@pytest.mark.parametrize("name, result", [   # RFC 2202, 3; RFC 4231, 4.3
    ("hmac_sha1", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
    ("hmac_sha256", "5bdcc146bf60754e6a042426089575c7"
     "5a003f089d2739839dec58b964ec3843"),
    ("hmac_sha512", "164b7a7bfcf819e2e395fbe73b56e0a3"
     "87bd64222e831fd610270cd7ea250554"
     "9758bf75c05a994a6d034f65f8f0e6fd"
     "caeab1a34d4a6b4b636e070a38bce737")])
def test_keyed_digests_take_the_message_first(name, result):
    message = "what do ya want for nothing?"
    assert call(f"crypto.{name}", message, "Jefe") == result


def test_a_uuid_is_of_version_4_and_new():
    uuid = call("crypto.uuid")
    assert re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-"
                        "[89ab][0-9a-f]{3}-[0-9a-f]{12}", uuid)
    assert uuid != call("crypto.uuid")


@pytest.mark.parametrize("text, result", [
    ("", ""), ("YQ==", "a"), ("YQ==\n", "a"), ("Y\nQ\r==", "a"),
    ("YQ=\n=", "a"), ("YWI=", "ab"), ("YWJj", "abc"), ("YR==", "a"),
    ("\n", ""), ("/w==", "\udcff")])
def test_base64_decodes(text, result):
    assert call("base64.decode", text) == result


@pytest.mark.parametrize("text", ["YQ=", "YQ", "YWJjZA", "=", "====", "a",
                                  "YQ==YQ==", "Y Q==", "YQ==x", "-_==",
                                  "YWJjYQ===", "é"])
def test_bad_base64_is_refused(text):
    with pytest.raises(ValueError, match="illegal base64 data"):
        call("base64.decode", text)


def test_base64_carries_all_bytes():
    data = bytes(range(256)).decode("utf-8", "surrogateescape")
    assert call("base64.decode", call("base64.encode", data)) == data


# time

@pytest.mark.parametrize("layout, result", [
    ("Mon Jan _2 15:04:05 MST 2006", "Fri Jul  5 14:08:09 CEST 2024"),
    ("Mon, 02 Jan 2006 15:04:05 -0700", "Fri, 05 Jul 2024 14:08:09 +0200"),
    ("2006-01-02T15:04:05Z07:00", "2024-07-05T14:08:09+02:00"),
    ("2006-01-02T15:04:05.999999999Z07:00", "2024-07-05T14:08:09+02:00"),
    ("3:04PM", "2:08PM"), ("03pm", "02pm"), ("1/2/06 3:4:5", "7/5/24 2:8:9"),
    ("Monday, January 2", "Friday, July 5"), ("Janus Month", "Janus Month"),
    ("002 __2", "187 187"), ("_2006", "_2024"), ("__2006", "187024"),
    ("05.000 05,00 05.999", "09.000 09,00 09"), (".0001", ".0007"),
    ("Z07 Z0700 Z070000 Z07:00:00", "+02 +0200 +020000 +02:00:00"),
    ("-07 -0700 -07:00 -070000", "+02 +0200 +02:00 +020000"),
    ("%Y %d é", "%Y %d é"), ("", ""), ("20060102150405", "20240705140809")])
def test_format_writes_as_go_does(berlin, layout, result):
    assert call("time.format", 1720181289, layout) == result


@pytest.mark.parametrize("seconds, result", [
    (0, "1970-01-01 01:00:00 CET"), (-1, "1970-01-01 00:59:59 CET"),
    (1711846799, "2024-03-31 01:59:59 CET"),
    (1711846800, "2024-03-31 03:00:00 CEST"),
    (951782400.9, "2000-02-29 01:00:00 CET"),
    (253402300800, "10000-01-01 01:00:00 CET"),
    (-62135596800, "0001-01-01 00:53:28 LMT")])
def test_format_knows_the_local_zone_at_that_time(berlin, seconds, result):
    layout = "2006-01-02 15:04:05 MST"
    assert call("time.format", seconds, layout) == result


PARSED = [
    ("2024-07-05", "2006-01-02", 1720137600),
    ("2024-07-05T12:08:09Z", "2006-01-02T15:04:05Z07:00", 1720181289),
    ("2024-07-05T14:08:09+02:00", "2006-01-02T15:04:05Z07:00", 1720181289),
    ("2024-07-05T12:08:09.123456789123Z", "2006-01-02T15:04:05Z07:00",
     1720181289),
    ("Fri, 05 Jul 2024 07:08:09 -0500", "Mon, 02 Jan 2006 15:04:05 -0700",
     1720181289),
    ("JULY 5 2024", "January 2 2006", 1720137600),
    ("2024-02-29", "2006-01-02", 1709164800),
    ("2024 060", "2006 002", 1709164800), ("2024  60", "2006 __2", 1709164800),
    ("69", "06", -31536000), ("68", "06", 3092601600),
    ("0000", "2006", -62167219200), ("3:04PM", "3:04PM", -62167164960),
    ("12:30AM", "3:04PM", -62167217400), ("12:30PM", "3:04PM", -62167174200),
    ("12:00:59,5", "15:04:05", -62167175941),
    ("10:00 GMT+3", "15:04 MST", -62167183200),
    ("10:00 XYZ", "15:04 MST", -62167183200),
    ("10:00 +0200 UTC", "15:04 -0700 MST", -62167183200),
    ("10:00 +24:60", "15:04 -07:00", -62167273200),
    ("a   b", "a b", -62167219200), ("a", "a ", -62167219200),
    (" 5", "_2", -62166873600), ("15", "_2", -62166009600),
]


@pytest.mark.parametrize("text, layout, seconds", PARSED)
def test_parse_reads_as_go_does_in_every_zone(zone, text, layout, seconds):
    assert call("time.parse", text, layout) == seconds


def test_parse_knows_the_names_of_the_local_zone(berlin):
    layout = "2006-01-02 15:04 MST"
    assert call("time.parse", "2024-07-05 14:00 CEST", layout) == 1720180800
    assert call("time.parse", "2024-01-05 13:00 CET", layout) == 1704456000


@pytest.mark.parametrize("text, layout", [
    ("2024-13-01", "2006-01-02"), ("2024-00-01", "2006-01-02"),
    ("2024-02-30", "2006-01-02"), ("2023-02-29", "2006-01-02"),
    ("31 Feb 2024", "2 Jan 2006"), ("24:00", "15:04"), ("23:60", "15:04"),
    ("12:00:60", "15:04:05"), ("13:00PM", "03:04PM"), ("1:00pm", "3:04PM"),
    ("2023 366", "2006 002"), ("2024 000", "2006 002"), ("ab", "a b"),
    ("12:00:59.", "15:04:05"), ("10:00 GMT+24", "15:04 MST"),
    ("10:00 ABCDE", "15:04 MST"), ("10:00 utc", "15:04 MST"),
    ("10:00 +25:00", "15:04 -07:00"), ("10:00 Z", "15:04 -07:00"),
    ("  5", "_2"), ("٣", "2"), ("ſat", "Mon"), ("Tues 3", "Mon 2"),
    ("2024-07-05x", "2006-01-02"), ("", "2006"), ("5", "02"), ("a ", "a")])
def test_parse_refuses_what_does_not_fit(text, layout):
    with pytest.raises(ValueError, match='parsing time "'):
        call("time.parse", text, layout)


def test_what_was_formatted_is_parsed_again(zone):
    layout = "Mon, 02 Jan 2006 15:04:05 -0700"
    for seconds in range(-2 ** 31, 2 ** 32, 123456789):
        text = call("time.format", seconds, layout)
        assert call("time.parse", text, layout) == seconds


def test_a_moment_too_far_away_is_refused():
    with pytest.raises(ValueError, match="too far away"):
        call("time.format", 1e18, "2006")


def test_now_is_a_whole_number():
    assert abs(call("time.now") - time.time()) < 5
    assert type(call("time.now")) is int


# url

def parts(scheme="", host="", path="", fragment="", query={}, **user):
    return {"scheme": scheme, "host": host, "path": path,
            "fragment": fragment, "query": query, **user}


@pytest.mark.parametrize("text, result", [
    ("https://u:p@ex.com:8080/a/b?x=1&x=2&y=3#frag",
     parts("https", "ex.com:8080", "/a/b", "frag",
           {"x": ["1", "2"], "y": "3"}, username="u", password="p")),
    ("mailto:me@example.org", parts("mailto")), ("", parts()),
    ("HTTP://A/", parts("http", "A", "/")), ("*", parts(path="*")),
    ("/path?q", parts(path="/path", query={"q": ""})),
    ("//host/path", parts(host="host", path="/path")),
    ("///path", parts(path="///path")), ("//", parts()),
    ("http:///x", parts("http", "", "/x")), ("b", parts(path="b")),
    ("http://[::1]:80/", parts("http", "[::1]:80", "/")),
    ("http://[fe80::1%25en0]/", parts("http", "[fe80::1%en0]", "/")),
    ("mongodb://a:1,b:2/db", parts("mongodb", "a:1,b:2", "/db")),
    ("http://a:/", parts("http", "a:", "/")),
    ("http://a/b c", parts("http", "a", "/b c")),
    ("http://a%C3%A9/%41%2f+", parts("http", "aé", "/A/+")),
    ("http://:p@h", parts("http", "h", password="p")),
    ("http://u%40:p%3A@h", parts("http", "h", username="u@", password="p:")),
    ("http://u:p:q@h", parts("http", "h", username="u", password="p:q")),
    ("http://a@b@c/", parts("http", "c", "/", username="a@b")),
    ("http://a/?a=%zz&b=1", parts("http", "a", "/", query={"b": "1"})),
    ("http://a/?a=1;b=2&c=3", parts("http", "a", "/", query={"c": "3"})),
    ("http://a/?a&b=&=c&&d=+%20", parts("http", "a", "/", query={
        "a": "", "b": "", "": "c", "d": "  "})),
    ("http://a/?%41=1&A=2", parts("http", "a", "/",
                                  query={"A": ["1", "2"]})),
    ("http://a#c?d", parts("http", "a", fragment="c?d")),
    ("file:///etc/x", parts("file", path="/etc/x")),
    ("/a//b", parts(path="/a//b")), ("./a:b", parts(path="./a:b"))])
def test_a_url_is_taken_apart(text, result):
    assert call("url.parse", text) == result


@pytest.mark.parametrize("text", [
    "a b:c", ":b", "1a:b", "http://[::1", "http://[g]/",
    "http://[1.2.3.4]/", "http://[::1]x/", "http://a:b/", "http://a b/",
    "postgres://h:1,h2:x/", "http://a%20b/", "http://u{@h", "http://a/%zz",
    "http://a/%4", "http://a/#%zz", "http://a/\x01", "http://a\\b/",
    "http://a[b/", "http://%41/", "//a:b"])
def test_what_is_no_url_is_refused(text):
    with pytest.raises(ValueError):
        call("url.parse", text)


@pytest.mark.parametrize("text, encoded", [
    ("", ""), ("a b&c=d", "a+b%26c%3Dd"), ("+%", "%2B%25"),
    ("é/ü?~*'()!-._", "%C3%A9%2F%C3%BC%3F~%2A%27%28%29%21-._"),
    ("\udcff", "%FF")])
def test_text_becomes_part_of_a_query_and_comes_back(text, encoded):
    assert call("url.encode", text) == encoded
    assert call("url.decode", encoded) == text


@pytest.mark.parametrize("text, bad", [("%", "%"), ("%4", "%4"),
                                       ("a%4gh", "%4g"), ("%%41", "%%4")])
def test_a_bad_escape_is_named(text, bad):
    with pytest.raises(ValueError, match=f'invalid URL escape "{bad}"'):
        call("url.decode", text)


# strings

@pytest.mark.parametrize("name, given, result", [
    ("trim", ["\t\n a\xa0\u3000"], "a"), ("trimLeft", [" \t\r\na "], "a "),
    ("trimRight", [" a \r\n"], " a"), ("trimLeft", ["\xa0a"], "\xa0a"),
    ("split", ["a,b,c", ","], ["a", "b", "c"]), ("split", ["", ","], [""]),
    ("split", ["", ""], []), ("split", ["é日x", ""], ["é", "日", "x"]),
    ("split", ["aaa", "aa"], ["", "a"]), ("join", [["a", 1.0, 2], "-"],
                                          "a-1-2"),
    ("join", [[], "-"], ""), ("join", [{}, "-"], ""),
    ("hasPrefix", ["abc", "ab"], True), ("hasSuffix", ["abc", "ab"], False),
    ("contains", ["abc", "b"], True), ("contains", ["abc", ""], True),
    ("replace", ["aaa", "a", "b", 2], "bba"),
    ("replace", ["aaa", "a", "b", 0], "aaa"),
    ("replace", ["abc", "", "-", 2], "-a-bc"), ("replace", ["", "", "-"],
                                                "-"),
    ("replace", ["aaaa", "aa", "b", -1], "bb"),
    ("toUpper", ["straße é"], "STRAßE É"), ("toLower", ["ΑΣ"], "ασ"),
    ("repeat", ["ab", 3], "ababab"), ("repeat", ["ab", 0], "")])
def test_strings_are_those_of_go(name, given, result):
    assert call(f"strings.{name}", *given) == result


BIG = 6 << 20


@pytest.mark.parametrize("name, given", [
    ("strings.repeat", ["ab", BIG]), ("strings.repeat", ["a", 2 ** 62]),
    ("strings.repeat", ["a", -1]), ("strings.split", ["a" * BIG, ""]),
    ("strings.replace", ["a" * BIG, "", "a" * BIG]),
    ("strings.join", [["a"] * 1000, "a" * BIG]),
    ("base64.encode", ["a" * BIG]), ("url.encode", ["é" * BIG]),
    ("url.parse", ["/?" + "a&" * 20_000]), ("url.parse", ["http://[" * 500]),
    ("time.format", [0, "January" * 1000]),
    ("time.parse", ["1" * BIG, "1" * 1000]),
    ("time.parse", ["1" * BIG, "1" * 1001]),
    ("router.match", ["/", "/a" * 1000])])
def test_nothing_grows_without_bound(in_time, name, given):
    with pytest.raises(ValueError):
        call(name, *given)


@pytest.mark.parametrize("text", [
    "http://" + "1:" * (BIG // 2) + "x", "http://[" + ":" * BIG,
    "http://" + "@" * BIG + "{", "http://" + "%25" * (BIG // 3) + "{"])
def test_no_pattern_tries_a_text_twice(in_time, text):
    with pytest.raises(ValueError):
        call("url.parse", text)


# router

@pytest.mark.parametrize("path, pattern, result", [
    ("/users/7", "/users/:id", {"id": "7"}), ("/users/7/", "/users/:id/",
                                              {"id": "7"}),
    ("/users", "/users/:id", None), ("/users/7/x", "/users/:id", None),
    ("/", "/", {}), ("", "/", {}), ("/a", "/", None), ("/a", "/a", {}),
    ("/a", "/A", None), ("/files/a/b", "/files/*", {}),
    ("/files", "/files/*", None), ("/files/", "/files/*", None),
    ("/u/7/a", "/u/:id/*", {"id": "7"}), ("/", "/*", None),
    ("/a%20b", "/:x", {"x": "a%20b"}), ("/x/b", "/*/b", None),
    ("/*/b", "/*/b", {})])
def test_a_path_fits_its_pattern(path, pattern, result):
    assert call("router.match", path, pattern) is (result is not None)
    assert call("router.params", path, pattern) == (result or {})


@pytest.mark.parametrize("pattern, params, result", [
    ("/a/:id/:idx", {"id": 7, "idx": "x"}, "/a/7/x"),
    ("/a/:id", {}, "/a/:id"), ("/a/:id", None, "/a/:id"),
    ("/a/:id:id", {"id": ":x", "x": "y"}, "/a/:x:x"),
    ("/a/:id", {"other": 1}, "/a/:id"), ("/:a.b", {"a.b": 2.0}, "/2")])
def test_a_pattern_is_filled(pattern, params, result):
    assert router_fill(pattern, params) == result


def test_a_pattern_is_not_filled_without_bound():
    with pytest.raises(ValueError):
        router_fill(":a" * 500, {"a": "a" * BIG})
    with pytest.raises(ValueError):
        router_fill("/", {str(name): "" for name in range(101)})


# random

def test_random_numbers_lie_in_their_range():
    assert {call("random.int", 1, 3) for _ in range(200)} == {1, 2, 3}
    assert all(0 <= call("random.float") < 1 for _ in range(200))
    with pytest.raises(ValueError):
        call("random.int", 2, 1)


@pytest.mark.parametrize("size", [1, 2, 61, 1000, 1 << 20])
def test_random_texts_have_the_length_that_was_asked_for(size):
    text = call("random.string", size)
    assert len(text) == size and text.isascii() and text.isalnum()
    assert len(bytes.fromhex(call("random.hex", size))) == size
    assert len(base64.b64decode(call("random.bytes", size))) == size


@pytest.mark.parametrize("name", ["string", "hex", "bytes"])
@pytest.mark.parametrize("size", [0, -1, (1 << 20) + 1])
def test_a_random_length_out_of_bounds_is_refused(name, size):
    with pytest.raises(ValueError, match="length must be"):
        call(f"random.{name}", size)


def test_ids_sort_by_time():
    first = call("random.id")
    assert len(first) == 20
    eventually(lambda: first < call("random.id"))


def test_random_letters_are_equally_likely():
    text = call("random.string", 62_000)
    counts = [text.count(letter) for letter in set(text)]
    assert len(counts) == 62 and 800 < min(counts) and max(counts) < 1200


# The table

def test_each_row_says_what_it_takes():
    for name, (takes, do) in PURE.items():
        assert re.fullmatch("[a-z0-9]+[.][A-Za-z0-9_]+", name) and callable(do)
        for parameter in takes.split():
            assert re.fullmatch(r"\w+:(string|int|number|table)\??",
                                parameter), name
