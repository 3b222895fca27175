"""Chapter 15.1 and 15.2: varints, protobuf, five bytes, and gRPC's text."""

import gzip
import json
import pathlib
import random
import subprocess
import tracemalloc
import zlib

import pytest

import faas
from faas import GrpcError, GrpcMessages, ProtoError, ProtoField

VECTORS = pathlib.Path(__file__).resolve().parents[2] / "shared" / "vectors"
MB = 1 << 20


@pytest.fixture(scope="module")
def misc():
    path = VECTORS / "grpc-misc.json"
    if not path.exists():
        pytest.skip("the vectors are missing: put grpc-misc.json into "
                    "../shared/vectors")
    return json.loads(path.read_text("utf-8"))


def octets(text):
    return bytes.fromhex(text)


def data(wire):
    """Read a Data; gives both its strings."""
    return tuple(faas.proto_decode(faas.TINYFAAS_DATA, wire).values())


# The first page of the chapter -----------------------------------------------


def test_the_call_on_the_first_page_has_the_sizes_that_it_shows():
    head = faas.hpack_encode([
        (":method", "POST"), (":scheme", "http"),
        (":path", "/openfogstack.tinyfaas.tinyfaas.TinyFaaS/Request"),
        ("te", "trailers"), ("content-type", "application/grpc")])
    body = faas.grpc_frame(faas.proto_encode(faas.TINYFAAS_DATA, {
        "functionIdentifier": "echo", "data": "hi"}))
    assert (len(head), head[:4].hex(" ")) == (84, "83 86 04 30")
    assert body.hex(" ") == ("00 00 00 00 0a 0a 04 65 63 68 6f 12 02 68 69")
    assert 9 + len(head) + 9 + len(body) == 117


