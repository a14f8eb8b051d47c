"""Delete what nobody needs: rows first, files second.

    >>> collected = collect(home, utc_now())
    >>> collected.freed_bytes

Any number of servers may publish, serve and collect meanwhile. A blob is deleted in a moment in
which nobody can give it a name, and whoever gives it one afterwards looks whether it is there. A
crash between rows and files leaves files without a name, for the next collection. A device that
downloads what is collected fails, asks again, and gets another plan.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from server.collecting.needs import Stock
from server.collecting.verdict import Verdict, verdict_on
from server.home import ServerHome
from server.signing.roles import LISTED_GENERATIONS

OLDER_THAN = timedelta(days=7)
FILES_AT_ONCE = 64
"""Deleted while the registry waits."""


def collect(
    home: ServerHome,
    now: datetime,
    *,
    older_than: timedelta = OLDER_THAN,
    newest: int = LISTED_GENERATIONS,
    dry_run: bool = False,
) -> Verdict:
    """Delete the files that no rollout and no device needs.

    Args:
        home: Whose store.
        now: The time.
        older_than: Files that were written later stay.
        newest: How many of the newest generations of a model stay, whoever uses them.
        dry_run: Only say what would be deleted.

    Returns:
        What was deleted.

    Raises:
        ArtifactError: the store cannot be listed, or a file not be deleted; what is left is
            deleted by the next collection.
        RegistryError: the database failed.
    """
    # Listed first: a file that is written after this is nothing that can be judged here.
    files = tuple(home.artifacts.listing())

    def decide(stocks: Sequence[Stock], named: Collection[bytes]) -> Verdict:
        return verdict_on(stocks, named, files, newest, now, older_than)

    records = home.registry.collecting
    if dry_run:
        return records.preview(decide)
    verdict = records.carry_out(decide, now)
    doomed = [one.file for one in verdict.files]
    for at in range(0, len(doomed), FILES_AT_ONCE):
        records.delete_unnamed(doomed[at : at + FILES_AT_ONCE], home.artifacts.delete)
    return verdict
