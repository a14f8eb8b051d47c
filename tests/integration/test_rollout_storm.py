"""A fleet of 200 in the middle of a rollout, while a server is killed and the database restarts."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from protos.ota.v1 import device_pb2, device_pb2_grpc
from server.clock import utc_now
from server.domain import AttemptState
from server.home import ServerHome
from server.publishing import publish
from server.rollouts import operations
from server.rollouts.notation import parse_phases
from server.rollouts.rollout import OnFailure, Policy, Rollout
from server.rollouts.states import State
from tests import fleet
from tests.integration.server_process import server_process
from tests.postgres import PostgresServer
from tests.unit.edge_client.models import CARD, GRAPH, a_little_later, generation, snapshot

DEVICES = 200
CALLERS = 40
TIMEOUT_S = 300.0
MODEL = "digits"

pytestmark = pytest.mark.timeout(600)


@dataclass
class Device:
    """What a device knows of itself; `reached` is every generation that it ever ran."""

    name: str
    credential: fleet.Credential
    digest: bytes
    installed: int = 0
    reached: list[int] = field(default_factory=list)


class Storm:
    """Devices that go on whatever happens, each with one attempt at a time.

    Args:
        devices: All of the fleet; they run generation 0.
    """

    def __init__(self, devices: list[Device]) -> None:
        self.addresses: list[str] = []
        self.devices = devices
        self.is_bad: Callable[[Device, int], bool] = lambda device, generation: False
        self.deadline = time.monotonic() + TIMEOUT_S
        self._stubs: dict[tuple[str, str], device_pb2_grpc.DeviceServiceStub] = {}
        self._ended = threading.Event()

    @contextmanager
    def living(self) -> Iterator[list[Future[None]]]:
        """Let all devices live, in turns, until the block ends."""
        with ThreadPoolExecutor(CALLERS) as pool:
            try:
                yield [pool.submit(self._live, first) for first in range(CALLERS)]
            finally:
                self._ended.set()

    def runs(self) -> Mapping[int, int]:
        """How many devices run which generation."""
        return Counter(device.installed for device in self.devices)

    def _live(self, first: int) -> None:
        own = self.devices[first::CALLERS]
        while not self._ended.wait(0.2):
            for device in own:
                self._update(device)

    def _update(self, device: Device) -> None:
        request = device_pb2.CheckInRequest()
        request.installed.number = device.installed
        request.installed.digest = device.digest
        plan = self._call(device, "CheckIn", request).plan
        if not plan.attempt_id:
            return
        fails = self.is_bad(device, plan.generation)
        end = device_pb2.OUTCOME_FAILED if fails else device_pb2.OUTCOME_COMMITTED
        outcomes = (device_pb2.OUTCOME_STARTED, device_pb2.OUTCOME_STARTED, end)
        for sequence, outcome in enumerate(outcomes, 1):
            report = device_pb2.ReportRequest(
                attempt_id=plan.attempt_id,
                sequence=sequence,
                outcome=outcome,
                code="UNHEALTHY" if outcome == device_pb2.OUTCOME_FAILED else "",
                bytes_received=100 * sequence,
            )
            is_withdrawn = self._call(device, "Report", report).is_withdrawn
            if is_withdrawn and sequence < len(outcomes):
                return
        if not fails:
            device.installed, device.digest = plan.generation, plan.digest
            device.reached.append(plan.generation)

    def _call(self, device: Device, method: str, request: object):
        """Ask one server after another until one answers."""
        while not self._ended.is_set():
            for address in list(self.addresses):
                try:
                    return getattr(self._stub(device, address), method)(request, timeout=20)
                except grpc.RpcError as error:
                    assert error.code() in (
                        grpc.StatusCode.UNAVAILABLE,
                        grpc.StatusCode.DEADLINE_EXCEEDED,
                        grpc.StatusCode.ABORTED,
                        grpc.StatusCode.RESOURCE_EXHAUSTED,
                    ), error.details()
            assert time.monotonic() < self.deadline
            time.sleep(0.1)
        return device_pb2.CheckInResponse() if method == "CheckIn" else device_pb2.ReportResponse()

    def _stub(self, device: Device, address: str) -> device_pb2_grpc.DeviceServiceStub:
        """Of the device's one connection to a server."""
        if (device.name, address) not in self._stubs:
            channel = grpc.secure_channel(address, device.credential.for_channel())
            self._stubs[device.name, address] = device_pb2_grpc.DeviceServiceStub(channel)
        return self._stubs[device.name, address]


