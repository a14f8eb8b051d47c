"""One diff by several coders, so that every device finds a file and takes the smallest it can.

A file by `fast` alone is what every device takes, so there is always one. Devices that decode
`max` are offered a file by it where that is smaller. All files of a diff lead to the same weights.

Not for: choosing among them, which is the planner's part.
"""

from diffcodec import (
    Coder,
    DecodedDiff,
    Layout,
    LosslessDiff,
    available_coders,
    decode,
    read_header,
)
from diffcodec.file import pack
from server.domain import EVERY_DEVICE
from server.errors import PublishError

MOST_LOSSLESS_BYTES = 64 * 2**20
"""Raw bytes that `max` is tried on. It codes about 10 MB of them a second, and whole weights (a
snapshot, a new layout) hardly ever shrink by it: longer than some seconds is not worth waiting.
Sparse, hashed and low-rank diffs say much less, and are tried at any size."""


def recoded(given: bytes, decoded: DecodedDiff, base: Layout | None) -> bytes | None:
    """The same diff for the devices that the given file does not serve best.

    Args:
        given: A diff file.
        decoded: What it says.
        base: Layout of its base; None for a snapshot.

    Returns:
        A file by `fast` where the given one needs more; else one by `max` where that is smaller
        and this machine can make it; else None.

    Raises:
        PublishError: the file does not say what the given one does. Only a fault of a coder can
            do that; devices must not be the ones to find it.
    """
    if not read_header(given).coders <= EVERY_DEVICE:
        file = pack(decoded.diff, decoded.target_digest, EVERY_DEVICE)
    elif Coder.MAX in available_coders() and _lossless_bytes(decoded) <= MOST_LOSSLESS_BYTES:
        file = pack(decoded.diff, decoded.target_digest, frozenset(Coder))
        if len(file) >= len(given):
            return None
    else:
        return None
    if decode(file, base) != decoded:
        raise PublishError("expected a diff that says the same by another coder, found another one")
    return file


def _lossless_bytes(decoded: DecodedDiff) -> int:
    changes = (change for _, change in decoded.diff.changes())
    return sum(change.xor.nbytes for change in changes if isinstance(change, LosslessDiff))
