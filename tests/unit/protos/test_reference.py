"""docs/api.md tells of everything that the protos have."""

import re

import pytest

from protos.ota.v1 import content_pb2, device_pb2, enrollment_pb2, operator_pb2
from protos.reference import REFERENCE

OURS = (content_pb2, device_pb2, enrollment_pb2, operator_pb2)
PAGE = REFERENCE.read_text(encoding="utf-8")


@pytest.mark.parametrize("module", OURS, ids=lambda module: module.DESCRIPTOR.name)
def test_every_message_enum_and_field_stands_in_the_reference(module) -> None:
    file = module.DESCRIPTOR
    for message in file.message_types_by_name.values():
        section = PAGE.partition(f"### {message.name}\n")[2].partition("\n###")[0]
        assert section, message.name
        for field in message.fields:
            assert f"| {field.number} | `{field.name}` |" in section
    for enum in file.enum_types_by_name.values():
        assert f"### {enum.name}\n" in PAGE


@pytest.mark.parametrize("module", OURS, ids=lambda module: module.DESCRIPTOR.name)
def test_every_call_says_what_it_is_for(module) -> None:
    for service in module.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            (row,) = re.findall(rf"^\| `{method.name}` \|.*$", PAGE, flags=re.M)
            assert not row.endswith("|  |"), row


def test_every_link_leads_somewhere() -> None:
    targets = {title.lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", PAGE, re.M)}
    assert set(re.findall(r"\(#([^)]*)\)", PAGE)) <= targets
