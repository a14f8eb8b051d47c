"""A fleet's beginning: keys in HOME/tls, and in the registry what all its servers go by."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from server.errors import HomeError
from server.identity.authority import CREDENTIAL_NAME, TLS_NAME, Authority
from server.identity.keys import Policy
from server.registry import Registry
from server.registry.identities import AUTHORITY, ENROLMENT_KEY, POLICY, Identities


def found(
    folder: Path,
    registry: Registry,
    now: datetime,
    *,
    names: Sequence[str] = (),
    policy: Policy | None = None,
    new_authority: bool = False,
) -> Authority:
    """Make the keys of a new fleet, or end what was begun; what is there stays.

    Args:
        folder: The server's home.
        registry: The fleet's registry; other servers may share it.
        now: The time.
        names: How devices reach the servers, beside loopback and the names of before.
        policy: What becomes of requests; None: as it is, which is `approve` at first.
        new_authority: The fleet's keys are lost: let these ones take their place. Every device
            has to enrol again by a new ca.pem.

    Raises:
        HomeError: the registry is of a fleet whose keys are not here.
        RequestError: a name is none.
    """
    identities = Identities(registry)
    if identities.setting(AUTHORITY) is not None and not new_authority:
        _require_keys(folder)
    authority = Authority.create(folder, now, names)
    if not new_authority:
        _require_same(folder, authority, identities)
    # The files first: a setting names only what is durable.
    identities.set(AUTHORITY, authority.sha256.hex(), now)
    if identities.setting(ENROLMENT_KEY) is None or new_authority:
        identities.set(ENROLMENT_KEY, authority.enrolment_key_sha256().hex(), now)
    if policy is not None:
        identities.set(POLICY, policy, now)
    return authority


def open_authority(folder: Path, registry: Registry) -> Authority:
    """The keys that a server needs to serve.

    Raises:
        HomeError: they are missing, or of another fleet than the registry.
    """
    authority = Authority.open(folder)
    _require_same(folder, authority, Identities(registry))
    return authority


def renew_enrolment(authority: Authority, registry: Registry, now: datetime) -> None:
    """Replace HOME/ca.pem; from now on nobody enrols by the older one. Devices need no change."""
    authority.renew_enrolment(now)
    Identities(registry).set(ENROLMENT_KEY, authority.enrolment_key_sha256().hex(), now)


def _require_keys(folder: Path) -> None:
    for path in (folder / TLS_NAME, folder / CREDENTIAL_NAME):
        if not path.exists():
            raise HomeError(
                f"expected {path}, found none: the registry is of a fleet that has its keys; copy "
                f"{TLS_NAME}/ and {CREDENTIAL_NAME} from another server's home or from the backup"
            )


def _require_same(folder: Path, authority: Authority, identities: Identities) -> None:
    known = identities.setting(AUTHORITY)
    if known is not None and known != authority.sha256.hex():
        raise HomeError(
            f"{folder / TLS_NAME}: expected the authority {known[:16]} of the registry's fleet, "
            f"found {authority.sha256.hex()[:16]}"
        )
