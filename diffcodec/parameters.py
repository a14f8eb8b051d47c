"""Parameters of a model in one canonical order, and the digest that names them.

One layout serves training, wire, device store and ONNX: tensors sorted by the UTF-8 bytes of
their names, in one flat little-endian file, each at the next multiple of 4096 bytes with zeros
between and nothing after the last. Values of bfloat16 are held as their 16 bits (uint16): numpy
has no such type and the codec never computes in it.

    layout = Layout.of([TensorSpec("w", Dtype.FLOAT32, (2, 3))])
    weights = ParameterSet.zeros(layout)
    weights.write(path)
    assert ParameterSet.read(path, layout) == weights
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffcodec.errors import InputError, LayoutError

Array: TypeAlias = NDArray[Any]

# A page: a device may map a tensor of the store in place.
ALIGNMENT_BYTES = 4096
# The position hash and the gap counts are 32-bit.
MAX_TENSOR_SIZE = 2**32 - 1
MAX_DIMENSIONS = 8
MAX_NAME_BYTES = 1024
DIGEST_BYTES = 32


class Dtype(StrEnum):
    """Element types of a store. The value is the name that fingerprints use."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"

    @property
    def storage(self) -> np.dtype[Any]:
        """The little-endian numpy dtype that holds an element (bfloat16: its bits, uint16)."""
        return np.dtype(_STORAGE[self])

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.storage.itemsize

    @classmethod
    def of(cls, array: Array) -> Self:
        """The dtype that an array stores. uint16 arrays are taken for bfloat16 bits.

        Raises:
            InputError: no dtype of a store matches.
        """
        for dtype in cls:
            if array.dtype.name in (dtype.value, dtype.storage.name):
                return dtype
        raise InputError(f"expected one of {', '.join(cls)}, found {array.dtype.name}")


_STORAGE = {
    Dtype.FLOAT32: "<f4",
    Dtype.FLOAT16: "<f2",
    Dtype.BFLOAT16: "<u2",
    Dtype.INT8: "i1",
}


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of one tensor. A scalar has the shape ().

    Raises:
        LayoutError: the name, a dimension or the size is outside what a diff file can say.
    """

    name: str
    dtype: Dtype
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.shape) > MAX_DIMENSIONS or any(d < 0 for d in self.shape):
            raise LayoutError(
                f"tensor {self.name}: expected at most {MAX_DIMENSIONS} dimensions, none "
                f"negative, found {list(self.shape)}"
            )
        # An empty tensor is held to it too: numpy multiplies what is not 0 even for no elements.
        if math.prod(d for d in self.shape if d) > MAX_TENSOR_SIZE:
            raise LayoutError(
                f"tensor {self.name}: expected dimensions (other than 0) whose product is at most "
                f"{MAX_TENSOR_SIZE}, found shape {list(self.shape)}"
            )

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of the tensor seen as a matrix (`matrix_of`)."""
        return matrix_of(self.shape)

    def holds(self, other: Self) -> bool:
        """Whether the other tensor fits into a corner of this one: it is equal, or has grown."""
        return (self.name, self.dtype, len(self.shape)) == (
            other.name,
            other.dtype,
            len(other.shape),
        ) and all(theirs <= mine for mine, theirs in zip(self.shape, other.shape, strict=True))

    def __str__(self) -> str:
        return f"{self.dtype} {'x'.join(map(str, self.shape)) or 'scalar'}"


