"""The relay that counts: exact, and robust against whatever its two sides do."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from edge_client.address import ServerAddress
from edge_client.meter import Meter, Traffic

TIMEOUT_S = 20.0


class Peer:
    """A TCP server for one connection after another, each served by a function."""

    def __init__(self, serve) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = ServerAddress("127.0.0.1", self.listener.getsockname()[1])
        self.serve = serve
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(TIMEOUT_S)
                self.serve(connection)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


def read_all(connection: socket.socket) -> bytes:
    content = b""
    while block := connection.recv(1 << 16):
        content += block
    return content


def answer_at_the_end(connection: socket.socket) -> None:
    """Answer only once the other side has ended its direction."""
    content = read_all(connection)
    connection.sendall(content[::-1] * 2)


@pytest.fixture
def peer() -> Iterator[Peer]:
    running = Peer(answer_at_the_end)
    yield running
    running.close()


def connect(meter: Meter) -> socket.socket:
    host, port = meter.address.split(":")
    return socket.create_connection((host, int(port)), TIMEOUT_S)


def exchange(meter: Meter, content: bytes) -> bytes:
    with connect(meter) as device:
        device.sendall(content)
        device.shutdown(socket.SHUT_WR)
        return read_all(device)


def test_every_byte_is_counted_in_both_directions(peer: Peer) -> None:
    with Meter(peer.address) as meter:
        assert exchange(meter, b"abc") == b"cbacba"
        assert exchange(meter, b"x" * 1000) == b"x" * 2000
    assert meter.traffic == Traffic(sent_bytes=1003, received_bytes=2006)


def test_half_close_is_passed_on(peer: Peer) -> None:
    """The peer answers only after our direction has ended; without it this would hang."""
    with Meter(peer.address) as meter:
        assert exchange(meter, b"") == b""
        assert exchange(meter, b"1") == b"11"


def test_more_than_the_sockets_hold_passes_in_both_directions_at_once() -> None:
    def echo(connection: socket.socket) -> None:
        while block := connection.recv(1 << 16):
            connection.sendall(block)

    peer, size = Peer(echo), 8 << 20
    with Meter(peer.address) as meter, connect(meter) as device:
        received = bytearray()
        reader = threading.Thread(target=lambda: received.extend(read_all(device)))
        reader.start()
        device.sendall(bytes(size))
        device.shutdown(socket.SHUT_WR)
        reader.join(TIMEOUT_S)
    peer.close()
    assert len(received) == size
    assert meter.traffic == Traffic(size, size)


def test_many_connections_at_once_are_all_counted(peer: Peer) -> None:
    with Meter(peer.address) as meter:
        threads = [threading.Thread(target=exchange, args=(meter, b"y" * 100)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S)
    assert meter.traffic == Traffic(800, 1600)


def test_an_absent_server_closes_the_connection_and_says_why(peer: Peer) -> None:
    peer.close()
    with Meter(peer.address) as meter:
        with connect(meter) as device:
            assert device.recv(1) == b""
        assert meter.connect_failure == "Connection refused"
        assert meter.traffic == Traffic(0, 0)


def test_a_server_that_comes_back_is_reached_again(peer: Peer) -> None:
    with Meter(peer.address) as meter:
        peer.close()
        with connect(meter) as device:
            assert device.recv(1) == b""
        peer.listener = socket.create_server(("127.0.0.1", peer.address.port))
        peer.thread = threading.Thread(target=peer._run, daemon=True)
        peer.thread.start()
        assert exchange(meter, b"ab") == b"baba"
        assert meter.connect_failure is None


def test_a_server_that_cuts_the_connection_cuts_ours() -> None:
    def cut(connection: socket.socket) -> None:
        connection.recv(1)
        # An abortive close: RST instead of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    peer = Peer(cut)
    with Meter(peer.address) as meter, connect(meter) as device:
        device.sendall(b"x")
        with contextlib.suppress(ConnectionError):
            assert device.recv(1) == b""
    peer.close()


def test_closing_cuts_connections_that_do_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_client.meter.DRAIN_TIMEOUT_S", 0.05)
    arrived, released = threading.Event(), threading.Event()

    def hold(connection: socket.socket) -> None:
        connection.recv(1)
        arrived.set()
        released.wait(TIMEOUT_S)

    peer = Peer(hold)
    meter = Meter(peer.address)
    with connect(meter) as device:
        device.sendall(b"z")
        assert arrived.wait(TIMEOUT_S)
        meter.close()
        assert device.recv(1) == b""
    released.set()
    peer.close()


def test_closing_leaves_no_thread(peer: Peer) -> None:
    before = set(threading.enumerate())
    with Meter(peer.address) as meter:
        exchange(meter, b"abc")
    assert set(threading.enumerate()) <= before


def test_nobody_can_connect_after_closing(peer: Peer) -> None:
    with Meter(peer.address) as meter:
        pass
    with pytest.raises(ConnectionRefusedError):
        connect(meter)
