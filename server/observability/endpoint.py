"""What is read over HTTP: /metrics, /healthz and /readyz. Plain HTTP, for a trusted network.

Served by threads of their own: a server whose event loop is busy can still be looked at.

    >>> endpoint = Endpoint.start("127.0.0.1", 9464, metrics.registry, checks)
    >>> endpoint.port, endpoint.stop()
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from server.errors import ServerError

TEXT = "text/plain; charset=utf-8"
REQUEST_TIMEOUT_S = 10.0
MOST_REQUESTS = 16
CHECK_TIMEOUT_S = 5.0
KEEP_CHECKS_S = 1.0

Check = Callable[[], object]
"""Asks something that a server needs; raises ServerError where it does not answer."""


class Readiness:
    """Whether a server can do its work now.

    Args:
        checks: What it needs, by name.
        timeout_s: How long an answer may take.
    """

    def __init__(self, checks: Mapping[str, Check], timeout_s: float = CHECK_TIMEOUT_S) -> None:
        self._checks = checks
        self._timeout_s = timeout_s
        # A check that hangs keeps its thread; further ones wait behind it and are late, too.
        self._threads = ThreadPoolExecutor(len(checks), thread_name_prefix="ready")
        self._lock = threading.Lock()
        self._found: tuple[float, dict[str, str]] = (float("-inf"), {})
        self.is_stopping = False

    def failures(self) -> dict[str, str]:
        """Why it cannot, by name; empty where it can."""
        if self.is_stopping:
            return {"server": "it is stopping"}
        with self._lock:
            if time.monotonic() - self._found[0] > KEEP_CHECKS_S:
                self._found = (time.monotonic(), self._ask())
            return self._found[1]

    def close(self) -> None:
        """Wait for nobody."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self) -> dict[str, str]:
        deadline = time.monotonic() + self._timeout_s
        asked = {name: self._threads.submit(check) for name, check in self._checks.items()}
        failures = {}
        for name, answer in asked.items():
            try:
                answer.result(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                failures[name] = f"no answer within {self._timeout_s:g} s"
            except ServerError as error:
                failures[name] = str(error)
        return failures


class Endpoint:
    """A running HTTP server."""

    def __init__(self, server: ThreadingHTTPServer, readiness: Readiness) -> None:
        self._server = server
        self._readiness = readiness
        self._thread = threading.Thread(
            target=server.serve_forever, name="metrics", kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    @classmethod
    def start(
        cls, host: str, port: int, registry: CollectorRegistry, checks: Mapping[str, Check]
    ) -> "Endpoint":
        """Serve.

        Args:
            host: An address of this machine.
            port: 0 for any free one.
            registry: What /metrics shows.
            checks: What /readyz asks.

        Raises:
            OSError: nothing can listen there.
        """
        readiness = Readiness(checks)
        pages: dict[str, Callable[[], Page]] = {
            "/metrics": lambda: (
                HTTPStatus.OK,
                CONTENT_TYPE_PLAIN_0_0_4,
                generate_latest(registry),
            ),
            "/healthz": lambda: (HTTPStatus.OK, TEXT, b"ok\n"),
            "/readyz": lambda: _ready_page(readiness.failures()),
        }
        kind = _HttpServer6 if ":" in host else _HttpServer
        return cls(kind((host, port), _handler(pages)), readiness)

    @property
    def host(self) -> str:
        """The address that it listens on."""
        return str(self._server.server_address[0])

    @property
    def port(self) -> int:
        """Where it really listens."""
        return int(self._server.server_address[1])

    def drain(self) -> None:
        """Say from now on that the server is not ready: it stops."""
        self._readiness.is_stopping = True

    def stop(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._readiness.close()


Page = tuple[HTTPStatus, str, bytes]


def _ready_page(failures: Mapping[str, str]) -> Page:
    if not failures:
        return HTTPStatus.OK, TEXT, b"ready\n"
    told = "".join(f"{name}: {reason}\n" for name, reason in failures.items())
    return HTTPStatus.SERVICE_UNAVAILABLE, TEXT, told.encode()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to say a word about."""


class _HttpServer6(_HttpServer):
    address_family = socket.AF_INET6


def _handler(pages: Mapping[str, Callable[[], Page]]) -> type[BaseHTTPRequestHandler]:
    free = threading.BoundedSemaphore(MOST_REQUESTS)

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_S
        server_version = "ota-server"
        sys_version = ""

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            if page is None:
                known = ", ".join(pages)
                return self._answer(HTTPStatus.NOT_FOUND, TEXT, f"here are: {known}\n".encode())
            if not free.acquire(blocking=False):
                return self._answer(HTTPStatus.SERVICE_UNAVAILABLE, TEXT, b"too many requests\n")
            try:
                return self._answer(*page())
            finally:
                free.release()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Scrapes are not worth a line each."""

        def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(ConnectionError, TimeoutError):
                    self.wfile.write(content)

    return Handler
