"""Start and stop the page beside the gRPC server, in its process and its event loop.

By aiohttp: it is made to run within a loop that is somebody else's, installs no signal handlers
there, binds to port 0 and ends requests under way when it stops.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

from aiohttp import web

from server.clock import utc_now
from server.home import ServerHome
from server.identity.certificates import names_of
from server.listening import ListenAddress, cannot_listen
from server.overview import overview_of
from server.web.site import site
from server.web.snapshots import Snapshots

log = logging.getLogger(__name__)

GRACE_S = 2.0
KEEP_ALIVE_S = 20.0
LINGERING_S = 1.0


@asynccontextmanager
async def serving_page(home: ServerHome, listen: str) -> AsyncIterator[str]:
    """Serve the page for as long as the block runs.

    Args:
        home: An open home; the caller closes it afterwards.
        listen: HOST:PORT, or a port of 127.0.0.1 alone; port 0 for any free one.

    Yields:
        Its URL.

    Raises:
        SettingError: nothing can listen on the address.
        HomeError: the home's keys are missing or damaged.
    """
    address = ListenAddress.parse_local(listen)
    names = names_of(home.authority().server_certificate())
    application = site(Snapshots(lambda: overview_of(home, utc_now())), names)
    runner = web.AppRunner(
        application,
        access_log=None,
        handle_signals=False,
        keepalive_timeout=KEEP_ALIVE_S,
        lingering_time=LINGERING_S,
        shutdown_timeout=GRACE_S,
    )
    await runner.setup()
    try:
        yield await _listen(runner, address)
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, address: ListenAddress) -> str:
    try:
        await web.TCPSite(runner, address.host, address.port).start()
    except OSError as error:
        raise cannot_listen(address, error) from error
    if not _is_loopback(address.host):
        log.warning(
            "the page on %s asks nobody who they are: whoever reaches it reads it; "
            "put a proxy with a login before it",
            address,
        )
    port = runner.addresses[0][1]
    return f"http://{ListenAddress(address.host, port)}/"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
