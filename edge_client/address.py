"""Where the server is: HOST:PORT. The host is also the name that its certificate must have.

>>> ServerAddress.parse("[::1]:50051").host
'::1'
"""

from dataclasses import dataclass

from edge_client.errors import AddressError


@dataclass(frozen=True)
class ServerAddress:
    """A host (name or address, without brackets) and a TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "ServerAddress":
        """Read HOST:PORT or [IPV6]:PORT.

        Raises:
            AddressError: not of that form.
        """
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise AddressError(f"expected a server as HOST:PORT, found {text!r}")
        return cls(host, int(port))

    def __str__(self) -> str:
        """HOST:PORT, as it is written on a command line and in :authority."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
