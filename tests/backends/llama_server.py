"""A stand-in for the program `llama-server`: a real process with faults on demand, without a model.

It takes what it needs of llama-server's arguments and environment. FAKE_LLAMA (JSON object) says how it
behaves: starts (file: one line of JSON for each start, with pid and arguments), last_words and status (prints
them and exits), silent (never listens), loading (seconds of 503), hangs (file: no answer to /health while it
exists), stubborn (ignores SIGTERM), prefixless (knows no --api-prefix), output (text printed when it is up),
shout (length of a line printed after it).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BEHAVIOUR = json.loads(os.environ.get("FAKE_LLAMA", "{}"))
PREFIX = "" if BEHAVIOUR.get("prefixless") else os.environ.get("LLAMA_ARG_API_PREFIX", "")
BORN = time.monotonic()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path != f"{PREFIX}/health":
            return self.answer(404, {"error": {"code": 404, "message": "File Not Found"}})
        while "hangs" in BEHAVIOUR and Path(BEHAVIOUR["hangs"]).exists():
            time.sleep(0.02)
        if time.monotonic() - BORN < BEHAVIOUR.get("loading", 0):
            return self.answer(503, {"error": {"code": 503, "message": "Loading model"}})
        return self.answer(200, {"status": "ok"})

    def answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    if "starts" in BEHAVIOUR:
        with open(BEHAVIOUR["starts"], "a") as file:
            file.write(json.dumps({"pid": os.getpid(), "arguments": sys.argv[1:], "prefix": PREFIX}) + "\n")
    if "last_words" in BEHAVIOUR:
        print(BEHAVIOUR["last_words"], file=sys.stderr, flush=True)
        sys.exit(BEHAVIOUR.get("status", 1))
    if BEHAVIOUR.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if BEHAVIOUR.get("silent"):
        time.sleep(600)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"main: server is listening on http://127.0.0.1:{server.server_address[1]} - starting", flush=True)
    print(BEHAVIOUR.get("output", ""), file=sys.stderr, flush=True)
    print("x" * BEHAVIOUR.get("shout", 0) + "\nend", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
