"""What is answered to which request: the page, the same figures as JSON, and three small files."""

import json
import logging
from collections.abc import Awaitable, Callable, Collection
from importlib import resources

from aiohttp import web

from server.errors import ServerError
from server.overview.content import content_of
from server.overview.values import Overview
from server.web.guard import add_headers, guard
from server.web.paging import Places
from server.web.rendering import render, render_trouble
from server.web.snapshots import Snapshots

log = logging.getLogger(__name__)

FILES = {"look.css": "text/css", "page.css": "text/css", "page.js": "text/javascript",
         "icon.svg": "image/svg+xml"}  # fmt: skip
JSON = "application/json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def site(snapshots: Snapshots, names: Collection[str]) -> web.Application:
    """The page as an application of aiohttp.

    Args:
        snapshots: What it shows.
        names: How browsers may call the server, beside addresses and localhost.
    """
    application = web.Application(middlewares=[guard(names)])
    application.on_response_prepare.append(add_headers)
    application.router.add_get("/", _page(snapshots))
    application.router.add_get("/api/status.json", _status(snapshots))
    for name, kind in FILES.items():
        application.router.add_get(f"/static/{name}", _file(name, kind))
    return application


def _page(snapshots: Snapshots) -> Handler:
    async def page(request: web.Request) -> web.Response:
        places = Places.read(request.query)
        try:
            snapshot = await snapshots.latest()
        except ServerError as error:
            log.warning("page: %s", error)
            return _html(render_trouble(str(error)), status=503)
        return _html(await snapshot.body(places, lambda overview: render(overview, places)))

    return page


def _status(snapshots: Snapshots) -> Handler:
    async def status(_request: web.Request) -> web.Response:
        try:
            snapshot = await snapshots.latest()
        except ServerError as error:
            log.warning("page: %s", error)
            body = json.dumps({"error": str(error)}).encode()
            return web.Response(status=503, body=body, content_type=JSON)
        return web.Response(body=await snapshot.body(JSON, _json), content_type=JSON)

    return status


def _file(name: str, kind: str) -> Handler:
    content = resources.files("server.web").joinpath("static", name).read_bytes()

    async def file(_request: web.Request) -> web.Response:
        # A newer program may have a newer file: asked for each time, and it is small.
        return web.Response(
            body=content,
            content_type=kind,
            charset="utf-8",
            headers={"Cache-Control": "no-cache"},
        )

    return file


def _html(body: bytes, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body, content_type="text/html", charset="utf-8")


def _json(overview: Overview) -> bytes:
    return json.dumps(content_of(overview), indent=1).encode()
