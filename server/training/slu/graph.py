"""The ONNX graph of the spoken-command model, built by hand.

One ONNX tensor for each learned parameter, in canonical order, in one external file at the
offsets of the layout: the device's weight store is the file that ONNX Runtime maps, and a new
generation changes no byte of the graph. (Exporters rename and permute; see docs/adr/0002.)

Inputs, each with a default so that either encoder runs alone:
    features  float32 (T, 1, 192)     tokens  int64 (L, 1)
Outputs, of unit L2 length:
    speech_embedding  float32 (1, E)  text_embedding  float32 (1, E)

A model in int8 computes in int8 where the work is: its LSTM layers are ONNX Runtime's
DynamicQuantizeLSTM, which rounds to 8 bits what it multiplies the matrices with, too. Rows of the
embedding and the projections become float32 again as they are used. (The standard LSTM behind
DequantizeLinear gives the same floats anew at every run: as slow as float32 and no smaller.)

Letters: T feature frames, L tokens, H hidden units, E embedding size, P phrases.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from diffcodec import Dtype, Layout
from diffcodec.onnx_weights import STORE_NAME, point_to
from server.training.grid import SCALE
from server.training.slu.model import ModelConfig
from speech.features import FEATURE_DIM

# ONNX Runtime 1.20 and later; both versions are old enough for every supported device.
OPSET, IR_VERSION = 17, 9
CONTRIBUTED = "com.microsoft"
"""ONNX Runtime's own operators; every CPU build of it has them."""
ZERO_POINT = ".zero_point"
TYPES = {Dtype.FLOAT32: TensorProto.FLOAT, Dtype.INT8: TensorProto.INT8}
SHORTEST = np.float32(1e-12)
"""Lengths are clamped here before division, as torch.nn.functional.normalize does."""


def build_graph(config: ModelConfig, layout: Layout) -> bytes:
    """Build the graph of a model.

    Args:
        config: Sizes of the model.
        layout: Its tensors: `config.layout`.

    Returns:
        The serialised ONNX model, a few KB; its weights lie in `weights.bin` beside it.
    """
    nodes = [
        # Take the utterance's mean out of its features (model.SpokenCommandModel.forward).
        helper.make_node("ReduceMean", ["features"], ["feature_mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["features", "feature_mean"], ["centred"]),
        *_encoder("speech", "centred", config.speech_layers, config),
        *_embedding(config),
        *_encoder("text", "token_vectors", config.text_layers, config),
    ]
    silence = np.zeros((1, 1, FEATURE_DIM), np.float32)
    constants: dict[str, NDArray[Any]] = {
        "features": silence,
        "tokens": np.zeros((1, 1), np.int64),
        "shortest": np.asarray(SHORTEST),
        "first_direction": np.asarray([1], np.int64),
    }
    domains = [helper.make_opsetid("", OPSET)]
    if config.is_int8:
        # One for each tensor: ONNX Runtime may rewrite them, and refuses to do so twice.
        constants |= {
            spec.name + ZERO_POINT: np.zeros(1, np.int8)
            for spec in layout.tensors
            if spec.dtype is Dtype.INT8
        }
        domains.append(helper.make_opsetid(CONTRIBUTED, 1))
    graph = helper.make_graph(
        nodes,
        "spoken_command",
        inputs=[
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["T", 1, FEATURE_DIM]),
            helper.make_tensor_value_info("tokens", TensorProto.INT64, ["L", 1]),
        ],
        outputs=[
            helper.make_tensor_value_info(f"{side}_embedding", TensorProto.FLOAT, [1, "E"])
            for side in ("speech", "text")
        ],
        initializer=[
            *(numpy_helper.from_array(value, name) for name, value in constants.items()),
            *external_initializers(layout),
        ],
    )
    model = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=domains,
        producer_name="neuraldiff",
    )
    return bytes(model.SerializeToString(deterministic=True))


def external_initializers(layout: Layout) -> list[TensorProto]:
    """Initializers whose bytes lie in the flat store, at the layout's offsets."""
    initializers = []
    for spec, offset in zip(layout.tensors, layout.offsets, strict=True):
        tensor = TensorProto(name=spec.name, dims=spec.shape, data_type=TYPES[spec.dtype])
        point_to(tensor, STORE_NAME, offset, spec.nbytes)
        initializers.append(tensor)
    return initializers


def _embedding(config: ModelConfig) -> list[NodeProto]:
    """The rows of the tokens, float32."""
    rows = "token_levels" if config.is_int8 else "token_vectors"
    gather = helper.make_node("Gather", ["tokens.weight", "tokens"], [rows])
    return (
        [gather, _as_float(rows, "tokens.weight", "token_vectors")] if config.is_int8 else [gather]
    )


def _as_float(levels: str, tensor: str, result: str) -> NodeProto:
    """Levels times their tensor's scale."""
    return helper.make_node(
        "DequantizeLinear", [levels, tensor + SCALE, tensor + ZERO_POINT], [result]
    )


def _lstm(name: str, x: str, result: str, config: ModelConfig) -> NodeProto:
    """One layer, without initial states and sequence lengths."""
    inputs, recurrent, biases = (f"{name}.{part}" for part in "WRB")
    if not config.is_int8:
        weights = [inputs, recurrent, biases]
        return helper.make_node("LSTM", [x, *weights], [result], hidden_size=config.hidden)
    grids = [matrix + end for matrix in (inputs, recurrent) for end in (SCALE, ZERO_POINT)]
    return helper.make_node(
        "DynamicQuantizeLSTM",
        [x, inputs, recurrent, biases, "", "", "", "", *grids],
        [result],
        domain=CONTRIBUTED,
        hidden_size=config.hidden,
    )


def _encoder(side: str, source: str, layers: int, config: ModelConfig) -> list[NodeProto]:
    """LSTM layers, the mean over time, the projection, unit length (model.Encoder)."""
    nodes = []
    x = source
    for k in range(layers):
        directions, x_next = f"{side}_directions_{k}", f"{side}_states_{k}"
        nodes += [
            _lstm(f"{side}.lstm.{k}", x, directions, config),
            # (T, 1, 1, H) -> (T, 1, H)
            helper.make_node("Squeeze", [directions, "first_direction"], [x_next]),
        ]
        x = x_next
    mean, raw, length, safe = (f"{side}_{name}" for name in ("mean", "raw", "length", "safe"))
    weight, bias = f"{side}.projection.weight", f"{side}.projection.bias"
    if config.is_int8:
        nodes.append(_as_float(weight, weight, f"{side}_projection"))
        weight = f"{side}_projection"
    return [
        *nodes,
        helper.make_node("ReduceMean", [x], [mean], axes=[0], keepdims=0),
        helper.make_node("Gemm", [mean, weight, bias], [raw], transB=1),
        helper.make_node("ReduceL2", [raw], [length], axes=[1], keepdims=1),
        helper.make_node("Max", [length, "shortest"], [safe]),
        helper.make_node("Div", [raw, safe], [f"{side}_embedding"]),
    ]
