"""Collections, on every pair of database and store, also while somebody publishes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from server import devices
from server.clock import utc_now
from server.collecting.collection import collect
from server.collecting.verdict import Verdict
from server.devices import Answer, CheckIn, Installed
from server.domain import Attempt, AttemptState, Blob, Device, Outcome, Report
from server.errors import ArtifactError, ConflictError, NotFoundError
from server.home import ServerHome
from server.publishing import add_direct_steps, publish, weights_of
from server.registry import Registry
from server.registry.check_ins import CheckedIn
from server.registry.identities import Identities
from server.rollouts.undoing import roll_back
from server.signing.releasing import revoke
from tests.contracts.test_rollouts import rollout
from tests.unit.server.models import CARD, snapshot, sparse, weights

AT_ONCE = timedelta(0)


@pytest.fixture(params=["folder", "s3"])
def store_url(request, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "artifacts")
    return f"s3://{request.getfixturevalue('s3').new_bucket()}/ota"


@pytest.fixture
def home(database_url: str, store_url: str, tmp_path: Path) -> Iterator[ServerHome]:
    """Six generations, a device at 1 and one at 5."""
    made = ServerHome.create(tmp_path / "srv", database=database_url, store=store_url)
    publish(made, "digits", snapshot(weights(0)), graph=b"graph", card=CARD)
    for _ in range(5):
        publish_next(made)
    now = utc_now()
    made.registry.enroll(Device("old", "digits", "", now, now, installed=1))
    made.registry.enroll(Device("new", "digits", "", now, now, installed=5))
    yield made
    made.close()


def publish_next(home: ServerHome) -> None:
    head = home.registry.head("digits")
    assert head is not None
    base = weights_of(home, "digits", head.number)
    publish(home, "digits", sparse(base, *range(head.number, 4000, 50)))


def collected(home: ServerHome, **options: object) -> Verdict:
    return collect(home, later(), older_than=AT_ONCE, newest=1, **options)  # type: ignore[arg-type]


def later() -> datetime:
    return utc_now() + timedelta(minutes=1)


def names(home: ServerHome) -> set[bytes | None]:
    return {file.sha256 for file in home.artifacts.listing()}


def ends(home: ServerHome) -> set[tuple[int | None, int]]:
    return {(step.base, step.target) for step in home.registry.steps("digits")}


def end_attempts(home: ServerHome) -> None:
    """Both devices give up what they were told."""
    home.registry.check_ins.record([CheckedIn("old", 1), CheckedIn("new", 5)], utc_now())


def plan_of(home: ServerHome, device: str, number: int | None) -> list[int]:
    """Where a device goes, step by step; every blob of its plan is read."""
    installed = None
    if number is not None:
        installed = Installed(number, home.registry.generation("digits", number).digest)
    [answer] = devices.check_in(home.registry, [CheckIn(device, installed)])
    assert isinstance(answer, Answer), answer
    assert answer.plan is not None
    for blob in [*(step.diff for step in answer.plan.steps), answer.plan.graph, answer.plan.card]:
        assert blob is not None
        assert home.registry.blob(blob.sha256) == blob
        home.artifacts.verify(blob)
    return [step.target for step in answer.plan.steps]


def test_a_store_lists_what_was_put_and_deletes_it(home: ServerHome) -> None:
    before = {file.name for file in home.artifacts.listing()}
    blob = home.artifacts.put(b"something else")
    [file] = [file for file in home.artifacts.listing() if file.name not in before]
    assert (file.sha256, file.length) == (blob.sha256, blob.length)
    assert abs(utc_now() - file.modified_at) < timedelta(minutes=1)
    home.artifacts.delete([file.name])
    home.artifacts.delete([file.name])
    home.artifacts.delete([])
    assert {file.name for file in home.artifacts.listing()} == before
    with pytest.raises(ArtifactError, match="found no"):
        home.artifacts.read(blob.sha256, 0, 1)


def test_what_nobody_needs_is_gone_and_every_device_still_finds_its_way(home: ServerHome) -> None:
    before = names(home)
    would = collected(home, dry_run=True)
    assert names(home) == before
    verdict = collected(home)
    assert verdict.files == would.files
    assert before - names(home) == {one.file.sha256 for one in verdict.files}
    assert verdict.freed_bytes > 200_000
    assert {(None, 0), (None, 2), (None, 3), (None, 4), (0, 1)}.isdisjoint(ends(home))
    assert plan_of(home, "old", 1) == [2, 3, 4, 5]
    assert plan_of(home, "new", None) == [5]
    assert weights_of(home, "digits", 1).digest() == home.registry.generation("digits", 1).digest
    assert len(home.registry.generations("digits")) == 6
    assert collected(home).files == ()
    entries = [e for e in Identities(home.registry).audit() if e.action == "artifacts.collect"]
    assert [e.details["files"] for e in entries] == [len(verdict.files)]


def test_a_collected_blob_is_not_served_and_its_generation_not_brought_back(
    home: ServerHome,
) -> None:
    gone = home.registry.generation("digits", 3)
    collected(home)
    with pytest.raises(NotFoundError, match="expected a known blob"):
        home.registry.blob(gone.snapshot.sha256)
    assert home.registry.generation("digits", 3) == gone
    with pytest.raises(ArtifactError, match="found no"):
        roll_back(home, "digits", 3)


def test_after_a_collection_the_server_publishes_goes_back_and_rolls_up(home: ServerHome) -> None:
    collected(home)
    publish_next(home)
    assert plan_of(home, "old", 1) == [2, 3, 4, 5, 6]
    assert add_direct_steps(home, "digits", 6, [1])
    assert plan_of(home, "old", 1) == [6]
    end_attempts(home)
    collected(home)
    assert plan_of(home, "old", 1) == [6]
    assert {(1, 2), (2, 3)}.isdisjoint(ends(home))
    made = roll_back(home, "digits", 1)
    assert plan_of(home, "new", None) == [made.number]


def test_a_revoked_head_leaves_a_way_on(home: ServerHome) -> None:
    revoke(home.registry, home.keys, "digits", [5], utc_now())
    collected(home)
    assert plan_of(home, "new", None) == [4]
    publish_next(home)
    assert plan_of(home, "new", 5) == [6]


def test_an_open_attempt_keeps_its_plan(home: ServerHome) -> None:
    now = utc_now()
    home.registry.check_ins.record(
        [
            CheckedIn("new", 5),
            CheckedIn("old", 1, Attempt("a", "old", 1, 3, AttemptState.PLANNED, now)),
        ],
        now,
    )
    collected(home)
    assert {(1, 2), (2, 3), (None, 3)} <= ends(home)
    home.registry.report(Report("old", "a", 0, Outcome.FAILED, "X", 0, 0, 0), now)
    collected(home)
    assert (None, 3) not in ends(home)


def test_a_check_in_sees_that_steps_were_deleted_and_that_others_came(
    home: ServerHome, database_url: str
) -> None:
    other = Registry.open(database_url)
    assert plan_of(replace(home, registry=other), "old", 1) == [2, 3, 4, 5]
    number = add_direct_steps(home, "digits", 5, [1])
    assert number
    assert plan_of(replace(home, registry=other), "old", 1) == [5]
    newest = home.registry.steps("digits")[-1]
    assert (newest.base, newest.target) == (1, 5)
    # The last step goes and another one comes: as many as before, and the last one is another.
    nobody = Device("more", "digits", "", utc_now(), utc_now(), installed=2)
    home.registry.enroll(nobody)
    now = utc_now()
    home.registry.check_ins.record([CheckedIn("old", 5), CheckedIn("more", 2)], now)
    collected(home)
    assert (1, 5) not in ends(home)
    assert add_direct_steps(home, "digits", 5, [2]) == number
    assert plan_of(replace(home, registry=other), "more", 2) == [5]
    other.close()


def test_old_attempts_are_forgotten_but_for_open_ones_and_those_of_open_rollouts(
    home: ServerHome,
) -> None:
    now = utc_now()
    made = rollout(target=5, base=1)
    home.registry.rollouts.create(made)
    for number, of in enumerate((None, made.rollout_id, None)):
        new = Attempt(f"{number}", "old", 1, 5, AttemptState.PLANNED, now, of)
        home.registry.check_ins.record([CheckedIn("old", 1, new)], now)
        home.registry.report(Report("old", f"{number}", 0, Outcome.STARTED, "", 1, 1, 0), now)
    records = home.registry.collecting
    assert records.forget_attempts(now, now) == 0
    assert records.forget_attempts(later(), later()) == 1
    with pytest.raises(NotFoundError):
        home.registry.attempt("0")
    assert home.registry.attempt("1").state is AttemptState.SUPERSEDED
    assert home.registry.attempt("2").state is AttemptState.STARTED
    entries = [e for e in Identities(home.registry).audit() if e.action == "attempts.forget"]
    assert [entry.details["attempts"] for entry in entries] == [1]


# ---- races


def orphaned(home: ServerHome, content: bytes) -> Blob:
    """A blob that lies in the store and that nothing names."""
    return home.artifacts.put(content)


def test_a_publication_that_reuses_a_blob_which_is_collected_meanwhile_keeps_it(
    home: ServerHome, database_url: str
) -> None:
    base = weights_of(home, "digits", 5)
    diff = sparse(base, 7, 8, 9)
    orphan = orphaned(home, diff)

    class Between:
        """The registry of the publisher: another server collects right before it writes."""

        def __getattr__(self, name: str) -> object:
            if name == "add_generation":
                verdict = collected(replace(home, registry=Registry.open(database_url)))
                assert orphan.sha256 in {one.file.sha256 for one in verdict.files}
                assert orphan.sha256 not in names(home)
            return getattr(home.registry, name)

    made = publish(replace(home, registry=Between()), "digits", diff)  # type: ignore[arg-type]
    assert orphan.sha256 in names(home)
    assert plan_of(home, "new", 5) == [made.number]
    assert collected(home, dry_run=True).files == ()


def test_a_publication_between_rows_and_files_keeps_its_blobs(home: ServerHome) -> None:
    base = weights_of(home, "digits", 5)
    diff = sparse(base, 7, 8, 9)
    orphan = orphaned(home, diff)
    made = []

    class Between:
        def __getattr__(self, name: str) -> object:
            return getattr(home.registry.collecting, name)

        def delete_unnamed(self, *given: object) -> int:
            if not made:
                made.append(publish(home, "digits", diff))
            return home.registry.collecting.delete_unnamed(*given)  # type: ignore[arg-type]

    registry = Registry.acting_as(home.registry, "collector")
    registry.collecting = Between()  # type: ignore[assignment]
    verdict = collected(replace(home, registry=registry))
    assert orphan.sha256 in {one.file.sha256 for one in verdict.files}
    assert orphan.sha256 in names(home)
    assert plan_of(home, "new", 5) == [made[0].number]


def test_a_graph_that_is_inherited_and_collected_meanwhile_is_a_conflict(
    home: ServerHome, database_url: str
) -> None:
    publish(home, "digits", sparse(weights_of(home, "digits", 5), 3), graph=b"another graph")
    now = utc_now()
    home.registry.check_ins.record([CheckedIn("old", 6), CheckedIn("new", 6)], now)
    diff = sparse(weights_of(home, "digits", 5), 9)

    class Between:
        def __getattr__(self, name: str) -> object:
            if name == "add_generation":
                collected(replace(home, registry=Registry.open(database_url)))
            return getattr(home.registry, name)

    with pytest.raises(ConflictError, match="was collected"):
        publish(replace(home, registry=Between()), "digits", diff, branch=True)  # type: ignore[arg-type]
    head = home.registry.head("digits")
    assert head is not None
    assert head.number == 6


def test_two_servers_publish_and_two_collect_and_nothing_is_lost(
    home: ServerHome, database_url: str
) -> None:
    both = [home, replace(home, registry=Registry.open(database_url))]

    def act(number: int) -> None:
        if number % 2:
            collected(both[number // 2 % 2])
            return
        for _ in range(3):
            # The same content again and again: what one collects another one puts. The head
            # that it began with may be neither the newest nor there any more.
            with suppress(ConflictError, ArtifactError):
                roll_back(both[number // 2 % 2], "digits", 1)
                return

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(act, range(12)))
    head = home.registry.head("digits")
    assert head is not None
    assert head.number > 5
    for device, installed in (("old", 1), ("new", None)):
        assert plan_of(home, device, installed)[-1] == head.number
    home.artifacts.verify(home.registry.signing.manifests("digits")[-1].blob)
    both[1].registry.close()
