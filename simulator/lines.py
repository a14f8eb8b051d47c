"""The lines of a run: a way to bring a model up to date, at a size.

A *variant* is a way (paper, 4). A *size* limits what travels, and a *line* is a variant at a size:
one chain of generations for each seed.

    >>> [str(line) for line in lines_of((Variant.BL, Variant.SPARSE), sizes)]
    ['bl', 'sparse 1/100', 'sparse 1/300']
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from simulator.errors import ScenarioError


class Variant(StrEnum):
    """A way to bring a model up to date, in the order of tables."""

    BL = "bl"
    FT = "ft"
    BL_INF = "bl_inf"
    BLC_SPARSE = "blc_sparse"
    BLC_HASH = "blc_hash"
    PAPER_SPARSE = "paper_sparse"
    PAPER_HASH = "paper_hash"
    SPARSE = "sparse"
    SPARSE_TAUGHT = "sparse_taught"
    SPARSE_MAGNITUDE = "sparse_magnitude"
    SPARSE_REGROW = "sparse_regrow"
    SPARSE_FEEDBACK = "sparse_feedback"
    HASH = "hash"
    LOWRANK = "lowrank"
    AUTO = "auto"
    LORA = "lora"
    INT8 = "int8"

    @property
    def traits(self) -> "Traits":
        """What sets it apart."""
        return TRAITS[self]


@dataclass(frozen=True)
class Traits:
    """What sets a variant apart.

    Attributes:
        title: As tables and plots print it.
        recipe: The server's, by which its generations are learned.
        is_sized: A size limits it.
        needs_bytes: It ends with what a file can carry; a nominal size says nothing to it.
        builds_on_previous: Its generations build on one another; else each is learned from scratch.
        is_ours: A diff of ours: what targets are set for.
        is_quantised: Its models are in int8, from generation 0 on: bl's, quantised.
        teachers: Whose models of the same generation it imitates.
    """

    title: str
    recipe: str
    is_sized: bool = True
    needs_bytes: bool = False
    builds_on_previous: bool = True
    is_ours: bool = False
    is_quantised: bool = False
    teachers: tuple[Variant, ...] = ()


TRAITS: Mapping[Variant, Traits] = {
    Variant.BL: Traits("BL", "dense", is_sized=False, builds_on_previous=False),
    Variant.FT: Traits("FT", "finetune", is_sized=False),
    Variant.BL_INF: Traits("BL∞", "dense", is_sized=False, builds_on_previous=False),
    Variant.BLC_SPARSE: Traits("BLC sparse", "compressed_sparse", builds_on_previous=False),
    Variant.BLC_HASH: Traits("BLC hash", "compressed_hash", builds_on_previous=False),
    Variant.PAPER_SPARSE: Traits("paper's sparse diff", "paper_sparse"),
    Variant.PAPER_HASH: Traits("paper's hash diff", "paper_hash"),
    Variant.SPARSE: Traits("sparse diff", "sparse", needs_bytes=True, is_ours=True),
    Variant.SPARSE_TAUGHT: Traits(
        "sparse diff, taught",
        "sparse",
        needs_bytes=True,
        is_ours=True,
        teachers=(Variant.BL, Variant.FT),
    ),
    # `sparse` with one thing different, to see what each option is worth.
    Variant.SPARSE_MAGNITUDE: Traits(
        "sparse diff by magnitude", "sparse_magnitude", needs_bytes=True
    ),
    Variant.SPARSE_REGROW: Traits("sparse diff with regrowth", "sparse_regrow", needs_bytes=True),
    Variant.SPARSE_FEEDBACK: Traits(
        "sparse diff with feedback", "sparse_feedback", needs_bytes=True
    ),
    Variant.HASH: Traits("hash diff", "hash", is_ours=True),
    Variant.LOWRANK: Traits("low-rank diff", "lowrank", needs_bytes=True, is_ours=True),
    Variant.AUTO: Traits("auto", "auto", needs_bytes=True, is_ours=True),
    Variant.LORA: Traits("LoRA", "lora", needs_bytes=True),
    Variant.INT8: Traits("int8 diff", "int8", needs_bytes=True, is_quantised=True),
}
"""All that is known of variants; only how they are drawn is the plots' (report.plots.STYLES)."""

