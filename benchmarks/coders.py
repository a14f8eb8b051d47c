"""Ours and the peers, as makers of patches: from a base and the next generation to bytes.

All of them lead to the same flat store, bit for bit: the generation is what our quantised diff
leads to, and the peers get exactly that store. Ours starts from the trained float32 delta and
quantises it, which is work that the peers are spared. Everything runs in one thread.

zstd --patch-from is done by python-zstandard: the base as a raw dictionary, a window that spans
both stores, match tables as large as the base. The tables of the level itself hold a fraction of a
large base and find little of it again: for 16M parameters at level 9 the command line tool writes
19.7 MB, this 3.7 MB. Levels 6 to 19 differ in time, hardly in bytes.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import zstandard
from numpy.typing import NDArray

from benchmarks.deltas import NextGeneration
from benchmarks.rebuild import Method, raw_dictionary
from diffcodec import ParameterSet, apply, encode, lossless_diff, sparse_diff

# 5 bits an entry with its sign: what other coders of sparse updates are usually measured with.
LEVELS = 15
# At 64 MiB a patch takes bsdiff4 36 s and 1.5 GB, and zstd -19 46 s and 2.7 GB: no taking turns.
SLOW_PEERS_MOST_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Task:
    """A base and the generation that all patches must lead to.

    Attributes:
        name: For tables.
        deltas: What training added, before it is quantised.
        base, new: The generations.
        base_bytes, new_bytes: Their flat stores.
    """

    name: str
    deltas: Mapping[str, NDArray[np.float32]]
    base: ParameterSet
    new: ParameterSet
    base_bytes: bytes
    new_bytes: bytes

    @classmethod
    def of(cls, generation: NextGeneration) -> "Task":
        """Quantise the deltas; what that leads to is the new generation."""
        base = generation.base
        new = apply(base, sparse_diff(base, generation.deltas, LEVELS))
        return cls(
            name=f"{generation.name}, {generation.density:.1%} non-zeros",
            deltas=generation.deltas,
            base=base,
            new=new,
            base_bytes=flat_store(base),
            new_bytes=flat_store(new),
        )

    def fresh_base(self) -> ParameterSet:
        """The base, its digest not computed yet: that is part of the work."""
        return ParameterSet(self.base.layout, self.base.arrays)


@dataclass(frozen=True)
class Coder:
    """A maker of patches and how they are applied."""

    name: str
    encode: Callable[[Task], bytes]
    method: Method


def coders_for(task: Task) -> tuple[tuple[Coder, ...], Mapping[str, str]]:
    """The coders that take part, ours first; and why the others do not."""
    coders = [
        Coder("diffcodec sparse", _sparse, Method.DIFFCODEC),
        Coder("diffcodec lossless", _lossless, Method.DIFFCODEC),
        Coder("bsdiff4", _bsdiff, Method.BSDIFF),
        Coder("zstd -19 patch-from", partial(_zstd, level=19), Method.ZSTD),
        Coder("zstd -9 patch-from", partial(_zstd, level=9), Method.ZSTD),
    ]
    skipped = {}
    if len(task.base_bytes) > SLOW_PEERS_MOST_BYTES:
        slow = f"too slow for stores above {SLOW_PEERS_MOST_BYTES // 2**20} MiB"
        skipped = {"bsdiff4": slow, "zstd -19 patch-from": slow}
    elif importlib.util.find_spec("bsdiff4") is None:
        skipped = {"bsdiff4": "not installed"}
    return tuple(coder for coder in coders if coder.name not in skipped), skipped


def flat_store(parameters: ParameterSet) -> bytes:
    """The bytes that `ParameterSet.write` would write."""
    store = bytearray(parameters.layout.file_bytes)
    for spec, start in zip(parameters.layout.tensors, parameters.layout.offsets, strict=True):
        store[start : start + spec.nbytes] = parameters.arrays[spec.name].tobytes()
    return bytes(store)


def _sparse(task: Task) -> bytes:
    base = task.fresh_base()
    return encode(sparse_diff(base, task.deltas, LEVELS), base)


def _lossless(task: Task) -> bytes:
    base = task.fresh_base()
    return encode(lossless_diff(base, task.new), base)


def _bsdiff(task: Task) -> bytes:
    import bsdiff4

    patch: bytes = bsdiff4.diff(task.base_bytes, task.new_bytes)
    return patch


def _zstd(task: Task, level: int) -> bytes:
    base, new = task.base_bytes, task.new_bytes
    window_log = max(zstandard.WINDOWLOG_MIN, (len(base) + len(new)).bit_length())
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=len(new),
        dict_size=len(base),
        window_log=window_log,
        hash_log=window_log - 1,
        chain_log=window_log - 1,
    )
    compressor = zstandard.ZstdCompressor(
        compression_params=parameters, dict_data=raw_dictionary(base)
    )
    return compressor.compress(new)
