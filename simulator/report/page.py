"""report.html: one file, no scripts, nothing loaded from elsewhere."""

from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from simulator.errors import RunFolderError
from simulator.report import plots, table
from simulator.report.rows import Row, read_rows, write_rows
from simulator.report.summary import (
    CatchUp,
    RunFacts,
    Summary,
    read_facts,
    summarise,
    write_summary,
)

PAGE = "report.html"


def write_report(
    folder: Path, facts: RunFacts, rows: Iterable[Row], catch_ups: Iterable[CatchUp]
) -> Summary:
    """Write results.jsonl, summary.json and report.html.

    Raises:
        RunFolderError: the folder cannot be written to.
    """
    rows = tuple(rows)
    summary = summarise(facts, rows, catch_ups)
    try:
        write_rows(folder, rows)
        write_summary(folder, summary)
        (folder / PAGE).write_text(render(summary), encoding="utf-8")
    except OSError as error:
        raise RunFolderError(
            f"{folder}: expected a folder to write to: {error.strerror}"
        ) from error
    return summary


def rebuild_report(folder: Path) -> Summary:
    """Make summary.json and report.html again from results.jsonl and the facts of the run.

    Raises:
        RunFolderError: the folder holds no run.
    """
    rows = read_rows(folder)
    facts, catch_ups = read_facts(folder)
    return write_report(folder, facts, rows, catch_ups)


def render(summary: Summary) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("simulator.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(PAGE).render(
        summary=summary,
        facts=summary.facts,
        title=table.title(summary),
        columns=table.COLUMNS,
        lines=table.lines(summary),
        zip=zip,
        accuracy_plot=Markup(plots.accuracy_plot(summary)),  # noqa: S704 - drawn by us
        wire_plot=Markup(plots.wire_plot(summary)),  # noqa: S704 - drawn by us
    )
