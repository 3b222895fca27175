"""The other ends of the doors: clients, and networks that we are ourselves.

The cores of faas.py have no sockets. So a client may be an object beside
them, and the network a list: then we lose what we like, turn the clock, and
know afterwards who said what.

    Air, Asker       a network that loses datagrams, and a CoAP client
    Cable            a client's side of an HTTP/2 connection
    Correspondent    a CoAP client on a real socket
    over_tcp, over_h2, over_udp      one question to a real door
    read_http1, read_http2, read_grpc, read_coap     what the answer says

What they heard is drawn by the pictures in pictures_doors.py.
"""

import heapq
import itertools
import socket

import faas
from pictures_doors import METHODS, bare, code_words, datagram_words


# A network with a clock of ours ---------------------------------------------

class Air:
    """A network without wires: it tells the time, and loses what we say.

    `server` is a CoapEndpoint and `client` an Asker, or what has the same
    methods. `run(request)` is what the platform would do: it gives (seconds,
    code, payload). `lose(n)` says whether the n-th datagram is lost, and
    `twice(n)` whether it comes twice. `heard` is a list for a Ladder.
    """

    def __init__(self, server, client, run, lose=lambda n: False,
                 twice=lambda n: False, delay=lambda n: 0.05):
        self.sides = {"client": client, "server": server}
        self.run, self.lose, self.twice = run, lose, twice
        self.delay, self.now, self.count = delay, 0.0, 0
        self.queue, self.order = [], 0
        self.heard, self.notes, self.runs = [], [], []

    def at(self, when, work, *arguments):
        self.order += 1
        heapq.heappush(self.queue, (when, self.order, work, arguments))

    def go(self, until=600.0):
        """Let the time pass until nothing is left to do, or until then."""
        self.pump()
        while event := self.next_event(until):
            self.now = max(self.now, event)
            while self.queue and self.queue[0][0] <= self.now:
                _, _, work, arguments = heapq.heappop(self.queue)
                work(*arguments)
                self.pump()
            for side in self.sides.values():
                side.tick(self.now)
            self.pump()
        return self

    def next_event(self, until):
        times = [side.next_time() for side in self.sides.values()]
        times += [self.queue[0][0]] if self.queue else []
        times = [time for time in times if time is not None]
        return min(times) + 1e-9 if times and min(times) <= until else None

    def pump(self):
        for name, side in self.sides.items():
            for peer, data in side.take():
                self.send(name, data)

    def send(self, name, data):
        number, self.count = self.count, self.count + 1
        lost, there = self.lose(number), self.now + self.delay(number)
        self.heard.append((self.now, None if lost else there,
                           name == "client", bytes(data)))
        for _ in range(0 if lost else 1 + self.twice(number)):
            self.at(there, self.arrive, name, data)

    def arrive(self, name, data):
        if name == "server":
            self.sides["client"].receive(data, "server", self.now)
            return
        server = self.sides["server"]
        for request in server.receive(data, ("2001:db8::1", 40000), self.now):
            seconds, *answer = self.run(request)
            self.runs.append(request)
            self.notes.append((self.now, "/".join(request.path) + " runs"))
            self.at(self.now + seconds, self.reply, request.exchange, answer)

    def reply(self, exchange, answer):
        rest = b"", (), None
        code, payload, options, observe = *answer, *rest[len(answer) - 1:]
        self.sides["server"].reply(exchange, code, payload, options,
                                   now=self.now, observe=observe)


