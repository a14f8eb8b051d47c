"""What a model is measured by, and which way is better.

slu    accuracy: the share of recordings whose phrase was recognised; higher is better
rnnt   WER, word error rate: edits over words of the reference; lower is better

>>> Metric.WER.points_below(best=0.08, own=0.10)
2.0
"""

from collections.abc import Sequence
from enum import StrEnum

from speech.words import WordErrors, word_errors


class TaskName(StrEnum):
    """What is learned: spoken commands, or speech recognition."""

    SLU = "slu"
    RNNT = "rnnt"


class Metric(StrEnum):
    """What a score is."""

    ACCURACY = "accuracy"
    WER = "wer"

    @classmethod
    def of(cls, task: TaskName) -> "Metric":
        """The metric of a task."""
        return cls.WER if task is TaskName.RNNT else cls.ACCURACY

    @property
    def heading(self) -> str:
        """For headings: accuracy %."""
        return "WER %" if self is Metric.WER else "accuracy %"

    @property
    def worse(self) -> str:
        """On which side of another score a worse one lies."""
        return "above" if self is Metric.WER else "below"

    @property
    def better(self) -> str:
        """On which side of another score a better one lies."""
        return "below" if self is Metric.WER else "above"

    def points_below(self, best: float, own: float) -> float:
        """How much worse a score is than another, in percentage points; negative: better."""
        return 100 * (own - best if self is Metric.WER else best - own)

    def score(self, texts: Sequence[str], answers: Sequence[str]) -> float:
        """The score of answers to recordings.

        Args:
            texts: What was said; at least one, and at least one word of it.
            answers: What was recognised, in the same order.

        Returns:
            0..1; a WER may be larger.
        """
        pairs = list(zip(texts, answers, strict=True))
        if self is Metric.ACCURACY:
            return sum(text == answer for text, answer in pairs) / len(pairs)
        return sum((word_errors(*pair) for pair in pairs), WordErrors()).rate
