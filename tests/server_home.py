"""What a server's home holds, for tests that look from outside."""

from pathlib import Path

from server.home import ServerHome


def generations(home: Path) -> int:
    """How many generations of `slu` were published."""
    opened = ServerHome.open(home)
    try:
        head = opened.registry.head("slu")
    finally:
        opened.close()
    return 0 if head is None else head.number + 1
