"""The contrastive objective.

Letters: B batch, C phrases, E embedding size.
"""

from torch import Tensor, nn


def triplet_loss(speech: Tensor, text: Tensor, labels: Tensor, margin: float = 0.3) -> Tensor:
    """Triplet loss over every phrase of the set (neural diff paper 4.2; Hermans et al. 2017).

    The batch is mined on line: an utterance is the anchor, its own phrase the positive, and
    every other phrase that comes within the margin counts as a negative. L2 distances.

    Args:
        speech: (B, E), of unit length.
        text: (C, E), of unit length.
        labels: int64 (B,), the index of each utterance's phrase.
        margin: How much nearer the right phrase must be.

    Returns:
        Scalar: the sum over negatives, averaged over the batch.
    """
    # Of unit vectors |s - t|^2 = 2 - 2 s.t; the clamp keeps the root's gradient finite.
    distances = (2.0 - 2.0 * speech @ text.T).clamp_min(1e-9).sqrt()
    positive = distances.gather(1, labels[:, None])
    violations = (positive - distances + margin).clamp_min(0.0)
    is_positive = nn.functional.one_hot(labels, text.shape[0]).bool()
    return violations.masked_fill(is_positive, 0.0).sum(dim=1).mean()
