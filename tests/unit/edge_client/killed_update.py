"""Run one update and kill this process at a change of the disk (power_cut.py, test_power_cut.py).

    python -m tests.unit.edge_client.killed_update HOME before|after|during WHERE

`during write NAME` kills as soon as the file has its first bytes, while the codec is at work on
the next.
"""

import sys
from pathlib import Path
from typing import Any

from edge_client import EdgeHome, update
from tests.unit.edge_client.power_cut import cut_power, die

HOME, WHEN, WHERE = sys.argv[1:]
cut_power(WHEN, WHERE)

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
