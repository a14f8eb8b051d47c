"""Whose turn it is: how often the one who calls may, by what the certificate says."""

import math
import time
from collections.abc import Callable

from server.errors import BusyError
from server.identity.certificates import DeviceIdentity, Identity, OperatorIdentity
from server.limits.rates import Rate
from server.limits.settings import Limits
from server.observability.fields import note


class Turns:
    """The rates of one server, asked before anything of a call costs something.

    Args:
        limits: How often.
        clock: Seconds that never go back.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._known = Rate(limits.calls_per_s, limits.calls_at_once)
        self._enrolling = Rate(limits.enrolments_per_s, limits.enrolments_at_once)
        self._clock = clock

    def take(self, identity: Identity, peer: str) -> None:
        """Let one call in.

        Args:
            identity: Who calls.
            peer: From where, as gRPC writes it. What enrols has one credential for all, so they
                are told apart by their addresses.

        Raises:
            BusyError: the caller has made too many lately.
        """
        match identity:
            case DeviceIdentity() | OperatorIdentity():
                rate, limit = self._known, "calls-per-s"
            case _:
                rate, limit = self._enrolling, "enrolments-per-s"
        wait_s = rate.wait_s(caller_of(identity, peer), self._clock())
        if wait_s:
            seconds = math.ceil(wait_s)
            raise BusyError(
                f"too many calls of one caller: come again in {seconds} s", seconds, limit
            )


def caller_of(identity: Identity, peer: str) -> str:
    """A name under which the calls of one caller are counted together."""
    match identity:
        case DeviceIdentity(device_id=device_id):
            return f"device:{device_id}"
        case OperatorIdentity(name=name):
            return f"operator:{name}"
    return f"enrolment:{peer.rpartition(':')[0]}"


def note_caller(identity: Identity) -> None:
    """Have the log lines of a call say who made it."""
    match identity:
        case DeviceIdentity(device_id=device_id):
            note(device=device_id)
        case OperatorIdentity(name=name):
            note(operator=name)
        case _:
            note(caller="enrolment")
