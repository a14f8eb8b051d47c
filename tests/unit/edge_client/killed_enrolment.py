"""Enrol once and kill this process at a change of the disk (see test_identity.py).

    python -m tests.unit.edge_client.killed_enrolment HOME PORT CA before|after N

N counts fsyncs and renames.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_client import EdgeHome, Wanted, enroll
from edge_client.address import ServerAddress
from edge_client.identity import Credential

HOME, PORT, CA, WHEN, WHERE = sys.argv[1:]
changes = 0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


def watched(real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        global changes
        changes += 1
        here = changes == int(WHERE)
        if here and WHEN == "before":
            die()
        result = real(*arguments, **options)
        if here and WHEN == "after":
            die()
        return result

    return call


os.fsync = watched(os.fsync)
os.rename = watched(os.rename)
os.replace = watched(os.replace)

fleet = Credential.from_pem(Path(CA).read_bytes())
enroll(EdgeHome(Path(HOME)), ServerAddress("127.0.0.1", int(PORT)), Wanted("digits", "t"), fleet)
