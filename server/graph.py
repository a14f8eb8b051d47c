"""Fit an ONNX file to the flat weight store: a graph whose weights are all outside it.

A device keeps weights in one file, `weights.bin`, each tensor at its layout's offset, and the
graph once. A model as it comes from a trainer has its weights inside, or in a file of its own
arrangement. Not for: building the graph of our own speech model (server.training).
"""

from pathlib import Path
from typing import Any

from diffcodec import InputError, Layout, onnx_weights
from server.errors import PublishError, SettingError

WEIGHTS_NAME = "weights.bin"


def graph_without_weights(path: Path, layout: Layout) -> bytes:
    """Read a model and point every tensor of a layout into `weights.bin`.

    Initializers that are not in the layout (shapes, indices) stay inside. The same model gives
    the same bytes, so that devices which have the graph need not fetch it again.

    Args:
        path: An .onnx file, weights inside or external; the values are not looked at.
        layout: The tensors of the flat store.

    Raises:
        PublishError: not an ONNX model, or one without some tensor of the layout.
        SettingError: the onnx package is not installed.
    """
    model = _load(path)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    missing = [spec.name for spec in layout.tensors if spec.name not in initializers]
    if missing:
        raise PublishError(
            f"{path}: expected a graph with an initializer for each of {len(layout.tensors)} "
            f"tensors, found none for {missing[0]!r}"
        )
    for spec, offset in zip(layout.tensors, layout.offsets, strict=True):
        tensor = initializers.pop(spec.name)
        if tuple(tensor.dims) != spec.shape:
            raise PublishError(
                f"{path}: expected {spec.name!r} of shape {spec.shape}, found {tuple(tensor.dims)}"
            )
        onnx_weights.point_to(tensor, WEIGHTS_NAME, offset, spec.nbytes)
    try:
        for tensor in initializers.values():
            onnx_weights.embed(tensor, path)  # devices will not have the file that it is in
    except InputError as error:
        raise PublishError(str(error)) from error
    return bytes(model.SerializeToString(deterministic=True))


def _load(path: Path) -> Any:
    try:
        import onnx  # only here: the serving process does without it
    except ImportError as error:
        raise SettingError(
            "expected the onnx package to read a graph, found none: pip install onnx"
        ) from error
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise PublishError(f"{path}: expected a readable ONNX model: {error.strerror}") from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise PublishError(f"{path}: expected an ONNX model, found something else") from error
