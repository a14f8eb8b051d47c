"""The device: follows a model, one generation after another, and recognises speech with it.

A *home* is the folder of one device. `update` brings it to the generation that the server offers,
`Recognizer` answers with the generation that it holds. Whatever goes wrong in between, the home
holds the old generation or the new one, never a mixture and never none.

Not for: training, diffs (package diffcodec) or audio features (package speech). Never imports
torch, onnx, a database, or the server.

    >>> from edge_client import EdgeHome, Recognizer, update
    >>> home = EdgeHome(Path("home"))
    >>> update(home).after.number
    4
    >>> Recognizer.open(home).transcribe("seven.wav").text
    'seven'
"""

from edge_client.enrollment import Wanted, enroll
from edge_client.errors import (
    ConfigurationError,
    EdgeError,
    RejectedError,
    RetryLaterError,
)
from edge_client.home import EdgeHome
from edge_client.inference import Recognizer, Transcript
from edge_client.updater import UpdateResult, update

__all__ = [
    "ConfigurationError",
    "EdgeError",
    "EdgeHome",
    "Recognizer",
    "RejectedError",
    "RetryLaterError",
    "Transcript",
    "UpdateResult",
    "Wanted",
    "enroll",
    "update",
]
