"""The gRPC border: messages in, values to the rest of the server, messages out.

Requests keep the rules that stand beside their fields (server.limits.guard asks before a method
runs). The registry and the store block, so they are called in threads. Which error becomes which
status is said once, in STATUS_CODES. gRPC compresses metadata alone, which is JSON with digests in
hexadecimal; blobs are compressed already.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from random import Random, SystemRandom
from typing import Any

import grpc

from diffcodec import Coder
from diffcodec.wire import CODER_NUMBERS
from protos.ota.v1 import content_pb2, content_pb2_grpc, device_pb2, device_pb2_grpc
from server import devices
from server.artifacts import ArtifactStore, read_whole
from server.artifacts.hot import HotBlobs
from server.batching import Batches
from server.devices import Answer, CheckIn, Installed
from server.domain import (
    EVERY_DEVICE,
    AttemptState,
    Blob,
    Outcome,
    Plan,
    Report,
    Step,
)
from server.errors import (
    AccessError,
    BusyError,
    ConflictError,
    FullError,
    InputError,
    NoRouteError,
    NotFoundError,
    OffsetError,
    RegistryError,
    ServerError,
    StorageError,
    UnknownCallerError,
    UnknownStateError,
)
from server.identity.caller import caller_device
from server.observability.fields import note
from server.registry import Registry
from server.signing.online import OnlineSigner

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

CHUNK_BYTES = 256 * 1024
# One visit to a thread costs about as much as reading a chunk: fetch several at once.
READ_BYTES = 4 * CHUNK_BYTES

METADATA_CHUNK_BYTES = 64 * 1024

LARGEST_BATCH = 64
"""Check-ins that share a transaction: more would hold others up for longer than they save."""
RETRY_AFTER = "retry-after-s"
RETRY_AFTER_S = (5.0, 60.0)

# The first class that fits, so the special ones stand before their bases.
STATUS_CODES: tuple[tuple[type[ServerError], grpc.StatusCode], ...] = (
    (InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (OffsetError, grpc.StatusCode.OUT_OF_RANGE),
    (UnknownStateError, grpc.StatusCode.FAILED_PRECONDITION),
    (NoRouteError, grpc.StatusCode.FAILED_PRECONDITION),
    (UnknownCallerError, grpc.StatusCode.UNAUTHENTICATED),
    (AccessError, grpc.StatusCode.PERMISSION_DENIED),
    (FullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (ConflictError, grpc.StatusCode.ABORTED),
    (RegistryError, grpc.StatusCode.UNAVAILABLE),
    (StorageError, grpc.StatusCode.DATA_LOSS),
    (ServerError, grpc.StatusCode.INTERNAL),
)

OUTCOMES = {
    device_pb2.OUTCOME_STARTED: Outcome.STARTED,
    device_pb2.OUTCOME_COMMITTED: Outcome.COMMITTED,
    device_pb2.OUTCOME_FAILED: Outcome.FAILED,
}

CODERS = {number: coder for coder, number in CODER_NUMBERS.items()}


class DeviceService(device_pb2_grpc.DeviceServiceServicer):
    """Check-ins and reports, each of the device whose certificate the call came with."""

    def __init__(
        self,
        registry: Registry,
        most_check_ins: int,
        random: Random | None = None,
    ) -> None:
        self._registry = registry
        # A fleet that wakes at once is answered in turns: what waits longer than a device's
        # deadline would be worked off for nobody.
        self._free_check_ins = most_check_ins
        self._random = random or SystemRandom()
        self._check_ins: Batches[CheckIn, Answer] = Batches(
            lambda asked: devices.check_in(registry, asked, random=self._random), LARGEST_BATCH
        )

    async def CheckIn(  # noqa: N802
        self, request: device_pb2.CheckInRequest, context: Context
    ) -> device_pb2.CheckInResponse:
        """Plan a device's next update."""
        async with status_of_errors(context):
            device_id = caller_device(request.device_id)
            asked = CheckIn(
                device_id,
                _installed_from(request),
                frozenset(request.held),
                _coders_from(request),
                request.is_metered,
            )
            with self._one_of_few():
                answer = await self._check_ins.answer(asked)
            _note_answer(answer)
            return _check_in_response(answer)

    async def Report(  # noqa: N802
        self, request: device_pb2.ReportRequest, context: Context
    ) -> device_pb2.ReportResponse:
        """Record how an attempt goes."""
        async with status_of_errors(context):
            note(attempt_id=request.attempt_id)
            report = _report_from(request, caller_device(request.device_id))
            state = None
            if report is not None:
                state = await asyncio.to_thread(devices.report, self._registry, report)
                log.info(
                    "attempt %s: report %d says %s %s, now %s",
                    report.attempt_id,
                    report.sequence,
                    report.outcome,
                    report.code,
                    state,
                )
            return device_pb2.ReportResponse(is_withdrawn=state is AttemptState.SUPERSEDED)

    @contextmanager
    def _one_of_few(self) -> Iterator[None]:
        """Take part in the check-ins under way, or be told when to come again."""
        if self._free_check_ins < 1:
            seconds = round(self._random.uniform(*RETRY_AFTER_S))
            raise BusyError(
                f"too many check-ins at once: come again in {seconds} s", seconds, "check-ins"
            )
        self._free_check_ins -= 1
        try:
            yield
        finally:
            self._free_check_ins += 1


