"""Kill this process at a change of the disk, as a power cut would.

WHERE is `change N`, for the N-th fsync, rename or unlink, or one of them by name and by the
pattern of the file, such as `rename current`.
"""

import fnmatch
import itertools
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


def cut_power(when: str, where: str) -> None:
    """From now on, die `before` or `after` the change; other words for `when` change nothing."""
    changes = itertools.count(1)

    def watched(
        kind: str, real: Callable[..., Any], name_of: Callable[..., str]
    ) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            names = f"change {next(changes)}", f"{kind} {name_of(*arguments)}"
            is_here = names[0] == where or fnmatch.fnmatch(names[1], where)
            if is_here and when == "before":
                die()
            result = real(*arguments, **options)
            if is_here and when == "after":
                die()
            return result

        return call

    os.fsync = watched("fsync", os.fsync, name_of_descriptor)
    os.rename = watched("rename", os.rename, either_name)
    os.replace = watched("rename", os.replace, either_name)
    os.unlink = watched("unlink", os.unlink, lambda path: Path(path).name)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


def name_of_descriptor(descriptor: int) -> str:
    return Path(f"/proc/self/fd/{descriptor}").readlink().name


def either_name(source: Any, target: Any) -> str:
    """The file's final name, or for a download the one that it had."""
    return Path(source).name if str(source).endswith(".part") else Path(target).name
