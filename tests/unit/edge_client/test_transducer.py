"""Sentences recognised by ONNX Runtime on the tiny transducer, and by the same one in numpy."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffcodec import ParameterSet
from edge_client import EdgeHome, Recognizer, UpdateResult, Wanted, enroll, update
from edge_client.errors import UnhealthyError
from edge_client.inference import Sentence, check_health
from edge_client.inference.search import search_of_width
from edge_client.slots import Slot
from speech.card import TransducerCard
from speech.features import extract
from tests.unit.edge_client.fake_server import FakeServer
from tests.unit.edge_client.models import CARD as COMMAND_CARD
from tests.unit.edge_client.models import GRAPH as COMMAND_GRAPH
from tests.unit.edge_client.models import full_diff, generation, snapshot
from tests.unit.edge_client.transducer_models import CARD, MODEL, NumpyNetworks, weights

WIDTHS = [1, 2, 16]


def speech(seed: int, count: int = 16_000) -> np.ndarray:
    """Noise that swells and fades, so that frames differ."""
    noise = np.random.default_rng(seed).normal(0, 0.3, count)
    return (noise * np.sin(np.arange(count) / 900) ** 2).astype(np.float32)


def by_numpy(of: ParameterSet, samples: np.ndarray, width: int) -> Sentence:
    networks = NumpyNetworks(of)
    search = search_of_width(networks, width)
    for frame in networks.encode(extract(samples)):
        search.advance(frame)
    return Sentence(CARD.text_of(search.best.ids), search.best.log_probability)


Install = Callable[..., EdgeHome]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Bring a device to a transducer, through a server."""

    def installed(seed: int = 0, card: TransducerCard = CARD) -> EdgeHome:
        home = EdgeHome(tmp_path / f"home-{seed}")
        with FakeServer() as server:
            content = weights(seed)
            server.publish(
                content,
                snapshot(content),
                base=None,
                graph=MODEL.read_bytes(),
                card=card.to_json().encode(),
            )
            enroll(home, server.address, Wanted("dictation", "test"), server.fleet)
            assert isinstance(update(home), UpdateResult)
        return home

    return installed


@pytest.mark.parametrize("seed", range(6))
def test_the_answer_is_that_of_the_networks_in_numpy(install: Install, seed: int) -> None:
    home = install(seed)
    for width in WIDTHS:
        found = Recognizer.open(home, width).recognise(speech(seed))
        expected = by_numpy(weights(seed), speech(seed), width)
        assert found.text == expected.text
        assert found.log_probability == pytest.approx(expected.log_probability, abs=1e-3)


def test_the_tiny_models_have_something_to_say() -> None:
    said = {by_numpy(weights(seed), speech(seed), 16).text for seed in range(6)}
    assert len(said) >= 4


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("pieces", [2, 7, 160])
def test_a_recording_in_pieces_gives_the_answer_of_the_whole(
    install: Install, width: int, pieces: int
) -> None:
    recognizer = Recognizer.open(install(seed=1), width)
    samples = speech(1, 12_345)
    listener = recognizer.listen()
    for piece in np.array_split(samples, pieces):
        listener.feed(piece)
    found, whole = listener.finish(), recognizer.recognise(samples)
    assert found.text == whole.text
    assert found.log_probability == pytest.approx(whole.log_probability, abs=1e-3)


