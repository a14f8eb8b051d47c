"""Errors of the training recipes.

TrainingError
├── CheckpointError        not a checkpoint of this training: remove it, or train what it is of
├── DivergedError          the loss is not finite: lower the learning rate or look at the data
├── ProcessLostError       another process of the training ended: start them all again
└── TrainingRequestError   what was asked for does not fit together: mend the request
"""


class TrainingError(Exception):
    """Base of all errors of this package; the message is one line for people."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be gone on with. The message names the file."""


class DivergedError(TrainingError):
    """Training cannot go on. The message names the step and the last good checkpoint."""


class ProcessLostError(TrainingError):
    """One of several processes ended. The same command goes on at the checkpoint."""


class TrainingRequestError(TrainingError):
    """A recipe was asked for something impossible. The message says what was expected."""
