"""A comparison on a terminal."""

from rich import box
from rich.console import Console
from rich.table import Table

from diffcodec.bench.compare import Comparison, Outcome

WIDTH_WITHOUT_TERMINAL = 130
"""A pipe has no width; 80 columns would break every row."""


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the table, and a line for everyone who did not take part."""
    if not console.is_terminal:
        console = Console(file=console.file, width=WIDTH_WITHOUT_TERMINAL)
    console.print(_table(comparison))
    for name, reason in comparison.skipped.items():
        console.print(f"  {name} skipped: {reason}", style="dim", highlight=False, soft_wrap=True)


def _table(comparison: Comparison) -> Table:
    reference = comparison.reference()
    table = Table(box=box.SIMPLE_HEAD, title_justify="left")
    changing = ""
    if comparison.nonzeros is not None:
        changing = f", {comparison.nonzeros:,} of {comparison.parameters:,} parameters change"
    rounds = "one round" if comparison.runs == 1 else f"medians of {comparison.runs} rounds"
    table.title = f"{comparison.work}{changing}; {rounds}"
    table.add_column("coder", no_wrap=True)
    over = f"/ {reference.name}"
    for heading in ("bytes", "ratio", "encode s", over, "decode s", over, "peak MB", "MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for outcome in comparison.outcomes:
        table.add_row(*_cells(outcome, reference, comparison.float32_bytes))
    table.caption = "peak MB: memory on top of what was there, encoding and decoding"
    table.caption_justify = "left"
    return table


def _cells(outcome: Outcome, reference: Outcome, float32_bytes: int) -> tuple[str, ...]:
    peaks = outcome.encode_peak_bytes, outcome.decode_peak_bytes
    return (
        outcome.name,
        f"{outcome.size_bytes:,}",
        f"{float32_bytes / outcome.size_bytes:.1f}",
        f"{outcome.encode.seconds:.4f}",
        f"{outcome.encode.times_of(reference.encode).median:.2f}",
        f"{outcome.decode.seconds:.4f}",
        f"{outcome.decode.times_of(reference.decode).median:.2f}",
        *("-" if peak is None else f"{peak / 1e6:.1f}" for peak in peaks),
    )
