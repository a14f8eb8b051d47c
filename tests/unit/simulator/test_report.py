import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from simulator.errors import RunFolderError
from simulator.lines import TRAITS, Line, Variant
from simulator.report.facts import CatchUp, RunFacts
from simulator.report.page import read_report, rebuild_report, write_report
from simulator.report.paper_table import paper_tables
from simulator.report.plots import STYLES
from simulator.report.report import Report, make_report
from simulator.report.rows import Row, read_rows, write_rows
from simulator.report.table import columns_of, print_report
from simulator.scores import Metric

FACTS = RunFacts(
    scenario="digits",
    description="spoken digits 0-3, then 0-5",
    task="slu",
    metric=Metric.ACCURACY,
    test_speech_is_real=True,
    corpus="fsdd",
    corpus_digest="c0ffee",
    test_speakers_unheard=False,
    known=("2", "4"),
    known_title="# texts",
    seeds=(0, 1),
    sizes=("1/40",),
    targets={"sparse 1/40": 2.5},
    model="small",
    parameters=430_346,
    batch_size=64,
    steps={"default": 1500},
    command="ota-sim run digits --corpus fsdd",
    started_at="2025-01-01T00:00:00+00:00",
    seconds=612.0,
    environment={"commit": "abc1234", "python": "3.11.7"},
)
CATCH_UP = CatchUp(0, Variant.SPARSE, "1/40", 0, 3, 3, 41_000, "d3", "d3", 0.98)


def a_row(
    variant: Variant,
    generation: int,
    seed: int,
    score: float,
    size: str = "1/40",
    file: int = 42_000,
) -> Row:
    row = Row(
        seed=seed,
        generation=generation,
        variant=variant,
        size=size if variant.traits.is_sized else None,
        metric=Metric.ACCURACY,
        added=("four", "five") if generation else ("zero", "one"),
        phrases=4,
        test_recordings=200,
        device_score=score,
        server_score=score,
        float32_bytes=1_721_384,
        device_digest=f"{variant}{generation}",
        server_digest=f"{variant}{generation}",
    )
    if variant is Variant.BL_INF and generation:
        return row
    is_whole = not generation or not variant.traits.is_sized
    file = 1_500_000 if is_whole else file
    return replace(
        row,
        file_bytes=file,
        paper_bytes=1_721_384 if is_whole else 4 * file,
        bytes_sent=2_000,
        bytes_received=file + 9_000,
        nominal_ratio=1.0 if is_whole else 21.5,
        apply_s=0.052,
        peak_bytes=61_000_000,
    )


def some_rows() -> list[Row]:
    accuracies = {
        Variant.BL: (0.99, 0.98),
        Variant.FT: (0.99, 0.975),
        Variant.BL_INF: (0.99, 0.61),
        Variant.BLC_SPARSE: (0.99, 0.86),
        Variant.SPARSE: (0.99, 0.965),
        Variant.HASH: (0.99, 0.95),
    }
    return [
        a_row(variant, generation, seed, accuracy + 0.01 * seed)
        for variant, by_generation in accuracies.items()
        for generation, accuracy in enumerate(by_generation)
        for seed in (0, 1)
    ]


def a_report(rows=None, facts=FACTS, catch_ups=()) -> Report:
    return make_report(facts, some_rows() if rows is None else rows, catch_ups)


def a_table(rows=None, facts=FACTS, catch_ups=(CATCH_UP,)) -> str:
    file = io.StringIO()
    print_report(a_report(rows, facts, catch_ups), Console(file=file, width=40))
    return file.getvalue()


def test_every_variant_has_a_title_and_a_look_of_its_own() -> None:
    assert set(TRAITS) == set(STYLES) == set(Variant)
    titles = {traits.title for traits in TRAITS.values()}
    assert len(titles) == len(set(STYLES.values())) == len(Variant)


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
    sparse = a_report().summary.cell(Line.named("sparse", "1/40"), 1)
    assert sparse.seeds == 2
    assert sparse.device_score.mean == pytest.approx(0.97)
    assert (sparse.device_score.min, sparse.device_score.max) == (0.965, 0.975)
    assert sparse.wire_bytes is not None
    assert sparse.wire_bytes.mean == 42_000 + 9_000 + 2_000


def test_cells_come_by_generation_then_in_the_order_of_the_papers_table():
    cells = a_report(some_rows()[::-1]).summary.cells
    variants = list(dict.fromkeys(row.variant for row in some_rows()))
    assert [(c.generation, c.variant) for c in cells] == [
        (generation, variant) for generation in (0, 1) for variant in variants
    ]


def test_distances_are_taken_seed_by_seed():
    rows = [
        a_row(Variant.BL, 1, 0, 0.90),
        a_row(Variant.BL, 1, 1, 0.80),
        a_row(Variant.FT, 1, 0, 0.85),
        a_row(Variant.FT, 1, 1, 0.85),
        a_row(Variant.SPARSE, 1, 0, 0.88),
        a_row(Variant.SPARSE, 1, 1, 0.84),
    ]
    cell = a_report(rows).summary.cell(Line.named("sparse", "1/40"), 1)
    below_bl, below_ft = cell.below_bl, cell.below_ft
    assert (below_bl.mean, below_bl.min, below_bl.max) == pytest.approx((-1, -4, 2))
    assert (below_ft.mean, below_ft.min, below_ft.max) == pytest.approx((-1, -3, 1))


