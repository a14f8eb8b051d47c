"""How the data grow from generation to generation (paper, 2.2).

Setting 1: the task stays and its recordings grow by shares. Setting 2: labels are added, texts or
domains of the corpus, and the task grows with them.

    >>> evolution = Labels(EvolveBy.TEXT, (("zero", "one"), ("two",)))
    >>> evolution.restrict(corpus, 1).phrases()
    ('one', 'two', 'zero')
"""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from simulator.errors import ScenarioError
from speech.corpus import Corpus
from speech.errors import CorpusError

HINT = "name your own by --by text|domain --generations 'a,b;c;d'"


class EvolveBy(StrEnum):
    """What the generations of a scenario are lists of."""

    TEXT = "text"
    DOMAIN = "domain"
    SHARE = "share"

    @property
    def heading(self) -> str:
        """Over what `known` says of each generation: # domains."""
        return "data" if self is EvolveBy.SHARE else f"# {self.value}s"


@dataclass(frozen=True)
class Labels:
    """Setting 2: each generation adds labels to those of all earlier ones.

    Raises:
        ScenarioError: a generation adds none, or one comes twice.
    """

    by: EvolveBy
    lists: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        """Refuse what no run could do."""
        labels = [label for added in self.lists for label in added]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ScenarioError(f"generations: expected every label once, found {twice[0]!r} twice")
        if not self.lists or not all(self.lists):
            raise ScenarioError("generations: expected at least one label in each generation")

    @property
    def generations(self) -> int:
        """How many there are."""
        return len(self.lists)

    def added(self, generation: int) -> tuple[str, ...]:
        """What comes with a generation, for people."""
        return self.lists[generation]

    def known(self, generation: int) -> str:
        """How many labels a generation knows, for people."""
        return str(len(self.labels(generation)))

    def labels(self, generation: int) -> tuple[str, ...]:
        """The labels that a generation knows: its own and all earlier ones."""
        return tuple(label for added in self.lists[: generation + 1] for label in added)

    def restrict(self, corpus: Corpus, generation: int) -> Corpus:
        """The utterances that belong to a generation.

        Raises:
            ScenarioError: the corpus lacks one of its labels, or holds no recording of it to
                train or to test on.
        """
        labels = self.labels(generation)
        try:
            if self.by is EvolveBy.TEXT:
                chosen = corpus.restrict(texts=labels)
            else:
                chosen = corpus.restrict(domains=labels)
        except CorpusError as error:
            raise ScenarioError(f"{error}; {HINT}") from error
        for split in ("train", "test"):
            present = {getattr(u, self.by.value) for u in chosen.split(split).utterances}
            for label in labels:
                if label not in present:
                    raise ScenarioError(
                        f"{corpus.folder}: expected {split} recordings of {self.by} "
                        f"{label!r}, found none"
                    )
        return chosen


@dataclass(frozen=True)
class Shares:
    """Setting 1: each generation adds a share of the train split; the test split is one for all.

    Raises:
        ScenarioError: a share is not above 0, or they are more than the whole together.
    """

    shares: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        """Refuse what no run could do."""
        if not self.shares or min(self.shares) <= 0 or sum(self.shares) > 1:
            raise ScenarioError(
                "generations: expected shares above 0 that are at most 1 together, such as "
                f"[0.5, 0.1, 0.1], found {[float(share) for share in self.shares]}"
            )

    @property
    def by(self) -> EvolveBy:
        """They are shares."""
        return EvolveBy.SHARE

    @property
    def generations(self) -> int:
        """How many there are."""
        return len(self.shares)

    def added(self, generation: int) -> tuple[str, ...]:
        """What comes with a generation, for people."""
        return (f"+{100 * float(self.shares[generation]):g} %",)

    def known(self, generation: int) -> str:
        """The share of all recordings that a generation learns from, for people."""
        return f"{100 * float(self._share(generation)):g} %"

    def restrict(self, corpus: Corpus, generation: int) -> Corpus:
        """The recordings that a generation learns from, and the whole test split.

        Raises:
            ScenarioError: nothing is left to train on.
        """
        try:
            return corpus.train_share(float(self._share(generation)))
        except CorpusError as error:
            raise ScenarioError(str(error)) from error

    def _share(self, generation: int) -> Fraction:
        return sum(self.shares[: generation + 1], Fraction(0))


Evolution = Labels | Shares


def read_evolution(by: str, generations: str) -> Evolution:
    """Read an evolution from the command line.

    Args:
        by: text, domain or share.
        generations: Labels by comma, generations by semicolon ("a,b;c;d"), or shares ("0.5;0.1").

    Raises:
        ScenarioError: it is none.
    """
    if by not in set(EvolveBy):
        raise ScenarioError(f"--by: expected text, domain or share, found {by!r}")
    parts = generations.split(";")
    if by != EvolveBy.SHARE:
        lists = (tuple(label.strip() for label in part.split(",")) for part in parts)
        return Labels(EvolveBy(by), tuple(tuple(filter(None, labels)) for labels in lists))
    try:
        return Shares(tuple(Fraction(part.strip()) for part in parts))
    except (ValueError, ZeroDivisionError) as error:
        raise ScenarioError(
            f"--generations: expected shares such as '0.5;0.1;0.1', found {generations!r}"
        ) from error
