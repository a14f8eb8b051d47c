"""Errors of the codec, grouped by what the caller should do.

CodecError
├── InputError            what was handed in cannot be used: mend it
│   ├── LayoutError       tensors do not match: use the weights that belong together
│   └── BudgetError       the budget cannot be met: allow more bytes
├── FormatError           not a diff file, or a damaged or hostile one: fetch it again
│   └── UnsupportedError  a version, method or coder that this build lacks: update the software
└── DigestError           the weights are not those that were promised: keep the old ones
    └── WrongBaseError    the diff was made for other weights: ask for another diff

Every message is one line for people and says what was expected and what was found. Errors of
the file system (`OSError`: no such file, no space left) pass through as they are.
"""


class CodecError(Exception):
    """Base of all errors of this package."""


class InputError(CodecError):
    """Weights, deltas or options that cannot be used. The message names the tensor or option."""


class LayoutError(InputError):
    """A layout is malformed, or two that must be equal differ. The message names the tensor."""


class BudgetError(InputError):
    """No file fits the budget. The message names the smallest that is possible."""


class FormatError(CodecError):
    """The bytes are not a well-formed diff file."""


class UnsupportedError(FormatError):
    """The file is of a version, method or coder that this build cannot decode."""


class DigestError(CodecError):
    """The rebuilt weights do not have the digest that the diff promises."""


class WrongBaseError(DigestError):
    """The base is not the one that the diff was made for."""
