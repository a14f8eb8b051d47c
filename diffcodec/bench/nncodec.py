"""NNCodec (ISO/IEC 15938-17) as a peer, in an interpreter of its own.

It pins numpy < 2 and needs torch, so it cannot live beside us. `nncodec_worker.py` is run by an
interpreter that has it and stays for all rounds, takes the time itself, and reports one line of
JSON for each command; starting it and handing levels over is on nobody's clock.
"""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import numpy as np

from diffcodec.bench.errors import BenchmarkError
from diffcodec.bench.peer import NO_LEVELS, Coded
from diffcodec.bench.work import Work

WORKER = Path(__file__).with_name("nncodec_worker.py")
HOW_TO_GET = (
    "an environment of its own (numpy < 2, torch): python3 -m venv nn && "
    "nn/bin/pip install nncodec; then --nncodec nn/bin/python"
)
PROBE_TIMEOUT_S = 120.0
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class NnCodec:
    """int32 levels, lossless, parameter optimisation and row skipping on; used in a `with` block.

    Args:
        python: An interpreter that has nncodec; None: nobody named one.
    """

    name = "NNCodec"
    is_in_process = False

    def __init__(self, python: Path | None) -> None:
        self._python = python
        self._worker: _Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def absence(self, work: Work) -> str | None:
        """No levels, no interpreter, or one without the package."""
        if work.diff is None:
            return NO_LEVELS
        if self._python is None:
            return HOW_TO_GET
        try:
            ended = subprocess.run(
                [self._python, "-I", "-c", "import nncodec"],
                capture_output=True,
                timeout=PROBE_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{self._python}: {error}"
        return f"{self._python} has no nncodec; {HOW_TO_GET}" if ended.returncode else None

    def encode(self, work: Work) -> Coded[bytes]:
        """From dense int32 levels to its bitstream."""
        worker = self._ready(work)
        answer = worker.ask("encode")
        return Coded(worker.stream.read_bytes(), answer["seconds"], answer["peak_bytes"])

    def decode(self, work: Work, data: bytes) -> Coded[Any]:
        """To dense int32 levels; the value is their SHA-256 as int8, in layout order."""
        answer = self._ready(work).ask("decode")
        return Coded(answer["sha256"], answer["seconds"], answer["peak_bytes"])

    def is_right(self, work: Work, decoded: Any) -> bool:
        """Every level."""
        content = hashlib.sha256()
        for spec in work.base.layout.tensors:
            content.update(work.dense_levels[spec.name].tobytes())
        return bool(decoded == content.hexdigest())

    def _ready(self, work: Work) -> "_Worker":
        if self._worker is not None and self._worker.work is not work:
            self._worker.close()
            self._worker = None
        if self._worker is None:
            if self._python is None:
                raise BenchmarkError(f"NNCodec: {HOW_TO_GET}")
            self._worker = _Worker(self._python, work)
        return self._worker


class _Worker:
    """The process, and the folder through which levels and bitstream pass."""

    def __init__(self, python: Path, work: Work) -> None:
        self.work = work
        self._folder = TemporaryDirectory()
        folder = Path(self._folder.name)
        self.stream = folder / "stream"
        names = [spec.name for spec in work.base.layout.tensors]
        (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
        for number, name in enumerate(names):
            np.save(folder / f"{number}.npy", work.dense_levels[name])
        self._log = (folder / "log").open("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [python, "-I", WORKER, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=folder,
            env={**os.environ, **dict.fromkeys(THREADS, "1")},
        )

    def ask(self, command: str) -> dict[str, Any]:
        """Have one run done.

        Raises:
            BenchmarkError: the worker ended; with the last line of what it said.
        """
        commands, answers = self._process.stdin, self._process.stdout
        try:
            if commands is None or answers is None:
                raise OSError("no pipes")
            commands.write(f"{command}\n")
            commands.flush()
            answer: dict[str, Any] = json.loads(answers.readline())
        except (OSError, ValueError) as error:
            self._log.seek(0)
            said = self._log.read().strip().splitlines()[-1:] or ["no reason given"]
            raise BenchmarkError(f"NNCodec: its process ended: {said[0]}") from error
        return answer

    def close(self) -> None:
        """End the process and remove the folder."""
        self._process.terminate()
        self._process.communicate()
        self._log.close()
        self._folder.cleanup()
