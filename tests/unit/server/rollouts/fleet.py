"""A home with made-up generations, and devices that say what a test wants, at a test's time.

with Fleet.at(folder, devices=10) as fleet:
    fleet.start("10%", "100%")
    plan = fleet.check_in("device-0")
    fleet.report("device-0", Outcome.FAILED, "UNHEALTHY")
    fleet.pass_time(HOUR)
    assert fleet.rollout.state is State.PAUSED_THRESHOLD
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from server import devices
from server.devices import Answer, Installed
from server.domain import AttemptState, Device, Outcome, Report
from server.home import ServerHome
from server.rollouts import operations
from server.rollouts.notation import parse_phases
from server.rollouts.rollout import Rollout
from server.rollouts.ticking import tick
from tests.integration.served_home import home_with
from tests.unit.server.check_ins import check_in, record
from tests.unit.server.rollouts.values import policy
from tests.unit.server.values import TIME


@dataclass
class Fleet:
    """Devices of one model at generation 0, and a server with two generations."""

    home: ServerHome
    names: list[str]
    now: datetime = TIME
    rollout_id: str = ""
    installed: dict[str, int | None] = field(default_factory=dict)
    attempts: dict[str, str] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def at(cls, folder: Path, count: int, generations: int = 2) -> "Iterator[Fleet]":
        home = home_with(folder, generations)
        names = [f"device-{number}" for number in range(count)]
        for name in names:
            home.registry.enroll(Device(name, "digits", "", TIME, TIME))
            record(home.registry, name, 0, None, TIME)
        try:
            yield cls(home, names, installed=dict.fromkeys(names, 0))
        finally:
            home.close()

    @property
    def rollout(self) -> Rollout:
        return self.home.registry.rollouts.find(self.rollout_id)

    def create(self, *phases: str, target: int = 1, **changes: object) -> Rollout:
        made = operations.create(
            self.home.registry,
            "digits",
            target,
            parse_phases(phases or ("100%",)),
            policy(**changes),
            now=lambda: self.now,
        )
        self.rollout_id = made.rollout_id
        return made

    def start(self, *phases: str, target: int = 1, **changes: object) -> Rollout:
        return operations.start(self.home, self.create(*phases, target=target, **changes), self.now)

    def check_in(self, name: str, **said: bool) -> Answer:
        number = self.installed[name]
        runs = None if number is None else Installed(number, self.digest(number))
        answer = check_in(
            self.home.registry, name, runs, now=lambda: self.now, random=Random(0), **said
        )
        if answer.plan is not None:
            self.attempts[name] = answer.plan.attempt_id
        return answer

    def report(self, name: str, outcome: Outcome, code: str = "", spent: int = 0) -> AttemptState:
        """Say something new of the device's last attempt; a committed one it runs."""
        attempt_id = self.attempts[name]
        sequence = self.sequences[attempt_id] = self.sequences.get(attempt_id, 0) + 1
        said = Report(name, attempt_id, sequence, outcome, code, 0, spent, 0)
        state = devices.report(self.home.registry, said, lambda: self.now)
        if outcome is Outcome.COMMITTED:
            self.installed[name] = self.home.registry.attempt(attempt_id).target
        return state

    def update(self, name: str, outcome: Outcome = Outcome.COMMITTED, code: str = "") -> bool:
        """Check in and, where there is a plan, end the attempt so."""
        if self.check_in(name).plan is None:
            return False
        self.report(name, outcome, code)
        return True

    def tick(self) -> None:
        tick(self.home, self.now)

    def pass_time(self, time: timedelta) -> None:
        self.now += time
        self.tick()

    def digest(self, number: int) -> bytes:
        return self.home.registry.generation("digits", number).digest
