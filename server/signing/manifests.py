"""Write a generation's manifest: what a publisher puts his name to.

    >>> manifest_bytes(generation, steps, digests, previous, golden_runs)

The bytes are a protobuf message (protos/ota/v1/manifest.proto): half of what JSON would take.
"""

from collections.abc import Iterable, Mapping, Sequence

from diffcodec.wire import CODER_NUMBERS
from protos.ota.v1 import content_pb2, manifest_pb2
from server.domain import Blob, Generation, Step


def manifest_bytes(
    generation: Generation,
    steps: Iterable[Step],
    digests: Mapping[int, bytes],
    previous: Blob | None,
    golden_runs: Sequence[manifest_pb2.GoldenRun] = (),
) -> bytes:
    """Encode a manifest.

    Args:
        generation: Whose.
        steps: Every file that leads to it.
        digests: Of the weights of each base, by its number.
        previous: The manifest of the generation before it.
        golden_runs: What its graph answers.
    """
    message = manifest_pb2.Manifest(
        model=generation.model,
        generation=generation.number,
        digest=generation.digest,
        layout_fingerprint=generation.layout_fingerprint,
        diffs=[_diff(step, digests) for step in steps],
        graph=_blob(generation.graph),
        card=_blob(generation.card),
        golden_runs=golden_runs,
        previous=_blob(previous),
    )
    return message.SerializeToString(deterministic=True)


def _diff(step: Step, digests: Mapping[int, bytes]) -> manifest_pb2.ManifestDiff:
    message = manifest_pb2.ManifestDiff(
        diff=_blob(step.diff), coders=[CODER_NUMBERS[coder] for coder in sorted(step.coders)]
    )
    if step.base is not None:
        message.base = step.base
        message.base_digest = digests[step.base]
    return message


def _blob(blob: Blob | None) -> content_pb2.Blob | None:
    return None if blob is None else content_pb2.Blob(sha256=blob.sha256, length=blob.length)
