"""Recognise speech with the installed generation, by ONNX Runtime on one CPU thread.

A spoken-command model answers with one of its phrases, a transducer (RNN-T) with a sentence; the
card says which of the two a generation is, and every answer has a `text`.

    >>> recognizer = Recognizer.open(EdgeHome(Path("home")))
    >>> recognizer.transcribe("seven.wav")
    NearestPhrase(phrase='seven', distance=0.41)

    >>> listener = recognizer.listen()
    >>> for samples in microphone:
    ...     listener.feed(samples)
    ...     print(listener.text)          # the best so far
    >>> listener.finish().text

recognizer   opens a generation, says whether it is healthy
commands     the nearest phrase               transducer   the networks of an RNN-T, streaming
session      the seam to ONNX Runtime         search       greedy and beam search
golden       what a publisher saw it answer   cli          `ota-edge infer`
"""

from edge_client.inference.answers import Listener, NearestPhrase, Sentence, Transcript
from edge_client.inference.golden import check_golden
from edge_client.inference.recognizer import Recognizer, check_health
from edge_client.inference.search import BEAM_WIDTH

__all__ = [
    "BEAM_WIDTH",
    "Listener",
    "NearestPhrase",
    "Recognizer",
    "Sentence",
    "Transcript",
    "check_golden",
    "check_health",
]
