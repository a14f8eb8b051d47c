"""A model in int8 from training to a device: the store it runs from is what was learned."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from diffcodec import Layout, ParameterSet
from edge_client import EdgeHome, Recognizer, Wanted, enroll, update
from edge_client.address import ServerAddress
from server.cli import app
from server.home import ServerHome
from server.identity.keys import Policy
from server.publishing import weights_of
from server.training.errors import TrainingRequestError
from server.training.grid import is_on_grid, scales_of
from server.training.slu.evaluate import accuracy
from server.training.slu.model import CONFIGS
from speech.card import Card
from speech.corpus import Corpus
from tests.integration.server_process import ca_of, server_process
from tests.tone_corpus import write_tone_corpus

WORDS = {"red": "a", "green": "a", "blue": "a", "white": "b", "black": "b"}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus.read(write_tone_corpus(tmp_path / "tones", WORDS))


def train(home: Path, corpus: Corpus, method: str, *arguments: str, steps: int = 150) -> dict:
    result = CliRunner().invoke(
        app,
        [
            *("train", str(home), "--corpus", str(corpus.folder), "--method", method),
            *("--json", "--steps", str(steps), *arguments),
        ],
    )
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout.splitlines()[-1]))


def refused(home: Path, corpus: Corpus, *arguments: str) -> str:
    """What `ota-server train` would say in its one line."""
    command = ["train", str(home), "--corpus", str(corpus.folder), *arguments]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, TrainingRequestError)
    return str(result.exception)


def heard(device: EdgeHome, corpus: Corpus) -> float:
    recognizer = Recognizer.open(device)
    test = corpus.split("test").utterances
    return float(np.mean([recognizer.transcribe(u.path).phrase == u.text for u in test]))


def test_a_device_runs_in_int8_what_the_server_learned(tmp_path: Path, corpus: Corpus) -> None:
    folder, device = tmp_path / "srv", EdgeHome(tmp_path / "device")
    ServerHome.create(folder, enrolment=Policy.OPEN).close()
    train(folder, corpus, "dense", "--domains", "a", "--config", "tiny")
    sizes, scores = [], []
    with server_process(folder) as (_, address):
        fleet = ca_of(folder)
        wanted = Wanted("slu", "kitchen")
        enroll(device, ServerAddress.parse(address), wanted, fleet)
        update(device)
        sizes.append(store_of(device).stat().st_size)
        train(folder, corpus, "quantise")
        assert "in float32 to quantise" in refused(folder, corpus, "--method", "quantise")
        in_float = refused(folder, corpus, "--method", "sparse", "--budget", "3KB")
        assert "recipe sparse: expected a configuration in float32" in in_float
        for _ in range(2):
            update(device)
            sizes.append(store_of(device).stat().st_size)
            scores.append(heard(device, corpus))
            learned = train(folder, corpus, "int8", "--budget", "3KB", steps=200)
            assert learned["bytes"] <= 3_000
        update(device)
        home = ServerHome.open(folder)
        newest = weights_of(home, "slu", 3)
        home.close()
    # The very bytes: whole levels, at the offsets of the layout.
    store = store_of(device)
    layout = Layout.from_json((store.parent / "layout.json").read_text())
    assert is_on_grid(layout)
    found = ParameterSet.read(store, layout)
    assert found == newest
    assert scales_of(found) == scales_of(newest)
    assert sizes[1] == sizes[2] < 0.6 * sizes[0]  # most of the tiny one's are pages
    # It knows the new words now, as well as the server thinks.
    card = Recognizer.open(device).card
    assert isinstance(card, Card)
    assert card.phrases == corpus.phrases()
    on_server = accuracy(newest, CONFIGS["tiny-int8"], corpus.split("test"), card.phrases)
    assert scores[0] < 0.65
    assert heard(device, corpus) == pytest.approx(on_server, abs=0.04)
    assert on_server > 0.85


def store_of(device: EdgeHome) -> Path:
    installed = device.slots.installed()
    assert installed is not None
    return installed.slot.weights
