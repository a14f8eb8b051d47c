"""A device's key and what becomes of it. Values and decisions; nothing here touches anything.

    (new) ──request──> PENDING ──accept──> ACCEPTED ──revoke──> REVOKED
      └──preauthorize──> PREAUTHORIZED ──request──┘   PENDING ──reject──> REJECTED

A device id has one accepted key at most. Whoever asks for an id that is somebody's already waits
for an operator, whatever the fleet's policy, and is an alert. So are two that wait for one id; but
who only waits holds up nobody that was preauthorized.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from server.errors import RequestError

LONGEST_ID = 32
DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


class KeyState(StrEnum):
    """Where a key stands."""

    PREAUTHORIZED = "preauthorized"
    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    REVOKED = "revoked"


class Policy(StrEnum):
    """What becomes of a request that comes with the enrolment credential."""

    APPROVE = "approve"
    """An operator decides."""
    OPEN = "open"
    """It is accepted at once."""


class Verb(StrEnum):
    """What an operator does to a key."""

    ACCEPT = "accept"
    REJECT = "reject"
    REVOKE = "revoke"


# The diagram. What is not here is refused. An accepted key is accepted again without effect, so
# that a repeated command succeeds.
VERBS: Mapping[tuple[KeyState, Verb], KeyState] = {
    (KeyState.PENDING, Verb.ACCEPT): KeyState.ACCEPTED,
    (KeyState.ACCEPTED, Verb.ACCEPT): KeyState.ACCEPTED,
    (KeyState.REJECTED, Verb.ACCEPT): KeyState.ACCEPTED,
    (KeyState.PENDING, Verb.REJECT): KeyState.REJECTED,
    (KeyState.REJECTED, Verb.REJECT): KeyState.REJECTED,
    (KeyState.PREAUTHORIZED, Verb.REJECT): KeyState.REJECTED,
    (KeyState.ACCEPTED, Verb.REVOKE): KeyState.REVOKED,
    (KeyState.REVOKED, Verb.REVOKE): KeyState.REVOKED,
    (KeyState.PREAUTHORIZED, Verb.REVOKE): KeyState.REVOKED,
}


@dataclass(frozen=True)
class DeviceKey:
    """A key, and the device that it is or wants to be.

    Attributes:
        sha256: Of the public key (SubjectPublicKeyInfo, DER).
        device_id: None for a preauthorized key that has not asked yet and may have any id.
        model: The model to follow; empty as for device_id.
        is_rival: It waits for a device id that another key has, had, or wants too: an alert.
    """

    sha256: bytes
    device_id: str | None
    model: str
    name: str
    state: KeyState
    requested_at: datetime
    decided_at: datetime | None = None
    is_rival: bool = False

    @property
    def short(self) -> str:
        """What lists show of the key; enough to name it."""
        return self.sha256.hex()[:16]


def after(state: KeyState, verb: Verb) -> KeyState | None:
    """The state of a key after an operator's verb; None where that is refused."""
    return VERBS.get((state, verb))


def answer_to_request(seen: KeyState | None, policy: Policy, is_rival: bool) -> KeyState:
    """The state of a key after its request.

    Args:
        seen: What it was; None: never heard of.
        policy: The fleet's.
        is_rival: Another key is or was accepted for the device id that it wants.
    """
    if seen not in (None, KeyState.PREAUTHORIZED):
        return seen
    if is_rival:
        return KeyState.PENDING
    if seen is KeyState.PREAUTHORIZED or policy is Policy.OPEN:
        return KeyState.ACCEPTED
    return KeyState.PENDING


def require_device_id(text: str) -> str:
    """A device id that may stand in certificates, paths and tables.

    Raises:
        RequestError: it may not.
    """
    if DEVICE_ID.fullmatch(text) is None:
        raise RequestError(
            f"device_id: expected 1 to {LONGEST_ID} letters, digits, '.', '_' and '-', "
            f"beginning with a letter or digit, found {text[:LONGEST_ID]!r}"
        )
    return text
