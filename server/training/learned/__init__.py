"""Learning a diff on any torch module, with any loss (neural diff paper, section 3).

    Dense      every weight is free                             BL, FT
    Sparse     an additive diff, pruned as it learns            3.1, BLC; levels in the loop
    Hashed     a multiplicative diff of shared values           3.2, BLC
    Int8Grid   an additive diff of whole levels                 devices that compute in int8
    Lora       low-rank adapters, for comparison
    LowRank    low-rank factors with sparse levels above them

All of them go around an optimiser's step and leave the training loop as it was. `wrap` chooses
and sets up a method for a budget, `wrap_int8` for devices that compute in int8;
docs/guides/learn-a-diff.md has examples.
"""

from server.training.learned.dense import Dense
from server.training.learned.diff import LearnedDiff
from server.training.learned.hashed import Hashed
from server.training.learned.int8 import Int8Grid
from server.training.learned.lora import Lora
from server.training.learned.lowrank import LowRank
from server.training.learned.methods import wrap, wrap_int8
from server.training.learned.scores import by_fisher, by_magnitude
from server.training.learned.sparse import Pruning, Sparse

__all__ = [
    "Dense",
    "Hashed",
    "Int8Grid",
    "LearnedDiff",
    "Lora",
    "LowRank",
    "Pruning",
    "Sparse",
    "by_fisher",
    "by_magnitude",
    "wrap",
    "wrap_int8",
]
