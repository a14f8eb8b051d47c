"""Run one update and kill this process at a change of the disk (see test_power_cut.py).

    python -m tests.unit.edge_client.killed_update HOME before|after|during WHERE

WHERE is `change N`, for the N-th fsync, rename or unlink, or one of them by name and by the
pattern of the file, such as `rename current`. `during write NAME` kills as soon as the file has
its first bytes, while the codec is at work on the next.
"""

import fnmatch
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_client import EdgeHome, update

HOME, WHEN, WHERE = sys.argv[1:]
changes = 0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


def is_here(kind: str, name: str) -> bool:
    global changes
    changes += 1
    return f"change {changes}" == WHERE or fnmatch.fnmatch(f"{kind} {name}", WHERE)


def watched(kind: str, real: Callable[..., Any], name_of: Callable[..., str]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        here = is_here(kind, name_of(*arguments))
        if here and WHEN == "before":
            die()
        result = real(*arguments, **options)
        if here and WHEN == "after":
            die()
        return result

    return call


def name_of_descriptor(descriptor: int) -> str:
    return Path(f"/proc/self/fd/{descriptor}").readlink().name


def either_name(source: Any, target: Any) -> str:
    """The file's final name, or for a download the one that it had."""
    return Path(source).name if str(source).endswith(".part") else Path(target).name


os.fsync = watched("fsync", os.fsync, name_of_descriptor)
os.rename = watched("rename", os.rename, either_name)
os.replace = watched("rename", os.replace, either_name)
os.unlink = watched("unlink", os.unlink, lambda path: Path(path).name)

if WHEN == "during":
    import diffcodec.rebuild

    name = WHERE.removeprefix("write ")
    real_read = diffcodec.rebuild._read_into

    def read_into(*arguments: Any) -> Any:
        """Die at the second tensor of the file: the first is written, perhaps not flushed."""
        for path in Path(HOME).glob(f"slots/*/{name}"):
            read_into.calls[path] = read_into.calls.get(path, 0) + 1
            if read_into.calls[path] == 2:
                die()
        return real_read(*arguments)

    read_into.calls = {}
    diffcodec.rebuild._read_into = read_into

update(EdgeHome(Path(HOME)))
