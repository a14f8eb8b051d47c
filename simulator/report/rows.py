"""One measurement, and the files that hold them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from diffcodec.durable import replaced_file
from simulator.errors import RunFolderError, ScenarioError
from simulator.lines import Line, Variant
from simulator.scores import Metric

RESULTS = "results.jsonl"


@dataclass(frozen=True)
class Row:
    """What one line did at one generation, for one seed.

    None stands where nothing was sent: the device that is never updated.

    Attributes:
        size: As it was asked for, "1/100" or "40x"; None where the variant has none.
        metric: What both scores are.
        added: What came with this generation: labels, or a share of the recordings.
        phrases: How many texts are to be recognised.
        test_recordings: How many recordings both scores are over.
        device_score: By the edge client's own process, 0..1 (a WER may be larger).
        server_score: By the server for the same weights.
        file_bytes: Size of the .ndiff file that the device applied.
        paper_bytes: As the paper counts: 8 bytes a non-zero, 4 bytes an entry; of LoRA 2 bytes a
            value of its factors.
        float32_bytes: Size of the model's weights.
        bytes_sent: Everything that the device sent on the wire for this update.
        bytes_received: Everything that it received.
        nominal_ratio: Parameters per free value (the paper's compression ratio).
        apply_s: Time to rebuild and check the weights.
        peak_bytes: Largest resident memory of the device's update process.
        note: What the recipe says of itself: why `auto` chose what it chose.
    """

    seed: int
    generation: int
    variant: Variant
    size: str | None
    metric: Metric
    added: tuple[str, ...]
    phrases: int
    test_recordings: int
    device_score: float
    server_score: float
    float32_bytes: int
    device_digest: str
    server_digest: str
    file_bytes: int | None = None
    paper_bytes: int | None = None
    bytes_sent: int | None = None
    bytes_received: int | None = None
    nominal_ratio: float | None = None
    apply_s: float | None = None
    peak_bytes: int | None = None
    note: str = ""

    @property
    def line(self) -> Line:
        """What was measured."""
        return Line.named(self.variant, self.size)

    @property
    def wire_bytes(self) -> int | None:
        """Sent and received together."""
        if self.bytes_sent is None or self.bytes_received is None:
            return None
        return self.bytes_sent + self.bytes_received

    @property
    def file_ratio(self) -> float | None:
        """How many times smaller the file is than the float32 weights."""
        return self.float32_bytes / self.file_bytes if self.file_bytes else None

    @property
    def digest_ok(self) -> bool:
        """The device holds what the server published."""
        return self.device_digest == self.server_digest

    def to_json(self) -> dict[str, Any]:
        """As results.jsonl holds it; what follows from the rest is written out too."""
        derived = {
            "wire_bytes": self.wire_bytes,
            "file_ratio": self.file_ratio,
            "digest_ok": self.digest_ok,
        }
        return asdict(self) | derived

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Row":
        """Read a line of results.jsonl.

        Raises:
            KeyError, ValueError, TypeError, ScenarioError: a value is missing or of another kind.
        """
        known = {field.name: content[field.name] for field in fields(cls)}
        line = Line.named(known["variant"], known["size"])
        return cls(
            **known
            | {
                "variant": line.variant,
                "metric": Metric(known["metric"]),
                "added": tuple(known["added"]),
            }
        )


def write_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Write results.jsonl, whole or not at all."""
    lines = (json.dumps(row.to_json(), ensure_ascii=False) + "\n" for row in rows)
    with replaced_file(folder / RESULTS) as file:
        file.write("".join(lines).encode())


def read_rows(folder: Path) -> tuple[Row, ...]:
    """Read results.jsonl.

    Raises:
        RunFolderError: there is none, or a line cannot be read.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise RunFolderError(f"{folder}: expected a run's folder with {RESULTS}, found none")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append(Row.from_json(json.loads(line)))
        except (KeyError, ValueError, TypeError, ScenarioError) as error:
            raise RunFolderError(
                f"{path}, line {number}: expected a result row, found {line[:60]!r}"
            ) from error
    if not rows:
        raise RunFolderError(f"{path}: expected result rows, found none")
    return tuple(rows)