class Asker:
    """A CoAP client: it asks, asks again, and puts blocks together.

    It waits 2 s for an acknowledgement, then 4, 8 and 16 (RFC 7252, 4.2).
    `answers` has (when, code, payload) of each question.
    """

    def __init__(self, szx=2, mid=0x7d34, token=b"Jq"):
        self.szx, self.mid, self.token = szx, mid, token
        self.out, self.waiting, self.seen, self.answers = [], {}, set(), []

    def ask(self, method, path, body=b"", options=(), now=0.0):
        """Ask for a path such as "shout"; of a large body, the first block."""
        self.code, self.body, self.got = METHODS.index(method), body, b""
        self.path = [(11, part.encode()) for part in path.split("/")]
        self.options, self.size = list(options), 16 << self.szx
        self.send_block(0, now)

    def send_block(self, number, now):
        start = number * self.size
        piece, options = self.body[start:start + self.size], []
        if len(self.body) > self.size:
            more = start + self.size < len(self.body)
            options = [(27, faas.CoapBlock(number, more, self.szx).encode())]
            # With the last it asks for an answer in blocks of this size.
            options += [] if more else [
                (23, faas.CoapBlock(0, False, self.szx).encode())]
        self.confirm(options, piece, now)

    def confirm(self, options, payload, now):
        """Send a question that is to be acknowledged."""
        options = sorted(self.path + self.options + options,
                         key=lambda option: option[0])
        data = faas.coap_encode(faas.CoapMessage(
            0, self.code, self.mid, self.token, tuple(options), payload))
        self.waiting[self.mid] = [data, now + 2.0, 4.0]
        self.out.append(data)
        self.mid += 1

    def receive(self, data, peer, now):
        message = faas.coap_decode(data)
        if message.kind in (2, 3):
            self.waiting.pop(message.mid, None)
        if message.kind == 0:
            self.out.append(faas.coap_encode(faas.CoapMessage(
                2, 0, message.mid)))
        mark = message.kind == 2, message.mid
        if message.code >= 32 and mark not in self.seen:
            self.seen.add(mark)
            self.hear(message, dict(message.options), now)

    def hear(self, message, options, now):
        if message.code == 0x5f:                # 2.31, Continue
            number = faas.coap_block_decode(options[27]).num
            return self.send_block(number + 1, now)
        self.got += message.payload
        block = faas.coap_block_decode(options.get(23, b""))
        if block.more:
            self.body = b""
            following = block._replace(num=block.num + 1, more=False)
            return self.confirm([(23, following.encode())], b"", now)
        self.answers.append((now, code_words(message.code), self.got))
        self.got = b""

    def next_time(self):
        return min((when for _, when, _ in self.waiting.values()),
                   default=None)

    def tick(self, now):
        for mid, (data, when, wait) in list(self.waiting.items()):
            if when <= now and wait <= 32:
                self.out.append(data)
                self.waiting[mid] = [data, now + wait, 2 * wait]
            elif when <= now:
                del self.waiting[mid]

    def take(self):
        sent, self.out = [("client", data) for data in self.out], []
        return sent


# HTTP/2 ---------------------------------------------------------------------

class Cable:
    """A client's side of an H2Connection in the same process.

    `serve(core, stream, fields, body)` answers a request when all of it is
    here. `say(data)` carries bytes there and gives what comes back; `heard`
    is [(when, from the client?, bytes), ...], for a Swim or a Saw.
    """

    def __init__(self, serve, settings={}, greet=True):
        self.core, self.serve = faas.H2Connection(now=0.0), serve
        self.heard, self.events, self.asked = [], [], {}
        if greet:
            self.say(faas.H2_PREFACE + faas.h2_frame(
                faas.H2_SETTINGS, payload=faas.h2_settings(settings)))
            self.say(faas.h2_frame(faas.H2_SETTINGS, faas.H2_ACK))

    def say(self, data=b"", now=0.0):
        if data:
            self.heard.append((now, True, data))
        for event in self.core.receive(data, now):
            self.events.append(event)
            fields, body = self.asked.get(event.stream, ((), b""))
            self.asked[event.stream] = (fields or event.fields,
                                        body + event.data)
            if event.ended:
                self.serve(self.core, event.stream,
                           *self.asked[event.stream])
        return self.take(now)

    def take(self, now=0.0):
        """Fetch what the server has to say of its own accord."""
        back = self.core.take()
        if back:
            self.heard.append((now, False, back))
        return back

    def drain(self, stream, question, window, rate=1000.0, trip=20.0):
        """Ask, and read the answer over a line of `rate` bytes a ms.

        A byte needs half of `trip` ms to get there. The client opens the
        windows again when half of one is used up. Times in `heard` are in
        ms, as the server sees it; gives the client's last.
        """
        queue, order, free, used = [], itertools.count(), 0.0, 0
        now = last = 0.0

        def send(back, when, free):
            """Let frames leave one after the other, as the line is free."""
            for name, _, _, payload in faas.h2_frames(back):
                if name == "DATA":
                    free = max(free, when)
                    self.heard.append((free, False, faas.h2_frame(
                        faas.H2_DATA, 0, stream, payload)))
                    free += len(payload) / rate
                    heapq.heappush(queue, (free + trip / 2, next(order),
                                           len(payload), None))
            return free
        back = self.say(question)
        self.heard.clear()
        while back or queue:
            while back:
                free, back = send(back, now, free), self.core.take()
            now, _, size, grant = heapq.heappop(queue)
            used, last = used + size, now if size else last
            if used and used >= window // 2:
                heapq.heappush(queue, (
                    now + trip / 2, next(order), 0,
                    faas.h2_window(stream, used) + faas.h2_window(0, used)))
                used = 0
            if grant and self.core.queued(stream):
                self.heard.append((now, True, grant))
                self.core.receive(grant, now / 1000)
                back = self.core.take()
        self.heard.sort(key=lambda one: one[0])
        return last


