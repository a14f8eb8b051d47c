"""The jobs of a run: which generations are learned, and from which.

    bl      generation t is learned from scratch, every weight free
    blc_*   the same, compressed to the size; generation 0 is bl's, as it comes with the device
    bl_inf  bl's generation 0, measured on every later task
    taught  a diff that imitates t + 1 of bl and of ft
    diffs   ft and all others: generation 0 is bl's; t + 1 builds on the line's own t
    int8    the same in int8: its generation 0 is bl's, quantised

So every line of a seed begins with the same generation 0, which is learned once, and quantised
once. Equal jobs have equal keys, so that scenarios that share a cache share them: the runs of bl
above all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator.errors import ScenarioError
from simulator.jobs import Job, job_key
from simulator.lines import QUANTISE, Line, Variant
from simulator.scenario import Scenario
from simulator.scores import TaskName
from simulator.sources import source_digest
from simulator.training import StaticArguments, TrainingArguments, measure_static, train
from speech.corpus import Corpus

STEP_COSTS = {"finetune": 1.0, "dense": 1.0, "compressed_hash": 2.0, "paper_hash": 2.0, "hash": 2.0}
"""What a step of a recipe costs, to order jobs and to guess how long they take; else 1.2."""
TAUGHT_COST = 1.5
"""What a step costs with teachers, over one without."""
INT8_MODEL = "{}-int8"
"""The server's name of a model configuration in int8."""

# Results are reused only while the code that makes them is the same.
CODE_OF_RESULTS = ("server.training", "speech", "diffcodec")


@dataclass(frozen=True)
class ModelSize:
    """What sizes are relative to."""

    parameters: int

    @property
    def float32_bytes(self) -> int:
        """Of the weights."""
        return 4 * self.parameters


@dataclass(frozen=True)
class ModelLine:
    """One line of one seed: the job behind each generation, in order.

    `static` is set for bl_inf: the job that measures its only generation on every task.
    """

    seed: int
    line: Line
    jobs: tuple[Job, ...]
    static: Job | None = None


@dataclass(frozen=True)
class RunPlan:
    """All that a run trains and measures."""

    scenario: Scenario
    corpus: Corpus
    size: ModelSize
    lines: tuple[ModelLine, ...]


def make_plan(scenario: Scenario, corpus: Corpus, is_made: bool = True) -> RunPlan:
    """What to train and to measure.

    Args:
        scenario: What to do.
        corpus: On what.
        is_made: Its audio is there. Otherwise the plan shows what would be done, and no job of
            it will be found finished.

    Raises:
        ScenarioError: the corpus lacks something, or there is no such model.
    """
    size = size_of(scenario.task, scenario.model)
    parts = [scenario.restrict(corpus, number) for number in range(scenario.generations)]
    digests = [part.digest() if is_made else f"to be made {part.phrases()}" for part in parts]
    planner = _Planner(scenario, corpus.folder, digests, size)
    lines = tuple(planner.line(seed, line) for seed in scenario.seeds for line in scenario.lines)
    return RunPlan(scenario, corpus, size, lines)


def size_of(task: TaskName, model: str) -> ModelSize:
    """The size of a model configuration.

    Raises:
        ScenarioError: there is no such configuration.
    """
    # torch takes seconds to import: not for `ota-sim --help`.
    from server.training.errors import TrainingRequestError
    from server.training.grid import is_on_grid
    from server.training.tasks import layout_of

    try:
        layout = layout_of(task, model)
    except TrainingRequestError as error:
        raise ScenarioError(f"model: {error}") from error
    if is_on_grid(layout):
        raise ScenarioError(
            f"model: expected one in float32 (variant {Variant.INT8} quantises it), found {model!r}"
        )
    return ModelSize(layout.parameter_count)


def jobs_of(lines: Sequence[ModelLine]) -> list[Job]:
    """Every job once."""
    jobs = [job for line in lines for job in (*line.jobs, line.static) if job is not None]
    return list({job.key: job for job in jobs}.values())


class _Planner:
    """Makes the jobs of one scenario and corpus."""

    def __init__(
        self, scenario: Scenario, folder: Path, digests: Sequence[str], size: ModelSize
    ) -> None:
        self._scenario = scenario
        self._folder = folder.absolute()
        self._digests = digests
        self._size = size
        self._code = source_digest(CODE_OF_RESULTS)

    def line(self, seed: int, line: Line) -> ModelLine:
        first = self._job(seed, Line(Variant.BL), 0, None)
        if line.variant is Variant.BL_INF:
            return ModelLine(seed, line, (first,), static=self._static(seed, first))
        traits = line.variant.traits
        jobs = [self._quantised(seed, line, first) if traits.is_quantised else first]
        taught_by = [self.line(seed, Line(teacher)).jobs for teacher in traits.teachers]
        for generation in range(1, len(self._digests)):
            parent = jobs[-1] if traits.builds_on_previous else None
            teachers = [its_jobs[generation] for its_jobs in taught_by]
            jobs.append(self._job(seed, line, generation, parent, teachers))
        return ModelLine(seed, line, tuple(jobs))

    def _quantised(self, seed: int, line: Line, first: Job) -> Job:
        """Generation 0 of all sizes."""
        return self._job(seed, Line(line.variant), 0, first, recipe=QUANTISE)

    def _job(
        self,
        seed: int,
        line: Line,
        generation: int,
        parent: Job | None,
        teachers: Sequence[Job] = (),
        recipe: str | None = None,
    ) -> Job:
        scenario, model = self._scenario, self._scenario.model
        recipe = recipe or line.variant.traits.recipe
        steps = 0 if recipe == QUANTISE else scenario.steps.of(recipe)
        if line.variant.traits.is_quantised:
            model = INT8_MODEL.format(model)
        budget_bytes = line.budget_bytes(self._size.float32_bytes)
        nominal_ratio = None if line.size is None else line.size.nominal_ratio
        arguments = TrainingArguments(
            recipe=recipe,
            task=scenario.task,
            corpus_folder=self._folder,
            evolution=scenario.evolution,
            model=model,
            steps=steps,
            batch_size=scenario.batch_size,
            generation=generation,
            seed=seed,
            budget_bytes=budget_bytes,
            nominal_ratio=nominal_ratio,
            parent=None if parent is None else parent.key,
            teachers=tuple(teacher.key for teacher in teachers),
        )
        after = tuple(job.key for job in (parent, *teachers) if job is not None)
        learned = [recipe, steps, budget_bytes, nominal_ratio, scenario.task, model]
        data = [scenario.batch_size, self._digests[generation], seed, generation]
        return Job(
            key=job_key("train", self._code, *learned, *data, *after),
            name=f"{line}, generation {generation}, seed {seed}",
            function=train,
            arguments=arguments,
            after=after,
            cost=steps * STEP_COSTS.get(recipe, 1.2) * (TAUGHT_COST if teachers else 1.0),
        )

    def _static(self, seed: int, first: Job) -> Job:
        scenario = self._scenario
        return Job(
            key=job_key("static", self._code, self._digests, first.key),
            name=f"generation 0 on later tasks, seed {seed}",
            function=measure_static,
            arguments=StaticArguments(self._folder, scenario.evolution, scenario.model),
            after=(first.key,),
            cost=1.0,
        )
