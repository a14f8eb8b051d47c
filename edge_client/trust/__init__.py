"""What a device believes: TUF metadata, manifests, and what it has seen before.

    HOME/trust/root.json     the root of trust: pinned at enrolment, replaced by its own successors
    HOME/trust/state.json    generation floor, time high-water, revoked generations
    HOME/trust/tuf/          python-tuf's cache; may be lost, damaged or wiped at any time

The server's plan is a hint. What is installed is what a manifest says that the publisher signed.

`metadata` verifies (python-tuf), `manifest` reads what is signed, `verdict` decides (pure),
`state` remembers, `root` is what all of it rests on, `trust` brings them together.

Not for: fetching the files of a plan (edge_client.download), or trying a model.

    >>> trust = Trust(home, config.model, connection)
    >>> signed = trust.authorise(plan, installed)
"""

from edge_client.trust.root import MOST_ROOT_BYTES, pin_root, pinned_root, require_root
from edge_client.trust.trust import Trust, trust_status
from edge_client.trust.verdict import SignedPlan

__all__ = [
    "MOST_ROOT_BYTES",
    "SignedPlan",
    "Trust",
    "pin_root",
    "pinned_root",
    "require_root",
    "trust_status",
]
