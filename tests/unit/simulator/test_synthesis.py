import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from simulator.errors import RunFolderError, SynthesisError
from simulator.synthesis import corpus as synthesis
from simulator.synthesis import room, worker
from simulator.synthesis.corpus import CorpusPlan, assign_splits, speak, write_corpus
from simulator.synthesis.phrases import Phrase, read_phrases, take_per_domain
from simulator.synthesis.speakers import ACCENTS, VARIANTS, draw_speakers
from speech.corpus import Corpus

PHRASES = (
    Phrase("switch the fan on", "Heat"),
    Phrase("louder", "Volume"),
    Phrase("bring me my shoes", "Bring"),
)

needs_engine = pytest.mark.skipif(
    synthesis.engine_is_missing(), reason="espeakng-loader is not installed (extra: speech)"
)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@needs_engine
def test_a_seed_gives_the_same_corpus_whatever_the_workers_and_the_order_of_phrases(tmp_path):
    plan = CorpusPlan(PHRASES, speakers=2, seed=5)
    shuffled = CorpusPlan(PHRASES[::-1], speakers=2, seed=5)
    first = write_corpus(tmp_path / "one", plan, workers=1)
    second = write_corpus(tmp_path / "two", shuffled, workers=2)
    assert first == second
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


@needs_engine
def test_another_seed_gives_other_speech(tmp_path):
    digests = {write_corpus(tmp_path / str(seed), CorpusPlan(PHRASES, 2, seed)) for seed in (0, 1)}
    assert len(digests) == 2


@needs_engine
def test_the_engines_samples_are_the_ones_on_record(tmp_path):
    # The same on x86-64 and aarch64; another hash means another engine, and every result on
    # synthetic speech has to be measured again.
    digest = write_corpus(tmp_path, CorpusPlan(PHRASES, speakers=2, seed=5))
    assert digest == "cbd81239d221aaccbc9b23f9da9d39604631165b29ebd66c4628a796454e069a"


@needs_engine
def test_a_synthetic_corpus_says_so_and_reads_as_a_corpus(tmp_path):
    write_corpus(tmp_path, CorpusPlan(PHRASES, speakers=3, seed=0), workers=2)
    corpus = Corpus.read(tmp_path)
    assert not corpus.is_real
    assert corpus.phrases() == tuple(sorted(p.text for p in PHRASES))
    assert {u.domain for u in corpus.utterances} == {"Heat", "Volume", "Bring"}
    assert len(corpus.utterances) == 9
    marker = json.loads((tmp_path / "corpus.json").read_text())
    assert (marker["synthetic"], marker["seed"]) == (True, 0)
    for u in corpus.utterances:
        assert u.seconds == pytest.approx(soundfile.info(u.path).duration, abs=1e-3)


@needs_engine
def test_no_speaker_is_in_two_splits(tmp_path):
    write_corpus(tmp_path, CorpusPlan(PHRASES[:1], speakers=5, seed=1), workers=2)
    splits_of: dict[str, set[str]] = {}
    with (tmp_path / "manifest.csv").open() as file:
        for row in csv.DictReader(file):
            splits_of.setdefault(row["speaker"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in splits_of.values())
    assert {"train", "test"} <= set.union(*splits_of.values())


@needs_engine
def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="new or an empty folder"):
        write_corpus(tmp_path, CorpusPlan(PHRASES, speakers=2, seed=0))
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_without_the_engine_the_message_names_the_extra(monkeypatch, tmp_path):
    # The worker, as it ends where the extra is not installed.
    lonely = tmp_path / "worker.py"
    lonely.write_text(f"raise SystemExit({worker.EXIT_NO_ENGINE})")
    monkeypatch.setattr(worker, "__file__", str(lonely))
    with pytest.raises(SynthesisError, match=r"neuraldiff\[speech\]"):
        list(speak(draw_speakers(1, 0)[0], PHRASES))


@needs_engine
def test_every_voice_variant_is_one_that_the_engine_has():
    import espeakng_loader

    known = {path.name for path in (Path(espeakng_loader.get_data_path()) / "voices/!v").iterdir()}
    assert set(VARIANTS) <= known


