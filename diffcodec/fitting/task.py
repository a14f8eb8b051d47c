"""What a fit is asked for: two sets of parameters, a budget, and what it may encode with."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from diffcodec.changes import TensorDiff
from diffcodec.diff import Diff, Layer
from diffcodec.errors import BudgetError
from diffcodec.file import encode, encoded_size
from diffcodec.fitting.entries import Deltas
from diffcodec.fitting.lossless import lossless_diff
from diffcodec.fitting.selection import differences, started
from diffcodec.header import Coder
from diffcodec.parameters import ParameterSet

# Below this a changed weight cannot be reproduced: its last mantissa bits are noise.
FEWEST_EXACT_BITS = 4

Changes: TypeAlias = Mapping[str, TensorDiff]


@dataclass(frozen=True)
class Task:
    """What is to be said in how many bytes.

    Attributes:
        base: None: zeros.
        new: What to come near to.
        start: The base in new's layout.
        deltas: new - start of every tensor that differs.
        unchanged: The diff that says nothing.
        budget_bytes: What the file may take.
        coders: What it may be coded with.
    """

    base: ParameterSet | None
    new: ParameterSet
    start: ParameterSet
    deltas: Deltas
    unchanged: Diff
    budget_bytes: int
    coders: Collection[Coder]

    @classmethod
    def of(
        cls,
        base: ParameterSet | None,
        new: ParameterSet,
        budget_bytes: int,
        coders: Collection[Coder],
    ) -> "Task":
        """Read off the deltas.

        Raises:
            BudgetError: not even an empty diff fits.
            InputError: a tensor differs by infinity or NaN.
            LayoutError: a tensor would shrink.
        """
        digest, layout = (None, None) if base is None else (base.digest(), base.layout)
        unchanged = Diff(new.layout, digest, (), layout)
        require_budget(budget_bytes, encoded_size(unchanged, coders))
        start, deltas = started(base, new.layout), differences(base, new)
        return cls(base, new, start, deltas, unchanged, budget_bytes, coders)

    @property
    def count(self) -> int:
        """Entries that differ."""
        return sum(int(np.count_nonzero(delta)) for delta in self.deltas.values())

    def diff_of(self, layers: Sequence[Changes]) -> Diff:
        """The diff that changes make, one after the other."""
        return replace(self.unchanged, layers=tuple(Layer(c) for c in layers if c))

    def size_of(self, layers: Sequence[Changes]) -> int:
        """Its size as a file, in bytes, at most: by the strongest coder alone."""
        coders = (Coder.MAX,) if Coder.MAX in self.coders else self.coders
        return encoded_size(self.diff_of(layers), coders)

    def exact(self) -> bytes | None:
        """The file that reproduces new, if it fits."""
        if 8 * self.budget_bytes < FEWEST_EXACT_BITS * self.count:
            return None
        diff = lossless_diff(self.base, self.new)
        if encoded_size(diff, self.coders) > self.budget_bytes:
            return None
        return encode(diff, self.base, self.coders)


def require_budget(budget_bytes: int, smallest: int) -> None:
    """Refuse a budget that nothing fits.

    Raises:
        BudgetError: naming the smallest that something does.
    """
    if budget_bytes < smallest:
        raise BudgetError(
            f"expected a budget of at least {smallest} bytes for this layout, found {budget_bytes}"
        )
