"""The table of a run, for a terminal and for the page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from simulator.report.summary import Cell, Spread, Summary
from simulator.scenario import TITLES

NOTHING = "–"
WIDTH_WITHOUT_TERMINAL = 170
"""A pipe has no width; 80 columns would break every cell."""


@dataclass(frozen=True)
class Column:
    """A heading and how a cell is printed under it; a narrow terminal goes without details."""

    heading: str
    text: Callable[[Cell], str]
    is_number: bool = True
    is_per_generation: bool = False
    is_detail: bool = False


COLUMNS = (
    Column("gen", lambda cell: str(cell.generation), is_per_generation=True),
    Column("added", lambda cell: _labels(cell.added), is_number=False, is_per_generation=True),
    Column("variant", lambda cell: TITLES[cell.variant], is_number=False),
    Column("device %", lambda cell: percent(cell.device_accuracy)),
    Column("server %", lambda cell: percent(cell.server_accuracy), is_detail=True),
    Column("file bytes", lambda cell: number(cell.file_bytes, "{:,.0f}")),
    Column("ratio", lambda cell: number(cell.file_ratio, "1/{:.3g}")),
    Column("sent", lambda cell: number(cell.bytes_sent, "{:,.0f}"), is_detail=True),
    Column("received", lambda cell: number(cell.bytes_received, "{:,.0f}")),
    Column("nominal", lambda cell: number(cell.nominal_ratio, "{:,.1f}×"), is_detail=True),
    Column("apply s", lambda cell: number(cell.apply_s, "{:.3f}"), is_detail=True),
    Column("peak MB", lambda cell: number(cell.peak_bytes, "{:.0f}", unit=1e6), is_detail=True),
    Column("digest", lambda cell: "ok" if cell.digest_ok else "WRONG", is_number=False),
)


def title(summary: Summary) -> str:
    """What was run, on which speech, over how many seeds."""
    facts = summary.facts
    seeds = f"{len(facts.seeds)} seed" + ("s" if len(facts.seeds) > 1 else "")
    return (
        f"{facts.scenario} · test speech: {facts.speech_title} · budget {facts.budget} of "
        f"float32 = {facts.budget_bytes:,} bytes · {seeds}"
    )


def print_table(summary: Summary, console: Console) -> None:
    """Print title, table and findings; without details where they have no room."""
    if not console.is_terminal:
        console = Console(file=console.file, width=WIDTH_WITHOUT_TERMINAL)
    table = _table(summary, COLUMNS)
    endless = console.options.update(width=1_000)
    if Measurement.get(console, endless, table).maximum > console.width:
        table = _table(summary, [column for column in COLUMNS if not column.is_detail])
        table.caption = "the report has more columns"
    console.print(Text(title(summary), style="bold"))
    console.print(table)
    for finding in summary.findings:
        mark = {True: "✓", False: "✗", None: "·"}[finding.holds]
        console.print(Text(f"{mark} {finding.text}"), highlight=False)


def _table(summary: Summary, columns: Sequence[Column]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption_justify="left", header_style="bold"
    )
    for column in columns:
        justify: JustifyMethod = "right" if column.is_number else "left"
        table.add_column(column.heading, justify=justify, no_wrap=column.heading != "added")
    for line in lines(summary, columns):
        if line.is_first and table.rows:
            table.add_row()
        table.add_row(*line.texts)
    return table


@dataclass(frozen=True)
class Line:
    """A cell in print; what belongs to the generation stands on its first line alone."""

    cell: Cell
    is_first: bool
    texts: tuple[str, ...]


def lines(summary: Summary, columns: Sequence[Column] = COLUMNS) -> list[Line]:
    """The body of the table."""
    printed: list[Line] = []
    for cell in summary.cells:
        is_first = not printed or printed[-1].cell.generation != cell.generation
        texts = (
            column.text(cell) if is_first or not column.is_per_generation else ""
            for column in columns
        )
        printed.append(Line(cell, is_first, tuple(texts)))
    return printed


def percent(spread: Spread) -> str:
    """98.2, or with several seeds 98.2 (97.5–98.8)."""
    mean = f"{100 * spread.mean:.1f}"
    if spread.min == spread.max:
        return mean
    return f"{mean} ({100 * spread.min:.1f}–{100 * spread.max:.1f})"


def number(spread: Spread | None, form: str, unit: float = 1.0) -> str:
    """The mean, or a dash where nothing was measured."""
    return NOTHING if spread is None else form.format(spread.mean / unit)


def _labels(added: tuple[str, ...]) -> str:
    listed = ", ".join(added[:4])
    return listed if len(added) <= 4 else f"{listed} and {len(added) - 4} more"
