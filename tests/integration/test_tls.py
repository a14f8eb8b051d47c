"""The keys and certificates of servers: renewed, damaged, kept secret, of another fleet."""

import stat
from pathlib import Path

import grpc

from server.home import ServerHome
from tests import fleet
from tests.integration.calls import ENDED, address, channel, check_in, home, refusal, run
from tests.postgres import PostgresServer

__all__ = ["address", "home"]


def test_a_renewed_server_certificate_is_shown_without_a_restart(
    home: ServerHome, address: str
) -> None:
    _, device = fleet.enrolled(home)
    by_name = ("grpc.ssl_target_name_override", "ota.example.org")
    with channel(address, device) as before:
        check_in(before)
        credentials = device.for_channel()
        with grpc.secure_channel(address, credentials, options=[by_name]) as opened:
            assert refusal(check_in, opened) == ENDED
        run("ota-server", "tls", "renew", home.folder, "--name", "ota.example.org")
        with grpc.secure_channel(address, credentials, options=[by_name]) as opened:
            check_in(opened)
        check_in(before)
        # Again without a name: those of before stay.
        run("ota-server", "tls", "renew", home.folder)
        with grpc.secure_channel(address, credentials, options=[by_name]) as opened:
            check_in(opened)


def test_a_damaged_server_certificate_leaves_the_one_of_before_in_use(
    home: ServerHome, address: str
) -> None:
    _, device = fleet.enrolled(home)
    (home.folder / "tls" / "server.pem").write_bytes(b"damaged")
    with channel(address, device) as opened:
        check_in(opened)


def test_all_secrets_are_the_owners_alone(home: ServerHome, tmp_path: Path) -> None:
    run("ota-server", "operator", "add", home.folder, "alice", "--role", "viewer",
        "--out", tmp_path / "alice.pem")  # fmt: skip
    assert mode_of(home.folder / "tls") == 0o700
    secrets = [*(home.folder / "tls").glob("*.*"), home.folder / "ca.pem", tmp_path / "alice.pem"]
    assert len(secrets) == 7
    assert {mode_of(path) for path in secrets} == {0o600}


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_server_with_other_keys_than_its_database_knows_does_not_serve(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    option = f"--database={postgres.new_database()}"
    run("ota-server", "init", tmp_path / "one", option)
    refused = run("ota-server", "init", tmp_path / "two", option, expect=1)
    assert "copy tls/ and ca.pem" in refused.stderr
    run("ota-server", "init", tmp_path / "three")
    refused = run(
        "ota-server", "serve", tmp_path / "three", option, "--listen", "127.0.0.1:0", expect=1
    )
    assert "expected the authority" in refused.stderr
    run("ota-server", "init", tmp_path / "three", option, "--new-authority")
