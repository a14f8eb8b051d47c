"""report.html: one file, no scripts, nothing loaded from elsewhere."""

import json
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from diffcodec.durable import replaced_file
from simulator.errors import RunFolderError
from simulator.report import plots, table
from simulator.report.facts import SUMMARY, CatchUp, RunFacts, read_facts
from simulator.report.paper_table import paper_tables
from simulator.report.report import Report, make_report
from simulator.report.rows import Row, read_rows, write_rows

PAGE = "report.html"
LOOK = resources.files("server.web") / "static" / "look.css"
"""What this page and the operator's page look like; here it is part of the one file."""


def write_report(
    folder: Path, facts: RunFacts, rows: Iterable[Row], catch_ups: Iterable[CatchUp]
) -> Report:
    """Write results.jsonl, summary.json and report.html.

    Raises:
        RunFolderError: the folder cannot be written to.
    """
    rows = tuple(rows)
    report = make_report(facts, rows, catch_ups)
    summary = json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n"
    try:
        write_rows(folder, rows)
        with replaced_file(folder / SUMMARY) as file:
            file.write(summary.encode())
        (folder / PAGE).write_text(render(report), encoding="utf-8")
    except OSError as error:
        raise RunFolderError(
            f"{folder}: expected a folder to write to: {error.strerror}"
        ) from error
    return report


def read_report(folder: Path) -> Report:
    """The report of a run, from results.jsonl and the facts of the run; writes nothing.

    Raises:
        RunFolderError: the folder holds no run.
    """
    rows = read_rows(folder)
    facts, catch_ups = read_facts(folder)
    return make_report(facts, rows, catch_ups)


def rebuild_report(folder: Path) -> Report:
    """Make summary.json and report.html again from results.jsonl and the facts of the run.

    Raises:
        RunFolderError: the folder holds no run, or cannot be written to.
    """
    report = read_report(folder)
    return write_report(folder, report.facts, report.summary.rows, report.summary.catch_ups)


def render(report: Report) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("simulator.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    columns = table.columns_of(report)
    return environment.get_template(PAGE).render(
        report=report,
        facts=report.facts,
        papers=paper_tables(report.summary),
        columns=columns,
        lines=table.printed(report, columns),
        zip=zip,
        look=Markup(LOOK.read_text(encoding="utf-8")),  # noqa: S704 - written by us
        score_plot=Markup(plots.score_plot(report)),  # noqa: S704 - drawn by us
        bytes_plot=Markup(plots.bytes_plot(report)),  # noqa: S704 - drawn by us
    )
