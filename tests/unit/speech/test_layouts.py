"""Corpora as they are published: small files in each layout, with real flac and wav."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speech.audio import read_audio
from speech.corpus import Corpus
from speech.errors import CorpusError
from speech.layouts import read_folder


def sound(path: Path, seconds: float = 0.5, rate_hz: int = 16_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.sin(np.arange(round(seconds * rate_hz)) / 9).astype(np.float32) / 4
    soundfile.write(path, samples, rate_hz)
    return path


def chapter(folder: Path, subset: str, speaker: str, texts: list[str]) -> Path:
    """A chapter of LibriSpeech, with recordings of 0.5 s, 1 s, ..."""
    place = folder / subset / speaker / "198"
    lines = []
    for number, text in enumerate(texts):
        name = f"{speaker}-198-{number:04d}"
        sound(place / f"{name}.flac", 0.5 * (number + 1))
        lines.append(f"{name} {text}\n")
    (place / f"{speaker}-198.trans.txt").write_text("".join(lines))
    return place


@pytest.fixture
def librispeech(tmp_path: Path) -> Path:
    folder = tmp_path / "LibriSpeech"
    chapter(folder, "train-clean-100", "19", ["NORTHANGER ABBEY", "THIS LITTLE WORK"])
    chapter(folder, "train-other-500", "20", ["DON'T SAY SO"])
    chapter(folder, "dev-clean", "84", ["GO DO YOU HEAR"])
    chapter(folder, "test-clean", "61", ["HE BEGAN"])
    (folder / "SPEAKERS.TXT").write_text(
        ";ID  |SEX| SUBSET           |MINUTES| NAME\n"
        "19   | F | train-clean-100  | 25.19 | Kara Shallenberg\n"
        "20   | F | train-other-500  | 30.04 | Gesine\n"
        "61   | M | test-clean       | 8.08  | Paul-Gabriel Wiener\n"
        "84   | F | dev-clean        | 8.02  | Christie Nowak\n"
    )
    return folder


class TestLibriSpeech:
    def test_it_is_a_corpus_as_it_was_unpacked(self, librispeech: Path) -> None:
        corpus = Corpus.read(librispeech)
        assert corpus.layout == "LibriSpeech"
        assert corpus.is_real
        assert [(u.text, u.speaker, u.split, u.domain) for u in corpus.utterances] == [
            ("go do you hear", "84", "val", "clean"),
            ("he began", "61", "test", "clean"),
            ("northanger abbey", "19", "train", "clean"),
            ("this little work", "19", "train", "clean"),
            ("don't say so", "20", "train", "other"),
        ]
        assert [u.seconds for u in corpus.utterances] == [0.5, 0.5, 0.5, 1.0, 0.5]
        assert read_audio(corpus.utterances[0].path).shape == (8_000,)
        assert len(corpus.digest()) == 64

    def test_without_a_test_set_the_dev_set_is_it(self, librispeech: Path) -> None:
        (librispeech / "test-clean").rename(librispeech.parent / "elsewhere")
        tests = Corpus.read(librispeech).split("test").utterances
        assert [u.text for u in tests] == ["go do you hear"]

    def test_a_small_set_without_speakers_txt_is_known_by_its_folders(self, tmp_path: Path) -> None:
        chapter(tmp_path, "train-clean-5", "19", ["ONE"])
        chapter(tmp_path, "dev-clean-2", "20", ["TWO"])
        assert {u.split for u in Corpus.read(tmp_path).utterances} == {"train", "test"}

    def test_a_training_set_alone_is_refused(self, tmp_path: Path) -> None:
        chapter(tmp_path, "train-clean-100", "19", ["ONE"])
        with pytest.raises(CorpusError, match=r"test-\* or dev-\*, found train-clean-100"):
            Corpus.read(tmp_path)

    def test_every_missing_recording_is_a_problem(self, librispeech: Path) -> None:
        for name in ("19-198-0000", "19-198-0001"):
            (librispeech / "train-clean-100/19/198" / f"{name}.flac").unlink()
        problems = read_folder(librispeech).problems
        assert [Path(problem.split(":")[0]).stem for problem in problems] == [
            "19-198-0000",
            "19-198-0001",
        ]
        with pytest.raises(CorpusError, match=r"0000.flac: no such file \(and 1 more"):
            Corpus.read(librispeech)

    def test_a_chapter_without_its_transcript_is_a_problem(self, librispeech: Path) -> None:
        (librispeech / "test-clean/61/198/61-198.trans.txt").unlink()
        with pytest.raises(CorpusError, match=r"61-198\.trans\.txt.*unpacked to its end\?"):
            Corpus.read(librispeech)

    def test_a_recording_without_a_text_is_a_problem(self, librispeech: Path) -> None:
        sound(librispeech / "test-clean/61/198/61-198-0007.flac")
        with pytest.raises(CorpusError, match="found none for 61-198-0007"):
            Corpus.read(librispeech)

    def test_an_empty_subset_is_a_problem(self, librispeech: Path) -> None:
        (librispeech / "train-clean-360").mkdir()
        with pytest.raises(CorpusError, match="train-clean-360: expected speakers"):
            Corpus.read(librispeech)

    def test_a_truncated_recording_is_a_problem(self, librispeech: Path) -> None:
        (librispeech / "test-clean/61/198/61-198-0000.flac").write_bytes(b"fLaC\x00")
        with pytest.raises(CorpusError, match="not a readable wav or flac file"):
            Corpus.read(librispeech)

    def test_absent_speakers_are_noted(self, librispeech: Path) -> None:
        assert read_folder(librispeech).notes == ()
        with (librispeech / "SPEAKERS.TXT").open("a") as file:
            file.write("26   | M | train-clean-100  | 25.08 | Denny Sayers\n")
        (note,) = read_folder(librispeech).notes
        assert "train-clean-100: lacks 1 of the 2 speakers" in note


COLUMNS = ",path,speakerId,transcription,action,object,location\n"


@pytest.fixture
def fluent(tmp_path: Path) -> Path:
    folder = tmp_path / "fluent_speech_commands_dataset"
    sound(folder / "wavs/speakers/2BqVo8kVB2Skwgyb/0a.wav")
    sound(folder / "wavs/speakers/4BrX8aDqK2cLZRYl/0b.wav", seconds=1.0)
    rows = {
        "train": [
            "2BqVo8kVB2Skwgyb/0a.wav,2BqVo8kVB2Skwgyb,Change language,change language,none,none",
            "2BqVo8kVB2Skwgyb/0a.wav,2BqVo8kVB2Skwgyb,Resume,activate,music,none",
            "2BqVo8kVB2Skwgyb/0a.wav,2BqVo8kVB2Skwgyb,Fetch my shoes,bring,shoes,none",
            '2BqVo8kVB2Skwgyb/0a.wav,2BqVo8kVB2Skwgyb,"Too loud, quieter",decrease,volume,none',
        ],
        "valid": ["4BrX8aDqK2cLZRYl/0b.wav,4BrX8aDqK2cLZRYl,Lamp off,deactivate,lamp,none"],
        "test": [
            "4BrX8aDqK2cLZRYl/0b.wav,4BrX8aDqK2cLZRYl,Kitchen heat up,increase,heat,kitchen",
            "4BrX8aDqK2cLZRYl/0b.wav,4BrX8aDqK2cLZRYl,Lights on,activate,lights,none",
        ],
    }
    (folder / "data").mkdir()
    for name, lines in rows.items():
        numbered = (f"{n},wavs/speakers/{line}\n" for n, line in enumerate(lines))
        (folder / "data" / f"{name}_data.csv").write_text(COLUMNS + "".join(numbered))
    return folder


class TestFluentSpeechCommands:
    def test_it_is_a_corpus_with_the_papers_six_domains(self, fluent: Path) -> None:
        corpus = Corpus.read(fluent)
        assert corpus.layout == "Fluent Speech Commands"
        assert [(u.text, u.split, u.domain, u.intent) for u in corpus.utterances] == [
            ("Change language", "train", "Language", "change language/none/none"),
            ("Resume", "train", "Music", "activate/music/none"),
            ("Fetch my shoes", "train", "Bring", "bring/shoes/none"),
            ("Too loud, quieter", "train", "Volume", "decrease/volume/none"),
            ("Lamp off", "val", "Lighting", "deactivate/lamp/none"),
            ("Kitchen heat up", "test", "Heat", "increase/heat/kitchen"),
            ("Lights on", "test", "Lighting", "activate/lights/none"),
        ]
        assert corpus.utterances[0].speaker == "2BqVo8kVB2Skwgyb"
        assert [u.seconds for u in corpus.utterances[3:5]] == [0.5, 1.0]

    @pytest.mark.parametrize("name", ["data/valid_data.csv", "wavs"])
    def test_a_half_unpacked_set_is_refused(self, name: str, fluent: Path) -> None:
        (fluent / name).rename(fluent / "elsewhere")
        with pytest.raises(CorpusError, match=rf"expected {name}, found none.*unpacked"):
            Corpus.read(fluent)

    def test_every_missing_recording_is_a_problem_with_its_line(self, fluent: Path) -> None:
        (fluent / "wavs/speakers/4BrX8aDqK2cLZRYl/0b.wav").unlink()
        problems = read_folder(fluent).problems
        assert [problem.split(": ")[0].rpartition("/")[2] for problem in problems] == [
            "valid_data.csv, line 2",
            "test_data.csv, line 2",
            "test_data.csv, line 3",
        ]

    def test_an_intent_of_no_domain_is_a_problem(self, fluent: Path) -> None:
        with (fluent / "data/test_data.csv").open("a") as file:
            file.write("9,wavs/speakers/4BrX8aDqK2cLZRYl/0b.wav,x,Dance,activate,robot,none\n")
        with pytest.raises(
            CorpusError, match=r"line 4: .*six domains, found 'activate robot none'"
        ):
            Corpus.read(fluent)

    def test_a_list_without_a_column_is_refused(self, fluent: Path) -> None:
        (fluent / "data/test_data.csv").write_text("path,speakerId\n")
        with pytest.raises(CorpusError, match="expected a column 'transcription'"):
            Corpus.read(fluent)

    def test_the_folder_around_it_is_refused_with_a_hint(self, fluent: Path) -> None:
        with pytest.raises(CorpusError, match=r"found one inside: .*/fluent_speech_commands_dat"):
            Corpus.read(fluent.parent)


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    folder = tmp_path / "speech_commands_v0.02"
    for word in ("yes", "no"):
        for name in ("0a7c2a8d_nohash_0", "0a7c2a8d_nohash_1", "1b4c9b89_nohash_0"):
            sound(folder / word / f"{name}.wav", seconds=1.0)
    sound(folder / "_background_noise_/running_tap.wav", seconds=2.0)
    (folder / "README.md").write_text("Speech Commands Data Set v0.02\n")
    (folder / "testing_list.txt").write_text("yes/1b4c9b89_nohash_0.wav\n")
    (folder / "validation_list.txt").write_text("no/1b4c9b89_nohash_0.wav\n")
    return folder


class TestSpeechCommands:
    def test_it_is_a_corpus_without_the_noise(self, commands: Path) -> None:
        corpus = Corpus.read(commands)
        assert corpus.layout == "Speech Commands"
        assert corpus.phrases() == ("no", "yes")
        assert len(corpus.utterances) == 6
        assert {u.speaker for u in corpus.split("train").utterances} == {"0a7c2a8d"}
        (test,) = corpus.split("test").utterances
        assert (test.text, test.speaker, test.seconds) == ("yes", "1b4c9b89", 1.0)
        assert len(corpus.split("val").utterances) == 1

    def test_one_list_without_the_other_is_refused(self, commands: Path) -> None:
        (commands / "validation_list.txt").unlink()
        with pytest.raises(CorpusError, match=r"expected validation_list\.txt, found none"):
            Corpus.read(commands)

    def test_a_word_that_is_not_there_is_one_problem(self, commands: Path) -> None:
        names = "".join(f"down/{n:08d}_nohash_0.wav\n" for n in range(40))
        (commands / "validation_list.txt").write_text(names)
        (problem,) = read_folder(commands).problems
        assert "down: expected 40 more recordings" in problem

    def test_a_recording_of_nobody_is_a_problem(self, commands: Path) -> None:
        sound(commands / "yes/mine.wav")
        with pytest.raises(CorpusError, match=r"mine\.wav: expected a name such as"):
            Corpus.read(commands)


def test_a_manifest_beside_a_published_layout_is_meant(commands: Path) -> None:
    (commands / "manifest.csv").write_text(
        "path,speaker,text,seconds,split\n"
        "yes/0a7c2a8d_nohash_0.wav,a,yes,1,train\n"
        "yes/1b4c9b89_nohash_0.wav,b,yes,1,test\n"
    )
    assert Corpus.read(commands).layout == "manifest.csv"
    assert len(Corpus.read(commands).utterances) == 2


def test_a_published_layout_can_be_marked_as_synthetic(commands: Path) -> None:
    (commands / "corpus.json").write_text('{"synthetic": true}')
    assert not Corpus.read(commands).is_real
