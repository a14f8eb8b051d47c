import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from diffcodec import Coder
from server.domain import Attempt, AttemptState, Device, Outcome, Report
from server.errors import ConflictError, NotFoundError, RegistryError
from server.registry import Registry, database
from tests.unit.server.check_ins import record
from tests.unit.server.values import TIME, blob, digest, generation, step

LATER = TIME + timedelta(hours=1)


@pytest.fixture
def registry(database_url: str) -> Iterator[Registry]:
    opened = Registry.create(database_url)
    yield opened
    opened.close()


@pytest.fixture
def line(registry: Registry) -> Registry:
    """Two generations of one model, and a device at the first with an attempt to the second."""
    registry.add_generation(generation(0), [step(None, 0, 1000)])
    registry.add_generation(generation(1), [step(0, 1, 40)])
    registry.enroll(Device("device", "digits", "kitchen", TIME, TIME))
    record(registry, "device", 0, attempt("first"), TIME)
    return registry


def executed(url: str, statement: str) -> list[tuple[object, ...]]:
    """Do what the registry would not."""
    engine = database.connect(url)
    try:
        with engine.execution_options(writes=True).begin() as connection:
            result = connection.exec_driver_sql(statement)
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        engine.dispose()


def attempt(name: str, base: int | None = 0, target: int = 1) -> Attempt:
    return Attempt(name, "device", base, target, AttemptState.PLANNED, TIME)


def report(sequence: int, outcome: Outcome, attempt_id: str = "first", code: str = "") -> Report:
    return Report("device", attempt_id, sequence, outcome, code, 10, 20, 30)


def test_generations_come_back_as_they_were_added(registry: Registry) -> None:
    bare = generation(1, graph=None, card=None)
    registry.add_generation(generation(0), [step(None, 0, 1000)])
    registry.add_generation(bare, [step(0, 1, 40), step(None, 1, 900)])
    assert registry.generations("digits") == (generation(0), bare)
    assert registry.generation("digits", 0) == generation(0)
    assert registry.head("digits") == bare
    assert registry.steps("digits") == (step(None, 0, 1000), step(0, 1, 40), step(None, 1, 900))
    assert [model.name for model in registry.models()] == ["digits"]


@pytest.mark.parametrize("coders", [[Coder.FAST], [Coder.MAX], [*Coder], []], ids=str)
def test_a_step_comes_back_with_the_coders_that_it_needs(
    registry: Registry, coders: list[Coder]
) -> None:
    added = step(None, 0, 1000, coders=frozenset(coders))
    registry.add_generation(generation(0), [added])
    assert registry.steps("digits") == (added,)


def test_an_unknown_model_has_no_head_and_no_generations(registry: Registry) -> None:
    assert registry.head("digits") is None
    assert registry.generations("digits") == ()
    with pytest.raises(NotFoundError, match="generation 3 of model 'digits'"):
        registry.generation("digits", 3)


def test_blobs_are_known_once_a_generation_or_step_names_them(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match=blob("graph").sha256.hex()):
        registry.blob(blob("graph").sha256)
    registry.add_generation(generation(0), [step(None, 0, 1000)])
    assert registry.blob(blob("graph").sha256) == blob("graph")
    assert registry.blob(step(None, 0, 1000).diff.sha256).length == 1000


def test_a_generation_number_is_given_once(registry: Registry) -> None:
    registry.add_generation(generation(0), [])
    with pytest.raises(ConflictError, match="expected to add generation 1"):
        registry.add_generation(generation(0, digest=digest("other")), [])
    with pytest.raises(ConflictError, match="found 5"):
        registry.add_generation(generation(5), [])
    assert registry.generations("digits") == (generation(0),)


def test_of_two_publishers_at_once_one_wins_and_the_other_changes_nothing(
    registry: Registry,
) -> None:
    registry.add_generation(generation(0), [])

    def add(name: str) -> str:
        try:
            registry.add_generation(generation(1, digest=digest(name)), [step(0, 1, 10, name)])
        except ConflictError:
            return "lost"
        return "won"

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(add, "abcdefgh"))
    assert sorted(outcomes) == ["lost"] * 7 + ["won"]
    assert len(registry.steps("digits")) == 1


def test_a_generation_whose_step_is_impossible_is_not_there_at_all(registry: Registry) -> None:
    with pytest.raises(ConflictError):
        registry.add_generation(generation(0), [step(7, 0, 10)])
    assert registry.head("digits") is None


def test_the_same_file_is_one_step(line: Registry) -> None:
    line.add_step("digits", step(0, 1, 40))
    line.add_step("digits", step(0, 1, 39))
    assert [s.diff.length for s in line.steps("digits")] == [1000, 40, 39]


def test_a_device_needs_a_known_model(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="'digits'"):
        registry.enroll(Device("device", "digits", "", TIME, TIME))


