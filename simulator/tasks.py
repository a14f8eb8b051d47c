"""What a run asks of the server's tasks: how large a model is, and how good its weights are.

Imports torch: for workers and plans, not for the command line.
"""

from collections.abc import Mapping
from typing import TypeVar

from diffcodec import ParameterSet
from server.training.parameters import layout_of as layout_of_commands
from server.training.rnnt.evaluate import word_error_rate
from server.training.rnnt.model import CONFIGS as RECOGNISERS
from server.training.rnnt.task import layout_of as layout_of_recogniser
from server.training.rnnt.task import pieces_of
from server.training.slu.evaluate import accuracy
from server.training.slu.model import CONFIGS as COMMANDS
from simulator.errors import ScenarioError
from simulator.scores import TaskName
from speech.card import Card
from speech.corpus import Corpus

Config = TypeVar("Config")


def parameter_count(task: TaskName, model: str) -> int:
    """Parameters of a model configuration.

    Raises:
        ScenarioError: there is no such configuration.
    """
    if task is TaskName.RNNT:
        return layout_of_recogniser(_named(model, RECOGNISERS)).parameter_count
    return layout_of_commands(_named(model, COMMANDS)).parameter_count


def server_score(
    task: TaskName, model: str, weights: ParameterSet, card: str, test: Corpus
) -> float:
    """The score of weights by torch; a recogniser decodes greedily.

    Args:
        task: What was learned.
        model: Name of the configuration.
        weights: In canonical layout.
        card: As it travels with them, JSON.
        test: What to recognise.
    """
    if task is TaskName.RNNT:
        config = RECOGNISERS[model]
        return word_error_rate(weights, config, test, pieces_of(card, config))
    return accuracy(weights, COMMANDS[model], test, Card.from_json(card).phrases)


def _named(model: str, configs: Mapping[str, Config]) -> Config:
    if model not in configs:
        raise ScenarioError(f"model: expected {' or '.join(configs)}, found {model!r}")
    return configs[model]
