from dataclasses import replace
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.rollouts.population import is_for, point_of, reach_of, reaches
from server.rollouts.rollout import LARGEST_POINT, Channel, Member
from tests.unit.server.rollouts.values import at, members, rollout

FRESH = at(rollout(), cutoff=-1)


def test_a_point_is_a_number_that_another_server_finds_too() -> None:
    assert point_of("0123456789ab", "device") == 7456313371057115784
    assert point_of("0123456789ab", "device") != point_of("ba9876543210", "device")
    assert 0 <= point_of("", "") <= LARGEST_POINT


@settings(deadline=None)
@given(count=st.integers(1, 60), percent=st.integers(1, 100))
def test_a_percentage_is_respected_to_the_device(count: int, percent: int) -> None:
    wanted = at(rollout(f"{percent}%"), cutoff=-1)
    fleet = members(count)
    reach = reach_of(wanted, 0, fleet)
    begun = at(wanted, cutoff=reach.cutoff)
    assert sum(reaches(begun, member) for member in fleet) == ceil(percent * count / 100)
    assert reach.devices == ceil(percent * count / 100)


@settings(deadline=None)
@given(count=st.integers(1, 40), wanted=st.integers(1, 50))
def test_a_count_is_respected_to_the_device(count: int, wanted: int) -> None:
    begun = at(rollout(str(wanted)), cutoff=-1)
    assert reach_of(begun, 0, members(count)).devices == min(wanted, count)


@settings(deadline=None)
@given(count=st.integers(0, 40), more=st.integers(0, 40))
def test_a_later_phase_reaches_whom_an_earlier_one_reached(count: int, more: int) -> None:
    wanted = at(rollout("10%", "30%", "100%"), cutoff=-1)
    first = reach_of(wanted, 0, members(count)).cutoff
    second = reach_of(at(wanted, cutoff=first), 1, members(count + more)).cutoff
    assert second >= first
    assert reach_of(at(wanted, cutoff=second), 2, members(count)).cutoff == LARGEST_POINT


def test_devices_that_enrol_later_join_in_proportion_and_all_of_them_a_whole_phase() -> None:
    cutoff = reach_of(at(rollout("20%"), cutoff=-1), 0, members(500)).cutoff
    late = [Member(f"late-{number}", installed=4) for number in range(500)]
    joined = sum(reaches(at(rollout("20%"), cutoff=cutoff), device) for device in late)
    assert 60 < joined < 140
    everybody = at(rollout(), cutoff=reach_of(FRESH, 0, members(3)).cutoff)
    assert all(reaches(everybody, device) for device in late)


def test_devices_that_run_the_target_already_are_known_unless_this_rollout_brought_it() -> None:
    fleet = [*members(3), Member("new", installed=5), Member("took", installed=5)]
    reach = reach_of(FRESH, 0, fleet, took={"took"})
    assert (reach.devices, reach.already) == (5, 1)


IN_KITCHEN = Member("d", attributes={"room": "kitchen", "floor": "1"})


@pytest.mark.parametrize(
    ("changes", "member", "is_wanted"),
    [
        ({}, Member("d"), True),
        ({}, Member("d", Channel.BETA), False),
        ({"channel": Channel.BETA}, Member("d", Channel.BETA), True),
        ({"groups": (("room", "kitchen"),)}, IN_KITCHEN, True),
        ({"groups": (("room", "bath"),)}, IN_KITCHEN, False),
        (
            {"groups": (("room", "bath"), ("room", "kitchen"))},
            IN_KITCHEN,
            True,
        ),
        ({"groups": (("room", "kitchen"), ("floor", "2"))}, IN_KITCHEN, False),
        ({"groups": (("room", "kitchen"),)}, Member("d"), False),
        ({"only_from": 4}, Member("d", installed=4), True),
        ({"only_from": 4}, Member("d", installed=3), False),
        ({"only_from": 4}, Member("d"), False),
    ],
    ids=str,
)
def test_a_rollout_is_for_its_channel_groups_and_generation(
    changes: dict, member: Member, is_wanted: bool
) -> None:
    assert is_for(replace(rollout(), **changes), member) is is_wanted
