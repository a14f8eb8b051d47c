import re
import socket

import pytest

from server.home import ServerHome
from simulator.errors import ProgramError
from simulator.programs import Device, serving


def test_the_server_says_where_it_listens_and_is_gone_afterwards(tmp_path):
    ServerHome.create(tmp_path / "srv").close()
    with serving(tmp_path / "srv", tmp_path / "log") as server:
        host, port = re.fullmatch(r"(127\.0\.0\.1):(\d+)", server.address).groups()
        socket.create_connection((host, int(port)), timeout=10).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=10)


def test_a_server_that_refuses_is_quoted(tmp_path):
    with (
        pytest.raises(
            ProgramError, match=r"ota-server serve: .*expected a server home, found none"
        ),
        serving(tmp_path / "nowhere", tmp_path / "log"),
    ):
        pass


def test_a_device_that_refuses_is_quoted(tmp_path):
    device = Device(tmp_path / "dev", "127.0.0.1:9", "digits", tmp_path / "ca.pem")
    with pytest.raises(ProgramError, match=r"ota-edge update \(dev\): .*not enrolled"):
        device.update()
