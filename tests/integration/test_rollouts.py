"""Rollouts with `ota-server serve` as processes and the real edge client."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest

from diffcodec import ParameterSet, encode, lossless_diff
from edge_client import EdgeHome, UpdateResult, enroll, update
from edge_client.address import ServerAddress
from edge_client.enrollment import Wanted
from edge_client.errors import UnhealthyError, WithdrawnError
from protos.ota.v1 import device_pb2, device_pb2_grpc
from server.clock import utc_now
from server.home import ServerHome
from server.publishing import publish
from server.rollouts import operations
from server.rollouts.notation import parse_phases
from server.rollouts.rollout import OnFailure, Policy, Rollout
from server.rollouts.states import State
from server.service import DeviceService
from server.serving import serving
from tests import fleet
from tests.integration.served_home import home_with
from tests.integration.server_process import ca_of, server_process
from tests.postgres import PostgresServer
from tests.unit.edge_client.models import CARD, GRAPH, a_little_later, generation, snapshot

TIMEOUT_S = 40.0
MODEL = "digits"


def without_meaning(base: ParameterSet) -> bytes:
    """A diff to weights that load, and then answer nothing."""
    arrays = {name: array.copy() for name, array in base.arrays.items()}
    arrays["speech.weight"][:] = np.nan
    return encode(lossless_diff(base, ParameterSet.from_arrays(arrays)), base)


class Served:
    """A home that processes serve, and devices of it."""

    def __init__(self, home: ServerHome, folder: Path) -> None:
        self.home = home
        self.folder = folder
        fleet.open_to_all(home)

    def roll_out(self, *phases: str, target: int = 1, **policy: object) -> Rollout:
        made = operations.create(
            self.home.registry,
            MODEL,
            target,
            parse_phases(phases or ("100%",)),
            replace(Policy(minimum_sample=2), **policy),
        )
        return operations.start(self.home, made, utc_now())

    def device(self, name: str, address: str) -> EdgeHome:
        made = EdgeHome(self.folder / name)
        self.enroll(made, address)
        return made

    def enroll(self, device: EdgeHome, address: str) -> None:
        """Also: let it follow another address."""
        wanted, given = Wanted(MODEL, device.path.name), ca_of(self.home.folder)
        enroll(device, ServerAddress.parse(address), wanted, given)

    def now(self, rollout: Rollout) -> Rollout:
        return self.home.registry.rollouts.find(rollout.rollout_id)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Generation 0."""
    home = ServerHome.create(tmp_path / "srv")
    publish(home, MODEL, snapshot(generation(0)), graph=GRAPH, card=CARD)
    yield Served(home, tmp_path)
    home.close()


@pytest.fixture
def of_two_servers(
    postgres: PostgresServer, tmp_path: Path
) -> Iterator[tuple[Served, list[tuple[subprocess.Popen[str], str]]]]:
    """Generation 0, served by two processes over one database."""
    url = postgres.new_database()
    home = ServerHome.create(tmp_path / "srv", database=url)
    publish(home, MODEL, snapshot(generation(0)), graph=GRAPH, card=CARD)
    with ExitStack() as stack:
        option = f"--database={url}"
        yield (
            Served(home, tmp_path),
            [stack.enter_context(server_process(home.folder, option)) for _ in range(2)],
        )
    home.close()


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def runs(result: UpdateResult) -> int:
    assert result.after is not None
    return result.after.number


def fail_as(address: str, device: EdgeHome, code: str) -> None:
    """Take an offer as a device would, and say that it failed."""
    record = device.slots.installed()
    assert record is not None
    shown = device.identity.credential()
    credentials = grpc.ssl_channel_credentials(shown.authority, shown.key, shown.certificate)
    with grpc.secure_channel(address, credentials) as channel:
        stub = device_pb2_grpc.DeviceServiceStub(channel)
        request = device_pb2.CheckInRequest()
        request.installed.number = record.record.generation.number
        request.installed.digest = record.record.generation.digest
        plan = stub.CheckIn(request, timeout=TIMEOUT_S).plan
        assert plan.rollout_id
        report = device_pb2.ReportRequest(
            attempt_id=plan.attempt_id,
            sequence=1,
            outcome=device_pb2.OUTCOME_FAILED,
            code=code,
        )
        stub.Report(report, timeout=TIMEOUT_S)


def test_a_bad_generation_pauses_itself_and_every_device_keeps_the_old_one(served: Served) -> None:
    with server_process(served.home.folder) as (_, address):
        devices = [served.device(f"device-{number}", address) for number in range(4)]
        assert [runs(update(device)) for device in devices] == [0] * 4
        publish(served.home, MODEL, without_meaning(generation(0)), graph=GRAPH, card=CARD)
        rollout = served.roll_out()
        for device in devices[:2]:
            with pytest.raises(UnhealthyError):
                update(device)
        assert served.now(rollout).state is State.PAUSED_THRESHOLD
        assert [runs(update(device)) for device in devices] == [0] * 4
    failures = served.home.registry.rollouts.failures(rollout.rollout_id)
    assert failures == {"UNHEALTHY": 2}


