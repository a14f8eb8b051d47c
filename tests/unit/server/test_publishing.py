from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from diffcodec import (
    CodecError,
    Coder,
    Diff,
    LayoutError,
    ParameterSet,
    apply,
    decode,
    encode,
    lossless_diff,
    read_header,
)
from server.artifacts import ArtifactStore
from server.clock import utc_now
from server.domain import EVERY_DEVICE, Blob
from server.errors import ArtifactError, ConflictError, NotFoundError, PublishError
from server.home import ServerHome
from server.planner import cheapest_route
from server.publishing import diff_from_head, layout_after, publish, weights_of
from speech.card import Card
from tests.unit.server.models import (
    CARD,
    compressed_snapshot,
    exact,
    snapshot,
    sparse,
    uneven,
    weights,
)

OLD, NEW = weights(1), weights(2)
NEW_CARD = Card(("one", "two")).to_json()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServerHome]:
    made = ServerHome.create(tmp_path / "srv")
    yield made
    made.close()


def test_the_first_generation_is_its_snapshot(home: ServerHome) -> None:
    made = publish(home, "digits", snapshot(OLD), graph=b"graph", card=CARD)
    assert (made.number, made.parent, made.digest) == (0, None, OLD.digest())
    assert weights_of(home, "digits", 0) == OLD
    [step] = home.registry.steps("digits")
    assert step.is_snapshot
    assert step.diff == made.snapshot


def test_a_generation_is_what_its_diff_leads_to(home: ServerHome) -> None:
    publish(home, "digits", snapshot(OLD), graph=b"graph")
    diff = sparse(OLD, 3, 17, 4999)
    made = publish(home, "digits", diff)
    rebuilt = weights_of(home, "digits", 1)
    moved = np.flatnonzero(rebuilt.arrays["encoder.B"] != OLD.arrays["encoder.B"])
    assert moved.tolist() == [3, 17, 4999]
    assert made.digest == rebuilt.digest()
    assert (made.number, made.parent) == (1, 0)


def test_a_diff_is_offered_beside_a_lossless_snapshot(home: ServerHome) -> None:
    publish(home, "digits", snapshot(OLD))
    diff = sparse(OLD, 3)
    made = publish(home, "digits", diff)
    offered = [
        (s.base, s.target, s.diff)
        for s in home.registry.steps("digits")[1:]
        if s.coders <= EVERY_DEVICE
    ]
    assert offered == [(0, 1, blob_of(home, diff)), (None, 1, made.snapshot)]


def blob_of(home: ServerHome, content: bytes) -> Blob:
    return home.artifacts.put(content)


def test_small_snapshots_of_a_compressed_line_are_the_route(home: ServerHome) -> None:
    first, second = (compressed_snapshot(seed, OLD.layout) for seed in (1, 2))
    publish(home, "compressed", first)
    made = publish(home, "compressed", second)
    for start in (None, 0):
        route = cheapest_route(home.registry.steps("compressed"), start, 1)
        assert [step.diff for step in route] == [blob_of(home, second)]
    assert made.parent == 0
    assert weights_of(home, "compressed", 1).digest() == made.digest


def test_graph_and_card_are_inherited_until_they_are_replaced(home: ServerHome) -> None:
    first = publish(home, "digits", snapshot(OLD), graph=b"graph", card=CARD.encode())
    second = publish(home, "digits", sparse(OLD, 1))
    assert (second.graph, second.card) == (first.graph, first.card)
    third = publish(home, "digits", snapshot(NEW), card=NEW_CARD)
    assert third.graph == first.graph
    assert third.card is not None
    assert home.artifacts.read(third.card.sha256, 0, 99) == NEW_CARD.encode()


def test_a_model_can_do_without_graph_and_card(home: ServerHome) -> None:
    made = publish(home, "digits", snapshot(OLD))
    assert (made.graph, made.card) == (None, None)


def test_a_diff_from_an_older_generation_is_the_next_one_only_as_a_branch(
    home: ServerHome,
) -> None:
    publish(home, "digits", snapshot(OLD))
    publish(home, "digits", exact(OLD, NEW))
    with pytest.raises(PublishError, match=r"from generation 1, the newest .* found .* 0"):
        publish(home, "digits", sparse(OLD, 1))
    made = publish(home, "digits", sparse(OLD, 1), branch=True)
    assert (made.number, made.parent) == (2, 0)


