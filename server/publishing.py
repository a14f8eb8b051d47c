"""How a generation comes to exist: a diff is applied here, and its result *is* the generation.

So nothing that quantisation loses is ever lost twice: the next diff starts from what devices
really hold. Everything that a generation names is durable, and has been read back, before the
registry hears of it.

    >>> generation = publish(home, "digits", encoded_diff, graph=graph, card=card)
    >>> weights_of(home, "digits", generation.number)

Not for: deciding what the weights should be (server.training, or the caller).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from types import EllipsisType

from diffcodec import (
    Layout,
    ParameterSet,
    apply,
    decode,
    encode,
    fit_sparse,
    lossless_diff,
    read_header,
)
from server.devices import Clock, utc_now
from server.domain import LONGEST_NAME, Blob, Generation, Step
from server.errors import ConflictError, PublishError
from server.home import ServerHome
from speech.card import Card
from speech.errors import CardError


@dataclass(frozen=True)
class _Result:
    """What a diff file leads to, and from where (None: a snapshot)."""

    base: Generation | None
    weights: ParameterSet
    digest: bytes


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
        diff: An encoded .ndiff: a snapshot, or one whose base is a generation of this model.
        graph: model.onnx with external weights; the parent's without it.
        card: JSON that says what the model is; the parent's without it.
        expected_head: The newest generation that the caller built upon (None: there was none);
            `...` for whatever is the newest when publishing begins.
        branch: Let the diff's base be an older generation than the newest.
        direct_from: Older generations to offer an exact diff from as well.
        now: The clock.

    Returns:
        The new generation, whose weights are what the diff leads to.

    Raises:
        PublishError: the diff has another base, a new layout comes without its graph, the card
            is none, or a new model's name is none.
        CodecError: the diff is not a sound file, or a direct one has another layout.
        NotFoundError: a generation of `direct_from` does not exist.
        ConflictError: another generation was published meanwhile; nothing was.
        StorageError: disk or database failed; nothing was published.
    """
    head = _require_head(home, model, expected_head)
    if head is None:
        require_model_name(model)
    _require_card(card)
    result = _apply(home, model, diff)
    if not branch:
        _require_newest_base(model, head, result.base)
    parent = result.base or head
    fingerprint = result.weights.layout.fingerprint
    if graph is None and parent is not None and parent.layout_fingerprint != fingerprint:
        raise PublishError(
            f"the weights have another layout than generation {parent.number} of {model!r}: "
            "expected a new graph with them, found none"
        )
    snapshot = encode(lossless_diff(None, result.weights), None)
    generation = Generation(
        model=model,
        number=head.number + 1 if head is not None else 0,
        parent=parent.number if parent is not None else None,
        layout_fingerprint=fingerprint,
        digest=result.digest,
        snapshot=_store(home, snapshot),
        graph=_store_or_inherit(home, graph, parent.graph if parent else None),
        card=_store_or_inherit(home, card, parent.card if parent else None),
        published_at=now(),
    )
    base = result.base.number if result.base is not None else None
    routes = {diff: base, snapshot: None}  # one entry where the diff is that very snapshot
    for start in direct_from:
        old = weights_of(home, model, start)
        routes.setdefault(encode(lossless_diff(old, result.weights), old), start)
    # The registry takes the next number and no other: who built on an older head loses here.
    steps = [
        Step(start, generation.number, generation.digest, _store(home, content))
        for content, start in routes.items()
    ]
    home.registry.add_generation(generation, steps)
    return generation


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
        weights: What to come close to, in the layout of the newest generation.
        budget_bytes: The most that the file may have; None for an exact diff, however large.

    Raises:
        LayoutError: the weights have another layout than the newest generation.
        BudgetError: the budget does not even hold a header.
    """
    head = home.registry.head(model)
    if head is None:
        return encode(lossless_diff(None, weights), None)
    base = weights_of(home, model, head.number)
    if budget_bytes is None:
        return encode(lossless_diff(base, weights), base)
    return fit_sparse(base, weights, budget_bytes)


def weights_of(home: ServerHome, model: str, number: int) -> ParameterSet:
    """The dense weights of a generation.

    Raises:
        NotFoundError: no such generation.
        StorageError: its snapshot cannot be read, or has changed.
    """
    generation = home.registry.generation(model, number)
    home.artifacts.verify(generation.snapshot)
    snapshot = generation.snapshot
    content = home.artifacts.read(snapshot.sha256, 0, snapshot.length)
    return apply(None, decode(content))


def layout_after(home: ServerHome, model: str, diff: bytes) -> Layout:
    """The layout of the weights that a diff leads to, without applying it.

    Raises:
        PublishError: the diff's base is no generation of this model.
        CodecError: the diff is not a sound file.
    """
    header = read_header(diff)
    if header.base_digest is not None:
        snapshot = _base_of(home, model, header.base_digest).snapshot
        header = read_header(home.artifacts.read(snapshot.sha256, 0, snapshot.length))
    if header.layout is None:
        raise PublishError("expected a snapshot with its layout, found none")
    return header.layout


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
        Card.from_json(card if isinstance(card, str) else card.decode())
    except (CardError, UnicodeDecodeError, RecursionError) as error:
        raise PublishError(f"the card cannot be used: {error}") from error


def _apply(home: ServerHome, model: str, diff: bytes) -> _Result:
    """Apply a diff to the generation of this model that it names as its base."""
    base_digest = read_header(diff).base_digest
    base = None if base_digest is None else _base_of(home, model, base_digest)
    base_weights = None if base is None else weights_of(home, model, base.number)
    decoded = decode(diff, None if base_weights is None else base_weights.layout)
    return _Result(base, apply(base_weights, decoded), decoded.target_digest)


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
