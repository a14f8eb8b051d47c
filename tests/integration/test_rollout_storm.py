"""A fleet in the middle of a rollout, while a server is killed and the database restarts."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from protos.ota.v1 import device_pb2, device_pb2_grpc
from server.clock import utc_now
from server.domain import AttemptState
from server.home import ServerHome
from server.rollouts import operations
from server.rollouts.notation import parse_phases
from server.rollouts.rollout import Policy
from server.rollouts.states import State
from tests import fleet
from tests.integration.served_home import add_generation
from tests.integration.server_process import server_process
from tests.postgres import PostgresServer
from tests.unit.server.values import generation

DEVICES = 60
TIMEOUT_S = 120.0

pytestmark = pytest.mark.timeout(300)


class Storm:
    """Devices that go on whatever happens, each with one attempt at a time."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.installed: dict[str, int] = {}
        self.stubs: dict[tuple[fleet.Credential, str], device_pb2_grpc.DeviceServiceStub] = {}
        self.deadline = time.monotonic() + TIMEOUT_S
        self.lock = threading.Lock()

    def call(self, device: fleet.Credential, method: str, request: object):
        """Ask one server after another until one answers."""
        for turn in range(10_000):
            address = self.addresses[turn % len(self.addresses)]
            try:
                return getattr(self.stub(device, address), method)(request, timeout=10)
            except grpc.RpcError as error:
                assert error.code() in (
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    grpc.StatusCode.ABORTED,
                ), error.details()
            assert time.monotonic() < self.deadline
            time.sleep(0.1)
        raise AssertionError("nobody answers")

    def stub(self, device: fleet.Credential, address: str) -> device_pb2_grpc.DeviceServiceStub:
        """Of the device's one connection to a server."""
        if (device, address) not in self.stubs:
            channel = grpc.secure_channel(address, device.for_channel())
            self.stubs[device, address] = device_pb2_grpc.DeviceServiceStub(channel)
        return self.stubs[device, address]

    def live(self, device_id: str, device: fleet.Credential) -> None:
        """Update until generation 1 runs."""
        self.installed[device_id] = 0
        while self.installed[device_id] != 1:
            request = device_pb2.CheckInRequest()
            request.installed.number = 0
            request.installed.digest = generation(0).digest
            plan = self.call(device, "CheckIn", request).plan
            if not plan.attempt_id:
                assert time.monotonic() < self.deadline
                time.sleep(0.3)
                continue
            for sequence, outcome in (
                (1, device_pb2.OUTCOME_STARTED),
                (2, device_pb2.OUTCOME_STARTED),
                (3, device_pb2.OUTCOME_COMMITTED),
            ):
                report = device_pb2.ReportRequest(
                    attempt_id=plan.attempt_id,
                    sequence=sequence,
                    outcome=outcome,
                    bytes_received=100 * sequence,
                )
                self.call(device, "Report", report)
            with self.lock:
                self.installed[device_id] = 1


@pytest.fixture
def home(postgres: PostgresServer, tmp_path: Path) -> Iterator[ServerHome]:
    made = ServerHome.create(tmp_path / "srv", database=postgres.new_database())
    add_generation(made, 0)
    yield made
    made.close()


def test_a_killed_server_and_a_restarted_database_lose_nothing_and_do_nothing_twice(
    home: ServerHome, postgres: PostgresServer
) -> None:
    database = f"--database={home.registry._engine.url.render_as_string(hide_password=False)}"
    database = database.replace("+psycopg", "")
    with ExitStack() as stack:
        servers = [stack.enter_context(server_process(home.folder, database)) for _ in range(2)]
        storm = Storm([address for _, address in servers])
        pool = stack.enter_context(ThreadPoolExecutor(DEVICES))
        first = operations.create(home.registry, "digits", 0)
        operations.start(home, first, utc_now())
        devices = [fleet.enrolled(home, model="digits") for _ in range(DEVICES)]
        lives = [pool.submit(storm.live, *device) for device in devices]
        add_generation(home, 1)
        made = operations.create(
            home.registry, "digits", 1, parse_phases(["10%", "50%", "100%"]), Policy()
        )
        wait(lambda: len(storm.installed) >= 10)
        rollout_id = operations.start(home, made, utc_now()).rollout_id
        wait(lambda: sum(storm.installed.values()) >= 1)
        servers[0][0].kill()
        postgres.stop()
        time.sleep(1)
        postgres.start()
        _, address = stack.enter_context(server_process(home.folder, database))
        storm.addresses.append(address)
        for life in lives:
            life.result(timeout=TIMEOUT_S)
        wait(lambda: home.registry.rollouts.find(rollout_id).state is State.FINISHED)
    rollout = home.registry.rollouts.find(rollout_id)
    assert rollout.version == 4  # start, two advances, finish: each once
    assert home.registry.device_counts("digits") == {1: DEVICES}
    counts = home.registry.rollouts.counts(rollout)
    assert (counts.on_target, counts.failed, counts.in_flight) == (DEVICES, 0, 0)
    assert home.registry.attempt_counts("digits")[AttemptState.COMMITTED] == DEVICES
    spent = [
        home.registry.check_ins.surroundings({name}, utc_now())[name].used_bytes
        for name in storm.installed
    ]
    assert spent == [300] * DEVICES


def wait(is_so) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
