"""The processes that doors.py sets against each other.

    door_peers.py bare ...         faas.py with these arguments, whose waist is
                                   an echo: no worker, no record
    door_peers.py grpcio           grpcio's server, whose handler is an echo
    door_peers.py grpcio FOLDER    the same; its handler asks a warm worker
    door_peers.py aiocoap          aiocoap's server, likewise
    door_peers.py aiocoap FOLDER
    door_peers.py ask-grpcio       asks with grpcio's client, line by line
    door_peers.py ask-coap         asks over a bare socket, line by line

A server prints its port. Those of grpcio and aiocoap are run by a Python that
has the package; the rest needs none.
"""

import collections
import contextlib
import json
import pathlib
import socket
import sys
import time

from peers import BODY, ECHO, ROOT

PATH = "/openfogstack.tinyfaas.tinyfaas.TinyFaaS/Request"

# tinyFaaS's messages: Data {"echo", BODY} and Response {BODY}
QUESTION = b"\x0a\x04echo\x12" + bytes([len(BODY)]) + BODY
ANSWER = b"\x0a" + bytes([len(BODY)]) + BODY

# POST /echo, confirmable, with a token of 2 bytes: around message id and token
COAP_HEAD, COAP_TAIL = b"\x42\x02", b"\xb4echo\xff" + BODY
COAP_CHANGED, COAP_ACK = 0x44, b"\x60\x00"     # 2.04; an empty one


# Servers ---------------------------------------------------------------------


def bare(arguments):
    """Serve as faas.py does, with a Platform that answers by itself."""
    sys.path.insert(0, str(ROOT))
    import faas

    class Bare(faas.Platform):
        def invoke(self, call):
            return faas.Result(body=call.body)

    faas.Platform = Bare
    return faas.main(arguments)


@contextlib.contextmanager
def warm_worker(folder):
    """Give a function that echoes a body through a worker of ours.

    It is made before the package is imported: a nursery is to be forked from
    a process that has no threads yet.
    """
    sys.path.insert(0, str(ROOT))
    import faas
    with faas.Platform(folder) as platform:
        platform.deploy("echo", {"fn.py": faas.Item(ECHO.encode())})
        yield lambda body: platform.invoke(faas.Call("echo", body)).body


@contextlib.contextmanager
def at_once():
    """Give a function that echoes a body, here and now."""
    yield lambda body: body


def serve_grpcio(echo):
    """Serve echo() as a grpcio program does: with a pool of threads."""
    import concurrent.futures
    import grpc

    def answer(question, _):
        # What protobuf would do is left out, to grpcio's advantage.
        return ANSWER[:2] + echo(question[-len(BODY):])

    class Service(grpc.GenericRpcHandler):
        def service(self, call):
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((Service(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


def serve_aiocoap(echo, blocks):
    """Serve echo() as an aiocoap program does.

    What blocks would hold up the loop, and is asked by a thread.
    """
    import asyncio
    import aiocoap
    import aiocoap.resource

    class Echo(aiocoap.resource.Resource):
        async def render_post(self, request):
            if blocks:
                loop = asyncio.get_running_loop()
                body = await loop.run_in_executor(None, echo, request.payload)
            else:
                body = echo(request.payload)
            return aiocoap.Message(code=aiocoap.CHANGED, payload=body)

    async def serve():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))     # aiocoap does not tell its own.
            port = free.getsockname()[1]
        site = aiocoap.resource.Site()
        site.add_resource(["echo"], Echo())
        await aiocoap.Context.create_server_context(
            site, bind=("127.0.0.1", port))
        print(port, flush=True)
        await asyncio.get_running_loop().create_future()

    asyncio.run(serve())


# Clients ---------------------------------------------------------------------


def by_grpcio():
    """Give a function that asks with grpcio's client, one channel a port."""
    import grpc
    methods = {}

    def ask(port, window, seconds):
        if port not in methods:
            methods[port] = grpc.insecure_channel(
                f"127.0.0.1:{port}").unary_unary(PATH)
        call, count = methods[port], 0
        check_message(call(QUESTION))
        begun = time.perf_counter()
        under_way = collections.deque(
            call.future(QUESTION) for _ in range(window - 1))
        while time.perf_counter() < begun + seconds:
            if window == 1:             # the way most programs call
                check_message(call(QUESTION))
            else:
                under_way.append(call.future(QUESTION))
                check_message(under_way.popleft().result())
            count += 1
        rate = count / (time.perf_counter() - begun)
        for one in under_way:
            check_message(one.result())
        return {"answers": count + len(under_way) + 1, "rate": rate}
    return ask


def check_message(message):
    if message != ANSWER:
        raise ValueError(f"a wrong answer: {message[:80]!r}")


def by_socket():
    """Give a function that asks over CoAP, with `window` under way."""
    def ask(port, window, seconds):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.connect(("127.0.0.1", port))
            line.settimeout(5)
            return exchange(line, window, seconds)
    return ask


def exchange(line, window, seconds):
    """Ask for so long, and then wait for what is under way."""
    now = begun = time.perf_counter()
    number, answers, under_way = int(begun * 1e3) & 0xffff, 0, set()
    while now < begun + seconds or under_way:
        while len(under_way) < window and now < begun + seconds:
            number = (number + 1) & 0xffff
            mark = number.to_bytes(2, "big")
            line.send(COAP_HEAD + mark + mark + COAP_TAIL)
            under_way.add(mark)
        under_way.remove(hear(line))
        answers, now = answers + 1, time.perf_counter()
    return {"answers": answers, "rate": answers / (now - begun)}


def hear(line):
    """Wait for the next answer; give its token."""
    answer = line.recv(2048)
    while len(answer) == 4:         # A promise: the answer comes by itself.
        answer = line.recv(2048)
    if answer[0] & 0x30 == 0:       # Then it is to be confirmed.
        line.send(COAP_ACK + answer[2:4])
    if answer[1] != COAP_CHANGED or not answer.endswith(BODY):
        raise ValueError(f"a wrong answer: {answer[:80]!r}")
    return answer[4:6]


def obey(ask):
    for line in sys.stdin:
        print(json.dumps(ask(**json.loads(line))), flush=True)


def main(role, *arguments):
    if role == "bare":
        return bare(list(arguments))
    if role.startswith("ask-"):
        return obey({"ask-grpcio": by_grpcio, "ask-coap": by_socket}[role]())
    with warm_worker(*arguments) if arguments else at_once() as echo:
        if role == "grpcio":
            serve_grpcio(echo)
        else:
            serve_aiocoap(echo, blocks=bool(arguments))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
