"""The tables of a run, for a terminal and for the page."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from simulator.report.paper_table import PaperTable, paper_lines, paper_tables
from simulator.report.report import Report
from simulator.report.summary import Cell
from simulator.report.wording import NOTHING, count, labels, points, score
from simulator.scores import Metric

WIDTH_WITHOUT_TERMINAL = 210
"""A pipe has no width; 80 columns would break every cell."""


@dataclass(frozen=True)
class Column:
    """A heading and how a cell is printed under it.

    Attributes:
        detail: 0 is always printed; narrow terminals go without 2, narrower ones without 1.
    """

    heading: str
    text: Callable[[Cell], str]
    is_number: bool = True
    is_per_generation: bool = False
    detail: int = 0


def columns_of(report: Report) -> tuple[Column, ...]:
    """All columns, under the names of the run's metric."""
    worse = report.facts.metric.worse
    metric = "WER %" if report.facts.metric is Metric.WER else "%"
    return (
        Column("gen", lambda cell: str(cell.generation), is_per_generation=True),
        Column("added", lambda cell: labels(cell.added), is_number=False, is_per_generation=True),
        Column("variant", lambda cell: cell.variant.traits.title, is_number=False),
        Column("size", lambda cell: (cell.size or NOTHING).replace("x", "×")),
        Column(f"device {metric}", lambda cell: score(cell.device_score)),
        Column(f"{worse} BL", lambda cell: points(cell.below_bl)),
        Column(f"{worse} FT", lambda cell: points(cell.below_ft), detail=1),
        Column(f"server {metric}", lambda cell: score(cell.server_score), detail=2),
        Column("file bytes", lambda cell: count(cell.file_bytes)),
        Column("ratio", lambda cell: count(cell.file_ratio, "1/{:.3g}"), detail=1),
        Column("nominal", lambda cell: count(cell.nominal_ratio, "{:,.1f}×"), detail=1),
        Column("paper bytes", lambda cell: count(cell.paper_bytes), detail=2),
        Column("sent", lambda cell: count(cell.bytes_sent), detail=2),
        Column("received", lambda cell: count(cell.bytes_received), detail=1),
        Column("apply s", lambda cell: count(cell.apply_s, "{:.3f}"), detail=2),
        Column("peak MB", lambda cell: count(cell.peak_bytes, "{:.0f}", 1e6), detail=2),
        Column("digest", lambda cell: "ok" if cell.digest_ok else "WRONG", is_number=False),
    )


@dataclass(frozen=True)
class Printed:
    """A cell in print; what belongs to the generation stands on its first line alone."""

    cell: Cell
    is_first: bool
    texts: tuple[str, ...]


def printed(report: Report, columns: Sequence[Column]) -> list[Printed]:
    """The body of the table: generation 0 once, then every line of each generation."""
    lines: list[Printed] = []
    for cell in report.summary.cells:
        if cell.generation == 0 and cell.line != report.summary.lines[0]:
            continue  # all lines begin with the same one
        is_first = not lines or lines[-1].cell.generation != cell.generation
        texts = (
            column.text(cell) if is_first or not column.is_per_generation else ""
            for column in columns
        )
        lines.append(Printed(cell, is_first, tuple(texts)))
    return lines


def print_report(report: Report, console: Console) -> None:
    """Print title, tables and findings.

    Where the paper's table says it all it is printed in place of the long one, which the page has.
    """
    if not console.is_terminal:
        console = Console(file=console.file, width=WIDTH_WITHOUT_TERMINAL)
    console.print(Text(report.facts.title, style="bold"))
    for table in _tables(report, console):
        console.print(table)
    for finding in report.findings:
        mark = {True: "✓", False: "✗", None: "·"}[finding.holds]
        console.print(Text(f"{mark} {finding.text}"), highlight=False)


def _tables(report: Report, console: Console) -> Iterator[Table]:
    papers = paper_tables(report.summary)
    yield from (_paper_table(paper) for paper in papers)
    if not papers or not paper_lines(report.summary).issuperset(report.summary.lines):
        yield _fitting_table(report, console)
    if report.best_at_sizes:
        yield best_table(report)


def _fitting_table(report: Report, console: Console) -> Table:
    """With all columns, or without details where they have no room."""
    endless = console.options.update(width=1_000)
    for detail in (2, 1, 0):
        columns = [column for column in columns_of(report) if column.detail <= detail]
        table = _long_table(report, columns)
        if detail < 2:
            table.caption = "the report has more columns"
        if Measurement.get(console, endless, table).maximum <= console.width:
            break
    return table


def _long_table(report: Report, columns: Sequence[Column]) -> Table:
    table = _new_table()
    for column in columns:
        justify: JustifyMethod = "right" if column.is_number else "left"
        table.add_column(column.heading, justify=justify, no_wrap=column.heading != "added")
    for line in printed(report, columns):
        if line.is_first and table.rows:
            table.add_row()
        table.add_row(*line.texts)
    return table


def _paper_table(paper: PaperTable) -> Table:
    table = _new_table(title=paper.title)
    for number, heading in enumerate(paper.columns):
        table.add_column(heading, justify="left" if number < 2 else "right", no_wrap=True)
    for row in paper.rows:
        if row[0] and table.rows and not paper.rows[1][0]:
            table.add_row()
        table.add_row(*row)
    return table


def best_table(report: Report) -> Table:
    """The best method of each size, and the others behind it."""
    table = _new_table(title="the best method of each size, over all updates")
    for heading in ("size", "best", f"points {report.facts.metric.worse} BL", "the others"):
        table.add_column(heading, justify="right" if heading == "size" else "left")
    for one in report.best_at_sizes:
        first, *others = ((m.variant.traits.title, f"{m.below_bl:.1f}") for m in one.ranking)
        table.add_row(one.size, *first, ", ".join(f"{name} {below}" for name, below in others))
    return table


def _new_table(title: str | None = None) -> Table:
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption_justify="left",
        header_style="bold",
    )
