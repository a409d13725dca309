"""A proxy before an S3 server that fails as services do, at random from a seed."""

import http.client
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LENGTHS = ("content-length", "transfer-encoding", "connection")


class FaultyService:
    """Passes requests on to a server; a share is refused, answered late, or carried out and the answer lost."""

    def __init__(self, host: str, port: int, share: float = 0.2, seed: int = 0, late_seconds: float = 0.05):
        self.behind, self.share, self.late_seconds = (host, port), share, late_seconds
        self.faults: dict[str, int] = {}
        self.asked = 0
        self._rng, self._guard = random.Random(seed), threading.Lock()
        self.server = _Server(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "FaultyService":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fault(self) -> str | None:
        """What goes wrong with the next request."""
        with self._guard:
            self.asked += 1
            if self._rng.random() >= self.share:
                return None
            chosen = self._rng.choice(["500", "503", "late", "lost"])
            self.faults[chosen] = self.faults.get(chosen, 0) + 1
            return chosen

    def passed_on(self, method: str, path: str, headers: dict, body: bytes) -> tuple[int, list, bytes]:
        """The answer of the server behind."""
        connection = http.client.HTTPConnection(*self.behind, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    """Threads that do not outlive the test, and clients that may be killed."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that is gone."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _handler(service: FaultyService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = service.fault()
            if fault == "late":
                time.sleep(service.late_seconds)
            status, headers, data = 500, [], b""
            if fault not in ("500", "503"):
                status, headers, data = service.passed_on(self.command, self.path, dict(self.headers), body)
            if fault in ("500", "503", "lost"):
                status, headers, data = (503 if fault == "503" else 500), [], _refusal(fault)
            self.send_response(status)
            lengths = {name.lower(): value for name, value in headers}
            for name, value in headers:
                if name.lower() not in LENGTHS:
                    self.send_header(name, value)
            is_head = self.command == "HEAD"
            self.send_header("Content-Length", lengths.get("content-length", "0") if is_head else str(len(data)))
            self.end_headers()
            if not is_head:
                self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _refusal(fault: str) -> bytes:
    code = "SlowDown" if fault == "503" else "InternalError"
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>try again</Message></Error>".encode()
