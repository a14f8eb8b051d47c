"""A speech recogniser from the training package to a device: both hear the same words."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diffcodec import ParameterSet, encode, lossless_diff
from edge_client import EdgeHome, Recognizer, Wanted, enroll, update
from edge_client.address import ServerAddress
from server.home import ServerHome
from server.identity.keys import Policy
from server.publishing import publish
from server.training.rnnt.evaluate import greedy
from server.training.rnnt.graph import build_graph
from server.training.rnnt.model import CONFIGS, RnntModel
from server.training.rnnt.pieces import Pieces
from speech.card import Piece, TransducerCard
from speech.features import extract
from tests.integration.server_process import ca_of, server_process

TEXTS = ["turn on the light", "turn off the light", "lights out", "it is dark now"]
SIZES = replace(CONFIGS["tiny"], encoder_layers=2, prediction_layers=2)


def talkative_model(seed: int) -> RnntModel:
    """Untrained, with weights so large that what is heard and said matters."""
    model = RnntModel(SIZES).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.3 if "lstm" in name else 0.8, generator=random)
    return model


def hear_on_server(model: RnntModel, pieces: Pieces, samples: np.ndarray) -> str:
    with torch.no_grad():
        features = torch.from_numpy(extract(samples))[:, None]
        encoded, _ = model.encoder(features)
        [ids] = greedy(model, encoded, torch.tensor([len(features)]))
    return " ".join(pieces.decode(ids).split())


def test_device_and_server_hear_the_same_words(tmp_path: Path) -> None:
    pieces = Pieces.learn(TEXTS, SIZES.vocabulary)
    card = TransducerCard(
        pieces.pieces, SIZES.encoder_layers, SIZES.prediction_layers, SIZES.hidden
    )
    models = [talkative_model(seed) for seed in range(3)]
    generations = [
        ParameterSet.from_arrays(
            {name: tensor.detach().numpy() for name, tensor in model.named_parameters()}
        )
        for model in models
    ]
    recordings = [
        np.random.default_rng(seed).normal(0, 0.2, 9_000).astype(np.float32) for seed in range(3)
    ]
    srv, device = (
        ServerHome.create(tmp_path / "srv", enrolment=Policy.OPEN),
        EdgeHome(tmp_path / "device"),
    )
    heard = []
    with server_process(srv.folder) as (_, address):
        base = None
        for model, parameters in zip(models, generations, strict=True):
            publish(
                srv,
                "dictation",
                encode(lossless_diff(base, parameters), base),
                graph=build_graph(SIZES, parameters.layout),
                card=card.to_json(),
            )
            if base is None:
                fleet = ca_of(srv.folder)
                wanted = Wanted("dictation", "kitchen")
                enroll(device, ServerAddress.parse(address), wanted, fleet)
            update(device)
            recognizer = Recognizer.open(device, beam_width=1)
            for samples in recordings:
                heard.append(recognizer.recognise(samples).text)
                assert heard[-1] == hear_on_server(model, pieces, samples)
            base = parameters
    srv.close()
    assert len(set(heard)) > 3, heard


@pytest.mark.parametrize("seed", range(10))
def test_device_and_server_spell_pieces_alike(seed: int) -> None:
    texts = ["▁", "▁the", "r", "é", "▁<", "'s", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = Pieces(tuple(Piece(text, -float(k)) for k, text in enumerate(texts)))
    card = TransducerCard(pieces.pieces, 1, 1, 8)
    rng = np.random.default_rng(seed)
    spelled = [k for text in ("café", "naïve 中文", "x") for k in bytes_of(text, texts)]
    ids = [*rng.integers(1, 7, size=10).tolist(), *spelled, *rng.integers(1, 7, size=5).tolist()]
    assert card.text_of(ids) == " ".join(pieces.decode(ids).split())


def bytes_of(text: str, texts: list[str]) -> list[int]:
    return [1 + texts.index(f"<0x{byte:02X}>") for byte in text.encode()]