class ContentService(content_pb2_grpc.ContentServiceServicer):
    """Blobs, from any offset, and signed metadata."""

    def __init__(self, registry: Registry, artifacts: ArtifactStore, signer: OnlineSigner) -> None:
        self._registry = registry
        self._artifacts = artifacts
        self._signer = signer
        self._hot = HotBlobs()

    async def ReadBlob(  # noqa: N802
        self, request: content_pb2.ReadBlobRequest, context: Context
    ) -> AsyncIterator[content_pb2.ReadBlobResponse]:
        """Stream a range of a blob that some generation or step names."""
        async with status_of_errors(context):
            content = self._hot.get(request.sha256)
            if content is not None:
                for chunk in _cut(content[_range_of(request, len(content))]):
                    yield content_pb2.ReadBlobResponse(chunk=chunk)
                return
            blob = await asyncio.to_thread(self._registry.blob, request.sha256)
            async for chunk in self._chunks(blob, _range_of(request, blob.length)):
                yield content_pb2.ReadBlobResponse(chunk=chunk)

    async def ReadMetadata(  # noqa: N802
        self, request: content_pb2.ReadMetadataRequest, context: Context
    ) -> AsyncIterator[content_pb2.ReadMetadataResponse]:
        """Stream a file of metadata; the newest timestamp is signed anew where that is due."""
        async with status_of_errors(context):
            content = await asyncio.to_thread(self._signer.read, request.role, request.version)
            context.set_compression(grpc.Compression.Gzip)
            for at in range(0, len(content), METADATA_CHUNK_BYTES):
                chunk = content[at : at + METADATA_CHUNK_BYTES]
                yield content_pb2.ReadMetadataResponse(chunk=chunk)

    async def _chunks(self, blob: Blob, wanted_range: slice) -> AsyncIterator[bytes]:
        if blob.length <= self._hot.largest_bytes:
            content = await asyncio.to_thread(read_whole, self._artifacts, blob)
            self._hot.keep(blob.sha256, content)
            for chunk in _cut(content[wanted_range]):
                yield chunk
            return
        for offset in range(wanted_range.start, wanted_range.stop, READ_BYTES):
            wanted = min(READ_BYTES, wanted_range.stop - offset)
            block = await asyncio.to_thread(self._artifacts.read, blob.sha256, offset, wanted)
            if len(block) != wanted:
                raise StorageError(
                    f"blob {blob.sha256.hex()}: expected {wanted} bytes at {offset}, "
                    f"found {len(block)}"
                )
            for chunk in _cut(block):
                yield chunk


