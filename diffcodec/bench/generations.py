"""Generations to compare on: a base and a sparse delta, made up or trained.

The made-up delta has the shape of real ones. What makes a diff small is where its entries stand,
so three numbers are taken from deltas of a model that was fine-tuned under gradual magnitude
pruning to 5 %: densities differ from tensor to tensor and from row to row (both log-normal), and
magnitudes lie around a common value, with few near zero. Not real: rows of one LSTM gate or one
word are not alike in other tensors, and the base is noise.

    generation = synthetic(width=128, density=0.05, seed=0)       # 1,048,576 parameters
    generations = trained(Path("diffs"))                          # base.safetensors, delta_*.npz
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffcodec.bench.errors import BenchmarkError
from diffcodec.parameters import Dtype, ParameterSet
from diffcodec.weights import read_weights

MATRICES = 16
# A made-up delta then costs 5.0 bits a position by tensor and 4.1 by row, as a trained one does.
TENSOR_SPREAD, ROW_SPREAD = 1.2, 1.1
MAGNITUDE_MEAN, MAGNITUDE_SD, MAGNITUDE_LEAST = 0.055, 0.014, 0.01
BASE_SD = 0.06


@dataclass(frozen=True)
class NextGeneration:
    """A base and what training would add to it.

    Attributes:
        name: For tables.
        deltas: Float32, by tensor, of the base's shapes; most entries are zero.
    """

    name: str
    base: ParameterSet
    deltas: Mapping[str, NDArray[np.float32]]

    @property
    def parameters(self) -> int:
        """Of the base."""
        return self.base.layout.parameter_count

    @property
    def density(self) -> float:
        """Share of entries that change."""
        return sum(np.count_nonzero(delta) for delta in self.deltas.values()) / self.parameters


def synthetic(width: int, density: float, seed: int) -> NextGeneration:
    """A made-up generation of 64 * width ** 2 parameters: 16 matrices of 4 * width rows.

    Args:
        width: Columns of a matrix.
        density: Share of entries that change, about.
        seed: Same seed, same generation.
    """
    rng = np.random.default_rng(seed)
    names = [f"layer{number:02d}.weight" for number in range(MATRICES)]
    shape = (4 * width, width)
    rates = rng.lognormal(0, TENSOR_SPREAD, (MATRICES, 1, 1)) * rng.lognormal(
        0, ROW_SPREAD, (MATRICES, shape[0], 1)
    )
    rates = _scaled(rates, density)
    base, deltas = {}, {}
    for name, rate in zip(names, rates, strict=True):
        base[name] = rng.normal(0, BASE_SD, shape).astype(np.float32)
        magnitudes = rng.normal(MAGNITUDE_MEAN, MAGNITUDE_SD, shape).clip(MAGNITUDE_LEAST)
        signs = rng.choice(np.array([-1.0, 1.0]), shape)
        deltas[name] = np.where(rng.random(shape) < rate, magnitudes * signs, 0).astype(np.float32)
    parameters = ParameterSet.from_arrays(base)
    return NextGeneration(
        f"synthetic, {parameters.layout.parameter_count:,} parameters", parameters, deltas
    )


def trained(folder: Path) -> tuple[NextGeneration, ...]:
    """The generations in a folder: base.safetensors, and a delta_NAME.npz for each.

    Raises:
        BenchmarkError: there is no base or no delta.
        CodecError: the base cannot be read.
    """
    base_path = folder / "base.safetensors"
    delta_paths = sorted(folder.glob("delta_*.npz"))
    if not base_path.is_file() or not delta_paths:
        raise BenchmarkError(f"{folder}: expected base.safetensors and delta_*.npz")
    base = read_weights(base_path)
    return tuple(
        NextGeneration(f"trained, {path.stem.removeprefix('delta_')}", base, read_delta(path, base))
        for path in delta_paths
    )


def read_delta(path: Path, base: ParameterSet) -> Mapping[str, NDArray[np.float32]]:
    """A delta, new minus base, as numpy's .npz: float32 arrays by tensor, zero where unchanged.

    Raises:
        BenchmarkError: another kind of file, or a tensor that the base does not have.
        OSError: the file cannot be read.
    """
    try:
        with np.load(path) as stored:
            deltas = {name: stored[name] for name in stored.files}
    except (AttributeError, ValueError, zipfile.BadZipFile) as error:
        raise BenchmarkError(f"{path}: expected numpy arrays in a .npz file") from error
    for name, delta in deltas.items():
        spec = base.layout.index.get(name)
        if spec is None or spec.shape != delta.shape:
            raise BenchmarkError(f"{path}: tensor {name}: expected one of the base, of its shape")
        if spec.dtype is not Dtype.FLOAT32 or delta.dtype != np.float32:
            raise BenchmarkError(f"{path}: tensor {name}: expected float32 and a base of float32")
        if not np.isfinite(delta).all():
            raise BenchmarkError(f"{path}: tensor {name}: expected finite deltas")
    return deltas


def _scaled(rates: NDArray[np.float64], density: float) -> NDArray[np.float64]:
    """Rates in proportion, at most 0.9, whose mean is the density."""
    for _ in range(50):
        rates = np.minimum(rates * (density / rates.mean()), 0.9)
    return rates
