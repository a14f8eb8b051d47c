"""Log lines, counts that keep few labels, and readiness."""

import asyncio
import io
import json
import logging
import re
import threading
import time
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from server.domain import AttemptState
from server.errors import ArtifactError
from server.home import ServerHome
from server.limits.settings import Limits
from server.observability.census import (
    MOST_CODES,
    MOST_GENERATIONS,
    OF_THE_FLEET,
    FleetCollector,
    attempt_rows,
    device_rows,
)
from server.observability.endpoint import Readiness
from server.observability.fields import about, begin, note, noted
from server.observability.logs import JsonLines, TextLines, Unhurried
from server.observability.metrics import OF_THE_PROCESS, Metrics

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "monitoring.md"


def line(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    logger = logging.getLogger("server.test")
    return logger.makeRecord("server.test", 20, "f", 1, message, arguments, None, extra=extra)


# ---- lines


class Sluggish(io.StringIO):
    """A stream whose reader sleeps until told."""

    def __init__(self) -> None:
        super().__init__()
        self.awake = threading.Event()

    def write(self, text: str) -> int:
        assert self.awake.wait(30)
        return super().write(text)


def test_a_log_that_nobody_reads_holds_up_nobody_and_says_what_was_lost() -> None:
    stream = Sluggish()
    handler = Unhurried(stream, most=5)
    handler.setFormatter(TextLines())
    for number in range(100):
        handler.emit(line("line %d", number))
    stream.awake.set()
    handler.drain(patience_s=30)
    handler.emit(line("the last"))
    handler.drain(patience_s=30)
    written = stream.getvalue().splitlines()
    kept = [text for text in written if " line " in text]
    assert 5 <= len(kept) <= 6
    assert f"{100 - len(kept)} lines were lost" in written[-2]
    assert written[-1].endswith("the last")


def test_a_line_for_people_ends_with_what_is_noted_of_the_work() -> None:
    with about(rollout_id="3f2a"):
        note(attempt_id="77c1", device=None)
        text = TextLines().format(line("paused %d", 3, fields={"code": "OK"}))
    assert text.endswith("INFO paused 3 rollout_id=3f2a attempt_id=77c1 code=OK")
    assert TextLines().format(line("paused")).endswith("INFO paused")


def test_a_json_line_is_one_object_with_the_same() -> None:
    with about(rollout_id="3f2a"):
        text = JsonLines().format(line("paused %s", "\n{}", fields={"sent_bytes": 7}))
    found = json.loads(text)
    assert "\n" not in text
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "INFO",
        "logger": "server.test",
        "message": "paused \n{}",
        "rollout_id": "3f2a",
        "sent_bytes": 7,
    }


def test_what_a_device_sends_begins_no_line_of_its_own() -> None:
    text = TextLines().format(line("device %s", "x\n2026-01-01 INFO all is well\x1b[2J\u2028"))
    assert text.splitlines() == [text]
    assert "\x1b" not in text


def test_a_value_that_a_device_chose_is_no_other_field() -> None:
    with about(attempt_id='1 device=other "x"'):
        text = TextLines().format(line("hello"))
    assert text.endswith(' hello attempt_id="1 device=other \\"x\\""')


@pytest.mark.parametrize("lines", [TextLines, JsonLines])
def test_a_fault_is_written_with_its_traceback(lines: type[logging.Formatter]) -> None:
    try:
        raise ValueError("boom")
    except ValueError as error:
        record = line("a fault")
        record.exc_info = (ValueError, error, error.__traceback__)
    assert "ValueError: boom" in lines().format(record)


def test_what_is_noted_is_known_to_threads_and_gone_after_the_work() -> None:
    async def work() -> dict[str, str]:
        begin({"request_id": "1"})
        await asyncio.to_thread(note, attempt_id="77c1")
        return dict(noted())

    assert asyncio.run(work()) == {"request_id": "1", "attempt_id": "77c1"}
    assert noted() == {}
    note(attempt_id="lost")
    assert noted() == {}


# ---- labels


def test_devices_on_many_generations_are_few_series() -> None:
    devices = {("slu", number): 1 for number in range(500)} | {("slu", None): 4, ("asr", 3): 2}
    rows = dict(device_rows(devices))
    assert sum(rows.values()) == 506
    assert len(rows) == MOST_GENERATIONS + 3
    assert rows["slu", "older"] == 450
    assert (rows["slu", "499"], rows["slu", "none"], rows["asr", "3"]) == (1, 4, 2)


