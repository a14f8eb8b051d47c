"""The operator's page in a real Chromium, over a real server and a thousand devices."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

pytest.importorskip("playwright", reason="expected the extra `dev`, found no playwright")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from server.clock import utc_now
from server.home import ServerHome
from server.registry.audit import record
from tests.browser import chromium
from tests.integration.served_page import ServedPage, served_page
from tests.made_up_fleet import HOSTILE, made_up_home

DEVICES = 1000
PATIENCE_MS = 150_000
"""For a page that refreshes itself every few seconds; its server looks the more seldom the longer
a look takes, on a machine that has other work."""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def home(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home") / "srv"
    made_up_home(folder, DEVICES, utc_now()).close()
    return folder


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[ServedPage]:
    with served_page(home) as opened:
        yield opened


class Visit:
    """A page that is looked at, and whatever went wrong there."""

    def __init__(self, browser: Browser, url: str, **options: object) -> None:
        self.context = browser.new_context(**options)  # type: ignore[arg-type]
        self.context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: set[str] = set()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.add(request.url))
        self.page.goto(url)

    def __enter__(self) -> Page:
        return self.page

    def __exit__(self, *_: object) -> None:
        self.context.close()


def test_it_loads_nothing_from_elsewhere_and_nothing_is_refused(
    browser: Browser, served: ServedPage
) -> None:
    visit = Visit(browser, served.url)
    with visit as page:
        page.wait_for_load_state("networkidle")
        assert visit.complaints == []
        assert {url.removeprefix(served.url) for url in visit.requests} >= {"", "static/page.js"}
        assert all(url.startswith(served.url) for url in visit.requests)


def test_it_shows_what_the_json_says(browser: Browser, served: ServedPage) -> None:
    with urlopen(f"{served.url}api/status.json") as answer:
        status = json.load(answer)
    with Visit(browser, served.url) as page:
        figures = page.locator("#figures").inner_text()
        assert f"{status['fleet']['devices']:,}" == "1,000"
        for count in status["fleet"]["states"].values():
            assert f"{count:,}" in figures or count == status["fleet"]["states"]["steady"]
        shown = page.locator("#rollouts article").count()
        assert shown == sum(
            one["state"] not in ("finished", "aborted") for one in status["rollouts"]
        )
        for one in status["failures"]:
            row = page.locator("#failures tbody tr", has_text=one["code"])
            assert f"{one['attempts']:,}" in row.inner_text()
        total = sum(int(text) for text in page.locator(
            "#devices tbody td:nth-child(2)").all_inner_texts())  # fmt: skip
        assert total == DEVICES


def test_a_device_called_script_is_a_name(browser: Browser, served: ServedPage) -> None:
    visit = Visit(browser, served.url)
    with visit as page:
        found = 0
        for _ in range(20):
            rows = page.locator("#look tbody tr")
            found += sum(HOSTILE in text for text in rows.all_inner_texts())
            following = page.locator("#look-after")
            if not following.count():
                break
            following.click()
        assert found
        assert page.title() == "1,000 devices · update service"
        assert visit.complaints == []


def test_without_javascript_it_says_the_same(browser: Browser, served: ServedPage) -> None:
    with Visit(browser, served.url, java_script_enabled=False) as page:
        expect(page.locator("#figures")).to_contain_text("1,000")
        expect(page.get_by_role("link", name="Reload")).to_be_visible()
        first = page.locator("#audit tbody tr").first.inner_text()
        page.locator("#audit-after").click()
        expect(page).to_have_url(re.compile(r"\?audit=2#audit$"))
        assert page.locator("#audit tbody tr").first.inner_text() != first
        page.locator("#audit-before").click()
        assert page.locator("#audit tbody tr").first.inner_text() == first


def add_change(home: Path, subject: str) -> None:
    opened = ServerHome.open(home)
    with opened.registry.writing() as session:
        record(session, "operator:bob", "rollout.pause", subject, {}, utc_now())
    opened.close()


def test_it_refreshes_itself_and_leaves_the_reader_where_he_is(
    browser: Browser, served: ServedPage, home: Path
) -> None:
    visit = Visit(browser, served.url)
    with visit as page:
        page.locator("#audit-after").focus()
        position = page.evaluate("scrollY")
        assert position > 0
        page.evaluate("document.body.dataset.mark = 'the same document'")
        add_change(home, "just now")
        expect(page.locator("#audit")).to_contain_text("just now", timeout=PATIENCE_MS)
        assert page.evaluate("document.body.dataset.mark") == "the same document"
        assert page.evaluate("document.activeElement.id") == "audit-after"
        assert abs(page.evaluate("scrollY") - position) < 200
        assert visit.complaints == []


def test_refreshing_can_be_paused(browser: Browser, served: ServedPage, home: Path) -> None:
    with Visit(browser, served.url) as page:
        page.get_by_role("button", name="Pause refreshing").click()
        add_change(home, "while it was paused")
        page.wait_for_timeout(9000)
        expect(page.locator("#audit")).not_to_contain_text("while it was paused")
        page.get_by_role("button", name="Go on refreshing").click()
        expect(page.locator("#audit")).to_contain_text("while it was paused", timeout=PATIENCE_MS)


def test_a_server_that_is_gone_is_said_and_the_figures_stay(browser: Browser, home: Path) -> None:
    with served_page(home) as served:
        visit = Visit(browser, served.url)
        with visit as page:
            served.process.terminate()
            served.process.wait()
            expect(page.get_by_role("status")).to_contain_text(
                "Not refreshed since", timeout=PATIENCE_MS
            )
            expect(page.locator("#figures")).to_contain_text("1,000")


LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 780}},
    "phone, dark": {"color_scheme": "dark", "viewport": {"width": 360, "height": 780}},
}


@pytest.mark.parametrize("look", LOOKS)
def test_it_is_accessible_and_fits(browser: Browser, served: ServedPage, look: str) -> None:
    """Contrast, landmarks, names, headers and the order of headings, as axe-core judges them."""
    with Visit(browser, served.url, **LOOKS[look]) as page:
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width == LOOKS[look]["viewport"]["width"]  # type: ignore[index]


def test_it_can_be_read_by_keyboard_alone(browser: Browser, served: ServedPage) -> None:
    with Visit(browser, served.url) as page:
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="To the fleet")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "notice-1"
        page.locator("#audit-table").focus()
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"


def test_an_empty_home_says_how_to_begin(browser: Browser, tmp_path: Path) -> None:
    ServerHome.create(tmp_path / "srv").close()
    with served_page(tmp_path / "srv") as served:
        visit = Visit(browser, served.url)
        with visit as page:
            expect(page.locator("#notices")).to_contain_text("All is well")
            expect(page.locator("#devices")).to_contain_text("ota-server publish")
            expect(page.locator("#rollouts")).to_contain_text("ota-server rollout create")
            assert Axe().run(page).violations_count == 0
            assert visit.complaints == []
