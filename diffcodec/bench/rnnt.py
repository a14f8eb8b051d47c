"""A made-up generation as large as a real recogniser: 61,155,780 parameters of an RNN-T.

Six encoder LSTMs of 1,024 units over 240 features, one prediction LSTM over embeddings of 3,780
word pieces, a joint network. For speed and memory: a size on it says how well a coder uses
densities that differ, not how a trained diff would fare.

Where entries stand: the chance of an entry is the product of a tensor's, a row's, a column's and
an LSTM gate's factor, all log-normal, so that tensors run from a hundredth of the mean to four
times that. Magnitudes are normal around a common value. The base is noise.

Letters: R rows, C columns.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from diffcodec.bench.generations import (
    BASE_SD,
    MAGNITUDE_LEAST,
    MAGNITUDE_MEAN,
    MAGNITUDE_SD,
    NextGeneration,
)
from diffcodec.parameters import ParameterSet

FEATURES, HIDDEN, EMBEDDING, JOINT, WORD_PIECES = 240, 1024, 768, 640, 3780
ENCODER_LAYERS, GATES = 6, 4
# Positions then cost 5.1 bits by tensor and 4.1 by row, where trained ones cost 5.0 and 4.1.
TENSOR_SPREAD, GATE_SPREAD, ROW_SPREAD, COLUMN_SPREAD = 1.4, 0.4, 1.1, 0.5
LARGEST_RATE = 0.9

Shape = tuple[int, ...]


def rnnt(density: float, seed: int, hidden: int = HIDDEN) -> NextGeneration:
    """Make base and delta up.

    Args:
        density: Share of entries that change, about.
        seed: Same seed, same generation.
        hidden: Units of an LSTM; other than 1,024 only where a test is in a hurry.
    """
    rng = np.random.default_rng(seed)
    shapes = dict(_shapes(hidden))
    base, deltas = {}, {}
    for name, share in draw_densities(shapes, density, rng).items():
        base[name] = BASE_SD * rng.standard_normal(shapes[name], np.float32)
        deltas[name] = draw_delta(shapes[name], share, rng)
    parameters = ParameterSet.from_arrays(base)
    count = parameters.layout.parameter_count
    return NextGeneration(f"synthetic RNN-T, {count:,} parameters", parameters, deltas)


def draw_densities(
    shapes: Mapping[str, Shape], density: float, rng: np.random.Generator
) -> dict[str, float]:
    """How dense each tensor is, if all of them together are so dense."""
    sizes = np.array([np.prod(shape) for shape in shapes.values()])
    factors = rng.lognormal(0, TENSOR_SPREAD, len(shapes))
    densities = density * factors * (sizes.sum() / (sizes * factors).sum())
    return dict(zip(shapes, densities.tolist(), strict=True))


def draw_delta(shape: Shape, density: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Float32 of the shape; entries stand where row, column and gate have them likely."""
    rows, columns = shape[0], int(np.prod(shape[1:]))
    gates = rng.lognormal(0, GATE_SPREAD, GATES).repeat(-(-rows // GATES))[:rows]
    by_row = gates * rng.lognormal(0, ROW_SPREAD, rows)
    by_column = rng.lognormal(0, COLUMN_SPREAD, columns)
    rates = np.outer(by_row, by_column).astype(np.float32)
    for _ in range(5):  # clipping lowers the mean, so scale again
        rates = np.minimum(rates * np.float32(density / rates.mean()), LARGEST_RATE)
    is_changed = rng.random(rates.shape, np.float32) < rates
    count = int(np.count_nonzero(is_changed))
    values = rng.normal(MAGNITUDE_MEAN, MAGNITUDE_SD, count).clip(MAGNITUDE_LEAST)
    delta = np.zeros(rates.shape, np.float32)
    delta[is_changed] = values * rng.choice(np.array([-1.0, 1.0]), count)
    return delta.reshape(shape)


def _shapes(hidden: int) -> Iterator[tuple[str, Shape]]:
    for layer in range(ENCODER_LAYERS):
        yield from _lstm(f"encoder.{layer}", FEATURES if layer == 0 else hidden, hidden)
    yield "prediction.embedding", (WORD_PIECES, EMBEDDING)
    yield from _lstm("prediction.0", EMBEDDING, hidden)
    for part in ("encoder", "prediction"):
        yield f"joint.{part}.weight", (JOINT, hidden)
        yield f"joint.{part}.bias", (JOINT,)
    yield "joint.output.weight", (WORD_PIECES, JOINT)
    yield "joint.output.bias", (WORD_PIECES,)


def _lstm(name: str, inputs: int, hidden: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight_ih", (GATES * hidden, inputs)
    yield f"{name}.weight_hh", (GATES * hidden, hidden)
    yield f"{name}.bias_ih", (GATES * hidden,)
    yield f"{name}.bias_hh", (GATES * hidden,)
