"""A generation with another layout and graph, from a server process to devices of both kinds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from diffcodec import Coder, ParameterSet, encode, lossless_diff, onnx_weights, read_header
from edge_client import EdgeHome, Recognizer, Wanted, enroll, update
from edge_client.address import ServerAddress
from edge_client.inference import NearestPhrase
from server.home import ServerHome
from server.identity.keys import Policy
from server.publishing import publish
from speech.features import extract
from speech.tokens import encode_text
from tests.integration.server_process import ca_of, server_process
from tests.unit.edge_client.models import CARD, GRAPH, generation, snapshot

WIDTH = 12
"""Of both embeddings; generation 0 has 8."""

NOISE = np.random.default_rng(3).normal(0, 0.1, 8_000).astype(np.float32)


def grown_weights(base: ParameterSet) -> ParameterSet:
    """Both matrices are wider, by columns at one corner, and the speech side has a bias."""
    random = np.random.default_rng(1)
    wider = {
        name: np.pad(array, ((0, 0), (0, WIDTH - array.shape[1])), constant_values=0.1)
        for name, array in base.arrays.items()
    }
    bias = random.normal(size=WIDTH).astype(np.float32)
    return ParameterSet.from_arrays({**wider, "speech.bias": bias})


def grown_graph(weights: ParameterSet) -> bytes:
    """The graph of generation 0 with wider matrices, and the bias added after the product."""
    model = onnx.load_from_string(GRAPH)
    model.graph.initializer.append(
        TensorProto(name="speech.bias", dims=[WIDTH], data_type=TensorProto.FLOAT)
    )
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for spec, offset in zip(weights.layout.tensors, weights.layout.offsets, strict=True):
        tensors[spec.name].dims[:] = spec.shape
        onnx_weights.point_to(tensors[spec.name], "weights.bin", offset, spec.nbytes)
    at, product = next(
        (at, node) for at, node in enumerate(model.graph.node) if node.op_type == "MatMul"
    )
    total, product.output[0] = product.output[0], "product"
    model.graph.node.insert(at + 1, helper.make_node("Add", ["product", "speech.bias"], [total]))
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_value = WIDTH
    return model.SerializeToString(deterministic=True)


def answer_of(weights: ParameterSet) -> NearestPhrase:
    """What the grown model answers to NOISE, by numpy."""

    def of_unit_length(vector: np.ndarray) -> np.ndarray:
        return vector / np.linalg.norm(vector)

    arrays = weights.arrays
    frames = extract(NOISE).mean(axis=0) @ arrays["speech.weight"] + arrays["speech.bias"]
    speech = of_unit_length(frames)
    distances = {
        phrase: float(
            np.linalg.norm(
                speech - of_unit_length(arrays["text.embedding"][encode_text(phrase)].mean(axis=0))
            )
        )
        for phrase in ("no", "stop", "yes")
    }
    return min((NearestPhrase(*item) for item in distances.items()), key=lambda t: t.distance)


@pytest.mark.parametrize("coders", [{Coder.FAST}, set(Coder)], ids=["fast", "max"])
def test_a_device_follows_a_diff_to_a_new_layout_and_graph_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coders: set[Coder]
) -> None:
    monkeypatch.setattr("edge_client.updater.available_coders", lambda: coders)
    old, new = generation(0), grown_weights(generation(0))
    graph = grown_graph(new)
    srv, device = (
        ServerHome.create(tmp_path / "srv", enrolment=Policy.OPEN),
        EdgeHome(tmp_path / "device"),
    )
    publish(srv, "digits", snapshot(old), graph=GRAPH, card=CARD)
    with server_process(srv.folder) as (_, address):
        fleet = ca_of(srv.folder)
        wanted = Wanted("digits", "kitchen")
        enroll(device, ServerAddress.parse(address), wanted, fleet)
        assert update(device).after.number == 0
        diff = encode(replace(lossless_diff(old, new), graph=graph), old, frozenset(Coder))
        made = publish(srv, "digits", diff)
        result = update(device)
        assert update(device).steps == ()
    [step] = result.steps
    file = srv.artifacts.read(step.diff.sha256, 0, step.diff.length_bytes)
    srv.close()
    assert not step.is_snapshot
    assert read_header(file).coders <= coders
    assert result.after.digest == made.digest == new.digest()
    assert device.slots.active().graph.read_bytes() == graph
    answer, expected = Recognizer.open(device).recognise(NOISE), answer_of(new)
    assert answer.phrase == expected.phrase
    assert answer.distance == pytest.approx(expected.distance, abs=1e-4)
