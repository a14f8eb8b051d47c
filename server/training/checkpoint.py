"""A training on disk: stop it anywhere, go on later with the very same result.

One file, replaced as a whole every minute. It names the training that it belongs to and is
refused by any other.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from server.durable import replaced_file
from server.training.errors import CheckpointError

INTERVAL_S = 60.0


class Checkpoint:
    """Where a training keeps how far it is; without a path it keeps nothing."""

    def __init__(self, path: Path | None, training: str, interval_s: float = INTERVAL_S) -> None:
        """Name the file.

        Args:
            path: The file, there or not; None: keep nothing.
            training: What it is a checkpoint of; see `TrainingRequest.fingerprint`. Random streams
                are those of so many processes, too.
            interval_s: Seconds from one checkpoint to the next.
        """
        self.path = path
        self._training = training
        self._interval_s = interval_s
        self._saved_s = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time for the next one."""
        return self.path is not None and time.monotonic() - self._saved_s >= self._interval_s

    def save(self, state: Mapping[str, Any]) -> None:
        """Write how far the training is, whole or not at all."""
        if self.path is None:
            return
        with replaced_file(self.path) as file:
            torch.save({"training": self._training, "state": dict(state)}, file)
        self._saved_s = time.monotonic()

    def load(self) -> Mapping[str, Any] | None:
        """How far an earlier process came; None where there is nothing to go on with.

        Raises:
            CheckpointError: the file is damaged, or of another training.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            found = torch.load(self.path, map_location="cpu", weights_only=True)
            training, state = found["training"], found["state"]
        except Exception as error:  # torch's own, pickle's, zipfile's: no common base
            raise CheckpointError(
                f"{self.path}: expected a checkpoint, found a damaged file; remove it to start anew"
            ) from error
        if training != self._training:
            raise CheckpointError(
                f"{self.path}: expected a checkpoint of this training, found one of another "
                f"(recipe, data, seed, steps or number of processes differ); "
                "remove it to start anew"
            )
        return dict(state)

    def remove(self) -> None:
        """The training is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
