"""The tiny transducer of tests/vectors/edge_transducer, and the same networks in plain numpy."""

from pathlib import Path

import numpy as np

from diffcodec import ParameterSet
from speech.card import Piece, TransducerCard

HIDDEN, ENCODED, EMBEDDING = 8, 6, 4
PIECES = ("▁the", "▁a", "▁light", "s", "▁on", "▁o", "ff", "▁", "é")
VOCABULARY = len(PIECES) + 1

MODEL = Path(__file__).parents[2] / "vectors" / "edge_transducer" / "model.onnx"
CARD = TransducerCard(
    tuple(Piece(text, -float(k)) for k, text in enumerate(PIECES)),
    encoder_layers=1,
    prediction_layers=1,
    hidden=HIDDEN,
)


def weights(seed: int) -> ParameterSet:
    """A generation; large weights, so that what is heard and said matters."""
    rng = np.random.default_rng(seed)
    shapes = {
        "encoder.projection.bias": (ENCODED,),
        "encoder.projection.weight": (ENCODED, HIDDEN),
        "joint.bias": (VOCABULARY,),
        "joint.weight": (VOCABULARY, ENCODED),
        "prediction.embedding": (VOCABULARY, EMBEDDING),
        "prediction.projection.bias": (ENCODED,),
        "prediction.projection.weight": (ENCODED, HIDDEN),
    }
    for side, width in (("encoder", 192), ("prediction", EMBEDDING)):
        shapes |= {
            f"{side}.lstm.0.W": (1, 4 * HIDDEN, width),
            f"{side}.lstm.0.R": (1, 4 * HIDDEN, HIDDEN),
            f"{side}.lstm.0.B": (1, 8 * HIDDEN),
        }
    arrays = {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["encoder.projection.weight"] *= 4
    arrays["prediction.projection.weight"] *= 4
    # Most frames say nothing.
    arrays["joint.bias"][0] = 3
    return ParameterSet.from_arrays(arrays)


class NumpyNetworks:
    """The networks of a search, in float64 and one hypothesis at a time.

    A prediction is its row and the state (h, c).
    """

    def __init__(self, of: ParameterSet) -> None:
        self._of = {name: array.astype(np.float64) for name, array in of.arrays.items()}

    def encode(self, features: np.ndarray) -> np.ndarray:
        state = (np.zeros(HIDDEN), np.zeros(HIDDEN))
        rows = []
        for frame in features:
            row, state = self._step("encoder", frame, state)
            rows.append(row)
        return np.array(rows)

    def begin(self):
        return self._step(
            "prediction",
            self._of["prediction.embedding"][0],
            (np.zeros(HIDDEN), np.zeros(HIDDEN)),
        )

    def predict(self, previous, pieces):
        embedding = self._of["prediction.embedding"]
        return [
            self._step("prediction", embedding[piece], state)
            for (_, state), piece in zip(previous, pieces, strict=True)
        ]

    def log_probs(self, frame, predictions):
        rows = np.array([row for row, _ in predictions])
        logits = np.tanh(frame + rows) @ self._of["joint.weight"].T + self._of["joint.bias"]
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def _step(self, side: str, x, state):
        """An LSTM step by its definition (gates i, o, f, c) and the projection."""
        h, c = state
        w, r, b = (self._of[f"{side}.lstm.0.{name}"][0] for name in "WRB")
        gates = w @ x + r @ h + b[: 4 * HIDDEN] + b[4 * HIDDEN :]
        i, o, f = (1 / (1 + np.exp(-gate)) for gate in np.split(gates, 4)[:3])
        c = f * c + i * np.tanh(np.split(gates, 4)[3])
        h = o * np.tanh(c)
        row = self._of[f"{side}.projection.weight"] @ h + self._of[f"{side}.projection.bias"]
        return row, (h, c)
