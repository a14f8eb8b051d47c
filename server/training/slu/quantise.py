"""A spoken-command model in int8 from one in float32: post-training, the nearest weights.

Nothing is learned for it: on real speech accuracy stayed the same (docs/guides/experiments.md), and
diffs are learned on the grid from there.
"""

import numpy as np

from diffcodec import ParameterSet
from server.training.errors import TrainingRequestError
from server.training.grid import quantise
from server.training.parameters import layout_of
from server.training.slu.model import ModelConfig, SpokenCommandModel


def quantised(weights: ParameterSet, config: ModelConfig) -> ParameterSet:
    """The generation in int8 that is nearest to one in float32.

    Args:
        weights: Of the configuration's twin in float32.
        config: In int8.

    Returns:
        In the configuration's layout.

    Raises:
        TrainingRequestError: the configuration is not in int8, or the weights are of another model.
    """
    if not config.is_int8:
        raise TrainingRequestError("expected a configuration in int8, found one in float32")
    arrays = dict(weights.arrays)
    for name, array in arrays.items():
        if name.endswith((".W", ".R")):
            # From LSTM's layout to DynamicQuantizeLSTM's: server.training.lstm.
            arrays[name] = np.ascontiguousarray(array.swapaxes(-1, -2))
    turned = ParameterSet.from_arrays(arrays)
    if turned.layout != layout_of(lambda: SpokenCommandModel(config)):
        raise TrainingRequestError(
            "expected weights in float32 of the same configuration, found others"
        )
    return quantise(turned)
