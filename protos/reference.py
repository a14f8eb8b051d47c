"""The reference of our services and messages, docs/api.md, written from the .proto files.

    python -m protos.reference            write docs/api.md
    python -m protos.reference --check    exit 1 when the committed one differs

What stands there is what the comments of the protos say, and the rules that requests must keep.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FieldOptions,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from protos.buf.validate import validate_pb2
from protos.generate import OURS, PROTO_ROOT

REFERENCE = PROTO_ROOT.parent / "docs" / "api.md"
HEAD = """# API reference

Written by `python -m protos.reference` from the protos; do not edit. Every call is gRPC over TLS
with a client certificate; [identity](guides/identity.md) says who may call what, and
[status codes](status-codes.md) what errors mean. A request that breaks a rule is INVALID_ARGUMENT.
Unknown fields and enum values of newer versions are passed over.

"""

OUR_PACKAGE = "ota.v1"

Comments = Mapping[tuple[int, ...], str]

# Where descriptor.proto keeps things: the numbers of its fields.
PACKAGE, MESSAGES, ENUMS, SERVICES = 2, 4, 5, 6
OF_MESSAGE, OF_ENUM, OF_SERVICE = 2, 2, 2


def reference() -> str:
    """The whole page."""
    files = [file for file in _descriptors().file if file.package == OUR_PACKAGE]
    files.sort(key=lambda file: (not file.service, file.name))  # services first
    listed = "".join(f"- [{_title(file)}](#{_anchor(_title(file))})\n" for file in files)
    return HEAD + listed + "".join(f"\n{_section(file)}" for file in files)


def _descriptors() -> FileDescriptorSet:
    from grpc_tools import protoc  # a development tool, not needed to import protos

    sources = sorted(str(p.relative_to(PROTO_ROOT)) for p in PROTO_ROOT.glob(OURS))
    includes = (f"-I{PROTO_ROOT}", f"-I{Path(protoc.__file__).parent / '_proto'}")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "descriptors"
        options = ("--include_source_info", f"--descriptor_set_out={out}")
        if protoc.main(["protoc", *includes, *options, *sources]) != 0:
            raise SystemExit("protoc failed; its messages stand above")
        return FileDescriptorSet.FromString(out.read_bytes())


def _section(file: FileDescriptorProto) -> str:
    comments = {
        tuple(place.path): " ".join(place.leading_comments.split())
        for place in file.source_code_info.location
        if place.leading_comments
    }
    parts = [f"## {_title(file)}\n", f"`{file.name}`. {comments.get((PACKAGE,), '')}\n"]
    for number, service in enumerate(file.service):
        parts.extend(_service(service, comments, (SERVICES, number)))
    for number, message in enumerate(file.message_type):
        parts.extend(_message(message, comments, (MESSAGES, number)))
    for number, enum in enumerate(file.enum_type):
        parts.extend(_enum(enum, comments, (ENUMS, number)))
    return "\n".join(parts)


def _service(
    service: ServiceDescriptorProto, comments: Comments, at: tuple[int, ...]
) -> Iterator[str]:
    yield f"### Service {service.name}\n"
    yield from _paragraph(comments.get(at))
    yield "| call | request | answer | |\n|---|---|---|---|"
    for number, method in enumerate(service.method):
        stream = "stream of " if method.server_streaming else ""
        said = comments.get((*at, OF_SERVICE, number), "")
        yield (
            f"| `{method.name}` | {_link(method.input_type)} | {stream}{_link(method.output_type)} "
            f"| {_cell(said)} |"
        )
    yield ""


def _message(message: DescriptorProto, comments: Comments, at: tuple[int, ...]) -> Iterator[str]:
    yield f"### {message.name}\n"
    yield from _paragraph(comments.get(at))
    if not message.field:
        yield "No fields.\n"
        return
    yield "| # | field | type | rule | |\n|--:|---|---|---|---|"
    for number, field in enumerate(message.field):
        said = comments.get((*at, OF_MESSAGE, number), "")
        yield (
            f"| {field.number} | `{field.name}` | {_type(message, field)} | {_rule(field)} "
            f"| {_cell(said)} |"
        )
    yield ""


def _enum(enum: EnumDescriptorProto, comments: Comments, at: tuple[int, ...]) -> Iterator[str]:
    yield f"### {enum.name}\n"
    yield from _paragraph(comments.get(at))
    yield "| # | value | |\n|--:|---|---|"
    for number, value in enumerate(enum.value):
        said = comments.get((*at, OF_ENUM, number), "")
        yield f"| {value.number} | `{value.name}` | {_cell(said)} |"
    yield ""


def _type(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    if field.type_name:
        name = _link(field.type_name)
    else:
        name = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {name}"
    if field.proto3_optional:
        return f"{name}, or unset"
    if field.HasField("oneof_index"):
        return f"{name}, one of {message.oneof_decl[field.oneof_index].name}"
    return name


def _rule(field: FieldDescriptorProto) -> str:
    # Read once more: protoc's own copy of the options does not know the extension.
    options = FieldOptions.FromString(field.options.SerializeToString())
    if not options.HasExtension(validate_pb2.field):
        return ""
    rule = text_format.MessageToString(options.Extensions[validate_pb2.field], as_one_line=True)
    return f"`{rule}`".replace("|", "\\|")


def _paragraph(text: str | None) -> Iterator[str]:
    if text:
        yield f"{text}\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _title(file: FileDescriptorProto) -> str:
    return Path(file.name).stem.capitalize()


def _link(type_name: str) -> str:
    package, _, name = type_name.rpartition(".")
    if package != f".{OUR_PACKAGE}":
        return f"`{type_name.lstrip('.')}`"
    return f"[{name}](#{_anchor(name)})"


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def main() -> int:
    """Write, or with --check compare; the exit status."""
    written = reference()
    if "--check" not in sys.argv[1:]:
        REFERENCE.write_text(written, encoding="utf-8")
        return 0
    if REFERENCE.is_file() and REFERENCE.read_text(encoding="utf-8") == written:
        return 0
    print(f"docs/{REFERENCE.name} is not what the protos say; run `make protos`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
