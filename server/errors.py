"""Errors of the server.

ServerError
├── InputError           what was given is wrong: mend it
│   ├── HomeError        a folder is not a server home, or not one of this version
│   ├── SettingError     an address, a URL or an option cannot be used
│   ├── PublishError     a diff, graph or card cannot become part of this model's line
│   ├── RequestError     a request that no device of ours would send
│   └── RolloutError     a rollout that nobody can have meant
├── NotFoundError        no such model, generation, rollout, device, attempt or blob
├── OffsetError          a read starts beyond the end of its blob
├── UnknownStateError    the device runs something that this server never made: install anew
├── NoRouteError         no diff or snapshot leads to where a device should be: publish one
├── MissingKeyError      a private key is not where it is needed: bring it, or rotate it
├── AccessError          who calls may not
│   ├── UnknownCallerError   the certificate's key is nobody's here: enrol
│   └── ForbiddenError   known, but revoked, decommissioned, or without this right
├── FullError            a limit is reached: retry much later, or mend it
│   └── BusyError        that of calls at once: come again when it says
├── ConflictError        somebody else was faster: look again, then retry
├── RemoteError          a server elsewhere refused, or did not answer
└── StorageError         the machine fails, not the request: retry later
    ├── RegistryError    the database
    └── ArtifactError    a blob is missing, cannot be read or written, or its bytes have changed

Every message is one line that says what was expected and what was found.
"""


class ServerError(Exception):
    """Base of all errors of this package."""


class InputError(ServerError):
    """What was given cannot be used; the message says what to mend."""


class HomeError(InputError):
    """A folder is not a server home, or not one of this version."""


class SettingError(InputError):
    """An address, a URL or an option cannot be used."""


class PublishError(InputError):
    """A diff, graph or card cannot become part of this model's line. Nothing was published."""


class RequestError(InputError):
    """A request that is malformed in itself, whatever the server holds."""


class RolloutError(InputError):
    """A rollout whose values are wrong or contradict each other."""


class NotFoundError(ServerError):
    """No such model, generation, rollout, device, attempt or blob."""


class OffsetError(ServerError):
    """A read starts beyond the end of its blob."""


class UnknownStateError(ServerError):
    """A device runs something that this server never made."""


class NoRouteError(ServerError):
    """No diff or snapshot leads to the generation that a device should reach."""


class AccessError(ServerError):
    """Who calls may not do this."""


class UnknownCallerError(AccessError):
    """The key of the caller's certificate is nobody's here."""


class ForbiddenError(AccessError):
    """The caller is known, but revoked, decommissioned, or may do other things only."""


class FullError(ServerError):
    """A limit that protects the server is reached; nothing was changed."""


class BusyError(FullError):
    """Too many calls at once; nothing was done."""


class MissingKeyError(ServerError):
    """A private key that must sign something is not here, or is not one that is trusted."""


class ConflictError(ServerError):
    """Another writer was faster; nothing was changed."""


class RemoteError(ServerError):
    """A server elsewhere refused what an operator wanted, or did not answer."""


class StorageError(ServerError):
    """The machine failed, not the request."""


class RegistryError(StorageError):
    """The database cannot be reached, is locked, or refused to write."""


class ArtifactError(StorageError):
    """A blob is missing, cannot be read or written, or its bytes have changed."""
