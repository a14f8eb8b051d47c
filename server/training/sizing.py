"""How much of a diff is free for a size, before the encoded file decides."""

import numpy as np

from diffcodec import Layout
from diffcodec.fitting.hash_fit import array_lengths as lengths_by_ratio
from server.training.errors import TrainingRequestError
from server.training.request import TrainingRequest

CLUSTERING = 1.25
"""How many more non-zeros a file carries than independent positions would allow."""
FEWEST = 1 / 2**32


def aimed_density(size: int, budget_bytes: int) -> float:
    """The share of weights to prune down to before the encoded file decides.

    Positions that are independent coins of density d cost H(d) bits a weight, levels about two
    bits a non-zero. Learned diffs cluster and cost less, so the aim is higher than that.

    Args:
        size: Parameters of the model.
        budget_bytes: Limit of the file.
    """
    densities = np.geomspace(1e-6, 0.5, 2_000)
    entropy = -densities * np.log2(densities) - (1 - densities) * np.log2(1 - densities)
    fitting = densities[(entropy + 2 * densities) * size <= 8 * budget_bytes]
    return min(1.0, CLUSTERING * float(fitting.max(initial=densities[0])))


def array_lengths(layout: Layout, request: TrainingRequest, entry_bits: float) -> dict[str, int]:
    """Lengths of the arrays of a hash diff, by tensor: each the same share of its tensor.

    Args:
        layout: Of the model.
        request: Names the size.
        entry_bits: What an entry may cost where the size is one of bytes.

    Raises:
        TrainingRequestError: there is no size.
    """
    if request.nominal_ratio is not None:
        return lengths_by_ratio(layout, 1.0 / request.nominal_ratio)
    if request.budget_bytes is None:
        raise TrainingRequestError(f"recipe {request.recipe}: expected a budget, found none")
    share = 8 * request.budget_bytes / entry_bits / layout.parameter_count
    return lengths_by_ratio(layout, min(1.0, max(FEWEST, share)))
