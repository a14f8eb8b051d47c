"""How much memory a piece of work takes on top of what is there."""

import contextlib
import os
from collections.abc import Callable

from diffcodec.bench.nncodec_worker import grown_bytes, memory_bytes, reset_peak


def peak_growth_bytes(work: Callable[[], object]) -> int | None:
    """Run the work once more, in a forked copy of this process, and watch its peak.

    The copy shares what exists; what the work allocates is new. Processes that the work starts
    are not counted. None where there is no fork or no /proc, or the work failed.
    """
    if not hasattr(os, "fork") or not memory_bytes("VmRSS"):
        return None
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            reset_peak()
            before = memory_bytes("VmRSS")
            work()
            os.write(writer, str(grown_bytes(before)).encode())
        os._exit(0)  # nothing of the parent's may be flushed or closed twice
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return int(text) if text.isdigit() else None
