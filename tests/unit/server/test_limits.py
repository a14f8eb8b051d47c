"""Rates, settings, the rules of requests, and what is said of them."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from protovalidate import ViolationPb

from protos.buf.validate import validate_pb2
from protos.ota.v1 import content_pb2, device_pb2, enrollment_pb2, operator_pb2
from server.errors import BusyError, RequestError, SettingError
from server.identity.certificates import DeviceIdentity, EnrolmentIdentity, OperatorIdentity, Role
from server.limits.rates import Rate
from server.limits.rules import require_rules
from server.limits.settings import Limits
from server.limits.turns import Turns, caller_of
from server.service import STATUS_CODES

ROOT = Path(__file__).parents[3]

# ---- rates


def test_a_caller_spends_what_is_in_the_bucket_and_then_waits_for_each() -> None:
    rate = Rate(per_s=2.0, at_once=3)
    assert [rate.wait_s("kitchen", 0.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 0.5]
    assert [rate.wait_s("kitchen", 0.5) for _ in range(2)] == [0.0, 0.5]


def test_callers_do_not_spend_for_one_another() -> None:
    rate = Rate(per_s=1.0, at_once=1)
    assert [rate.wait_s(name, 0.0) for name in ("a", "b", "a")] == [0.0, 0.0, 1.0]


@settings(deadline=None)
@given(
    st.lists(st.floats(0.0, 5.0), max_size=60),
    st.floats(0.1, 20.0),
    st.integers(1, 10),
)
def test_nobody_gets_more_than_the_rate_and_one_bucket(
    pauses: list[float], per_s: float, at_once: int
) -> None:
    rate, now, let_in = Rate(per_s, at_once), 0.0, 0
    for pause in pauses:
        now += pause
        let_in += rate.wait_s("kitchen", now) == 0.0
    assert let_in <= at_once + now * per_s + 1e-6


def test_who_waits_as_told_is_let_in() -> None:
    rate = Rate(per_s=3.0, at_once=1)
    assert rate.wait_s("kitchen", 0.0) == 0.0
    wait_s = rate.wait_s("kitchen", 0.1)
    assert wait_s > 0.0
    assert rate.wait_s("kitchen", 0.1 + wait_s) == 0.0


def test_buckets_of_those_who_went_away_are_forgotten_and_their_number_is_bounded() -> None:
    rate = Rate(per_s=1.0, at_once=5, most_callers=10)
    for number in range(1000):
        rate.wait_s(str(number), 0.0)
    assert len(rate._full_at) <= 10
    for _ in range(20):
        rate.wait_s("last", 100.0)
    assert set(rate._full_at) == {"last"}


def test_devices_are_told_apart_by_their_ids_and_those_who_enrol_by_address() -> None:
    key = bytes(32)
    assert caller_of(DeviceIdentity("kitchen", key), "ipv4:10.0.0.1:99") == "device:kitchen"
    assert caller_of(OperatorIdentity("alice", Role.ADMIN, key), "x:1") == "operator:alice"
    first, second = (caller_of(EnrolmentIdentity(key), f"ipv4:10.0.0.1:{p}") for p in (1, 2))
    assert first == second == "enrolment:ipv4:10.0.0.1"


def test_who_calls_too_often_is_told_when_to_come_again_and_which_limit_it_was() -> None:
    turns = Turns(Limits(calls_per_s=0.5, calls_at_once=1, enrolments_at_once=1), lambda: 7.0)
    device = DeviceIdentity("kitchen", bytes(32))
    turns.take(device, "ipv4:10.0.0.1:1")
    with pytest.raises(BusyError) as refused:
        turns.take(device, "ipv4:10.0.0.2:1")
    assert (refused.value.retry_after_s, refused.value.limit) == (2, "calls-per-s")
    turns.take(EnrolmentIdentity(bytes(32)), "ipv4:10.0.0.1:1")
    with pytest.raises(BusyError) as refused:
        turns.take(EnrolmentIdentity(bytes(32)), "ipv4:10.0.0.1:2")
    assert (refused.value.retry_after_s, refused.value.limit) == (1, "enrolments-per-s")
    turns.take(EnrolmentIdentity(bytes(32)), "ipv4:10.0.0.2:1")


# ---- settings


def test_limits_are_set_by_name() -> None:
    limits = Limits.of(["calls-per-s=0.5", "streams = 7", "streams=8"])
    assert (limits.calls_per_s, limits.streams, limits.stall_s) == (0.5, 8, Limits().stall_s)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("calls", "expected one of request-bytes, check-ins"),
        ("calls_per_s=1", "expected one of"),
        ("streams", "expected a whole number above 0"),
        ("streams=0", "expected a whole number above 0 and up to 1000000, found '0'"),
        ("streams=-1", "above 0"),
        ("streams=1.5", "a whole number"),
        ("stall-s=nan", "a number above 0"),
        ("stall-s=inf", "found 'inf'"),
        ("stall-s=1e9", "up to 1000000"),
    ],
)
def test_what_is_no_limit_is_refused(text: str, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        Limits.of([text])


# ---- rules

GOOD = bytes(32)
CASES = {
    "sha256: expected 32 bytes, found 5": content_pb2.ReadBlobRequest(sha256=b"short"),
    "role: expected a text, found none": content_pb2.ReadMetadataRequest(),
    "role: expected at most 200 characters, found 201": content_pb2.ReadMetadataRequest(
        role="x" * 201
    ),
    f"version: expected at most {2**63 - 1}, found {2**63}": content_pb2.ReadMetadataRequest(
        role="root", version=2**63
    ),
    "installed.digest: expected 32 bytes, found 0": device_pb2.CheckInRequest(
        installed=device_pb2.InstalledGeneration()
    ),
    "held[1]: expected 32 bytes, found 5": device_pb2.CheckInRequest(held=[GOOD, b"short"]),
    "held: expected at most 64, found 65": device_pb2.CheckInRequest(held=[GOOD] * 65),
    "outcome: expected one, found none": device_pb2.ReportRequest(attempt_id="1"),
    "attempt_id: expected a text, found none": device_pb2.ReportRequest(outcome=1),
    "code: expected at most 64 characters, found 65": device_pb2.ReportRequest(
        attempt_id="1", outcome=3, code="X" * 65
    ),
    "code: expected a text like ^[A-Z0-9_]*$, found 'A\\nB'": device_pb2.ReportRequest(
        attempt_id="1", outcome=3, code="A\nB"
    ),
    "signing_request: expected at most 4096 bytes, found 4097": enrollment_pb2.EnrollRequest(
        signing_request=bytes(4097)
    ),
    "name: expected at most 200 characters, found 201": enrollment_pb2.EnrollRequest(
        name="é" * 201
    ),
    "state: expected one that is known, found 9": operator_pb2.ListDevicesRequest(state=9),
    "verb: expected one that is known, found 9": operator_pb2.DecideKeyRequest(
        key_sha256=GOOD, verb=9
    ),
    "verb: expected one, found none": operator_pb2.DecideKeyRequest(key_sha256=GOOD),
    "key_sha256: expected 32 bytes, found 0": operator_pb2.PreauthorizeKeyRequest(),
    "device_id: expected a text, found none": operator_pb2.DecommissionDeviceRequest(),
}


@pytest.mark.parametrize("told", CASES, ids=str)
def test_a_rule_that_is_broken_says_the_field_what_was_expected_and_what_was_found(
    told: str,
) -> None:
    with pytest.raises(RequestError) as refused:
        require_rules(CASES[told])
    assert str(refused.value) == told


@pytest.mark.parametrize(
    "request_",
    [
        content_pb2.ReadBlobRequest(sha256=GOOD, offset=2**64 - 1, length=2**64 - 1),
        device_pb2.CheckInRequest(),
        device_pb2.CheckInRequest(held=[GOOD] * 64, coders=[99]),
        device_pb2.ReportRequest(attempt_id="1", outcome=99, bytes_sent=2**63 - 1),
        enrollment_pb2.EnrollRequest(name="é" * 200),
        enrollment_pb2.RenewCertificateRequest(),
        operator_pb2.ListDevicesRequest(),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_devices_send_today_or_will_send_keeps_the_rules(request_: Message) -> None:
    require_rules(request_)


def test_our_part_of_the_rules_schema_is_that_of_protovalidate() -> None:
    whole = descriptor_pb2.FileDescriptorProto.FromString(ViolationPb.desc().file.proto.to_binary())
    ours = descriptor_pb2.FileDescriptorProto()
    validate_pb2.DESCRIPTOR.CopyToProto(ours)
    assert (ours.name, ours.package) == (whole.name, whole.package)
    theirs = {message.name: message for message in whole.message_type}
    for message in ours.message_type:
        fields = {field.name: field for field in theirs[message.name].field}
        for field in message.field:
            there = fields[field.name]
            assert (field.number, field.type, field.label, field.type_name) == (
                there.number,
                there.type,
                there.label,
                there.type_name,
            )
    [rule] = ours.extension
    assert rule.number in {e.number for e in whole.extension if e.name == rule.name}


def test_a_device_loads_neither_the_engine_of_the_rules_nor_the_metrics() -> None:
    probe = (
        "import edge_client.cli, edge_client.transport, protos.ota.v1.device_pb2, sys; "
        "print({'protovalidate', 'protobuf', 'prometheus_client'} & set(sys.modules), "
        "'protos.buf.validate.validate_pb2' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, text=True, capture_output=True, check=True
    ).stdout
    assert shown == "set() True\n"


def test_the_document_of_status_codes_has_those_of_every_error() -> None:
    text = (ROOT / "docs" / "status-codes.md").read_text()
    codes = {code.name for _, code in STATUS_CODES}
    assert [code for code in sorted(codes) if f"| {code} |" not in text] == []
