"""A digest of the project's own code: results are reused only while what makes them is the same."""

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path


def source_digest(packages: Sequence[str]) -> str:
    """Hex SHA-256 over the Python files of packages, and the data that they decide by (json)."""
    content = hashlib.sha256()
    for path in _source_files(packages):
        content.update(path.name.encode() + b"\0" + path.read_bytes())
    return content.hexdigest()


def _source_files(packages: Sequence[str]) -> Iterator[Path]:
    for package in packages:
        spec = importlib.util.find_spec(package)
        folders = spec.submodule_search_locations if spec is not None else None
        for folder in folders or ():
            files = Path(folder).rglob("*")
            yield from sorted(path for path in files if path.suffix in (".py", ".json"))
