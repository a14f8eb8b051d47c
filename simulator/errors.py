"""Errors of the simulator.

SimulatorError
├── ScenarioError    a scenario is broken or does not fit its corpus: mend the file or the options
├── SynthesisError   speech cannot be synthesized: install the extra, or mend the phrases
├── JobError         a training job failed: mend the cause, then --resume keeps the finished ones
├── ProgramError     the server or a device said no or went away: its own words are in the message
├── RunFolderError   the --out folder is not what the command expects: choose another, or --resume
└── DisagreementError  device and server disagree about a digest: nothing measured can be trusted
"""


class SimulatorError(Exception):
    """Base of all errors of this package; the message is one line for people."""


class ScenarioError(SimulatorError):
    """A scenario cannot be used. The message names the key and what was expected."""


class SynthesisError(SimulatorError):
    """Speech cannot be synthesized. The message says what is missing."""


class JobError(SimulatorError):
    """A training job failed. The message names the job; finished jobs are kept."""


class ProgramError(SimulatorError):
    """A real program that the simulator drives failed. The message holds its last words."""


class RunFolderError(SimulatorError):
    """A run's folder cannot be written or read as asked."""


class DisagreementError(SimulatorError):
    """A device holds other weights than the server published, and no error said so."""
