"""Fit an ONNX file to the flat weight store: a graph whose weights are all outside it.

A device keeps weights in one file, `weights.bin`, each tensor at its layout's offset, and the
graph once. A model as it comes from a trainer has its weights inside, or in a file of its own
arrangement. Not for: building the graph of our own speech model (server.training).
"""

from pathlib import Path

from diffcodec import InputError, Layout, onnx_weights
from server.errors import PublishError


def graph_without_weights(path: Path, layout: Layout) -> bytes:
    """Read a model and point every tensor of a layout into `weights.bin`.

    What is not in the layout stays inside. The same model gives the same bytes, so that devices
    which have the graph need not fetch it again.

    Args:
        path: An .onnx file, weights inside or external; the values are not looked at.
        layout: The tensors of the flat store.

    Raises:
        PublishError: not an ONNX model, or one without some tensor of the layout, or there is no
            onnx package to read it with.
    """
    try:
        return onnx_weights.graph_of(path, layout)
    except InputError as error:
        raise PublishError(str(error)) from error
    except OSError as error:
        raise PublishError(f"{path}: expected a readable ONNX model: {error.strerror}") from error
