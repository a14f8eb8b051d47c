"""Scenarios: what a run trains, publishes and measures.

A scenario says how the data evolve (neural diff paper, 2.2: setting 2, the task grows by
labels), which variants are compared, at which budget, and by how much training. It is written
as a TOML file, see `scenario_file`.

    >>> scenario.labels(1)
    ('zero', 'one', 'two', 'three', 'four', 'five')
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction

from simulator.errors import ScenarioError
from speech.corpus import Corpus
from speech.errors import CorpusError


class Variant(StrEnum):
    """A way to bring a model up to date (paper, 4)."""

    BL = "bl"
    BLC = "blc"
    BL_INF = "bl_inf"
    SPARSE = "sparse"
    HASH = "hash"


TITLES: Mapping[Variant, str] = {
    Variant.BL: "BL",
    Variant.BLC: "BLC",
    Variant.BL_INF: "BL∞",
    Variant.SPARSE: "sparse diff",
    Variant.HASH: "hash diff",
}
"""The paper's names, as tables and plots print them."""


class EvolveBy(StrEnum):
    """Which column of the corpus the generations are lists of."""

    TEXT = "text"
    DOMAIN = "domain"


@dataclass(frozen=True)
class Steps:
    """Training steps of each recipe."""

    dense: int
    compressed: int
    sparse: int
    hash: int


@dataclass(frozen=True)
class SyntheticSpeech:
    """A corpus that the run makes by itself.

    Attributes:
        speakers: How many speak.
        seed: Of speakers and rooms; not the seed of training.
        phrases_per_domain: So many of each domain of the built-in list; 0 means all.
    """

    speakers: int
    seed: int
    phrases_per_domain: int


@dataclass(frozen=True)
class Scenario:
    """What a run does.

    Attributes:
        generations: The labels that each generation adds.
        budget_ratio: Bytes of a diff file relative to the model's float32 bytes.
        batch_size: Recordings a training step.
        speech: None: the corpus is given on the command line.
    """

    name: str
    description: str
    evolve_by: EvolveBy
    generations: tuple[tuple[str, ...], ...]
    seeds: tuple[int, ...]
    budget_ratio: Fraction
    model: str
    steps: Steps
    batch_size: int
    variants: tuple[Variant, ...]
    speech: SyntheticSpeech | None = field(default=None)

    def __post_init__(self) -> None:
        """Refuse what no run could do."""
        # The name becomes that of a folder.
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ScenarioError(
                f"name: expected letters, digits, '.', '_' and '-', found {self.name!r}"
            )
        labels = [label for added in self.generations for label in added]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ScenarioError(f"generations: expected every label once, found {twice[0]!r} twice")
        if not self.generations or not all(self.generations):
            raise ScenarioError("generations: expected at least one label in each generation")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ScenarioError("seeds: expected at least one seed, each once")
        if not self.variants or len(set(self.variants)) != len(self.variants):
            raise ScenarioError("variants: expected at least one variant, each once")

    def labels(self, generation: int) -> tuple[str, ...]:
        """The labels that a generation knows: its own and all earlier ones."""
        return tuple(label for added in self.generations[: generation + 1] for label in added)

    def restrict(self, corpus: Corpus, generation: int) -> Corpus:
        """The utterances that belong to a generation.

        Raises:
            ScenarioError: the corpus lacks one of its labels, or holds no recording of it to
                train or to test on.
        """
        labels = self.labels(generation)
        try:
            if self.evolve_by is EvolveBy.TEXT:
                chosen = corpus.restrict(texts=labels)
            else:
                chosen = corpus.restrict(domains=labels)
        except CorpusError as error:
            hint = "name your own by --by text|domain --generations 'a,b;c;d'"
            raise ScenarioError(f"scenario {self.name}: {error}; {hint}") from error
        for split in ("train", "test"):
            present = {getattr(u, self.evolve_by.value) for u in chosen.split(split).utterances}
            for label in labels:
                if label not in present:
                    raise ScenarioError(
                        f"{corpus.folder}: expected {split} recordings of {self.evolve_by} "
                        f"{label!r}, found none"
                    )
        return chosen

    def evolving(self, evolve_by: str | None, generations: str | None) -> "Scenario":
        """This scenario with another evolution.

        Args:
            evolve_by: "text" or "domain"; None keeps it.
            generations: Labels by comma, generations by semicolon ("a,b;c;d"); None keeps them.
        """
        changed = self
        if evolve_by is not None:
            if evolve_by not in set(EvolveBy):
                raise ScenarioError(f"--by: expected text or domain, found {evolve_by!r}")
            changed = replace(changed, evolve_by=EvolveBy(evolve_by))
        if generations is not None:
            lists = (part.split(",") for part in generations.split(";"))
            named = tuple(tuple(label.strip() for label in part if label.strip()) for part in lists)
            changed = replace(changed, generations=named)
        return changed
