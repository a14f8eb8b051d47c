"""Where to listen, as people write it, and what to tell them where that cannot be.

>>> ListenAddress.parse("[::1]:50051").host
'::1'
"""

import os
import re
from dataclasses import dataclass

from server.errors import SettingError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ListenAddress:
    """Where to listen; port 0 lets the system choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "ListenAddress":
        """Read HOST:PORT, with an IPv6 host in brackets.

        Raises:
            SettingError: not an address.
        """
        match = re.fullmatch(r"(?:\[([^]]+)\]|([^:]+)):(\d{1,5})", text)
        if match is None or int(match[3]) > 65_535:
            raise SettingError(f"expected an address HOST:PORT, found {text!r}")
        host = match[1] or match[2]
        if host == "localhost":
            host = LOOPBACK
        return cls(host, int(match[3]))

    @classmethod
    def parse_local(cls, text: str) -> "ListenAddress":
        """The same, where a port alone is one of loopback: for what no stranger should read."""
        return cls.parse(f"{LOOPBACK}:{text}" if text.isdecimal() else text)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def cannot_listen(address: ListenAddress, error: OSError) -> SettingError:
    """The error that says why nothing can listen there."""
    # The number says less than the text where a name was not found: it is negative then.
    known = error.errno is not None and error.errno > 0
    reason = os.strerror(error.errno) if known and error.errno else error.strerror or str(error)
    return SettingError(f"cannot listen on {address}: {reason}")
