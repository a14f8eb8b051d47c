"""How a generation comes to exist: a diff is applied here, and its result *is* the generation.

So nothing that quantisation loses is ever lost twice: the next diff starts from what devices
really hold. Everything that a generation names is durable, and has been read back, before the
registry hears of it.

    >>> generation = publish(home, "digits", encoded_diff, graph=graph, card=card)
    >>> weights_of(home, "digits", generation.number)

Not for: deciding what the weights should be (server.training, or the caller).
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import EllipsisType

from diffcodec import (
    DecodedDiff,
    Layout,
    LayoutError,
    ParameterSet,
    apply,
    decode,
    encode,
    fit_auto,
    lossless_diff,
    read_header,
)
from server.artifacts import RememberingStore, read_whole
from server.clock import Clock, utc_now
from server.direct import chain_between, direct_diff
from server.domain import EVERY_DEVICE, LONGEST_NAME, Blob, Generation, Step
from server.errors import ConflictError, PublishError
from server.home import ServerHome
from server.planner import cheapest_route
from server.recoding import recoded
from server.signing.golden import golden_runs
from server.signing.records import SignedRelease
from server.signing.releasing import sign_release
from speech.card import read_card
from speech.errors import CardError


@dataclass(frozen=True)
class _Result:
    """What a diff file says, what it leads to, and from where (None: a snapshot)."""

    base: Generation | None
    base_layout: Layout | None
    decoded: DecodedDiff
    weights: ParameterSet


def publish(
    home: ServerHome,
    model: str,
    diff: bytes,
    *,
    graph: bytes | None = None,
    card: bytes | str | None = None,
    expected_head: int | EllipsisType | None = ...,
    branch: bool = False,
    direct_from: Iterable[int] = (),
    now: Clock = utc_now,
) -> Generation:
    """Make the next generation of a model out of a diff.

    Args:
        home: Where to.
        model: The line of generations; a new name starts one.
        diff: An encoded .ndiff: a snapshot, or one whose base is a generation of this model. It
            is offered as it is, and by the coder that serves other devices better.
        graph: model.onnx with external weights; else the one that the diff carries, else the
            parent's.
        card: JSON that says what the model is; the parent's without it.
        expected_head: The newest generation that the caller built upon (None: there was none);
            `...` for whatever is the newest when publishing begins.
        branch: Let the diff's base be an older generation than the newest.
        direct_from: Older generations to offer one diff from as well, each where that is smaller
            than the routes that there are.
        now: The clock.

    Returns:
        The new generation, whose weights are what the diff leads to.

    Raises:
        PublishError: the diff has another base, a new layout comes without its graph, the diff
            carries another graph than the one given, the card is none, or a new model's name is
            none.
        CodecError: the diff is not a sound file, or a tensor shrinks on the way of a direct one.
        NotFoundError: a generation of `direct_from` does not exist.
        MissingKeyError: the key that signs releases is not here; nothing was published.
        ConflictError: another generation was published meanwhile; nothing was.
        StorageError: disk or database failed; nothing was published.
    """
    home, artifacts = _remembering(home)
    head = _require_head(home, model, expected_head)
    if head is None:
        require_model_name(model)
    _require_card(card)
    result = _apply(home, model, diff)
    if not branch:
        _require_newest_base(model, head, result.base)
    parent = result.base or head
    graph = _graph_with(result.decoded, graph)
    fingerprint = result.weights.layout.fingerprint
    if graph is None and parent is not None and parent.layout_fingerprint != fingerprint:
        raise PublishError(
            f"the weights have another layout than generation {parent.number} of {model!r}: "
            f"expected a new graph with them, found none{_difference(result)}"
        )
    whole = DecodedDiff(lossless_diff(None, result.weights), result.decoded.target_digest)
    snapshot = encode(whole.diff, None)
    generation = Generation(
        model=model,
        number=head.number + 1 if head is not None else 0,
        parent=parent.number if parent is not None else None,
        layout_fingerprint=fingerprint,
        digest=result.decoded.target_digest,
        snapshot=_store(home, snapshot),
        graph=_store_or_inherit(home, graph, parent.graph if parent else None),
        card=_store_or_inherit(home, card, parent.card if parent else None),
        published_at=now(),
    )
    steps = _own_steps(home, generation, result, diff)
    if diff != snapshot:
        steps += _steps(home, generation, None, snapshot, recoded(snapshot, whole, None))
    for start in direct_from:
        steps += _direct_steps(home, generation, start, result.weights, steps)
    # The registry takes the next number and no other: who built on an older head loses here.
    release = _release(home, generation, steps, result)
    home.registry.add_generation(generation, steps, release, artifacts.keep)
    return generation


def add_direct_steps(home: ServerHome, model: str, target: int, starts: Iterable[int]) -> int:
    """Offer one diff from older generations to one that is there, each where that saves bytes.

    Args:
        home: Where to.
        model: The line of generations.
        target: Where the diffs lead.
        starts: Where they begin. One from where such a diff begins already is passed over, and
            one with a tensor that shrinks on the way.

    Returns:
        How many files were added.

    Raises:
        NotFoundError: a generation does not exist.
        CodecError: a diff on the way is not sound.
        StorageError: disk or database failed.
    """
    known = {step.base for step in home.registry.steps(model) if step.target == target}
    wanted = [start for start in starts if start not in known]
    if not wanted:
        return 0
    home, artifacts = _remembering(home)
    generation = home.registry.generation(model, target)
    weights = weights_of(home, model, target)
    steps: list[Step] = []
    for start in wanted:
        with suppress(LayoutError):
            steps += _direct_steps(home, generation, start, weights, ())
    for step in steps:
        home.registry.add_step(model, step, artifacts.keep)
    return len(steps)


def require_model_name(name: str) -> None:
    """Refuse a name that a new model cannot have: it stands in messages, paths and tables.

    Raises:
        PublishError: it is empty, over 200 characters, or has '/' or control characters.
    """
    if not 0 < len(name) <= LONGEST_NAME:
        raise PublishError(
            f"expected a model name of 1 to {LONGEST_NAME} characters, found {len(name)}"
        )
    if "/" in name or not name.isprintable():
        raise PublishError(
            f"expected a model name without '/' and control characters, found {name!r}"
        )


def diff_from_head(
    home: ServerHome, model: str, weights: ParameterSet, budget_bytes: int | None = None
) -> bytes:
    """Encode weights as a diff against the newest generation, ready to be published.

    Args:
        home: Where the model lives.
        model: Its name; the first generation of a new model is a lossless snapshot, because
            devices that hold nothing have nothing that a budget could be spent on changing.
        weights: What to come close to; tensors may be added, removed and grown.
        budget_bytes: The most that the file may have; None for an exact diff, however large.

    Raises:
        LayoutError: a tensor is smaller than in the newest generation.
        BudgetError: the budget does not even hold a header.
    """
    head = home.registry.head(model)
    if head is None:
        return encode(lossless_diff(None, weights), None)
    base = weights_of(home, model, head.number)
    if budget_bytes is None:
        return encode(lossless_diff(base, weights), base)
    return fit_auto(base, weights, budget_bytes)


def weights_of(home: ServerHome, model: str, number: int) -> ParameterSet:
    """The dense weights of a generation.

    Raises:
        NotFoundError: no such generation.
        StorageError: its snapshot cannot be read, or has changed.
    """
    generation = home.registry.generation(model, number)
    return apply(None, decode(read_whole(home.artifacts, generation.snapshot)))


def layout_after(home: ServerHome, model: str, diff: bytes) -> Layout:
    """The layout of the weights that a diff leads to, without applying it.

    Raises:
        PublishError: the diff's base is no generation of this model.
        CodecError: the diff is not a sound file.
    """
    header = read_header(diff)
    if header.base_digest is not None and header.layout is None:
        snapshot = _base_of(home, model, header.base_digest).snapshot
        header = read_header(home.artifacts.read(snapshot.sha256, 0, snapshot.length))
    if header.layout is None:
        raise PublishError("expected a snapshot with its layout, found none")
    return header.layout


def _remembering(home: ServerHome) -> tuple[ServerHome, RememberingStore]:
    """The same home, with a store that keeps what is put until it has a name."""
    artifacts = RememberingStore(home.artifacts)
    return replace(home, artifacts=artifacts), artifacts


def _release(
    home: ServerHome, generation: Generation, steps: Sequence[Step], result: _Result
) -> SignedRelease:
    """The signed manifest of a generation, with what its graph answers."""
    graph = generation.graph
    golden = (
        golden_runs(result.weights, read_whole(home.artifacts, graph)) if graph is not None else ()
    )
    return sign_release(home.registry, home.artifacts, home.keys, generation, steps, golden)


def _require_head(
    home: ServerHome, model: str, expected: int | EllipsisType | None
) -> Generation | None:
    head = home.registry.head(model)
    found = head.number if head is not None else None
    if expected is not ... and expected != found:
        raise ConflictError(
            f"expected {_generation_name(expected)} as the newest of model {model!r}, "
            f"found {_generation_name(found)}: another one was published meanwhile"
        )
    return head


def _generation_name(number: int | None) -> str:
    return "no generation" if number is None else f"generation {number}"


def _require_newest_base(model: str, head: Generation | None, base: Generation | None) -> None:
    if base is not None and head is not None and base.number != head.number:
        raise PublishError(
            f"expected a diff from generation {head.number}, the newest of model {model!r}, "
            f"found one from generation {base.number}; it would be a branch"
        )


def _require_card(card: bytes | str | None) -> None:
    if card is None:
        return
    try:
        read_card(card if isinstance(card, str) else card.decode())
    except (CardError, UnicodeDecodeError) as error:
        raise PublishError(f"the card cannot be used: {error}") from error


def _apply(home: ServerHome, model: str, diff: bytes) -> _Result:
    """Apply a diff to the generation of this model that it names as its base."""
    base_digest = read_header(diff).base_digest
    base = None if base_digest is None else _base_of(home, model, base_digest)
    base_weights = None if base is None else weights_of(home, model, base.number)
    base_layout = None if base_weights is None else base_weights.layout
    decoded = decode(diff, base_layout)
    return _Result(base, base_layout, decoded, apply(base_weights, decoded))


def _base_of(home: ServerHome, model: str, digest: bytes) -> Generation:
    base = _newest_with(home, model, digest)
    if base is None:
        raise PublishError(
            f"expected a diff whose base is a generation of model {model!r}, "
            f"found one with base digest {digest.hex()}"
        )
    return base


def _newest_with(home: ServerHome, model: str, digest: bytes) -> Generation | None:
    """The newest generation with these weights: old ones may have been published again."""
    found = [g for g in home.registry.generations(model) if g.digest == digest]
    return found[-1] if found else None


def _difference(result: _Result) -> str:
    """The first tensor in which a result's layout is not its base's; empty for a snapshot."""
    if result.base_layout is None:
        return ""
    try:
        result.base_layout.require(result.weights.layout, "the base", "the result")
    except LayoutError as error:
        return f" ({error})"
    return ""


def _graph_with(decoded: DecodedDiff, given: bytes | None) -> bytes | None:
    """The graph that comes with a diff, inside it or beside it."""
    carried = decoded.diff.graph
    if carried is not None and given not in (None, carried):
        raise PublishError(
            "expected the graph that the diff carries, or none beside it, found another one"
        )
    return given if carried is None else carried


def _own_steps(
    home: ServerHome, generation: Generation, result: _Result, diff: bytes
) -> list[Step]:
    """The diff that makes a generation, by every coder that serves some device best."""
    base = result.base.number if result.base is not None else None
    other = recoded(diff, result.decoded, result.base_layout)
    return _steps(home, generation, base, diff, other)


def _direct_steps(
    home: ServerHome,
    generation: Generation,
    start: int,
    weights: ParameterSet,
    steps: Sequence[Step],
) -> list[Step]:
    """One diff from an older generation, by every coder by which it saves some device bytes."""
    known = [*home.registry.steps(generation.model), *steps]
    old = weights_of(home, generation.model, start)
    chain = chain_between(known, start, generation.number)
    file = direct_diff(old, weights, [read_whole(home.artifacts, step.diff) for step in chain])
    if file is None:
        return []
    files = [file, recoded(file, decode(file, old.layout), old.layout)]
    saving = [
        file
        for file in files
        if file is not None and len(file) < _route_bytes(known, start, generation.number, file)
    ]
    return _steps(home, generation, start, *saving)


def _route_bytes(steps: Sequence[Step], start: int, goal: int, file: bytes) -> int:
    """What the way costs a device that could take this file, but does without it."""
    coders = EVERY_DEVICE | read_header(file).coders
    return sum(step.diff.length for step in cheapest_route(steps, start, goal, coders))


def _steps(
    home: ServerHome, generation: Generation, base: int | None, *files: bytes | None
) -> list[Step]:
    """What files do that lead to a generation, once they are stored."""
    return [
        Step(
            base, generation.number, generation.digest, _store(home, file), read_header(file).coders
        )
        for file in files
        if file is not None
    ]


def _store(home: ServerHome, content: bytes) -> Blob:
    """Make a blob durable and prove that it can be read."""
    blob = home.artifacts.put(content)
    home.artifacts.verify(blob)
    return blob


def _store_or_inherit(
    home: ServerHome, content: bytes | str | None, inherited: Blob | None
) -> Blob | None:
    if content is None:
        return inherited
    return _store(home, content.encode() if isinstance(content, str) else content)
