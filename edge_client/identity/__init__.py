"""Who this device is: a key that never leaves it, and the certificates around it.

    >>> store = IdentityStore(Path("home/identity"))
    >>> store.make_key()
    >>> store.save_fleet(Credential.from_pem(Path("ca.pem").read_bytes()))
    >>> store.fleet()                # enough to ask for a certificate
    >>> store.credential()           # once there is one

Talking to the server is not done here (edge_client.enrollment, edge_client.transport).
"""

from edge_client.identity.credential import Credential
from edge_client.identity.store import IdentityStore

__all__ = ["Credential", "IdentityStore"]
