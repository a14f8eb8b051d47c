"""The roles, how long their word holds, and the names of what they sign."""

import hashlib
from datetime import datetime, timedelta
from urllib.parse import quote

ROOT, TARGETS, RELEASES = "root", "targets", "releases"
SNAPSHOT, TIMESTAMP, ROUTES = "snapshot", "timestamp", "routes"

OFFLINE = (ROOT, TARGETS)
ONLINE = (SNAPSHOT, TIMESTAMP, ROUTES)
ROLES = (*OFFLINE, RELEASES, *ONLINE)

LIFETIMES = {
    ROOT: timedelta(days=365),
    TARGETS: timedelta(days=365),
    RELEASES: timedelta(days=365),
    ROUTES: timedelta(days=30),
    SNAPSHOT: timedelta(days=14),
    TIMESTAMP: timedelta(days=1),
}
"""Online roles are signed again by themselves, at half of it. The others by a person: long enough
for a holiday, short enough that a lost key does not matter for ever."""

LISTED_GENERATIONS = 8
"""Of each model, the newest. Older ones cannot be offered any more, only be passed through: their
manifests are found from the newer ones. Every device of the model pays for this list at every
release."""

LIST_ID = 16
"""Characters that tell the lists of models apart."""

MODEL_PATHS = ("*/*",)
"""What `releases` may sign: MODEL/N of every model. `*` does not match a slash."""
ROUTE_PATHS = ("routes/*/*",)


def list_role(model: str) -> str:
    """The role that lists the manifests of one model; `releases` delegates to it, by its own key.

    Names of models are too long for the snapshot, which every device fetches.
    """
    return f"{RELEASES}.{hashlib.sha256(model.encode()).hexdigest()[:LIST_ID]}"


def family_of(role: str) -> str:
    """`releases` for the list of a model; else the role itself."""
    return role.partition(".")[0]


def lifetime_of(role: str) -> timedelta:
    """How long the word of a role, or of a list, holds."""
    return LIFETIMES[family_of(role)]


def needs_somebody(role: str, expires_at: datetime, now: datetime) -> bool:
    """Whether less than a quarter of its time is left, and no server renews it by itself."""
    return role not in ONLINE and expires_at - now < lifetime_of(role) / 4


def manifest_path(model: str, generation: int) -> str:
    """The target name of a manifest. A name in metadata only: it never reaches a disk."""
    return f"{quote(model, safe='')}/{generation}"


def model_pattern(model: str) -> str:
    """The names that a publisher of one model may sign.

    `*` and `?` in a model's name would stand for others, and are quoted in all names.
    """
    return f"{quote(model, safe='')}/*"


def revocations_path(model: str) -> str:
    """The target whose `custom` lists the revoked generations of a model."""
    return f"{quote(model, safe='')}/revoked"


def route_path(model: str, diff_sha256: bytes) -> str:
    """The target name of a diff that no manifest names."""
    return f"routes/{quote(model, safe='')}/{diff_sha256.hex()}"
