"""Faults of a real server under a real device: what it costs, and that it ends well."""

import pkgutil
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from diffcodec import ParameterSet
from edge_client import EdgeHome, enroll, update
from edge_client.address import ServerAddress
from edge_client.enrollment import Wanted
from edge_client.errors import EdgeError, WithdrawnError
from server.artifacts.store import name_of
from server.clock import utc_now
from server.domain import AttemptState
from server.home import ServerHome
from server.identity.keys import Policy
from server.publishing import publish
from server.rollouts import operations
from server.rollouts.notation import parse_phases
from server.rollouts.rollout import Policy as RolloutPolicy
from tests.integration.server_process import ca_of, server_process
from tests.unit.edge_client.models import CARD, GRAPH, a_little_later, generation, snapshot

MODEL = "digits"
PADDING = 1 << 20
"""Float32 values of a tensor: 4 MiB of download do not fit into a socket's buffer."""


def large() -> ParameterSet:
    noise = np.random.default_rng(0).normal(size=PADDING).astype(np.float32)
    return ParameterSet.from_arrays({**generation(0).arrays, "unused.padding": noise})


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServerHome]:
    made = ServerHome.create(tmp_path / "srv", enrolment=Policy.OPEN)
    yield made
    made.close()


class Relay:
    """Passes bytes between a device and whichever server there is; acts once, at some byte."""

    def __init__(self, upstream: str, at_bytes: int, act) -> None:
        self.upstream = upstream
        self.received_bytes = 0
        self._at_bytes, self._act = at_bytes, act
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                device, _ = self._listener.accept()
                host, _, port = self.upstream.rpartition(":")
                server = socket.create_connection((host, int(port)))
            except OSError:
                continue
            for source, sink in ((device, server), (server, device)):
                way = (source, sink, source is server)
                threading.Thread(target=self._pass, args=way, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if counts:
                    self.received_bytes += len(data)
                    if self._act is not None and self.received_bytes >= self._at_bytes:
                        act, self._act = self._act, None
                        act()
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for one in (source, sink):
                one.close()


def test_f9_a_server_killed_in_a_stream_and_started_again_costs_no_byte_twice(
    home: ServerHome, tmp_path: Path
) -> None:
    publish(home, MODEL, snapshot(large()), graph=GRAPH, card=CARD)
    length = home.registry.generation(MODEL, 0).snapshot.length
    with ExitStack() as stack:
        process, address = stack.enter_context(server_process(home.folder))

        def kill_and_start_another() -> None:
            process.kill()
            process.wait()
            _, relay.upstream = stack.enter_context(server_process(home.folder))

        relay = Relay(address, length // 2, kill_and_start_another)
        device = EdgeHome(tmp_path / "kitchen")
        enroll(device, ServerAddress.parse(relay.address), Wanted(MODEL), ca_of(home.folder))
        result = update(device)
    assert result.after is not None
    assert result.after.number == 0
    # One more handshake, and what was on its way when the connection ended.
    assert relay.received_bytes < 1.15 * length
    assert home.registry.attempt_counts(MODEL) == {AttemptState.COMMITTED: 1}


def test_f12_a_missing_blob_ends_the_attempt_by_its_code_and_the_device_keeps_what_it_has(
    home: ServerHome, tmp_path: Path
) -> None:
    publish(home, MODEL, snapshot(generation(0)), graph=GRAPH, card=CARD)
    with server_process(home.folder) as (_, address):
        device = EdgeHome(tmp_path / "kitchen")
        enroll(device, ServerAddress.parse(address), Wanted(MODEL), ca_of(home.folder))
        update(device)
        publish(home, MODEL, a_little_later(generation(0), 1)[1])
        diffs = [one.diff.sha256 for one in home.registry.steps(MODEL) if one.target == 1]
        files = [home.folder / "artifacts" / name_of(sha256) for sha256 in diffs]
        for file in files:
            shutil.move(file, tmp_path / file.name)
        for _ in range(2):
            with pytest.raises(EdgeError) as refused:
                update(device)
            installed = device.slots.installed()
            assert installed is not None
            assert installed.record.generation.number == 0
        failed = home.registry.attempt_counts(MODEL)
        assert failed == {AttemptState.COMMITTED: 1, AttemptState.FAILED: 2}
        assert refused.value.code == "SERVER_FAULT"
        for file in files:
            shutil.move(tmp_path / file.name, file)
        result = update(device)
        assert result.after is not None
        assert result.after.number == 1


@pytest.mark.parametrize(
    ("moment", "reaches"),
    [
        ("edge_client.filling.Filling.fill_passive", 0),
        ("edge_client.updater.check_health", 0),
        (None, 1),
    ],
)
def test_f13_an_abort_is_heeded_until_the_generation_is_activated(
    home: ServerHome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str | None,
    reaches: int,
) -> None:
    publish(home, MODEL, snapshot(generation(0)), graph=GRAPH, card=CARD)
    with server_process(home.folder) as (_, address):
        device = EdgeHome(tmp_path / "kitchen")
        enroll(device, ServerAddress.parse(address), Wanted(MODEL), ca_of(home.folder))
        update(device)
        publish(home, MODEL, a_little_later(generation(0), 1)[1])
        made = operations.create(
            home.registry, MODEL, 1, parse_phases(["100%"]), RolloutPolicy(minimum_sample=5)
        )
        rollout = operations.start(home, made, utc_now())

        def abort() -> None:
            found = home.registry.rollouts.find(rollout.rollout_id)
            operations.abort(home.registry, found, utc_now())

        if moment is None:
            result = update(device)
            abort()
            assert result.after is not None
            assert result.after.number == reaches
        else:
            abort_at(monkeypatch, moment, abort)
            with pytest.raises(WithdrawnError):
                update(device)
            monkeypatch.undo()
        installed = device.slots.installed()
        assert installed is not None
        assert installed.record.generation.number == reaches
        update(device)  # and nothing is offered again
        assert device.slots.installed() == installed


def abort_at(monkeypatch: pytest.MonkeyPatch, name: str, abort) -> None:
    """Abort before a step of the update, which then goes on as it would."""
    real = pkgutil.resolve_name(name)

    def aborted(*arguments: object, **options: object) -> object:
        abort()
        return real(*arguments, **options)

    monkeypatch.setattr(name, aborted)
