"""What a home holds, for a test to compare."""

from diffcodec import ParameterSet
from edge_client import EdgeHome


def stored(home: EdgeHome) -> ParameterSet:
    """The weights that serve."""
    slot = home.slots.active()
    assert slot is not None
    return ParameterSet.read(slot.weights, slot.layout())


def content_of(home: EdgeHome) -> dict[str, bytes]:
    """Every byte of the active slot, and the pointer."""
    slot = home.slots.active()
    assert slot is not None
    files = {path.name: path.read_bytes() for path in sorted(slot.path.iterdir())}
    return {"current": home.slots.pointer.read_bytes(), **files}