def test_there_are_17_statuses_and_each_kind_of_failure_has_one():
    assert len(faas.GRPC_STATUS) == 17
    assert [faas.GRPC_STATUS[name] for name in (
        "OK", "DEADLINE_EXCEEDED", "NOT_FOUND", "RESOURCE_EXHAUSTED",
        "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "UNAUTHENTICATED")] == [
            0, 4, 5, 8, 12, 13, 14, 16]
    assert {kind.grpc for kind in faas.KINDS.values()} < {*faas.GRPC_STATUS}


# Varints ---------------------------------------------------------------------


@pytest.mark.parametrize("number, wire", [
    (0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"),
    (16383, "ff7f"), (16384, "808001"), (2 ** 32 - 1, "ffffffff0f"),
    (2 ** 63, "80808080808080808001"),
    (2 ** 64 - 1, "ffffffffffffffffff01")])
def test_a_varint_is_written_and_read(number, wire):
    assert faas.varint_encode(number) == octets(wire)
    assert faas.varint_decode(octets(wire)) == (number, len(octets(wire)))
    assert faas.varint_decode(b"\xff" + octets(wire) + b"\xff", 1) == (
        number, 1 + len(octets(wire)))


@pytest.mark.parametrize("size", range(1, 11))
def test_a_varint_may_be_longer_than_it_need_be(size):
    wire = b"\x84" + b"\x80" * (size - 2) + b"\0" if size > 1 else b"\x04"
    assert faas.varint_decode(wire) == (4, size)


def test_a_varint_of_eleven_bytes_is_none():
    with pytest.raises(ProtoError, match="more than 10 bytes"):
        faas.varint_decode(b"\x80" * 10 + b"\0")


@pytest.mark.parametrize("size", range(10))
def test_a_varint_that_is_cut_is_none(size):
    with pytest.raises(ProtoError, match="cut"):
        faas.varint_decode(b"\x80" * size)


def test_what_exceeds_64_bits_is_dropped_as_google_does():
    assert faas.varint_decode(octets("ffffffffffffffffff7f"))[0] == (
        2 ** 64 - 1)


# Fields ----------------------------------------------------------------------


def test_fields_of_every_wire_type_are_told_apart():
    wire = octets("08ac02 11 0102030405060708 1a03616263 25 01020304"
                  "2b 0801 2b 2c 2c 3001")
    assert faas.proto_fields(wire) == [
        (1, 0, 300), (2, 1, bytes(range(1, 9))), (3, 2, b"abc"),
        (4, 5, bytes(range(1, 5))),
        (5, 3, [(1, 0, 1), (5, 3, [])]), (6, 0, 1)]


@pytest.mark.parametrize("wire, want", [
    ("", ("", "")),
    ("0a046563686f", ("echo", "")),
    ("12026f6b0a046563686f", ("echo", "ok")),           # another order
    ("0a01610a046563686f12017812026f6b", ("echo", "ok")),  # the last wins
    ("0a01610a00", ("", "")),
    ("0a05c3a9e29883", ("é☃", "")),
    ("1a0161 1205ff", None),
    # Unknown fields, one of each wire type, before and after.
    ("40ac02 0a0161 4801", ("a", "")),
    ("49 3132333435363738 0a0161", ("a", "")),
    ("55 31323334 0a0161", ("a", "")),
    ("5a03616263 0a0161", ("a", "")),
    ("63 0a0162 63 0a0163 64 64 0a0161", ("a", "")),    # not those in groups
    ("f8ffffff0f01 0a0161", ("a", "")),                 # number 2^29 - 1
    # A known number with another wire type is unknown too.
    ("0805 12026f6b", ("", "ok")),
    ("09 3132333435363738 0d 31323334 0b 0c 0a0161", ("a", "")),
    # Longer than need be.
    ("0a84800065636f6f", ("ecoo", "")),
    ("8a8000 0161", ("a", "")),
    ("0a81808080808080808000 61", ("a", ""))])
def test_a_message_is_read_whoever_wrote_it(wire, want):
    if want is None:
        with pytest.raises(ProtoError):
            data(octets(wire))
    else:
        assert data(octets(wire)) == want


@pytest.mark.parametrize("wire, why", [
    ("0a", "cut"), ("0aff", "cut"), ("80", "cut"),
    ("0a056162", "5 bytes ends after"),
    ("0affffffffffffffffff01 61", "ends after"),
    ("ffffffffffffffffffffff", "more than 10"),
    ("0001", "number 0"), ("0200", "number 0"),
    ("8080808010 00", "number 536870912"),
    ("0b", "group 1 does not end"), ("0b13 14", "group 1 does not end"),
    ("0c", "wire type 4"), ("0b14", "wire type 4"),
    ("0b 13 0c 14", "wire type 4"),                     # crossed
    ("0e", "wire type 6"), ("0f", "wire type 7"),
    ("0a02fffe", "functionIdentifier contains invalid UTF-8"),
    ("1203eda080", "data contains invalid UTF-8"),      # a surrogate
    ("0901", "8 bytes ends after"), ("0d01", "4 bytes ends after"),
    ("0b 0901 0c", "ends after")])
def test_bytes_that_are_no_message_are_refused(wire, why):
    with pytest.raises(ProtoError, match=why) as refusal:
        data(octets(wire))
    assert refusal.value.status == "INTERNAL"


def test_groups_are_nested_a_hundred_deep_and_no_deeper():
    assert data(b"\x63" * 100 + b"\x64" * 100) == ("", "")
    with pytest.raises(ProtoError):
        data(b"\x63" * 101 + b"\x64" * 101)
    with pytest.raises(ProtoError):
        data(b"\x63" * (4 * MB))


def test_a_message_of_millions_of_fields_is_refused_in_time():
    assert data(b"\x40\x01" * 10_000) == ("", "")
    with pytest.raises(ProtoError, match="more than 10000 fields"):
        data(b"\x40\x01" * 10_001)
    with pytest.raises(ProtoError, match="more than 10000 fields"):
        data((b"\x63" + b"\x40\x01" * 5000 + b"\x64") * 2)
    with pytest.raises(ProtoError, match="more than 10000 fields"):
        data(b"\x40\x01" * (2 * MB))
    with pytest.raises(ProtoError, match="more than 10000 fields"):
        data(b"\x63\x64" * (2 * MB))


# Messages --------------------------------------------------------------------


@pytest.mark.parametrize("values, wire", [
    ({}, ""), ({"functionIdentifier": "", "data": ""}, ""),
    ({"data": "hi", "functionIdentifier": "echo"}, "0a046563686f12026869"),
    ({"data": b"hi"}, "12026869"), ({"data": b""}, ""),
    ({"data": "𝄞\0"}, "1205f09d849e00"),
    ({"data": "\ud800"}, "12013f"),
    ({"data": "x" * 300}, "12ac02" + "78" * 300)])
def test_a_message_is_written(values, wire):
    assert faas.proto_encode(faas.TINYFAAS_DATA, values) == octets(wire)


def test_bytes_that_are_no_text_fit_in_no_string():
    with pytest.raises(ProtoError, match="response contains invalid UTF-8"):
        faas.proto_encode(faas.TINYFAAS_RESPONSE, {"response": b"\xff"})


def test_numbers_have_a_sign():
    spec = {1: ProtoField("code", "int32"), 2: ProtoField("on", "bool")}
    for number in (0, 1, -1, 2 ** 31 - 1, -2 ** 31):
        wire = faas.proto_encode(spec, {"code": number, "on": True})
        assert faas.proto_decode(spec, wire) == {"code": number, "on": True}
    assert faas.proto_encode(spec, {"code": -1}) == (
        b"\x08" + b"\xff" * 9 + b"\x01")
    assert faas.proto_encode(spec, {"code": 0, "on": False}) == b""


def test_lists_and_messages_in_messages_come_back():
    values = {"valid_host": "", "original_request": {
        "host": "h", "list_services": ""}, "list_services_response": {
            "service": [{"name": "a"}, {"name": ""}]}}
    wire = faas.proto_encode(faas.REFLECTION_RESPONSE, values)
    assert wire == octets("1205 0a0168 3a00 3207 0a03 0a0161 0a00")
    assert faas.proto_decode(faas.REFLECTION_RESPONSE, wire) == values


def test_a_list_keeps_what_would_not_be_sent_alone():
    spec = {1: ProtoField("texts", many=True),
            2: ProtoField("numbers", "int32", many=True)}
    values = {"texts": ["", "a"], "numbers": [0, 7]}
    wire = octets("0a00 0a0161 1000 1007")
    assert faas.proto_encode(spec, values) == wire
    assert faas.proto_decode(spec, wire) == values
    assert faas.proto_decode(spec, b"") == {"texts": [], "numbers": []}


def test_of_a_oneof_the_last_that_came_is_there_even_if_it_is_empty():
    def read(wire):
        return faas.proto_decode(faas.REFLECTION_REQUEST, octets(wire))
    assert read("") == {"host": ""}
    assert read("3a00") == {"host": "", "list_services": ""}
    assert read("1a0161 3a00") == {"host": "", "list_services": ""}
    assert read("3a00 1a0161 0a0162") == {"host": "b",
                                          "file_by_filename": "a"}
    assert read("3a00 2a05 0a01611007") == {
        "host": "", "file_containing_extension": {
            "containing_type": "a", "extension_number": 7}}


def test_health_says_what_its_numbers_are():
    assert faas.proto_encode(faas.HEALTH_RESPONSE, {"status": 1}).hex() == (
        "0801")
    assert faas.proto_decode(faas.HEALTH_REQUEST, octets("0a0161")) == {
        "service": "a"}


def test_every_case_of_the_vectors(misc):
    for case in misc["encode"]:
        spec = faas.proto_specs(faas.PROTO_PARSED["tinyfaas.proto"])[
            case["message"]]
        values = {name: text if isinstance(text, str) else
                  text["repeat"] * text["times"]
                  for name, text in case.items()
                  if name not in ("message", "wire")}
        wire, want = faas.proto_encode(spec, values), case["wire"]
        if isinstance(want, dict):
            assert len(wire) == want["length"]
            assert wire.hex().startswith(want["prefix"])
        else:
            assert wire.hex() == want
        assert faas.proto_decode(spec, wire) == values
    for case in misc["decode"]:
        try:
            got = list(data(octets(case["wire"])))
        except ProtoError:
            got = "error"
        assert got == case["want"], case["what"]
    assert [faas.grpc_frame(octets(message)).hex() for message, _ in
            misc["prefixed"]] == [wire for _, wire in misc["prefixed"]]


def test_an_echo_of_4_mb_copies_it_only_a_few_times():
    wire = faas.grpc_frame(faas.proto_encode(
        faas.TINYFAAS_DATA, {"functionIdentifier": "echo",
                             "data": b"x" * (4 * MB - 20)}))
    tracemalloc.start()
    try:
        reader, messages = GrpcMessages(), []
        for at in range(0, len(wire), 16384):
            messages += reader.receive(wire[at:at + 16384])
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        text = faas.proto_decode(faas.TINYFAAS_DATA, messages.pop())["data"]
        answer = faas.grpc_frame(faas.proto_encode(
            faas.TINYFAAS_RESPONSE, {"response": text}))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(answer) == 4 * MB - 20 + 5 + 5
    assert held < 5 * MB and peak - held < 14 * MB


# What google.protobuf says ---------------------------------------------------


@pytest.fixture(scope="module")
def google():
    """Give classes for our messages, made by google.protobuf.

    What it makes them of are our own descriptors.
    """
    pytest.importorskip("google.protobuf", reason="the peer google.protobuf: "
                        "pip install h2 hpack protobuf")
    from google.protobuf import descriptor_pool, message_factory
    pool = descriptor_pool.DescriptorPool()
    for file in faas.PROTO_FILES:
        pool.AddSerializedFile(faas.proto_descriptor(file))
    return lambda full_name: message_factory.GetMessageClass(
        pool.FindMessageTypeByName(full_name))


def test_google_agrees_about_what_is_a_message_and_what_it_says(google):
    from google.protobuf.message import DecodeError
    theirs = google("openfogstack.tinyfaas.tinyfaas.Data")
    dice, refused = random.Random(3), 0
    seeds = [octets(wire) for wire in (
        "0a046563686f12026869", "40ac020a046563686f", "630801640a0161",
        "493132333435363738 1200", "8a8000046563686f", "55313233340a00",
        "0a05c3a9e29883 63 0a0162 63 64 64")]
    for _ in range(20_000):
        wire = bytearray(dice.choice(seeds))
        for _ in range(dice.randrange(4)):
            at = dice.randrange(len(wire) + 1)
            wire[at:at + dice.randrange(3)] = dice.randbytes(
                dice.randrange(3))
        wire = bytes(wire)
        try:
            want = theirs.FromString(wire)
            want = want.functionIdentifier, want.data
        except DecodeError:
            want, refused = None, refused + 1
        try:
            found = data(wire)
        except ProtoError:
            found = None
        assert found == want, wire.hex()
    assert 2000 < refused < 18_000


def test_google_reads_what_we_write_and_we_read_what_it_writes(google):
    request = google("grpc.reflection.v1alpha.ServerReflectionRequest")(
        host="h")
    request.file_containing_extension.containing_type = "a.b"
    request.file_containing_extension.extension_number = -7
    read = faas.proto_decode(faas.REFLECTION_REQUEST,
                             request.SerializeToString())
    assert read == {"host": "h", "file_containing_extension": {
        "containing_type": "a.b", "extension_number": -7}}
    values = {"valid_host": "h", "original_request": read,
              "error_response": {"error_code": 5, "error_message": "no"}}
    written = google("grpc.reflection.v1.ServerReflectionResponse").FromString(
        faas.proto_encode(faas.REFLECTION_RESPONSE, values))
    assert written.WhichOneof("message_response") == "error_response"
    assert written.error_response.error_code == 5
    assert written.original_request.file_containing_extension.\
        extension_number == -7
    status = google("grpc.health.v1.HealthCheckResponse").FromString(b"\x08\3")
    assert status.DESCRIPTOR.fields_by_name["status"].enum_type.\
        values_by_number[3].name == "SERVICE_UNKNOWN"


# A file that describes itself ------------------------------------------------


def test_tinyfaas_proto_describes_itself_as_tinyfaas_does(misc):
    theirs = misc["file_descriptor_proto"]
    assert faas.proto_descriptor(theirs["name"]).hex() == theirs["wire"]


def test_a_descriptor_says_what_the_file_says():
    spec = faas.proto_specs(faas.proto_parse("", faas.PROTO_DESCRIPTOR))
    for name, file in faas.PROTO_PARSED.items():
        read = faas.proto_decode(spec["FileDescriptorProto"],
                                 faas.proto_descriptor(name))
        assert read["name"] == name and read["package"] == file["package"]
        for ours, theirs in zip(file["message_type"], read["message_type"],
                                strict=True):
            assert ours["field"] == theirs["field"]


def test_the_file_that_describes_files_describes_itself():
    file = faas.proto_parse("descriptor.proto", faas.PROTO_DESCRIPTOR)
    spec = faas.proto_specs(file)["FileDescriptorProto"]
    again = faas.proto_decode(spec, faas.proto_encode(spec, file))
    assert [message["name"] for message in again["message_type"]][-1] == (
        "FileDescriptorProto")
    fields = {field["number"]: field["name"]
              for field in again["message_type"][-1]["field"]}
    assert fields == {number: field.name for number, field in spec.items()}


def test_each_name_is_known_with_its_file():
    symbols = faas.proto_symbols()
    package = "openfogstack.tinyfaas.tinyfaas"
    assert {name for name, file in symbols.items()
            if file == "tinyfaas.proto"} == {f"{package}.{name}" for name in (
                "Data", "Data.functionIdentifier", "Data.data", "Response",
                "Response.response", "TinyFaaS", "TinyFaaS.Request")}
    health = "grpc.health.v1.HealthCheckResponse"
    assert symbols[f"{health}.ServingStatus"] == "grpc/health/v1/health.proto"
    assert f"{health}.SERVING" in symbols       # and not ServingStatus.SERVING
    for version in ("v1", "v1alpha"):
        assert symbols[f"grpc.reflection.{version}.ServerReflection"] == (
            f"grpc/reflection/{version}/reflection.proto")


# Reads descriptors in hex, one a line, and then those of grpcio's packages;
# writes all that they say, as JSON.
TELL = """
import json, sys
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

def fields(package, message):
    cut = lambda name: name.replace("." + package + ".", "")
    return {"fields": [[one.name, one.number, one.type, one.label,
                        cut(one.type_name), one.HasField("oneof_index") and
                        message.oneof_decl[one.oneof_index].name]
                       for one in message.field],
            "enums": {enum.name: [[value.name, value.number]
                                  for value in enum.value]
                      for enum in message.enum_type}}

def tell(file):
    cut = lambda name: name.replace("." + file.package + ".", "")
    return {"messages": {message.name: fields(file.package, message)
                         for message in file.message_type},
            "methods": {one.name + "/" + method.name: [
                cut(method.input_type), cut(method.output_type),
                method.client_streaming, method.server_streaming]
                for one in file.service for method in one.method},
            "package": file.package, "syntax": file.syntax}

files = [descriptor_pb2.FileDescriptorProto.FromString(bytes.fromhex(line))
         for line in sys.stdin.read().split()]
for module in (health_pb2, reflection_pb2):
    files.append(descriptor_pb2.FileDescriptorProto())
    module.DESCRIPTOR.CopyToProto(files[-1])
print(json.dumps([tell(file) for file in files]))
"""


def test_health_and_reflection_are_described_as_grpcio_describes_them(
        peer_python):
    python = peer_python("grpc_reflection")
    names = [name for name in faas.PROTO_FILES if name.startswith("grpc/")]
    lines = "\n".join(faas.proto_descriptor(name).hex() for name in names)
    told = subprocess.run([python, "-c", TELL], input=lines, text=True,
                          capture_output=True, timeout=60)
    assert told.returncode == 0, told.stderr
    *ours, health, reflection = json.loads(told.stdout)
    ours = dict(zip(names, ours, strict=True))
    alpha = ours["grpc/reflection/v1alpha/reflection.proto"]
    assert alpha == reflection
    assert ours["grpc/reflection/v1/reflection.proto"] == {
        **alpha, "package": "grpc.reflection.v1"}
    mine = ours["grpc/health/v1/health.proto"]
    # Newer ones can list all services at once; we have one to speak of.
    for part in ("messages", "methods"):
        assert mine[part] and mine[part].items() <= health[part].items()
    assert mine["package"] == health["package"]


# The five bytes --------------------------------------------------------------

STREAM = b"".join(map(faas.grpc_frame, (b"", b"\x0a\x02hi", b"x" * 300)))


def test_messages_are_found_wherever_the_bytes_are_cut():
    for cut in range(len(STREAM) + 1):
        reader = GrpcMessages()
        found = reader.receive(STREAM[:cut]) + reader.receive(STREAM[cut:])
        assert found == [b"", b"\x0a\x02hi", b"x" * 300]
        reader.at_end()


def test_messages_are_found_when_each_byte_comes_alone():
    reader = GrpcMessages("identity")
    found = [message for byte in STREAM
             for message in reader.receive(bytes([byte]))]
    assert found == [b"", b"\x0a\x02hi", b"x" * 300]


def test_an_end_within_a_message_is_told_from_a_good_one():
    for cut in range(1, 9):
        reader = GrpcMessages()
        reader.receive(faas.grpc_frame(b"\x0a\x02hi")[:cut])
        with pytest.raises(GrpcError, match="within a message") as refusal:
            reader.at_end()
        assert refusal.value.status == "INTERNAL"


@pytest.mark.parametrize("encoding, prefix, status, why", [
    ("", "0000400001", "RESOURCE_EXHAUSTED",
     r"^grpc: received message larger than max \(4194305 vs. 4194304\)$"),
    ("gzip", "01ffffffff", "RESOURCE_EXHAUSTED", "larger than max"),
    ("", "0100000000", "INTERNAL", "compressed flag set"),
    ("identity", "0100000002", "INTERNAL", "compressed flag set"),
    ("", "0200000000", "INTERNAL", "payload format 2"),
    ("gzip", "ff00000000", "INTERNAL", "payload format 255")])
def test_a_prefix_alone_is_refused(encoding, prefix, status, why):
    with pytest.raises(GrpcError, match=why) as refusal:
        GrpcMessages(encoding).receive(octets(prefix))
    assert refusal.value.status == status


def test_a_message_of_just_the_limit_is_taken():
    assert GrpcMessages(most=4).receive(faas.grpc_frame(b"four")) == [b"four"]
    assert len(GrpcMessages().receive(faas.grpc_frame(bytes(4 * MB)))[0]) == (
        4 * MB)


def zipped(message):
    return b"\1" + faas.grpc_frame(gzip.compress(message))[1:]


def test_gzip_is_unpacked_and_plain_messages_may_stand_between():
    reader = GrpcMessages("gzip")
    wire = zipped(b"hi") + faas.grpc_frame(b"plain") + zipped(b"")
    found = [message for byte in wire
             for message in reader.receive(bytes([byte]))]
    assert found == [b"hi", b"plain", b""]


def test_the_limit_counts_what_is_unpacked():
    assert GrpcMessages("gzip", 1000).receive(zipped(bytes(1000))) == [
        bytes(1000)]
    with pytest.raises(GrpcError, match="after decompression") as refusal:
        GrpcMessages("gzip", 1000).receive(zipped(bytes(1001)))
    assert refusal.value.status == "RESOURCE_EXHAUSTED"


def test_a_gzip_bomb_is_not_unpacked_further_than_the_limit():
    bomb = zipped(bytes(200 * MB))
    tracemalloc.start()
    try:
        with pytest.raises(GrpcError, match="after decompression"):
            GrpcMessages("gzip").receive(bomb)
        assert tracemalloc.get_traced_memory()[1] < 12 * MB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packed", [
    b"", b"hi", gzip.compress(b"hi")[:-1], gzip.compress(b"hi") + b"x",
    gzip.compress(b"hi") * 2, zlib.compress(b"hi"),
    gzip.compress(b"hi")[:-8] + bytes(8)], ids=[
        "nothing", "text", "cut", "more", "twice", "zlib", "checksum"])
