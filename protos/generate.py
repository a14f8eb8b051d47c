"""Generate the Python code of the protos, or check that what is committed is up to date.

    python -m protos.generate            write *_pb2*.py[i] beside every .proto
    python -m protos.generate --check    exit 1 when a committed file differs

protoc writes `from ota.v1 import ...`; in this repository the tree equals the import path,
so the one rewrite made here is `ota.v1` -> `protos.ota.v1` in import statements, and so for
`buf.validate`. Services are ours alone.
"""

import re
import sys
import tempfile
from pathlib import Path

PROTO_ROOT = Path(__file__).parent
MESSAGES = ("--python_out", "--mypy_out")
SERVICES = ("--grpc_python_out", "--mypy_grpc_out")
OURS = "ota/v1/*.proto"
RULES = "buf/validate/*.proto"
PLUGINS = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")


def generate_into(folder: Path) -> None:
    """Run protoc over every .proto file and rewrite the imports."""
    from grpc_tools import protoc  # a development tool, not needed to import protos

    # The plugins of this environment, whether or not it is activated.
    programs = Path(sys.executable).parent
    plugins = [f"--plugin={programs / name}" for name in PLUGINS]
    # google/protobuf/*.proto come with the tool.
    includes = (f"-I{PROTO_ROOT}", f"-I{Path(protoc.__file__).parent / '_proto'}")
    for pattern, options in ((RULES, MESSAGES), (OURS, (*MESSAGES, *SERVICES))):
        sources = sorted(str(p.relative_to(PROTO_ROOT)) for p in PROTO_ROOT.glob(pattern))
        outputs = (f"{option}={folder}" for option in options)
        if protoc.main(["protoc", *includes, *plugins, *outputs, *sources]) != 0:
            raise SystemExit("protoc failed; its messages stand above")
    for path in folder.rglob("*_pb2*.py*"):
        path.write_text(rewrite_imports(path.read_text()))


def rewrite_imports(source: str) -> str:
    """Point imports of ota.v1 at protos.ota.v1; the descriptors keep their names."""
    packages = r"(ota\.v1|buf\.validate)"
    source = re.sub(rf"^from {packages} import", r"from protos.\1 import", source, flags=re.M)
    return re.sub(rf"^import {packages}\.", r"import protos.\1.", source, flags=re.M)


def stale_files() -> list[str]:
    """Names of generated files that differ from what protoc writes now."""
    with tempfile.TemporaryDirectory() as scratch:
        generate_into(Path(scratch))
        fresh = {p.relative_to(scratch): p.read_text() for p in Path(scratch).rglob("*_pb2*")}
    committed = {p.relative_to(PROTO_ROOT): p.read_text() for p in PROTO_ROOT.rglob("*_pb2*.py*")}
    names = fresh.keys() | committed.keys()
    return sorted(str(n) for n in names if fresh.get(n) != committed.get(n))


def main() -> int:
    """Generate, or with --check compare; the exit status."""
    if "--check" not in sys.argv[1:]:
        generate_into(PROTO_ROOT)
        return 0
    stale = stale_files()
    for name in stale:
        print(f"protos/{name} is not what protoc writes; run `make protos`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
