"""Plots as SVG that takes its text colour from the page, so that light and dark both read."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from simulator.report.summary import Cell, Spread, Summary
from simulator.scenario import TITLES, Variant

INK = "#010203"
"""Stands for the page's text colour in the SVG."""


class Style(NamedTuple):
    """How a variant is drawn, the same in every plot."""

    colour: str
    marker: str
    dash: str


# Middle tones of the Okabe-Ito palette: distinct to the colour-blind, on white and on black.
STYLES = {
    Variant.BL: Style("#7a7a7a", "o", "-"),
    Variant.BLC: Style("#d55e00", "s", "-"),
    Variant.BL_INF: Style("#a0a0a0", "x", ":"),
    Variant.SPARSE: Style("#0a84d0", "D", "-"),
    Variant.HASH: Style("#00a078", "^", "-"),
}

DODGE = 0.07
"""How far apart variants stand at one generation, in generations."""


Points = Sequence[tuple[int, Spread]]
"""A variant's values by generation."""


def accuracy_plot(summary: Summary) -> str:
    """Accuracy on the device by generation: a line for each variant, its range as a band."""
    with _style():
        figure, axes = _new_plot("accuracy on the device, %")
        for variant, points in _points(summary, lambda cell: cell.device_accuracy):
            generations = [generation for generation, _ in points]
            means = [100 * spread.mean for _, spread in points]
            axes.plot(generations, means, **_look(variant), linewidth=2)
            if any(spread.min < spread.max for _, spread in points):
                lows = [100 * spread.min for _, spread in points]
                highs = [100 * spread.max for _, spread in points]
                colour = STYLES[variant].colour
                axes.fill_between(generations, lows, highs, color=colour, alpha=0.15, linewidth=0)
        return _finish(figure, axes)


def wire_plot(summary: Summary) -> str:
    """Bytes on the wire by generation, logarithmic: a dot for each variant, side by side."""
    with _style():
        figure, axes = _new_plot("bytes on the wire")
        for variant, points in _points(summary, lambda cell: cell.wire_bytes):
            # Diffs that use the same budget would hide each other.
            aside = DODGE * (list(Variant).index(variant) - (len(Variant) - 1) / 2)
            places = [generation + aside for generation, _ in points]
            means = [spread.mean for _, spread in points]
            axes.plot(places, means, **_look(variant) | {"linestyle": "none"})
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(_bytes_label))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        return _finish(figure, axes)


def _style() -> AbstractContextManager[None]:
    return mpl.rc_context({"svg.fonttype": "none", "font.size": 11, "svg.hashsalt": "neuraldiff"})


def _points(
    summary: Summary, value: Callable[[Cell], Spread | None]
) -> Iterator[tuple[Variant, Points]]:
    for variant in Variant:
        points = [
            (cell.generation, spread)
            for cell in summary.cells
            if cell.variant is variant and (spread := value(cell)) is not None
        ]
        if points:
            yield variant, points


def _look(variant: Variant) -> dict[str, Any]:
    style = STYLES[variant]
    look = {"color": style.colour, "marker": style.marker, "linestyle": style.dash}
    return look | {"markersize": 6, "label": TITLES[variant]}


def _new_plot(label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel("generation", color=INK)
    axes.set_ylabel(label, color=INK)
    return figure, axes


def _finish(figure: Figure, axes: Axes) -> str:
    """Dress the axes and draw."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.8)
    axes.tick_params(which="both", colors=INK, length=0)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(INK)
    axes.legend(
        ncols=5, frameon=False, labelcolor=INK, loc="lower left", bbox_to_anchor=(-0.02, 1.0)
    )
    return _to_svg(figure)


def _bytes_label(value: float, _position: int) -> str:
    for unit, size in (("MB", 1e6), ("KB", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g} B"


def _to_svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    figure_svg = file.getvalue()
    svg = figure_svg[figure_svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    # The white background of figure and axes goes; the page shows through.
    return svg.replace("fill: #ffffff", "fill: none").replace(INK, "currentColor")
