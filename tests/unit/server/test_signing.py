"""Who signs what, with which keys; and what replicas, crashes and backups do to it."""

import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from typer.testing import CliRunner

from protos.ota.v1 import manifest_pb2
from server.cli import app
from server.domain import Step
from server.errors import ConflictError, MissingKeyError, NotFoundError
from server.home import ServerHome
from server.publishing import publish, weights_of
from server.signing import ceremonies, releasing
from server.signing.documents import keyids_of, read, signed
from server.signing.keyring import Keyring
from server.signing.online import OnlineSigner
from server.signing.roles import LISTED_GENERATIONS, ONLINE, RELEASES, ROLES, list_role
from tests.unit.server.models import CARD, exact, snapshot, sparse, weights

DAY = timedelta(days=1)
LIST = list_role("digits")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServerHome]:
    made = ServerHome.create(tmp_path / "srv")
    publish(made, "digits", snapshot(weights(0)), graph=b"graph", card=CARD)
    yield made
    made.close()


def publish_next(home: ServerHome, count: int = 1) -> None:
    for _ in range(count):
        head = home.registry.head("digits").number
        publish(home, "digits", sparse(weights_of(home, "digits", head), head))


def signer(home: ServerHome, ahead: timedelta = timedelta(0)) -> OnlineSigner:
    return OnlineSigner(home.registry.signing, home.keys, lambda: datetime.now(UTC) + ahead)


def current(home: ServerHome, role: str):
    kinds = {"root": Root, "snapshot": Snapshot, "timestamp": Timestamp}
    return read(kinds.get(role, Targets), home.registry.signing.latest()[role])


def verify_all(home: ServerHome) -> None:
    """Every role's newest file is signed by the key that is trusted for it."""
    files = {
        role: Metadata.from_bytes(file.content)
        for role, file in home.registry.signing.latest().items()
    }
    root, targets = files["root"].signed, files["targets"].signed
    for role in ("root", "targets", "snapshot", "timestamp"):
        root.verify_delegate(role, files[role].signed_bytes, files[role].signatures)
    for role in ("releases", "routes"):
        targets.verify_delegate(role, files[role].signed_bytes, files[role].signatures)
    lists = set(files["releases"].signed.delegations.roles)
    assert lists == {list_role(model.name) for model in home.registry.models()}
    for role in lists:
        releases = files["releases"].signed
        releases.verify_delegate(role, files[role].signed_bytes, files[role].signatures)
    assert files["timestamp"].signed.snapshot_meta.version == files["snapshot"].signed.version
    for role in ("targets", "releases", "routes", *lists):
        assert files["snapshot"].signed.meta[f"{role}.json"].version == files[role].signed.version


def manifest(home: ServerHome, number: int) -> manifest_pb2.Manifest:
    blob = home.registry.signing.manifests("digits")[number].blob
    return manifest_pb2.Manifest.FromString(home.artifacts.read(blob.sha256, 0, blob.length))


def test_a_new_home_has_every_key_and_all_metadata(home: ServerHome) -> None:
    signer(home).freshen()
    verify_all(home)
    for role in ROLES:
        (path,) = home.keys.files(role)
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_manifest_binds_all_that_a_device_needs(home: ServerHome) -> None:
    publish_next(home)
    made, signed = home.registry.generation("digits", 1), manifest(home, 1)
    assert (signed.model, signed.generation) == ("digits", 1)
    assert signed.digest == made.digest
    assert signed.layout_fingerprint == made.layout_fingerprint
    assert signed.graph.sha256 == made.graph.sha256
    assert signed.card.length == made.card.length
    steps = {s.diff.sha256: s for s in home.registry.steps("digits") if s.target == 1}
    assert {diff.diff.sha256 for diff in signed.diffs} == set(steps)
    for diff in signed.diffs:
        step = steps[diff.diff.sha256]
        assert diff.diff.length == step.diff.length
        assert diff.HasField("base") == (step.base is not None)
        if step.base is not None:
            assert diff.base_digest == home.registry.generation("digits", step.base).digest
    assert signed.previous.sha256 == home.registry.signing.manifests("digits")[0].blob.sha256


def test_publishing_needs_the_releases_key_alone(home: ServerHome) -> None:
    shutil.rmtree(home.keys.offline)
    shutil.rmtree(home.keys.folder / "online")
    publish_next(home)
    assert "digits/1" in current(home, LIST).targets


