"""docs/faults.md names tests that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_row_names_a_test_that_there_is() -> None:
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "shown by" not in line]
    named = [re.search(r"`(test_\w+)` \|$", row) for row in rows]
    assert all(named)
    files = (ROOT / "tests").rglob("test_*.py")
    there = set(re.findall(r"^def (test_\w+)", "\n".join(f.read_text() for f in files), re.M))
    assert {found[1] for found in named if found} <= there
    assert {f"A{number}" for number in range(1, 14)} <= {row.split()[1] for row in rows}
