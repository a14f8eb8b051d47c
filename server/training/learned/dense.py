"""Every weight is free: training from scratch (BL) and dense fine-tuning of F_t (FT)."""

from torch import Tensor

from diffcodec import Coder, encode, lossless_diff
from server.training.learned.diff import LearnedDiff
from server.training.parameters import to_parameters


class Exact(LearnedDiff):
    """A diff that leaves as a lossless file, whatever that weighs."""

    def encode(
        self, budget_bytes: int | None = None, coders: tuple[Coder, ...] | None = None
    ) -> bytes:
        """The exact weights and statistics; a budget is not looked at."""
        return self.file_of_weights(None, coders or self.coders)

    def file_of_weights(self, budget_bytes: int | None, coders: tuple[Coder, ...]) -> bytes:
        """The exact weights; a budget is not looked at."""
        return encode(lossless_diff(self.base, to_parameters(self.model)), self.base, coders)


class Dense(Exact):
    """The unconstrained baseline."""

    def free(self) -> list[Tensor]:
        """The module's own weights."""
        return list(self.weights.values())

    def after_step(self) -> None:
        """The optimiser has stepped the weights themselves."""
