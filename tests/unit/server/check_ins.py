"""Check-ins of one device, which the server itself handles many at a time."""

from datetime import datetime

from server import devices
from server.devices import Answer, CheckIn, Installed
from server.domain import Attempt
from server.errors import ServerError
from server.registry import Registry
from server.registry.check_ins import CheckedIn


def check_in(
    registry: Registry, device_id: str, installed: Installed | None, **said: object
) -> Answer:
    """Ask as a device; `now`, `random` and what else it says."""
    rest = {name: said.pop(name) for name in ("now", "random") if name in said}
    (answer,) = devices.check_in(registry, [CheckIn(device_id, installed, **said)], **rest)
    if isinstance(answer, ServerError):
        raise answer
    return answer


def record(
    registry: Registry,
    device_id: str,
    installed: int | None,
    attempt: Attempt | None,
    now: datetime,
) -> bool:
    """What a check-in leaves in the registry; whether its attempt, if it has one, was opened."""
    opened = registry.check_ins.record([CheckedIn(device_id, installed, attempt)], now)
    return attempt is None or opened == {attempt.attempt_id}
