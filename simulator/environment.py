"""What a result depends on besides its seed: commit, machine, versions."""

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

LIBRARIES = ("numpy", "torch", "onnxruntime", "grpcio")


def describe_environment() -> Mapping[str, str]:
    """Name and value of each, for a report."""
    versions = {f"{name} version": _version(name) for name in LIBRARIES}
    return {
        "commit": _commit(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.machine()}",
        "accelerator": _accelerator(),
        "system": platform.platform(terse=True),
        "python version": platform.python_version(),
        **versions,
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """The commit of the checkout that runs, with a mark where it was changed; else the version."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return f"no checkout, neuraldiff {_version('neuraldiff')}"
    return commit + (" with local changes" if changes else "")


def _accelerator() -> str:
    """What torch learns on beside the processor; the devices never use it."""
    import torch  # takes seconds: not for `ota-sim --help`

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
