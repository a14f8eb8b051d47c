"""Ask the registry for all that an overview is made of."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from server.home import ServerHome
from server.identity.keys import KeyState
from server.overview.judgement import Facts, judge
from server.overview.values import Bounded, Overview
from server.registry import Registry
from server.registry.fleet import FleetRecords
from server.registry.identities import Identities
from server.rollouts.report import Report
from server.rollouts.rollout import Member, Rollout
from server.rollouts.states import OFFERING
from server.status import status_of

FAILURES_OVER = timedelta(days=30)
MOST_FAILURES = 50
MOST_ROLLOUTS = 40
MOST_AUDIT = 100


def overview_of(home: ServerHome, now: datetime) -> Overview:
    """Look at a fleet; nothing is changed. Blocks: a server calls it in a thread.

    Raises:
        RegistryError: the database cannot be read.
    """
    registry, records = home.registry, FleetRecords(home.registry)
    models = status_of(home)
    offering = _with_budgets(registry.rollouts.in_states(OFFERING))
    since = now - FAILURES_OVER
    facts = Facts(
        models=models,
        revoked={model.model: registry.signing.revoked(model.model) for model in models},
        devices=records.devices(now),
        decommissioned=records.decommissioned(),
        waiting=Identities(registry).all(KeyState.PENDING),
        reports=_reports(registry),
        offering=offering,
        members=_members(registry, offering),
        signed=registry.signing.latest(),
        failures=records.failures(since, MOST_FAILURES),
        failures_since=since,
        audit=records.newest_audit(MOST_AUDIT),
    )
    return judge(facts, now)


def _reports(registry: Registry) -> Bounded[Report]:
    """What has not ended, then what was created last."""
    found = sorted(registry.rollouts.all(), key=lambda made: made.created_at, reverse=True)
    found.sort(key=lambda made: made.state.is_final)
    shown = found[:MOST_ROLLOUTS]
    failures = registry.rollouts.failures_of([made.rollout_id for made in shown])
    undone_by = {made.undoes: made.rollout_id for made in found if made.undoes is not None}
    # One by one (report_of) they would take three queries each.
    reports = (
        Report(
            made,
            registry.rollouts.counts(made),
            failures[made.rollout_id],
            undone_by.get(made.rollout_id),
        )
        for made in shown
    )
    return Bounded(tuple(reports), len(found))


def _with_budgets(rollouts: Iterable[Rollout]) -> dict[str, tuple[Rollout, ...]]:
    """Rollouts by model, of models where one of them has a budget."""
    by_model: dict[str, list[Rollout]] = defaultdict(list)
    for rollout in rollouts:
        by_model[rollout.model].append(rollout)
    # As in assignment: the newest generation, and of two rollouts of one the younger.
    return {
        model: tuple(sorted(found, key=_weight, reverse=True))
        for model, found in by_model.items()
        if any(rollout.policy.monthly_bytes is not None for rollout in found)
    }


def _weight(rollout: Rollout) -> tuple[int, datetime, str]:
    return rollout.target, rollout.created_at, rollout.rollout_id


def _members(registry: Registry, models: Iterable[str]) -> dict[str, Member]:
    return {
        member.device_id: member
        for model in models
        for member in registry.rollouts.population(model)
    }
