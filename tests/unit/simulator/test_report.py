import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from simulator.errors import RunFolderError
from simulator.report.page import rebuild_report, write_report
from simulator.report.rows import Row, read_rows, write_rows
from simulator.report.summary import CatchUp, RunFacts, summarise
from simulator.report.table import print_table
from simulator.scenario import Variant

FACTS = RunFacts(
    scenario="digits",
    description="spoken digits 0-3, then 0-5",
    test_speech_is_real=True,
    corpus="fsdd",
    corpus_digest="c0ffee",
    test_speakers_unheard=False,
    seeds=(0, 1),
    budget="1/40",
    budget_bytes=43_034,
    model="small",
    parameters=430_346,
    steps={"dense": 1500, "sparse": 1500},
    command="ota-sim run digits --corpus fsdd",
    started_at="2025-01-01T00:00:00+00:00",
    seconds=612.0,
    environment={"commit": "abc1234", "python": "3.11.7"},
)
CATCH_UP = CatchUp(0, Variant.SPARSE, 0, 3, 3, 41_000, "d3", "d3", 0.98)


def a_row(variant: Variant, generation: int, seed: int, accuracy: float) -> Row:
    row = Row(
        seed=seed,
        generation=generation,
        variant=variant,
        added=("four", "five") if generation else ("zero", "one"),
        phrases=4,
        test_recordings=200,
        device_accuracy=accuracy,
        server_accuracy=accuracy,
        float32_bytes=1_721_384,
        device_digest=f"{variant}{generation}",
        server_digest=f"{variant}{generation}",
    )
    if variant is Variant.BL_INF and generation:
        return row
    size = 1_500_000 if variant is Variant.BL or not generation else 42_000
    return replace(
        row,
        file_bytes=size,
        bytes_sent=2_000,
        bytes_received=size + 9_000,
        nominal_ratio=1.0 if size > 50_000 else 21.5,
        apply_s=0.052,
        peak_bytes=61_000_000,
    )


def some_rows() -> list[Row]:
    accuracies = {
        Variant.BL: (0.99, 0.98),
        Variant.BLC: (0.90, 0.86),
        Variant.BL_INF: (0.99, 0.61),
        Variant.SPARSE: (0.99, 0.965),
        Variant.HASH: (0.99, 0.95),
    }
    return [
        a_row(variant, generation, seed, accuracy + 0.01 * seed)
        for variant, by_generation in accuracies.items()
        for generation, accuracy in enumerate(by_generation)
        for seed in (0, 1)
    ]


def a_table(rows, facts=FACTS, catch_ups=(CATCH_UP,)) -> str:
    file = io.StringIO()
    print_table(summarise(facts, rows, catch_ups), Console(file=file, width=40))
    return file.getvalue()


def test_rows_survive_the_file(tmp_path):
    write_rows(tmp_path, some_rows())
    assert read_rows(tmp_path) == tuple(some_rows())


def test_a_rebuilt_report_is_the_same(tmp_path):
    first = write_report(tmp_path, FACTS, some_rows(), [CATCH_UP])
    page = (tmp_path / "report.html").read_text()
    (tmp_path / "report.html").unlink()
    assert rebuild_report(tmp_path) == first
    rebuilt = (tmp_path / "report.html").read_text()
    # The ids inside matplotlib's SVG are the only thing that may differ.
    assert re.sub(r"[\w-]{6,}", "", rebuilt) == re.sub(r"[\w-]{6,}", "", page)


def test_cells_are_means_and_ranges_over_seeds():
    cells = summarise(FACTS, some_rows(), []).cells
    sparse = next(c for c in cells if (c.variant, c.generation) == (Variant.SPARSE, 1))
    assert sparse.seeds == 2
    assert sparse.device_accuracy.mean == pytest.approx(0.97)
    assert (sparse.device_accuracy.min, sparse.device_accuracy.max) == (0.965, 0.975)
    assert sparse.wire_bytes is not None
    assert sparse.wire_bytes.mean == 42_000 + 9_000 + 2_000


def test_cells_come_by_generation_then_in_the_order_of_the_papers_table():
    cells = summarise(FACTS, some_rows()[::-1], []).cells
    assert [(c.generation, c.variant) for c in cells] == [
        (generation, variant) for generation in (0, 1) for variant in Variant
    ]


