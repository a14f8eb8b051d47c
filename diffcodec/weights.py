"""Weights files: .safetensors, and .onnx with weights inside or in a file beside it.

    base = read_weights(Path("g6.safetensors"))
    write_weights(Path("g7.safetensors"), new, like=Path("g6.safetensors"))

Whatever is in the file beside the parameters (metadata, the graph, integer constants) belongs to
the container: a diff does not carry it, so it is taken from the file that the new one is like.
onnx is imported only where an .onnx file is named: a device never needs it.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors

from diffcodec import onnx_weights
from diffcodec.durable import replaced_file
from diffcodec.errors import InputError
from diffcodec.parameters import Dtype, ParameterSet, as_bytes

SUFFIXES = (".safetensors", ".onnx")
_SAFETENSORS_DTYPES = {
    "F32": Dtype.FLOAT32,
    "F16": Dtype.FLOAT16,
    "BF16": Dtype.BFLOAT16,
    "I8": Dtype.INT8,
}


def read_weights(path: Path) -> ParameterSet:
    """Read the parameters of a weights file.

    Raises:
        InputError: neither kind, damaged, or a tensor has a dtype that stores do not know.
        OSError: the file cannot be read.
    """
    if _kind(path) == ".onnx":
        return onnx_weights.read(path)
    return _read_safetensors(path)


def write_weights(
    path: Path, weights: ParameterSet, like: Path | None = None, graph: bytes | None = None
) -> None:
    """Write a weights file in one step: path has the old content or the new, never half of it.

    Args:
        path: Of the same kind as `like`; an existing file is replaced.
        weights: What to write.
        like: Whose metadata or graph to keep. Needed for .onnx.
        graph: The graph that replaces that of `like`; only an .onnx file can hold one.

    Raises:
        InputError: the kinds differ, the graph is unknown, or `like` is damaged.
        LayoutError: the graph has other tensors than the weights.
        OSError: writing failed; nothing new is at path.
    """
    kind = _kind(path)
    if like is not None and _kind(like) != kind:
        raise InputError(f"{path}: expected a {_kind(like)} file, as {like} is one")
    if kind == ".onnx":
        if like is None:
            raise InputError(f"{path}: expected a model whose graph to keep")
        onnx_weights.write(path, weights, like, graph)
    else:
        _write_safetensors(path, weights, _metadata(like) if like else None)


def new_graph(base: Path, new: Path) -> bytes | None:
    """The graph of `new` where two .onnx files differ in it; None: a diff need not carry one.

    Files of two kinds, and .safetensors, have no graphs to compare.

    Raises:
        InputError: a model cannot be read.
        OSError: a file cannot be read.
    """
    if not _kind(base) == _kind(new) == ".onnx" or onnx_weights.is_same_graph(base, new):
        return None
    return onnx_weights.graph_of(new)


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: expected a file named {' or '.join('*' + s for s in SUFFIXES)}")
    return suffix


def _read_safetensors(path: Path) -> ParameterSet:
    try:
        tensors = safetensors.deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as exc:
        raise InputError(f"{path}: expected a safetensors file: {exc}") from exc
    arrays = {}
    for name, tensor in tensors:
        dtype = _SAFETENSORS_DTYPES.get(tensor["dtype"])
        if dtype is None:
            raise InputError(
                f"{path}: tensor {name}: expected {', '.join(_SAFETENSORS_DTYPES)}, "
                f"found {tensor['dtype']}"
            )
        data = memoryview(tensor["data"]).toreadonly()
        arrays[name] = np.frombuffer(data, dtype.storage).reshape(tensor["shape"])
    return ParameterSet.from_arrays(arrays)


def _metadata(path: Path) -> Mapping[str, str] | None:
    try:
        with safetensors.safe_open(str(path), framework="numpy") as opened:
            metadata: Mapping[str, str] | None = opened.metadata()
            return metadata
    except safetensors.SafetensorError as exc:
        raise InputError(f"{path}: expected a safetensors file: {exc}") from exc


def _write_safetensors(
    path: Path, weights: ParameterSet, metadata: Mapping[str, str] | None
) -> None:
    """Write the format itself: its library's interface for raw bytes changed between versions."""
    names = {dtype: name for name, dtype in _SAFETENSORS_DTYPES.items()}
    # Wide elements first keep every tensor aligned to its element size.
    specs = sorted(weights.layout.tensors, key=lambda spec: -spec.dtype.itemsize)
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for spec in specs:
        header[spec.name] = {
            "dtype": names[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [end, end := end + spec.nbytes],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replaced_file(path) as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for spec in specs:
            out.write(as_bytes(weights.arrays[spec.name]).data)
