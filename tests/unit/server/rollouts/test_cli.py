"""`ota-server rollout`, `rollback` and `device set`, as people call them."""

import json
from pathlib import Path

import pytest

from server.domain import Device
from server.home import ServerHome
from server.publishing import publish, weights_of
from server.rollouts.rollout import Channel
from server.rollouts.states import State
from tests.unit.server.check_ins import record
from tests.unit.server.models import CARD, snapshot, sparse, weights
from tests.unit.server.test_cli import Cli, cli
from tests.unit.server.values import TIME

__all__ = ["cli"]


@pytest.fixture
def srv(tmp_path: Path) -> Path:
    """Two generations, and four devices that run the first."""
    home = ServerHome.create(tmp_path / "srv")
    publish(home, "digits", snapshot(weights(0)), graph=b"graph", card=CARD)
    publish(home, "digits", sparse(weights_of(home, "digits", 0), 3, 5))
    for number in range(4):
        home.registry.enroll(Device(f"device-{number}", "digits", "", TIME, TIME))
        record(home.registry, f"device-{number}", 0, None, TIME)
    home.close()
    return tmp_path / "srv"


def succeeded(cli: Cli, *arguments: object) -> dict:
    status, out, err = cli(*arguments, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def created(cli: Cli, srv: Path, *options: object) -> dict:
    return succeeded(cli, "rollout", "create", srv, "--model", "digits", "--to", 1, *options)


def test_a_rollout_is_drafted_started_paused_resumed_and_aborted(cli: Cli, srv: Path) -> None:
    made = created(cli, srv, "--phase", "25%", "--phase", "100%")
    assert (made["state"], made["base"], made["phase"]) == ("draft", 0, None)
    name = made["rollout"]
    started = succeeded(cli, "rollout", "start", srv, name[:6])
    assert (started["state"], started["phase"], started["phase_devices"]) == ("running", 1, 1)
    for command, state in (
        ("pause", State.PAUSED_MANUAL),
        ("resume", State.RUNNING),
        ("abort", State.ABORTED),
    ):
        assert succeeded(cli, "rollout", command, srv, name)["state"] == state
    [listed] = succeeded(cli, "rollout", "list", srv)["rollouts"]
    assert listed == succeeded(cli, "rollout", "status", srv, name)
    assert listed["reason"] == "aborted by an operator"


def test_every_rule_can_be_given_and_is_shown(cli: Cli, srv: Path) -> None:
    made = created(
        cli, srv, "--channel", "beta", "--group", "room=kitchen", "--group", "room=bath",
        "--phase", 2, "--phase", "50%", "--success", "90%", "--failure", "5%",
        "--minimum-sample", 3, "--soak", "6h", "--attempt-timeout", "15m", "--max-attempts", 2,
        "--max-in-flight", 9, "--window", "22:00-05:30", "--metered", "never",
        "--monthly-budget", "5MB", "--on-failure", "rollback", "--base", 0,
    )  # fmt: skip
    assert made["channel"] == "beta"
    assert made["groups"] == ["room=bath", "room=kitchen"]
    assert made["phases"] == ["2", "50%"]
    assert made["policy"] == {
        "success_threshold": 0.9,
        "failure_threshold": 0.05,
        "minimum_sample": 3,
        "soak_s": 21_600.0,
        "attempt_timeout_s": 900.0,
        "maximum_attempts": 2,
        "maximum_in_flight": 9,
        "windows": ["22:00-05:30"],
        "metered_bytes": 0,
        "monthly_bytes": 5_000_000,
        "on_failure": "rollback",
    }


def test_a_start_can_be_scheduled_in_utc(cli: Cli, srv: Path) -> None:
    name = created(cli, srv)["rollout"]
    waiting = succeeded(cli, "rollout", "start", srv, name, "--at", "2126-03-01T02:00")
    assert waiting["state"] == "scheduled"
    assert waiting["starts_at"] == "2126-03-01T02:00:00+00:00"


def test_tables_are_for_people(cli: Cli, srv: Path) -> None:
    assert cli("rollout", "list", srv)[1] == "no rollouts yet\n"
    name = created(cli, srv)["rollout"]
    for command in (("list", srv), ("status", srv, name)):
        status, out, _ = cli("rollout", *command)
        assert status == 0
        assert "draft" in out


def test_watching_ends_when_the_rollout_has(cli: Cli, srv: Path) -> None:
    name = created(cli, srv)["rollout"]
    cli("rollout", "abort", srv, name)
    status, out, _ = cli("rollout", "status", srv, name, "--watch")
    assert status == 0
    assert "aborted" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "--model", "letters", "--to", 0), "generation 0 of model 'letters'"),
        (("create", "--model", "digits", "--to", 9), "generation 9 of model 'digits'"),
        (("create", "--model", "digits", "--to", 1, "--base", 1), "a base older than"),
        (
            ("create", "--model", "digits", "--to", 0, "--on-failure", "rollback"),
            "an older generation than 0 to roll back to",
        ),
        (
            ("create", "--model", "digits", "--to", 1, "--phase", "50%", "--phase", "10%"),
            "each phase to reach more than the last",
        ),
        (
            ("create", "--model", "digits", "--to", 1, "--monthly-budget", "9" * 15 + "GB"),
            "monthly_bytes: expected 0 to",
        ),
        (("create", "--model", "digits", "--to", 1, "--max-attempts", 10**20), "expected 1 to"),
        (("create", "--model", "digits", "--to", 1, "--soak", "99999d"), "0 to 366 days"),
        (("start", "nobody"), "expected a known rollout, found 'nobody'"),
        (("resume", "KNOWN"), "cannot resume a rollout that is draft"),
        (("status", "nobody"), "expected a known rollout, found 'nobody'"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_1(
    cli: Cli, srv: Path, arguments: tuple, message: str
) -> None:
    known = created(cli, srv)["rollout"]
    command, *rest = (known if word == "KNOWN" else word for word in arguments)
    status, out, err = cli("rollout", command, srv, *rest)
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        ("--phase", "many"),
        ("--success", "0.8"),
        ("--failure", "x"),
        ("--soak", "long"),
        ("--attempt-timeout", "5"),
        ("--window", "2-3"),
        ("--metered", "sometimes"),
        ("--monthly-budget", "x"),
        ("--group", "kitchen"),
        ("--channel", "alpha"),
        ("--max-in-flight", 0),
        ("--base", 10**20),
    ],
    ids=str,
)
def test_an_option_that_means_nothing_is_a_usage_error(cli: Cli, srv: Path, options: tuple) -> None:
    status, _, err = cli("rollout", "create", srv, "--model", "digits", "--to", 1, *options)
    assert status == 2
    assert options[0] in err
    assert succeeded(cli, "rollout", "list", srv) == {"rollouts": []}


