"""What the command `diffcodec` prints for people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from diffcodec.summary import Summary


def print_summary(summary: Summary, output: Path) -> None:
    """A diff that was made, beside the change that it stands for."""
    methods = ", ".join(f"{method} {count}" for method, count in summary.methods.items())
    error = summary.relative_error
    share = summary.nonzeros / max(1, summary.parameters)
    table = Table(show_header=False, box=None)
    table.add_row("file", str(output))
    table.add_row("bytes", f"{summary.file_bytes:,}")
    table.add_row("ratio", f"{summary.ratio:.1f} x below float32 ({summary.float32_bytes:,} bytes)")
    table.add_row("coders", ", ".join(summary.coders) or "none: nothing is coded")
    table.add_row("tensors", methods or "none changes")
    for kind, names in summary.structure.items():
        shown = ", ".join(names[:5])
        table.add_row(kind, f"{len(names)}: {shown}{' ...' if len(names) > 5 else ''}")
    table.add_row("non-zeros", f"{summary.nonzeros:,} of {summary.parameters:,} ({share:.2%})")
    table.add_row("error", "-" if error is None else f"{error:.4f} of the change (L2)")
    table.add_row("result", summary.target_digest.hex())
    _console().print(table)


def print_header(shown: Mapping[str, Any]) -> None:
    """What a file says of itself, as `summary.header_to_json` gives it."""
    console = _console()
    facts = Table(show_header=False, box=None)
    facts.add_row("bytes", f"{shown['file_bytes']:,}")
    facts.add_row("base", shown["base_digest"] or "none: a snapshot")
    facts.add_row("result", shown["target_digest"])
    facts.add_row("layout", f"{shown['layout_check']}...")
    facts.add_row("coders", ", ".join(shown["coders"]) or "-")
    facts.add_row("graph", f"{shown['graph_bytes']:,} bytes" if shown["graph_bytes"] else "-")
    console.print(facts)
    for number, layer in enumerate(shown["layers"], 1):
        _print_layer(console, number, layer)


def _print_layer(console: Console, number: int, layer: Mapping[str, Any]) -> None:
    sections = Table("section", "coder", "raw bytes", "bytes", title=f"layer {number}")
    for section in layer["sections"]:
        raw = f"{section['raw_bytes']:,}" if section["raw_bytes"] else "-"
        sections.add_row(section["kind"], section["coder"], raw, f"{section['coded_bytes']:,}")
    console.print(sections)
    tensors = Table("#", "tensor", "method", "count", "levels", "scale", "hashes")
    for tensor in layer["tensors"]:
        tensors.add_row(
            str(tensor["index"]),
            tensor["name"] or "-",
            tensor["method"],
            f"{tensor['count']:,}" if tensor["count"] else "-",
            str(tensor["largest"] or "-"),
            _shown_scale(tensor["scale"]) if tensor["count"] else "-",
            str(tensor["hashes"] or "-"),
        )
    console.print(tensors)


def _console() -> Console:
    # Names of tensors and files come from outside: what looks like markup is text here.
    return Console(markup=False, emoji=False)


def _shown_scale(numbers: list[float]) -> str:
    shown = " ".join(f"{number:.4g}" for number in numbers[:4])
    return f"{shown} ..." if len(numbers) > 4 else shown
