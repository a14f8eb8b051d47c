"""Keys of devices, and what holds for the whole fleet; each operation is one transaction.

    >>> identities = Identities(home.registry)
    >>> identities.request(key_sha256, "", "digits", "kitchen", now).state
    <KeyState.PENDING: 'pending'>

Every change writes its entry of the audit log in its own transaction.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Label, bindparam, func, select, update
from sqlalchemy.orm import Session, aliased

from server.domain import AttemptState
from server.errors import ConflictError, ForbiddenError, FullError, NotFoundError, RequestError
from server.identity.keys import DeviceKey, KeyState, Policy, Verb, after, answer_to_request
from server.registry import audit
from server.registry.attempts import end_open
from server.registry.audit import AuditEntry
from server.registry.key_rows import DeviceKeyRow, FleetSettingRow
from server.registry.rows import AttemptRow, DeviceRow, ModelRow
from server.registry.transactions import Transactions

MOST_PENDING = 10_000
"""Requests that wait: who has ca.pem, and no more, cannot fill the disk."""

POLICY, AUTHORITY, ENROLMENT_KEY = "enrolment", "device_authority", "enrolment_key"
RULE = "policy"
"""The actor of what a rule of the fleet decides."""
WAS_ACCEPTED = (KeyState.ACCEPTED, KeyState.REVOKED)


# Every call asks it, and making a statement costs as much as asking it.
_STANDINGS = select(DeviceKeyRow.key_sha256, DeviceKeyRow.device_id, DeviceKeyRow.state).where(
    DeviceKeyRow.key_sha256.in_(bindparam("keys", expanding=True))
)


@dataclass(frozen=True)
class Standing:
    """The device that a key is of, and how it stands there."""

    device_id: str | None
    state: KeyState


class Identities:
    """The part of the registry that knows keys."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    # ---- what holds for the fleet

    def setting(self, name: str) -> str | None:
        """What all servers of the fleet agree on; None where it was never said."""
        with self._transactions.reading() as session:
            return _setting(session, name)

    def set(self, name: str, value: str, now: datetime) -> None:
        """Say what all servers go by from now on; a value that is there already is no change."""
        with self._transactions.writing() as session:
            before = _setting(session, name)
            if before == value:
                return
            session.merge(FleetSettingRow(name=name, value=value))
            self._transactions.record(session, f"fleet.{name}", value, {"before": before}, now)

    # ---- keys

    def all(self, state: KeyState | None = None) -> tuple[DeviceKey, ...]:
        """All keys, or those of a state, oldest request first."""
        with self._transactions.reading() as session:
            wanted = select(DeviceKeyRow, _is_rival()).order_by(
                DeviceKeyRow.requested_at, DeviceKeyRow.key_sha256
            )
            if state is not None:
                wanted = wanted.where(DeviceKeyRow.state == state)
            return tuple(_key(row, rival) for row, rival in session.execute(wanted))

    def standings(self, keys: Sequence[bytes]) -> list[Standing | None]:
        """Whose keys these are, and whether they count; None for one that was never heard of."""
        with self._transactions.reading() as session:
            rows = session.execute(_STANDINGS, {"keys": list(set(keys))})
            found = {row.key_sha256: Standing(row.device_id, row.state) for row in rows}
        return [found.get(key) for key in keys]

    def key(self, key_sha256: bytes) -> DeviceKey | None:
        """One key; None where it was never heard of."""
        with self._transactions.reading() as session:
            return _read(session, key_sha256)

    def request(
        self, key_sha256: bytes, device_id: str, model: str, name: str, now: datetime
    ) -> DeviceKey:
        """Record that a key wants to be a device's; repeating it changes nothing.

        Args:
            key_sha256: The key.
            device_id: The id that it wants; empty for a new one.
            model: The model that the device will follow; empty for the only one.
            name: What people call the device.
            now: The time.

        Raises:
            NotFoundError: no such model.
            RequestError: no model is named, and there is not just one.
            ForbiddenError: the device of that id was decommissioned.
            FullError: too many requests wait already.
            ConflictError: another server decided on the same key or device meanwhile.
        """
        with self._transactions.writing() as session:
            row = session.get(DeviceKeyRow, key_sha256, with_for_update=True)
            if row is not None and row.state is not KeyState.PREAUTHORIZED:
                return _must_read(session, key_sha256)
            wanted = (row.device_id if row else None) or device_id or uuid.uuid4().hex
            _require_in_service(session, wanted)
            is_rival = _has_another(session, wanted, key_sha256)
            seen = row.state if row is not None else None
            policy = Policy(_setting(session, POLICY) or Policy.APPROVE)
            state = answer_to_request(seen, policy, is_rival)
            model = _known_model(session, (row.model if row else "") or model)
            if row is None:
                _require_room(session)
                row = DeviceKeyRow(key_sha256=key_sha256)
            row.device_id, row.model, row.name = wanted, model, name
            row.state, row.requested_at = state, now
            session.add(row)
            details = {"key": key_sha256.hex(), "model": row.model, "is_rival": is_rival}
            audit.record(session, "enrolment", "device.request", wanted, details, now)
            if state is KeyState.ACCEPTED:
                row.decided_at = now
                _put_in_service(session, row, now)
                rule = str(seen or policy)
                why = {"key": key_sha256.hex(), "because": rule}
                audit.record(session, RULE, "device.accept", wanted, why, now)
            session.flush()
            return _must_read(session, key_sha256)

    def decide(
        self, key_sha256: bytes, verb: Verb, now: datetime, *, replace: bool = False
    ) -> DeviceKey:
        """Accept, reject or revoke a key; what is done already is no change.

        Args:
            key_sha256: The key.
            verb: What to do.
            now: The time.
            replace: Revoke the key that the device has, so that this one takes its place.

        Raises:
            NotFoundError: the key was never heard of.
            ConflictError: its state does not admit the verb, or the device has another key.
            ForbiddenError: the device was decommissioned.
        """
        with self._transactions.writing() as session:
            row = session.get(DeviceKeyRow, key_sha256, with_for_update=True)
            if row is None:
                raise NotFoundError(f"expected a known key, found {key_sha256.hex()}")
            reached = after(row.state, verb)
            if reached is None:
                raise ConflictError(
                    f"expected a key to {verb}, found {_title(row)}, which is {row.state}"
                )
            if reached is row.state:
                return _must_read(session, key_sha256)
            details: dict[str, object] = {"key": key_sha256.hex(), "before": str(row.state)}
            if reached is KeyState.ACCEPTED:
                _require_in_service(session, row.device_id or "")
                details["replaces"] = _make_way(session, row, replace, now)
                _put_in_service(session, row, now)
            _move(session, row, reached, now)
            subject = row.device_id or key_sha256.hex()
            self._transactions.record(session, f"device.{verb}", subject, details, now)
            return _must_read(session, key_sha256)

    def preauthorize(
        self, key_sha256: bytes, device_id: str | None, model: str, now: datetime
    ) -> DeviceKey:
        """Accept a key before it asks.

        Args:
            key_sha256: As `ota-edge key` prints it.
            device_id: The only id that the key may have; None for any.
            model: The model that the device will follow; empty: as it asks.
            now: The time.

        Raises:
            ConflictError: the key has asked already; accept it.
            NotFoundError: no such model.
        """
        with self._transactions.writing() as session:
            row = session.get(DeviceKeyRow, key_sha256, with_for_update=True)
            if row is not None and row.state is not KeyState.PREAUTHORIZED:
                raise ConflictError(f"expected a new key, found {_title(row)}, {row.state} already")
            if model:
                _known_model(session, model)
            session.merge(
                DeviceKeyRow(
                    key_sha256=key_sha256,
                    device_id=device_id,
                    model=model,
                    name="",
                    state=KeyState.PREAUTHORIZED,
                    requested_at=now,
                )
            )
            details = {"device_id": device_id, "model": model}
            self._transactions.record(
                session, "device.preauthorize", key_sha256.hex(), details, now
            )
            session.flush()
            return _must_read(session, key_sha256)

    def decommission(self, device_id: str, now: datetime) -> None:
        """Take a device out of service for good: keys, open attempts and counts end, history stays.

        Raises:
            NotFoundError: no such device.
        """
        with self._transactions.writing() as session:
            device = session.get(DeviceRow, device_id, with_for_update=True)
            if device is None:
                raise NotFoundError(f"expected a device, found none of id {device_id!r}")
            if device.decommissioned_at is not None:
                return
            device.decommissioned_at = now
            session.execute(
                update(DeviceKeyRow)
                .where(DeviceKeyRow.device_id == device_id)
                .where(DeviceKeyRow.state.in_((KeyState.ACCEPTED, KeyState.PENDING)))
                .values(state=KeyState.REVOKED, decided_at=now)
            )
            own = AttemptRow.device_id == device_id
            end_open(session, AttemptState.SUPERSEDED, None, now, own)
            self._transactions.record(session, "device.decommission", device_id, {}, now)

    # ---- the audit log

    def record(
        self, action: str, subject: str, details: Mapping[str, object], now: datetime
    ) -> None:
        """Note a change that no table holds, such as a certificate that was made."""
        with self._transactions.writing() as session:
            self._transactions.record(session, action, subject, details, now)

    def audit(self, since: datetime | None = None) -> tuple[AuditEntry, ...]:
        """Entries in their order, from a time on."""
        with self._transactions.reading() as session:
            return audit.entries(session, since)


