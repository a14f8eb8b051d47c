"""Diffs that reproduce any two sets of parameters exactly, whatever their dtypes."""

from diffcodec.diff import Diff, LosslessDiff
from diffcodec.parameters import ParameterSet, as_bytes


def lossless_diff(base: ParameterSet | None, new: ParameterSet) -> Diff:
    """The XOR of all tensors that differ; from zeros (a snapshot) when there is no base.

    Law: apply(base, lossless_diff(base, new)) == new, bit for bit, NaN payloads included.

    Raises:
        LayoutError: base and new have different layouts.
    """
    start = base or ParameterSet.zeros(new.layout)
    start.layout.require(new.layout, "the base", "the new weights")
    changed = {}
    for name, array in new.arrays.items():
        xor = as_bytes(array) ^ as_bytes(start.arrays[name])
        if xor.any():
            changed[name] = LosslessDiff(xor)
    return Diff(new.layout, base.digest() if base else None, changed)
