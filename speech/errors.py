"""Errors of the speech package.

SpeechError
├── AudioError    a recording cannot be read or holds no sound: leave it out or replace it
├── CorpusError   a corpus folder breaks its contract: mend the manifest
└── CardError     a model's card cannot be read: fetch it again
"""


class SpeechError(Exception):
    """Base of all errors of this package; the message is one line for people."""


class AudioError(SpeechError):
    """A recording cannot be used. The message names the file and what was found."""


class CorpusError(SpeechError):
    """A corpus folder cannot be used. The message names the row or column and what was expected."""


class CardError(SpeechError):
    """A model's card cannot be read. The message says what was expected."""