def test_devices_that_took_a_bad_generation_before_it_was_known_are_brought_back(
    served: Served,
) -> None:
    with server_process(served.home.folder) as (_, address):
        devices = [served.device(f"device-{number}", address) for number in range(4)]
        for device in devices:
            update(device)
        publish(served.home, MODEL, a_little_later(generation(0), 1)[1])
        rollout = served.roll_out(on_failure=OnFailure.ROLLBACK, minimum_sample=4)
        assert [runs(update(device)) for device in devices[:2]] == [1, 1]
        for device in devices[2:]:
            fail_as(address, device, "UNHEALTHY")
        assert served.now(rollout).state is State.PAUSED_THRESHOLD
        until(lambda: served.home.registry.rollouts.undoing(rollout.rollout_id) is not None)
        until(lambda: all(runs(update(device)) == 2 for device in devices[:2]))
        assert [runs(update(device)) for device in devices[2:]] == [0, 0]
        for device in devices[:2]:
            record = device.slots.installed()
            assert record is not None
            assert record.record.generation.digest == generation(0).digest()
        undo = served.home.registry.rollouts.undoing(rollout.rollout_id)
        assert undo is not None
        until(lambda: served.now(undo).state is State.FINISHED)


def test_a_device_asks_for_leave_and_an_aborted_generation_is_not_activated(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server_process(served.home.folder) as (_, address):
        device = served.device("device", address)
        update(device)
        publish(served.home, MODEL, a_little_later(generation(0), 1)[1])
        rollout = served.roll_out()

        def abort_then_find_healthy(slot: object) -> None:
            operations.abort(served.home.registry, served.now(rollout), utc_now())

        monkeypatch.setattr("edge_client.updater.check_health", abort_then_find_healthy)
        with pytest.raises(WithdrawnError, match="generation 1 is not wanted any more"):
            update(device)
        assert runs(update(device)) == 0
    assert served.now(rollout).state is State.ABORTED
    assert served.home.registry.attempt_counts(MODEL) == {"committed": 1, "superseded": 1}


def test_a_server_that_is_killed_between_two_ticks_loses_nothing(served: Served) -> None:
    with server_process(served.home.folder) as (process, address):
        devices = [served.device(f"device-{number}", address) for number in range(4)]
        for device in devices:
            update(device)
        publish(served.home, MODEL, a_little_later(generation(0), 1)[1])
        rollout = served.roll_out("50%", "100%", minimum_sample=1)
        process.send_signal(signal.SIGSTOP)  # no tick and no answer from here on
        process.kill()
    assert served.now(rollout).progress.phase == 0
    with server_process(served.home.folder) as (_, address):
        # The same homes, at another port.
        devices = [served.device(f"device-{number}", address) for number in range(4)]
        until(lambda: [runs(update(device)) for device in devices] == [1] * 4)
        until(lambda: served.now(rollout).state is State.FINISHED)
    assert served.now(rollout).version == 3  # start, advance, finish: each once


def test_two_servers_over_one_database_take_every_step_once_and_one_of_them_is_killed(
    of_two_servers,
) -> None:
    served, servers = of_two_servers
    addresses = [address for _, address in servers]
    devices = [served.device(f"device-{number}", addresses[number % 2]) for number in range(6)]
    for device in devices:
        update(device)
    publish(served.home, MODEL, a_little_later(generation(0), 1)[1])
    rollout = served.roll_out("2", "4", "100%", minimum_sample=1, success_threshold=1.0)
    until(lambda: sum(runs(update(device)) for device in devices) >= 2)
    until(lambda: served.now(rollout).progress.phase >= 1)
    servers[0][0].kill()
    for device in devices:
        served.enroll(device, addresses[1])
    until(lambda: sum(runs(update(device)) for device in devices) == 6)
    until(lambda: served.now(rollout).state is State.FINISHED)
    assert served.now(rollout).version == 4  # start, two advances, finish: each once
    assert served.home.registry.attempt_counts(MODEL)["committed"] == 12


def test_two_servers_take_a_failed_generation_back_once(of_two_servers) -> None:
    served, servers = of_two_servers
    devices = [
        served.device(f"device-{number}", address) for number, (_, address) in enumerate(servers)
    ]
    for device in devices:
        update(device)
    publish(served.home, MODEL, a_little_later(generation(0), 1)[1])
    rollout = served.roll_out(on_failure=OnFailure.ROLLBACK, minimum_sample=1)
    update(devices[0])
    fail_as(servers[1][1], devices[1], "UNHEALTHY")
    registry = served.home.registry
    until(lambda: registry.rollouts.undoing(rollout.rollout_id) is not None)
    until(lambda: runs(update(devices[0])) == 2)
    time.sleep(5)  # two ticks of both
    assert [g.number for g in registry.generations(MODEL)] == [0, 1, 2]
    assert len(registry.rollouts.all()) == 2


def test_a_fleet_that_wakes_at_once_is_told_to_come_again_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.serving.DeviceService", partial(DeviceService, most_check_ins=2))
    home = home_with(tmp_path / "srv", generations=1)

    async def scenario() -> None:
        _, credential = fleet.enrolled(home, model=MODEL)
        async with (
            serving(home, "127.0.0.1:0") as server,
            grpc.aio.secure_channel(str(server.address), credential.for_channel()) as channel,
        ):
            stub = device_pb2_grpc.DeviceServiceStub(channel)
            request = device_pb2.CheckInRequest()
            calls = [stub.CheckIn(request, timeout=TIMEOUT_S) for _ in range(60)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            refused = [a for a in answers if isinstance(a, grpc.aio.AioRpcError)]
            assert 0 < len(refused) < 60
            assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            hints = {int(dict(e.trailing_metadata())["retry-after-s"]) for e in refused}
            assert len(hints) > 5
            assert all(5 <= hint <= 60 for hint in hints)
            assert (await stub.CheckIn(request, timeout=TIMEOUT_S)).check_in_after_s > 0

    asyncio.run(scenario())
    home.close()
