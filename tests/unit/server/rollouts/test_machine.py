"""Whatever operators, devices and the clock do in whatever order, these laws hold."""

import tempfile
from contextlib import ExitStack
from datetime import timedelta
from math import ceil
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from server.domain import AttemptState, Outcome
from server.errors import ConflictError
from server.rollouts import operations
from server.rollouts.population import point_of
from server.rollouts.states import State
from tests.unit.server.rollouts.fleet import Fleet

DEVICES = 8
PHASES = (50, 75, 100)
TIMEOUT = timedelta(hours=1)

# Nothing here outlives a test, so nothing has to reach a disk.
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

numbers = st.integers(0, DEVICES - 1)


class RolloutMachine(RuleBasedStateMachine):
    """One rollout over a fleet whose devices do as they like."""

    @initialize(in_flight=st.sampled_from([None, 3, 1]), soak=st.sampled_from([0, 2]))
    def begin(self, in_flight: int | None, soak: int) -> None:
        self.stack = ExitStack()
        folder = self.stack.enter_context(tempfile.TemporaryDirectory(dir=IN_MEMORY))
        self.fleet = self.stack.enter_context(Fleet.at(Path(folder) / "srv", DEVICES))
        self.fleet.create(
            *(f"{percent}%" for percent in PHASES),
            minimum_sample=2,
            maximum_in_flight=in_flight,
            maximum_attempts=2,
            soak=timedelta(hours=soak),
            attempt_timeout=TIMEOUT,
        )
        self.in_flight = in_flight
        self.offered: set[str] = set()
        self.ended: dict[str, AttemptState] = {}
        self.known: set[str] = set()
        self.final: State | None = None
        operations.start(self.fleet.home, self.fleet.rollout, self.fleet.now)

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()

    # ---- what happens

    @rule(number=numbers)
    def check_in(self, number: int) -> None:
        name = self.fleet.names[number]
        before = self.fleet.rollout
        answer = self.fleet.check_in(name)
        assert answer.come_again_s > 0
        if answer.plan is None:
            return
        assert before.state in (State.RUNNING, State.FINISHED)
        assert answer.plan.rollout_id == before.rollout_id
        assert answer.plan.target.number == 1
        assert self.fleet.installed[name] == 0
        assert point_of(before.rollout_id, name) <= before.progress.cutoff
        self.offered.add(name)
        self.known.add(answer.plan.attempt_id)

    @rule(
        number=numbers,
        outcome=st.sampled_from(Outcome),
        code=st.sampled_from(["UNHEALTHY", "SERVER_UNAVAILABLE"]),
    )
    def report(self, number: int, outcome: Outcome, code: str) -> None:
        name = self.fleet.names[number]
        if name in self.fleet.attempts:
            self.fleet.report(name, outcome, code if outcome is Outcome.FAILED else "")

    @rule(minutes=st.sampled_from([1, 45, 180]))
    def pass_time(self, minutes: int) -> None:
        self.fleet.pass_time(timedelta(minutes=minutes))
        heard_since = self.fleet.now - TIMEOUT
        counts = self.fleet.home.registry.rollouts.counts(self.fleet.rollout)
        if minutes > 60:
            assert counts.in_flight == 0, f"silent since before {heard_since}"

    @rule(number=numbers, outcome=st.sampled_from([*Outcome, Outcome.COMMITTED]))
    def update(self, number: int, outcome: Outcome) -> None:
        self.check_in(number)
        self.report(number, outcome, "UNHEALTHY")

    @rule(numbers=st.sets(numbers, min_size=4), outcome=st.sampled_from(Outcome))
    def update_many(self, numbers: set[int], outcome: Outcome) -> None:
        for number in sorted(numbers):
            self.update(number, outcome)

    @rule(
        operation=st.sampled_from(
            [operations.pause, operations.resume, operations.resume, operations.abort]
        )
    )
    def operate(self, operation) -> None:
        self.change(lambda seen: operation(self.fleet.home.registry, seen, self.fleet.now))

    def change(self, operation) -> None:
        try:
            operation(self.fleet.rollout)
        except ConflictError as error:
            assert str(error).startswith("cannot ")

    # ---- what always holds

    @precondition(lambda self: hasattr(self, "fleet"))
    @invariant()
    def no_more_devices_are_offered_it_than_the_phase_reaches(self) -> None:
        percent = PHASES[self.fleet.rollout.progress.phase]
        assert len(self.offered) <= ceil(percent / 100 * DEVICES)

    @precondition(lambda self: hasattr(self, "fleet"))
    @invariant()
    def a_final_state_stays(self) -> None:
        state = self.fleet.rollout.state
        assert self.final in (None, state)
        self.final = state if state.is_final else None

    @precondition(lambda self: hasattr(self, "fleet"))
    @invariant()
    def a_final_attempt_stays(self) -> None:
        for attempt_id in self.known:
            state = self.fleet.home.registry.attempt(attempt_id).state
            assert self.ended.get(attempt_id, state) is state
            if state.is_final:
                self.ended[attempt_id] = state

    @precondition(lambda self: hasattr(self, "fleet"))
    @invariant()
    def a_stopped_rollout_has_nothing_under_way_and_a_running_one_as_much_as_it_may(self) -> None:
        rollout = self.fleet.rollout
        counts = self.fleet.home.registry.rollouts.counts(rollout)
        if rollout.state.withdraws:
            assert counts.in_flight == 0
        assert self.in_flight is None or counts.in_flight <= self.in_flight
        assert counts.sample <= DEVICES


TestRollout = RolloutMachine.TestCase
TestRollout.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
