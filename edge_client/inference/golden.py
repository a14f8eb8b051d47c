"""Compare what a slot's model answers with what its publisher saw it answer."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_client.errors import UnhealthyError
from edge_client.inference.session import Session
from edge_client.slots import Slot
from edge_client.trust.manifest import GoldenOutput, GoldenRun
from speech.golden import golden_sample, golden_values


def check_golden(slot: Slot, runs: Sequence[GoldenRun]) -> None:
    """Run a model on inputs that both sides compute alike.

    Args:
        slot: Where the model lies, with its graph.
        runs: What its manifest says; none is no error.

    Raises:
        UnhealthyError: an answer is further from the golden one than is allowed.
    """
    if not runs:
        return
    session = Session.open(slot.graph)
    for run in runs:
        _check(session, run)


def _check(session: Session, run: GoldenRun) -> None:
    try:
        inputs = {i.name: golden_values(i.shape, i.seed, i.bound) for i in run.inputs}
    except (ValueError, MemoryError) as error:
        raise UnhealthyError(f"the manifest's golden inputs cannot be made: {error}") from error
    shapes = {output.name: output.shape for output in run.outputs}
    for golden, found in zip(run.outputs, session.run(shapes, inputs), strict=True):
        _require_near(golden, golden_sample(found))


def _require_near(golden: GoldenOutput, found: NDArray[np.float32]) -> None:
    expected = np.asarray(golden.values, dtype=np.float32)
    if expected.shape != found.shape:
        raise UnhealthyError(
            f"expected {expected.size} golden values of {golden.name}, found {found.size}"
        )
    furthest = float(np.abs(expected - found).max(initial=0.0))
    if not furthest <= golden.tolerance:
        raise UnhealthyError(
            f"expected {golden.name} within {golden.tolerance:g} of the golden output, "
            f"found a difference of {furthest:g}"
        )
