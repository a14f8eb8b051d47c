"""Who may call what. Values in, values out; the gate asks at every call.

What is not in the table is refused: a new service says here whom it is for.
"""

from collections.abc import Mapping

from server.errors import ForbiddenError
from server.identity.certificates import (
    DEVICE,
    ENROLMENT,
    OPERATOR,
    DeviceIdentity,
    EnrolmentIdentity,
    Identity,
    OperatorIdentity,
    Role,
)

KINDS: Mapping[type[Identity], str] = {
    DeviceIdentity: DEVICE,
    EnrolmentIdentity: ENROLMENT,
    OperatorIdentity: OPERATOR,
}

SERVICES: Mapping[str, frozenset[str]] = {
    "ota.v1.DeviceService": frozenset({DEVICE}),
    "ota.v1.ContentService": frozenset({DEVICE}),
    "ota.v1.OperatorService": frozenset({OPERATOR}),
    "grpc.health.v1.Health": frozenset({DEVICE, ENROLMENT, OPERATOR}),
    "grpc.reflection.v1alpha.ServerReflection": frozenset({DEVICE, OPERATOR}),
}
METHODS: Mapping[str, frozenset[str]] = {
    "ota.v1.EnrollmentService/Enroll": frozenset({ENROLMENT}),
    "ota.v1.EnrollmentService/RenewCertificate": frozenset({DEVICE}),
}

ROLES: Mapping[str, Role] = {
    "ListDevices": Role.VIEWER,
    "DecideKey": Role.OPERATOR,
    "PreauthorizeKey": Role.OPERATOR,
    "DecommissionDevice": Role.ADMIN,
}
"""What an operator needs for a method of OperatorService; admin where it is not listed."""


def require_access(method: str, identity: Identity) -> None:
    """Refuse a call that this kind of certificate is not for.

    Args:
        method: Package, service and method, as `/ota.v1.DeviceService/CheckIn`.
        identity: Who calls.

    Raises:
        ForbiddenError: it may not.
    """
    service, _, name = method.removeprefix("/").partition("/")
    allowed = METHODS.get(f"{service}/{name}") or SERVICES.get(service, frozenset())
    kind = KINDS[type(identity)]
    if kind not in allowed:
        wanted = " or ".join(sorted(allowed)) or "nobody"
        raise ForbiddenError(
            f"{service}/{name} is for certificates of: {wanted}; found one of: {kind}"
        )
    if isinstance(identity, OperatorIdentity) and service.endswith(".OperatorService"):
        needed = ROLES.get(name, Role.ADMIN)
        if not identity.role.includes(needed):
            raise ForbiddenError(
                f"{name} needs the role {needed}, found {identity.name} with {identity.role}"
            )
