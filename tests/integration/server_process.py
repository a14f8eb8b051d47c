"""`ota-server serve` as a process of its own, and devices that may call it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from edge_client.identity import Credential
from protos.ota.v1 import device_pb2, device_pb2_grpc
from server.home import ServerHome
from tests import fleet

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "server.cli"]
TIMEOUT_S = 30


@contextmanager
def server_process(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [*COMMAND, "serve", str(home), "--listen", "127.0.0.1:0", *options],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.fullmatch(r"listening on (127\.0\.0\.1:[1-9]\d*)\n", line)
        assert match, line or process.communicate(timeout=TIMEOUT_S)[1]
        yield process, match[1]
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_S)


def enroll(home: Path, **options: str) -> tuple[str, fleet.Credential]:
    """A device that was accepted: its id, and what it shows."""
    opened = ServerHome.open(home, **options)
    try:
        return fleet.enrolled(opened, model="digits")
    finally:
        opened.close()


def check_in(address: str, device: fleet.Credential) -> device_pb2.CheckInResponse:
    with grpc.secure_channel(address, device.for_channel()) as channel:
        stub = device_pb2_grpc.DeviceServiceStub(channel)
        request = device_pb2.CheckInRequest()
        return stub.CheckIn(request, timeout=TIMEOUT_S, wait_for_ready=True)


def ca_of(home: Path) -> Credential:
    """What a device of the fleet is given."""
    return Credential.from_pem((home / "ca.pem").read_bytes())
