"""Attack A12 and the root of trust: what comes in from outside at enrolment.

The committed model keeps serving, and the code says what it was. The real client over a real gRPC
server, whose repository is in memory and lies as it is told.
"""

from contextlib import suppress
from pathlib import Path

import pytest

from edge_client import EdgeHome, enroll, update
from edge_client.enrollment import Wanted
from edge_client.errors import EdgeError, NoRootError, TrustError
from tests.unit.edge_client.fake_server import FakeServer


@pytest.mark.parametrize("model", ["../../escaped", "/escaped", "a\\..\\b", "..", "nul\0"])
def test_a12_no_name_from_outside_reaches_the_disk(
    tmp_path: Path, server: FakeServer, model: str
) -> None:
    home = EdgeHome(tmp_path / "inside" / "home")
    enroll(home, server.address, Wanted(model, "../name"), server.fleet)
    with suppress(EdgeError):  # what may be a name is installed, as any other
        update(home)
    found = {path.relative_to(tmp_path).parts[:2] for path in tmp_path.rglob("*")}
    assert found <= {("inside",), ("inside", "home")}
    assert not [path for path in home.path.rglob("*") if "escaped" in path.name]


def test_a_root_of_a_file_is_the_only_one_that_is_trusted(
    tmp_path: Path, server: FakeServer
) -> None:
    with FakeServer() as other:
        foreign = other.repository.files["root", 1]
    home = EdgeHome(tmp_path / "home")
    enroll(home, server.address, Wanted("digits"), server.fleet, root=foreign)
    with pytest.raises(TrustError):
        update(home)
    honest = server.repository.files["root", 1]
    enroll(home, server.address, Wanted("digits"), server.fleet, root=honest)
    assert update(home).after.number == 0


@pytest.mark.parametrize("root", [b"", b"{}", b"root"])
def test_a_root_that_is_none_is_refused_at_enrolment(
    tmp_path: Path, server: FakeServer, root: bytes
) -> None:
    with pytest.raises(NoRootError):
        enroll(
            EdgeHome(tmp_path / "home"), server.address, Wanted("digits"), server.fleet, root=root
        )
    assert not (tmp_path / "home").exists()
