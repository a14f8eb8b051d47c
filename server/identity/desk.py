"""Where an operator decides on devices: at a home of this machine, or at a server elsewhere.

>>> with at_home(Path("srv"), None, None) as desk:
...     desk.decide(find(desk.all(), "kitchen").sha256, Verb.ACCEPT)
>>> with at_server("ota.example.org:50051", Path("alice.pem")) as desk: ...
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from protos.ota.v1 import operator_pb2, operator_pb2_grpc
from server.clock import utc_now
from server.errors import NotFoundError, RemoteError, RequestError, SettingError
from server.home import ServerHome
from server.identity.authority import read_client_file
from server.identity.keys import DeviceKey, KeyState, Verb
from server.registry.identities import Identities

TIMEOUT_S = 30.0

STATES = {
    KeyState.PREAUTHORIZED: operator_pb2.KEY_STATE_PREAUTHORIZED,
    KeyState.PENDING: operator_pb2.KEY_STATE_PENDING,
    KeyState.ACCEPTED: operator_pb2.KEY_STATE_ACCEPTED,
    KeyState.REJECTED: operator_pb2.KEY_STATE_REJECTED,
    KeyState.REVOKED: operator_pb2.KEY_STATE_REVOKED,
}
VERBS = {
    Verb.ACCEPT: operator_pb2.VERB_ACCEPT,
    Verb.REJECT: operator_pb2.VERB_REJECT,
    Verb.REVOKE: operator_pb2.VERB_REVOKE,
}
FEWEST_DIGITS = 8


class Desk(Protocol):
    """What is decided on devices; errors are those of server.errors."""

    def all(self, state: KeyState | None = None) -> Sequence[DeviceKey]:
        """All keys, or those of a state, oldest request first."""
        ...

    def decide(self, key_sha256: bytes, verb: Verb, *, replace: bool = False) -> DeviceKey:
        """Accept, reject or revoke a key."""
        ...

    def preauthorize(self, key_sha256: bytes, device_id: str | None, model: str) -> DeviceKey:
        """Accept a key before it asks."""
        ...

    def decommission(self, device_id: str) -> None:
        """Take a device out of service for good."""
        ...


def find(keys: Sequence[DeviceKey], text: str) -> DeviceKey:
    """The key that a person means: by the beginning of its SHA-256 in hex, or by device id.

    A device id means its accepted key, or else the only key that asks for it.

    Raises:
        NotFoundError: it is nobody's.
        RequestError: it could be several.
    """
    by_key = [
        key for key in keys if len(text) >= FEWEST_DIGITS and key.sha256.hex().startswith(text)
    ]
    by_id = [key for key in keys if key.device_id == text]
    accepted = [key for key in by_id if key.state is KeyState.ACCEPTED]
    # The SHA-256 stands for one key, and an id that looks like its beginning must not hide it.
    found = by_key or accepted or by_id
    if not found:
        raise NotFoundError(f"expected a device id or a key, found {text!r}, which is neither")
    if len(found) > 1:
        shown = ", ".join(key.short for key in found)
        raise RequestError(f"expected one key, found {len(found)} for {text!r}: {shown}")
    return found[0]


class LocalDesk:
    """A home of this machine; whoever may read its files may decide."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    def all(self, state: KeyState | None = None) -> Sequence[DeviceKey]:
        """As in Desk."""
        return self._identities.all(state)

    def decide(self, key_sha256: bytes, verb: Verb, *, replace: bool = False) -> DeviceKey:
        """As in Desk."""
        return self._identities.decide(key_sha256, verb, utc_now(), replace=replace)

    def preauthorize(self, key_sha256: bytes, device_id: str | None, model: str) -> DeviceKey:
        """As in Desk."""
        return self._identities.preauthorize(key_sha256, device_id, model, utc_now())

    def decommission(self, device_id: str) -> None:
        """As in Desk."""
        self._identities.decommission(device_id, utc_now())


