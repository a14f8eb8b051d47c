"""How the sparse model of the coder `max` sees a tensor; part of the format."""

from dataclasses import dataclass

from diffcodec.parameters import matrix_of

# A vector is cut into rows of this length.
FLAT_WIDTH = 64
# Shorter rows are merged into rows of about twice that.
LEAST_WIDTH, MERGED_WIDTH = 16, 32
# Longer ones are cut: a decoder keeps state for each column.
MOST_WIDTH, FOLDED_WIDTH = 65_536, 4_096
# The history of three gates is kept for tensors of this size; small ones have nothing to
# tell, and a device holds it once for each layer.
LEAST_GATED, MOST_GATED = 256, 2**23


@dataclass(frozen=True)
class Matrix:
    """Rows of `width` elements, and gates.

    The tensor as a matrix (`matrix_of`); narrow matrices merge rows, very wide ones are cut,
    vectors are rows of 64.

    An LSTM stacks four gates along the first axis; both directions of one, (2, 4 H, I), along
    the second. Where that length is a multiple of four the element `lag` before, which is the
    same weight of the previous gate, is a context; `lag` is 0 where there is none.
    """

    size: int
    width: int
    lag: int

    @staticmethod
    def of(shape: tuple[int, ...]) -> "Matrix":
        """The view of a tensor of that shape; all sizes at least 1."""
        while len(shape) > 1 and shape[0] == 1:
            shape = shape[1:]
        rows, columns = matrix_of(shape)
        width = columns if rows > 1 else FLAT_WIDTH
        if width < LEAST_WIDTH:
            width *= -(-MERGED_WIDTH // width)
        if width > MOST_WIDTH:
            width = FOLDED_WIDTH
        size = rows * columns
        directions = 2 if len(shape) == 3 and shape[0] == 2 else 1
        stacked = shape[directions - 1] if shape else 1
        has_gates = stacked % 4 == 0 and LEAST_GATED <= size <= MOST_GATED
        return Matrix(size, width, size // (4 * directions) if has_gates else 0)
