"""May this plan be carried out? Pure: every attack is a short test.

The plan is what the server wants, the manifests are what the publisher signed, the state is what
the device has seen. The verdict is the plan as the manifests have it, or an error that says why.

    >>> signed = judge(plan, manifests, routes, state, "digits", installed)
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edge_client.errors import (
    BelowFloorError,
    MixedError,
    OversizedError,
    RevokedError,
    UnsignedError,
)
from edge_client.offer import Blob, Generation, Plan, Step
from edge_client.trust.manifest import GoldenRun, Manifest, SignedDiff
from edge_client.trust.state import TrustState


@dataclass(frozen=True)
class SignedPlan:
    """A plan whose every length and digest is signed, and what its model must answer."""

    plan: Plan
    golden_runs: tuple[GoldenRun, ...]


def require_allowed(number: int, state: TrustState) -> None:
    """Refuse generations that this device must not install, whoever signs them.

    Raises:
        BelowFloorError, RevokedError
    """
    if state.generation_floor is not None and number < state.generation_floor:
        raise BelowFloorError(
            f"expected generation {state.generation_floor} or newer, which was committed here, "
            f"found generation {number} offered"
        )
    if number in state.revoked:
        raise RevokedError(f"generation {number} was revoked, and is offered all the same")


def judge(
    plan: Plan,
    manifests: Mapping[int, Manifest],
    routes: Mapping[bytes, int],
    state: TrustState,
    model: str,
    installed: Generation | None,
) -> SignedPlan:
    """Compare a plan with what is signed.

    Args:
        plan: What the server wants.
        manifests: By generation: that of the plan's, and those of steps on the way as far as
            they were needed.
        routes: Diffs that only the server vouches for: length by SHA-256.
        state: What the device has seen.
        model: What it follows.
        installed: What it runs.

    Raises:
        TrustError: the subclass says what is wrong.
    """
    number = plan.target.number
    require_allowed(number, state)
    if number not in manifests:
        raise UnsignedError(f"expected a signed manifest of generation {number}, found none")
    for generation, manifest in manifests.items():
        _require_about(manifest, model, generation)
    goal = manifests[number]
    if plan.target != goal.target:
        raise MixedError(
            f"expected generation {number} with the signed digest {goal.target.digest.hex()}, "
            f"found {plan.target.digest.hex()} in the plan"
        )
    for offered, signed, what in (
        (plan.graph, goal.graph, "graph"),
        (plan.card, goal.card, "card"),
    ):
        if offered is not None and offered != signed:
            raise MixedError(f"the plan's {what} is not the one of the manifest")
    _require_steps(plan, manifests, routes, installed)
    # Who plans says whether to ask once more; what the plan leads to is what is signed.
    as_signed = replace(plan, target=goal.target, graph=goal.graph, card=goal.card)
    return SignedPlan(as_signed, goal.golden_runs)


def _require_about(manifest: Manifest, model: str, generation: int) -> None:
    found = (manifest.model, manifest.target.number)
    if found != (model, generation):
        raise MixedError(
            f"expected the manifest of generation {generation} of {model!r}, "
            f"found that of generation {found[1]} of {found[0]!r}"
        )


def _require_steps(
    plan: Plan,
    manifests: Mapping[int, Manifest],
    routes: Mapping[bytes, int],
    installed: Generation | None,
) -> None:
    """Follow the steps from what is installed, each by what is signed of it."""
    at = installed
    for step in plan.steps:
        signed = _signed_diff(step, manifests)
        if signed is not None:
            _require_length(step.diff, signed.diff.length_bytes)
            _require_base(step, signed, at)
        elif step.diff.sha256 in routes:
            # Nobody signed where it leads; the digest of the goal decides in the end.
            _require_length(step.diff, routes[step.diff.sha256])
        else:
            raise UnsignedError(
                f"expected a signed diff to generation {step.target.number}, found "
                f"{step.diff.sha256.hex()}, which nothing names"
            )
        known = manifests.get(step.target.number)
        if known is not None and known.target != step.target:
            raise MixedError(
                f"a step of the plan leads to generation {step.target.number} with another "
                f"digest than the signed one"
            )
        at = step.target


def _signed_diff(step: Step, manifests: Mapping[int, Manifest]) -> SignedDiff | None:
    manifest = manifests.get(step.target.number)
    diffs = manifest.diffs if manifest is not None else ()
    return next((found for found in diffs if found.diff.sha256 == step.diff.sha256), None)


def _require_length(diff: Blob, signed_bytes: int) -> None:
    if diff.length_bytes != signed_bytes:
        raise OversizedError(
            f"expected the signed length {signed_bytes} of {diff.sha256.hex()}, "
            f"found {diff.length_bytes} in the plan"
        )


def _require_base(step: Step, signed: SignedDiff, at: Generation | None) -> None:
    if step.is_snapshot != (signed.base is None):
        raise MixedError(
            f"the plan says of the diff to generation {step.target.number} that it "
            f"{'needs no base' if step.is_snapshot else 'needs a base'}; the manifest says not"
        )
    if signed.base is not None and (at is None or signed.base.digest != at.digest):
        found = "nothing" if at is None else f"generation {at.number} with {at.digest.hex()}"
        raise MixedError(
            f"expected generation {signed.base.number} with {signed.base.digest.hex()} under the "
            f"diff to generation {step.target.number}, found {found}"
        )