class TestFindings:
    def findings(self, rows, catch_ups=()):
        return {f.text: f.holds for f in summarise(FACTS, rows, catch_ups).findings}

    def test_a_sparse_diff_close_to_bl_meets_its_target(self):
        found = self.findings(some_rows())
        text = next(text for text in found if text.startswith("sparse diff"))
        assert "-1.5 points at worst (generation 1); target -2.5" in text
        assert found[text] is True

    def test_a_sparse_diff_far_from_bl_misses_it(self):
        rows = [
            replace(r, device_accuracy=0.9, server_accuracy=0.9)
            if (r.variant, r.generation) == (Variant.SPARSE, 1)
            else r
            for r in some_rows()
        ]
        found = self.findings(rows)
        assert found[next(text for text in found if text.startswith("sparse diff"))] is False

    def test_a_device_that_disagrees_with_the_server_is_told(self):
        rows = some_rows()
        rows[3] = replace(rows[3], device_accuracy=rows[3].server_accuracy - 0.005)
        found = self.findings(rows)
        assert found[next(text for text in found if "differ by at most 0.50" in text)] is False

    def test_a_wrong_digest_is_told(self):
        rows = some_rows()
        rows[3] = replace(rows[3], device_digest="other")
        found = self.findings(rows)
        assert found["19 of 20 rebuilt weights have the server's digest"] is False
        assert "WRONG" in a_table(rows)

    def test_a_device_that_missed_generations_is_told(self):
        found = self.findings(some_rows(), [CATCH_UP, replace(CATCH_UP, seed=1, digest="x")])
        first, second = (text for text in found if "missed 2 generations" in text)
        assert found[first] is True
        assert found[second] is False


@pytest.mark.parametrize(("is_real", "word"), [(True, "REAL recordings"), (False, "SYNTHETIC")])
def test_table_and_page_say_whether_the_test_speech_is_real(tmp_path, is_real, word):
    facts = replace(FACTS, test_speech_is_real=is_real)
    assert f"test speech: {word}" in a_table(some_rows(), facts).splitlines()[0]
    write_report(tmp_path, facts, some_rows(), [])
    page = (tmp_path / "report.html").read_text()
    assert f"test speech: {word}" in re.search(r"<title>(.*?)</title>", page)[1]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["test_speech"] == ("real" if is_real else "synthetic")


def test_a_piped_table_keeps_its_cells_whole():
    assert "1,511,000" in a_table(some_rows()) or "1,509,000" in a_table(some_rows())
    assert "…" not in a_table(some_rows())


def test_a_narrow_terminal_leaves_out_details_rather_than_digits():
    file = io.StringIO()
    console = Console(file=file, width=90, force_terminal=True, color_system=None)
    print_table(summarise(FACTS, some_rows(), []), console)
    printed = file.getvalue()
    assert "file bytes" in printed
    assert "peak MB" not in printed
    assert "1,509,000" in printed
    assert "…" not in printed


def test_a_device_that_is_never_updated_has_dashes_for_bytes():
    line = next(
        line for line in a_table(some_rows()).splitlines() if "BL∞" in line and "61.5" in line
    )
    assert line.count("–") >= 6


def test_the_page_loads_nothing_and_runs_nothing(tmp_path):
    write_report(tmp_path, FACTS, some_rows(), [CATCH_UP])
    page = (tmp_path / "report.html").read_text()
    links = re.findall(r'(?:src|href|xlink:href)="([^"]*)"', page)
    assert all(link.startswith("#") for link in links)
    assert "<script" not in page
    assert page.count("<svg") == 2
    assert "prefers-color-scheme: dark" in page


def test_a_name_with_markup_is_text_on_the_page(tmp_path):
    write_report(tmp_path, replace(FACTS, corpus="<b>mine</b>"), some_rows(), [])
    assert "&lt;b&gt;mine" in (tmp_path / "report.html").read_text()


class TestBrokenFolders:
    def test_without_rows(self, tmp_path):
        with pytest.raises(RunFolderError, match=r"expected a run's folder with results.jsonl"):
            rebuild_report(tmp_path)

    def test_without_facts(self, tmp_path):
        write_rows(tmp_path, some_rows())
        with pytest.raises(RunFolderError, match=r"summary.json, found none"):
            rebuild_report(tmp_path)

    def test_with_a_broken_line(self, tmp_path):
        write_report(tmp_path, FACTS, some_rows(), [])
        with (tmp_path / "results.jsonl").open("a") as file:
            file.write('{"seed": 0}\n')
        with pytest.raises(RunFolderError, match="line 21: expected a result row"):
            rebuild_report(tmp_path)
