"""Neural diffs: turning one generation of a model into the next with few bytes.

Pure library: parameters, diffs, coders, the `.ndiff` file, budgets. It knows nothing of training,
devices or networks. The law it keeps: applying a file gives exactly the weights whose digest the
file names, on every machine, or an error and an untouched base.

    base = ParameterSet.read(path, layout)
    data = fit_sparse(base, new, budget_bytes=parse_size("40KB"))
    generation = apply(base, decode(data, base.layout))

`diffcodec.weights` reads and writes .safetensors and .onnx; it is not imported here.
"""

from diffcodec.changes import (
    Codebook,
    HashDiff,
    LosslessDiff,
    LowRankDiff,
    Scale,
    SparseDiff,
    TensorDiff,
    Uniform,
)
from diffcodec.coders.layers import available_coders
from diffcodec.diff import DecodedDiff, Diff, Layer, apply
from diffcodec.errors import (
    BudgetError,
    CodecError,
    DigestError,
    FormatError,
    InputError,
    LayoutError,
    UnsupportedError,
    WrongBaseError,
)
from diffcodec.file import decode, encode, encoded_size, read_header
from diffcodec.fitting.budget import (
    fit_auto,
    fit_hash,
    fit_hash_arrays,
    fit_lowrank,
    fit_sparse,
    hash_array_lengths,
)
from diffcodec.fitting.hash_fit import fit_arrays, quantise_arrays
from diffcodec.fitting.lossless import lossless_diff
from diffcodec.fitting.quantise import sparse_diff
from diffcodec.hashing import position_buckets
from diffcodec.header import (
    Coder,
    Header,
    LayerHeader,
    Method,
    Section,
    SectionKind,
    TensorRecord,
)
from diffcodec.parameters import Dtype, Layout, ParameterSet, TensorSpec
from diffcodec.rebuild import Applied, apply_file
from diffcodec.rollup import roll_up
from diffcodec.sizes import parse_size

__all__ = [
    "Applied",
    "BudgetError",
    "Codebook",
    "CodecError",
    "Coder",
    "DecodedDiff",
    "Diff",
    "DigestError",
    "Dtype",
    "FormatError",
    "HashDiff",
    "Header",
    "InputError",
    "Layer",
    "LayerHeader",
    "Layout",
    "LayoutError",
    "LosslessDiff",
    "LowRankDiff",
    "Method",
    "ParameterSet",
    "Scale",
    "Section",
    "SectionKind",
    "SparseDiff",
    "TensorDiff",
    "TensorRecord",
    "TensorSpec",
    "Uniform",
    "UnsupportedError",
    "WrongBaseError",
    "apply",
    "apply_file",
    "available_coders",
    "decode",
    "encode",
    "encoded_size",
    "fit_arrays",
    "fit_auto",
    "fit_hash",
    "fit_hash_arrays",
    "fit_lowrank",
    "fit_sparse",
    "hash_array_lengths",
    "lossless_diff",
    "parse_size",
    "position_buckets",
    "quantise_arrays",
    "read_header",
    "roll_up",
    "sparse_diff",
]
