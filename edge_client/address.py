"""Where the server is: HOST:PORT, on this machine alone.

Connections are not encrypted, so only a server on loopback is accepted.

    >>> ServerAddress.parse("[::1]:50051").host
    '::1'
"""

import ipaddress
from dataclasses import dataclass

from edge_client.errors import AddressError


@dataclass(frozen=True)
class ServerAddress:
    """A host (name or address, without brackets) and a TCP port; always loopback."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "ServerAddress":
        """Read HOST:PORT or [IPV6]:PORT.

        Raises:
            AddressError: not of that form, or not a loopback host.
        """
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise AddressError(f"expected a server as HOST:PORT, found {text!r}")
        if not _is_loopback(host):
            raise AddressError(
                f"expected a server on this machine (127.0.0.1, [::1] or localhost), because "
                f"connections are not encrypted, found {host!r}"
            )
        return cls(host, int(port))

    def __str__(self) -> str:
        """HOST:PORT, as it is written on a command line and in :authority."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