def test_what_is_no_gzip_is_refused(packed):
    with pytest.raises(GrpcError, match="failed to decompress") as refusal:
        GrpcMessages("gzip").receive(
            b"\1" + faas.grpc_frame(packed)[1:])
    assert refusal.value.status == "INTERNAL"


@pytest.mark.parametrize("encoding", ["snappy", "deflate", "GZIP", "x" * 999])
def test_another_compression_is_refused_with_those_that_are_known(encoding):
    with pytest.raises(GrpcError, match="not installed") as refusal:
        GrpcMessages(encoding)
    assert refusal.value.status == "UNIMPLEMENTED"
    assert refusal.value.fields == (("grpc-accept-encoding",
                                     "identity,gzip"),)
    assert len(str(refusal.value)) < 200


# Text ------------------------------------------------------------------------


@pytest.mark.parametrize("text, seconds", [
    ("1H", 3600), ("1M", 60), ("10S", 10), ("500m", 0.5), ("250u", 0.00025),
    ("99999999n", 0.099999999), ("99999999H", 359999996400), ("0S", 0),
    ("00000010S", 10), (None, None)])
def test_a_timeout_is_understood(text, seconds):
    assert faas.grpc_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", [
    "", "S", "5", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S", " 1S",
    "1S\n", "1SS", "0x1S", "\u0661S", "1e1S", "9" * 10_000])