def test_serving_needs_the_online_keys_alone(home: ServerHome) -> None:
    publish_next(home)
    shutil.rmtree(home.keys.offline)
    shutil.rmtree(home.keys.folder / "releases")
    online = signer(home)
    online.require_keys()
    online.freshen()
    verify_all(home)


def test_without_its_key_nothing_is_published(home: ServerHome) -> None:
    shutil.rmtree(home.keys.folder / "releases")
    with pytest.raises(MissingKeyError, match="releases-"):
        publish_next(home)
    assert home.registry.head("digits").number == 0


@pytest.mark.parametrize("role", ONLINE)
def test_a_server_without_an_online_key_says_so_when_it_starts(home: ServerHome, role: str) -> None:
    for path in home.keys.files(role):
        path.unlink()
    with pytest.raises(MissingKeyError, match=role):
        signer(home).require_keys()


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAA\n"])
def test_a_damaged_key_is_named(home: ServerHome, content: bytes) -> None:
    (path,) = home.keys.files("snapshot")
    path.write_bytes(content)
    with pytest.raises(MissingKeyError, match=path.name):
        signer(home).require_keys()


def test_the_timestamp_is_signed_again_long_before_it_expires(home: ServerHome) -> None:
    signer(home).freshen()
    first = current(home, "timestamp")
    signer(home, ahead=first.expires - datetime.now(UTC) - timedelta(hours=13)).freshen()
    assert current(home, "timestamp").version == first.version
    signer(home, ahead=timedelta(hours=13)).freshen()
    renewed = current(home, "timestamp")
    assert renewed.version > first.version
    assert renewed.expires > first.expires
    verify_all(home)


def test_a_month_without_a_call_is_made_up_for_by_the_next(home: ServerHome) -> None:
    signer(home, ahead=31 * DAY).freshen()
    verify_all(home)
    for role in ONLINE:
        assert current(home, role).expires > datetime.now(UTC) + 31 * DAY


def test_replicas_that_sign_at_once_agree(home: ServerHome) -> None:
    publish_next(home)
    failures = []

    def freshen() -> None:
        try:
            replica = ServerHome.open(home.folder)
            signer(replica, ahead=timedelta(hours=20)).freshen()
            replica.close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=freshen) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    verify_all(home)


def test_a_version_is_replaced_once(home: ServerHome) -> None:
    known = home.registry.signing.manifests()
    late = datetime.now(UTC) + 300 * DAY
    stale = releasing.release_files(home.registry, home.keys, known, late)
    publish_next(home)
    with pytest.raises(ConflictError, match="somebody else signed"):
        home.registry.signing.add(stale)


def test_only_the_newest_generations_are_listed(home: ServerHome) -> None:
    publish_next(home, LISTED_GENERATIONS + 2)
    listed = set(current(home, LIST).targets)
    assert listed == {f"digits/{n}" for n in range(3, LISTED_GENERATIONS + 3)}


def test_a_model_is_listed_apart_so_that_no_device_pays_for_others(home: ServerHome) -> None:
    before = home.registry.signing.latest()
    publish(home, "letters", snapshot(weights(7)))
    between = home.registry.signing.latest()
    assert between[LIST] == before[LIST]
    assert between["releases"] != before["releases"]
    publish_next(home)
    after = home.registry.signing.latest()
    assert after["releases"] == between["releases"]
    assert after[list_role("letters")] == between[list_role("letters")]
    assert set(current(home, LIST).targets) == {"digits/0", "digits/1"}
    signer(home).freshen()
    verify_all(home)


def test_a_list_that_nothing_is_added_to_is_signed_again_with_another(home: ServerHome) -> None:
    publish(home, "letters", snapshot(weights(7)))
    known = home.registry.signing.manifests()
    assert releasing.release_files(home.registry, home.keys, known, datetime.now(UTC)) == ()
    late = datetime.now(UTC) + 200 * DAY
    roles = {f.role for f in releasing.release_files(home.registry, home.keys, known, late)}
    assert roles == {"releases", LIST, list_role("letters")}


def test_a_renewal_of_releases_renews_the_lists(home: ServerHome) -> None:
    before = home.registry.signing.latest()
    ceremonies.renew(home.registry, home.keys, ["releases"], datetime.now(UTC) + DAY)
    after = home.registry.signing.latest()
    for role in ("releases", LIST):
        assert after[role].expires_at > before[role].expires_at + DAY / 2
    signer(home, DAY).freshen()
    verify_all(home)


