"""What an update costs the device: bytes, time, memory, and room on the disk."""

import resource
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from edge_client import durable
from edge_client.errors import DiskFullError
from edge_client.meter import Traffic

SPARE_BYTES = 1 << 20
"""Kept free beyond what the files need: records, pointers, the file system's own blocks."""


@dataclass(frozen=True)
class Costs:
    """What an update took.

    Attributes:
        downloaded_bytes: Length of the files that were fetched: diffs, graph and card.
        apply_s: Wall-clock seconds to apply the diffs.
        apply_peak_rss_bytes: Most memory resident until the diffs were applied.
        traffic: Bytes on the wire, all calls included.
    """

    downloaded_bytes: int = 0
    apply_s: float = 0.0
    apply_peak_rss_bytes: int = 0
    traffic: Traffic = field(default_factory=Traffic)


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
