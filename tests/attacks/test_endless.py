"""Attacks A6 and A7: too much, and too slow.

The committed model keeps serving, and the code says what it was. The real client over a real gRPC
server, whose repository is in memory and lies as it is told.
"""

import random
import time
from collections.abc import Iterator

import pytest
from tuf.api.metadata import TargetFile, Targets

from edge_client import EdgeHome, Recognizer, update
from edge_client.errors import OversizedError, SlowServerError
from edge_client.pace import Pace
from edge_client.retry import Retry
from protos.ota.v1 import device_pb2
from tests.attacks.refusals import refuse
from tests.unit.edge_client.fake_server import FakeServer
from tests.unit.edge_client.signed_repository import target


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "releases"])
def test_a6_endless_metadata_is_stopped(
    home: EdgeHome, server: FakeServer, offered: object, role: str
) -> None:
    server.lie.metadata = lambda found, version, content: (
        b" " * (1 << 22) if found == role else content
    )
    refuse(home, server, OversizedError, "OVERSIZED")


def test_a6_a_plan_longer_than_signed_is_refused_before_a_byte_is_fetched(
    home: EdgeHome, server: FakeServer, offered: object
) -> None:
    def longer(plan: device_pb2.Plan) -> None:
        plan.steps[0].diff.length += 1

    server.lie.plan = longer
    refuse(home, server, OversizedError, "OVERSIZED")


def test_a6_a_manifest_that_claims_a_huge_length_is_refused(
    home: EdgeHome, server: FakeServer, offered: object
) -> None:
    server.sign()
    path = "digits/1"
    huge = TargetFile(1 << 40, target(path, server.repository.releases[path]).hashes, path)
    document = Targets(targets={path: huge})
    document.version = server.repository.versions["releases"] = 50
    document.expires = server.repository.expires["releases"].replace(microsecond=0)
    server.repository.put("releases", document, [server.repository.keys["releases"]])
    server.repository.sign("snapshot", "timestamp")
    server.sign = lambda: None
    refuse(home, server, OversizedError, "OVERSIZED")


def test_a7_a_drip_is_aborted_with_bounded_tries_and_resumes_later(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    server.publish_next()

    def drip(sha256: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            for byte in chunk:
                yield bytes([byte])
                time.sleep(0.2)

    server.lie.stream = drip
    server.reads.clear()
    pace = Pace(least_bytes_s=1000, window_s=0.5)
    retry = Retry(tries=3, sleep=lambda seconds: None, randomness=random.Random(0))
    with pytest.raises(SlowServerError):
        update(home, retry, pace=pace)
    assert server.outcomes()[-1] == ("FAILED", "TOO_SLOW")
    assert len(server.reads) == 3
    assert Recognizer.open(home).generation.number == 0
    part = next(home.staging.glob("*.part")).stat().st_size
    assert part > 0

    server.lie.stream = lambda sha256, chunks: chunks
    assert update(home, retry, pace=pace).after.number == 1
    assert server.reads[-1].offset >= part