def test_codes_that_a_device_makes_up_are_few_series() -> None:
    made_up = {(AttemptState.FAILED, f"X{number}"): 1 for number in range(1000)}
    real = {
        (AttemptState.FAILED, "DIGEST_MISMATCH"): 5,
        (AttemptState.FAILED, 'a"b\n'): 2,
        (AttemptState.COMMITTED, None): 7,
    }
    rows = dict(attempt_rows(made_up | real))
    assert sum(rows.values()) == 1014
    assert len(rows) == MOST_CODES + 2
    assert rows["failed", "DIGEST_MISMATCH"] == 5
    assert rows["committed", ""] == 7


def test_no_metric_is_labelled_by_who_calls() -> None:
    labels = {label for what in (*OF_THE_PROCESS, *OF_THE_FLEET) for label in what.labels}
    assert labels == {
        "answer", "code", "generation", "grpc", "kind", "limit", "method", "model", "python",
        "role", "state", "version",
    }  # fmt: skip


def test_the_guide_has_the_table_of_all_metrics() -> None:
    rows = [
        f"| `{what.name}` | {what.kind} | {', '.join(what.labels)} | {what.help} |"
        for what in (*OF_THE_PROCESS, *OF_THE_FLEET)
    ]
    found = [row for row in GUIDE.read_text().splitlines() if row.startswith("| `ota_")]
    assert [row.replace("|  |", "| |") for row in rows] == found


def test_the_guide_has_the_table_of_all_limits() -> None:
    found = re.findall(r"^\| `([a-z-]+)` \| ([0-9.,]+) \|", GUIDE.read_text(), flags=re.M)
    settings = Limits.of([f"{name}={value.replace(',', '')}" for name, value in found])
    assert settings == Limits()
    assert [name.replace("-", "_") for name, _ in found] == [f.name for f in fields(Limits)]


def test_every_process_metric_is_there_before_anything_happened_but_those_with_labels() -> None:
    shown = generate_latest(Metrics().registry).decode()
    for what in OF_THE_PROCESS:
        assert f"# TYPE {what.name} {what.kind}" in shown


# ---- the fleet


@pytest.fixture
def home(tmp_path: Path):
    made = ServerHome.create(tmp_path / "srv")
    yield made
    made.close()


def test_what_is_signed_counts_down_and_below_zero(home: ServerHome) -> None:
    now = [datetime.now(UTC)]
    collector = FleetCollector(home.registry, now=lambda: now[0], clock=lambda: 0.0)

    def left() -> dict[str, float]:
        families = {family.name: family for family in collector.collect()}
        samples = families["ota_signing_expiry_seconds"].samples
        return {sample.labels["role"]: sample.value for sample in samples}

    assert {"root", "targets", "snapshot", "timestamp"} <= left().keys()
    before = left()["timestamp"]
    assert before > 0
    now[0] += timedelta(seconds=before + 5)
    assert left()["timestamp"] == pytest.approx(-5, abs=0.01)


def test_a_database_that_fails_leaves_no_old_numbers(tmp_path: Path) -> None:
    home = ServerHome.create(tmp_path / "srv")
    clock = [0.0]
    collector = FleetCollector(home.registry, clock=lambda: clock[0])
    assert len(list(collector.collect())) == len(OF_THE_FLEET)
    for path in (tmp_path / "srv").glob("registry.db*"):
        path.unlink()
    home.close()
    clock[0] = 60.0
    [up] = collector.collect()
    assert (up.name, up.samples[0].value) == ("ota_registry_up", 0.0)


# ---- readiness


def fails() -> None:
    raise ArtifactError("the disk is gone")


def test_readiness_names_what_does_not_answer() -> None:
    hung = threading.Event()
    ready = Readiness({"registry": hung.wait, "artifacts": fails}, timeout_s=0.2)
    began = time.monotonic()
    assert ready.failures() == {
        "registry": "no answer within 0.2 s",
        "artifacts": "the disk is gone",
    }
    hung.set()
    ready.close()
    assert time.monotonic() - began < 30


def test_a_server_that_stops_is_not_ready() -> None:
    ready = Readiness({"registry": lambda: None})
    assert ready.failures() == {}
    ready.is_stopping = True
    assert ready.failures() == {"server": "it is stopping"}
    ready.close()