def test_who_built_on_an_older_head_publishes_nothing(home: ServerHome) -> None:
    publish(home, "digits", snapshot(OLD), expected_head=None)
    publish(home, "digits", sparse(OLD, 1), expected_head=0)
    for diff in (sparse(OLD, 2), snapshot(NEW)):
        with pytest.raises(ConflictError, match=r"expected generation 0 .* found generation 1"):
            publish(home, "digits", diff, expected_head=0)
    with pytest.raises(ConflictError, match="expected no generation"):
        publish(home, "digits", snapshot(NEW), expected_head=None)
    assert [g.parent for g in home.registry.generations("digits")] == [None, 0]


def test_of_two_that_publish_on_one_head_at_once_one_is_refused(home: ServerHome) -> None:
    publish(home, "digits", snapshot(OLD))

    def other_publisher() -> datetime:  # the clock is read after the head, before the registry
        publish(home, "digits", sparse(OLD, 1), expected_head=0)
        return utc_now()

    with pytest.raises(ConflictError, match="published meanwhile"):
        publish(home, "digits", sparse(OLD, 2), expected_head=0, now=other_publisher)
    assert [g.parent for g in home.registry.generations("digits")] == [None, 0]


def test_direct_diffs_are_published_with_the_generation_or_nothing_is(home: ServerHome) -> None:
    publish(home, "digits", snapshot(OLD))
    publish(home, "digits", exact(OLD, NEW))
    diff = sparse(NEW, 1)
    with pytest.raises(NotFoundError, match="generation 7"):
        publish(home, "digits", diff, direct_from=[0, 7])
    shrunk = snapshot(weights(1, columns=299))
    with pytest.raises(LayoutError, match="299"):
        publish(home, "digits", shrunk, graph=b"graph", direct_from=[0])
    assert len(home.registry.generations("digits")) == 2
    back = exact(NEW, apply(OLD, decode(sparse(OLD, 1), OLD.layout)))
    publish(home, "digits", back, direct_from=[0])
    assert {s.base for s in home.registry.steps("digits") if s.target == 2} == {None, 0, 1}


@pytest.mark.parametrize("card", [b"{}", b"text", b"\xff", "[" * 100_000, '{"kind": "other"}'])
def test_a_card_that_no_device_could_use_is_refused(home: ServerHome, card: bytes | str) -> None:
    with pytest.raises(PublishError, match="the card cannot be used"):
        publish(home, "digits", snapshot(OLD), card=card)
    assert home.registry.models() == ()


@pytest.mark.parametrize("name", ["", "a" * 201, "a/b", "a\nb", "a\x7f", "a\x00"])
def test_a_model_begins_with_a_name_that_fits_everywhere(home: ServerHome, name: str) -> None:
    with pytest.raises(PublishError, match="expected a model name"):
        publish(home, name, snapshot(OLD))
    assert publish(home, "a" * 200, snapshot(OLD)).number == 0


def test_old_weights_can_come_back_as_a_new_generation(home: ServerHome) -> None:
    publish(home, "digits", snapshot(OLD))
    publish(home, "digits", exact(OLD, NEW))
    made = publish(home, "digits", exact(NEW, OLD))
    assert (made.number, made.digest) == (2, OLD.digest())
    following = publish(home, "digits", sparse(OLD, 1))
    assert following.parent == 2


def test_a_diff_with_a_foreign_base_is_refused_and_names_it(home: ServerHome) -> None:
    publish(home, "digits", snapshot(OLD))
    with pytest.raises(PublishError, match=NEW.digest().hex()):
        publish(home, "digits", sparse(NEW, 1))
    with pytest.raises(PublishError, match="'letters'"):
        publish(home, "letters", sparse(OLD, 1))
    assert len(home.registry.generations("digits")) == 1


@pytest.mark.parametrize("position", [0, 9, 40, 200, -20, -1])
def test_a_damaged_diff_is_refused_and_nothing_is_published(
    home: ServerHome, position: int
) -> None:
    publish(home, "digits", snapshot(OLD))
    damaged = bytearray(uneven(OLD))
    damaged[position] ^= 0x10
    with pytest.raises((CodecError, PublishError)):
        publish(home, "digits", bytes(damaged))
    assert home.registry.head("digits").number == 0  # type: ignore[union-attr]


def test_a_new_layout_needs_its_graph(home: ServerHome) -> None:
    publish(home, "digits", snapshot(OLD), graph=b"graph")
    grown = snapshot(weights(1, columns=301))
    with pytest.raises(PublishError, match="expected a new graph"):
        publish(home, "digits", grown)
    assert publish(home, "digits", grown, graph=b"grown graph").number == 1