def test_a_damaged_generation_cannot_start(cli: Cli, srv: Path) -> None:
    name = created(cli, srv)["rollout"]
    for blob in (srv / "artifacts").rglob("*"):
        if blob.is_file():
            blob.write_bytes(b"rotten")
    status, _, err = cli("rollout", "start", srv, name)
    assert status == 1
    assert err.startswith("error: generation 1 of 'digits' cannot be rolled out: ")


def test_a_rollback_publishes_the_old_weights_anew(cli: Cli, srv: Path) -> None:
    printed = succeeded(cli, "rollback", srv, "--model", "digits", "--to", 0)
    assert printed == {
        "model": "digits",
        "generation": 2,
        "weights_of": 0,
        "digest": weights(0).digest().hex(),
    }
    status, _, err = cli("rollback", srv, "--model", "digits", "--to", 2)
    assert (status, err.count("\n")) == (1, 1)


def test_a_device_is_set_up_bit_by_bit(cli: Cli, srv: Path) -> None:
    command = ("device", "set", srv, "device-0")
    succeeded(cli, *command, "--channel", "beta", "--attribute", "room=kitchen")
    succeeded(cli, *command, "--attribute", "floor=1", "--monthly-budget", "5MB")
    shown = succeeded(cli, *command, "--unset", "room", "--attribute", "timezone=Europe/Berlin")
    assert shown == {
        "device": "device-0",
        "channel": "beta",
        "attributes": {"floor": "1", "timezone": "Europe/Berlin"},
        "monthly_budget_bytes": 5_000_000,
    }
    home = ServerHome.open(srv)
    member, budget_bytes = home.registry.rollouts.member("device-0")
    home.close()
    assert (member.channel, budget_bytes) == (Channel.BETA, 5_000_000)
    assert succeeded(cli, *command, "--monthly-budget", "none")["monthly_budget_bytes"] is None
    assert "channel    beta" in cli(*command)[1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("nobody",), 1),
        (("device-0", "--attribute", "timezone=Nowhere"), 1),
        (("device-0", "--attribute", "room"), 2),
        (("device-0", "--monthly-budget", "much"), 2),
        (("device-0", "--monthly-budget", "9" * 15 + "GB"), 2),
        (("device-0", "--channel", "alpha"), 2),
    ],
    ids=str,
)
def test_a_device_that_cannot_be_set_up_so_stays_as_it_is(
    cli: Cli, srv: Path, options: tuple, expected: int
) -> None:
    status, out, err = cli("device", "set", srv, *options)
    assert (status, out) == (expected, "")
    assert "rror" in err
    assert "Traceback" not in err
