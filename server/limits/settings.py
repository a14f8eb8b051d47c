"""The limits of one server. Each is set by `ota-server serve --limit NAME=VALUE`.

>>> Limits.of(["calls-per-s=5", "stall-s=60"]).stall_s
60
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from server.errors import SettingError


@dataclass(frozen=True)
class Limits:
    """What one server takes.

    Attributes:
        request_bytes: Of one message that a caller sends; more is not read.
        check_ins: Under way at once.
        streams: Answers that are streams (blobs, metadata), under way at once.
        caller_streams: The same of one caller.
        connection_streams: Calls under way on one connection; further ones wait at the caller.
        calls_per_s: Of one device or operator, on average.
        calls_at_once: As many it may make before the average counts.
        enrolments_per_s: Calls with the fleet's enrolment credential, from one address.
        enrolments_at_once: As many before the average counts.
        pending_enrolments: Requests of the fleet that wait for an operator.
        stall_s: A stream whose reader takes nothing for so long ends.
        keepalive_s: A silent connection is asked after this whether anybody is there.
        keepalive_timeout_s: And ends when nobody answers for so long.
        least_ping_s: Who asks us more often than that, without need, is cut off.
        idle_s: A connection without calls ends.
    """

    request_bytes: int = 64 * 1024
    check_ins: int = 256
    streams: int = 1024
    caller_streams: int = 16
    connection_streams: int = 100
    calls_per_s: float = 20.0
    calls_at_once: int = 400
    enrolments_per_s: float = 20.0
    enrolments_at_once: int = 2000
    pending_enrolments: int = 10_000
    stall_s: float = 900.0
    keepalive_s: float = 300.0
    keepalive_timeout_s: float = 20.0
    least_ping_s: float = 120.0
    idle_s: float = 900.0

    @classmethod
    def of(cls, settings: Sequence[str]) -> "Limits":
        """The defaults but for these.

        Args:
            settings: NAME=VALUE each; names as above, with hyphens.

        Raises:
            SettingError: no such limit, or not a number above 0.
        """
        limits = cls()
        for setting in settings:
            name, _, value = setting.partition("=")
            limits = limits._with(name.strip(), value.strip())
        return limits

    def _with(self, name: str, value: str) -> "Limits":
        field = name.replace("-", "_")
        if field not in NAMES or "_" in name:
            known = ", ".join(one.replace("_", "-") for one in NAMES)
            raise SettingError(f"--limit: expected one of {known}; found {name!r}")
        kind = type(getattr(self, field))
        try:
            number = kind(value)
        except ValueError:
            number = 0
        if not 0 < number <= LARGEST:
            what = "a whole number" if kind is int else "a number"
            raise SettingError(
                f"--limit {name}: expected {what} above 0 and up to {LARGEST}, found {value!r}"
            )
        return replace(self, **{field: number})

    def grpc_options(self) -> tuple[tuple[str, int], ...]:
        """Those that gRPC itself keeps."""
        return (
            ("grpc.max_receive_message_length", self.request_bytes),
            ("grpc.max_concurrent_streams", self.connection_streams),
            ("grpc.keepalive_time_ms", _ms(self.keepalive_s)),
            ("grpc.keepalive_timeout_ms", _ms(self.keepalive_timeout_s)),
            ("grpc.http2.min_ping_interval_without_data_ms", _ms(self.least_ping_s)),
            ("grpc.max_connection_idle_ms", _ms(self.idle_s)),
        )


NAMES = tuple(field.name for field in fields(Limits))
LARGEST = 1_000_000
"""Of any limit; milliseconds of it fit the 32 bits of gRPC's options."""


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
