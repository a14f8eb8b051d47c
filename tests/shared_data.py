"""Where tests find the real recordings and diffs that are not part of the repository."""

import os
from pathlib import Path

import pytest

DEFAULT = Path(__file__).parents[2] / "shared" / "data"


def shared_data(name: str) -> Path:
    """The folder of a real data set, or skip the calling test with the reason.

    $NEURALDIFF_DATA names another folder than ../shared/data beside the repository.
    """
    folder = Path(os.environ.get("NEURALDIFF_DATA", DEFAULT)) / name
    if not folder.exists():
        pytest.skip(f"needs the real data in {folder}")
    return folder
