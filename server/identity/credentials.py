"""What gRPC needs to speak TLS: the server's certificate, taken up anew when its file changes."""

import logging
from collections.abc import Callable
from typing import cast

import grpc

from server.clock import Clock, utc_now
from server.errors import HomeError
from server.identity.authority import Authority, ServerFile

log = logging.getLogger(__name__)


def server_credentials(authority: Authority, now: Clock = utc_now) -> grpc.ServerCredentials:
    """Credentials that ask every client for a certificate of the fleet.

    Before each handshake the file is looked at: after `ota-server tls renew` the next connection
    sees the new certificate, and those that are open go on. A certificate that is half over is
    renewed here, too, so that no server's ever ends.

    Raises:
        HomeError: the server's certificate is missing or damaged.
    """
    file = ServerFile(authority, now)

    def configuration() -> grpc.ServerCertificateConfiguration | None:
        changed = file.changed()
        if changed is None:
            # The same object of TLS then, and sessions of before can be resumed.
            return None
        return grpc.ssl_server_certificate_configuration([changed], authority.roots_pem)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        try:
            return configuration()
        except HomeError as error:
            log.error("the certificate of before is kept: %s", error)
            return None

    first = configuration()
    if first is None:
        raise AssertionError("a file that was never looked at has changed")
    # None is "as before" to gRPC, which its types do not say.
    return grpc.dynamic_ssl_server_credentials(
        first,
        cast("Callable[[], grpc.ServerCertificateConfiguration]", fetch),
        require_client_authentication=True,
    )