def test_a_timeout_that_is_none_is_refused(text):
    with pytest.raises(GrpcError, match="malformed grpc-timeout") as refusal:
        faas.grpc_timeout(text)
    assert refusal.value.status == "INTERNAL"


@pytest.mark.parametrize("sentence, sent", [
    ("", ""), ("ok", "ok"), ("100%", "100%25"), ("%41", "%2541"),
    ("naïve ☃", "na%C3%AFve %E2%98%83"), ("a\nb\tc\r", "a%0Ab%09c%0D"),
    ("\x7f~", "%7F~"), ("\0", "%00"), ("𝄞", "%F0%9D%84%9E"),
    ("\ud800", "%3F")])
def test_a_sentence_is_percent_encoded(sentence, sent):
    assert faas.grpc_message(sentence) == sent


@pytest.mark.parametrize("sent, sentence", [
    ("%41", "A"), ("%zz", "%zz"), ("100%", "100%"), ("a%20b", "a b"),
    ("%E2%98", "\ufffd"), ("%c3%AF", "ï"), ("%", "%"), ("%2", "%2"),
    ("%%41", "%A")])
def test_what_cannot_be_decoded_in_a_sentence_is_left(sent, sentence):
    assert faas.grpc_message_decode(sent) == sentence


def test_sentences_that_fit_come_back_as_they_were():
    dice = random.Random(2)
    for _ in range(300):
        sentence = "".join(dice.choice(["a", "%", "\n", "é", "☃", "𝄞", "41"])
                           for _ in range(dice.randrange(80)))
        sent = faas.grpc_message(sentence)
        assert sent.isascii() and sent.isprintable()
        assert faas.grpc_message_decode(sent) == sentence