@needs_engine
@pytest.mark.parametrize("accent", ACCENTS)
def test_every_accent_speaks(accent):
    speaker = next(s for s in draw_speakers(600, 0) if s.accent == accent)
    (samples,) = speak(speaker, PHRASES[:1])
    assert len(samples) > worker.SAMPLE_RATE_HZ // 4


def test_speakers_are_distinct_and_voices_repeat_only_when_all_were_used():
    speakers = draw_speakers(len(VARIANTS) + 5, seed=3)
    assert len({s.voice for s in speakers}) == len(speakers)
    assert len({s.variant for s in speakers[: len(VARIANTS)]}) == len(VARIANTS)
    assert speakers == draw_speakers(len(VARIANTS) + 5, seed=3)
    assert speakers[:4] != draw_speakers(4, seed=4)


def test_more_speakers_extend_fewer():
    assert draw_speakers(10, seed=0)[:4] == draw_speakers(4, seed=0)


@pytest.mark.parametrize("count", [2, 3, 5, 10, 97])
def test_every_split_has_its_share(count):
    splits = assign_splits(count, seed=0)
    assert len(splits) == count
    assert splits.count("train") >= 1
    assert splits.count("test") == max(1, round(0.2 * count))


@pytest.mark.parametrize("speakers", [0, 1, 10_000])
def test_a_number_of_speakers_that_cannot_be_split_is_refused(speakers):
    with pytest.raises(SynthesisError, match=f"found {speakers}"):
        CorpusPlan(PHRASES, speakers, seed=0)


def test_a_recording_has_the_level_of_its_room_and_no_digital_silence():
    place = room.Room(reverb_s=0.1, reverb_share=0.05, snr_db=30.0, level_db=-25.0, noise_tilt=0.5)
    tone = np.sin(np.arange(22_050) / 10) * 3000
    dry = np.concatenate([tone, np.zeros(11_025)]).astype(np.int16)
    wet = room.record(dry, place, 22_050, np.random.default_rng(0)).astype(float) / 2**15
    level_db = 20 * np.log10(np.sqrt(np.mean(wet[6_000:20_000] ** 2)))
    assert abs(level_db - place.level_db) < 5
    tail = wet[-2_000:]
    assert np.count_nonzero(tail) > 1_000


class TestPhraseLists:
    def test_the_builtin_list_has_six_domains_and_248_phrases(self):
        phrases = read_phrases("builtin")
        assert len(phrases) == 248
        assert {p.domain for p in phrases} == {
            *("Lighting", "Heat", "Volume", "Bring", "Language", "Music")
        }

    def test_some_phrases_of_each_domain(self):
        chosen = take_per_domain(read_phrases("builtin"), 3)
        assert len(chosen) == 18
        assert [p.domain for p in chosen[:4]] == ["Lighting"] * 3 + ["Heat"]

    def test_a_list_without_texts_is_refused(self, tmp_path):
        path = tmp_path / "list.csv"
        path.write_text("phrase,domain\nhello,x\n")
        with pytest.raises(SynthesisError, match="column 'text', found phrase, domain"):
            read_phrases(str(path))

    def test_a_text_in_two_domains_is_refused(self, tmp_path):
        path = tmp_path / "list.csv"
        path.write_text("text,domain\nhello,x\nhello,y\n")
        with pytest.raises(SynthesisError, match=r"line 3: .*'hello'"):
            read_phrases(str(path))

    def test_a_missing_file_is_refused(self, tmp_path):
        with pytest.raises(SynthesisError, match="expected a csv file"):
            read_phrases(str(tmp_path / "nowhere.csv"))


@needs_engine
def test_an_interrupted_corpus_leaves_nothing(tmp_path):
    def interrupt(_done, _of):
        raise KeyboardInterrupt

    plan = CorpusPlan((Phrase("yes"),), speakers=5, seed=0)
    with pytest.raises(KeyboardInterrupt):
        write_corpus(tmp_path / "new", plan, 1, interrupt)
    assert list(tmp_path.iterdir()) == []
