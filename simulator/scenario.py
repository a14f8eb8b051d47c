"""Scenarios: what a run trains, publishes and measures.

A scenario says what is learned, how the data evolve, which variants are compared at which sizes,
and by how much training. It is written as a TOML file, see `scenario_file`.

    >>> scenario = find_scenario("digits")
    >>> [str(line) for line in scenario.lines][:2]
    ['bl', 'ft']
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from simulator.errors import ScenarioError
from simulator.evolution import Evolution, Labels
from simulator.lines import TRAITS, Line, Size, Variant, lines_of
from simulator.scores import Metric, TaskName
from speech.corpus import Corpus


@dataclass(frozen=True)
class Steps:
    """Training steps.

    Attributes:
        default: Of every recipe that is not an exception.
        exceptions: By name of the recipe.

    Raises:
        ScenarioError: an exception is none of a recipe that the simulator uses.
    """

    default: int
    exceptions: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a name that would never be asked for."""
        known = dict.fromkeys(traits.recipe for traits in TRAITS.values())
        for recipe in self.exceptions:
            if recipe not in known:
                expected = " or ".join(["default", *known])
                raise ScenarioError(f"steps: expected {expected}, found {recipe!r}")

    def of(self, recipe: str) -> int:
        """The steps of a recipe."""
        return self.exceptions.get(recipe, self.default)


@dataclass(frozen=True)
class SyntheticSpeech:
    """A corpus that the run makes by itself: of phrases, or of sentences.

    Attributes:
        speakers: How many speak.
        seed: Of speakers and rooms; not the seed of training.
        phrases_per_domain: So many of each domain of the built-in list; 0 means all. None: the
            corpus consists of sentences.
        sentences_per_speaker: Each speaker's own; 0 where the corpus consists of phrases.
        topics: What the sentences are about; empty: everything.
    """

    speakers: int
    seed: int
    phrases_per_domain: int | None = None
    sentences_per_speaker: int = 0
    topics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """What a run does.

    Attributes:
        sizes: Of every variant that has one.
        batch_size: Recordings a training step.
        targets: Most points below BL, at every generation, in the mean over seeds; by line
            ("paper_sparse 40x"), or by size ("1/100") for every diff of ours.
        speech: None: the corpus is given on the command line.

    Raises:
        ScenarioError: no run could do this.
    """

    name: str
    description: str
    task: TaskName
    evolution: Evolution
    seeds: tuple[int, ...]
    model: str
    steps: Steps
    batch_size: int
    variants: tuple[Variant, ...]
    sizes: tuple[Size, ...] = ()
    targets: Mapping[str, float] = field(default_factory=dict)
    speech: SyntheticSpeech | None = field(default=None)

    def __post_init__(self) -> None:
        """Refuse what no run could do."""
        # The name becomes that of a folder.
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ScenarioError(
                f"name: expected letters, digits, '.', '_' and '-', found {self.name!r}"
            )
        for key, values in (("seeds", self.seeds), ("variants", self.variants)):
            if not values or len(set(values)) != len(values):
                raise ScenarioError(f"{key}: expected at least one, each once")
        if len(set(self.sizes)) != len(self.sizes):
            raise ScenarioError("sizes: expected each size once")
        for variant in self.variants:
            if variant not in {line.variant for line in self.lines}:
                kind = "a size in bytes such as '1/100'" if variant.traits.needs_bytes else "a size"
                found = ", ".join(map(str, self.sizes)) or "none"
                raise ScenarioError(f"sizes: expected {kind} for {variant}, found {found}")
            teachers = variant.traits.teachers
            missing = [teacher for teacher in teachers if teacher not in self.variants]
            if missing:
                raise ScenarioError(
                    f"variants: expected {missing[0]} beside {variant}, which learns from it, "
                    "found none"
                )
            is_of_commands = variant.traits.is_quantised or teachers
            if is_of_commands and self.task is not TaskName.SLU:
                raise ScenarioError(
                    f"variants: expected {variant} for task {TaskName.SLU} alone, "
                    f"found task {self.task}"
                )

    @property
    def generations(self) -> int:
        """How many there are, generation 0 among them."""
        return self.evolution.generations

    @property
    def lines(self) -> tuple[Line, ...]:
        """What is compared."""
        return lines_of(self.variants, self.sizes)

    def target(self, line: Line) -> float | None:
        """Most points that a line may lie below BL; None where nothing is said."""
        of_size = self.targets.get(str(line.size)) if line.variant.traits.is_ours else None
        return self.targets.get(str(line), of_size)

    @property
    def metric(self) -> Metric:
        """What the models are measured by."""
        return Metric.of(self.task)

    def restrict(self, corpus: Corpus, generation: int) -> Corpus:
        """The utterances that belong to a generation.

        Raises:
            ScenarioError: the corpus lacks something; the message names the scenario.
        """
        try:
            chosen = self.evolution.restrict(corpus, generation)
        except ScenarioError as error:
            raise ScenarioError(f"scenario {self.name}: {error}") from error
        if self.task is TaskName.SLU and len(chosen.phrases()) < 2:
            raise ScenarioError(
                f"scenario {self.name}, generation {generation}: expected at least two phrases "
                f"to tell apart, found {list(chosen.phrases())}"
            )
        return chosen

    def to_json(self) -> dict[str, object]:
        """All of it by the names of the file, for records and for comparing two."""
        evolution = self.evolution
        if isinstance(evolution, Labels):
            generations: list[object] = [list(labels) for labels in evolution.lists]
        else:
            generations = [float(share) for share in evolution.shares]
        speech = {"kind": "given"} if self.speech is None else vars(self.speech)
        return {
            "name": self.name,
            "task": self.task.value,
            "evolve_by": evolution.by.value,
            "generations": generations,
            "seeds": list(self.seeds),
            "model": self.model,
            "batch_size": self.batch_size,
            "variants": [variant.value for variant in self.variants],
            "sizes": [str(size) for size in self.sizes],
            "steps": {"default": self.steps.default, **self.steps.exceptions},
            "corpus": {key: value for key, value in speech.items() if value is not None},
            "targets": dict(self.targets),
        }
