"""Corpus folders: what is read, how splits come about, and what is refused."""

import json
from pathlib import Path

import pytest

from speech.corpus import Corpus
from speech.errors import CorpusError

HEADER = "path,speaker,text,seconds,split,domain\n"


def write(folder: Path, manifest: str, files: tuple[str, ...] = ("a.wav", "b.wav")) -> Path:
    for name in files:
        (folder / name).write_bytes(b"RIFF")
    (folder / "manifest.csv").write_text(manifest)
    return folder


def rows(*splits: str) -> str:
    lines = [f"{'ab'[k % 2]}.wav,s{k},word{k},1.0,{split},d{k}" for k, split in enumerate(splits)]
    return HEADER + "\n".join(lines) + "\n"


def test_a_manifest_is_read_whole(tmp_path: Path) -> None:
    corpus = Corpus.read(write(tmp_path, rows("train", "test")))
    first = corpus.utterances[0]
    assert (first.path, first.speaker, first.text) == (tmp_path / "a.wav", "s0", "word0")
    assert (first.seconds, first.split, first.domain) == (1.0, "train", "d0")
    assert corpus.is_real


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "VAL"])
def test_without_test_rows_the_validation_rows_are_the_test_set(name: str, tmp_path: Path) -> None:
    corpus = Corpus.read(write(tmp_path, rows("train", name)))
    assert [u.text for u in corpus.split("test").utterances] == ["word1"]


def test_with_test_rows_the_validation_rows_stay_apart(tmp_path: Path) -> None:
    corpus = Corpus.read(write(tmp_path, rows("train", "val", "test")))
    assert [u.text for u in corpus.split("test").utterances] == ["word2"]
    assert [u.text for u in corpus.split("val").utterances] == ["word1"]


def test_a_drawn_split_never_puts_a_speaker_on_both_sides(tmp_path: Path) -> None:
    lines = [f"a.wav,s{k % 10},word{k % 3},1.0" for k in range(60)]
    manifest = "path,speaker,text,seconds\n" + "\n".join(lines)
    corpus = Corpus.read(write(tmp_path, manifest))
    train, test = ({u.speaker for u in corpus.split(s).utterances} for s in ("train", "test"))
    assert len(test) == 2
    assert not train & test
    assert Corpus.read(tmp_path) == corpus


def test_a_single_speaker_is_split_by_recording(tmp_path: Path) -> None:
    lines = [f"a.wav,s,word{k % 2},1.0" for k in range(20)]
    manifest = "path,speaker,text,seconds\n" + "\n".join(lines)
    corpus = Corpus.read(write(tmp_path, manifest))
    assert len(corpus.split("test").utterances) == 4
    assert corpus.split("test").phrases() == ("word0", "word1")


def test_a_marked_folder_is_synthetic(tmp_path: Path) -> None:
    write(tmp_path, rows("train", "test"))
    (tmp_path / "corpus.json").write_text(json.dumps({"synthetic": True}))
    assert not Corpus.read(tmp_path).is_real


def test_restricting_keeps_the_named_texts_and_domains(tmp_path: Path) -> None:
    corpus = Corpus.read(write(tmp_path, rows("train", "test", "train")))
    assert corpus.restrict(texts=["word0"]).phrases() == ("word0",)
    assert corpus.restrict(domains=["d1", "d2"]).phrases() == ("word1", "word2")


def test_restricting_to_what_is_not_there_names_it_and_what_is(tmp_path: Path) -> None:
    corpus = Corpus.read(write(tmp_path, rows("train", "test")))
    with pytest.raises(CorpusError, match=r"text 'zero', found 'word0', 'word1'"):
        corpus.restrict(texts=["zero", "word0"])
    with pytest.raises(CorpusError, match=r"domain 'music'"):
        corpus.restrict(domains=["music"])


def test_the_digest_changes_with_the_rows_and_with_the_audio(tmp_path: Path) -> None:
    digest = Corpus.read(write(tmp_path, rows("train", "test"))).digest()
    assert Corpus.read(tmp_path).digest() == digest
    assert (
        Corpus.read(write(tmp_path, rows("train", "val"))).digest()
        != Corpus.read(write(tmp_path, rows("train", "test", "train"))).digest()
    )
    write(tmp_path, rows("train", "test"))
    (tmp_path / "a.wav").write_bytes(b"RIFF and more")
    assert Corpus.read(tmp_path).digest() != digest


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ("path,speaker,text\na.wav,s,one\n", "a column 'seconds', found path, speaker, text"),
        ("", "a column 'path', found an empty file"),
        (
            HEADER + "gone.wav,s,one,1.0,train,d\n",
            "line 2: expected the audio file 'gone.wav', found none",
        ),
        (HEADER + "/etc/passwd,s,one,1.0,train,d\n", "a path inside the corpus folder"),
        (HEADER + "../a.wav,s,one,1.0,train,d\n", "a path inside the corpus folder"),
        (HEADER + "a.wav,s,,1.0,train,d\n", "line 2: expected a text"),
        (
            HEADER + "a.wav,s,one,long,train,d\n",
            "line 2: expected a number of seconds, found 'long'",
        ),
        (HEADER + "a.wav,s,one,nan,train,d\n", "a number of seconds, found 'nan'"),
        (HEADER + "a.wav,s,one,-1,train,d\n", "a number of seconds, found '-1'"),
        (HEADER + "a.wav,s,one,1.0,later,d\n", "a split of train, val or test, found 'later'"),
        (HEADER + "a.wav\n", "line 2: expected a text"),
        (rows("train", "train"), "expected test recordings, found none"),
        (rows("test", "test"), "expected train recordings, found none"),
        (HEADER, "expected train recordings, found none"),
    ],
)
def test_broken_manifests_are_refused_in_one_line(
    manifest: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(CorpusError) as caught:
        Corpus.read(write(tmp_path, manifest))
    message = str(caught.value)
    assert expected in message
    assert "manifest.csv" in message
    assert "\n" not in message


def test_the_first_broken_row_is_named_and_the_others_counted(tmp_path: Path) -> None:
    manifest = rows("train", "test") + "gone.wav,s,one,1,train,d\na.wav,s,,1,train,d\n" * 2
    with pytest.raises(CorpusError, match=r"line 4: .*'gone.wav'.*3 more"):
        Corpus.read(write(tmp_path, manifest))


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="found nothing"):
        Corpus.read(tmp_path)
    with pytest.raises(CorpusError, match="expected a corpus folder, found none"):
        Corpus.read(tmp_path / "nowhere")


def test_a_manifest_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes(b"path,speaker,text,seconds\n\xff\xfe\xff,x,y,z\n")
    with pytest.raises(CorpusError, match="UTF-8"):
        Corpus.read(tmp_path)


def test_a_damaged_marker_is_refused(tmp_path: Path) -> None:
    write(tmp_path, rows("train", "test"))
    (tmp_path / "corpus.json").write_text("synthetic")
    with pytest.raises(CorpusError, match=r"corpus\.json"):
        Corpus.read(tmp_path)
