from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from server.errors import RolloutError
from server.rollouts.conditions import Case, Deferral, Reason, deferral_of, next_month, zone_of
from server.rollouts.notation import (
    parse_duration,
    parse_pair,
    parse_phases,
    parse_share,
    parse_windows,
    windows_text,
)
from server.rollouts.pacing import AT_MOST, SPREAD, come_again_s
from server.rollouts.rollout import Phase
from tests.unit.server.rollouts.values import policy
from tests.unit.server.values import TIME

NIGHT = policy(windows=parse_windows(["22:00-05:30"]))


def case(now: datetime = TIME, **changes: object) -> Case:
    values: dict[str, object] = {
        "now": now,
        "attributes": {},
        "is_metered": False,
        "plan_bytes": 1000,
    }
    return Case(**{**values, **changes})  # type: ignore[arg-type]


def reason(found: Deferral | None) -> Reason | None:
    return found.reason if found else None


def test_nothing_holds_a_device_back_by_default() -> None:
    assert deferral_of(policy(), case(is_metered=True)) is None
    assert deferral_of(None, case(is_metered=True, tries=99)) is None


@pytest.mark.parametrize(
    ("hour", "minute", "is_open"),
    [(21, 59, False), (22, 0, True), (0, 0, True), (5, 29, True), (5, 30, False), (12, 0, False)],
)
def test_a_window_over_midnight_is_open_from_its_first_minute_to_its_last(
    hour: int, minute: int, is_open: bool
) -> None:
    found = deferral_of(NIGHT, case(TIME.replace(hour=hour, minute=minute)))
    assert reason(found) == (None if is_open else Reason.WINDOW)


def test_hours_are_those_of_the_device_where_it_says_its_zone() -> None:
    noon = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    tokyo = {"timezone": "Asia/Tokyo"}  # 21:00 there
    found = deferral_of(NIGHT, case(noon, attributes=tokyo))
    assert found is not None
    assert found.until == datetime(2026, 7, 1, 13, 0, tzinfo=UTC)
    assert "found 21:00 (JST)" in found.detail
    assert deferral_of(NIGHT, case(noon + timedelta(hours=1), attributes=tokyo)) is None


def test_a_closed_window_says_when_the_next_one_opens() -> None:
    day = policy(windows=parse_windows(["02:00-03:00", "10:00-11:00"]))
    found = deferral_of(day, case(TIME.replace(hour=4)))
    assert found is not None
    assert found.until == TIME.replace(hour=10, minute=0, second=0)


def test_a_zone_that_nobody_knows_is_refused() -> None:
    for name in ("Nowhere/Land", "", "../etc/passwd"):
        with pytest.raises(RolloutError, match="expected a zone such as Europe/Berlin"):
            zone_of({"timezone": name})


def test_a_metered_link_takes_what_the_policy_allows() -> None:
    assert reason(deferral_of(policy(metered_bytes=0), case(is_metered=True))) is Reason.METERED
    assert reason(deferral_of(policy(metered_bytes=999), case(is_metered=True))) is Reason.METERED
    assert deferral_of(policy(metered_bytes=1000), case(is_metered=True)) is None
    assert deferral_of(policy(metered_bytes=0), case()) is None


def test_a_plan_that_does_not_fit_the_month_waits_for_the_next_one_and_says_why() -> None:
    found = deferral_of(policy(monthly_bytes=5000), case(used_bytes=4001))
    assert found is not None
    assert found.reason is Reason.MONTHLY_BYTES
    assert found.until == datetime(2026, 2, 1, tzinfo=UTC)
    assert "at most 5000 bytes this month, found 4001 spent and 1000 to come" in found.detail
    assert deferral_of(policy(monthly_bytes=5000), case(used_bytes=4000)) is None


def test_the_budget_of_a_device_goes_before_that_of_a_rollout_and_holds_without_one() -> None:
    rich, poor = case(budget_bytes=10**9, used_bytes=5000), case(budget_bytes=999)
    assert deferral_of(policy(monthly_bytes=5000), rich) is None
    assert reason(deferral_of(policy(monthly_bytes=5000), poor)) is Reason.MONTHLY_BYTES
    assert reason(deferral_of(None, poor)) is Reason.MONTHLY_BYTES


def test_a_device_that_has_used_up_its_attempts_gets_no_more() -> None:
    limited = policy(maximum_attempts=2)
    assert deferral_of(limited, case(tries=1)) is None
    assert reason(deferral_of(limited, case(tries=2))) is Reason.ATTEMPTS


def test_december_ends_in_january() -> None:
    december = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    assert next_month(december) == datetime(2027, 1, 1, tzinfo=UTC)


def times(deferral: Deferral | None, count: int = 300) -> list[int]:
    random = Random(0)
    return [come_again_s(deferral, TIME, random) for _ in range(count)]


def test_devices_come_again_spread_over_time() -> None:
    usual, soon = times(None), times(Deferral(Reason.IN_FLIGHT, ""))
    assert (min(usual) < 2000, max(usual) > 5000) == (True, True)
    assert all(1800 <= seconds <= 5400 for seconds in usual)
    assert all(30 <= seconds <= 90 for seconds in soon)
    assert len(set(usual)) > 200


def test_who_waits_for_a_moment_comes_after_it_but_within_a_day() -> None:
    opens = times(Deferral(Reason.WINDOW, "", TIME + timedelta(hours=2)))
    assert all(7200 <= seconds <= 7200 + SPREAD.total_seconds() for seconds in opens)
    far = times(Deferral(Reason.MONTHLY_BYTES, "", TIME + timedelta(days=20)))
    assert max(far) <= (AT_MOST + SPREAD).total_seconds()
    past = times(Deferral(Reason.WINDOW, "", TIME - timedelta(hours=2)))
    assert min(past) >= 1


def test_what_people_write_is_understood() -> None:
    assert parse_phases(["10%", "12.5 %", "25"]) == (Phase(10.0), Phase(12.5), Phase(devices=25))
    assert (parse_share("80%"), parse_share("2.5 %")) == (0.8, 0.025)
    assert parse_duration("0") == timedelta(0)
    assert [parse_duration(t) for t in ("90s", "15m", "6h", "2d")] == [
        timedelta(seconds=90),
        timedelta(minutes=15),
        timedelta(hours=6),
        timedelta(days=2),
    ]
    assert parse_pair("room=a=b") == ("room", "a=b")
    assert windows_text(parse_windows(["22:00-05:30", "01:00-02:00"])) == "22:00-05:30 01:00-02:00"


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (lambda text: parse_phases([text]), "many"),
        (lambda text: parse_phases([text]), "0%"),
        (lambda text: parse_phases([text]), "101%"),
        (lambda text: parse_phases([text]), "-5"),
        (parse_share, "0.8"),
        (parse_share, "180%"),
        (parse_duration, "soon"),
        (parse_duration, "5"),
        (parse_pair, "room"),
        (parse_pair, "=x"),
        (parse_pair, "room="),
        (parse_pair, "room=\n"),
        (lambda text: parse_windows([text]), "25:00-03:00"),
        (lambda text: parse_windows([text]), "2-3"),
    ],
)
def test_what_means_nothing_is_refused_and_repeated(parse, text: str) -> None:
    with pytest.raises(RolloutError, match=r"expected .* found"):
        parse(text)
