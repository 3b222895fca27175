"""Ask a gRPC server what a test wants asked, with grpcio.

    python grpc_client.py 127.0.0.1:9000

reads orders, one line of JSON each, and prints one line for each of them.
grpc_client.js takes the same orders. What one may hold:

    do        "call", "many" (of `count` at once), "begin" and then "cancel"
              or "end", "stream", "described"
    fn, text  what tinyFaaS's message Data says; or `size` letters of a text
    method    another path, with `raw`: the message's own bytes, as hex
    metadata  pairs; the values of names in -bin are hex
    timeout   in seconds
    gzip      true, to compress the request
    raws      of a stream: its messages, each to be asked when the one before
              is answered; `most`, to leave it after so many answers

An answer has the status's name as `code`, what the server said of it as
`details`, and of a message `raw`, or `text` (the first 2,000 letters),
`size`, and whether it is the `same` as was sent.
"""

import json
import sys
import threading

import grpc

from messages import PATTERN, SERVICE, field, response_of


def text_of(order):
    return order.get("text", "").encode() or PATTERN[:order.get("size", 0)]


def message_of(order):
    if "raw" in order:
        return bytes.fromhex(order["raw"])
    return field(1, order["fn"].encode()) + field(2, text_of(order))


def how(order):
    """Give grpcio's own options for a call."""
    return {"metadata": [
        (name, bytes.fromhex(value) if name.endswith("-bin") else value)
        for name, value in order.get("metadata", ())],
        "timeout": order.get("timeout", 60),
        "compression": grpc.Compression.Gzip if order.get("gzip") else None}


def begin(channel, order):
    path = order.get("method", f"/{SERVICE}/Request")
    return channel.unary_unary(path).future(message_of(order), **how(order))


def end(call, order):
    """Wait for a call; tell how it ended."""
    if not isinstance(call.exception(), (grpc.RpcError, type(None))):
        raise call.exception()
    said = status_of(call)
    if said["code"] != "OK" or "raw" in order:
        return said | {"raw": "" if said["code"] != "OK"
                       else call.result().hex()}
    got = response_of(call.result())
    return said | {"text": got[:2000].decode(), "size": len(got),
                   "same": got == text_of(order)}


def status_of(call):
    trailing = {name: value if isinstance(value, str) else value.hex()
                for name, value in call.trailing_metadata() or ()}
    return {"code": call.code().name, "details": call.details(),
            "trailing": trailing}


def cancel(call):
    """Cancel; the code is what the caller is told, not what the server is."""
    call.cancel()
    return {"code": call.code().name}


def many(channel, order):
    """Have `count` calls under way at once."""
    calls = [begin(channel, order) for _ in range(order["count"])]
    ends = [end(call, order) for call in calls]
    return {"codes": count(one["code"] for one in ends),
            "same": sum(one.get("same", False) for one in ends),
            "details": sorted({one["details"] or "" for one in ends})}


def count(words):
    found = {}
    for word in words:
        found[word] = found.get(word, 0) + 1
    return found


def stream(channel, order):
    """Ask `raws` in one stream, each after the answer to the one before.

    With `most`, the stream is left when so many answers have come.
    """
    answered = threading.Semaphore()

    def questions():
        for raw in order["raws"]:
            answered.acquire()
            yield bytes.fromhex(raw)
    call = channel.stream_stream(order["method"])(
        questions(), timeout=order.get("timeout", 60))
    answers = []
    try:
        for message in call:
            answers.append(message.hex())
            answered.release()
            if len(answers) == order.get("most"):
                call.cancel()
    except grpc.RpcError:
        pass
    return status_of(call) | {"raws": answers}


def described(channel, order):
    """Call a service that is known by its reflection alone."""
    try:
        from google.protobuf import descriptor_pool, message_factory
        from grpc_reflection.v1alpha import (
            proto_reflection_descriptor_database as base)
    except ImportError:
        return {"missing": "grpcio-reflection"}
    known = base.ProtoReflectionDescriptorDatabase(channel)
    pool = descriptor_pool.DescriptorPool(known)
    method = pool.FindServiceByName(SERVICE).methods_by_name["Request"]
    question, answer = map(message_factory.GetMessageClass,
                           (method.input_type, method.output_type))
    call = channel.unary_unary(f"/{SERVICE}/Request",
                               question.SerializeToString, answer.FromString)
    got = call(question(functionIdentifier=order["fn"], data=order["text"]),
               timeout=60)
    return {"services": sorted(known.get_services()), "text": got.response}


def main(address):
    running = None
    with grpc.insecure_channel(address) as channel:
        for line in sys.stdin:
            order = json.loads(line)
            do = order.get("do", "call")
            if do == "begin":
                running, answer = (begin(channel, order), order), {}
            elif do == "cancel":
                answer = cancel(running[0])
            elif do == "end":
                answer = end(*running)
            elif do == "call":
                answer = end(begin(channel, order), order)
            else:
                answer = {"many": many, "stream": stream,
                          "described": described}[do](channel, order)
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
