"""Count every byte between this device and its server, exactly.

gRPC does not say what it puts on the wire. So the channel connects to a relay on loopback, in
this process, and the relay connects to the server: what passes is TCP payload, with
TLS, HTTP/2 framing, headers, keepalives and retries included. (IP and TCP headers are not counted.)

A connection is two threads, one a direction, that copy until their source ends and then pass
the end on (half-close). If the server cannot be reached, the device's side is closed at once,
so that the channel sees a failed connection as it would without a relay.

    >>> with Meter(ServerAddress.parse("127.0.0.1:50051")) as meter:
    ...     channel = grpc.insecure_channel(meter.address)
    ...     ...
    ...     channel.close()
    >>> meter.traffic
    Traffic(sent_bytes=1843, received_bytes=40231)
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from edge_client.address import ServerAddress

BUFFER_BYTES = 1 << 16
CONNECT_TIMEOUT_S = 10.0
DRAIN_TIMEOUT_S = 2.0
"""How long `close` waits for connections that are about to end by themselves."""


@dataclass(frozen=True)
class Traffic:
    """TCP payload in both directions, seen from the device."""

    sent_bytes: int = 0
    received_bytes: int = 0


class Meter:
    """A relay to one server that counts what it passes on. Close it after the channel."""

    def __init__(self, server: ServerAddress) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._sent_bytes = 0
        self._received_bytes = 0
        self._connect_failure: str | None = None
        self._sockets: set[socket.socket] = set()
        self._links: set[threading.Thread] = set()
        self._acceptor = threading.Thread(target=self._accept, name="meter", daemon=True)
        self._acceptor.start()

    @property
    def address(self) -> str:
        """Where to connect instead of to the server: HOST:PORT."""
        return f"127.0.0.1:{self._port}"

    @property
    def traffic(self) -> Traffic:
        """What has passed so far."""
        with self._lock:
            return Traffic(self._sent_bytes, self._received_bytes)

    @property
    def connect_failure(self) -> str | None:
        """Why the server could not be reached the last time; None when it could."""
        return self._connect_failure

    def close(self) -> None:
        """Accept nothing more, let connections end, cut those that do not."""
        # close() alone would not wake a thread that is blocked in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        patience_ends = time.monotonic() + DRAIN_TIMEOUT_S
        for link in list(self._links):
            link.join(max(0.0, patience_ends - time.monotonic()))
        with self._lock:
            _cut(*self._sockets)
        for link in list(self._links):
            link.join()

    def __enter__(self) -> "Meter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                device_side, _ = self._listener.accept()
            except OSError:
                return
            link = threading.Thread(target=self._relay, args=(device_side,), daemon=True)
            self._links = {known for known in self._links if known.is_alive()} | {link}
            link.start()

    def _relay(self, device_side: socket.socket) -> None:
        """Serve one connection of the device until both directions have ended."""
        with device_side:
            server_side = self._connect()
            if server_side is None:
                return
            with server_side, self._known(device_side, server_side):
                downward = threading.Thread(
                    target=_copy,
                    args=(server_side, device_side, self._count_received, _ignore),
                    daemon=True,
                )
                downward.start()
                _copy(device_side, server_side, _ignore, self._count_sent)
                downward.join()

    def _connect(self) -> socket.socket | None:
        try:
            server_side = socket.create_connection(
                (self._server.host, self._server.port), CONNECT_TIMEOUT_S
            )
        except OSError as error:
            self._connect_failure = error.strerror or str(error)
            return None
        self._connect_failure = None
        server_side.settimeout(None)
        return server_side

    @contextlib.contextmanager
    def _known(self, *sockets: socket.socket) -> Iterator[None]:
        """Let `close` cut these sockets while the block runs."""
        for side in sockets:
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._sockets.update(sockets)
        try:
            yield
        finally:
            with self._lock:
                self._sockets.difference_update(sockets)

    def _count_sent(self, count: int) -> None:
        with self._lock:
            self._sent_bytes += count

    def _count_received(self, count: int) -> None:
        with self._lock:
            self._received_bytes += count


def _copy(
    source: socket.socket,
    sink: socket.socket,
    on_read: Callable[[int], None],
    on_write: Callable[[int], None],
) -> None:
    """Copy until the source ends, then end the sink; a failure of either side ends both.

    What is counted is what the network has taken or given: reads from the server, writes to it.
    """
    try:
        while block := source.recv(BUFFER_BYTES):
            on_read(len(block))
            _send(sink, block, on_write)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        _cut(source, sink)


def _send(sink: socket.socket, block: bytes, on_write: Callable[[int], None]) -> None:
    """Send all of a block.

    Bytes count before they are sent, and what was not taken is given back: so an answer never
    arrives before the bytes that it answers are counted.
    """
    rest = memoryview(block)
    while rest:
        on_write(len(rest))
        taken = 0
        try:
            taken = sink.send(rest)
        finally:
            on_write(taken - len(rest))
        rest = rest[taken:]


def _cut(*sockets: socket.socket) -> None:
    """Wake whoever is blocked on these sockets; they close them themselves."""
    for side in sockets:
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)


def _ignore(count: int) -> None:
    """Count nothing: this end of a copy is between the channel and the relay."""