def _setting(session: Session, name: str) -> str | None:
    row = session.get(FleetSettingRow, name)
    return row.value if row is not None else None


def _is_rival() -> Label[bool]:
    """Whether a key waits for an id that another one has, had or wants too, as a column."""
    other = aliased(DeviceKeyRow)
    return (
        select(other.key_sha256)
        .where(
            other.device_id == DeviceKeyRow.device_id,
            other.key_sha256 != DeviceKeyRow.key_sha256,
            other.state.in_((*WAS_ACCEPTED, KeyState.PENDING)),
        )
        .exists()
        & (DeviceKeyRow.state == KeyState.PENDING)
    ).label("is_rival")


def _has_another(session: Session, device_id: str, key_sha256: bytes) -> bool:
    """Whether a device id is somebody's already: another key is or was accepted for it."""
    other = select(DeviceKeyRow.key_sha256).where(
        DeviceKeyRow.device_id == device_id,
        DeviceKeyRow.key_sha256 != key_sha256,
        DeviceKeyRow.state.in_(WAS_ACCEPTED),
    )
    return session.scalar(other.limit(1)) is not None


def _read(session: Session, key_sha256: bytes) -> DeviceKey | None:
    found = session.execute(
        select(DeviceKeyRow, _is_rival()).where(DeviceKeyRow.key_sha256 == key_sha256)
    ).one_or_none()
    return _key(*found) if found is not None else None


