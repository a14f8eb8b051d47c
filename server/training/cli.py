"""`ota-server train`: learn the next generation of a model line and publish it."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeRemainingColumn

from diffcodec import ParameterSet, parse_size
from server.home import ServerHome
from server.publishing import publish, weights_of
from server.training.errors import RequestError
from server.training.learn import Progress as StepProgress
from server.training.model import CONFIGS
from server.training.parameters import layout_of
from server.training.recipes import RECIPES, TrainedGeneration, TrainingRequest, train_generation
from speech.corpus import Corpus

DEFAULT_STEPS = 1500
