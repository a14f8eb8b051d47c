"""Run in an environment with the edge extra alone: the device needs nothing more.

    .venv-edge/bin/python tests/architecture/edge_only.py

Exits with a message when torch or another server package is there, or when the client's
program does not start without them.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

ABSENT = (
    "torch",
    "sqlalchemy",
    "alembic",
    "onnx",
    "matplotlib",
    "protovalidate",
    "prometheus_client",
)


def main() -> str | None:
    present = [name for name in ABSENT if importlib.util.find_spec(name)]
    if present:
        return f"expected an environment without {', '.join(ABSENT)}, found {', '.join(present)}"
    imported = subprocess.run([sys.executable, "-c", "import torch"], capture_output=True)
    if imported.returncode == 0:
        return "expected `import torch` to fail, but it worked"
    program = Path(sys.executable).with_name("ota-edge")
    subprocess.run([program, "--help"], check=True, stdout=subprocess.DEVNULL)
    print("edge only: no torch here, and ota-edge runs")
    return None


if __name__ == "__main__":
    sys.exit(main())
