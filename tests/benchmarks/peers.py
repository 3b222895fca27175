"""The processes that run.py sets against each other.

    peers.py client              asks what it is told, line by line (JSON)
    peers.py hello               a plain ThreadingHTTPServer; prints its port
    peers.py forgetful ...       faas.py with these arguments, which writes
                                 nothing down: no log, no execution, no count
    peers.py waist FOLDER N      answers a call N times in each cold way

All servers are asked by the same client, with the same bytes.
"""

import http.server
import json
import pathlib
import re
import select
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]

BODY = b"0123456789abcdef" * 4          # 64 bytes, there and back
LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")

ECHO = "def fn(input, headers):\n    return input\n"


# The plain server ------------------------------------------------------------


class Hello(http.server.BaseHTTPRequestHandler):
    """The least that http.server can do for an answer of 64 bytes."""
    protocol_version = "HTTP/1.1"
    # Head and body are two writes here, and without this the second waits for
    # the client's acknowledgement of the first: up to 40 ms.
    disable_nagle_algorithm = True

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_):
        pass


class HelloServer(http.server.ThreadingHTTPServer):
    request_queue_size = 1024   # with the default, 5, a burst of 64 is lost
    daemon_threads = True


def hello():
    server = HelloServer(("127.0.0.1", 0), Hello)
    print(server.server_port, flush=True)
    server.serve_forever()


# The client ------------------------------------------------------------------


def whole(data):
    """Tell whether `data` is a whole answer; a wrong one ends the run."""
    head, mark, body = data.partition(b"\r\n\r\n")
    found = LENGTH.search(head)
    if not mark or not found or len(body) < int(found[1]):
        return False
    if not head.startswith(b"HTTP/1.1 200 ") or body != BODY:
        raise ValueError(f"a wrong answer: {data[:300]!r}")
    return True


def ask(port, connections, seconds, path="/echo", closing=False):
    """Ask over so many connections at once; each asks again when answered.

    The first quarter of the time is for warming up, and is not counted.
    """
    request = (f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
               "User-Agent: curl/8.5.0\r\nAccept: */*\r\n"
               + "Connection: close\r\n" * closing +
               f"Content-Length: {len(BODY)}\r\nContent-Type: "
               "text/plain\r\n\r\n").encode() + BODY
    poll, lines, held = select.epoll(), {}, {}

    def connect():
        line = socket.create_connection(("127.0.0.1", port), 10)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(line, select.EPOLLIN)
        lines[line.fileno()] = line
        line.sendall(request)

    def hear(fd):
        """Read; give 1 for a whole answer, and then ask again."""
        line = lines[fd]
        piece = line.recv(65536)
        data = held.pop(fd, b"") + piece
        if not whole(data):
            if not piece:
                raise ConnectionError("closed before it was answered")
            held[fd] = data
            return 0
        if closing or now >= end:
            lines.pop(fd).close()
        if now < end:
            connect() if closing else line.sendall(request)
        return 1

    now = time.perf_counter()
    first, end = now + seconds / 4, now + seconds
    count, marks = 0, []
    for _ in range(connections):
        connect()
    while lines:
        ready = poll.poll(10)
        if not ready:
            raise TimeoutError("no answer for 10 s")
        now = time.perf_counter()
        if not marks and now >= first or len(marks) == 1 and now >= end:
            marks.append((count, now))
        count += sum(hear(fd) for fd, _ in ready)
    (from_count, since), (to_count, until) = marks
    return {"answers": count,
            "rate": (to_count - from_count) / (until - since)}


def client():
    for line in sys.stdin:
        print(json.dumps(ask(**json.loads(line))), flush=True)


# The platform ----------------------------------------------------------------


def forgetful(arguments):
    """Serve as faas.py does, with a Platform that remembers nothing."""
    sys.path.insert(0, str(ROOT))
    import faas

    class Forgetful(faas.Platform):
        def remember(self, *_):
            pass

    faas.Platform = Forgetful
    return faas.main(arguments)


# Cold starts -----------------------------------------------------------------


def waist(folder, count):
    """Print the ms of each way to a first answer, `count` times in turn.

    All but the yardstick go through Platform.invoke, so each pays for the
    queue, the process, the function, the end and the notes.
    """
    sys.path.insert(0, str(ROOT))
    import faas
    home = pathlib.Path(folder)
    names = write_functions(home / "functions")
    with faas.Platform(folder) as platform:
        platform.deploy("echo", {"fn.py": faas.Item(ECHO.encode())})

        def invoke(name):
            result = platform.invoke(faas.Call(name, BODY))
            if result.kind != "ok" or result.body != BODY:
                raise ValueError(f"{name}: {result}")
            return result

        def fork():
            if invoke("echo").start != "cold":
                raise ValueError("a worker was left over")

        def forget_workers():
            platform.live["echo"].pool.reap(time.monotonic(), -1.0)

        ways = {"pass": start_nothing, "fork": fork}
        ways |= {name: lambda name=name: invoke(name) for name in names}
        for _ in range(count):
            forget_workers()
            print(json.dumps({way: milliseconds(task)
                              for way, task in ways.items()}), flush=True)


def write_functions(folder):
    """Write the same echo as a new interpreter, and as a shell script."""
    folder.mkdir(parents=True)
    (folder / "fn.py").write_text(ECHO)         # imported by `spawn`
    texts = {
        "spawn": f"#!{sys.executable} -IS\nimport sys\n"
                 f"sys.path.insert(0, {str(folder)!r})\nfrom fn import fn\n"
                 "sys.stdout.write(fn(sys.stdin.read(), {}))\n",
        "shell": "#!/bin/sh\ncat\n"}
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return texts


def start_nothing():
    """Do what a cold start is measured against."""
    subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)


def milliseconds(task):
    start = time.perf_counter()
    task()
    return 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    if role == "waist":
        waist(arguments[0], int(arguments[1]))
    elif role == "forgetful":
        sys.exit(forgetful(arguments))
    else:
        {"hello": hello, "client": client}[role]()
