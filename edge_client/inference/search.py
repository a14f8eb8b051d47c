"""Find the likeliest words in what a transducer (RNN-T) says, frame by frame.

A transducer gives, for a frame and the words so far, the probability of every next piece and of
the blank, which ends the frame. Many paths of pieces and blanks spell the same words; their
probabilities add up (Graves 2012, section 2.5).

Pure search: the networks come in as a Protocol, so a table can stand for them.

    >>> search = search_of_width(networks, 16)
    >>> for frame in encoded:
    ...     search.advance(frame)
    >>> search.best
    Hypothesis(ids=(17, 4), log_probability=-0.31)

Letters: K hypotheses, V pieces and the blank, E width of an encoded frame.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

BLANK = 0

BEAM_WIDTH = 16
"""As in the neural diff paper, 4.1."""

MOST_PER_FRAME = 8
"""Pieces within one frame of 30 ms. Speech has about one in three frames, but a transducer may
hold them back and say several at once."""

NEGLIGIBLE = 7.0
"""A path this much below another one to the same pieces adds less than a thousandth to it."""

PREDICTIONS_PER_HYPOTHESIS = 32
"""What is remembered; at the sizes of the paper 20 KB each."""

P = TypeVar("P")
"""What the prediction network knows after some pieces: opaque here."""


class Networks(Protocol[P]):
    """The part of a transducer that depends on the words so far."""

    def begin(self) -> P:
        """What the prediction network says before the first piece."""

    def predict(self, previous: Sequence[P], pieces: Sequence[int]) -> Sequence[P]:
        """What it says after one more piece each, for K hypotheses at once."""

    def log_probs(
        self, frame: NDArray[np.float32], predictions: Sequence[P]
    ) -> NDArray[np.float32]:
        """Log-probabilities of the next piece, (K, V); the frame is (E,), BLANK ends it."""


@dataclass(frozen=True)
class Hypothesis:
    """Pieces, and the log-probability of the paths to them that the search went."""

    ids: tuple[int, ...]
    log_probability: float


class Search(Protocol):
    """A search through the frames of one recording."""

    @property
    def best(self) -> Hypothesis:
        """The likeliest pieces so far."""

    def advance(self, frame: NDArray[np.float32]) -> None:
        """Go on by one frame, float32 (E,)."""


def search_of_width(
    networks: Networks[P], width: int, most_per_frame: int = MOST_PER_FRAME
) -> Search:
    """Begin a search that follows so many hypotheses; one alone is followed greedily.

    Raises:
        ValueError: the width is less than 1.
    """
    if width < 1:
        raise ValueError(f"expected a beam of 1 or more, found {width}")
    if width == 1:
        return GreedySearch(networks, most_per_frame)
    return BeamSearch(networks, width, most_per_frame)


class GreedySearch(Generic[P]):
    """Take the likeliest piece, again and again, until it is the blank."""

    def __init__(self, networks: Networks[P], most_per_frame: int = MOST_PER_FRAME) -> None:
        self._networks = networks
        self._most_per_frame = most_per_frame
        self._prediction = networks.begin()
        self.best = Hypothesis((), 0.0)

    def advance(self, frame: NDArray[np.float32]) -> None:
        """Go on by one frame, float32 (E,)."""
        for count in range(self._most_per_frame + 1):
            (log_probs,) = self._networks.log_probs(frame, [self._prediction])
            piece = int(np.argmax(log_probs)) if count < self._most_per_frame else BLANK
            score = self.best.log_probability + float(log_probs[piece])
            if piece == BLANK:
                self.best = Hypothesis(self.best.ids, score)
                return
            self.best = Hypothesis((*self.best.ids, piece), score)
            (self._prediction,) = self._networks.predict([self._prediction], [piece])


@dataclass(frozen=True)
class _Path(Generic[P]):
    """A hypothesis with what the prediction network says after it."""

    ids: tuple[int, ...]
    score: float
    prediction: P


class BeamSearch(Generic[P]):
    """Follow the K likeliest hypotheses, time-synchronously (Saon et al. 2020, "TSD").

    In every frame the hypotheses grow by up to `most_per_frame` pieces, all of them by one in
    each step, so that the networks run once a step. What a blank ends is merged: paths to the same
    pieces add up. With K so large that nothing is left out the log-probabilities are exact.
    """

    def __init__(
        self, networks: Networks[P], width: int, most_per_frame: int = MOST_PER_FRAME
    ) -> None:
        self._networks = networks
        self._width = width
        self._most_per_frame = most_per_frame
        self._beam: list[_Path[P]] = [_Path((), 0.0, networks.begin())]
        self._predictions = _PredictionCache(networks, PREDICTIONS_PER_HYPOTHESIS * width)

    @property
    def best(self) -> Hypothesis:
        """The likeliest pieces so far."""
        return Hypothesis(self._beam[0].ids, self._beam[0].score)

    def advance(self, frame: NDArray[np.float32]) -> None:
        """Go on by one frame, float32 (E,)."""
        ended: dict[tuple[int, ...], _Path[P]] = {}
        growing = self._beam
        for count in range(self._most_per_frame + 1):
            predictions = [path.prediction for path in growing]
            log_probs = self._networks.log_probs(frame, predictions).astype(np.float64)
            scores = np.array([[path.score] for path in growing]) + log_probs
            for path, score in zip(growing, scores[:, BLANK].tolist(), strict=True):
                _merge(ended, _Path(path.ids, score, path.prediction))
            if count == self._most_per_frame:
                break
            growing = self._grown(growing, scores, ended)
            if not growing:
                break
        self._beam = _likeliest(ended.values(), self._width)

    def _grown(
        self,
        paths: Sequence[_Path[P]],
        scores: NDArray[np.float64],
        ended: Mapping[tuple[int, ...], _Path[P]],
    ) -> list[_Path[P]]:
        """The K likeliest paths with one more piece, of those that can still matter."""
        flat = scores[:, BLANK + 1 :].ravel()
        chosen = np.flatnonzero(self._is_of_use(paths, scores, ended))
        if len(chosen) > self._width:
            chosen = chosen[np.argpartition(flat[chosen], -self._width)[-self._width :]]
        rows, columns = np.divmod(chosen, scores.shape[1] - 1)
        parents = [paths[row] for row in rows]
        pieces = [int(column) + BLANK + 1 for column in columns]
        predictions = self._predictions.after(parents, pieces)
        return [
            _Path((*parent.ids, piece), float(score), prediction)
            for parent, piece, score, prediction in zip(
                parents, pieces, flat[chosen], predictions, strict=True
            )
        ]

    def _is_of_use(
        self,
        paths: Sequence[_Path[P]],
        scores: NDArray[np.float64],
        ended: Mapping[tuple[int, ...], _Path[P]],
    ) -> NDArray[np.bool_]:
        """Which paths with one more piece can still matter in this frame, (paths, V - 1).

        Scores only fall. So a path comes into the beam if it is likelier than the last that is in
        it now, or it adds something to another path to the same pieces.
        """
        if len(ended) < self._width:
            return np.ones((len(paths), scores.shape[1] - 1), np.bool_)
        lowest = _likeliest(ended.values(), self._width)[-1].score
        is_of_use: NDArray[np.bool_] = scores[:, BLANK + 1 :] > lowest
        rows = {path.ids: row for row, path in enumerate(paths)}
        for ids, path in ended.items():
            row = rows.get(ids[:-1]) if ids else None
            if row is not None and scores[row, ids[-1]] > path.score - NEGLIGIBLE:
                is_of_use[row, ids[-1] - BLANK - 1] = True
        return is_of_use


class _PredictionCache(Generic[P]):
    """What the prediction network says after some pieces: most are proposed again every frame."""

    def __init__(self, networks: Networks[P], capacity: int) -> None:
        self._networks = networks
        self._capacity = capacity
        self._known: OrderedDict[tuple[int, ...], P] = OrderedDict()

    def after(self, parents: Sequence[_Path[P]], pieces: Sequence[int]) -> Sequence[P]:
        """The predictions after one more piece each; the network runs once, for the unknown."""
        wanted = [(*parent.ids, piece) for parent, piece in zip(parents, pieces, strict=True)]
        unknown = [k for k, ids in enumerate(wanted) if ids not in self._known]
        if unknown:
            new = self._networks.predict(
                [parents[k].prediction for k in unknown], [pieces[k] for k in unknown]
            )
            self._known.update(zip((wanted[k] for k in unknown), new, strict=True))
        for ids in wanted:
            self._known.move_to_end(ids)
        found = [self._known[ids] for ids in wanted]
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return found


def _merge(ended: dict[tuple[int, ...], _Path[P]], path: _Path[P]) -> None:
    """Add a path; another one to the same pieces adds its probability."""
    other = ended.get(path.ids)
    if other is not None:
        path = replace(path, score=float(np.logaddexp(other.score, path.score)))
    ended[path.ids] = path


def _likeliest(paths: Iterable[_Path[P]], count: int) -> list[_Path[P]]:
    """So many paths, the likeliest first."""
    return sorted(paths, key=lambda path: -path.score)[:count]
