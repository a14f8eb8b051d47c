"""NNCodec at work: `PYTHON -I nncodec_worker.py FOLDER`, commands on stdin, answers on stdout.

Run by another interpreter than ours, which has nncodec and an older numpy, so nothing of this
package is imported here. FOLDER holds names.json and an int8 array NUMBER.npy for each name;
the bitstream goes to FOLDER/stream. Commands are the lines `encode` and `decode`.
"""

import contextlib
import hashlib
import importlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np


def main(folder: Path) -> None:
    """Answer commands until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the library prints is no answer
    coder = importlib.import_module("nncodec.nnc")
    names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    # It knows no tensors without dimensions.
    stored = (np.atleast_1d(np.load(folder / f"{k}.npy")) for k in range(len(names)))
    levels = {name: array.astype(np.int32) for name, array in zip(names, stored, strict=True)}
    stream = bytearray()
    for line in sys.stdin:
        before = memory_bytes("VmRSS")
        reset_peak()
        start = time.perf_counter()
        if line.strip() == "encode":
            stream = coder.compress(
                dict(levels), return_bitstream=True, row_skipping=True, verbose=False
            )
            seconds, peak_bytes = time.perf_counter() - start, grown_bytes(before)
            (folder / "stream").write_bytes(stream)
            sha256 = None
        else:
            decoded = coder.decompress(stream)
            seconds, peak_bytes = time.perf_counter() - start, grown_bytes(before)
            sha256 = digest(decoded, names)
        answer = {"seconds": seconds, "peak_bytes": peak_bytes, "sha256": sha256}
        print(json.dumps(answer), file=answers)


def digest(decoded: "dict[str, np.ndarray]", names: "list[str]") -> str:
    """SHA-256 of all levels as int8, end to end."""
    content = hashlib.sha256()
    for name in names:
        content.update(np.ascontiguousarray(decoded[name], np.int8).tobytes())
    return content.hexdigest()


def grown_bytes(before: int) -> "int | None":
    """How far the peak lies above that; None where there is no /proc."""
    return max(0, memory_bytes("VmHWM") - before) if before else None


def memory_bytes(field: str) -> int:
    """VmRSS or VmHWM of this process; 0 where there is no /proc."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def reset_peak() -> None:
    """Let VmHWM start from the present, where the kernel allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
