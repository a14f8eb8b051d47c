"""Parameters inside ONNX models.

Initializers of float32, float16, bfloat16 or int8 are parameters; everything else (integer shape
constants, doubles, nodes) is the graph. Weights may be inside the model or in a file beside it;
writing keeps each where the model that is followed has it. A file beside the model is a flat
store, at the layout's 4096-byte offsets.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffcodec.durable import replaced_file
from diffcodec.errors import InputError
from diffcodec.parameters import Dtype, Layout, ParameterSet, TensorSpec, as_bytes

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

# onnx.TensorProto.DataType, spelled out so that importing this module does not import onnx.
_DTYPES = {1: Dtype.FLOAT32, 3: Dtype.INT8, 10: Dtype.FLOAT16, 16: Dtype.BFLOAT16}
# The file of a device's flat store.
STORE_NAME = "weights.bin"
# A tensor's bytes can stand in any of these.
_DATA_FIELDS = (
    "raw_data",
    "float_data",
    "int32_data",
    "int64_data",
    "double_data",
    "uint64_data",
    "string_data",
    "external_data",
    "data_location",
)


def read(path: Path) -> ParameterSet:
    """The parameters of a model.

    Raises:
        InputError: not an ONNX model, or its weights cannot be read.
        OSError: the file cannot be read.
    """
    from onnx import numpy_helper

    model = _load(path)
    arrays = {}
    for tensor in _parameters(model):
        try:
            array = numpy_helper.to_array(tensor, base_dir=str(path.parent))
        except (ValueError, OSError, _validation_error()) as exc:
            raise InputError(f"{path}: tensor {tensor.name}: cannot read its data: {exc}") from exc
        arrays[tensor.name] = np.asarray(array)
    return ParameterSet.from_arrays(arrays)


def write(path: Path, weights: ParameterSet, like: Path, graph: bytes | None = None) -> None:
    """Write a graph with parameters.

    Args:
        path: Where the model goes; an existing file is replaced.
        weights: The parameters.
        like: The model whose graph is kept, and whether its parameters are in a file beside it.
        graph: What `graph_of` gave of the model to write, where that is another one.

    Raises:
        InputError: `like` or the graph is no ONNX model, or no name is free for a file beside the
            new one.
        LayoutError: the graph has other parameters.
        OSError: writing failed; nothing new is at path.
    """
    followed = _load(like)
    beside_like = [_place(tensor) for tensor in _parameters(followed)]
    model, source = (followed, like) if graph is None else (_parse(graph, path), path)
    parameters = {tensor.name: tensor for tensor in _parameters(model)}
    layout = Layout.of(_spec(tensor) for tensor in parameters.values())
    layout.require(weights.layout, str(source), "the new weights")
    _load_constants(model, source)
    places = {name: _place(tensor) for name, tensor in parameters.items()}
    if graph is not None:
        places = dict.fromkeys(parameters, next(filter(None, beside_like), None))
    outside = {name: weights.arrays[name] for name, place in places.items() if place}
    for name, tensor in parameters.items():
        if name not in outside:
            _clear(tensor)
            tensor.raw_data = as_bytes(weights.arrays[name]).tobytes()
    if not outside:
        _replace(path, model)
        return
    beside = _free_name(path, next(place for place in places.values() if place))
    store = ParameterSet(Layout.of(layout.index[name] for name in outside), outside)
    for spec, offset in zip(store.layout.tensors, store.layout.offsets, strict=True):
        point_to(parameters[spec.name], beside.name, offset, spec.nbytes)
    try:
        store.write(beside)
        _replace(path, model)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def graph_of(path: Path, layout: Layout | None = None) -> bytes:
    """A model without the values of its parameters: they are to be in STORE_NAME beside it.

    The same bytes are what a device keeps as `model.onnx` beside its flat store. The same model
    gives the same bytes, whatever the values and wherever they are.

    Args:
        path: The model; values of parameters are not looked at.
        layout: The tensors of the flat store; every initializer that can be one unless given.
            What is not in it (shapes, indices) is in the graph.

    Raises:
        InputError: not an ONNX model, or one without some tensor of the layout.
        OSError: the file cannot be read.
    """
    model = _load(path)
    if layout is None:
        layout = Layout.of(_spec(tensor) for tensor in _parameters(model))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for spec, offset in zip(layout.tensors, layout.offsets, strict=True):
        tensor = constants.pop(spec.name, None)
        if tensor is None:
            raise InputError(
                f"{path}: expected a graph with an initializer for each of {len(layout.tensors)} "
                f"tensors, found none for {spec.name!r}"
            )
        if tuple(tensor.dims) != spec.shape or _DTYPES.get(tensor.data_type) is not spec.dtype:
            kind = _DTYPES.get(tensor.data_type, "another type")
            raise InputError(
                f"{path}: expected {spec.name!r} of shape {spec.shape}, {spec.dtype}, "
                f"found {tuple(tensor.dims)}, {kind}"
            )
        point_to(tensor, STORE_NAME, offset, spec.nbytes)
    for tensor in constants.values():
        embed(tensor, path)  # the file that it is in does not travel
    return model.SerializeToString(deterministic=True)


def is_same_graph(base: Path, new: Path) -> bool:
    """Whether two models differ in nothing but the values of their parameters.

    Raises:
        InputError: one is not an ONNX model.
        OSError: a file cannot be read.
    """
    mine, theirs = _without_values(base), _without_values(new)
    return (mine.graph, list(mine.opset_import), list(mine.functions)) == (
        theirs.graph,
        list(theirs.opset_import),
        list(theirs.functions),
    )


def _load(path: Path) -> "ModelProto":
    try:
        import onnx  # noqa: F401 - the check is whether it is there
    except ImportError as exc:
        raise InputError(
            f"{path}: reading ONNX models needs the package onnx; install neuraldiff[train]"
        ) from exc
    return _parse(path.read_bytes(), path)


def _parse(data: bytes, path: Path) -> "ModelProto":
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    try:
        model = ModelProto.FromString(data)
    except (DecodeError, ValueError) as exc:
        raise InputError(f"{path}: expected an ONNX model: {exc}") from exc
    if not model.HasField("graph"):
        raise InputError(f"{path}: expected an ONNX model with a graph, found none")
    return model


def _parameters(model: "ModelProto") -> Iterator["TensorProto"]:
    return (tensor for tensor in model.graph.initializer if tensor.data_type in _DTYPES)


def _spec(tensor: "TensorProto") -> TensorSpec:
    return TensorSpec(tensor.name, _DTYPES[tensor.data_type], tuple(tensor.dims))


def _place(tensor: "TensorProto") -> str | None:
    """The file beside the model that holds a tensor; None: the model itself does."""
    from onnx import external_data_helper

    if not external_data_helper.uses_external_data(tensor):
        return None
    return str(external_data_helper.ExternalDataInfo(tensor).location)


def _clear(tensor: "TensorProto") -> None:
    for field in _DATA_FIELDS:
        tensor.ClearField(field)


def point_to(tensor: "TensorProto", name: str, offset: int, length: int) -> None:
    """Take a tensor's values out of the model: they are bytes of a file beside it."""
    from onnx import TensorProto

    _clear(tensor)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", name), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def embed(tensor: "TensorProto", path: Path) -> None:
    """Bring a tensor's values into the model at path; nothing happens where they are in it.

    Raises:
        InputError: the file that holds them cannot be read.
    """
    from onnx import external_data_helper

    if not external_data_helper.uses_external_data(tensor):
        return
    try:
        external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
    except (ValueError, OSError, _validation_error()) as exc:
        raise InputError(f"{path}: initializer {tensor.name!r}: {exc}") from exc
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


def _load_constants(model: "ModelProto", path: Path) -> None:
    """Bring initializers that are no parameters into the model; they are small."""
    for tensor in model.graph.initializer:
        if tensor.data_type not in _DTYPES:
            embed(tensor, path)


def _without_values(path: Path) -> "ModelProto":
    model = _load(path)
    _load_constants(model, path)
    for tensor in _parameters(model):
        _clear(tensor)
    return model


def _free_name(path: Path, place: str) -> Path:
    """Where a file of weights can go beside a model without replacing another."""
    choices = [path.with_name(Path(place).name), path.with_name(f"{path.stem}.weights.bin")]
    for choice in choices:
        if not os.path.lexists(choice):
            return choice
    raise InputError(
        f"{path}: expected a free name for its weights, found {' and '.join(map(str, choices))} "
        f"taken; choose another folder"
    )


def _replace(path: Path, model: "ModelProto") -> None:
    with replaced_file(path) as out:
        out.write(model.SerializeToString())


def _validation_error() -> type[Exception]:
    from onnx import checker

    error: type[Exception] = checker.ValidationError
    return error
