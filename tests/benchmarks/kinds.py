"""Measure one echo in each tongue: its first call, the next ones, its memory.

    python3 tests/benchmarks/kinds.py               about a minute
    python3 tests/benchmarks/kinds.py --markdown    the table of the docs

All tongues are asked in turns, round after round, in one process and without
a network, and each round gives one ratio to the script's time in it; printed
are the medians. A call of a script starts a process each time, so for it
there is no difference between a first call and the next. What is not
installed is left out, and said.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

import faas
import peers
import run

SERVER = {
    "go": {"go.mod": "module main\n\ngo 1.18\n", "main.go": """package main

import (
	"io"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	})
	http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil)
}
"""},
    "python": {"requirements.txt": "", "main.py": """import http.server, os

class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", 65536

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(
    ("127.0.0.1", int(os.environ["PORT"])), Echo).serve_forever()
"""},
    "node": {"package.json": "{}", "index.js": """
require("http").createServer((req, res) => {
  const pieces = [];
  req.on("data", (piece) => pieces.push(piece));
  req.on("end", () => res.end(Buffer.concat(pieces)));
}).listen(process.env.PORT, "127.0.0.1");
"""}}

ECHO = {
    "script": None,
    "binary": {"fn.sh": "#!/bin/sh\nexec cat\n"},
    "python3": {"fn.py": "def fn(input):\n    return input\n"},
    "node": {"fn.yaml": "language: node\n",
             "index.js": "module.exports = (context, cb) => cb(context);\n"},
    "nodejs": {"package.json": '{"name": "fn"}', "index.js":
               "module.exports = (req, res) => res.send(req.body);\n"},
    "go": {"fn.go": "package main\n\nfunc fn(data string, headers "
           "map[string]string) (string, error) {\n\treturn data, nil\n}\n"},
    "lua": {"main.lua": "function handler(ctx, event)\n"
            "  return { body = event.body }\nend\n"},
    "python": {"main.py": "def handler(ctx, event):\n"
               "    return {'body': event['body']}\n"},
    **{f"server ({word})": files for word, files in SERVER.items()}}

BODY = b'["hello"]' + b" " * 55         # 64 bytes, and JSON for node


def deploy_all(platform):
    """Deploy every echo; give {kind: name} of those that could be."""
    script = pathlib.Path(platform.functions, "script")
    script.write_text("#!/bin/sh\nexec cat\n")
    script.chmod(0o755)
    names = {"script": "script"}
    for kind, files in ECHO.items():
        if not files:
            continue
        name = kind.replace(" ", "-").strip(")").replace("(", "")
        try:
            platform.deploy(name, {path: faas.Item(text.encode(), True)
                                   for path, text in files.items()},
                            kind.split()[0])
            names[kind] = name
        except faas.FaasError as error:
            print(f"{kind} is left out: {error}", file=sys.stderr)
    return names


def call(platform, name, times=1):
    for _ in range(times):
        result = faas.whole(platform.invoke(faas.Call(name, BODY)))
        if result.kind != "ok" or b"hello" not in result.body:
            sys.exit(f"{name}: {result}")


def cool(platform, name):
    """End a function's workers, so that its next call has to start one."""
    live = platform.find(name)
    if live.pool:
        live.pool.retire()
        platform.live[name] = platform.bring_to_life(live.fn)


def milliseconds(platform, name, times):
    return peers.milliseconds(lambda: call(platform, name, times)) / times


def worker_memory(platform, name):
    """Give the resident and own megabytes of a function's process."""
    live = platform.find(name)
    if not live.pool:
        return ""
    worker = live.pool.lease(faas.NEVER)[0]
    pid = getattr(worker, "pid", None) or worker.server.pid
    live.pool.give_back(worker)
    resident, own = run.memory(pid)
    return f"{resident:.0f} ({own:.0f})"


def measure(platform, names, rounds, times):
    """Give {kind: [(cold ms, warm ms), ...]}, one pair for each round."""
    found = {kind: [] for kind in names}
    for count in range(rounds):
        for kind in list(names) if count % 2 else list(names)[::-1]:
            name = names[kind]
            cool(platform, name)
            cold = milliseconds(platform, name, 1)
            call(platform, name, 5)
            many = times if platform.find(name).pool else times // 10
            found[kind].append((cold, milliseconds(platform, name, many)))
    return found


def rows_of(platform, names, found):
    yield ("kind", "cold, ms", "by script", "warm, ms", "by script",
           "MB (its own)")
    for kind, pairs in found.items():
        cells = [kind]
        for which in 0, 1:
            times = [pair[which] for pair in pairs]
            ratios = [pair[which] / script[which] for pair, script
                      in zip(pairs, found["script"])]
            cells += [f"{statistics.median(times):.2f}",
                      f"{statistics.median(ratios):.2f}"]
        yield (*cells, worker_memory(platform, names[kind]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true",
                        help="fewer rounds")
    parser.add_argument("--markdown", action="store_true",
                        help="print the block for docs/functions.md")
    args = parser.parse_args()
    where = run.machine()           # before it gives processors away
    faas.share_processor()
    with tempfile.TemporaryDirectory(prefix="faas-kinds-") as home, (
            faas.Platform(home)) as platform:
        names = deploy_all(platform)
        found = measure(platform, names, 3 if args.quick else 15,
                        20 if args.quick else 200)
        rows = list(rows_of(platform, names, found))
    if args.markdown:
        rows.insert(1, ("---",) * len(rows[0]))
        print(f"Measured on {where}\n")
        print("\n".join(f"| {' | '.join(row)} |" for row in rows))
        return
    print(where + "\n")
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in
                        zip(row, widths)).rstrip())


if __name__ == "__main__":
    main()