def test_of_word_error_rates_a_higher_one_is_below():
    rows = [
        replace(a_row(variant, 1, 0, score), metric=Metric.WER)
        for variant, score in ((Variant.BL, 0.08), (Variant.SPARSE, 0.10))
    ]
    report = a_report(rows, replace(FACTS, metric=Metric.WER, targets={"sparse 1/40": 1.5}))
    cell = report.summary.cell(Line.named("sparse", "1/40"), 1)
    assert cell.below_bl.mean == pytest.approx(2)
    assert report.findings[0].text.startswith("sparse diff 1/40: 2.0 points above BL at worst")
    assert "above BL" in [column.heading for column in columns_of(report)]
    assert report.findings[0].holds is False


class TestFindings:
    def findings(self, rows, catch_ups=()):
        return {f.text: f.holds for f in a_report(rows, catch_ups=catch_ups).findings}

    def test_a_sparse_diff_close_to_bl_meets_its_target(self):
        found = self.findings(some_rows())
        text = next(text for text in found if text.startswith("sparse diff"))
        assert "1.5 points below BL at worst (generation 1), there 1.0 points below FT" in text
        assert text.endswith("target 2.5")
        assert found[text] is True
        assert found[next(text for text in found if text.startswith("hash diff"))] is None

    def test_a_distance_of_exactly_the_target_meets_it(self):
        rows = [a_row(Variant.BL, 1, 0, 0.98), a_row(Variant.SPARSE, 1, 0, 0.955)]
        assert next(iter(self.findings(rows).values())) is True

    def test_the_papers_pattern_is_told_where_it_holds_and_where_not(self):
        blc, diff = Variant.BLC_SPARSE, Variant.PAPER_SPARSE
        scores = {(Variant.BL, 1): 0.9, (blc, 1): 0.7, (diff, 1): 0.8, (Variant.BL, 2): 0.9}
        for last, holds in ((0.75, True), (0.69, False)):
            rows = [a_row(v, g, 0, score) for (v, g), score in scores.items()]
            rows += [a_row(blc, 2, 0, 0.7), a_row(diff, 2, 0, last)]
            found = self.findings(rows)
            text = next(text for text in found if "against BLC sparse 1/40" in text)
            assert found[text] is holds
            assert "(generation 2)" in text

    def test_a_sparse_diff_far_from_bl_misses_it(self):
        rows = [
            replace(r, device_score=0.9, server_score=0.9)
            if (r.variant, r.generation) == (Variant.SPARSE, 1)
            else r
            for r in some_rows()
        ]
        found = self.findings(rows)
        assert found[next(text for text in found if text.startswith("sparse diff"))] is False

    def test_a_device_that_disagrees_with_the_server_is_told(self):
        rows = some_rows()
        rows[3] = replace(rows[3], device_score=rows[3].server_score - 0.005)
        found = self.findings(rows)
        assert found[next(text for text in found if "differ by at most 0.50" in text)] is False

    def test_lines_in_int8_may_disagree_and_it_is_said_by_how_much(self):
        row = a_row(Variant.INT8, 1, 0, 0.95)
        rows = [*some_rows(), replace(row, device_score=row.server_score - 0.01)]
        found = self.findings(rows)
        assert found[next(text for text in found if "in int8" in text and "1.00" in text)] is None
        assert found[next(text for text in found if "differ by at most 0.00" in text)] is True

    def test_a_wrong_digest_is_told(self):
        rows = some_rows()
        rows[3] = replace(rows[3], device_digest="other")
        found = self.findings(rows)
        assert found["23 of 24 rebuilt weights have the server's digest"] is False
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
    print_report(a_report(), console)
    printed = file.getvalue()
    assert "file bytes" in printed
    assert "peak MB" not in printed
    assert "1,500,000" in printed
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


def paper_rows() -> list[Row]:
    variants = (Variant.BLC_SPARSE, Variant.PAPER_SPARSE, Variant.BLC_HASH, Variant.PAPER_HASH)
    rows = [a_row(Variant.BL, g, 0, 0.97 - 0.01 * g) for g in (0, 1)]
    rows += [a_row(Variant.BL_INF, g, 0, 0.97 - 0.1 * g) for g in (0, 1)]
    return rows + [
        a_row(variant, generation, 0, 0.97 - 0.01 * number * generation, size, 20_000)
        for number, (variant, size) in enumerate((v, s) for v in variants for s in ("20x", "40x"))
        for generation in (0, 1)
    ]