def test_times_come_back_aware_and_equal(line: Registry) -> None:
    device = line.device("device")
    assert device.enrolled_at == TIME
    assert device.enrolled_at.utcoffset() == timedelta(0)


def test_a_check_in_records_what_the_device_runs_and_when(line: Registry) -> None:
    record(line, "device", 1, None, LATER)
    assert line.device("device") == Device("device", "digits", "kitchen", TIME, LATER, 1)
    assert line.device_counts("digits") == {1: 1}


def test_an_unknown_device_or_attempt_is_not_found(line: Registry) -> None:
    with pytest.raises(NotFoundError, match="'nobody'"):
        line.device("nobody")
    with pytest.raises(NotFoundError, match="'none'"):
        line.attempt("none")


def test_reports_move_an_attempt_to_its_end(line: Registry) -> None:
    assert line.report(report(0, Outcome.STARTED), LATER) is AttemptState.STARTED
    assert line.report(report(1, Outcome.COMMITTED), LATER) is AttemptState.COMMITTED
    assert line.attempt("first").state is AttemptState.COMMITTED
    assert line.device("device").installed == 1
    assert line.attempt_counts("digits") == {AttemptState.COMMITTED: 1}


def test_a_repeated_sequence_has_no_effect_even_with_another_outcome(line: Registry) -> None:
    line.report(report(0, Outcome.STARTED), LATER)
    assert line.report(report(0, Outcome.FAILED, code="X"), LATER) is AttemptState.STARTED


@pytest.mark.parametrize("late", Outcome)
@pytest.mark.parametrize("final", [Outcome.COMMITTED, Outcome.FAILED])
def test_a_final_state_stays_whatever_comes_late(
    line: Registry, final: Outcome, late: Outcome
) -> None:
    reached = line.report(report(7, final), TIME)
    assert line.report(report(3, late), LATER) is reached
    assert line.attempt("first").state is reached


def test_a_failed_attempt_leaves_the_device_where_it_was(line: Registry) -> None:
    line.report(report(0, Outcome.FAILED, code="DIGEST_MISMATCH"), LATER)
    assert line.device("device").installed == 0


def test_a_device_cannot_report_on_the_attempt_of_another(line: Registry) -> None:
    line.enroll(Device("thief", "digits", "", TIME, TIME))
    with pytest.raises(NotFoundError, match="attempt of device 'thief'"):
        line.report(replace(report(0, Outcome.COMMITTED), device_id="thief"), LATER)
    assert line.attempt("first").state is AttemptState.PLANNED


def test_a_new_attempt_supersedes_the_one_that_the_device_gave_up(line: Registry) -> None:
    record(line, "device", 0, attempt("second"), LATER)
    assert line.attempt("first").state is AttemptState.SUPERSEDED
    assert line.attempt("second").state is AttemptState.PLANNED
    assert line.report(report(0, Outcome.COMMITTED), LATER) is AttemptState.SUPERSEDED


def test_an_attempt_whose_target_runs_is_committed_though_its_report_is_lost(
    database_url: str, line: Registry
) -> None:
    record(line, "device", 1, None, LATER)
    assert line.attempt("first").state is AttemptState.COMMITTED
    late = replace(report(0, Outcome.COMMITTED), bytes_received=4_321)
    assert line.report(late, LATER) is AttemptState.COMMITTED
    assert line.report(report(1, Outcome.FAILED), LATER) is AttemptState.COMMITTED
    recorded = executed(database_url, "SELECT bytes_received FROM reports WHERE sequence = 0")
    assert recorded == [(4_321,)]


def test_a_database_that_fails_is_named(database_url: str, line: Registry) -> None:
    executed(database_url, "DROP TABLE reports")
    name = database.name_of(database.connect(database_url))
    with pytest.raises(RegistryError, match=f"{re.escape(name)}: .*reports") as failed:
        line.report(report(0, Outcome.COMMITTED), LATER)
    assert "\n" not in str(failed.value)


def test_a_late_commit_does_not_take_a_device_back(line: Registry) -> None:
    line.add_generation(generation(2), [step(1, 2, 40)])
    record(line, "device", 1, attempt("second", base=1, target=2), LATER)
    line.report(report(0, Outcome.COMMITTED, "second"), LATER)
    line.report(report(0, Outcome.COMMITTED, "first"), LATER)
    assert line.device("device").installed == 2


def test_one_report_sent_from_many_threads_counts_once(line: Registry) -> None:
    with ThreadPoolExecutor(8) as threads:
        states = list(
            threads.map(lambda _: line.report(report(0, Outcome.COMMITTED), LATER), range(16))
        )
    assert set(states) == {AttemptState.COMMITTED}


def test_what_was_committed_is_there_after_reopening(database_url: str, line: Registry) -> None:
    line.close()
    again = Registry.open(database_url)
    assert again.head("digits") == generation(1)
    again.close()
