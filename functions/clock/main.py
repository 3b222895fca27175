# A server: it listens on PORT and speaks HTTP itself, so it can do what other
# functions cannot, which is to answer in parts. Without the platform:
#     PORT=8123 python3 main.py &
#     curl -N 'localhost:8123/ticks?n=5'      a line every fifth of a second
#     curl -d hello localhost:8123/echo       and / tells the time as JSON
# In a container, HOST=0.0.0.0 lets it be reached from outside.
import datetime
import http.server
import json
import os
import re
import time


class Clock(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"       # 1.0 has no chunks: RFC 9112, 7.1

    def do_GET(self):
        if ticks := re.fullmatch(r"/ticks(?:\?n=(\d{1,3}))?", self.path):
            self.start("text/plain", "Transfer-Encoding", "chunked")
            for i in range(int(ticks[1] or 5)):
                time.sleep(0.2)
                line = b"tick %d\n" % (i + 1)
                self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
            return self.wfile.write(b"0\r\n\r\n")   # an empty chunk: the end
        now = datetime.datetime.now().isoformat(timespec="seconds")
        self.answer("application/json", json.dumps({"time": now}).encode())

    def do_POST(self):
        size = int(self.headers.get("Content-Length", 0))
        self.answer("text/plain", self.rfile.read(size))

    def answer(self, kind, body):
        self.start(kind, "Content-Length", str(len(body)))
        self.wfile.write(body)

    def start(self, kind, *framing):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header(*framing)
        self.end_headers()


if __name__ == "__main__":
    address = os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"])
    http.server.ThreadingHTTPServer(address, Clock).serve_forever()
