"""The tasks by name: spoken commands (slu) and speech recognition (rnnt).

slu     measured by accuracy: the share of utterances whose nearest phrase is theirs
rnnt    measured by WER, the word error rate: lower is better
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from diffcodec import Layout, ParameterSet
from server.training import parameters, rnnt, slu
from server.training.errors import TrainingRequestError
from server.training.rnnt.evaluate import word_error_rate
from server.training.rnnt.model import RnntModel
from server.training.rnnt.pieces import Pieces
from server.training.rnnt.task import RnntTask
from server.training.slu.evaluate import accuracy
from server.training.slu.quantise import quantised as nearest_in_int8
from server.training.slu.task import SluTask
from server.training.task import Task
from speech.card import Card, read_card
from speech.corpus import Corpus

SLU, RNNT = "slu", "rnnt"
CONFIGS: Mapping[str, Mapping[str, Any]] = {SLU: slu.model.CONFIGS, RNNT: rnnt.model.CONFIGS}
"""Model configurations by task and name."""


def make_task(task: str, corpus: Corpus, config: str, base_card: str | None = None) -> Task:
    """Prepare what a recipe learns.

    Args:
        task: slu or rnnt.
        corpus: Its train split is learned.
        config: Name of a model configuration of the task.
        base_card: Of the generation that is built upon, where a task keeps something of it.

    Raises:
        TrainingRequestError: no such task or configuration, or too little to learn.
        AudioError: a recording cannot be read.
    """
    require_config(task, config)
    return SluTask.of(corpus, config) if task == SLU else RnntTask.of(corpus, config, base_card)


def taught_by(task: Task, teachers: Sequence[nn.Module]) -> Task:
    """The task, with teachers to imitate (knowledge distillation, Hinton et al. 2015).

    Args:
        task: Of spoken commands.
        teachers: Models as `task.new_model` makes them, which know the task's phrases.

    Raises:
        TrainingRequestError: recognisers of sentences learn from texts alone.
    """
    if not isinstance(task, SluTask):
        raise TrainingRequestError(f"expected no teachers but for task {SLU}, found some")
    return task.taught_by(teachers)


def layout_of(task: str, config: str) -> Layout:
    """The canonical layout of a task's configuration.

    Raises:
        TrainingRequestError: no such task or configuration.
    """
    sizes = require_config(task, config)
    return sizes.layout if task == SLU else parameters.layout_of(partial(RnntModel, sizes))


def quantised(task: str, config: str, weights: ParameterSet) -> ParameterSet:
    """A generation in int8 from one in float32.

    Args:
        task: slu; recognisers of sentences have no configurations in int8.
        config: In int8.
        weights: Of its twin in float32.

    Raises:
        TrainingRequestError: these do not fit together.
    """
    sizes = require_config(task, config)
    if task != SLU:
        raise TrainingRequestError(f"expected task {SLU} for int8, found {task!r}")
    return nearest_in_int8(weights, sizes)


def measure(weights: ParameterSet, config: str, test: Corpus, card: str) -> float:
    """The server's own measure of a generation: accuracy or WER, as its card says.

    Args:
        weights: In canonical layout.
        config: The configuration they belong to.
        test: Test utterances.
        card: Of the generation.
    """
    known = read_card(card)
    if isinstance(known, Card):
        return accuracy(weights, CONFIGS[SLU][config], test, known.phrases)
    return word_error_rate(weights, CONFIGS[RNNT][config], test, Pieces(known.pieces))


def require_config(task: str, config: str) -> Any:
    """The sizes of a configuration.

    Raises:
        TrainingRequestError: no such task or configuration.
    """
    if task not in CONFIGS:
        raise TrainingRequestError(f"expected a task of {', '.join(CONFIGS)}, found {task!r}")
    if config not in CONFIGS[task]:
        names = ", ".join(CONFIGS[task])
        raise TrainingRequestError(f"expected a configuration of {names}, found {config!r}")
    return CONFIGS[task][config]
