"""The home: configuration, lock, addresses, enrolment."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edge_client import EdgeHome, Wanted, enroll, update
from edge_client.address import ServerAddress
from edge_client.errors import (
    AddressError,
    AlreadyEnrolledError,
    HomeBusyError,
    HomeError,
    NotEnrolledError,
    ServerUnavailableError,
    UnknownDeviceError,
)
from edge_client.home import Config
from edge_client.retry import Retry
from tests.unit.edge_client.fake_server import FakeServer

CONFIG = Config(ServerAddress("127.0.0.1", 50051), "digits", "d1", "kitchen ☕")


def test_a_saved_configuration_is_read_back(tmp_path: Path) -> None:
    EdgeHome(tmp_path).save_config(CONFIG)
    assert EdgeHome(tmp_path).config() == CONFIG


def test_a_home_without_configuration_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NotEnrolledError, match="ota-edge enroll"):
        EdgeHome(tmp_path).config()


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"format": 1}', '{"format": 2, "server": "", "model": ""}', "\udcff"]
)
def test_a_damaged_configuration_is_named(tmp_path: Path, damage: str) -> None:
    (tmp_path / "config.json").write_bytes(damage.encode(errors="surrogateescape"))
    with pytest.raises(HomeError, match=r"config\.json: "):
        EdgeHome(tmp_path).config()


def test_another_format_is_refused(tmp_path: Path) -> None:
    text = CONFIG.to_json().replace('"format": 1', '"format": 7')
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(HomeError, match="expected format 1, found 7"):
        EdgeHome(tmp_path).config()


def test_a_second_process_is_locked_out(tmp_path: Path) -> None:
    program = "import sys; from edge_client import EdgeHome; from pathlib import Path\n"
    program += "with EdgeHome(Path(sys.argv[1])).locked(): print('locked', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(HomeBusyError), EdgeHome(tmp_path).locked():
            pass
        # The lock is the kernel's: it ends with the process, however that ends.
        other.kill()
    with EdgeHome(tmp_path).locked():
        pass


def test_the_lock_is_free_again_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with EdgeHome(tmp_path).locked():
            pass


@pytest.mark.parametrize(
    "text", ["127.0.0.1:1", "localhost:65535", "[::1]:50051", "ota.example.org:443"]
)
def test_addresses_are_written_as_they_were_read(text: str) -> None:
    assert str(ServerAddress.parse(text)) == text


@pytest.mark.parametrize("text", ["", "127.0.0.1", ":1", "127.0.0.1:", "h:0", "h:65536", "h:²"])
def test_what_is_not_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="expected a server as HOST:PORT"):
        ServerAddress.parse(text)


def test_enrolment_keeps_what_the_server_gave(tmp_path: Path, server: FakeServer) -> None:
    config = enroll(
        EdgeHome(tmp_path / "new" / "home"),
        server.address,
        Wanted("digits", "kitchen"),
        server.fleet,
    )
    assert config == EdgeHome(tmp_path / "new" / "home").config()
    assert (config.device_id, config.model) == ("device-1", "digits")
    assert (server.asked[0].model, server.asked[0].name) == ("digits", "kitchen")


def test_enrolling_again_alike_changes_nothing(home: EdgeHome, server: FakeServer) -> None:
    before = home.config()
    assert enroll(home, server.address, Wanted("digits", "another name"), server.fleet) == before
    assert len(server.devices) == 1


def test_a_server_that_lost_its_registry_learns_the_device_anew_by_its_id_and_key(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    installed = home.slots.installed()
    server.forgotten.add(home.config().device_id)
    with pytest.raises(UnknownDeviceError, match="run: ota-edge enroll"):
        update(home)
    enroll(home, server.address, Wanted("digits", "kitchen"), server.fleet)
    assert (home.config().device_id, home.config().name) == ("device-1", "test")
    assert home.slots.installed() == installed
    assert update(home).steps == ()


def test_a_model_that_moved_to_another_address_is_followed_there(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    known = home.config()
    server.__exit__(None, None, None)
    server.port = 0
    with server:
        moved = enroll(home, server.address, Wanted("digits", "test"), server.fleet)
        assert moved == replace(known, server=server.address) == home.config()
        assert update(home).steps == ()
    assert len(server.devices) == 1


def test_a_server_that_cannot_be_asked_leaves_an_enrolled_home_as_it_is(
    home: EdgeHome, server: FakeServer, retry: Retry
) -> None:
    before = home.config()
    server.__exit__(None, None, None)
    with pytest.raises(ServerUnavailableError):
        enroll(home, server.address, Wanted("digits", "test"), server.fleet, retry)
    assert home.config() == before


def test_enrolling_for_another_model_is_refused(home: EdgeHome, server: FakeServer) -> None:
    before = home.config()
    with pytest.raises(AlreadyEnrolledError, match=r"'digits'.* found 'letters'"):
        enroll(home, server.address, Wanted("letters", "test"), server.fleet)
    assert home.config() == before


def test_a_failed_enrolment_goes_on_by_the_same_key(
    tmp_path: Path, server: FakeServer, retry: Retry
) -> None:
    home = EdgeHome(tmp_path / "home")
    server.lie.failing_calls = 1000
    with pytest.raises(ServerUnavailableError):
        enroll(home, server.address, Wanted("digits", "test"), server.fleet, retry)
    with pytest.raises(NotEnrolledError):
        home.config()
    key = home.identity.key()
    server.lie.failing_calls = 0
    enroll(home, server.address, Wanted("digits", "test"))
    assert home.identity.key() == key


def test_a_model_that_the_server_lacks_is_said_plainly(tmp_path: Path, server: FakeServer) -> None:
    import grpc

    server.lie.failing_calls, server.lie.status = 1, grpc.StatusCode.NOT_FOUND
    server.lie.details = "no model\n'lettres'"
    with pytest.raises(UnknownDeviceError, match="refused: no model 'lettres'"):
        enroll(EdgeHome(tmp_path / "home"), server.address, Wanted("lettres", "test"), server.fleet)