QUANTISE = "quantise"
"""The recipe of generation 0 where a variant is quantised; it takes no steps."""


@dataclass(frozen=True)
class Size:
    """How much may travel: of bytes, or nominally, as the paper counts.

    "1/100" are bytes of the encoded file over the model's float32 bytes. "40x" are parameters
    per free value (a non-zero, an entry of an array), whatever the file then takes.

    Attributes:
        share: What travels over the whole, of bytes or of values; 0 < share <= 1.
        is_nominal: Values are counted, not bytes.
    """

    share: Fraction
    is_nominal: bool

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Read "1/100" or "40x".

        Raises:
            ScenarioError: it is neither.
        """
        plain = text.replace(" ", "").replace("×", "x")
        nominal = re.fullmatch(r"(\d+(?:\.\d+)?)x", plain)
        try:
            share = 1 / Fraction(nominal[1]) if nominal else Fraction(plain)
        except (ValueError, ZeroDivisionError):
            share = Fraction(0)
        if not 0 < share <= 1:
            raise ScenarioError(f"sizes: expected sizes such as '1/100' or '40x', found {text!r}")
        return cls(share, nominal is not None)

    def __str__(self) -> str:
        """As `parse` reads it."""
        if self.is_nominal:
            return f"{float(1 / self.share):g}x"
        return f"{self.share.numerator}/{self.share.denominator}"

    def budget_bytes(self, float32_bytes: int) -> int | None:
        """Most bytes of a file; None where values are counted."""
        return None if self.is_nominal else int(self.share * float32_bytes)

    @property
    def nominal_ratio(self) -> float | None:
        """Parameters per free value; None where bytes are counted."""
        return float(1 / self.share) if self.is_nominal else None


@dataclass(frozen=True)
class Line:
    """A variant, and its size where it has one."""

    variant: Variant
    size: Size | None = None

    @classmethod
    def named(cls, variant: str, size: str | None) -> "Line":
        """As results.jsonl names it.

        Raises:
            ValueError, ScenarioError: there is no such variant or size.
        """
        return cls(Variant(variant), Size.parse(size) if size is not None else None)

    def __str__(self) -> str:
        """For programs: sparse 1/100."""
        return self.variant.value if self.size is None else f"{self.variant.value} {self.size}"

    def budget_bytes(self, float32_bytes: int) -> int | None:
        """Most bytes of a file; None where bytes are not limited."""
        return None if self.size is None else self.size.budget_bytes(float32_bytes)

    @property
    def title(self) -> str:
        """For people: sparse diff 1/100."""
        title = self.variant.traits.title
        return title if self.size is None else f"{title} {str(self.size).replace('x', '×')}"

    @property
    def slug(self) -> str:
        """For names of models and folders: sparse-1of100."""
        return str(self).replace(" ", "-").replace("/", "of")

    @property
    def order(self) -> tuple[int, bool, Fraction]:
        """Sorts lines as tables show them: by variant, nominal sizes first, the largest first."""
        size = self.size or Size(Fraction(1), is_nominal=True)
        return list(Variant).index(self.variant), not size.is_nominal, -size.share


def lines_of(variants: Iterable[Variant], sizes: Iterable[Size]) -> tuple[Line, ...]:
    """Every sized variant at every size that it can have, the others once.

    Returns:
        In the order of tables.
    """
    sizes = tuple(sizes)
    lines = [Line(variant) for variant in variants if not variant.traits.is_sized]
    lines += [
        Line(variant, size)
        for variant in variants
        for size in sizes
        if variant.traits.is_sized and not (size.is_nominal and variant.traits.needs_bytes)
    ]
    return tuple(sorted(lines, key=lambda line: line.order))