@dataclass(frozen=True)
class Layout:
    """The tensors of a model in canonical order. Build one with `Layout.of`.

    Law: equal layouts have equal fingerprints, and the other way round.

    Raises:
        LayoutError: names are out of order or occur twice.
    """

    tensors: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        names = [t.name.encode() for t in self.tensors]
        for before, after in pairwise(names):
            if before >= after:
                raise LayoutError(
                    f"expected tensor names sorted by their bytes and each once, found "
                    f"{after.decode()!r} after {before.decode()!r}"
                )

    @classmethod
    def of(cls, specs: Iterable[TensorSpec]) -> Self:
        """Sort specs into canonical order."""
        return cls(tuple(sorted(specs, key=lambda spec: spec.name.encode())))

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 (32 bytes) of one line a tensor: name, dtype, shape joined by x; tabs between."""
        lines = (f"{t.name}\t{t.dtype}\t{'x'.join(map(str, t.shape))}\n" for t in self.tensors)
        return hashlib.sha256("".join(lines).encode()).digest()

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each tensor starts in the flat file, in bytes."""
        offsets: list[int] = []
        end = 0
        for spec in self.tensors:
            offsets.append(-(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES)
            end = offsets[-1] + spec.nbytes
        return tuple(offsets)

    @cached_property
    def offset_of(self) -> Mapping[str, int]:
        """`offsets` by the tensors' names."""
        return {t.name: at for t, at in zip(self.tensors, self.offsets, strict=True)}

    @property
    def file_bytes(self) -> int:
        """Size of the flat file."""
        return self.offsets[-1] + self.tensors[-1].nbytes if self.tensors else 0

    @property
    def parameter_count(self) -> int:
        """Elements of all tensors together."""
        return sum(t.size for t in self.tensors)

    @cached_property
    def index(self) -> Mapping[str, TensorSpec]:
        """The specs by name."""
        return {t.name: t for t in self.tensors}

    def pieces(self) -> Iterator[tuple[TensorSpec, int]]:
        """Each tensor with the zero bytes that stand before it in the flat file."""
        end = 0
        for spec, offset in zip(self.tensors, self.offsets, strict=True):
            yield spec, offset - end
            end = offset + spec.nbytes

    def require(self, found: Self, expected_in: str, found_in: str) -> None:
        """Refuse a layout that is not this one.

        Args:
            found: What must be equal.
            expected_in: What this layout belongs to, for the message.
            found_in: What the other belongs to.

        Raises:
            LayoutError: naming the first tensor that differs, with dtypes and shapes.
        """
        for name in sorted(self.index.keys() | found.index.keys()):
            mine, theirs = self.index.get(name), found.index.get(name)
            if mine != theirs:
                raise LayoutError(
                    f"tensor {name}: expected {mine or 'no such tensor'} as in {expected_in}, "
                    f"found {theirs or 'none'} in {found_in}"
                )

    def to_json(self) -> str:
        """The layout as text; a device keeps it beside its store."""
        tensors = [
            {"name": t.name, "dtype": t.dtype.value, "shape": list(t.shape)} for t in self.tensors
        ]
        return json.dumps({"tensors": tensors}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            LayoutError: the text is something else.
        """
        try:
            return cls(tuple(_spec_of_json(entry) for entry in json.loads(text)["tensors"]))
        except (ValueError, TypeError, KeyError) as exc:
            raise LayoutError(
                f"expected a layout in JSON (a list `tensors` of name, dtype, shape): {exc!r}"
            ) from exc


@dataclass(frozen=True, eq=False)
class ParameterSet:
    """All weights of a model: read-only arrays of the storage dtypes, C-contiguous.

    Build one with `from_arrays`, `zeros` or `read`. Two are equal when layout and bytes are
    (so a NaN equals itself, and -0.0 differs from 0.0).

    Raises:
        LayoutError: an array is missing, surplus, or of another dtype or shape than the layout's.
    """

    layout: Layout
    arrays: Mapping[str, Array]

    def __post_init__(self) -> None:
        if self.arrays.keys() != self.layout.index.keys():
            odd = sorted(self.arrays.keys() ^ self.layout.index.keys())
            raise LayoutError(f"expected one array a tensor of the layout, at odds are {odd}")
        frozen = {}
        for spec in self.layout.tensors:
            array = self.arrays[spec.name]
            if array.dtype != spec.dtype.storage or array.shape != spec.shape:
                raise LayoutError(
                    f"tensor {spec.name}: expected {spec}, found {array.dtype.name} "
                    f"{'x'.join(map(str, array.shape))}"
                )
            frozen[spec.name] = _read_only(array)
        object.__setattr__(self, "arrays", frozen)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ParameterSet):
            return NotImplemented
        return self.layout == other.layout and all(
            np.array_equal(as_bytes(self.arrays[name]), as_bytes(other.arrays[name]))
            for name in self.arrays
        )

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Take named arrays of float32, float16, int8, or uint16 (bfloat16 bits); copies them.

        An array that is read-only already is kept without a copy.

        Raises:
            InputError: an array has another dtype.
            LayoutError: a name or shape is not allowed.
        """
        stored = {}
        specs = []
        for name, array in arrays.items():
            try:
                dtype = Dtype.of(array)
            except InputError as exc:
                raise InputError(f"tensor {name}: {exc}") from exc
            if dtype is Dtype.BFLOAT16 and array.dtype != dtype.storage:
                array = array.view(np.uint16)
            stored[name] = array.astype(dtype.storage, copy=False)
            specs.append(TensorSpec(name, dtype, tuple(array.shape)))
        return cls(Layout.of(specs), stored)

    @classmethod
    def zeros(cls, layout: Layout) -> Self:
        """All zeros: the base of a snapshot."""
        arrays = {t.name: np.zeros(t.shape, t.dtype.storage) for t in layout.tensors}
        for array in arrays.values():
            array.flags.writeable = False
        return cls(layout, arrays)

    @classmethod
    def read(cls, path: Path, layout: Layout) -> Self:
        """Read a flat store.

        Raises:
            LayoutError: the file's size or a padding byte is not what the layout says.
            OSError: the file cannot be read.
        """
        found = path.stat().st_size
        if found != layout.file_bytes:
            raise LayoutError(f"{path}: expected {layout.file_bytes} bytes, found {found}")
        arrays = {}
        with path.open("rb") as store:
            for spec, padding in layout.pieces():
                if any(store.read(padding)):
                    raise LayoutError(f"{path}: expected zeros before tensor {spec.name}")
                array = np.fromfile(store, dtype=spec.dtype.storage, count=spec.size)
                array.flags.writeable = False
                arrays[spec.name] = array.reshape(spec.shape)
        return cls(layout, arrays)

    def write(self, path: Path) -> None:
        """Write the flat store over whatever is at path, and fsync it. Not atomic."""
        with path.open("wb") as store:
            for piece in self._flat():
                store.write(piece)
            store.flush()
            os.fsync(store.fileno())

    def digest(self) -> bytes:
        """SHA-256 (32 bytes) over the layout's fingerprint and the bytes of the flat store."""
        return self._digest

    @cached_property
    def _digest(self) -> bytes:
        sha = hashlib.sha256(self.layout.fingerprint)
        for piece in self._flat():
            sha.update(piece)
        return sha.digest()

    def _flat(self) -> Iterator[bytes | memoryview]:
        for spec, padding in self.layout.pieces():
            yield bytes(padding)
            yield as_bytes(self.arrays[spec.name]).data


def matrix_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tensor seen as a matrix; both at least 1 where it has elements.

    Some leading dimensions make the rows, the others the columns: as nearly a square as the
    order of the elements allows, so that (1, 480, 192), an LSTM in ONNX, is 480 x 192 and a
    convolution (64, 32, 3, 3) is 64 x 288. The first of equals. A vector is one row.
    """
    if len(shape) < 2:
        return 1, math.prod(shape)
    splits = [(math.prod(shape[:at]), math.prod(shape[at:])) for at in range(1, len(shape))]
    return min(splits, key=max)


def as_bytes(array: Array) -> NDArray[np.uint8]:
    """The bytes of a C-contiguous array, shape (nbytes,), without a copy."""
    return array.reshape(-1).view(np.uint8)


def _read_only(array: Array) -> Array:
    if array.flags.writeable or not array.flags.c_contiguous:
        array = array.copy(order="C")
        array.flags.writeable = False
    return array


def _check_name(name: str) -> None:
    try:
        length = len(name.encode())
    except UnicodeEncodeError as exc:
        raise LayoutError(f"expected a tensor name in UTF-8, found {name!r}") from exc
    # Tabs and newlines separate names in the fingerprint; no control character prints well.
    if not 0 < length <= MAX_NAME_BYTES or any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise LayoutError(
            f"expected a tensor name of 1 to {MAX_NAME_BYTES} bytes without control "
            f"characters, found {name[:80]!r}"
        )


def _spec_of_json(entry: Any) -> TensorSpec:
    name, shape = entry["name"], entry["shape"]
    if not isinstance(name, str) or any(type(d) is not int for d in shape):
        raise ValueError(f"{name!r} {shape!r}")
    return TensorSpec(name, Dtype(entry["dtype"]), tuple(shape))
