"""Bytes as the neural diff paper counts them, which knows no coder.

A non-zero is a float32 value and an int32 index, 8 bytes. An entry of a hashed array, or of a
low-rank factor, is a float32 value, 4 bytes: its place needs no index. Of a tensor that travels
whole, every weight has 4 bytes. LoRA, which the paper does not have, is counted at its
best: factors in float16, 2 bytes a value. Our file has no such factors, so that its generations
leave whole.
"""

from diffcodec import Diff, HashDiff, LowRankDiff, SparseDiff, TensorDiff, TensorSpec

VALUE_BYTES, INDEX_BYTES, FLOAT16_BYTES = 4, 4, 2

WITH_INDEX = (
    "compressed_sparse",
    "paper_sparse",
    "sparse",
    "sparse_magnitude",
    "sparse_regrow",
    "sparse_feedback",
)
VALUES_ALONE = ("compressed_hash", "paper_hash", "hash")
"""Recipes, by what their values need."""


def paper_bytes(recipe: str, free_parameters: int, diff: Diff) -> int:
    """What a generation would take in the paper's format.

    Args:
        recipe: By which it was learned.
        free_parameters: Values that the recipe was free to choose.
        diff: The generation as it travels; it decides where a recipe mixes methods.
    """
    if recipe in WITH_INDEX:
        return (VALUE_BYTES + INDEX_BYTES) * free_parameters
    if recipe in VALUES_ALONE:
        return VALUE_BYTES * free_parameters
    if recipe == "lora":
        return FLOAT16_BYTES * free_parameters
    return sum(_of_change(change, diff.layout.index[name]) for name, change in diff.changes())


def _of_change(change: TensorDiff, spec: TensorSpec) -> int:
    if isinstance(change, SparseDiff):
        return (VALUE_BYTES + INDEX_BYTES) * change.positions.size
    if isinstance(change, HashDiff):
        return VALUE_BYTES * change.levels.size
    if isinstance(change, LowRankDiff):
        return VALUE_BYTES * (change.rows.size + change.columns.size)
    return VALUE_BYTES * spec.size
