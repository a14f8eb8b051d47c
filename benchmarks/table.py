"""A result on a terminal."""

from rich import box
from rich.console import Console
from rich.table import Table

from diffcodec.bench.results import Case, Result, Row

WIDTH_WITHOUT_TERMINAL = 130
"""A pipe has no width; 80 columns would break every row."""


def print_result(result: Result, console: Console) -> None:
    """Print a table a case, with what it depends on below."""
    if not console.is_terminal:
        console = Console(file=console.file, width=WIDTH_WITHOUT_TERMINAL)
    for case in result.cases:
        console.print(_table(result.benchmark, case))
    facts = ", ".join(f"{name} {value}" for name, value in result.environment.items())
    console.print(
        f"medians of {result.runs} runs in turns; seed {result.seed}; {facts}", style="dim"
    )


def _table(benchmark: str, case: Case) -> Table:
    reference = case.rows[0]
    table = Table(box=box.SIMPLE_HEAD, title_justify="left")
    table.title = f"{benchmark}: {case.work}, {case.work_bytes:,} bytes"
    table.add_column("contender", no_wrap=True)
    for heading in ("seconds", "MB/s", f"time / {reference.contender} (min-max)"):
        table.add_column(heading, justify="right", no_wrap=True)
    has_sizes = any(row.middle("size_bytes") is not None for row in case.rows)
    has_memory = any(row.middle("peak_bytes") is not None for row in case.rows)
    for heading in ("bytes", "of work") * has_sizes + ("peak MB", "at start") * has_memory:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in case.rows:
        table.add_row(
            row.contender,
            f"{row.seconds:.4f}",
            f"{case.work_bytes / row.seconds / 1e6:,.0f}",
            _times(row, reference),
            *_sizes(row, case) * has_sizes,
            *_memory(row) * has_memory,
        )
    if case.skipped:
        skipped = (f"{name} skipped: {reason}" for name, reason in case.skipped.items())
        table.caption, table.caption_justify = "\n".join(skipped), "left"
    return table


def _times(row: Row, reference: Row) -> str:
    if row is reference:
        return "1"
    times = row.times_of(reference)
    return f"{times.median:.2f} ({times.least:.2f}-{times.most:.2f})"


def _sizes(row: Row, case: Case) -> tuple[str, ...]:
    size_bytes = row.middle("size_bytes")
    if size_bytes is None:
        return "", ""
    return f"{size_bytes:,}", f"{size_bytes / case.work_bytes:.2%}"


def _memory(row: Row) -> tuple[str, ...]:
    found = row.middle("peak_bytes"), row.middle("start_bytes")
    return tuple("" if amount is None else f"{amount / 1e6:.0f}" for amount in found)
