"""An overview as JSON has it: `ota-server status --json`, and /api/status.json of the page.

Times are ISO 8601 with their zone, sizes are bytes, generations are numbers (null: nothing
installed), and lists that were cut have their full length beside them.
"""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from server.overview.values import ModelOverview, Overview
from server.rollouts.report import as_json as rollout_content


def content_of(overview: Overview) -> dict[str, Any]:
    """Everything that the overview says, fit for json.dumps."""
    fleet, spending = overview.fleet, overview.spending
    return {
        "at": _time(overview.at),
        "notices": [
            {"level": str(one.level), "text": one.text, "part": one.part}
            for one in overview.notices
        ],
        "models": [_model(model) for model in overview.models],
        "fleet": {
            "devices": fleet.devices,
            "states": {str(state): count for state, count in fleet.states.items()},
            "decommissioned": fleet.decommissioned,
            "waiting_total": fleet.waiting.total,
            "rivals": fleet.rivals,
            "waiting": [_plain(asdict(key)) for key in fleet.waiting.items],
            "worth_a_look_total": fleet.worth_a_look.total,
            "worth_a_look": [_plain(asdict(line)) for line in fleet.worth_a_look.items],
        },
        "rollouts_total": overview.rollouts.total,
        "rollouts": [rollout_content(report) for report in overview.rollouts.items],
        "bytes": {
            "month": f"{spending.month:%Y-%m}",
            "spent_bytes": spending.spent_bytes,
            "devices_with_budget": spending.limited,
            "spent_with_budget_bytes": spending.limited_spent_bytes,
            "budget_bytes": spending.budget_bytes,
            "devices_over_budget": spending.over,
            "nearest_total": spending.nearest.total,
            "nearest": [asdict(line) for line in spending.nearest.items],
        },
        "failures_since": _time(overview.failures_since),
        "failures": [_plain(asdict(line)) for line in overview.failures],
        "signing": [_plain(asdict(line)) for line in overview.signatures],
        "audit": [_plain(asdict(entry)) for entry in overview.audit],
    }


def _model(model: ModelOverview) -> dict[str, Any]:
    return {
        **asdict(model.status),
        "revoked": sorted(model.revoked),
        "states": [
            {"generation": number, **{str(state): count for state, count in found.items()}}
            for number, found in sorted(
                model.states.items(), key=lambda item: -1 if item[0] is None else item[0]
            )
        ],
    }


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _time(value) if isinstance(value, datetime) else value
        for name, value in fields.items()
    }


def _time(time: datetime) -> str:
    return time.isoformat(timespec="seconds")
