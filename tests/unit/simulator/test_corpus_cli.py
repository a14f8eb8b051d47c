"""`ota-sim corpus`: what it says of sound, broken and published corpora, and what it makes."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from simulator.synthesis.corpus import engine_is_missing
from tests.unit.simulator.test_cli import assert_one_clear_line, ota_sim

needs_engine = pytest.mark.skipif(engine_is_missing(), reason="espeakng-loader is not installed")


def tone(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.sin(np.arange(4_000) / 9).astype(np.float32) / 4, 8_000)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus of two words and two speakers."""
    folder = tmp_path / "corpus"
    lines = ["path,speaker,text,seconds,split,domain"]
    for speaker, split in (("ann", "train"), ("bob", "test")):
        for text in ("yes", "no"):
            name = f"{speaker}-{text}.wav"
            tone(folder / name)
            lines.append(f"{name},{speaker},{text},0.5,{split},answers")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def errors_of(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("error: ")]


class TestCheck:
    def test_it_counts_by_split_domain_and_speaker(self, tmp_path, corpus):
        ended = ota_sim("corpus", "check", corpus, "--json", cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        check = json.loads(ended.stdout)
        assert check["layout"] == "manifest.csv"
        assert check["is_real"] is True
        assert (check["recordings"], check["speakers"], check["texts"]) == (4, 2, 2)
        assert check["by_split"] == {"test": 2, "train": 2}
        assert check["by_domain"] == {"answers": 4}
        assert check["by_speaker"] == {"ann": 2, "bob": 2}
        assert check["speakers_by_split"] == {"test": 1, "train": 1}
        assert check["hours_by_split"]["test"] == pytest.approx(1 / 3600)
        assert check["speakers_in_train_and_test"] == []
        assert check["test_texts_in_train"] == 1.0

    def test_a_published_corpus_is_called_by_its_name(self, tmp_path):
        folder = tmp_path / "speech_commands"
        for name in ("yes/ann_nohash_0", "no/ann_nohash_0", "yes/bob_nohash_0"):
            tone(folder / f"{name}.wav")
        (folder / "testing_list.txt").write_text("yes/bob_nohash_0.wav\n")
        (folder / "validation_list.txt").write_text("")
        ended = ota_sim("corpus", "check", folder, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert "layout: Speech Commands" in " ".join(ended.stdout.split())
        assert "3 recordings, 0.00 h, 2 speakers, 2 texts" in ended.stdout

    def test_every_unreadable_recording_is_a_line_of_its_own(self, tmp_path, corpus):
        (corpus / "ann-no.wav").write_bytes(b"not audio")
        (corpus / "bob-no.wav").write_bytes(b"")
        ended = ota_sim("corpus", "check", corpus, cwd=tmp_path)
        assert ended.returncode == 1
        problems = errors_of(ended.stderr)
        assert len(problems) == 2
        assert "ann-no.wav" in problems[0]
        # The title is folded where the name of the folder is long.
        assert "REAL recordings" in " ".join(ended.stdout.split())

    def test_broken_rows_and_broken_recordings_are_all_named(self, tmp_path, corpus):
        (corpus / "bob-yes.wav").unlink()
        (corpus / "ann-no.wav").write_bytes(b"not audio")
        with (corpus / "manifest.csv").open("a") as file:
            file.write("ann-yes.wav,ann,,0.5,train,answers\n")
        ended = ota_sim("corpus", "check", corpus, cwd=tmp_path)
        assert ended.returncode == 1
        problems = errors_of(ended.stderr)
        for problem, words in zip(
            problems,
            (("line 4", "bob-yes.wav"), ("line 6", "expected a text"), ("ann-no.wav",)),
            strict=True,
        ):
            assert all(word in problem for word in words)

    def test_beyond_twenty_broken_rows_are_counted(self, tmp_path, corpus):
        with (corpus / "manifest.csv").open("a") as file:
            file.writelines(f"gone-{n}.wav,ann,yes,0.5,train,answers\n" for n in range(50))
        ended = ota_sim("corpus", "check", corpus, cwd=tmp_path)
        problems = errors_of(ended.stderr)
        assert len(problems) == 21
        assert "gone-19.wav" in problems[19]
        assert "and 30 more" in problems[20]
        everything = ota_sim("corpus", "check", corpus, "--json", cwd=tmp_path)
        assert everything.returncode == 1
        assert len(json.loads(everything.stdout)["problems"]) == 50

    def test_a_corpus_without_a_test_row_is_shown_and_refused(self, tmp_path, corpus):
        manifest = corpus / "manifest.csv"
        manifest.write_text(manifest.read_text().replace(",test,", ",train,"))
        ended = ota_sim("corpus", "check", corpus, cwd=tmp_path)
        assert ended.returncode == 1
        (problem,) = errors_of(ended.stderr)
        assert "expected test recordings, found none" in problem
        assert "4 recordings" in ended.stdout

    def test_a_folder_that_is_no_corpus(self, tmp_path):
        ended = ota_sim("corpus", "check", tmp_path, cwd=tmp_path)
        assert_one_clear_line(ended, "manifest.csv", "LibriSpeech", "found nothing")


class TestSynth:
    def test_too_few_speakers(self, tmp_path):
        ended = ota_sim("corpus", "synth", tmp_path / "new", "--speakers", 1, cwd=tmp_path)
        assert_one_clear_line(ended, "2 to", "found 1")

    def test_an_unknown_topic(self, tmp_path):
        options = ("--sentences", 5, "--topic", "gardening")
        ended = ota_sim("corpus", "synth", tmp_path / "new", *options, cwd=tmp_path)
        assert_one_clear_line(ended, "expected topics of", "home", "found gardening")

    def test_too_many_sentences(self, tmp_path):
        ended = ota_sim("corpus", "synth", tmp_path / "new", "--sentences", 10**6, cwd=tmp_path)
        assert_one_clear_line(ended, "sentences a speaker", "found 1000000")
        assert not (tmp_path / "new").exists()

    @needs_engine
    def test_a_synthesized_corpus_passes_and_is_called_synthetic(self, tmp_path):
        phrases = tmp_path / "phrases.csv"
        phrases.write_text("text,domain\nlouder,Volume\nlights out,Lighting\n")
        made = ota_sim(
            *("corpus", "synth", tmp_path / "new", "--phrases", phrases, "--speakers", 3),
            cwd=tmp_path,
        )
        assert made.returncode == 0, made.stderr
        checked = ota_sim("corpus", "check", tmp_path / "new", cwd=tmp_path)
        assert checked.returncode == 0, checked.stderr
        assert "speech: SYNTHETIC" in " ".join(checked.stdout.split())
        assert "6 recordings" in checked.stdout

    @needs_engine
    def test_sentences_are_of_each_speakers_own(self, tmp_path):
        made = ota_sim(
            *("corpus", "synth", tmp_path / "new", "--sentences", 3, "--speakers", 3),
            cwd=tmp_path,
        )
        assert made.returncode == 0, made.stderr
        check = json.loads(ota_sim("corpus", "check", "new", "--json", cwd=tmp_path).stdout)
        assert check["recordings"] == 9
        assert check["texts"] > 6
        assert check["test_texts_in_train"] < 0.5


@pytest.mark.parametrize("command", ["synth", "check"])
def test_help_explains_itself_with_an_example(tmp_path, command):
    ended = ota_sim("corpus", command, "--help", cwd=tmp_path)
    assert ended.returncode == 0
    assert f"ota-sim corpus {command}" in ended.stdout
