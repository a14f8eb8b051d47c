"""Write model.onnx, the smallest graph that keeps the contract of a transducer (RNN-T).

Needs onnx, which the device does not have; that is why the result is committed. Encoder and
prediction network are an LSTM layer and a projection each, the joint is log_softmax(W tanh(a + b)).
The weights lie in weights.bin, at the offsets of their layout.

ONNX Runtime executes a whole graph, whichever outputs are wanted. So each network is a branch of
an If, and runs where its input has any rows; the defaults have none.

    python -m tests.vectors.edge_transducer.regenerate
"""

from pathlib import Path

import numpy as np
from onnx import GraphProto, NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto, helper
from onnx.numpy_helper import from_array

from diffcodec import Layout
from tests.unit.edge_client.transducer_models import ENCODED, HIDDEN, VOCABULARY, weights

FRAME = 192
OPSET, IR_VERSION = 17, 9
node = helper.make_node


Shape = list[int | str]


def external(layout: Layout) -> list[TensorProto]:
    tensors = []
    for spec, offset in zip(layout.tensors, layout.offsets, strict=True):
        tensor = TensorProto(name=spec.name, dims=spec.shape, data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": "weights.bin", "offset": offset, "length": spec.nbytes}
        for key, value in place.items():
            tensor.external_data.append(StringStringEntryProto(key=key, value=str(value)))
        tensors.append(tensor)
    return tensors


def recurrent(side: str, source: str, output: str, shape: list[int]) -> list[NodeProto]:
    """An LSTM layer from a given state, and its projection, reshaped."""
    states = [f"{side}_{name}" for name in "hc"]
    weights_of_lstm = [f"{side}.lstm.0.{name}" for name in "WRB"]
    projection = [f"{side}.projection.weight", f"{side}.projection.bias"]
    return [
        node(
            "LSTM",
            [source, *weights_of_lstm, "", *states],
            [f"{side}_y", *(f"{state}_after" for state in states)],
            hidden_size=HIDDEN,
        ),
        node("Reshape", [f"{side}_y", "rows"], [f"{side}_rows"]),
        node("Gemm", [f"{side}_rows", *projection], [f"{side}_projected"], transB=1),
        node("Constant", [], [f"{side}_shape"], value=from_array(np.array(shape, np.int64))),
        node("Reshape", [f"{side}_projected", f"{side}_shape"], [output]),
    ]


def where_given(
    name: str, axis: int, nodes: list[NodeProto], outputs: dict[str, tuple[str, Shape]]
) -> list[NodeProto]:
    """Run the nodes where an input has any rows along an axis; outputs: (inner name, shape)."""
    inner = [inner for inner, _ in outputs.values()]
    empty = {f"{output}_empty": sizes(shape) for output, (_, shape) in outputs.items()}
    nothing = [
        node("Constant", [], [output], value=from_array(np.zeros(shape, np.float32)))
        for output, shape in empty.items()
    ]

    def branch(nodes: list[NodeProto], names: list[str]) -> GraphProto:
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
        return helper.make_graph(nodes, f"{name}_branch", [], values)

    return [
        node("Shape", [name], [f"{name}_count"], start=axis, end=axis + 1),
        node("Squeeze", [f"{name}_count"], [f"{name}_scalar"]),
        node("Cast", [f"{name}_scalar"], [f"{name}_given"], to=TensorProto.BOOL),
        node(
            "If",
            [f"{name}_given"],
            list(outputs),
            then_branch=branch(nodes, inner),
            else_branch=branch(nothing, list(empty)),
        ),
    ]


def sizes(shape: Shape) -> list[int]:
    return [0 if isinstance(size, str) else size for size in shape]


def main() -> None:
    inputs: dict[str, Shape] = {
        "features": ["T", 1, FRAME],
        "encoder_h": [1, 1, HIDDEN],
        "encoder_c": [1, 1, HIDDEN],
        "token": [1, "K"],
        "prediction_h": [1, "K", HIDDEN],
        "prediction_c": [1, "K", HIDDEN],
        "encoded_frame": [1, ENCODED],
        "predicted_rows": ["K", ENCODED],
    }
    outputs: dict[str, Shape] = {
        "encoded": ["T", 1, ENCODED],
        "encoder_h_next": [1, 1, HIDDEN],
        "encoder_c_next": [1, 1, HIDDEN],
        "predicted": ["K", ENCODED],
        "prediction_h_next": [1, "K", HIDDEN],
        "prediction_c_next": [1, "K", HIDDEN],
        "log_probs": ["K", VOCABULARY],
    }

    def named(*pairs: tuple[str, str]) -> dict[str, tuple[str, Shape]]:
        return {output: (inner, outputs[output]) for output, inner in pairs}

    encoder = recurrent("encoder", "features", "encoder_out", [-1, 1, ENCODED])
    prediction = [
        node("Gather", ["prediction.embedding", "token"], ["vectors"]),
        *recurrent("prediction", "vectors", "prediction_out", [-1, ENCODED]),
    ]
    joint = [
        node("Add", ["encoded_frame", "predicted_rows"], ["sum"]),
        node("Tanh", ["sum"], ["mixed"]),
        node("Gemm", ["mixed", "joint.weight", "joint.bias"], ["logits"], transB=1),
        node("LogSoftmax", ["logits"], ["joint_out"], axis=1),
    ]
    networks = [
        ("features", 0, encoder, named(*states_of("encoder", "encoded"))),
        ("token", 1, prediction, named(*states_of("prediction", "predicted"))),
        ("predicted_rows", 0, joint, named(("log_probs", "joint_out"))),
    ]
    nodes = [node for network in networks for node in where_given(*network)]

    def value(name: str, shape: Shape) -> ValueInfoProto:
        kind = TensorProto.INT64 if name == "token" else TensorProto.FLOAT
        return helper.make_tensor_value_info(name, kind, shape)

    def default(name: str, shape: Shape) -> TensorProto:
        kind = np.int64 if name == "token" else np.float32
        return from_array(np.zeros(sizes(shape), kind), name)

    graph = helper.make_graph(
        nodes,
        "tiny_transducer",
        inputs=[value(*item) for item in inputs.items()],
        outputs=[value(*item) for item in outputs.items()],
        initializer=[
            *(default(*item) for item in inputs.items()),
            from_array(np.array([-1, HIDDEN], np.int64), "rows"),
            *external(weights(0).layout),
        ],
    )
    model = helper.make_model(
        graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    Path(__file__).with_name("model.onnx").write_bytes(model.SerializeToString(deterministic=True))


def states_of(side: str, output: str) -> list[tuple[str, str]]:
    """The outputs of a recurrent network, and what they are called in its branch."""
    states = [(f"{side}_{name}_next", f"{side}_{name}_after") for name in "hc"]
    return [(output, f"{side}_out"), *states]


if __name__ == "__main__":
    main()