@dataclass
class ForgetfulStore:
    """A store that loses what was put last."""

    inner: ArtifactStore

    def put(self, content: bytes) -> Blob:
        return replace(self.inner.put(content), sha256=bytes(32))

    def read(self, sha256: bytes, offset: int, length: int) -> bytes:
        return self.inner.read(sha256, offset, length)

    def verify(self, blob: Blob) -> None:
        self.inner.verify(blob)


def test_a_generation_whose_blobs_cannot_be_read_back_is_not_published(home: ServerHome) -> None:
    forgetful = replace(home, artifacts=ForgetfulStore(home.artifacts))
    with pytest.raises(ArtifactError):
        publish(forgetful, "digits", snapshot(OLD))
    assert home.registry.models() == ()


def test_changed_weights_on_disk_are_noticed(home: ServerHome, tmp_path: Path) -> None:
    made = publish(home, "digits", snapshot(OLD))
    name = made.snapshot.sha256.hex()
    path = tmp_path / "srv" / "artifacts" / name[:2] / name[2:]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        weights_of(home, "digits", 0)


def test_a_direct_diff_reaches_the_same_weights_and_is_used_when_it_is_cheapest(
    home: ServerHome,
) -> None:
    publish(home, "digits", snapshot(OLD))
    publish(home, "digits", exact(OLD, NEW))
    near_old = apply(OLD, decode(sparse(OLD, 3, 17), OLD.layout))
    publish(home, "digits", exact(NEW, near_old), direct_from=[0])
    (direct,) = cheapest_route(home.registry.steps("digits"), 0, 2)
    assert (direct.base, direct.target, direct.target_digest) == (0, 2, near_old.digest())


def test_weights_become_an_exact_diff_without_a_budget(home: ServerHome) -> None:
    publish(home, "digits", diff_from_head(home, "digits", OLD))
    assert publish(home, "digits", diff_from_head(home, "digits", NEW)).digest == NEW.digest()


def test_weights_become_a_diff_within_the_budget(home: ServerHome) -> None:
    publish(home, "digits", diff_from_head(home, "digits", OLD, budget_bytes=4_000))
    assert weights_of(home, "digits", 0) == OLD
    diff = diff_from_head(home, "digits", NEW, budget_bytes=4_000)
    assert len(diff) <= 4_000
    made = publish(home, "digits", diff)
    assert made.digest not in (OLD.digest(), NEW.digest())


@pytest.mark.parametrize("budget_bytes", [None, 4_000])
def test_weights_that_no_such_diff_leads_to_name_the_tensor_and_both_shapes(
    home: ServerHome, budget_bytes: int | None
) -> None:
    publish(home, "digits", snapshot(OLD))
    with pytest.raises(LayoutError) as refused:
        diff_from_head(home, "digits", weights(1, columns=299), budget_bytes)
    for part in ("encoder.W", "300", "299"):
        assert part in str(refused.value)


BOTH = frozenset(Coder)


@pytest.mark.parametrize("coders", [EVERY_DEVICE, BOTH], ids=["fast", "max"])
def test_every_device_finds_a_diff_and_one_that_decodes_max_a_smaller_one(
    home: ServerHome, coders: frozenset[Coder]
) -> None:
    publish(home, "digits", snapshot(OLD))
    given = uneven(OLD, coders=coders)
    assert (Coder.MAX in read_header(given).coders) == (Coder.MAX in coders)
    made = publish(home, "digits", given)
    [by_fast], [by_max] = (
        cheapest_route(home.registry.steps("digits"), 0, 1, known) for known in (EVERY_DEVICE, BOTH)
    )
    assert by_max.diff.length < by_fast.diff.length
    assert blob_of(home, given) in (by_fast.diff, by_max.diff)
    for step in (by_fast, by_max):
        file = home.artifacts.read(step.diff.sha256, 0, step.diff.length)
        assert read_header(file).coders == step.coders
        assert apply(OLD, decode(file, OLD.layout)).digest() == step.target_digest == made.digest


def test_the_snapshot_that_the_server_reads_itself_needs_no_other_coder(home: ServerHome) -> None:
    zeros = ParameterSet.zeros(OLD.layout)
    change = decode(uneven(zeros), OLD.layout).diff
    whole = encode(replace(change, base_digest=None), None, BOTH)
    assert Coder.MAX in read_header(whole).coders
    made = publish(home, "digits", whole)
    file = home.artifacts.read(made.snapshot.sha256, 0, made.snapshot.length)
    assert read_header(file).coders == EVERY_DEVICE
    assert {s.coders <= EVERY_DEVICE for s in home.registry.steps("digits")} == {True, False}