@dataclass
class Site:
    """Two servers over one database, and a way to hurt both."""

    home: ServerHome
    postgres: PostgresServer
    stack: ExitStack
    storm: Storm
    processes: list = field(default_factory=list)

    def serve(self) -> None:
        url = self.home.registry._engine.url.render_as_string(hide_password=False)
        option = f"--database={url.replace('+psycopg', '')}"
        log = self.home.folder / f"server-{len(self.processes)}.log"
        process, address = self.stack.enter_context(
            server_process(self.home.folder, option, log=log)
        )
        self.processes.append(process)
        self.storm.addresses.append(address)

    def hurt(self) -> None:
        """Kill a server, restart the database, and start another server."""
        self.processes[0].kill()
        self.postgres.stop()
        time.sleep(1)
        self.postgres.start()
        self.serve()

    def roll_out(self, target: int, *phases: str, **policy: object) -> Rollout:
        made = operations.create(
            self.home.registry, MODEL, target, parse_phases(phases), Policy(**policy)
        )
        return operations.start(self.home, made, utc_now())

    def state(self, rollout: Rollout) -> State:
        return self.home.registry.rollouts.find(rollout.rollout_id).state


@pytest.fixture
def site(postgres: PostgresServer, tmp_path: Path) -> Iterator[Site]:
    """Generation 0 on 200 devices, generation 1 published, two servers."""
    home = ServerHome.create(tmp_path / "srv", database=postgres.new_database())
    digest = publish(home, MODEL, snapshot(generation(0)), graph=GRAPH, card=CARD).digest
    names = [f"device-{number}" for number in range(DEVICES)]
    storm = Storm([Device(n, fleet.enrolled(home, n, MODEL)[1], digest) for n in names])
    with ExitStack() as stack:
        made = Site(home, postgres, stack, storm)
        publish(home, MODEL, a_little_later(generation(0), 1)[1])
        for _ in range(2):
            made.serve()
        storm.deadline = time.monotonic() + TIMEOUT_S
        yield made
    home.close()


def wait(is_so: Callable[[], bool], lives: list[Future[None]]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not is_so():
        for life in lives:
            if life.done():
                life.result()
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def test_a_killed_server_and_a_restarted_database_lose_nothing_and_do_nothing_twice(
    site: Site,
) -> None:
    registry = site.home.registry
    rollout = site.roll_out(1, "10%", "50%", "100%")
    with site.storm.living() as lives:
        wait(lambda: site.storm.runs()[1] >= 1, lives)
        site.hurt()
        wait(lambda: site.storm.runs()[1] == DEVICES, lives)
        wait(lambda: site.state(rollout) is State.FINISHED, lives)
    assert all(device.reached == [1] for device in site.storm.devices)
    found = registry.rollouts.find(rollout.rollout_id)
    assert found.version == 4  # start, two advances, finish: each once
    assert registry.device_counts(MODEL) == {1: DEVICES}
    counts = registry.rollouts.counts(found)
    assert (counts.on_target, counts.failed, counts.in_flight) == (DEVICES, 0, 0)
    assert registry.attempt_counts(MODEL)[AttemptState.COMMITTED] == DEVICES
    around = registry.check_ins.surroundings([one.name for one in site.storm.devices], utc_now())
    # A restart of the database may cost a device an attempt that it never heard of, but no bytes.
    assert {one.used_bytes for one in around.values()} == {300}


def test_a_bad_generation_pauses_itself_and_no_device_stays_on_it(site: Site) -> None:
    """It breaks every third device: those report it, the others took it and are brought back."""
    registry = site.home.registry
    site.storm.is_bad = lambda device, number: number == 1 and int(device.name[7:]) % 3 == 0
    rollout = site.roll_out(
        1, "50%", "100%", minimum_sample=20, failure_threshold=0.2, on_failure=OnFailure.ROLLBACK
    )
    with site.storm.living() as lives:
        wait(lambda: site.state(rollout) is State.PAUSED_THRESHOLD, lives)
        site.hurt()
        wait(lambda: registry.rollouts.undoing(rollout.rollout_id) is not None, lives)
        undo = registry.rollouts.undoing(rollout.rollout_id)
        assert undo is not None
        wait(lambda: site.state(undo) is State.FINISHED and not site.storm.runs()[1], lives)
    took = [device for device in site.storm.devices if device.reached]
    assert took
    assert all(device.reached == [1, 2] for device in took)
    assert site.storm.runs() == {0: DEVICES - len(took), 2: len(took)}
    assert [one.number for one in registry.generations(MODEL)] == [0, 1, 2]
    assert registry.generation(MODEL, 2).digest == registry.generation(MODEL, 0).digest
    assert registry.device_counts(MODEL) == {0: DEVICES - len(took), 2: len(took)}
    counts = registry.rollouts.counts(registry.rollouts.find(rollout.rollout_id))
    # It was stopped in time: what more failed was under way already.
    assert 20 <= counts.failed + len(took) < DEVICES / 2 + CALLERS
    assert site.state(rollout) is State.PAUSED_THRESHOLD
