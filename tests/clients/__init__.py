"""Clients that others wrote, each in a process that does what it is told.

    with Client([python, HERE / "grpc_client.py", "127.0.0.1:9000"]) as client:
        assert client.ask(fn="shout", text="hi")["text"] == "HI"

What may be asked: grpc_client.py and coap_client.py.
"""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import threading

HERE = pathlib.Path(__file__).parent

PATIENCE = 30           # s for one order; then the client is ended


class Client:
    """A process that reads one line of JSON and answers with one."""

    def __init__(self, argv, **environment):
        self.process = subprocess.Popen(
            list(map(str, argv)), env=os.environ | environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def ask(self, **order):
        """Give an order, and wait for what came of it."""
        alarm = threading.Timer(PATIENCE, self.process.kill)
        alarm.start()
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        finally:
            alarm.cancel()
        assert line, f"the client ended, over {str(order)[:300]}"
        return json.loads(line)


def python_client(python, name, address):
    """Start one of the clients that are written in Python."""
    return Client([python, "-W", "ignore", HERE / name, address])


def node_client(folder, name, address):
    """Start one that is written for Node, with `folder`'s node_modules."""
    return Client(["node", HERE / name, address],
                  NODE_PATH=str(folder / "node_modules"))


def has_ipv6():
    """Tell whether this machine has the address ::1."""
    try:
        with socket.socket(socket.AF_INET6) as line:
            line.bind(("::1", 0))
            return True
    except OSError:
        return False


# For a test of all of these; and why it leaves one out.
HOSTS = "127.0.0.1", "[::1]", "localhost"
NO_IPV6 = "this machine has no IPv6: sysctl net.ipv6.conf.lo.disable_ipv6=0"
