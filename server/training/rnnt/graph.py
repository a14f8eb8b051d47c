"""The ONNX graph of the RNN-T, built by hand: three networks in one model.

ONNX Runtime computes every node whatever output is wanted (RunOptions.only_execute_path_to_fetches
works in its training builds alone), and the encoder has most of the weights. So each network is
the branch of an If, and runs only if it is given something: by default its inputs are empty. One
ONNX tensor for each learned parameter, in one external file at the offsets of the layout (see
slu.graph).

    encoder     features (T, 1, 192), encoder_h, encoder_c (N, 1, H)
                -> encoded (T, 1, E), encoder_h_next, encoder_c_next
    prediction  token int64 (1, K), prediction_h, prediction_c (M, K, H)
                -> predicted (K, E), prediction_h_next, prediction_c_next
    joint       encoded_frame (1, E), predicted_rows (K, E)
                -> log_probs (K, V); index 0 is blank

States start from zeros, their defaults, and the token of a text's start is 0. Feeding a recording
in chunks, with the states carried on, gives what the whole gives.

Letters: T frames, H hidden units, N encoder layers, M prediction layers, E width of the
projections, K hypotheses, V pieces and blank.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from diffcodec import Layout
from server.training.rnnt.model import ModelConfig
from server.training.slu.graph import IR_VERSION, OPSET, external_initializers
from speech.features import FEATURE_DIM

Dims = Sequence[int | str]


def build_graph(config: ModelConfig, layout: Layout) -> bytes:
    """Build the graph of a model.

    Args:
        config: Sizes of the model.
        layout: Its tensors; they must be float32.

    Returns:
        The serialised ONNX model, a few KB; its weights lie in `weights.bin` beside it.
    """
    outputs = _outputs(config)
    graph = helper.make_graph(
        [
            *_if_given("features", 0, _encoder(config), outputs[:3]),
            *_if_given("token", 1, _prediction(config), outputs[3:6]),
            *_if_given("predicted_rows", 0, _joint(), outputs[6:]),
        ],
        "transducer",
        inputs=_inputs(),
        outputs=outputs,
        initializer=[
            *(numpy_helper.from_array(v, name) for name, v in _defaults(config).items()),
            *(numpy_helper.from_array(v, name) for name, v in _constants(config).items()),
            *external_initializers(layout),
        ],
    )
    model = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="neuraldiff",
    )
    return bytes(model.SerializeToString(deterministic=True))


def _defaults(config: ModelConfig) -> dict[str, NDArray[Any]]:
    """What inputs are when they are not given."""
    # A single zero serves for states of any size (_layers), nothing for what is worked on.
    states = ("encoder_h", "encoder_c", "prediction_h", "prediction_c")
    return {
        "features": np.zeros((0, 1, FEATURE_DIM), np.float32),
        "token": np.zeros((1, 0), np.int64),
        "encoded_frame": np.zeros((1, config.projection), np.float32),
        "predicted_rows": np.zeros((0, config.projection), np.float32),
        **{name: np.zeros((1, 1, 1), np.float32) for name in states},
    }


def _constants(config: ModelConfig) -> dict[str, NDArray[Any]]:
    shapes = {
        "axis_0": [0],
        "axis_1": [1],
        "bias_shape": [1, 4 * config.hidden],
        "encoder_states": [config.encoder_layers, 1, config.hidden],
        "prediction_states": [config.prediction_layers, 1, config.hidden],
    }
    return {name: np.asarray(shape, np.int64) for name, shape in shapes.items()}


def _inputs() -> list[ValueInfoProto]:
    return [
        _value("features", ["T", 1, FEATURE_DIM]),
        _value("encoder_h", ["N", 1, "H"]),
        _value("encoder_c", ["N", 1, "H"]),
        helper.make_tensor_value_info("token", TensorProto.INT64, [1, "K"]),
        _value("prediction_h", ["M", "K", "H"]),
        _value("prediction_c", ["M", "K", "H"]),
        _value("encoded_frame", [1, "E"]),
        _value("predicted_rows", ["K", "E"]),
    ]


def _outputs(config: ModelConfig) -> list[ValueInfoProto]:
    encoder: Dims = [config.encoder_layers, 1, config.hidden]
    prediction: Dims = [config.prediction_layers, "K", config.hidden]
    return [
        _value("encoded", ["T", 1, config.projection]),
        _value("encoder_h_next", encoder),
        _value("encoder_c_next", encoder),
        _value("predicted", ["K", config.projection]),
        _value("prediction_h_next", prediction),
        _value("prediction_c_next", prediction),
        _value("log_probs", ["K", config.vocabulary]),
    ]


def _value(name: str, dims: Dims) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def _if_given(
    name: str, axis: int, nodes: list[NodeProto], outputs: list[ValueInfoProto]
) -> list[NodeProto]:
    """Run nodes if an input is not empty along an axis; else their outputs are empty.

    Args:
        name: The input.
        axis: Where its size may be 0.
        nodes: Whose results are named as the outputs, with "computed_" before.
        outputs: Of the graph.
    """
    branches = {"computed": nodes, "skipped": []}
    for output in outputs:
        rank = len(output.type.tensor_type.shape.dim)
        shape = numpy_helper.from_array(np.zeros(rank, np.int64), "")
        empty, nothing = f"empty_{output.name}", f"skipped_{output.name}"
        branches["skipped"] += [
            helper.make_node("Constant", [], [empty], value=shape),
            helper.make_node("ConstantOfShape", [empty], [nothing]),
        ]
    graphs = {}
    for branch, its_nodes in branches.items():
        results = [
            helper.make_tensor_value_info(f"{branch}_{output.name}", TensorProto.FLOAT, None)
            for output in outputs
        ]
        graphs[branch] = helper.make_graph(its_nodes, f"{name}_{branch}", [], results)
    size, is_given = f"{name}_size", f"{name}_is_given"
    return [
        helper.make_node("Shape", [name], [size], start=axis, end=axis + 1),
        helper.make_node("Cast", [size], [is_given], to=TensorProto.BOOL),
        helper.make_node(
            "If",
            [is_given],
            [output.name for output in outputs],
            then_branch=graphs["computed"],
            else_branch=graphs["skipped"],
        ),
    ]


def _encoder(config: ModelConfig) -> list[NodeProto]:
    """LSTM layers and a projection of every frame (model.Encoder)."""
    states, x = _layers("encoder", "features", config.encoder_layers, config.hidden)
    return [
        *states,
        # Gemm takes matrices: (T, 1, H) -> (T, H) -> (T, E) -> (T, 1, E).
        helper.make_node("Squeeze", [x, "axis_1"], ["encoder_rows"]),
        _dense("encoder.projection", "encoder_rows", "encoded_rows"),
        helper.make_node("Unsqueeze", ["encoded_rows", "axis_1"], ["computed_encoded"]),
    ]


def _prediction(config: ModelConfig) -> list[NodeProto]:
    """An embedding, LSTM layers and a projection of one token a hypothesis (model.Prediction)."""
    states, x = _layers("prediction", "token_vectors", config.prediction_layers, config.hidden)
    return [
        helper.make_node("Gather", ["prediction.embedding.weight", "token"], ["token_vectors"]),
        *states,
        helper.make_node("Squeeze", [x, "axis_0"], ["prediction_rows"]),
        _dense("prediction.projection", "prediction_rows", "computed_predicted"),
    ]


def _joint() -> list[NodeProto]:
    """One frame against every hypothesis (model.RnntModel.log_probs)."""
    return [
        helper.make_node("Add", ["encoded_frame", "predicted_rows"], ["joint_sum"]),
        helper.make_node("Tanh", ["joint_sum"], ["joint_hidden"]),
        _dense("joint", "joint_hidden", "logits"),
        helper.make_node("LogSoftmax", ["logits"], ["computed_log_probs"], axis=-1),
    ]


def _layers(network: str, source: str, layers: int, hidden: int) -> tuple[list[NodeProto], str]:
    """LSTM layers from and to stacked states; returns the nodes and the name of their output."""
    # ONNX wants two biases for a layer, and there is one (lstm.OnnxLstmLayer).
    no_bias = f"{network}_no_bias"
    nodes = [helper.make_node("ConstantOfShape", ["bias_shape"], [no_bias])]
    starts = {state: [f"{network}_{state}_{k}" for k in range(layers)] for state in "hc"}
    ends = {state: [f"{network}_{state}_{k}_next" for k in range(layers)] for state in "hc"}
    for state in "hc":
        given, stacked = f"{network}_{state}", f"{network}_{state}_stacked"
        nodes += [
            # Makes a state of every layer and unit of the default, and copies any other.
            helper.make_node("Expand", [given, f"{network}_states"], [stacked]),
            helper.make_node("Split", [stacked], starts[state], axis=0),
        ]
    x = source
    for k in range(layers):
        name = f"{network}.lstm.{k}"
        bias, directions, x_next = (f"{network}_{what}_{k}" for what in ("bias", "y", "x"))
        parameters = [f"{name}.W", f"{name}.R", bias, "", starts["h"][k], starts["c"][k]]
        nodes += [
            helper.make_node("Concat", [f"{name}.B", no_bias], [bias], axis=1),
            helper.make_node(
                "LSTM",
                [x, *parameters],
                [directions, ends["h"][k], ends["c"][k]],
                hidden_size=hidden,
            ),
            # (T, 1, K, H) -> (T, K, H)
            helper.make_node("Squeeze", [directions, "axis_1"], [x_next]),
        ]
        x = x_next
    for state in "hc":
        nodes.append(
            helper.make_node("Concat", ends[state], [f"computed_{network}_{state}_next"], axis=0)
        )
    return nodes, x


def _dense(name: str, source: str, target: str) -> NodeProto:
    return helper.make_node("Gemm", [source, f"{name}.weight", f"{name}.bias"], [target], transB=1)
