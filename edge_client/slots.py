"""Two places for a generation, and a pointer that says which one serves (A/B).

    HOME/current                     "a" or "b"; absent before the first update
    HOME/slots/a/weights.bin         flat store, 4096-byte offsets
    HOME/slots/a/layout.json         names, dtypes and shapes of its tensors
    HOME/slots/a/model.onnx          graph; its external initializers lie in weights.bin
    HOME/slots/a/card.json           what the model is and its phrases
                                     (graph or card is absent where the model has none)
    HOME/slots/a/generation.json     number, digest, SHA-256 of graph and card

Rules: the active slot is never written. The pointer only ever moves to a VerifiedSlot, and only
`Slot.verify` makes one, by reading back everything that the slot holds.

    >>> passive = slots.passive()
    >>> passive.clear()
    >>> ...                                      # fill it
    >>> slots.activate(passive.verify(record))
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from diffcodec import CodecError, Layout
from edge_client import durable
from edge_client.errors import DigestMismatchError, EdgeError, HomeError, StorageError
from edge_client.offer import Generation

SLOT_NAMES = ("a", "b")


@dataclass(frozen=True)
class SlotRecord:
    """What a slot holds: a generation, and the SHA-256 of its graph and card, where it has them.

    A model is recognised with by this package if it has both; one without a card is for another
    program, and one without a graph is weights alone.
    """

    generation: Generation
    graph_sha256: bytes | None
    card_sha256: bytes | None

    def to_json(self) -> str:
        """Serialise for generation.json."""
        content = {
            "number": self.generation.number,
            "digest": self.generation.digest.hex(),
            "graph_sha256": self.graph_sha256.hex() if self.graph_sha256 else None,
            "card_sha256": self.card_sha256.hex() if self.card_sha256 else None,
        }
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "SlotRecord":
        """Read generation.json.

        Raises:
            HomeError: it is not one.
        """
        try:
            content: Mapping[str, object] = json.loads(text)
            number = content["number"]
            if not isinstance(number, int):
                raise TypeError(f"number is {number!r}")
            digest = bytes.fromhex(str(content["digest"]))
            graph, card = (
                None if content[key] is None else bytes.fromhex(str(content[key]))
                for key in ("graph_sha256", "card_sha256")
            )
            return cls(Generation(number, digest), graph, card)
        except (ValueError, KeyError, TypeError, EdgeError) as error:
            raise HomeError(
                "expected JSON with number, digest, graph_sha256 and card_sha256"
            ) from error


@dataclass(frozen=True)
class Slot:
    """One of the two places. Paths only; what it holds is on the disk."""

    path: Path

    @property
    def name(self) -> str:
        """'a' or 'b'."""
        return self.path.name

    @property
    def weights(self) -> Path:
        """The flat store."""
        return self.path / "weights.bin"

    @property
    def graph(self) -> Path:
        """The ONNX model without its weights."""
        return self.path / "model.onnx"

    @property
    def card(self) -> Path:
        """The card, JSON."""
        return self.path / "card.json"

    def clear(self) -> None:
        """Empty the slot. Never call this for the active one."""
        durable.clear_folder(self.path)

    def save(self, layout: Layout, record: SlotRecord) -> None:
        """Write what describes the weights that lie here already, durably."""
        durable.write(self.path / "layout.json", layout.to_json().encode())
        durable.write(self.path / "generation.json", record.to_json().encode())

    def layout(self) -> Layout:
        """Read the layout of the weights.

        Raises:
            HomeError: layout.json is damaged.
            StorageError: it cannot be read.
        """
        path = self.path / "layout.json"
        try:
            return Layout.from_json(_read_text(path))
        except CodecError as error:
            raise HomeError(f"{path}: {error}; run: ota-edge update") from error

    def record(self) -> SlotRecord:
        """Read what the slot holds.

        Raises:
            HomeError: generation.json is damaged.
            StorageError: it cannot be read.
        """
        path = self.path / "generation.json"
        try:
            return SlotRecord.from_json(_read_text(path))
        except HomeError as error:
            raise HomeError(f"{path}: {error}; run: ota-edge update") from error

    def weights_bytes(self) -> int:
        """Length of the flat store."""
        with durable.storage_errors(f"cannot read {self.weights}"):
            return self.weights.stat().st_size

    def size_bytes(self) -> int:
        """Bytes that clearing the slot would give back."""
        with durable.storage_errors(f"cannot read {self.path}"):
            return sum(entry.stat().st_size for entry in self.path.glob("*"))

    def verify(self, expected: SlotRecord) -> "VerifiedSlot":
        """Read back everything and compare it with what was promised.

        Raises:
            DigestMismatchError: record, weights, graph or card differ.
            HomeError, StorageError: a file is damaged or missing.
        """
        found = self.record()
        if found != expected:
            raise DigestMismatchError(
                f"expected generation {expected.generation.number} in slot {self.name}, "
                f"found the record of generation {found.generation.number}"
            )
        weights = weights_digest(self.weights, self.layout())
        digests = [(self.weights, weights, found.generation.digest)]
        digests += [
            (path, durable.sha256_of(path), promised)
            for path, promised in ((self.graph, found.graph_sha256), (self.card, found.card_sha256))
            if promised is not None
        ]
        for path, actual, promised in digests:
            if actual != promised:
                raise DigestMismatchError(
                    f"expected {path.name} in slot {self.name} to have the digest "
                    f"{promised.hex()}, found {actual.hex()}"
                )
        return VerifiedSlot(self, found)


@dataclass(frozen=True)
class VerifiedSlot:
    """Proof that a slot was read back and holds its record's generation. See Slot.verify."""

    slot: Slot
    record: SlotRecord


