"""Which method to learn a diff by, from what was measured (docs/RESULTS.md, "Equal bytes").

`measured.json` holds, for budgets relative to the float32 bytes, how far below BL each method came
out. The nearest budget decides, and the reason is said.
"""

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Choice:
    """A method, and why, in one sentence."""

    method: str
    reason: str


def choose(ratio: float, task: str = "") -> Choice:
    """The method that measured best.

    Args:
        ratio: Budget over the float32 bytes of the model.
        task: slu or rnnt; what was not measured goes by all that was.
    """
    measured = _measured()
    rows = [row for row in measured["rows"] if row["task"] == task] or measured["rows"]
    nearest = min(rows, key=lambda row: abs(math.log(row["ratio"] / ratio)))
    points = dict(sorted(nearest["points_below_bl"].items(), key=lambda item: item[1]))
    best, *others = points
    against = ", ".join(f"{name} {points[name]:.1f}" for name in others)
    return Choice(
        best,
        f"{best}: {points[best]:.1f} points below BL at 1/{1 / nearest['ratio']:.0f} of the "
        f"float32 bytes, the measured budget nearest to 1/{1 / ratio:.0f} ({against}; "
        f"{measured['source']})",
    )


@cache
def _measured() -> dict:  # type: ignore[type-arg]
    text = (resources.files(__package__) / "measured.json").read_text(encoding="utf-8")
    return dict(json.loads(text))
