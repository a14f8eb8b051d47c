"""A manifest as values; no protobuf from here on.

What arrives here has the SHA-256 that was signed, so it is the publisher's word. It is checked
all the same: a stolen key must not become a way into the decoder of another program.
"""

from dataclasses import dataclass
from urllib.parse import quote

from google.protobuf.message import DecodeError

from edge_client.errors import OfferError, TrustError
from edge_client.offer import Blob, Generation
from protos.ota.v1 import content_pb2, manifest_pb2

MOST_MANIFEST_BYTES = 256 * 1024


@dataclass(frozen=True)
class SignedDiff:
    """A file that leads to a manifest's generation, from `base` (None: from nothing)."""

    diff: Blob
    base: Generation | None


@dataclass(frozen=True)
class GoldenInput:
    """See speech.golden."""

    name: str
    shape: tuple[int, ...]
    seed: int
    bound: int


@dataclass(frozen=True)
class GoldenOutput:
    """Some values of an output, evenly spaced, and how far others may be from them."""

    name: str
    shape: tuple[int, ...]
    values: tuple[float, ...]
    tolerance: float


@dataclass(frozen=True)
class GoldenRun:
    """What the graph answers to some input."""

    inputs: tuple[GoldenInput, ...]
    outputs: tuple[GoldenOutput, ...]


@dataclass(frozen=True)
class Manifest:
    """What a publisher signed of one generation."""

    model: str
    target: Generation
    diffs: tuple[SignedDiff, ...]
    graph: Blob | None
    card: Blob | None
    golden_runs: tuple[GoldenRun, ...]
    previous: Blob | None

    @classmethod
    def from_bytes(cls, content: bytes) -> "Manifest":
        """Read a manifest.

        Raises:
            TrustError: it is not one.
        """
        try:
            message = manifest_pb2.Manifest.FromString(content)
            return cls(
                model=message.model,
                target=Generation(message.generation, message.digest),
                diffs=tuple(_diff(diff) for diff in message.diffs),
                graph=_blob(message.graph) if message.HasField("graph") else None,
                card=_blob(message.card) if message.HasField("card") else None,
                golden_runs=tuple(_run(run) for run in message.golden_runs),
                previous=_blob(message.previous) if message.HasField("previous") else None,
            )
        except (DecodeError, OfferError) as error:
            raise TrustError(f"expected a sound manifest, found one with: {error}") from error


def manifest_path(model: str, generation: int) -> str:
    """The target name of a manifest. It is looked up in metadata, and never names a file."""
    return f"{quote(model, safe='')}/{generation}"


def revocations_path(model: str) -> str:
    """The target whose `custom` lists the revoked generations of a model."""
    return f"{quote(model, safe='')}/revoked"


def route_path(model: str, diff: Blob) -> str:
    """The target name of a diff that the server made after the manifest was signed."""
    return f"routes/{quote(model, safe='')}/{diff.sha256.hex()}"


def _diff(message: manifest_pb2.ManifestDiff) -> SignedDiff:
    base = Generation(message.base, message.base_digest) if message.HasField("base") else None
    return SignedDiff(_blob(message.diff), base)


def _run(message: manifest_pb2.GoldenRun) -> GoldenRun:
    return GoldenRun(
        tuple(GoldenInput(i.name, tuple(i.shape), i.seed, i.bound) for i in message.inputs),
        tuple(
            GoldenOutput(o.name, tuple(o.shape), tuple(o.values), o.tolerance)
            for o in message.outputs
        ),
    )


def _blob(message: content_pb2.Blob) -> Blob:
    return Blob(message.sha256, message.length)
