"""Ours and the peers, as makers of patches: from a base and the next generation to bytes.

All of them lead to the same flat store, bit for bit: the generation is what our quantised diff
leads to, and the peers get exactly that store. Ours starts from the trained float32 delta and
quantises it, which is work that the peers are spared. Everything runs in one thread.

The peers are those of `diffcodec bench`, which compares many more, in memory; here their patches
go through files and processes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.rebuild import Method
from diffcodec import ParameterSet, apply, encode, lossless_diff, sparse_diff
from diffcodec.bench.generations import NextGeneration
from diffcodec.bench.of_files import Bsdiff, OfFiles, PatchFrom
from diffcodec.bench.work import flat_store

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
        _of(Bsdiff(), Method.BSDIFF),
        _of(PatchFrom(19), Method.ZSTD),
        _of(PatchFrom(9), Method.ZSTD),
    ]
    skipped: dict[str, str] = {}
    lacking = Bsdiff().lacking()
    if len(task.base_bytes) > SLOW_PEERS_MOST_BYTES:
        slow = f"too slow for stores above {SLOW_PEERS_MOST_BYTES // 2**20} MiB"
        skipped = {Bsdiff().name: slow, PatchFrom(19).name: slow}
    elif lacking:
        skipped = {Bsdiff().name: lacking}
    return tuple(coder for coder in coders if coder.name not in skipped), skipped


def _of(peer: OfFiles, method: Method) -> Coder:
    return Coder(peer.name, partial(_from_store_to_store, peer=peer), method)


def _sparse(task: Task) -> bytes:
    base = task.fresh_base()
    return encode(sparse_diff(base, task.deltas, LEVELS), base)


def _lossless(task: Task) -> bytes:
    base = task.fresh_base()
    return encode(lossless_diff(base, task.new), base)


def _from_store_to_store(task: Task, peer: OfFiles) -> bytes:
    return peer.pack(task.base_bytes, task.new_bytes)
