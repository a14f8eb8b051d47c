"""Plots as SVG that takes its text colour from the page, so that light and dark both read."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from simulator.lines import Variant
from simulator.report.curves import Curve
from simulator.report.report import Report
from simulator.report.summary import Spread
from simulator.report.svg import INK, drawing, to_svg


class Style(NamedTuple):
    """How a variant is drawn, the same in every plot."""

    colour: str
    marker: str
    dash: str = "-"


# Middle tones of the Okabe-Ito palette and its neighbours: distinct on white and on black.
STYLES = {
    Variant.BL: Style("#7a7a7a", "o"),
    Variant.FT: Style("#8c6bb1", "P"),
    Variant.BL_INF: Style("#a0a0a0", "x", ":"),
    Variant.BLC_SPARSE: Style("#d55e00", "s"),
    Variant.BLC_HASH: Style("#c98a00", "v"),
    Variant.PAPER_SPARSE: Style("#56a0d3", "D", "--"),
    Variant.PAPER_HASH: Style("#4db39a", "^", "--"),
    Variant.SPARSE: Style("#0a6fc0", "D"),
    Variant.SPARSE_TAUGHT: Style("#0a6fc0", "*"),
    Variant.SPARSE_MAGNITUDE: Style("#0a6fc0", "d", "--"),
    Variant.SPARSE_REGROW: Style("#0a6fc0", "H", "-."),
    Variant.SPARSE_FEEDBACK: Style("#0a6fc0", "X", ":"),
    Variant.HASH: Style("#008a66", "^"),
    Variant.LOWRANK: Style("#c2549d", "p"),
    Variant.AUTO: Style("#e0393e", "*"),
    Variant.LORA: Style("#93651c", "X", "--"),
    Variant.INT8: Style("#4b5fc8", "h"),
}

PANELS_ABREAST = 2


def score_plot(report: Report) -> str:
    """Score on the device by generation: a panel for each size, BL and its like in all."""
    sizes: list[str | None] = list(
        dict.fromkeys(str(line.size) for line in report.summary.lines if line.size is not None)
    ) or [None]
    abreast = min(PANELS_ABREAST, len(sizes))
    down = math.ceil(len(sizes) / abreast)
    with drawing():
        figure = Figure(figsize=(7.2 if abreast == 1 else 5.4 * abreast, 3.8 * down))
        figure.set_layout_engine("constrained")
        grid = figure.subplots(down, abreast, squeeze=False, sharey=True)
        panels = [panel for row in grid for panel in row]
        for panel, size in zip(panels, sizes, strict=False):
            _draw_generations(panel, report, size)
            if len(sizes) > 1:
                panel.set_title(str(size).replace("x", "×"), color=INK, fontsize=11, loc="left")
        for panel in panels[len(sizes) :]:
            panel.set_axis_off()
        _legend(figure, panels, "outside upper left", columns=4 if abreast > 1 else 3)
        return to_svg(figure)


def bytes_plot(report: Report) -> str:
    """Score on the device against bytes of a file, logarithmic; bars are ranges over seeds."""
    with drawing():
        figure = Figure(figsize=(10.8, 5.0), layout="constrained")
        axes = figure.add_subplot()
        for curve in report.curves:
            _draw_curve(axes, curve)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(_bytes_label))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        _dress(axes, "bytes of an update", f"{report.facts.metric.heading}, over all updates")
        _legend(figure, [axes], "outside right upper", columns=1)
        return to_svg(figure)


def _draw_generations(axes: Axes, report: Report, size: str | None) -> None:
    for variant in Variant:
        cells = [
            cell
            for cell in report.summary.cells
            if cell.variant is variant and cell.size in (None, size)
        ]
        if not cells:
            continue
        generations = [cell.generation for cell in cells]
        spreads = [cell.device_score for cell in cells]
        axes.plot(generations, _percent(spreads, "mean"), **_look(variant), linewidth=2)
        if any(spread.min < spread.max for spread in spreads):
            lows, highs = _percent(spreads, "min"), _percent(spreads, "max")
            colour = STYLES[variant].colour
            axes.fill_between(generations, lows, highs, color=colour, alpha=0.13, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _dress(axes, "generation", f"{report.facts.metric.heading} on the device")


def _draw_curve(axes: Axes, curve: Curve) -> None:
    look = _look(curve.variant) | {"label": curve.title.replace(", ", ",\n")}
    if curve.is_counted:
        look |= {"linestyle": ":", "fillstyle": "none"}
    spreads = [point.score for point in curve.points]
    means = _percent(spreads, "mean")
    below = [mean - low for mean, low in zip(means, _percent(spreads, "min"), strict=True)]
    above = [high - mean for mean, high in zip(means, _percent(spreads, "max"), strict=True)]
    places = [point.bytes.mean for point in curve.points]
    axes.errorbar(places, means, yerr=[below, above], capsize=2, elinewidth=1, **look)
    if curve.variant in (Variant.BL, Variant.FT):
        # Nothing at fewer bytes: how far the others are from it is what the plot is for.
        axes.axhline(means[0], color=look["color"], linewidth=1, linestyle=":")


def _percent(spreads: Sequence[Spread], of: str) -> list[float]:
    return [100 * float(getattr(spread, of)) for spread in spreads]


def _look(variant: Variant) -> dict[str, Any]:
    style = STYLES[variant]
    look = {"color": style.colour, "marker": style.marker, "linestyle": style.dash}
    return look | {"markersize": 6, "label": variant.traits.title}


def _dress(axes: Axes, along: str, up: str) -> None:
    axes.set_xlabel(along, color=INK)
    axes.set_ylabel(up, color=INK)
    axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.8)
    axes.tick_params(which="both", colors=INK, length=0)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(INK)


def _legend(
    figure: Figure,
    panels: Sequence[Axes],
    place: Literal["outside upper left", "outside right upper"],
    columns: int,
) -> None:
    """One for all panels, each entry once."""
    entries: dict[str, Artist] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(str(label), handle)
    figure.legend(
        list(entries.values()),
        list(entries),
        loc=place,
        ncols=columns,
        frameon=False,
        labelcolor=INK,
    )


def _bytes_label(value: float, _position: int) -> str:
    for unit, size in (("MB", 1e6), ("KB", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g} B"
