"""A client of CoAP that is patient: it asks again until it is answered.

    peer = CoapPeer(port)
    code, payload = peer.ask("POST", "echo", b"hello")

It knows what RFC 7252 and RFC 7959 ask of a client and no more: one question
at a time, repeated as long as nothing comes, large bodies in blocks.
"""

import itertools
import os
import socket

from faas import (COAP_ACK, COAP_BLOCK1, COAP_BLOCK2, COAP_CON, COAP_METHODS,
                  COAP_PATH, COAP_QUERY, CoapBlock, CoapMessage,
                  coap_block_decode, coap_code_text, coap_decode, coap_encode)

CODES = {name: code for code, name in COAP_METHODS.items()}
MIDS = itertools.count(int.from_bytes(os.urandom(2), "big"))


class CoapPeer:
    """One endpoint, with a socket of its own."""

    def __init__(self, port, host="127.0.0.1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.connect((host, port))

    def ask(self, method, path, body=b"", query=(), options=(), szx=6):
        """Ask; give the answer's code, as '2.05', and all of its payload."""
        options = (*((COAP_PATH, part.encode()) for part in path.split("/")),
                   *((COAP_QUERY, part.encode()) for part in query), *options)
        answer = self.send_body(CODES[method], options, body, szx)
        return coap_code_text(answer.code), self.read_body(
            CODES[method], options, answer)

    def send_body(self, code, options, body, szx):
        """Send a body, in blocks if it is large; give the first answer."""
        size = 16 << szx
        if len(body) <= size:
            return self.exchange(code, options, body)
        for at in range(0, len(body), size):
            block = CoapBlock(at // size, at + size < len(body), szx)
            answer = self.exchange(
                code, (*options, (COAP_BLOCK1, block.encode())),
                body[at:at + size])
            if answer.code != 0x5f:         # 2.31 Continue
                break
        return answer

    def read_body(self, code, options, answer):
        """Fetch the blocks that follow the first."""
        body = answer.payload
        while True:
            blocks = [coap_block_decode(value) for number, value in
                      answer.options if number == COAP_BLOCK2]
            if not blocks or not blocks[0].more:
                return body
            wanted = CoapBlock(blocks[0].num + 1, False, blocks[0].szx)
            answer = self.exchange(
                code, (*options, (COAP_BLOCK2, wanted.encode())))
            body += answer.payload

    def exchange(self, code, options, payload=b""):
        """Ask one question until it is answered; give the answer."""
        mid, token = next(MIDS) % (1 << 16), os.urandom(4)
        data = coap_encode(CoapMessage(COAP_CON, code, mid, token, options,
                                       payload))
        for patience in 3, 6, 12, 24:
            self.socket.send(data)
            self.socket.settimeout(patience)
            try:
                return self.hear(token)
            except TimeoutError:
                pass
        raise TimeoutError("no answer, four times")

    def hear(self, token):
        """Read up to the answer with this token; acknowledge it."""
        while True:
            answer = coap_decode(self.socket.recv(4096))
            if answer.kind == COAP_CON:
                self.socket.send(coap_encode(
                    CoapMessage(COAP_ACK, 0, answer.mid)))
            if answer.code and answer.token == token:
                return answer

    def close(self):
        self.socket.close()
