"""Figures of matplotlib as SVG for a page: its width, its text colour, its background."""

import io
import re
from contextlib import AbstractContextManager

import matplotlib as mpl
from matplotlib.figure import Figure

INK = "#010203"
"""Stands for the page's text colour while a figure is drawn."""


def drawing() -> AbstractContextManager[None]:
    """The settings that every figure is drawn under."""
    return mpl.rc_context({"svg.fonttype": "none", "font.size": 11, "svg.hashsalt": "neuraldiff"})


def to_svg(figure: Figure) -> str:
    """The <svg> element alone."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    figure_svg = file.getvalue()
    svg = figure_svg[figure_svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    # The white background of figure and axes goes; the page shows through.
    return svg.replace("fill: #ffffff", "fill: none").replace(INK, "currentColor")
