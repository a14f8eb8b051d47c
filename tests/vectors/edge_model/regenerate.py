"""Write model.onnx, the smallest graph that keeps the contract of a spoken-command model.

Needs onnx, which the device does not have; that is why the result is committed. A speech
embedding is the mean frame times a matrix, a text embedding the mean of its tokens' rows, both
of unit length. The two weights lie in weights.bin, at the offsets of their layout.

    python tests/vectors/edge_model/regenerate.py
"""

from pathlib import Path

import numpy as np
from onnx import NodeProto, StringStringEntryProto, TensorProto, helper, numpy_helper

EMBEDDING, FRAME, TOKENS = 8, 192, 256
OPSET, IR_VERSION = 17, 9


def external(name: str, shape: tuple[int, int], offset: int) -> TensorProto:
    tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    place = {"location": "weights.bin", "offset": offset, "length": 4 * shape[0] * shape[1]}
    for key, value in place.items():
        tensor.external_data.append(StringStringEntryProto(key=key, value=str(value)))
    return tensor


def mean_of_unit_length(source: str, output: str, *, weight: str | None) -> list[NodeProto]:
    mean, raw = f"{output}_mean", f"{output}_raw"
    nodes = [helper.make_node("ReduceMean", [source], [mean], axes=[0], keepdims=0)]
    if weight:
        nodes.append(helper.make_node("MatMul", [mean, weight], [raw]))
    last = raw if weight else mean
    return [*nodes, helper.make_node("LpNormalization", [last], [output], axis=-1, p=2)]


def main() -> None:
    nodes = [
        *mean_of_unit_length("features", "speech_embedding", weight="speech.weight"),
        helper.make_node("Gather", ["text.embedding", "tokens"], ["vectors"]),
        *mean_of_unit_length("vectors", "text_embedding", weight=None),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny_spoken_command",
        inputs=[
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["T", 1, FRAME]),
            helper.make_tensor_value_info("tokens", TensorProto.INT64, ["L", 1]),
        ],
        outputs=[
            helper.make_tensor_value_info(f"{side}_embedding", TensorProto.FLOAT, [1, EMBEDDING])
            for side in ("speech", "text")
        ],
        initializer=[
            numpy_helper.from_array(np.zeros((1, 1, FRAME), np.float32), "features"),
            numpy_helper.from_array(np.zeros((1, 1), np.int64), "tokens"),
            external("speech.weight", (FRAME, EMBEDDING), 0),
            external("text.embedding", (TOKENS, EMBEDDING), 8192),
        ],
    )
    model = helper.make_model(
        graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    Path(__file__).with_name("model.onnx").write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
