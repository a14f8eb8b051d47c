"""Commands recognised by ONNX Runtime on the tiny model, whose answers numpy gives too."""

from pathlib import Path

import numpy as np
import pytest

from edge_client import EdgeHome, Recognizer, update
from edge_client.errors import NoGenerationError, StorageError, UnhealthyError
from edge_client.inference import check_health
from edge_client.inference.commands import CommandModel
from edge_client.inference.session import Session
from speech.audio import read_audio
from speech.card import Card
from speech.errors import AudioError
from speech.features import extract
from speech.tokens import PIECES, encode_text
from tests.unit.edge_client.fake_server import FakeServer
from tests.unit.edge_client.models import card_with, generation, write_recording


@pytest.fixture
def updated(home: EdgeHome) -> EdgeHome:
    update(home)
    return home


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def by_hand(recording: Path, phrases: tuple[str, ...], number: int) -> tuple[str, float]:
    """The nearest phrase, computed in numpy from the published weights."""
    arrays = generation(number).arrays
    heard = unit(extract(read_audio(recording)).mean(axis=0) @ arrays["speech.weight"])
    said = [unit(arrays["text.embedding"][encode_text(p)].mean(axis=0)) for p in phrases]
    distances = [float(np.linalg.norm(heard - text)) for text in said]
    best = int(np.argmin(distances))
    return phrases[best], distances[best]


@pytest.mark.parametrize("seed", range(4))
def test_the_answer_is_the_nearest_phrase(updated: EdgeHome, tmp_path: Path, seed: int) -> None:
    recording = write_recording(tmp_path / "r.wav", seed)
    recognizer = Recognizer.open(updated)
    answer = recognizer.transcribe(recording)
    phrase, distance = by_hand(recording, recognizer.card.phrases, 0)
    assert answer.phrase == phrase
    assert answer.distance == pytest.approx(distance, abs=1e-5)


def test_every_phrase_of_the_card_can_be_the_answer(
    home: EdgeHome, server: FakeServer, tmp_path: Path
) -> None:
    phrases = tuple(sorted(f"phrase {n} ☕" for n in range(30)))
    server.publish_next(card=card_with(*phrases))
    update(home)
    recognizer = Recognizer.open(home)
    assert recognizer.card.phrases == phrases
    recording = write_recording(tmp_path / "r.wav")
    assert recognizer.transcribe(recording).phrase == by_hand(recording, phrases, 1)[0]


def test_a_recogniser_keeps_its_generation_while_the_home_moves_on(
    updated: EdgeHome, server: FakeServer, tmp_path: Path
) -> None:
    recording = write_recording(tmp_path / "r.wav")
    old = Recognizer.open(updated)
    before = old.transcribe(recording)
    # Two updates, so that the slot which it maps is cleared and filled anew.
    for _ in range(2):
        server.publish_next()
        update(updated)
    assert old.transcribe(recording) == before
    new = Recognizer.open(updated)
    assert (old.generation.number, new.generation.number) == (0, 2)
    assert new.transcribe(recording).distance != before.distance


def test_a_home_without_a_generation_says_what_to_run(home: EdgeHome) -> None:
    with pytest.raises(NoGenerationError, match="ota-edge update"):
        Recognizer.open(home)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not audio at all" * 100])
def test_what_is_no_audio_is_named(updated: EdgeHome, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"bad\.wav"):
        Recognizer.open(updated).transcribe(path)


def test_a_truncated_store_does_not_load(updated: EdgeHome) -> None:
    slot = updated.slots.active()
    slot.weights.write_bytes(slot.weights.read_bytes()[:9000])
    with pytest.raises(UnhealthyError, match="does not load"):
        Recognizer.open(updated)


def test_a_missing_graph_does_not_load(updated: EdgeHome) -> None:
    updated.slots.active().graph.unlink()
    with pytest.raises(UnhealthyError, match="does not load"):
        Recognizer.open(updated)


def test_weights_that_give_no_number_are_unhealthy(updated: EdgeHome) -> None:
    slot = updated.slots.active()
    slot.weights.write_bytes(b"\xff" * slot.weights.stat().st_size)
    with pytest.raises(UnhealthyError, match="finite"):
        check_health(slot)


class WidthsSession:
    """Stands for a graph whose encoders give embeddings of these widths, filled with a value."""

    def __init__(self, speech: int, *texts: int, value: object = 0.5) -> None:
        self.speech, self.texts, self.value = speech, list(texts), value

    def run(self, outputs: list[str], inputs: object) -> list[object]:
        width = self.speech if outputs == ["speech_embedding"] else self.texts.pop(0)
        return [[[self.value] * width]]


@pytest.mark.parametrize(
    ("session", "found"),
    [
        (WidthsSession(4, 8, 8), "as wide as text_embedding, 8, found 4"),
        (WidthsSession(1, 8, 8), "as wide as text_embedding, 8, found 1"),
        (WidthsSession(8, 1, 1), "as wide as text_embedding, 1, found 8"),
        (WidthsSession(8, 8, 4), "one width"),
        (WidthsSession(0, 0, 0), "shape"),
        (WidthsSession(8, 8, 8, value="text"), "no text_embedding from the model"),
    ],
)
def test_embeddings_that_cannot_be_compared_are_unhealthy(
    session: WidthsSession, found: str
) -> None:
    with pytest.raises(UnhealthyError, match=found):
        CommandModel(Session(session), Card(("no", "yes"))).nearest(np.ones(8_000, np.float32))


def test_a_recording_in_pieces_is_answered_at_the_end(updated: EdgeHome, tmp_path: Path) -> None:
    samples = read_audio(write_recording(tmp_path / "r.wav"))
    recognizer = Recognizer.open(updated)
    listener = recognizer.listen()
    for piece in np.array_split(samples, 7):
        listener.feed(piece)
        assert listener.text == ""
    answer = listener.finish()
    assert answer == recognizer.recognise(samples)
    assert answer.text == answer.phrase


def test_nothing_heard_is_no_recording(updated: EdgeHome) -> None:
    with pytest.raises(ValueError, match="0 samples"):
        Recognizer.open(updated).listen().finish()


def test_the_card_says_how_phrases_are_read(home: EdgeHome, server: FakeServer) -> None:
    phrases = ("lights off", "lights on")
    # Rows of 4,500 pieces, and the tiny model has 256: what its graph refuses was asked in pieces.
    server.publish_next(card=Card(phrases, tokens=PIECES).to_json().encode())
    with pytest.raises(UnhealthyError, match="no text_embedding"):
        update(home)


def test_a_healthy_slot_is_healthy(updated: EdgeHome) -> None:
    check_health(updated.slots.active())


def test_a_missing_record_is_an_error(updated: EdgeHome) -> None:
    (updated.slots.active().path / "generation.json").unlink()
    with pytest.raises(StorageError):
        Recognizer.open(updated)


def test_a_slot_that_changes_while_it_is_opened_is_opened_again(
    updated: EdgeHome, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two updates in a row between reading the pointer and loading the slot."""
    real_load = Recognizer.load
    loads = []

    def load(slot, beam_width):
        loads.append(slot.name)
        if len(loads) == 1:
            monkeypatch.setattr("edge_client.updater.check_health", lambda slot: None)
            for _ in range(2):
                server.publish_next()
                update(updated)
        return real_load(slot, beam_width)

    monkeypatch.setattr(Recognizer, "load", load)
    assert Recognizer.open(updated).generation.number == 2
    assert loads == ["a", "a"]