def test_a_home_whose_models_stood_in_one_list_is_brought_over_by_a_publication(
    home: ServerHome,
) -> None:
    latest = home.registry.signing.latest()
    key = home.keys.signer(RELEASES, keyids_of(RELEASES, latest))
    one = Targets(targets=current(home, LIST).targets)
    old = signed(RELEASES, one, [key], latest[RELEASES], datetime.now(UTC))
    with sqlite3.connect(home.folder / "registry.db") as database:
        database.execute("DELETE FROM metadata WHERE role = ?", (LIST,))
    database.close()
    home.registry.signing.add([old])
    publish_next(home)
    signer(home).freshen()
    verify_all(home)
    assert set(current(home, LIST).targets) == {"digits/0", "digits/1"}
    assert not current(home, "releases").targets


def test_old_versions_are_forgotten_but_roots_are_not(home: ServerHome) -> None:
    first = current(home, LIST).version
    publish_next(home, 20)
    with pytest.raises(NotFoundError):
        home.registry.signing.read(LIST, first)
    for _ in range(3):
        ceremonies.rotate(home.registry, home.keys, ["root"], datetime.now(UTC))
    for version in (1, 2, 3, 4):
        Metadata.from_bytes(home.registry.signing.read("root", version))


def test_a_diff_made_later_is_named_by_routes(home: ServerHome) -> None:
    publish_next(home, 2)
    old, new = (weights_of(home, "digits", number) for number in (0, 2))
    blob = home.artifacts.put(exact(old, new))
    home.registry.add_step("digits", Step(0, 2, new.digest(), blob))
    signer(home).freshen()
    (path,) = current(home, "routes").targets
    assert path == f"routes/digits/{blob.sha256.hex()}"
    verify_all(home)
    before = home.registry.signing.latest()
    signer(home).freshen()
    assert home.registry.signing.latest() == before


def test_a_registry_from_a_backup_signs_newer_versions_than_were_seen(
    tmp_path: Path, home: ServerHome
) -> None:
    backup = tmp_path / "backup.db"
    home.close()
    shutil.copy(home.folder / "registry.db", backup)
    reopened = ServerHome.open(home.folder)
    later = timedelta(hours=20)
    signer(reopened, ahead=later).freshen()
    seen = {role: current(reopened, role).version for role in ONLINE}
    reopened.close()
    for path in home.folder.glob("registry.db*"):
        path.unlink()
    shutil.copy(backup, home.folder / "registry.db")
    restored = ServerHome.open(home.folder)
    signer(restored, ahead=2 * later).freshen()
    assert current(restored, "timestamp").version > seen["timestamp"]
    restored.close()


@pytest.mark.parametrize("roles", [[role] for role in ROLES] + [list(ONLINE), list(ROLES)])
def test_a_rotation_leaves_metadata_that_verifies(home: ServerHome, roles: list[str]) -> None:
    signer(home).freshen()
    before = {role: home.registry.signing.latest()[role] for role in ROLES}
    ceremonies.rotate(home.registry, home.keys, roles, datetime.now(UTC))
    signer(home).freshen()
    verify_all(home)
    root = Metadata.from_bytes(home.registry.signing.latest()["root"].content)
    old = Metadata.from_bytes(before["root"].content).signed
    if root.signed.version > 1:
        old.verify_delegate("root", root.signed_bytes, root.signatures)
    publish_next(home)
    signer(home).freshen()
    verify_all(home)


def test_without_the_offline_keys_nothing_is_rotated_and_no_key_is_made(home: ServerHome) -> None:
    shutil.rmtree(home.keys.offline)
    before, files = home.registry.signing.latest(), home.keys.files("releases")
    for role in ("root", "targets", "releases", "timestamp"):
        with pytest.raises(MissingKeyError):
            ceremonies.rotate(home.registry, home.keys, [role], datetime.now(UTC))
    assert home.registry.signing.latest() == before
    assert home.keys.files("releases") == files


def test_a_revoked_generation_is_not_listed_and_not_offered(home: ServerHome) -> None:
    publish_next(home, 2)
    now = datetime.now(UTC)
    assert releasing.revoke(home.registry, home.keys, "digits", [2], now) == (2,)
    assert releasing.revoke(home.registry, home.keys, "digits", [2], now) == ()
    targets = current(home, LIST).targets
    assert set(targets) == {"digits/0", "digits/1", "digits/revoked"}
    assert targets["digits/revoked"].custom == {"generations": [2]}
    assert home.registry.signing.revoked("digits") == {2}
    with pytest.raises(NotFoundError):
        releasing.revoke(home.registry, home.keys, "digits", [9], now)