def test_a_direct_diff_is_the_chain_rolled_up_where_that_is_smaller_than_a_lossless_one(
    home: ServerHome,
) -> None:
    publish(home, "digits", snapshot(OLD))
    middle = apply(OLD, decode(uneven(OLD, 1), OLD.layout))
    publish(home, "digits", uneven(OLD, 1))
    made = publish(home, "digits", uneven(middle, 2), direct_from=[0])
    end = weights_of(home, "digits", 2)
    steps = home.registry.steps("digits")
    one_by_one = [s for s in steps if (s.base, s.target) in ((0, 1), (1, 2))]
    for coders in (EVERY_DEVICE, BOTH):
        [direct] = cheapest_route(steps, 0, 2, coders)
        chain = cheapest_route(one_by_one, 0, 2, coders)
        assert (direct.base, direct.target_digest) == (0, made.digest)
        assert direct.diff.length < sum(s.diff.length for s in chain)
        assert direct.diff.length < len(exact(OLD, end))


def test_no_direct_diff_is_offered_where_the_way_there_is_as_small(home: ServerHome) -> None:
    publish(home, "digits", snapshot(OLD))
    publish(home, "digits", sparse(OLD, 1), direct_from=[0])
    publish(home, "digits", compressed_snapshot(1, OLD.layout), direct_from=[0, 1])
    bases = [(s.base, s.target) for s in home.registry.steps("digits") if not s.is_snapshot]
    assert set(bases) == {(0, 1)}


def grown(base: ParameterSet, graph: bytes | None) -> tuple[ParameterSet, bytes]:
    """One column more and a new tensor, by a diff that may carry a graph."""
    wide = np.pad(base.arrays["encoder.W"], ((0, 0), (0, 1)), constant_values=0.25)
    new = ParameterSet.from_arrays(
        {**base.arrays, "encoder.W": wide, "gate": np.ones(7, np.float32)}
    )
    return new, encode(replace(lossless_diff(base, new), graph=graph), base)


def test_a_diff_that_carries_its_graph_may_bring_a_new_layout(home: ServerHome) -> None:
    publish(home, "digits", snapshot(OLD), graph=b"graph", card=CARD)
    new, diff = grown(OLD, b"grown graph")
    made = publish(home, "digits", diff)
    assert weights_of(home, "digits", 1) == new
    assert made.layout_fingerprint == new.layout.fingerprint
    assert made.graph == blob_of(home, b"grown graph")
    assert layout_after(home, "digits", diff) == new.layout


def test_a_diff_to_a_new_layout_takes_a_graph_that_is_given(home: ServerHome) -> None:
    publish(home, "digits", snapshot(OLD), graph=b"graph")
    _, diff = grown(OLD, None)
    with pytest.raises(PublishError, match=r"a new graph .* found none \(tensor encoder.W"):
        publish(home, "digits", diff)
    assert publish(home, "digits", diff, graph=b"new").graph == blob_of(home, b"new")


def test_a_graph_beside_a_diff_must_be_the_one_inside_it(home: ServerHome) -> None:
    publish(home, "digits", snapshot(OLD), graph=b"graph")
    _, diff = grown(OLD, b"inside")
    with pytest.raises(PublishError, match="found another one"):
        publish(home, "digits", diff, graph=b"beside")
    assert publish(home, "digits", diff, graph=b"inside").number == 1


def test_a_direct_diff_across_layouts_leads_there_and_leaves_the_graph_to_the_plan(
    home: ServerHome,
) -> None:
    publish(home, "digits", snapshot(OLD), graph=b"graph")
    new, diff = grown(OLD, b"g" * 1_000)
    publish(home, "digits", diff)
    last = publish(home, "digits", uneven(new, 3), graph=b"last", direct_from=[0])
    [direct] = cheapest_route(home.registry.steps("digits"), 0, 2)
    file = home.artifacts.read(direct.diff.sha256, 0, direct.diff.length)
    assert read_header(file).graph is None
    assert apply(OLD, decode(file, OLD.layout)).digest() == last.digest


def test_a_diff_that_changes_nothing_is_a_generation_for_every_device(home: ServerHome) -> None:
    publish(home, "digits", snapshot(OLD))
    publish(home, "digits", encode(Diff.of(OLD.layout, OLD.digest(), {}), OLD))
    [step] = cheapest_route(home.registry.steps("digits"), 0, 1)
    assert step.coders == frozenset()