class TestThePapersTable:
    def test_it_has_the_papers_columns_in_the_papers_order(self):
        scores, of_bytes = paper_tables(a_report(paper_rows()).summary)
        sized = [f"{m}\n{r}\n{k}" for m in ("Sparse", "Hash") for r in ("20×", "40×")
                 for k in ("BLC", "Diff")]  # fmt: skip
        assert scores.columns[2:] == ("\nBL\n1×", *sized, "\nStatic\nBL∞")
        assert of_bytes.columns[2:] == scores.columns[2:]

    def test_generation_0_stands_under_bl_alone(self):
        scores, _ = paper_tables(a_report(paper_rows()).summary)
        assert scores.rows[0] == ("Gen 0", "2", "97.0", *["–"] * 9)
        assert scores.rows[1][:5] == ("Gen 1", "4", "96.0", "97.0", "95.0")
        assert scores.rows[1][-1] == "87.0"

    def test_bytes_are_those_of_the_file_and_those_that_the_paper_counts(self):
        _, of_bytes = paper_tables(a_report(paper_rows()).summary)
        by_name = {row[1]: row for row in of_bytes.rows}
        assert by_name["file"][2:4] == ("1,500,000", "20,000")
        assert by_name["as the paper counts"][3] == "80,000"
        assert by_name["parameters / values"][3] == "21.5×"

    def test_it_is_printed_in_place_of_the_long_table_and_stands_on_the_page(self, tmp_path):
        printed = a_table(paper_rows(), catch_ups=())
        assert "accuracy % on the device · test speech: REAL recordings" in printed
        assert "below FT" not in printed
        write_report(tmp_path, FACTS, paper_rows(), [])
        assert "as the paper counts" in (tmp_path / "report.html").read_text()

    def test_a_line_that_the_paper_has_not_brings_the_long_table_back(self):
        rows = [*paper_rows(), a_row(Variant.SPARSE, 1, 0, 0.95)]
        printed = a_table(rows, catch_ups=())
        assert "as the paper counts" in printed
        assert "below FT" in printed

    def test_a_run_without_its_lines_has_none(self):
        assert paper_tables(a_report().summary) == ()


class TestEqualBytes:
    def rows(self) -> list[Row]:
        scores = {Variant.SPARSE: (0.96, 0.90), Variant.HASH: (0.95, 0.93), Variant.LORA: (0.99, 0)}
        sizes = (("1/40", 42_000), ("1/600", 2_800))
        return [a_row(Variant.BL, 1, seed, 0.98) for seed in (0, 1)] + [
            a_row(variant, 1, seed, score + 0.01 * seed, size, file)
            for variant, by_size in scores.items()
            for score, (size, file) in zip(by_size, sizes, strict=True)
            for seed in (0, 1)
        ]

    def test_a_curve_has_a_point_for_each_size(self):
        curve = next(c for c in a_report(self.rows()).curves if c.variant is Variant.HASH)
        assert [point.size for point in curve.points] == ["1/40", "1/600"]
        assert [point.bytes.mean for point in curve.points] == [42_000, 2_800]
        assert curve.points[1].score.mean == pytest.approx(0.935)
        assert curve.points[1].below_bl.max == pytest.approx(5)

    def test_the_papers_diffs_have_a_curve_in_the_papers_format_too(self):
        titles = {(c.variant, c.is_counted) for c in a_report(paper_rows()).curves}
        assert (Variant.PAPER_SPARSE, False) in titles
        assert (Variant.PAPER_SPARSE, True) in titles
        assert (Variant.PAPER_HASH, True) not in titles

    def test_the_best_of_each_size_is_of_those_that_auto_chooses_among(self):
        best = a_report(self.rows()).best_at_sizes
        ranked = {one.size: [method.variant for method in one.ranking] for one in best}
        assert ranked == {
            "1/40": [Variant.SPARSE, Variant.HASH],
            "1/600": [Variant.HASH, Variant.SPARSE],
        }

    def test_what_auto_chooses_by_can_be_exported(self):
        measured = json.loads(json.dumps(a_report(self.rows()).measured()))
        assert "seeds 0, 1, commit abc1234" in measured["source"]
        assert measured["rows"][1] == {
            "task": "slu",
            "ratio": 0.0016667,
            "points_below_bl": {"hash": 4.5, "sparse": 7.5},
        }

    def test_of_equally_good_methods_the_smaller_is_the_better(self):
        rows = [
            a_row(Variant.BL, 1, 0, 0.9),
            a_row(Variant.SPARSE, 1, 0, 0.9, "1/40", 40_001),
            a_row(Variant.HASH, 1, 0, 0.9, "1/40", 40_000),
        ]
        assert a_report(rows).best_at_sizes[0].ranking[0].variant is Variant.HASH

    def test_they_are_data_in_the_summary(self, tmp_path):
        write_report(tmp_path, FACTS, self.rows(), [])
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["best_at_sizes"][1]["ranking"][0]["variant"] == "hash"
        assert {curve["variant"] for curve in summary["curves"]} == {"bl", "sparse", "hash", "lora"}
        assert read_report(tmp_path).best_at_sizes == a_report(self.rows()).best_at_sizes


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
        with pytest.raises(RunFolderError, match="line 25: expected a result row"):
            rebuild_report(tmp_path)
