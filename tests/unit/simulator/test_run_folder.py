import json

import pytest

from simulator.errors import RunFolderError
from simulator.run_folder import begin_record, differences, locked

BEFORE = {"steps": {"default": 300}, "sizes": ["1/40"], "seeds": [0]}
NOW = {"steps": {"default": 400, "dense": 9}, "sizes": ["1/40", "40x"], "seeds": [0]}


def test_a_tuple_is_the_list_that_was_written(tmp_path):
    assert begin_record(tmp_path, {"topics": ("orders",)}) == ()
    assert begin_record(tmp_path, {"topics": ("orders",)}) == ()


def test_differences_are_named_by_their_keys():
    assert list(differences(BEFORE, NOW)) == [
        "steps.default: 300 -> 400",
        "steps.dense: none -> 9",
        "sizes: with 40x",
    ]
    assert list(differences(NOW, NOW)) == []
    assert list(differences({"seeds": [0, 1]}, {"seeds": [1, 2, 3]})) == [
        "seeds: without 0, with 2, 3"
    ]
    assert list(differences({"seeds": [0, 1]}, {"seeds": [1, 0]})) == ["seeds: [0, 1] -> [1, 0]"]


def test_a_first_run_and_an_unchanged_one_have_nothing_to_say(tmp_path):
    assert begin_record(tmp_path, BEFORE) == ()
    (tmp_path / "results.jsonl").write_text("rows")
    assert begin_record(tmp_path, BEFORE) == ()
    assert (tmp_path / "results.jsonl").exists()


def test_a_changed_run_says_what_changed_and_keeps_the_report_of_before(tmp_path):
    begin_record(tmp_path, BEFORE)
    for number, record in enumerate((NOW, BEFORE), start=1):
        (tmp_path / "results.jsonl").write_text(f"rows {number}")
        (tmp_path / "report.html").write_text("page")
        first, *_, last = begin_record(tmp_path, record)
        assert first.startswith("steps.default: ")
        assert last == f"the report of before is kept in {tmp_path / 'earlier' / str(number)}"
        kept = tmp_path / "earlier" / str(number) / "results.jsonl"
        assert kept.read_text() == f"rows {number}"
        assert not (tmp_path / "report.html").exists()
    assert json.loads((tmp_path / "run.json").read_text()) == BEFORE


def test_a_record_that_cannot_be_read_is_written_anew(tmp_path):
    (tmp_path / "run.json").write_text("{")
    assert begin_record(tmp_path, NOW) == ()
    assert json.loads((tmp_path / "run.json").read_text()) == NOW


def test_two_runs_do_not_share_a_folder(tmp_path):
    with (
        locked(tmp_path, resume=True),
        pytest.raises(RunFolderError, match="another run is at work"),
        locked(tmp_path, resume=True),
    ):
        pass
