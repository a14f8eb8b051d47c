"""Small values for the server's tests."""

import hashlib
from datetime import UTC, datetime

from diffcodec import Coder
from server.domain import EVERY_DEVICE, Blob, Generation, Step

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def blob(name: str, length: int = 100) -> Blob:
    """A blob that has a name instead of bytes."""
    return Blob(hashlib.sha256(name.encode()).digest(), length)


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def generation(number: int, model: str = "digits", **changes: object) -> Generation:
    values: dict[str, object] = {
        "model": model,
        "number": number,
        "parent": number - 1 if number else None,
        "layout_fingerprint": digest("layout"),
        "digest": digest(f"{model} {number}"),
        "snapshot": blob(f"{model} snapshot {number}", 1000),
        "graph": blob("graph"),
        "card": blob("card"),
        "published_at": TIME,
    }
    return Generation(**{**values, **changes})  # type: ignore[arg-type]


def step(
    base: int | None,
    target: int,
    length: int,
    name: str = "",
    coders: frozenset[Coder] = EVERY_DEVICE,
) -> Step:
    diff = blob(f"{base} {target} {length} {name} {' '.join(sorted(coders))}", length)
    return Step(base, target, digest(f"digits {target}"), diff, coders)
