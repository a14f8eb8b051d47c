"""Whether a request is well-formed, by the rules that stand beside its fields in protos/ota/v1.

The rules are those of protovalidate, which also evaluates them. Here what it finds becomes one
line that says what was expected and what was found.
"""

from collections.abc import Callable
from typing import Any

import protovalidate
from google.protobuf.message import Message

from server.errors import RequestError

LONGEST_SHOWN = 40

_validator = protovalidate.Validator()


def require_rules(request: Message) -> None:
    """Refuse a request that breaks a rule of its fields.

    Raises:
        RequestError: it does; the message names the first such field.
    """
    violations = _validator.collect_violations(request, fail_fast=True)
    for violation in violations:
        raise RequestError(f"{_path_of(violation)}: {_told(violation)}")


def _path_of(violation: Any) -> str:
    """A field as in `installed.digest` or `held[3]`."""
    path = ""
    for element in violation.proto.field.elements:
        index = element.subscript
        place = f"[{index.value}]" if index is not None and index.field == "index" else ""
        path += f".{element.field_name}{place}"
    return path.removeprefix(".")


def _told(violation: Any) -> str:
    tell = TOLD.get(violation.proto.rule_id)
    if tell is None:
        return f"expected one that {violation.proto.message}, found another"
    return tell(violation.rule_value, violation.field_value)


def _least_text(least: int, value: str) -> str:
    if least == 1:
        return "expected a text, found none"
    return f"expected at least {least} characters, found {len(value)}"


def _shown(value: str) -> str:
    return repr(value if len(value) <= LONGEST_SHOWN else value[:LONGEST_SHOWN] + "...")


TOLD: dict[str, Callable[[Any, Any], str]] = {
    "string.min_len": _least_text,
    "string.max_len": lambda most, v: f"expected at most {most} characters, found {len(v)}",
    "string.pattern": lambda rule, v: f"expected a text like {rule}, found {_shown(v)}",
    "bytes.len": lambda length, v: f"expected {length} bytes, found {len(v)}",
    "bytes.max_len": lambda most, v: f"expected at most {most} bytes, found {len(v)}",
    "repeated.max_items": lambda most, v: f"expected at most {most}, found {len(v)}",
    "uint64.lte": lambda most, v: f"expected at most {most}, found {v}",
    "enum.defined_only": lambda _, v: f"expected one that is known, found {v}",
    "enum.not_in": lambda _, v: f"expected one, found {v or 'none'}",
}
"""What to say, by the id of the rule: of what the rule has, and of what the field has."""