@pytest.mark.parametrize("character", ["a", "%", "é", "☃", "𝄞"])
@pytest.mark.parametrize("before", range(13))
def test_a_long_sentence_is_cut_to_1_kb_at_a_character(character, before):
    sentence = "a" * before + character * 2000
    sent = faas.grpc_message(sentence)
    one = len(faas.grpc_message(character))
    assert 1024 - one < len(sent) <= 1024
    assert sentence.startswith(faas.grpc_message_decode(sent))


@pytest.mark.parametrize("text, value", [
    ("", b""), ("AAECAwQFBgc", bytes(range(8))), ("/w", b"\xff"),
    ("AAECAwQFBgc=", bytes(range(8))), ("/w==", b"\xff"), ("YWI=", b"ab")])
def test_a_binary_value_may_be_padded_or_not(text, value):
    assert faas.grpc_binary(text) == value


@pytest.mark.parametrize("text", ["a", "a===", "é", "YWI!", "YW I", "_w",
                                  "YW=I", "=", "YWI=YWI="])
def test_a_binary_value_that_is_no_base64_is_refused(text):
    with pytest.raises(GrpcError, match="malformed binary metadata"):
        faas.grpc_binary(text)


def test_every_case_of_text_in_the_vectors(misc):
    for text, want in misc["grpc_timeout_seconds"]:
        if isinstance(want, str):
            # "00000010S" has eight digits, whatever its note says.
            if text != "00000010S":
                with pytest.raises(GrpcError):
                    faas.grpc_timeout(text)
        else:
            assert faas.grpc_timeout(text) == pytest.approx(want)
    for sentence, sent in misc["percent_encode"]:
        assert faas.grpc_message(sentence) == sent
    for sent, sentence in misc["percent_decode"]:
        found = faas.grpc_message_decode(sent)
        assert found == sentence or "must not fail" in sentence
    for case in misc["bin_metadata"]:
        for text in (case["header"], case.get("also_accepted", "")):
            assert faas.grpc_binary(text).hex() == (
                case["value_hex"] if text else "")


# Malice ----------------------------------------------------------------------


def test_mutated_messages_raise_nothing_but_refusals():
    dice = random.Random(9)
    seeds = [faas.proto_descriptor(name) for name in faas.PROTO_FILES]
    seeds += [octets("0a0168 2a05 0a01611007 3a00"), STREAM]
    spec = faas.proto_specs(faas.proto_parse("", faas.PROTO_DESCRIPTOR))
    outcomes = {"read": 0, "refused": 0}
    for _ in range(5000):
        wire = bytearray(dice.choice(seeds))
        for _ in range(dice.randrange(1, 5)):
            wire[dice.randrange(len(wire))] = dice.randrange(256)
        del wire[dice.randrange(1, len(wire) + 1):]
        for read in (
                lambda: faas.proto_decode(spec["FileDescriptorProto"],
                                          bytes(wire)),
                lambda: faas.proto_decode(faas.REFLECTION_REQUEST,
                                          bytes(wire)),
                lambda: GrpcMessages("gzip", 1000).receive(bytes(wire))):
            try:
                read()
                outcomes["read"] += 1
            except GrpcError:
                outcomes["refused"] += 1
    assert min(outcomes.values()) > 1000
