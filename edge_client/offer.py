"""What a server offers a device, as values: blobs, steps, plans. No protobuf from here on.

Laws of a Plan (checked when one is made, so the rest of the package may rely on them):
it has at least one step, and its last step reaches exactly the plan's generation and digest.
"""

from dataclasses import dataclass

from edge_client.errors import OfferError

SHA256_BYTES = 32


@dataclass(frozen=True)
class Blob:
    """A file, named by the SHA-256 of its bytes."""

    sha256: bytes
    length_bytes: int

    def __post_init__(self) -> None:
        """Refuse what is no SHA-256."""
        _check_digest(self.sha256, "the SHA-256 of a file")


@dataclass(frozen=True)
class Generation:
    """A generation and the digest of its weights (SHA-256 over layout fingerprint and bytes)."""

    number: int
    digest: bytes

    def __post_init__(self) -> None:
        """Refuse what is no digest."""
        _check_digest(self.digest, f"the digest of generation {self.number}")


@dataclass(frozen=True)
class Step:
    """One diff to apply, and what it leads to. A snapshot needs no base."""

    diff: Blob
    target: Generation
    is_snapshot: bool


@dataclass(frozen=True)
class Plan:
    """The way to a generation. Graph or card is None where the installed one, or none, stays.

    Where a rollout decides, the server is asked once more before the generation is activated.
    """

    attempt_id: str
    target: Generation
    steps: tuple[Step, ...]
    graph: Blob | None
    card: Blob | None
    rollout_id: str = ""

    def __post_init__(self) -> None:
        """Hold the laws of the module's docstring."""
        if not self.steps:
            raise OfferError("expected a plan with at least one step, found none")
        if self.steps[-1].target != self.target:
            last = self.steps[-1].target
            raise OfferError(
                f"expected a plan that ends at generation {self.target.number} "
                f"({self.target.digest.hex()[:12]}), found one that ends at "
                f"{last.number} ({last.digest.hex()[:12]})"
            )

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Every file that the plan names, each once, in the order of use."""
        named = [step.diff for step in self.steps] + [self.graph, self.card]
        return tuple(dict.fromkeys(blob for blob in named if blob is not None))


@dataclass(frozen=True)
class Deferral:
    """Why this device must wait although there is something for it: a stable word, and details."""

    reason: str
    detail: str


@dataclass(frozen=True)
class CheckInAnswer:
    """The newest generation (None: there is none yet) and a plan (None: nothing to do now).

    `deferral` says why there is no plan although there could be one. `come_again_s` is when to
    check in next; None: the server does not say.
    """

    head: int | None
    plan: Plan | None
    deferral: Deferral | None = None
    come_again_s: int | None = None


def _check_digest(digest: bytes, what: str) -> None:
    if len(digest) != SHA256_BYTES:
        raise OfferError(f"expected {what} to be {SHA256_BYTES} bytes, found {len(digest)}")