def test_the_text_so_far_is_that_of_the_frames_so_far(install: Install) -> None:
    samples = speech(0)
    listener = Recognizer.open(install(seed=0)).listen()
    assert listener.text == ""
    texts = []
    for end in range(1_600, 16_001, 1_600):
        listener.feed(samples[end - 1_600 : end])
        texts.append(listener.text)
        # The last frame may be incomplete, and is then not searched yet.
        frames = extract(samples[:end])[: (1 + (end - 400) // 160) // 3]
        networks = NumpyNetworks(weights(0))
        search = search_of_width(networks, 16)
        for frame in networks.encode(frames):
            search.advance(frame)
        assert texts[-1] == CARD.text_of(search.best.ids)
    assert len(set(texts)) > 2


def test_nothing_heard_is_no_recording(install: Install) -> None:
    listener = Recognizer.open(install()).listen()
    listener.feed(np.zeros(0, np.float32))
    with pytest.raises(ValueError, match="0 samples"):
        listener.finish()


def test_one_sample_is_a_recording(install: Install) -> None:
    assert isinstance(Recognizer.open(install()).recognise(np.zeros(1, np.float32)), Sentence)


def active(home: EdgeHome) -> Slot:
    return home.slots.active()


def test_a_healthy_transducer_is_healthy(install: Install) -> None:
    check_health(active(install()))


# Not the LSTM's own: the activations of ONNX Runtime make numbers of what is none.
@pytest.mark.parametrize(
    "tensor",
    [name for name in sorted(weights(0).arrays) if "projection" in name or "joint" in name],
)
def test_a_weight_that_is_no_number_is_unhealthy(install: Install, tensor: str) -> None:
    slot = active(install())
    arrays = {name: array.copy() for name, array in weights(0).arrays.items()}
    arrays[tensor].reshape(-1)[-1] = np.nan
    slot.weights.unlink()
    ParameterSet.from_arrays(arrays).write(slot.weights)
    with pytest.raises(UnhealthyError, match="NaN"):
        check_health(slot)


@pytest.mark.parametrize(
    "card",
    [
        replace(CARD, hidden=CARD.hidden + 1),
        replace(CARD, encoder_layers=2),
        replace(CARD, prediction_layers=2),
        replace(CARD, pieces=CARD.pieces[:-1]),
    ],
    ids=["hidden", "encoder_layers", "prediction_layers", "pieces"],
)
def test_a_card_that_does_not_fit_the_graph_is_unhealthy(
    install: Install, card: TransducerCard
) -> None:
    with pytest.raises(UnhealthyError):
        install(card=card)


def test_a_hostile_card_is_unhealthy(install: Install) -> None:
    slot = active(install())
    content = json.loads(CARD.to_json()) | {"hidden": 10**9}
    slot.card.write_text(json.dumps(content))
    with pytest.raises(UnhealthyError, match="hidden units"):
        check_health(slot)


@pytest.mark.parametrize("kind", ["commands", "sentences"])
def test_a_card_of_the_other_kind_than_the_graph_is_unhealthy(tmp_path: Path, kind: str) -> None:
    home = EdgeHome(tmp_path / "home")
    content, graph, card = {
        "commands": (generation(0), COMMAND_GRAPH, CARD.to_json().encode()),
        "sentences": (weights(0), MODEL.read_bytes(), COMMAND_CARD),
    }[kind]
    with FakeServer() as server:
        server.publish(content, snapshot(content), base=None, graph=graph, card=card)
        enroll(home, server.address, Wanted("speech", "test"), server.fleet)
        with pytest.raises(UnhealthyError, match="from the model"):
            update(home)


def test_a_device_follows_from_commands_to_sentences(tmp_path: Path) -> None:
    home = EdgeHome(tmp_path / "home")
    with FakeServer() as server:
        server.publish(
            generation(0),
            snapshot(generation(0)),
            base=None,
            graph=COMMAND_GRAPH,
            card=COMMAND_CARD,
        )
        enroll(home, server.address, Wanted("speech", "test"), server.fleet)
        update(home)
        assert Recognizer.open(home).recognise(speech(0)).text in ("no", "stop", "yes")
        server.publish(
            weights(0),
            snapshot(weights(0)),
            base=0,
            graph=MODEL.read_bytes(),
            card=CARD.to_json().encode(),
        )
        update(home)
    found = Recognizer.open(home).recognise(speech(0))
    assert found.text == by_numpy(weights(0), speech(0), 16).text


def test_the_next_generation_says_something_else(tmp_path: Path) -> None:
    home = EdgeHome(tmp_path / "home")
    graph, card = MODEL.read_bytes(), CARD.to_json().encode()
    with FakeServer() as server:
        server.publish(weights(0), snapshot(weights(0)), base=None, graph=graph, card=card)
        enroll(home, server.address, Wanted("dictation", "test"), server.fleet)
        update(home)
        server.publish(
            weights(2), full_diff(weights(0), weights(2)), base=0, graph=graph, card=card
        )
        update(home)
    found = Recognizer.open(home).recognise(speech(0))
    assert found.text == by_numpy(weights(2), speech(0), 16).text
    assert found.text != by_numpy(weights(0), speech(0), 16).text
