"""docs/wire-formats.md says what the book says: each block, each ruler.

A block of bytes is a fence with the words `hex` and its name. What stands
behind a semicolon is for people.
"""

import pathlib
import re

import pytest

import faas

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "wire-formats.md").read_text("utf-8")
FENCES = re.findall(r"^```(.*)\n((?:.*\n)*?)```$", PAGE, re.M)
BLOCKS = {kind.split()[1]: text for kind, text in FENCES
          if kind.startswith("hex ")}
RULERS = [text for kind, text in FENCES if not kind]

PATH = "/openfogstack.tinyfaas.tinyfaas.TinyFaaS/Request"
DATA = {"functionIdentifier": "echo", "data": "hi"}
ASK = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"),
       (":authority", "a")]
ASK_GRPC = [*ASK[:2], (":path", PATH), ASK[3],
            ("content-type", "application/grpc"), ("te", "trailers")]
HI = faas.text_response("hi")
C_4_1 = [(":method", "GET"), (":scheme", "http"), (":path", "/"),
         (":authority", "www.example.com")]


def octets(text):
    return bytes.fromhex("".join(line.partition(";")[0]
                                 for line in text.splitlines()))


def of_options(*options):
    """Write options as they stand behind a head without a token."""
    return faas.coap_encode(faas.CoapMessage(0, 1, 0, b"", options))[4:]


def frame(kind, flags=0, stream=0, payload=""):
    return faas.h2_frame(kind, flags, stream, bytes.fromhex(payload))


def message(spec, values):
    return faas.grpc_frame(faas.proto_encode(spec, values))


def h2_said(*answers):
    """Give what a connection sends on stream 1 for these H2Answers."""
    core = faas.H2Connection(now=0.0)
    core.receive(faas.H2_PREFACE + frame(faas.H2_SETTINGS)
                 + faas.h2_ask(1, ASK_GRPC), now=0.0)
    core.take()
    for answer in answers:
        ends = not answer.trailers
        core.headers(1, answer.fields, ends and not answer.body)
        if answer.body:
            core.data(1, answer.body, ends)
        if answer.trailers:
            core.trailers(1, answer.trailers)
    return core.take()


def remembered():
    """Give a decoder that has read the four fields of the first call."""
    decoder = faas.HpackDecoder()
    for field in ASK_GRPC[2:]:
        decoder.remember(field)
    return decoder


def coap_echo(kind, code, options):
    return faas.coap_encode(faas.CoapMessage(
        kind, faas.coap_code(code), 0x7d34, b"Jq", options, b"hi"))


# What the book writes must be what stands on the page.
WRITTEN = {
    "worker-frame": lambda: faas.frame_encode(
        faas.Frame(7, b"C", {}, b"hi")),
    "http-chunks": lambda: faas.chunk_encode(b"hi") + faas.chunk_encode(b""),
    "coap-ping": lambda: faas.coap_encode(
        faas.CoapMessage(faas.COAP_CON, 0, 0x7d34)),
    "coap-question": lambda: faas.coap_encode(faas.CoapMessage(
        faas.COAP_CON, faas.coap_code("0.01"), 0x7d34, b"",
        ((11, b"temperature"),))),
    "coap-answer": lambda: faas.coap_encode(faas.CoapMessage(
        faas.COAP_ACK, faas.coap_code("2.05"), 0x7d34, b"", (), b"22.3 C")),
    "coap-options": lambda: of_options(
        (11, b"echo"), (15, b"colour=aquamarin"),
        (23, faas.CoapBlock(0, False, 6).encode()), (292, b"a")),
    "coap-block": lambda: faas.CoapBlock(15, True, 2).encode(),
    "coap-block-65": lambda: faas.CoapBlock(65, False, 6).encode(),
    "coap-register": lambda: of_options((6, faas.coap_uint(0))),
    "coap-notification": lambda: of_options((6, faas.coap_uint(12345))),
    "varint-300": lambda: faas.varint_encode(300),
    "proto-data": lambda: faas.proto_encode(faas.TINYFAAS_DATA, DATA),
    "proto-response": lambda: faas.proto_encode(
        faas.TINYFAAS_RESPONSE, {"response": "hi"}),
    "grpc-message": lambda: message(faas.TINYFAAS_DATA, DATA),
    "grpc-text": lambda: faas.grpc_message("no \N{SNOWMAN}").encode(),
    "hpack-10": lambda: faas.hpack_number(10, 5),
    "hpack-1337": lambda: faas.hpack_number(1337, 5),
    "hpack-42": lambda: faas.hpack_number(42, 8),
    "hpack-literal": lambda: faas.hpack_encode([(":path", "/sample/path")]),
    "hpack-indexed": lambda: faas.hpack_encode([(":method", "GET")]),
    "hpack-size-0": lambda: faas.hpack_number(0, 5, 0x20),
    "hpack-size-4096": lambda: faas.hpack_number(4096, 5, 0x20),
    "hpack-huffman": lambda: faas.hpack_number(12, 7, 0x80)
    + faas.hpack_huffman(b"www.example.com"),
    "h2-preface": lambda: faas.H2_PREFACE,
    "h2-headers": lambda: frame(faas.H2_HEADERS, 5, 1, "828684"
                                "41 8cf1e3c2e5f23a6ba0ab90f4ff"),
    "h2-padded": lambda: frame(faas.H2_DATA, 9, 1, "02 6869 0000"),
    "h2-hello": lambda: faas.H2Connection(now=0.0).take(),
    "h2-settings-ack": lambda: frame(faas.H2_SETTINGS, faas.H2_ACK),
    "h2-window-update": lambda: faas.h2_window(1, 32768),
    "h2-ping": lambda: faas.h2_frame(faas.H2_PING, payload=b"faas.py!"),
    "h2-rst-stream": lambda: frame(faas.H2_RST_STREAM, 0, 1, "00000008"),
    "h2-goaway": lambda: faas.h2_goaway(5, 0),
    "grpc-trailers": lambda: faas.hpack_encode(faas.grpc_trailers("OK")),
    "grpc-refusal": lambda: h2_said(
        faas.grpc_refusal("NOT_FOUND", "function x not found")),
    "echo-http-answer": lambda: faas.response_encode(HI),
    "echo-h2-request": lambda: faas.h2_ask(1, ASK, b"hi"),
    "echo-h2-answer": lambda: h2_said(faas.h2_answer(HI)),
    "echo-grpc-request": lambda: faas.h2_ask(
        1, ASK_GRPC, message(faas.TINYFAAS_DATA, DATA)),
    "echo-grpc-answer": lambda: h2_said(faas.H2Answer(
        faas.GRPC_HEAD, message(faas.TINYFAAS_RESPONSE, {"response": "hi"}),
        faas.grpc_trailers("OK"))),
    "echo-coap-request": lambda: coap_echo(0, "0.02", ((11, b"echo"),)),
    "echo-coap-answer": lambda: coap_echo(2, "2.04", faas.coap_answer(
        faas.Result(body=b"hi", headers=HI.headers), "POST").options)}

