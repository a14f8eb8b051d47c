"""The example of diffs on somebody else's model runs, and the guide shows what it does."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from diffcodec.weights import read_weights

ROOT = Path(__file__).parents[2]
EXAMPLE, GUIDE = ROOT / "examples" / "learn_a_diff.py", ROOT / "docs" / "guides" / "learn-a-diff.md"


def test_the_example_ships_an_update_that_the_codec_applies(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE, "--steps", "20", "--out", tmp_path],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    first, dense, diff = done.stdout.splitlines()
    assert "of six classes" in first
    assert dense.endswith("bytes to send")
    assert float(re.search(r"([\d.]+)%", diff)[1]) > 17.0
    update = tmp_path / "update.ndiff"
    assert 0.9 * 20_000 < update.stat().st_size <= 20_000
    command = [Path(sys.executable).parent / "diffcodec", "apply", tmp_path / "base.safetensors"]
    subprocess.run([*command, update, "-o", tmp_path / "next.safetensors"], check=True)
    base, following = (read_weights(tmp_path / f"{n}.safetensors") for n in ("base", "next"))
    assert base.layout == following.layout
    assert base != following


def test_the_guide_shows_the_wrapping_as_the_example_has_it() -> None:
    source = EXAMPLE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    wrapping = next(block for block in blocks if block.startswith("def learn_update"))
    assert wrapping in source
    # As long as the guide says: wrap, train as usual, encode.
    assert len(wrapping.splitlines()) <= 20
    for block in blocks:
        compile(textwrap.dedent(block), "guide", "exec")
