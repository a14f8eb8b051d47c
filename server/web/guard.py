"""Who may ask, and what a browser may do with the answer.

A page of the network must not read this one through a visitor's browser: a name that leads to
this address only since a moment ago (DNS rebinding) arrives as a Host that is not ours. Numeric
addresses are: no name is looked up for them.
"""

import re
from collections.abc import Awaitable, Callable, Collection
from ipaddress import ip_address

from aiohttp import web
from aiohttp.typedefs import Middleware

LOOPBACK = "localhost"
HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:@/\\\[\]]{1,253}))(?::\d{1,5})?")
SHOWN = 80

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Server": "ota-server",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_ours(host: str, names: Collection[str]) -> bool:
    """Whether a Host header names this server: an address, localhost, or one of its names.

    The port says nothing: it may be forwarded.
    """
    match = HOST.fullmatch(host)
    if match is None:
        return False
    name = (match[1] or match[2]).lower().rstrip(".")
    return name == LOOPBACK or name in names or _is_address(name)


def guard(names: Collection[str]) -> Middleware:
    """Refuse calls under another name; and every refusal is one line of plain text."""
    known = frozenset(name.lower().rstrip(".") for name in names)

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1 or not is_ours(hosts[0], known):
            found = ", ".join(host[:SHOWN] for host in hosts) or "none"
            return _line(
                421,
                f"expected a name of this server, found {found!r}; "
                "`ota-server tls renew HOME --name NAME` gives it one",
            )
        try:
            return await handler(request)
        except web.HTTPException as refused:
            if refused.status < 400:
                raise
            answer = _line(refused.status, refused.reason)
            if isinstance(refused, web.HTTPMethodNotAllowed):
                answer.headers["Allow"] = "GET, HEAD"
            return answer

    return guarded


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Say on every answer what a browser may do with it."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")


def _line(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"error: {text}\n")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
