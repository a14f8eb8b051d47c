"""Decisions on who may what, without a connection."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server.errors import ForbiddenError, HomeError, RequestError
from server.identity import authority as authority_module
from server.identity.access import ROLES, require_access
from server.identity.authority import Authority, ServerFile
from server.identity.certificates import (
    SERVER_LIFE,
    DeviceIdentity,
    EnrolmentIdentity,
    OperatorIdentity,
    Role,
    names_of,
    require_server_name,
)
from server.identity.keys import (
    VERBS,
    KeyState,
    Policy,
    Verb,
    after,
    answer_to_request,
    require_device_id,
)
from server.serving import SERVICE_NAMES

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DEVICE, ENROLMENT = DeviceIdentity("d", b""), EnrolmentIdentity(b"")
ADMIN = OperatorIdentity("ann", Role.ADMIN, b"")


@pytest.mark.parametrize("identity", [DEVICE, ENROLMENT, ADMIN])
def test_a_service_that_nobody_put_in_the_table_is_for_nobody(identity) -> None:
    with pytest.raises(ForbiddenError, match="for certificates of: nobody"):
        require_access("/ota.v1.NewService/Do", identity)
    with pytest.raises(ForbiddenError):
        require_access("/ota.v1.EnrollmentService/NewMethod", identity)
    with pytest.raises(ForbiddenError):
        require_access("", identity)


def test_every_service_that_is_served_is_for_somebody() -> None:
    for service in SERVICE_NAMES:
        methods = {"ota.v1.EnrollmentService": "Enroll"}
        method = f"/{service}/{methods.get(service, 'Any')}"
        allowed = 0
        for identity in (DEVICE, ENROLMENT, ADMIN):
            try:
                require_access(method, identity)
                allowed += 1
            except ForbiddenError:
                continue
        assert allowed == 1, service


def test_a_method_of_operators_that_has_no_role_needs_the_highest() -> None:
    require_access("/ota.v1.OperatorService/New", ADMIN)
    for role in (Role.VIEWER, Role.OPERATOR):
        with pytest.raises(ForbiddenError, match="needs the role admin"):
            require_access("/ota.v1.OperatorService/New", OperatorIdentity("ann", role, b""))


@pytest.mark.parametrize("role", Role)
def test_roles_include_those_below_them(role: Role) -> None:
    identity = OperatorIdentity("ann", role, b"")
    for method, needed in ROLES.items():
        may = list(Role).index(role) >= list(Role).index(needed)
        try:
            require_access(f"/ota.v1.OperatorService/{method}", identity)
            assert may
        except ForbiddenError:
            assert not may


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("seen", [None, *KeyState])
def test_a_rival_key_is_never_accepted_by_a_rule(seen, policy: Policy) -> None:
    answered = answer_to_request(seen, policy, is_rival=True)
    assert answered in (seen, KeyState.PENDING)
    if seen in (None, KeyState.PREAUTHORIZED):
        assert answered is KeyState.PENDING


@pytest.mark.parametrize("state", [KeyState.REJECTED, KeyState.REVOKED])
def test_asking_again_does_not_undo_a_decision(state: KeyState) -> None:
    assert answer_to_request(state, Policy.OPEN, is_rival=False) is state


def test_a_revoked_key_never_counts_again() -> None:
    assert {after(KeyState.REVOKED, verb) for verb in Verb} == {None, KeyState.REVOKED}
    assert all(VERBS[key] is not KeyState.PENDING for key in VERBS)


@pytest.mark.parametrize("text", ["", ".", "..", "../x", "a/b", "a b", "-a", "x" * 33, "ä", "a\n"])
def test_an_id_that_could_be_a_path_or_another_name_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        require_device_id(text)


@pytest.mark.parametrize("text", ["", "a b", "a/b", "a:b", "ä.example", "a\n", "x,y"])
def test_what_is_no_host_is_not_put_into_a_certificate(text: str) -> None:
    with pytest.raises(RequestError):
        require_server_name(text)


def test_making_keys_again_ends_what_was_begun_and_keeps_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after each file: no certificate without its key, and the next try ends it."""
    real = authority_module.write_secret
    for survivors in range(7):
        home = tmp_path / str(survivors)
        home.mkdir()
        written: list[Path] = []

        def write(path: Path, content: bytes, left: int = survivors, seen=written) -> None:
            if len(seen) == left:
                raise KeyboardInterrupt
            real(path, content)
            seen.append(path)

        monkeypatch.setattr(authority_module, "write_secret", write)
        try:
            Authority.create(home, NOW)
        except KeyboardInterrupt:
            assert survivors < 6
        monkeypatch.setattr(authority_module, "write_secret", real)
        kept = {p: p.read_bytes() for p in home.rglob("*.pem")}
        made = Authority.create(home, NOW)
        assert {p: p.read_bytes() for p in kept} == kept
        for pair in (made.devices, made.operators):
            assert pair.certificate.public_key() == pair.key.public_key()
        assert len(made.enrolment_key_sha256()) == 32


def test_names_given_later_join_those_of_before(tmp_path: Path) -> None:
    Authority.create(tmp_path, NOW, names=["one.example"])
    made = Authority.create(tmp_path, NOW, names=["two.example"])
    assert {"127.0.0.1", "one.example", "two.example"} <= set(names_of(made.server_certificate()))
    before = made.server_certificate()
    Authority.create(tmp_path, NOW, names=["two.example"])
    assert made.server_certificate() == before


def test_a_server_certificate_renews_itself_when_half_of_it_is_over(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path, NOW, names=["ota.example.org"])
    before = authority.server_certificate()
    clock = [NOW + SERVER_LIFE / 2 - timedelta(days=1)]
    file = ServerFile(authority, lambda: clock[0])
    assert file.changed() is not None
    assert file.changed() is None
    assert authority.server_certificate() == before
    clock[0] += timedelta(days=2)
    assert file.changed() is not None
    after_ = authority.server_certificate()
    assert after_ != before
    assert names_of(after_) == names_of(before)
    assert "ota.example.org" in names_of(after_)


def test_what_devices_check_is_valid_for_a_clock_at_1970_and_one_a_year_ahead(
    tmp_path: Path,
) -> None:
    """F8: a device that has lost its clock still connects."""
    authority = Authority.create(tmp_path, NOW)
    worst = NOW + SERVER_LIFE / 2  # just before the server renews its own
    for certificate in (authority.devices.certificate, authority.server_certificate()):
        assert certificate.not_valid_before_utc <= datetime(1970, 1, 1, tzinfo=UTC)
        assert certificate.not_valid_after_utc > worst + timedelta(days=400)


def test_keys_that_are_missing_or_damaged_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="ota-server init"):
        Authority.open(tmp_path)
    Authority.create(tmp_path, NOW)
    (tmp_path / "tls" / "device-authority.key").write_bytes(b"damaged")
    with pytest.raises(HomeError, match=r"device-authority\.key: expected a private key"):
        Authority.open(tmp_path)
