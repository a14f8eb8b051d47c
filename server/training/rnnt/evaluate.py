"""The server's own measure of a recogniser: word error rate of greedy decoding, with torch.

The device decodes by beam search, in chunks, with ONNX Runtime; its measure is the one that
counts, and with a beam of one it must agree with this.

Letters: B batch, T feature frames, E width of the projections.
"""

import torch
from torch import Tensor

from diffcodec import ParameterSet
from server.training.parameters import to_weights
from server.training.rnnt.examples import Examples
from server.training.rnnt.model import BLANK, ModelConfig, RnntModel
from server.training.rnnt.pieces import Pieces
from speech.corpus import Corpus
from speech.words import WordErrors, word_errors

MOST_PIECES_A_FRAME = 8
"""More than anybody says in 30 ms: a model that is not trained yet must come to an end."""


def word_error_rate(
    parameters: ParameterSet, config: ModelConfig, corpus: Corpus, pieces: Pieces
) -> float:
    """Substitutions, deletions and insertions over the words that were said.

    Args:
        parameters: Weights in canonical layout.
        config: Sizes of the model that they belong to.
        corpus: Test utterances.
        pieces: What the model writes.

    Returns:
        0 is perfect; may exceed 1.

    Raises:
        ValueError: the corpus is empty.
    """
    if not corpus.utterances:
        raise ValueError("expected test utterances, found none")
    model = model_of(parameters, config)
    heard = transcribe(model, Examples.of(corpus, pieces), pieces)
    said = [u.text for u in corpus.utterances]
    return sum(map(word_errors, said, heard), WordErrors()).rate


def model_of(parameters: ParameterSet, config: ModelConfig) -> RnntModel:
    """The model with these weights, for evaluation.

    Raises:
        RuntimeError: the parameters are of other sizes.
    """
    with torch.device("meta"):
        model = RnntModel(config)
    model.load_state_dict(to_weights(parameters), assign=True)
    return model.eval()


@torch.no_grad()
def transcribe(
    model: RnntModel, examples: Examples, pieces: Pieces, batch_size: int = 64
) -> list[str]:
    """What the model hears in every example, by greedy decoding."""
    heard = []
    for batch in examples.in_order(batch_size):
        encoded, _ = model.encoder(batch.features)
        heard += [pieces.decode(ids) for ids in greedy(model, encoded, batch.frames)]
    return heard


def greedy(model: RnntModel, encoded: Tensor, frames: Tensor) -> list[list[int]]:
    """The most probable piece again and again, until it is blank; then the next frame.

    Args:
        model: In evaluation mode.
        encoded: (T, B, E), of the encoder.
        frames: int64 (B,), frames that count.

    Returns:
        For each utterance its ids, without blanks.
    """
    said: list[list[int]] = [[] for _ in frames]
    start = frames.new_full((1, len(said)), BLANK)
    predicted, states = model.prediction(start)
    for t, frame in enumerate(encoded):
        rows = (t < frames).nonzero()[:, 0]
        for _ in range(MOST_PIECES_A_FRAME):
            best = model.log_probs(frame[rows], predicted[0, rows]).argmax(dim=-1)
            rows, best = rows[best != BLANK], best[best != BLANK]
            if not len(rows):
                break
            for k, piece in zip(rows.tolist(), best.tolist(), strict=True):
                said[k].append(piece)
            before = tuple((h[:, rows], c[:, rows]) for h, c in states)
            predicted[:, rows], after = model.prediction(best[None], before)
            for (h, c), (h_next, c_next) in zip(states, after, strict=True):
                h[:, rows], c[:, rows] = h_next, c_next
    return said
