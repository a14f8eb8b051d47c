"""What was measured, as values and as JSON.

A result is one comparison: cases (a piece of work), rows (a contender and its samples, one a
run). The first row of a case is ours and the reference: ratios are taken pair by pair, a
contender's run over the reference's run of the same round, so that a machine that slows down for
a while slows both.

    Result.read(path) == result            # after result.write(path)
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from diffcodec.bench.errors import BenchmarkError


@dataclass(frozen=True)
class Sample:
    """One run of one contender.

    Attributes:
        seconds: By the wall clock.
        size_bytes: Of the file it made or used, or on the wire in both directions.
        peak_bytes: Largest resident memory of its process.
        start_bytes: Resident memory before the work began: interpreter and libraries.
    """

    seconds: float
    size_bytes: int | None = None
    peak_bytes: int | None = None
    start_bytes: int | None = None


@dataclass(frozen=True)
class Spread:
    """Smallest, middle and largest of some numbers."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, numbers: Iterable[float]) -> "Spread":
        """Of at least one number."""
        ordered = sorted(numbers)
        return cls(ordered[0], median(ordered), ordered[-1])


@dataclass(frozen=True)
class Row:
    """A contender and its samples, in the order of the rounds."""

    contender: str
    samples: tuple[Sample, ...]

    @property
    def seconds(self) -> float:
        """The median."""
        return median(sample.seconds for sample in self.samples)

    def middle(self, attribute: str) -> int | None:
        """The median of `size_bytes`, `peak_bytes` or `start_bytes`; None where not measured."""
        found = [getattr(sample, attribute) for sample in self.samples]
        return None if None in found else round(median(found))

    def times_of(self, reference: "Row") -> Spread:
        """Seconds over the reference's seconds, round by round; above 1 is slower."""
        pairs = zip(self.samples, reference.samples, strict=True)
        return Spread.of(mine.seconds / its.seconds for mine, its in pairs)


@dataclass(frozen=True)
class Case:
    """The contenders on one piece of work.

    Attributes:
        work: What it is.
        work_bytes: Float32 bytes of the model, or bytes of the blob.
        rows: The first one is ours, the reference.
        skipped: Contenders that did not take part, and why.
    """

    work: str
    work_bytes: int
    rows: tuple[Row, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One comparison, and everything that it depends on."""

    benchmark: str
    command: str
    seed: int
    runs: int
    environment: Mapping[str, str]
    cases: tuple[Case, ...]

    def to_json(self) -> str:
        """Readable JSON that `from_json` reads back to an equal value."""
        return json.dumps(_without_nones(asdict(self)), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Result":
        """Read what `to_json` wrote.

        Raises:
            BenchmarkError: it is something else.
        """
        try:
            fields = json.loads(text)
            return cls(**{**fields, "cases": tuple(map(_case, fields["cases"]))})
        except (ValueError, TypeError, KeyError) as error:
            raise BenchmarkError(f"expected a benchmark result in JSON: {error!r}") from error

    def write(self, path: Path) -> None:
        """Write JSON, making the folder where there is none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Result":
        """Read a file of JSON.

        Raises:
            BenchmarkError: it holds something else.
        """
        return cls.from_json(path.read_text(encoding="utf-8"))


def _without_nones(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nones(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_without_nones(inner) for inner in value]
    return value


def _case(fields: dict[str, Any]) -> Case:
    rows = tuple(
        Row(row["contender"], tuple(Sample(**sample) for sample in row["samples"]))
        for row in fields["rows"]
    )
    return Case(**{**fields, "rows": rows})
