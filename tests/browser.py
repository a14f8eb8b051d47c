"""A real Chromium, for tests of pages; they are skipped where there is none.

with chromium() as browser:
    page = browser.new_page()
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, or the one that `playwright install chromium` fetched."""
    with sync_playwright() as playwright:
        installed = [found for name in PROGRAMS if (found := shutil.which(name))]
        program = (installed or [playwright.chromium.executable_path])[0]
        if not Path(program).exists():
            pytest.skip(f"expected one of {', '.join(PROGRAMS)}, found none")
        browser = playwright.chromium.launch(executable_path=program)
        try:
            yield browser
        finally:
            browser.close()