class RemoteDesk:
    """A server, by an operator's credential."""

    def __init__(self, address: str, channel: grpc.Channel) -> None:
        self._address = address
        self._stub = operator_pb2_grpc.OperatorServiceStub(channel)

    def all(self, state: KeyState | None = None) -> Sequence[DeviceKey]:
        """As in Desk."""
        wanted = STATES[state] if state is not None else operator_pb2.KEY_STATE_UNSPECIFIED
        request = operator_pb2.ListDevicesRequest(state=wanted)
        with self._one_line_errors():
            parts = self._stub.ListDevices(request, timeout=TIMEOUT_S)
            return [key_of(message) for part in parts for message in part.devices]

    def decide(self, key_sha256: bytes, verb: Verb, *, replace: bool = False) -> DeviceKey:
        """As in Desk."""
        request = operator_pb2.DecideKeyRequest(
            key_sha256=key_sha256, verb=VERBS[verb], replace=replace
        )
        with self._one_line_errors():
            return key_of(self._stub.DecideKey(request, timeout=TIMEOUT_S).device)

    def preauthorize(self, key_sha256: bytes, device_id: str | None, model: str) -> DeviceKey:
        """As in Desk."""
        request = operator_pb2.PreauthorizeKeyRequest(
            key_sha256=key_sha256, device_id=device_id or "", model=model
        )
        with self._one_line_errors():
            return key_of(self._stub.PreauthorizeKey(request, timeout=TIMEOUT_S).device)

    def decommission(self, device_id: str) -> None:
        """As in Desk."""
        request = operator_pb2.DecommissionDeviceRequest(device_id=device_id)
        with self._one_line_errors():
            self._stub.DecommissionDevice(request, timeout=TIMEOUT_S)

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            told = " ".join((error.details() or "no reason given").split())
            hint = ""
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                hint = " (no server there, or one that does not take this credential)"
            raise RemoteError(f"{self._address}: {error.code().name}: {told}{hint}") from error


@contextmanager
def at_home(folder: Path, database: str | None, store: str | None) -> Iterator[Desk]:
    """The desk of a home."""
    with closing(ServerHome.open(folder, database=database, store=store)) as home:
        yield LocalDesk(Identities(home.registry))


@contextmanager
def at_server(address: str, credential: Path) -> Iterator[Desk]:
    """The desk of a server.

    Args:
        address: HOST:PORT, the host as the server's certificate names it.
        credential: What `ota-server operator add` wrote.

    Raises:
        SettingError: not an address.
        HomeError: the file is no credential.
    """
    if not address.rpartition(":")[2].isdecimal():
        raise SettingError(f"expected a server as HOST:PORT with --credential, found {address!r}")
    roots, certificate, key = read_client_file(credential)
    credentials = grpc.ssl_channel_credentials(roots, key, certificate)
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(address, credentials, options=options) as channel:
        yield RemoteDesk(address, channel)


def message_of(key: DeviceKey) -> operator_pb2.DeviceKey:
    """A key as it travels."""
    message = operator_pb2.DeviceKey(
        key_sha256=key.sha256,
        device_id=key.device_id or "",
        model=key.model,
        name=key.name,
        state=STATES[key.state],
        requested_at=_timestamp(key.requested_at),
        is_alert=key.is_rival,
    )
    if key.decided_at is not None:
        message.decided_at.CopyFrom(_timestamp(key.decided_at))
    return message


def key_of(message: operator_pb2.DeviceKey) -> DeviceKey:
    """The key of a message."""
    states = {number: state for state, number in STATES.items()}
    return DeviceKey(
        sha256=message.key_sha256,
        device_id=message.device_id or None,
        model=message.model,
        name=message.name,
        # A state of a newer protocol is nothing that this program could decide on.
        state=states.get(message.state, KeyState.REVOKED),
        requested_at=message.requested_at.ToDatetime(tzinfo=UTC),
        decided_at=(
            message.decided_at.ToDatetime(tzinfo=UTC) if message.HasField("decided_at") else None
        ),
        is_rival=message.is_alert,
    )


def _timestamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