def test_keys_elsewhere_from_the_beginning(tmp_path: Path) -> None:
    made = ServerHome.create(tmp_path / "srv", offline_keys=tmp_path / "usb")
    made.close()
    assert len(list((tmp_path / "usb").glob("*.pem"))) == 2
    assert not (made.folder / "keys" / "offline").exists()
    reopened = ServerHome.open(made.folder)
    publish(reopened, "digits", snapshot(weights(0)))
    ring = Keyring.of(made.folder, tmp_path / "usb")
    ceremonies.rotate(reopened.registry, ring, ["root"], datetime.now(UTC))
    reopened.close()


def share_identity(home: Path, other: Path) -> None:
    """What an operator copies to another server of the fleet."""
    (other / "artifacts").mkdir(parents=True)
    shutil.copytree(home / "tls", other / "tls")
    shutil.copy(home / "ca.pem", other / "ca.pem")


def test_a_second_home_of_one_registry_makes_no_keys(tmp_path: Path, home: ServerHome) -> None:
    url = f"sqlite:///{home.folder / 'registry.db'}"
    share_identity(home.folder, tmp_path / "second")
    second = ServerHome.create(tmp_path / "second", database=url)
    assert not (second.folder / "keys").exists()
    second.close()


def test_what_was_published_before_there_were_signatures_is_signed(tmp_path: Path) -> None:
    made = ServerHome.create(tmp_path / "srv")
    publish(made, "digits", snapshot(weights(0)))
    publish_next(made)
    made.close()
    shutil.rmtree(made.folder / "keys")
    with sqlite3.connect(made.folder / "registry.db") as database:
        for table in ("manifest_diffs", "manifests", "metadata"):
            database.execute(f"DELETE FROM {table}")
    database.close()
    again = ServerHome.create(made.folder)
    assert set(current(again, LIST).targets) == {"digits/0", "digits/1"}
    assert manifest(again, 1).previous.length > 0
    again.close()


# ---- the command line


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_status_tells_roles_keys_and_what_is_unused(home: ServerHome) -> None:
    run("keys", "rotate", home.folder, "releases")
    found = json.loads(run("keys", "status", home.folder, "--json"))
    roles = {role["role"]: role for role in found["roles"]}
    assert list(roles) == list(ROLES)
    assert all(role["is_key_here"] for role in roles.values())
    assert len(roles["releases"]["unused"]) == 1
    assert len(found["root_sha256"]) == 64
    assert "releases" in run("keys", "status", home.folder)


def test_every_change_of_keys_is_a_command(home: ServerHome) -> None:
    publish_next(home)
    for role in ("root", "targets", "releases", "online"):
        run("keys", "rotate", home.folder, role)
    for role in ("root", "targets", "releases"):
        run("keys", "renew", home.folder, role)
    assert json.loads(run("keys", "revoke", home.folder, "--model", "digits", 1, "--json")) == {
        "model": "digits",
        "revoked": [1],
    }
    signer(home).freshen()
    verify_all(home)
    printed = run("keys", "root", home.folder).encode()
    assert printed == home.registry.signing.latest()["root"].content


def test_a_publisher_can_be_held_to_some_models(home: ServerHome) -> None:
    run("keys", "rotate", home.folder, "releases", "--model", "digits")
    role = current(home, "targets").get_delegated_role("releases")
    assert role.is_delegated_path("digits/3")
    assert not role.is_delegated_path("letters/3")
    run("keys", "rotate", home.folder, "online")
    assert current(home, "targets").get_delegated_role("releases").paths == ["digits/*"]


def test_init_says_where_the_offline_keys_belong(tmp_path: Path) -> None:
    assert "move them" in run("init", tmp_path / "srv")
    assert "usb" in run("init", tmp_path / "other", "--keys", tmp_path / "usb")


def test_homes_that_are_made_at_once_agree_on_one_set_of_keys(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    failures, made = [], []
    ServerHome.create(tmp_path / "fleet").close()
    for n in range(4):
        share_identity(tmp_path / "fleet", tmp_path / f"srv-{n}")

    def create(name: str) -> None:
        try:
            made.append(ServerHome.create(tmp_path / name, database=url))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=create, args=(f"srv-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sum(bool(home.keys.files("root")) for home in made) == 1
    verify_all(made[0])
    for home in made:
        home.close()