@dataclass(frozen=True)
class Installed:
    """The active slot and what it says that it holds."""

    slot: Slot
    record: SlotRecord

    def sound_files(self) -> Mapping[bytes, Path]:
        """Graph and card by SHA-256, those that still are what they were when installed."""
        recorded = {
            self.record.graph_sha256: self.slot.graph,
            self.record.card_sha256: self.slot.card,
        }
        return {
            sha256: path
            for sha256, path in recorded.items()
            if sha256 is not None and path.exists() and durable.sha256_of(path) == sha256
        }


@dataclass(frozen=True)
class Slots:
    """Both slots of a home and the pointer between them."""

    home: Path

    @property
    def pointer(self) -> Path:
        """The file that names the active slot."""
        return self.home / "current"

    def active(self) -> Slot | None:
        """The slot that serves; None before the first update.

        Raises:
            HomeError: the pointer names no slot. It is never guessed; an update repairs it.
        """
        if not self.pointer.exists():
            return None
        name = _read_text(self.pointer).strip()
        if name not in SLOT_NAMES:
            raise HomeError(
                f"{self.pointer}: expected 'a' or 'b', found {name[:20]!r}; run: ota-edge update"
            )
        return self._slot(name)

    def passive(self) -> Slot:
        """The slot that may be written: any, where the pointer is damaged and so none serves."""
        try:
            active = self.active()
        except (HomeError, StorageError):
            active = None
        return self._slot("b" if active is not None and active.name == "a" else "a")

    def installed(self) -> "Installed | None":
        """What serves; None before the first update.

        Raises:
            HomeError, StorageError: the pointer or the slot's record is damaged.
        """
        active = self.active()
        return None if active is None else Installed(active, active.record())

    def activate(self, verified: VerifiedSlot) -> None:
        """Move the pointer. Before this returns, a power cut leaves the old slot or the new one."""
        durable.write(self.pointer, f"{verified.slot.name}\n".encode())

    def _slot(self, name: str) -> Slot:
        return Slot(self.home / "slots" / name)


def weights_digest(path: Path, layout: Layout) -> bytes:
    """The dense digest of a flat store: SHA-256 over layout fingerprint and file bytes.

    Reads in blocks, so memory does not grow with the file.
    """
    return durable.sha256_of(path, prefix=layout.fingerprint)


def _read_text(path: Path) -> str:
    with durable.storage_errors(f"cannot read {path}"):
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise HomeError(f"{path}: expected UTF-8 text; run: ota-edge update") from error
