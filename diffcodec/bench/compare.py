"""The comparison: who can take part, is everyone right, and then in turns against the clock."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from diffcodec.bench.errors import BenchmarkError
from diffcodec.bench.memory import peak_growth_bytes
from diffcodec.bench.peer import Peer
from diffcodec.bench.results import Row, Sample
from diffcodec.bench.timing import Contender, OnProgress, with_turns
from diffcodec.bench.work import Work


@dataclass(frozen=True)
class Outcome:
    """One coder on one piece of work.

    Attributes:
        encode, decode: Samples of every round; those of `encode` hold the size.
        encode_peak_bytes, decode_peak_bytes: Memory on top of what it started from.
    """

    name: str
    encode: Row
    decode: Row
    encode_peak_bytes: int | None
    decode_peak_bytes: int | None

    @property
    def size_bytes(self) -> int:
        """Of what it encodes to."""
        return self.encode.middle("size_bytes") or 0


@dataclass(frozen=True)
class Comparison:
    """Everyone on one piece of work.

    Attributes:
        work: Its name.
        parameters, nonzeros: Of the model, and how many change; None for exact work.
        outcomes: Ours first.
        skipped: Who did not take part, and why.
    """

    work: str
    parameters: int
    float32_bytes: int
    nonzeros: int | None
    runs: int
    outcomes: tuple[Outcome, ...]
    skipped: Mapping[str, str]

    def reference(self) -> Outcome:
        """Whose times others are divided by: NNCodec where it takes part, else our first."""
        named = {outcome.name: outcome for outcome in self.outcomes}
        return named.get("NNCodec", self.outcomes[0])

    def to_json(self) -> dict[str, Any]:
        """Plain values; medians, and times over the reference's as medians of the rounds."""
        reference = self.reference()
        return {
            "work": self.work,
            "parameters": self.parameters,
            "nonzeros": self.nonzeros,
            "float32_bytes": self.float32_bytes,
            "runs": self.runs,
            "reference": reference.name,
            "coders": [self._to_json(outcome, reference) for outcome in self.outcomes],
            "skipped": dict(self.skipped),
        }

    def _to_json(self, outcome: Outcome, reference: Outcome) -> dict[str, Any]:
        return {
            "coder": outcome.name,
            "bytes": outcome.size_bytes,
            "ratio": self.float32_bytes / outcome.size_bytes,
            "encode_s": outcome.encode.seconds,
            "decode_s": outcome.decode.seconds,
            "encode_times_reference": outcome.encode.times_of(reference.encode).median,
            "decode_times_reference": outcome.decode.times_of(reference.decode).median,
            "encode_peak_bytes": outcome.encode_peak_bytes,
            "decode_peak_bytes": outcome.decode_peak_bytes,
        }


def compare(work: Work, peers: Iterable[Peer], runs: int, on_progress: OnProgress) -> Comparison:
    """Have everyone who can code the work.

    Args:
        work: What.
        peers: Ours first; at least one must be able to.
        runs: Rounds that count, at least one.
        on_progress: Told what comes next.

    Raises:
        BenchmarkError: a coder does not decode to what it encoded, or nobody can take part.
    """
    taking_part, skipped = [], {}
    for peer in peers:
        reason = peer.absence(work)
        if reason is None:
            taking_part.append(_Entrant.checked(peer, work, on_progress))
        else:
            skipped[peer.name] = reason
    if not taking_part:
        raise BenchmarkError("expected a coder that can take part, found none")
    encoded = with_turns([e.encoding() for e in taking_part], runs, on_progress)
    decoded = with_turns([e.decoding() for e in taking_part], runs, on_progress)
    return Comparison(
        work=work.name,
        parameters=work.base.layout.parameter_count,
        float32_bytes=work.float32_bytes,
        nonzeros=work.diff.nonzeros if work.diff else None,
        runs=runs,
        outcomes=tuple(
            Outcome(e.peer.name, encode, decode, *e.peaks)
            for e, encode, decode in zip(taking_part, encoded, decoded, strict=True)
        ),
        skipped=skipped,
    )


@dataclass(frozen=True)
class _Entrant:
    """A peer that can take part, and what it made of the work.

    Attributes:
        data: Its encoding.
        peaks: Memory of encoding and of decoding.
    """

    peer: Peer
    work: Work
    data: bytes
    peaks: tuple[int | None, int | None]

    @classmethod
    def checked(cls, peer: Peer, work: Work, on_progress: OnProgress) -> "_Entrant":
        """Encode, decode, check, and watch the memory, all off the clock.

        Raises:
            BenchmarkError: it decodes to something else.
        """
        on_progress(f"checking {peer.name}")
        encoded = peer.encode(work)
        decoded = peer.decode(work, encoded.value)
        if not peer.is_right(work, decoded.value):
            raise BenchmarkError(f"{peer.name}: decodes to something else than was encoded")
        peaks = encoded.peak_bytes, decoded.peak_bytes
        if peer.is_in_process:
            data = encoded.value
            del decoded  # or the copy would find its memory free to use again
            peaks = (
                peak_growth_bytes(lambda: peer.encode(work)),
                peak_growth_bytes(lambda: peer.decode(work, data)),
            )
        return cls(peer, work, encoded.value, peaks)

    def encoding(self) -> Contender:
        """One run of encoding."""

        def measure() -> Sample:
            coded = self.peer.encode(self.work)
            return Sample(coded.seconds, size_bytes=len(coded.value))

        return Contender(f"{self.peer.name}, encoding", measure)

    def decoding(self) -> Contender:
        """One run of decoding."""

        def measure() -> Sample:
            return Sample(self.peer.decode(self.work, self.data).seconds)

        return Contender(f"{self.peer.name}, decoding", measure)
