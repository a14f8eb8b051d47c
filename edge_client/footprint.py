"""What the update costs the device: memory that was used, room on the disk that is needed."""

import resource
import shutil
from pathlib import Path

from edge_client import durable
from edge_client.errors import DiskFullError

SPARE_BYTES = 1 << 20
"""Kept free beyond what the files need: records, pointers, the file system's own blocks."""


def peak_rss_bytes() -> int:
    """The most memory that this process has had resident.

    Read from /proc, because getrusage also counts what the parent had when it started us: a
    device that is started by a training process would seem to need gigabytes.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def require_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Refuse to begin what cannot be finished.

    Args:
        folder: Any folder on the disk in question.
        needed_bytes: What is about to be written there, less what is removed before.
        purpose: For the message.

    Raises:
        DiskFullError: less is free.
    """
    with durable.storage_errors(f"cannot ask for the free space of {folder}"):
        free = shutil.disk_usage(folder).free
    if needed_bytes + SPARE_BYTES > free:
        raise DiskFullError(
            f"expected {needed_bytes + SPARE_BYTES} bytes free in {folder} for {purpose}, "
            f"found {free}"
        )
