"""What a device does where rollouts decide: it waits, asks for leave, and can be stopped."""

import json

import grpc
import pytest

from edge_client import EdgeHome, update
from edge_client.errors import ServerBusyError, WithdrawnError
from edge_client.offer import Deferral
from edge_client.retry import Retry
from protos.ota.v1 import device_pb2
from tests.unit.edge_client.evidence import content_of, stored
from tests.unit.edge_client.fake_server import FakeServer
from tests.unit.edge_client.models import generation


def of_a_rollout(plan: device_pb2.Plan) -> None:
    plan.rollout_id = "0123456789ab"


def defer(answer: device_pb2.CheckInResponse) -> None:
    answer.ClearField("plan")
    answer.check_in_after_s = 1234
    answer.deferral.reason = "monthly-bytes"
    answer.deferral.detail = "expected at most 5000 bytes\x1b[31m this month, found 4001"


@pytest.fixture
def updated(home: EdgeHome, server: FakeServer, retry: Retry) -> EdgeHome:
    """At generation 0, with 1 on offer."""
    update(home, retry)
    server.publish_next()
    server.reports.clear()
    return home


def test_a_plan_of_a_rollout_is_asked_for_once_more_before_it_is_activated(
    updated: EdgeHome, server: FakeServer, retry: Retry
) -> None:
    server.lie.plan = of_a_rollout
    update(updated, retry)
    assert server.outcomes() == [("STARTED", ""), ("STARTED", ""), ("COMMITTED", "")]
    assert [report.sequence for report in server.reports] == [1, 2, 3]


def test_without_a_rollout_nothing_is_asked(
    updated: EdgeHome, server: FakeServer, retry: Retry
) -> None:
    server.lie.withdrawn_from = 1
    update(updated, retry)
    assert [report.sequence for report in server.reports] == [1, 2]
    assert stored(updated) == generation(1)


def test_what_the_server_withdraws_is_not_activated(
    updated: EdgeHome, server: FakeServer, retry: Retry
) -> None:
    server.lie.plan, server.lie.withdrawn_from = of_a_rollout, 2
    before = content_of(updated)
    with pytest.raises(WithdrawnError, match="generation 1 is not wanted any more"):
        update(updated, retry)
    assert content_of(updated) == before
    assert server.outcomes()[-1] == ("FAILED", "WITHDRAWN")


def test_a_server_that_does_not_answer_in_the_end_keeps_nobody_from_a_healthy_generation(
    updated: EdgeHome, server: FakeServer, retry: Retry, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.lie.plan = of_a_rollout

    def go_offline(slot: object) -> None:
        server.lie.failing_calls = 99

    monkeypatch.setattr("edge_client.updater.check_health", go_offline)
    result = update(updated, retry)
    assert not result.is_reported
    assert stored(updated) == generation(1)


def test_a_device_that_must_wait_knows_why_and_until_when(
    updated: EdgeHome, server: FakeServer, retry: Retry
) -> None:
    server.lie.answer = defer
    result = update(updated, retry)
    assert result.deferral == Deferral(
        "monthly-bytes", "expected at most 5000 bytes [31m this month, found 4001"
    )
    assert result.come_again_s == 1234
    assert stored(updated) == generation(0)


def test_the_server_is_told_that_the_link_is_metered(
    home: EdgeHome, server: FakeServer, retry: Retry
) -> None:
    update(home, retry)
    update(home, retry, is_metered=True)
    assert [request.is_metered for request in server.check_ins[-2:]] == [False, True]


def test_a_busy_server_is_asked_again_and_named_in_the_end(
    home: EdgeHome, server: FakeServer, retry: Retry
) -> None:
    server.lie.status = grpc.StatusCode.RESOURCE_EXHAUSTED
    server.lie.failing_calls = 2
    update(home, retry)
    assert stored(home) == generation(0)
    server.lie.failing_calls = 99
    server.lie.details = "too many check-ins at once: come again in 17 s"
    with pytest.raises(ServerBusyError, match="come again in 17 s"):
        update(home, retry)


def test_the_command_says_why_it_waits(
    updated: EdgeHome, server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    from edge_client.cli import app

    server.lie.answer = defer
    for options in ([], ["--json", "--metered"]):
        with pytest.raises(SystemExit) as ended:
            app(["update", "--home", str(updated.path), *options])
        assert ended.value.code == 0
    text, _, printed = capsys.readouterr().out.partition("\n{")
    assert text.startswith("deferred: monthly-bytes: expected at most 5000 bytes")
    content = json.loads("{" + printed)
    assert content["deferral"]["reason"] == "monthly-bytes"
    assert content["come_again_s"] == 1234
