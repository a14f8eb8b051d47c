"""The jobs of a run: which generations are learned, and from which.

    BL      generation t is learned from scratch, every weight free
    BLC     the same, compressed to the budget; generation 0 is BL's, as it comes with the device
    BL∞     BL's generation 0, measured on every later task
    sparse, hash    generation 0 is BL's; t + 1 is a diff on t

So every variant of a seed begins with the same generation 0, which is learned once.
"""

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from simulator.errors import ScenarioError
from simulator.jobs import Job, job_key
from simulator.scenario import Scenario, Variant
from simulator.training import StaticArguments, TrainingArguments, measure_static, train
from speech.corpus import Corpus

RECIPES: Mapping[Variant, str] = {
    Variant.BL: "dense",
    Variant.BLC: "compressed",
    Variant.SPARSE: "sparse",
    Variant.HASH: "hash",
}
ON_PARENT = frozenset({Variant.SPARSE, Variant.HASH})
"""Variants whose generations build on one another."""

# Relative cost of a step, for the order of jobs alone.
STEP_COST: Mapping[str, float] = {"dense": 1.0, "compressed": 1.1, "sparse": 1.1, "hash": 1.6}

# Results are reused only while the code that makes them is the same.
CODE_OF_RESULTS = ("server.training", "speech", "diffcodec")


@dataclass(frozen=True)
class ModelSize:
    """What budgets are relative to."""

    parameters: int
    float32_bytes: int


@dataclass(frozen=True)
class ModelLine:
    """One variant of one seed: the job behind each generation, in order.

    `static` is set for BL∞: the job that measures its only generation on every task.
    """

    seed: int
    variant: Variant
    jobs: tuple[Job, ...]
    static: Job | None = None


@dataclass(frozen=True)
class RunPlan:
    """All that a run trains and measures."""

    scenario: Scenario
    corpus: Corpus
    size: ModelSize
    budget_bytes: int
    lines: tuple[ModelLine, ...]


def make_plan(scenario: Scenario, corpus: Corpus, is_made: bool = True) -> RunPlan:
    """What to train and to measure.

    Args:
        scenario: What to do.
        corpus: On what.
        is_made: Its audio is there. Otherwise the plan shows what would be done, and no job of
            it will be found finished.

    Raises:
        ScenarioError: the corpus lacks a label, or there is no such model.
    """
    size = size_of(scenario.model)
    budget_bytes = int(scenario.budget_ratio * size.float32_bytes)
    parts = [scenario.restrict(corpus, number) for number in range(len(scenario.generations))]
    digests = [part.digest() if is_made else f"to be made {part.phrases()}" for part in parts]
    planner = _Planner(scenario, corpus.folder, digests, budget_bytes)
    lines = tuple(
        planner.line(seed, variant) for seed in scenario.seeds for variant in scenario.variants
    )
    return RunPlan(scenario, corpus, size, budget_bytes, lines)


def size_of(model: str) -> ModelSize:
    """The size of a model configuration.

    Raises:
        ScenarioError: there is no such configuration.
    """
    # torch takes seconds to import: not for `ota-sim --help`.
    from server.training.parameters import layout_of
    from server.training.slu.model import CONFIGS

    if model not in CONFIGS:
        raise ScenarioError(f"model: expected {' or '.join(CONFIGS)}, found {model!r}")
    count = layout_of(CONFIGS[model]).parameter_count
    return ModelSize(count, 4 * count)


def jobs_of(lines: Sequence[ModelLine]) -> list[Job]:
    """Every job once."""
    jobs = [job for line in lines for job in (*line.jobs, line.static) if job is not None]
    return list({job.key: job for job in jobs}.values())


class _Planner:
    """Makes the jobs of one scenario and corpus; equal jobs get equal keys."""

    def __init__(
        self, scenario: Scenario, folder: Path, digests: Sequence[str], budget_bytes: int
    ) -> None:
        self._scenario = scenario
        self._folder = folder.absolute()
        self._digests = digests
        self._budget_bytes = budget_bytes
        self._code = code_digest()

    def line(self, seed: int, variant: Variant) -> ModelLine:
        first = self._training(seed, Variant.BL, 0, None)
        if variant is Variant.BL_INF:
            return ModelLine(seed, variant, (first,), static=self._static(seed, first))
        jobs = [first]
        for generation in range(1, len(self._digests)):
            parent = jobs[-1] if variant in ON_PARENT else None
            jobs.append(self._training(seed, variant, generation, parent))
        return ModelLine(seed, variant, tuple(jobs))

    def _training(self, seed: int, variant: Variant, generation: int, parent: Job | None) -> Job:
        recipe = RECIPES[variant]
        steps = asdict(self._scenario.steps)[recipe]
        budget_bytes = None if recipe == "dense" else self._budget_bytes
        after = () if parent is None else (parent.key,)
        scenario = self._scenario
        task = [
            scenario.model,
            scenario.batch_size,
            self._digests[generation],
            seed,
            generation,
        ]
        return Job(
            key=job_key("train", self._code, recipe, steps, budget_bytes, *task, *after),
            name=f"{recipe}, generation {generation}, seed {seed}",
            function=train,
            arguments=TrainingArguments(
                recipe, self._folder, self._scenario, generation, seed, budget_bytes
            ),
            after=after,
            cost=steps * STEP_COST[recipe],
        )

    def _static(self, seed: int, first: Job) -> Job:
        return Job(
            key=job_key("static", self._code, self._digests, first.key),
            name=f"generation 0 on later tasks, seed {seed}",
            function=measure_static,
            arguments=StaticArguments(self._folder, self._scenario),
            after=(first.key,),
            cost=1.0,
        )


def code_digest() -> str:
    """Hex SHA-256 over the source that training results depend on."""
    content = hashlib.sha256()
    for path in _source_files():
        content.update(path.name.encode() + b"\0" + path.read_bytes())
    return content.hexdigest()


def _source_files() -> Iterator[Path]:
    for package in CODE_OF_RESULTS:
        spec = importlib.util.find_spec(package)
        folders = spec.submodule_search_locations if spec is not None else None
        for folder in folders or ():
            yield from sorted(Path(folder).rglob("*.py"))