def _range_of(request: content_pb2.ReadBlobRequest, length: int) -> slice:
    """The bytes that a request wants of a blob of this length.

    Raises:
        OffsetError: it begins behind the end.
    """
    if request.offset > length:
        raise OffsetError(f"expected an offset of at most {length}, found {request.offset}")
    return slice(request.offset, min(length, request.offset + (request.length or length)))


def _cut(content: bytes) -> Iterator[bytes]:
    for at in range(0, len(content), CHUNK_BYTES):
        yield content[at : at + CHUNK_BYTES]


@asynccontextmanager
async def status_of_errors(context: Context) -> AsyncIterator[None]:
    """End the call with the status that stands for an error of ours."""
    try:
        yield
    except ServerError as error:
        code = next(code for kind, code in STATUS_CODES if isinstance(error, kind))
        if isinstance(error, StorageError):
            log.error("%s", error)
        note(limit=error.limit)
        if error.retry_after_s is not None:
            context.set_trailing_metadata(((RETRY_AFTER, str(error.retry_after_s)),))
        await context.abort(code, str(error))


def _installed_from(request: device_pb2.CheckInRequest) -> Installed | None:
    if not request.HasField("installed"):
        return None
    return Installed(request.installed.number, request.installed.digest)


def _coders_from(request: device_pb2.CheckInRequest) -> frozenset[Coder]:
    """What the device decodes; coders of a newer protocol help nobody here."""
    return EVERY_DEVICE.union(CODERS[coder] for coder in request.coders if coder in CODERS)


def _report_from(request: device_pb2.ReportRequest, device_id: str) -> Report | None:
    """The report; None for an outcome of a newer protocol, which we hear and pass over."""
    outcome = OUTCOMES.get(request.outcome)
    if outcome is None:
        log.warning("attempt %s: unknown outcome %d", request.attempt_id, request.outcome)
        return None
    return Report(
        device_id=device_id,
        attempt_id=request.attempt_id,
        sequence=request.sequence,
        outcome=outcome,
        code=request.code,
        bytes_sent=request.bytes_sent,
        bytes_received=request.bytes_received,
        apply_ms=request.apply_ms,
    )


def _note_answer(answer: Answer) -> None:
    if answer.plan is not None:
        plan = answer.plan
        note(
            answer="plan",
            attempt_id=plan.attempt_id,
            rollout_id=plan.rollout_id,
            generation=str(plan.target.number),
        )
    else:
        note(answer=answer.deferral.reason if answer.deferral is not None else "nothing")


def _check_in_response(answer: Answer) -> device_pb2.CheckInResponse:
    response = device_pb2.CheckInResponse(head=answer.head, check_in_after_s=answer.come_again_s)
    if answer.plan is not None:
        response.plan.CopyFrom(_plan_message(answer.plan))
    if answer.deferral is not None:
        response.deferral.reason = answer.deferral.reason
        response.deferral.detail = answer.deferral.detail
    return response


def _plan_message(plan: Plan) -> device_pb2.Plan:
    return device_pb2.Plan(
        attempt_id=plan.attempt_id,
        generation=plan.target.number,
        digest=plan.target.digest,
        steps=[_step_message(step) for step in plan.steps],
        graph=_blob_message(plan.graph),
        card=_blob_message(plan.card),
        rollout_id=plan.rollout_id or "",
    )


def _step_message(step: Step) -> device_pb2.Step:
    return device_pb2.Step(
        generation=step.target,
        diff=_blob_message(step.diff),
        target_digest=step.target_digest,
        is_snapshot=step.is_snapshot,
    )


def _blob_message(blob: Blob | None) -> content_pb2.Blob | None:
    if blob is None:
        return None
    return content_pb2.Blob(sha256=blob.sha256, length=blob.length)
