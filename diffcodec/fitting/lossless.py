"""Diffs that reproduce any two sets of parameters exactly, whatever their dtypes and layouts."""

from diffcodec.changes import LosslessDiff
from diffcodec.diff import Diff, Layer, reshaped
from diffcodec.parameters import ParameterSet, as_bytes


def lossless_diff(base: ParameterSet | None, new: ParameterSet) -> Diff:
    """The XOR of all tensors that differ; from zeros (a snapshot) when there is no base.

    Law: apply(base, lossless_diff(base, new)) == new, bit for bit, NaN payloads included.

    Raises:
        LayoutError: a tensor is smaller in `new` than in the base.
    """
    start = ParameterSet.zeros(new.layout) if base is None else reshaped(base, new.layout)
    changed = {}
    for name, array in new.arrays.items():
        xor = as_bytes(array) ^ as_bytes(start.arrays[name])
        if xor.any():
            changed[name] = LosslessDiff(xor)
    layers = (Layer(changed),) if changed else ()
    if base is None:
        return Diff(new.layout, None, layers)
    return Diff(new.layout, base.digest(), layers, base.layout)
