"""Start and stop the gRPC server: devices, content, enrolment, health, reflection.

    >>> async with serving(home, "127.0.0.1:0") as server:
    ...     print(server.address)

Stopping is graceful: health says NOT_SERVING, no new call is taken, and calls under way get a
few seconds to end. There is TLS alone, and every client shows a certificate (server.identity).
Never imports torch.
"""

import asyncio
import gc
import random
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from protos.ota.v1 import (
    content_pb2,
    content_pb2_grpc,
    device_pb2,
    device_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    operator_pb2,
    operator_pb2_grpc,
)
from server.errors import SettingError
from server.home import ServerHome
from server.identity.credentials import server_credentials
from server.identity.gate import Gate
from server.identity.operator_service import OperatorService
from server.identity.service import EnrollmentService
from server.limits.guard import Guard
from server.limits.settings import Limits
from server.limits.turns import Turns
from server.listening import ListenAddress, cannot_listen
from server.observability.calls import Calls
from server.observability.census import FleetCollector
from server.observability.endpoint import Endpoint
from server.observability.metrics import Metrics
from server.registry.audit import SERVER
from server.registry.identities import AUTHORITY, Identities
from server.roll_ups import LEAST_DEVICES, keep_rolling_up
from server.rollouts.ticking import keep_ticking, tick
from server.service import ContentService, DeviceService
from server.signing.online import OnlineSigner

GRACE_S = 5.0
DEFAULT_LIMITS = Limits()

SERVICE_NAMES = (
    device_pb2.DESCRIPTOR.services_by_name["DeviceService"].full_name,
    content_pb2.DESCRIPTOR.services_by_name["ContentService"].full_name,
    enrollment_pb2.DESCRIPTOR.services_by_name["EnrollmentService"].full_name,
    operator_pb2.DESCRIPTOR.services_by_name["OperatorService"].full_name,
)

SERVER_OPTIONS = (
    # On by default, and then two servers share a port in silence, each with half of the calls.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True)
class RunningServer:
    """A server that takes calls; the addresses have the ports that it really listens on."""

    address: ListenAddress
    grpc_server: grpc.aio.Server
    health: health.aio.HealthServicer
    metrics: ListenAddress | None = None

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Say NOT_SERVING, refuse new calls, let those under way end within the grace."""
        await self.health.enter_graceful_shutdown()
        await self.grpc_server.stop(grace_s)


async def start(
    home: ServerHome,
    listen: str,
    *,
    limits: Limits = DEFAULT_LIMITS,
    metrics: Metrics | None = None,
) -> RunningServer:
    """Start to serve a home.

    Args:
        home: An open home; the caller closes it after the server has stopped.
        listen: HOST:PORT, port 0 for any free one.
        limits: What the server takes.
        metrics: Where it counts; None: nobody looks.

    Raises:
        SettingError: nothing can listen on the address; the message says why.
        HomeError: the home's keys are missing or damaged.
        MissingKeyError: a key that signs while serving is not in HOME/keys/online.
    """
    address = ListenAddress.parse(listen)
    _require_bindable(address)
    authority = home.authority()
    signer = OnlineSigner(home.registry.signing, home.keys)
    await asyncio.to_thread(signer.require_keys)
    server = grpc.aio.server(
        interceptors=(
            Calls(metrics or Metrics()),
            Gate(authority, home.registry, Turns(limits)),
            Guard(limits),
        ),
        options=(*SERVER_OPTIONS, *limits.grpc_options()),
    )
    enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(
        EnrollmentService(home.registry, authority, limits.pending_enrolments), server
    )
    device_pb2_grpc.add_DeviceServiceServicer_to_server(
        DeviceService(home.registry, limits.check_ins), server
    )
    content_pb2_grpc.add_ContentServiceServicer_to_server(
        ContentService(home.registry, home.artifacts, signer), server
    )
    operator_pb2_grpc.add_OperatorServiceServicer_to_server(OperatorService(home.registry), server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection(
        (*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    try:
        port = server.add_secure_port(str(address), server_credentials(authority))
    except RuntimeError as error:
        raise SettingError(f"cannot listen on {address}: {error}") from error
    await server.start()
    for name in SERVICE_NAMES:
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    return RunningServer(ListenAddress(address.host, port), server, health_servicer)


@asynccontextmanager
async def serving(
    home: ServerHome,
    listen: str,
    grace_s: float = GRACE_S,
    *,
    limits: Limits = DEFAULT_LIMITS,
    metrics_at: str | None = None,
    roll_ups_for: int | None = LEAST_DEVICES,
) -> AsyncIterator[RunningServer]:
    """Serve a home, and let its rollouts go on, for as long as the block runs.

    Args:
        home: As for `start`.
        listen: As for `start`.
        grace_s: What calls under way get to end.
        limits: What the server takes.
        metrics_at: HOST:PORT of metrics over HTTP, or a port of loopback; None: no metrics.
        roll_ups_for: Chains are rolled up where so many devices need one; None: never.

    Raises:
        As `start`.
    """
    home = home.acting_as(SERVER)
    metrics = Metrics()
    with _endpoint(home, metrics, metrics_at) as endpoint:
        server = await start(home, listen, limits=limits, metrics=metrics)
        if endpoint is not None:
            server = replace(server, metrics=ListenAddress(endpoint.host, endpoint.port))
        stopped = asyncio.Event()
        spread = random.SystemRandom()
        around_one = partial(spread.uniform, 0.5, 1.5)
        look = metrics.timed(tick)
        tasks = [asyncio.create_task(keep_ticking(home, stopped, around_one, look=look))]
        if roll_ups_for is not None:
            rolling_up = keep_rolling_up(home, stopped, around_one, roll_ups_for)
            tasks.append(asyncio.create_task(rolling_up))
        try:
            yield server
        finally:
            if endpoint is not None:
                endpoint.drain()
            await server.stop(grace_s)
            stopped.set()
            await asyncio.gather(*tasks)


@contextmanager
def _endpoint(home: ServerHome, metrics: Metrics, at: str | None) -> Iterator[Endpoint | None]:
    """Metrics over HTTP, where they are wanted."""
    if at is None:
        yield None
        return
    address = ListenAddress.parse_local(at)
    _require_bindable(address)
    metrics.registry.register(FleetCollector(home.registry))
    checks = {
        "registry": lambda: Identities(home.registry).setting(AUTHORITY),
        "artifacts": home.artifacts.require_reachable,
    }
    endpoint = Endpoint.start(address.host, address.port, metrics.registry, checks)
    try:
        yield endpoint
    finally:
        endpoint.stop()


async def serve_until_signal(
    home: ServerHome,
    listen: str,
    announce: Callable[[RunningServer], None],
    *,
    limits: Limits = DEFAULT_LIMITS,
    metrics_at: str | None = None,
    roll_ups_for: int | None = LEAST_DEVICES,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        home: As for `serving`, as all others but one.
        listen: HOST:PORT.
        announce: Called once, with the real addresses, when calls are taken.
        limits: What the server takes.
        metrics_at: Where metrics are.
        roll_ups_for: As for `serving`.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with serving(
        home, listen, limits=limits, metrics_at=metrics_at, roll_ups_for=roll_ups_for
    ) as server:
        # What is there now stays: nothing is to look through it for garbage again and again.
        gc.collect()
        gc.freeze()
        announce(server)
        await stopped.wait()


def _require_bindable(address: ListenAddress) -> None:
    """Try the address first: gRPC does not tell why it fails, and prints lines of its own."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        socket.create_server((address.host, address.port), family=family).close()
    except OSError as error:
        raise cannot_listen(address, error) from error
