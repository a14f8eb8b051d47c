"""One piece of work for all coders: the same levels, and the generation that they lead to.

Deltas are quantised once, here, so that sizes compare coders and not quantisers; what the levels
lead to is the next generation, so coders of whole files are as exact as coders of levels.

    work = Work.at_levels(generation, levels=15)
    encode(work.diff, work.fresh_base())             # ours
    peer.encode(work.base_store, work.new_store)     # a coder of files
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from diffcodec.bench.errors import BenchmarkError
from diffcodec.bench.generations import NextGeneration
from diffcodec.changes import Codebook, Scale, SparseDiff, Uniform
from diffcodec.diff import Diff, apply
from diffcodec.fitting.magnitudes import centroids
from diffcodec.parameters import ParameterSet

FLOAT32_BYTES = 4

Levels = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Entries:
    """Every change of a model in one list.

    Attributes:
        index: int32 (N,), increasing: positions in the tensors laid end to end in layout order.
        values: float32 (N,), what is added there.
    """

    index: NDArray[np.int32]
    values: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Work:
    """What is to be coded. Everything derived is made when first asked for, outside the clock.

    Attributes:
        name: For the table.
        base, new: The generations; of one layout.
        diff: From base to new at levels; None where only exact coders of files take part.
    """

    name: str
    base: ParameterSet
    new: ParameterSet
    diff: Diff | None

    @classmethod
    def at_levels(cls, generation: NextGeneration, levels: int, has_codebook: bool) -> "Work":
        """Quantise every tensor's non-zeros to K magnitudes.

        Args:
            generation: A base and float32 deltas.
            levels: K; evenly spaced up to the tensor's largest magnitude.
            has_codebook: Centroids of the tensor's own (Lloyd) instead of even spacing.

        Raises:
            BenchmarkError: nothing changes.
        """
        quantise = own_centroids if has_codebook else even_levels
        changes = {}
        for name, delta in generation.deltas.items():
            positions = np.flatnonzero(delta)
            if positions.size:
                found, scale = quantise(delta.reshape(-1)[positions], levels)
                changes[name] = SparseDiff(positions, found, scale)
        if not changes:
            raise BenchmarkError(f"{generation.name}: expected a change, found none")
        base = generation.base
        diff = Diff.of(base.layout, base.digest(), changes)
        return cls(generation.name, base, apply(base, diff), diff)

    @classmethod
    def exact(cls, name: str, base: ParameterSet, new: ParameterSet) -> "Work":
        """Two checkpoints as they are, of any dtype."""
        base.layout.require(new.layout, "the base", "the new one")
        return cls(name, base, new, None)

    @property
    def float32_bytes(self) -> int:
        """What all parameters take as float32."""
        return FLOAT32_BYTES * self.base.layout.parameter_count

    def fresh_base(self) -> ParameterSet:
        """The base, its digest not computed yet: that is part of the work."""
        return ParameterSet(self.base.layout, self.base.arrays)

    @cached_property
    def base_store(self) -> bytes:
        """The base's flat store, as on the device's disk."""
        return flat_store(self.base)

    @cached_property
    def new_store(self) -> bytes:
        """The next generation's."""
        return flat_store(self.new)

    @cached_property
    def changes(self) -> Mapping[str, SparseDiff]:
        """The sparse changes by tensor; none where there is no diff."""
        found = self.diff.changes() if self.diff else ()
        return {name: change for name, change in found if isinstance(change, SparseDiff)}

    @cached_property
    def dense_levels(self) -> Mapping[str, Levels]:
        """Levels of every tensor in its shape, zero where nothing changes."""
        dense = {}
        for spec in self.base.layout.tensors:
            flat = np.zeros(spec.size, np.int8)
            if spec.name in self.changes:
                flat[self.changes[spec.name].positions] = self.changes[spec.name].levels
            dense[spec.name] = flat.reshape(spec.shape)
        return dense

    @cached_property
    def entries(self) -> Entries:
        """All changes as index and value."""
        index, values, start = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)], 0
        for spec in self.base.layout.tensors:
            change = self.changes.get(spec.name)
            if change is not None:
                index.append((change.positions + start).astype(np.int32))
                values.append(change.scale.amounts(change.levels))
            start += spec.size
        return Entries(np.concatenate(index), np.concatenate(values))


def flat_store(parameters: ParameterSet) -> bytes:
    """The bytes that `ParameterSet.write` would write."""
    store = bytearray(parameters.layout.file_bytes)
    for spec, start in zip(parameters.layout.tensors, parameters.layout.offsets, strict=True):
        store[start : start + spec.nbytes] = parameters.arrays[spec.name].tobytes()
    return bytes(store)


def even_levels(values: NDArray[np.float32], levels: int) -> tuple[Levels, Scale]:
    """The nearest of K even levels, step = max|v| / K, never zero: what peers are compared at.

    Args:
        values: Non-zero, float32 (N,), N >= 1.
        levels: K.
    """
    magnitudes = np.abs(values.astype(np.float64))
    step = float(np.float32(magnitudes.max() / levels))
    nearest = np.clip(np.rint(magnitudes / step), 1, levels)
    return (np.sign(values) * nearest).astype(np.int8), Uniform(step)


def own_centroids(values: NDArray[np.float32], levels: int) -> tuple[Levels, Scale]:
    """At most K magnitudes by Lloyd's algorithm; signs are kept apart.

    Args:
        values: Non-zero, float32 (N,), N >= 1.
        levels: K.
    """
    magnitudes = np.abs(values.astype(np.float64))
    centres = np.unique(centroids(magnitudes, None, levels).astype(np.float32))
    borders = (centres[1:].astype(np.float64) + centres[:-1]) / 2
    nearest = np.searchsorted(borders, magnitudes) + 1
    return (np.sign(values) * nearest).astype(np.int8), Codebook(tuple(map(float, centres)))