# What the book reads on the page, which only others write.
READ = {
    "echo-http-request": lambda data: [
        (asked.method, asked.path, asked.body) for asked in
        faas.RequestReader(lambda request: 9, 0.0).receive(data, 0.0)] == [
            ("POST", "/echo", b"hi")],
    "grpc-timeout": lambda data: faas.grpc_timeout(data.decode()) == 0.25,
    "grpc-binary": lambda data: faas.grpc_binary(data.decode()) == b"\xff",
    "hpack-literal-kept": lambda data: faas.HpackDecoder().decode(data) == [
        ("custom-key", "custom-header")],
    "hpack-literal-never": lambda data: faas.HpackDecoder().decode(data) == [
        ("password", "secret")],
    "hpack-request": lambda data: faas.HpackDecoder().decode(data) == C_4_1,
    "hpack-again": lambda data: [
        decoder.decode(block) for decoder in [faas.HpackDecoder()]
        for block in (octets(BLOCKS["hpack-request"]), data)] == [C_4_1] * 2,
    "echo-grpc-again": lambda data: [
        remembered().decode(payload) if name == "HEADERS" else payload
        for name, _, _, payload in faas.h2_frames(data)] == [
            ASK_GRPC, message(faas.TINYFAAS_DATA, DATA)]}


def test_each_block_of_the_page_is_named_once_and_tested():
    named = re.findall(r"^```hex (\S+)$", PAGE, re.M)
    assert sorted(named) == sorted({**WRITTEN, **READ})


@pytest.mark.parametrize("name", WRITTEN)
def test_the_book_writes_what_stands_on_the_page(name):
    assert octets(BLOCKS[name]).hex(" ") == WRITTEN[name]().hex(" ")


@pytest.mark.parametrize("name", READ)
def test_the_book_reads_what_stands_on_the_page(name):
    assert READ[name](octets(BLOCKS[name]))


def test_the_rulers_are_those_of_the_book():
    book = re.sub(r"^ *# ?", "", (ROOT / "faas.py").read_text("utf-8"),
                  flags=re.M)
    book = " ".join(book.split())
    assert len(RULERS) > 10
    assert [ruler for ruler in RULERS
            if " ".join(ruler.split()) not in book] == []


def rows_below(header):
    """Give the cells of the table below a header."""
    lines = PAGE[PAGE.index(header):].splitlines()[2:]
    return [[cell.strip() for cell in line.split("|")[1:-1]]
            for line in lines[:[*lines, ""].index("")]]


def test_the_same_call_has_as_many_bytes_as_the_table_says():
    rows = rows_below("| wire | request | answer | both |")
    wires = {"HTTP/1.1": "http", "HTTP/2": "h2", "gRPC": "grpc",
             "CoAP": "coap"}
    sizes = {wire: [len(octets(BLOCKS[f"echo-{short}-{side}"]))
                    for side in ("request", "answer")]
             for wire, short in wires.items()}
    assert rows == [[wire, str(question), str(answer), str(question + answer)]
                    for wire, (question, answer) in sizes.items()]


def test_the_table_of_coap_options_is_that_of_the_code():
    rows = rows_below("| number | name | format | least | most |")
    assert rows == [
        [str(number), option.name, option.format, str(option.least),
         str(option.most), "yes" if option.repeatable else "no"]
        for number, option in faas.COAP_OPTIONS.items()]


def test_the_table_of_frames_is_that_of_the_code():
    rows = rows_below("| type | name | flags | stream | payload |")
    streams = {(True,): "yes", (False,): "0", (False, True): "0 or yes"}
    assert [row[:4] for row in rows] == [
        [str(number), kind.name,
         ", ".join(f"{bit} {name}" for bit, name in kind.flags.items()),
         streams[kind.streams]]
        for number, kind in enumerate(faas.H2_KINDS)]
