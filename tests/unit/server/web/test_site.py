"""The page while its registry is in trouble."""

import asyncio
import json

from aiohttp.test_utils import TestClient, TestServer

from server.errors import RegistryError
from server.overview.values import Overview
from server.web.site import site
from server.web.snapshots import Snapshots


def in_trouble() -> Overview:
    raise RegistryError("db <b>gone</b>: the database failed: disk I/O error")


def test_a_registry_that_does_not_answer_is_said_as_page_and_as_json() -> None:
    async def story() -> None:
        async with TestClient(TestServer(site(Snapshots(in_trouble), ()))) as client:
            page = await client.get("/")
            text = await page.text()
            assert page.status == 503
            assert "The registry does not answer" in text
            assert "&lt;b&gt;gone&lt;/b&gt;: the database failed" in text
            assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
            answer = await client.get("/api/status.json")
            assert answer.status == 503
            assert "disk I/O error" in json.loads(await answer.text())["error"]

    asyncio.run(story())


def test_a_fault_of_ours_is_one_line_and_tells_nothing() -> None:
    def broken() -> Overview:
        raise ZeroDivisionError("a secret")

    async def story() -> None:
        async with TestClient(TestServer(site(Snapshots(broken), ()))) as client:
            answer = await client.get("/")
            assert (answer.status, "secret" in await answer.text()) == (500, False)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            # And not asked again at once by the next viewer.
            assert (await client.get("/")).status == 503

    asyncio.run(story())
