"""Slots, the pointer, and what it takes to move it."""

import hashlib
from pathlib import Path

import pytest

from edge_client.errors import DigestMismatchError, HomeError, OfferError, StorageError
from edge_client.offer import Generation
from edge_client.slots import Slot, SlotRecord, Slots, weights_digest
from tests.unit.edge_client.models import CARD, GRAPH, generation


def filled(slot: Slot, number: int = 0) -> SlotRecord:
    """Put a generation into a slot."""
    slot.clear()
    weights = generation(number)
    weights.write(slot.weights)
    slot.graph.write_bytes(GRAPH)
    slot.card.write_bytes(CARD)
    record = SlotRecord(
        Generation(number, weights.digest()),
        hashlib.sha256(GRAPH).digest(),
        hashlib.sha256(CARD).digest(),
    )
    slot.save(weights.layout, record)
    return record


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return Slots(tmp_path)


def test_a_new_home_has_no_active_slot(slots: Slots) -> None:
    assert slots.active() is None
    assert slots.installed() is None
    assert slots.passive().name == "a"


def test_activation_swaps_the_slots(slots: Slots) -> None:
    for expected in ("a", "b", "a"):
        passive = slots.passive()
        slots.activate(passive.verify(filled(passive)))
        assert slots.active() == passive
        assert passive.name == expected


def test_a_record_is_read_back(slots: Slots) -> None:
    record = filled(slots.passive())
    assert SlotRecord.from_json(record.to_json()) == record
    assert slots.passive().record() == record


@pytest.mark.parametrize("name", ["weights.bin", "model.onnx", "card.json"])
def test_a_slot_with_one_wrong_byte_is_not_verified(slots: Slots, name: str) -> None:
    passive = slots.passive()
    record = filled(passive)
    content = bytearray((passive.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (passive.path / name).write_bytes(content)
    with pytest.raises(DigestMismatchError, match=f"expected {name} in slot a"):
        passive.verify(record)


def test_a_slot_with_a_truncated_store_is_not_verified(slots: Slots) -> None:
    passive = slots.passive()
    record = filled(passive)
    passive.weights.write_bytes(passive.weights.read_bytes()[:-1])
    with pytest.raises(DigestMismatchError):
        passive.verify(record)


def test_a_slot_that_holds_another_generation_is_not_verified(slots: Slots) -> None:
    passive = slots.passive()
    filled(passive, 1)
    expected = SlotRecord(Generation(0, generation(0).digest()), bytes(32), bytes(32))
    with pytest.raises(DigestMismatchError, match=r"expected generation 0 .* generation 1"):
        passive.verify(expected)


def test_an_incomplete_slot_is_not_verified(slots: Slots) -> None:
    passive = slots.passive()
    record = filled(passive)
    passive.graph.unlink()
    with pytest.raises(StorageError, match=r"model\.onnx"):
        passive.verify(record)


@pytest.mark.parametrize("pointer", ["", "c\n", "../a\n", "\xff"])
def test_a_damaged_pointer_is_an_error_and_never_a_guess(slots: Slots, pointer: str) -> None:
    slots.pointer.write_bytes(pointer.encode("latin-1"))
    with pytest.raises(HomeError, match="current: expected"):
        slots.active()


@pytest.mark.parametrize("record", ["", "{}", '{"number": "1"}', "[]"])
def test_a_damaged_record_is_named(slots: Slots, record: str) -> None:
    passive = slots.passive()
    filled(passive)
    (passive.path / "generation.json").write_text(record)
    with pytest.raises(HomeError, match=r"generation\.json: expected JSON"):
        passive.record()


def test_a_damaged_layout_is_named(slots: Slots) -> None:
    passive = slots.passive()
    filled(passive)
    (passive.path / "layout.json").write_text("{}")
    with pytest.raises(HomeError, match=r"layout\.json"):
        passive.layout()


def test_clearing_a_slot_leaves_a_process_that_reads_it_undisturbed(slots: Slots) -> None:
    passive = slots.passive()
    filled(passive)
    with passive.weights.open("rb") as mapped:
        passive.clear()
        assert list(passive.path.iterdir()) == []
        assert len(mapped.read()) == generation(0).layout.file_bytes


def test_the_digest_of_a_store_is_the_codecs(slots: Slots) -> None:
    passive = slots.passive()
    filled(passive, 2)
    assert weights_digest(passive.weights, generation(2).layout) == generation(2).digest()


def test_a_digest_of_another_length_is_refused() -> None:
    with pytest.raises(OfferError, match="expected the digest of generation 3 to be 32 bytes"):
        Generation(3, b"short")
