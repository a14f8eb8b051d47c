"""Table 1 of the neural diff paper, from the lines of a run that it has. Pure.

Rows are generations. Columns are BL, then for the sparse and the hash method at each size BLC and
Diff, then BL∞, as in the paper; FT stands beside BL where it was run.

    Gen   # domains   BL      Sparse 20×       Sparse 40×       Hash 20× ...    BL∞
                              BLC     Diff     BLC     Diff
"""

from collections.abc import Callable
from dataclasses import dataclass

from simulator.lines import Line, Size, Variant
from simulator.report.summary import Cell, Summary
from simulator.report.wording import count, score

METHODS = (
    ("Sparse", Variant.BLC_SPARSE, Variant.PAPER_SPARSE),
    ("Hash", Variant.BLC_HASH, Variant.PAPER_HASH),
)


@dataclass(frozen=True)
class PaperTable:
    """A table in print.

    Attributes:
        columns: Headings of up to three lines.
        rows: As many texts each.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def paper_tables(summary: Summary) -> tuple[PaperTable, ...]:
    """Scores in the paper's form, then bytes under the same columns; none where it does not apply.

    It applies where a BLC and the paper's diff of the same method and size were run.
    """
    columns = _columns(summary)
    pairs = {(column.method, column.size) for column in columns if column.line.size is not None}
    lines = {column.line for column in columns}
    if not any(
        Line(blc, size) in lines and Line(diff, size) in lines
        for name, blc, diff in METHODS
        for method, size in pairs
        if method == name
    ):
        return ()
    return _scores(summary, columns), _bytes(summary, columns)


def paper_lines(summary: Summary) -> frozenset[Line]:
    """The lines of a run that the paper's table has a column for."""
    return frozenset(column.line for column in _columns(summary))


@dataclass(frozen=True)
class _Column:
    heading: str
    line: Line
    method: str = ""

    @property
    def size(self) -> Size | None:
        return self.line.size


def _columns(summary: Summary) -> list[_Column]:
    wanted = [_Column("\nBL\n1×", Line(Variant.BL)), _Column("\nFT\n1×", Line(Variant.FT))]
    for method, blc, diff in METHODS:
        sizes = [line.size for line in summary.lines if line.variant in (blc, diff)]
        for size in dict.fromkeys(sizes):
            at = str(size).replace("x", "×")
            wanted.append(_Column(f"{method}\n{at}\nBLC", Line(blc, size), method))
            wanted.append(_Column(f"{method}\n{at}\nDiff", Line(diff, size), method))
    wanted.append(_Column("\nStatic\nBL∞", Line(Variant.BL_INF)))
    return [column for column in wanted if column.line in summary.lines]


def _scores(summary: Summary, columns: list[_Column]) -> PaperTable:
    """What generation 0 does stands in BL's column alone, as in the paper."""
    facts = summary.facts
    rows = []
    for generation, known in enumerate(facts.known):
        cells = [
            summary.cell(column.line, generation)
            if generation or column.line == Line(Variant.BL)
            else None
            for column in columns
        ]
        texts = (score(cell.device_score) if cell is not None else "–" for cell in cells)
        rows.append((f"Gen {generation}", known, *texts))
    return PaperTable(
        title=f"{facts.metric.heading} on the device · test speech: {facts.speech_title}",
        columns=("\n\nGen", f"\n\n{facts.known_title}", *(column.heading for column in columns)),
        rows=tuple(rows),
    )


def _bytes(summary: Summary, columns: list[_Column]) -> PaperTable:
    counts: tuple[tuple[str, Callable[[Cell], str]], ...] = (
        ("file", lambda cell: count(cell.file_bytes)),
        ("float32 / file", lambda cell: count(cell.file_ratio, "{:.3g}×")),
        ("as the paper counts", lambda cell: count(cell.paper_bytes)),
        ("parameters / values", lambda cell: count(cell.nominal_ratio, "{:.3g}×")),
        ("on the wire", lambda cell: count(cell.wire_bytes)),
    )
    rows = []
    for generation in range(1, len(summary.facts.known)):
        cells = [summary.cell(column.line, generation) for column in columns]
        for number, (name, text) in enumerate(counts):
            texts = (text(cell) if cell is not None else "–" for cell in cells)
            rows.append((f"Gen {generation}" if number == 0 else "", name, *texts))
    return PaperTable(
        title=f"bytes of an update; the float32 weights are {4 * summary.facts.parameters:,}",
        columns=("\n\nGen", "\n\nbytes", *(column.heading for column in columns)),
        rows=tuple(rows),
    )
