"""The values that the server decides with.

Rows stay in server.registry and messages in server.service; everything between takes and
returns these. A *step* is one diff file and what it does: it turns the generation `base` (None:
nothing at all, then the diff is a snapshot) into the generation `target`. A *route* is steps in
order. A *plan* is the route that one device is told to take, and an *attempt* is the record of
that device trying.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from diffcodec import Coder

DIGEST_BYTES = 32
"""Length of a SHA-256, of blobs and of dense weights alike."""

LONGEST_NAME = 200
"""Characters in the name of a model or a device."""

LARGEST_COUNT = 2**63 - 1
"""Of bytes, of versions, of whatever is counted: what a BIGINT column holds."""

EVERY_DEVICE = frozenset({Coder.FAST})
"""What every device decodes, whether it says so or not."""


@dataclass(frozen=True)
class Blob:
    """Bytes known by their SHA-256."""

    sha256: bytes
    length: int


@dataclass(frozen=True)
class Model:
    """A named line of generations."""

    name: str


@dataclass(frozen=True)
class Generation:
    """One state of a model's weights.

    Attributes:
        model: Name of the model.
        number: 0 for the first, then one more each.
        parent: The generation that it followed: the base of the diff that defined it, or the
            head of that time when a snapshot did. None for the first.
        layout_fingerprint: SHA-256 that names tensors, dtypes and shapes.
        digest: SHA-256 over layout fingerprint and dense bytes.
        snapshot: The dense weights as a lossless snapshot, always there.
        graph: The ONNX graph, or None where the model is delivered as bare weights.
        card: What the model is, or None.
        published_at: UTC.
    """

    model: str
    number: int
    parent: int | None
    layout_fingerprint: bytes
    digest: bytes
    snapshot: Blob
    graph: Blob | None
    card: Blob | None
    published_at: datetime


@dataclass(frozen=True)
class Step:
    """One diff file of a model: it turns `base` (None: nothing) into `target`.

    A device must decode all of `coders` to take it.
    """

    base: int | None
    target: int
    target_digest: bytes
    diff: Blob
    coders: frozenset[Coder] = EVERY_DEVICE

    @property
    def is_snapshot(self) -> bool:
        """It needs no base, so any device can take it."""
        return self.base is None


@dataclass(frozen=True)
class Plan:
    """What one device is told to do.

    `graph` and `card` are None when the device keeps what it has. `rollout_id` names the rollout
    that wants it so; None where no rollout decides.
    """

    attempt_id: str
    target: Generation
    steps: tuple[Step, ...]
    graph: Blob | None
    card: Blob | None
    rollout_id: str | None = None

    @property
    def length(self) -> int:
        """Bytes of all files that it names."""
        named = [step.diff for step in self.steps] + [self.graph, self.card]
        return sum(blob.length for blob in dict.fromkeys(named) if blob is not None)


@dataclass(frozen=True)
class Device:
    """A device that follows a model; `installed` is what it ran when it was last heard of.

    One that was decommissioned is kept for its history, and counts nowhere.
    """

    device_id: str
    model: str
    name: str
    enrolled_at: datetime
    seen_at: datetime
    installed: int | None = None
    decommissioned_at: datetime | None = None


class AttemptState(StrEnum):
    """Where a device's attempt to reach a generation stands."""

    PLANNED = "planned"
    STARTED = "started"
    COMMITTED = "committed"
    FAILED = "failed"
    SUPERSEDED = "superseded"

    @property
    def is_final(self) -> bool:
        """Nothing leads out of it."""
        return self not in OPEN_STATES


class EndCode(StrEnum):
    """Codes of attempts that the server itself sets or looks at; devices have more.

    The last one tells nothing of a generation: the device could not reach the server.
    """

    TIMED_OUT = "TIMED_OUT"
    WITHDRAWN = "WITHDRAWN"
    RESTARTED = "RESTARTED"
    SERVER_UNAVAILABLE = "SERVER_UNAVAILABLE"


class Outcome(StrEnum):
    """What a report says about an attempt."""

    STARTED = "started"
    COMMITTED = "committed"
    FAILED = "failed"


OPEN_STATES = (AttemptState.PLANNED, AttemptState.STARTED)

# The diagram. What is not here leaves the state as it is: reports arrive late, twice and out of
# order, and a final state is final.
TRANSITIONS: Mapping[tuple[AttemptState, Outcome], AttemptState] = {
    (AttemptState.PLANNED, Outcome.STARTED): AttemptState.STARTED,
    (AttemptState.PLANNED, Outcome.COMMITTED): AttemptState.COMMITTED,
    (AttemptState.PLANNED, Outcome.FAILED): AttemptState.FAILED,
    (AttemptState.STARTED, Outcome.COMMITTED): AttemptState.COMMITTED,
    (AttemptState.STARTED, Outcome.FAILED): AttemptState.FAILED,
}


@dataclass(frozen=True)
class Attempt:
    """One device's way from `base` (None: nothing installed) to `target`.

    `rollout_id` names the rollout that sent it, if one did, and `code` why it failed or was ended.
    """

    attempt_id: str
    device_id: str
    base: int | None
    target: int
    state: AttemptState
    created_at: datetime
    rollout_id: str | None = None
    code: str | None = None


@dataclass(frozen=True)
class Report:
    """What a device says about an attempt; (attempt_id, sequence) counts once.

    `bytes_sent` and `bytes_received` are as the device counted them on its side of the wire.
    """

    device_id: str
    attempt_id: str
    sequence: int
    outcome: Outcome
    code: str
    bytes_sent: int
    bytes_received: int
    apply_ms: int


def next_state(state: AttemptState, outcome: Outcome) -> AttemptState:
    """The state of an attempt after a report; the same one where the report comes too late."""
    return TRANSITIONS.get((state, outcome), state)
