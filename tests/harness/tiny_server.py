"""Stands in for a single-user server where a test needs none: it answers `/api`, fast to start and small.

Run as `python tiny_server.py --ServerApp.sock=PATH`; the names in its environment are
told at `.../environment`, `.../bytes/N` is N MiB long, and what is posted is counted.
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        *_, what, amount = self.path.split("/")
        names = sorted(os.environ) if amount == "environment" else []
        body = json.dumps({"version": "1", "names": names, "pid": os.getpid()}).encode()
        if what == "bytes":
            body = bytes(int(amount) << 20)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        expected, received = int(self.headers["Content-Length"]), 0
        while data := self.rfile.read1(min(expected - received, 1 << 20)):
            received += len(data)
        body = json.dumps({"received": received}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a unix socket"


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


def main() -> None:
    (path,) = (each.partition("=")[2] for each in sys.argv if each.startswith("--ServerApp.sock="))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    Path(path).unlink(missing_ok=True)
    Server(path, Handler).serve_forever()


if __name__ == "__main__":
    main()
