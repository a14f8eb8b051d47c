"""Start and stop the gRPC server: devices, content, health, reflection.

    >>> async with serving(home, "127.0.0.1:0") as server:
    ...     print(server.address)

Stopping is graceful: health says NOT_SERVING, no new call is taken, and calls under way get a
few seconds to end. Until there is TLS it listens on loopback only. Never imports torch.
"""

import asyncio
import ipaddress
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from protos.ota.v1 import content_pb2, content_pb2_grpc, device_pb2, device_pb2_grpc
from server.errors import SettingError
from server.home import ServerHome
from server.service import ContentService, DeviceService
from server.signing.online import OnlineSigner

GRACE_S = 5.0

SERVICE_NAMES = (
    device_pb2.DESCRIPTOR.services_by_name["DeviceService"].full_name,
    content_pb2.DESCRIPTOR.services_by_name["ContentService"].full_name,
)

SERVER_OPTIONS = (
    # On by default, and then two servers share a port in silence, each with half of the calls.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True)
class ListenAddress:
    """Where to listen; port 0 lets the system choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "ListenAddress":
        """Read HOST:PORT, with an IPv6 host in brackets.

        Raises:
            SettingError: not an address, or not one of this machine alone.
        """
        match = re.fullmatch(r"(?:\[([^]]+)\]|([^:]+)):(\d{1,5})", text)
        if match is None or int(match[3]) > 65_535:
            raise SettingError(f"expected an address HOST:PORT, found {text!r}")
        host = match[1] or match[2]
        if host == "localhost":
            host = "127.0.0.1"
        if not _is_loopback(host):
            raise SettingError(
                f"expected a loopback host such as 127.0.0.1, because there is no TLS yet, "
                f"found {host!r}"
            )
        return cls(host, int(match[3]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class RunningServer:
    """A server that takes calls; `address` has the port that it really listens on."""

    address: ListenAddress
    grpc_server: grpc.aio.Server
    health: health.aio.HealthServicer

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Say NOT_SERVING, refuse new calls, let those under way end within the grace."""
        await self.health.enter_graceful_shutdown()
        await self.grpc_server.stop(grace_s)


async def start(home: ServerHome, listen: str) -> RunningServer:
    """Start to serve a home.

    Args:
        home: An open home; the caller closes it after the server has stopped.
        listen: HOST:PORT, HOST being of this machine alone; port 0 for any free one.

    Raises:
        SettingError: nothing can listen on the address; the message says why.
        MissingKeyError: a key that signs while serving is not in HOME/keys/online.
    """
    address = ListenAddress.parse(listen)
    _require_bindable(address)
    signer = OnlineSigner(home.registry.signing, home.keys)
    await asyncio.to_thread(signer.require_keys)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    device_pb2_grpc.add_DeviceServiceServicer_to_server(DeviceService(home.registry), server)
    content_pb2_grpc.add_ContentServiceServicer_to_server(
        ContentService(home.registry, home.artifacts, signer), server
    )
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection(
        (*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    try:
        port = server.add_insecure_port(str(address))
    except RuntimeError as error:
        raise SettingError(f"cannot listen on {address}: {error}") from error
    await server.start()
    for name in SERVICE_NAMES:
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    return RunningServer(ListenAddress(address.host, port), server, health_servicer)


@asynccontextmanager
async def serving(
    home: ServerHome, listen: str, grace_s: float = GRACE_S
) -> AsyncIterator[RunningServer]:
    """Serve a home for as long as the block runs."""
    server = await start(home, listen)
    try:
        yield server
    finally:
        await server.stop(grace_s)


async def serve_until_signal(
    home: ServerHome, listen: str, announce: Callable[[ListenAddress], None]
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        home: An open home.
        listen: HOST:PORT.
        announce: Called once, with the real address, when calls are taken.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with serving(home, listen) as server:
        announce(server.address)
        await stopped.wait()


def _require_bindable(address: ListenAddress) -> None:
    """Try the address first: gRPC does not tell why it fails, and prints lines of its own."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        socket.create_server((address.host, address.port), family=family).close()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise SettingError(f"cannot listen on {address}: {reason}") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