def _must_read(session: Session, key_sha256: bytes) -> DeviceKey:
    session.flush()
    found = _read(session, key_sha256)
    if found is None:
        raise AssertionError("a key that was just written")
    return found


def _key(row: DeviceKeyRow, is_rival: bool) -> DeviceKey:
    return DeviceKey(
        row.key_sha256,
        row.device_id,
        row.model,
        row.name,
        row.state,
        row.requested_at,
        row.decided_at,
        bool(is_rival),
    )


def _title(row: DeviceKeyRow) -> str:
    return f"key {row.key_sha256.hex()[:16]} of device {row.device_id}"


def _require_in_service(session: Session, device_id: str) -> None:
    device = session.get(DeviceRow, device_id)
    if device is not None and device.decommissioned_at is not None:
        raise ForbiddenError(f"device {device_id} was decommissioned, and its id is not used again")


def _require_room(session: Session) -> None:
    waiting = session.scalar(select(func.count()).where(DeviceKeyRow.state == KeyState.PENDING))
    if waiting is not None and waiting >= MOST_PENDING:
        raise FullError(f"expected fewer than {MOST_PENDING} requests to wait, found {waiting}")


def _known_model(session: Session, model: str) -> str:
    if model:
        if session.get(ModelRow, model) is None:
            raise NotFoundError(f"expected a known model, found {model!r}")
        return model
    names = list(session.scalars(select(ModelRow.name).order_by(ModelRow.name).limit(20)))
    if len(names) != 1:
        found = ", ".join(names) or "none"
        raise RequestError(f"expected the name of a model to follow; the server has: {found}")
    return names[0]


def _put_in_service(session: Session, row: DeviceKeyRow, now: datetime) -> None:
    """Add the device of an accepted key; one that is there stays as it is."""
    if row.device_id is None or session.get(DeviceRow, row.device_id) is not None:
        return
    session.add(
        DeviceRow(
            device_id=row.device_id,
            model=row.model,
            name=row.name,
            enrolled_at=now,
            seen_at=now,
        )
    )


def _make_way(session: Session, row: DeviceKeyRow, replace: bool, now: datetime) -> str | None:
    """Revoke the key that the device has, if that is wanted; its SHA-256 in hex."""
    older = session.scalar(
        select(DeviceKeyRow).where(
            DeviceKeyRow.device_id == row.device_id, DeviceKeyRow.state == KeyState.ACCEPTED
        )
    )
    if older is None:
        return None
    if not replace:
        raise ConflictError(
            f"device {row.device_id}: expected no accepted key, found "
            f"{older.key_sha256.hex()[:16]}; revoke it, or accept with --replace"
        )
    _move(session, older, KeyState.REVOKED, now)
    return older.key_sha256.hex()


def _move(session: Session, row: DeviceKeyRow, reached: KeyState, now: datetime) -> None:
    seen = row.state
    moved = session.scalar(
        update(DeviceKeyRow)
        .where(DeviceKeyRow.key_sha256 == row.key_sha256, DeviceKeyRow.state == seen)
        .values(state=reached, decided_at=now)
        .returning(DeviceKeyRow.key_sha256)
    )
    if moved is None:
        raise ConflictError(f"{_title(row)}: expected state {seen}, found that it has moved on")
