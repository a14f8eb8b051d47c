"""What a recogniser answers, and how it is spoken to."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class NearestPhrase:
    """The nearest phrase and its distance: 0 for the same direction, 2 for the opposite one."""

    phrase: str
    distance: float

    @property
    def text(self) -> str:
        """The phrase."""
        return self.phrase


@dataclass(frozen=True)
class Sentence:
    """Words, and the natural logarithm of the probability that the search found for them."""

    text: str
    log_probability: float


Transcript = NearestPhrase | Sentence


class Listener(Protocol):
    """Hears one recording, in pieces of any length, while it is going on."""

    @property
    def text(self) -> str:
        """The best text so far; it may change. A spoken-command model answers at the end alone."""

    def feed(self, samples: NDArray[np.float32]) -> None:
        """Go on listening.

        Args:
            samples: float32, shape (N,), N >= 0, mono at 16 kHz.

        Raises:
            UnhealthyError: the model gives no usable answer.
        """

    def finish(self) -> Transcript:
        """End the recording; this listener is not used again.

        Raises:
            ValueError: no samples came.
            UnhealthyError: the model gives no usable answer.
        """
