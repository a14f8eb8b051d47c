"""The page as text: what somebody else wrote stays text."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.home import ServerHome
from server.overview import Overview, overview_of
from server.overview.values import Bounded, Level, Notice
from server.registry.audit import AuditEntry
from server.rollouts.report import Report
from server.web.paging import Places
from server.web.rendering import LONGEST_DETAILS, details, render, render_trouble, segments_of
from tests.integration.served_home import add_generation
from tests.made_up_fleet import fill
from tests.unit.server.values import TIME

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}&amp;\u202e\x1b[31m"
CONTROL = "\u202e\x1b"


class Elements(HTMLParser):
    """The elements of a page: their names, attributes and text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.decode())
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        assert len(attrs) == len(dict(attrs)), attrs
        if tag not in ("meta", "link", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def overview(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Overview]:
    home = ServerHome.create(tmp_path_factory.mktemp("home") / "srv")
    for number in range(12):
        add_generation(home, number)
    fill(home.registry, 60, TIME)
    yield overview_of(home, TIME)
    home.close()


@pytest.fixture(scope="module")
def hostile(overview: Overview) -> Overview:
    """The same, and everybody who can write something wrote the same."""

    def spoilt(report: Report) -> Report:
        progress = replace(report.rollout.progress, reason=HOSTILE)
        rollout = replace(
            report.rollout, model=HOSTILE, groups=((HOSTILE, HOSTILE),), progress=progress
        )
        return replace(report, rollout=rollout, failures={HOSTILE: 2})

    fleet, nearest = overview.fleet, overview.spending.nearest
    written = {"name": HOSTILE, "model": HOSTILE}
    return replace(
        overview,
        notices=(Notice(Level.BAD, HOSTILE, "look"),),
        models=tuple(
            replace(model, status=replace(model.status, model=HOSTILE)) for model in overview.models
        ),
        fleet=replace(
            fleet,
            worth_a_look=Bounded(
                tuple(replace(one, reason=HOSTILE, **written) for one in fleet.worth_a_look.items),
                9,
            ),
            waiting=Bounded(tuple(replace(one, **written) for one in fleet.waiting.items), 9),
        ),
        rollouts=Bounded(tuple(map(spoilt, overview.rollouts.items)), 17),
        spending=replace(
            overview.spending,
            nearest=Bounded(tuple(replace(one, **written) for one in nearest.items), 9),
        ),
        failures=tuple(replace(one, code=HOSTILE, model=HOSTILE) for one in overview.failures),
        audit=tuple(
            replace(one, actor=HOSTILE, action=HOSTILE, subject=HOSTILE, details={HOSTILE: HOSTILE})
            for one in overview.audit
        ),
    )


def test_the_page_is_well_formed_and_has_its_landmarks(overview: Overview) -> None:
    page = Elements(render(overview, Places()))
    names = [tag for tag, _ in page.seen]
    assert [names.count(tag) for tag in ("header", "nav", "main", "footer", "h1")] == [1] * 5
    ids = [attributes["id"] for _, attributes in page.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.seen:
        for reference in ("aria-labelledby",):
            assert attributes.get(reference) in (None, *ids)
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
        if tag == "a" and (attributes["href"] or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in ids


def test_nothing_needs_what_the_policy_forbids(overview: Overview) -> None:
    for tag, attributes in Elements(render(overview, Places())).seen:
        assert tag != "style"
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "/").startswith(("/", "#", "")), attributes
            assert "//" not in (attributes.get(name) or "")


def test_what_others_wrote_is_text_wherever_it_stands(
    overview: Overview, hostile: Overview
) -> None:
    sound = Elements(render(overview, Places()))
    page = Elements(render(hostile, Places()))
    scripts = [attributes for tag, attributes in page.seen if tag == "script"]
    assert scripts == [{"src": "/static/page.js", "defer": None}]
    assert {tag for tag, _ in page.seen} <= {tag for tag, _ in sound.seen}
    assert not any(name.startswith("on") for _, attributes in page.seen for name in attributes)
    assert page.text.count("<script>alert(1)</script>") > 40
    assert "{{ 7*7 }}" in page.text
    assert not set(CONTROL) & set(page.text)


@given(st.text())
def test_trouble_is_text_too(message: str) -> None:
    page = Elements(render_trouble(message))
    assert "script" not in [tag for tag, _ in page.seen]


def test_lists_stay_short_however_long_they_are(overview: Overview) -> None:
    many = Bounded(overview.fleet.worth_a_look.items[:1] * 100, 50_000)
    large = replace(
        overview,
        fleet=replace(overview.fleet, worth_a_look=many),
        rollouts=Bounded(overview.rollouts.items * 2, 900),
        audit=overview.audit * 3,
        failures=overview.failures * 9,
    )
    page = render(large, Places())
    assert len(page) < 100_000
    assert "page 1 of 10, the first 100 of 50,000" in Elements(page).text


def test_a_bar_is_never_longer_than_it_is() -> None:
    assert segments_of([("a", 0)], 0) == []
    for parts, whole in (([1, 2, 3], 10), ([5, 9], 10), ([0.1] * 10, 1), ([7], 0)):
        segments = segments_of([("part", part) for part in parts], whole)
        assert segments[-1].start + segments[-1].width <= 100.01
        for before, after in pairwise(segments):
            assert after.start == pytest.approx(before.start + before.width, abs=0.02)


def test_details_of_a_change_are_one_short_line() -> None:
    entry = AuditEntry(1, TIME, "a", "b", "c", {"key": "ab" * 32, "none": None, "n\n": "x" * 999})
    assert details(entry).startswith(f"key {'ab' * 8}…, n� ")
    assert len(details(entry)) == LONGEST_DETAILS


def test_what_expires_says_when_and_who_signs(overview: Overview) -> None:
    late = replace(overview, signatures=tuple(
        replace(line, expires_at=TIME - timedelta(days=3), is_expired=True)
        for line in overview.signatures
    ))  # fmt: skip
    text = Elements(render(late, Places())).text
    assert text.count("3 d ago: expired") == 3
    assert text.count("a server, when a device asks") == 3