def of_stream(data, stream=1):
    """Keep the frames of one stream, as bytes.

    >>> of_stream(faas.h2_frame(6) + faas.h2_frame(0, 1, 1, b"hi")).hex()
    '0000020001000000016869'
    """
    data, kept = data.removeprefix(faas.H2_PREFACE), b""
    while data:
        end = 9 + int.from_bytes(data[:3], "big")
        if int.from_bytes(data[5:9], "big") == stream:
            kept += data[:end]
        data = data[end:]
    return kept


def h2_heard(data, stream=1):
    """Read the answer on a stream: its fields and trailers, and its content.

    >>> h2_heard(faas.h2_frame(1, 4, 1, b"\\x88") + faas.h2_frame(
    ...     0, 1, 1, b"hi"))
    ({':status': '200'}, b'hi')
    """
    reader, fields, content = faas.HpackDecoder(), {}, b""
    for kind, one, flags, payload in faas.h2_frames(data):
        if kind == "HEADERS":
            found = reader.decode(bare(flags, payload))
            fields.update(found if one == stream else ())
        elif kind == "DATA" and one == stream:
            content += payload
    return fields, content


# Real doors -----------------------------------------------------------------

CLIENT_HELLO = faas.H2_PREFACE + faas.h2_frame(faas.H2_SETTINGS)


def over_tcp(port, data, done=lambda back: False):
    """Send, and read until it is done or the other side hangs up."""
    with socket.create_connection(("127.0.0.1", port), 9) as link:
        link.sendall(data)
        back = b""
        while not done(back) and (more := link.recv(65536)):
            back += more
    return back


def over_h2(port, question, answers=1):
    """Open an HTTP/2 connection, ask, and read until all streams end."""
    def done(back):
        return answers == sum("END_STREAM" in flags for _, _, flags, _
                              in faas.h2_frames(back))
    return over_tcp(port, CLIENT_HELLO + question, done)


class Correspondent:
    """A CoAP client on a real socket; `story` is a list for a Sequence.

    It repeats nothing: between two programs of one machine nothing is lost.
    """

    def __init__(self, port, name="client"):
        self.link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.link.settimeout(9)
        self.link.connect(("127.0.0.1", port))
        self.name, self.story = name, []

    def say(self, message):
        data = faas.coap_encode(message)
        self.link.send(data)
        self.story.append((self.name, "platform", datagram_words(data)))

    def hear(self):
        """Wait for a message that is no empty ACK; acknowledge a CON."""
        while not (message := faas.coap_decode(
                data := self.link.recv(2048))).code:
            pass
        self.story.append(("platform", self.name, datagram_words(data)))
        if message.kind == faas.COAP_CON:
            self.say(faas.CoapMessage(faas.COAP_ACK, 0, message.mid))
        return data

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.link.close()


def over_udp(port, message):
    """Send one message, and give the datagram that answers it."""
    with Correspondent(port) as client:
        client.say(message)
        return client.hear()


def read_http1(data):
    """Give status and content of an answer of HTTP/1.1.

    >>> read_http1(b"HTTP/1.1 200 OK\\r\\nX: y\\r\\n\\r\\nhi")
    ('200', 'hi')
    """
    return data[9:12].decode(), data.partition(b"\r\n\r\n")[2].decode()


def read_http2(data):
    fields, content = h2_heard(data)
    return fields[":status"], content.decode()


def read_grpc(data):
    """Give the status, and the answer or what is said in its place."""
    fields, content = h2_heard(data)
    status = list(faas.GRPC_STATUS)[int(fields["grpc-status"])]
    if status != "OK":
        return status, faas.grpc_message_decode(fields["grpc-message"])
    return status, faas.proto_decode(faas.TINYFAAS_RESPONSE,
                                     content[5:])["response"]


def read_coap(data):
    message = faas.coap_decode(data)
    return faas.coap_code_text(message.code), message.payload.decode()
