"""An aarch64 machine in a folder: Debian's Python and the wheels of a device, run by qemu.

Nothing is installed on the host and nothing needs root: packages are fetched with an apt
configuration of their own (from the sources that the host already uses) and unpacked with
`dpkg -x`. No chroot, no binfmt: qemu looks for every file in the folder first, then on the host.

    machine = prepare(Path(".arm"))       # half a minute the first time, 750 MB; kept
    machine.python("-c", "import os; print(os.uname().machine)", folder=Path())
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

# What `import diffcodec` and the golden files need.
WHEELS = ["numpy", "protobuf", "safetensors", "xxhash", "zstandard"]
# numpy's wheels come for the older of these, the newest ones for the newer.
WHEEL_PLATFORMS = ["manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64"]
# The headers are for the C extension.
ARM_PACKAGES = ["python3", "libpython3-dev", "libstdc++6"]
HOST_PACKAGES = {
    "qemu-aarch64-static": "qemu-user-static",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
}


class UnavailableError(Exception):
    """The machine cannot be made here, which says nothing about the code under test."""


@dataclass(frozen=True)
class Machine:
    """A prepared folder.

    Attributes:
        root: What the emulated programs see as /.
        tools: Unpacked packages of the host, for what the host itself lacks.
    """

    root: Path
    tools: Path

    def python(self, *args: str, folder: Path, timeout_s: float = 600) -> str:
        """Run the emulated Python and give its standard output.

        Args:
            args: Of the interpreter.
            folder: Where to run, and to import from before the wheels.
            timeout_s: The emulation hangs rather than fails at some mistakes.
        """
        variables = {"PYTHONHOME": self.root / "usr", "PYTHONPATH": self.site}
        settings = [part for name in variables for part in ("-E", f"{name}={variables[name]}")]
        done = subprocess.run(
            [self.tool("qemu-aarch64-static"), "-L", self.root, *settings, self._python, *args],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=timeout_s,
        )
        return done.stdout

    def compile_extension(self, source: Path, folder: Path) -> Path:
        """Cross-compile a C extension of one file, with the flags of an ordinary build."""
        tag = f"cpython-{self.version.replace('.', '')}-aarch64-linux-gnu"
        target = folder / f"{source.stem}.{tag}.so"
        include = self.root / "usr/include"
        subprocess.run(
            [
                self.tool("aarch64-linux-gnu-gcc"),
                f"--sysroot={self.root}",
                # The second for Debian's pyconfig.h, which includes one of the architecture's.
                *(f"-I{folder}" for folder in (include / f"python{self.version}", include)),
                *("-O2", "-fPIC", "-shared", "-o", target, source),
            ],
            env={**os.environ, "LD_LIBRARY_PATH": str(self.tools / "usr/lib/x86_64-linux-gnu")},
            check=True,
        )
        return target

    @property
    def site(self) -> Path:
        """Where the wheels are."""
        return self.root / "opt/site"

    @property
    def version(self) -> str:
        """Of the emulated Python, as in 3.11."""
        return self._python.name.removeprefix("python")

    @property
    def _python(self) -> Path:
        programs = (self.root / "usr/bin").iterdir()
        found = [path for path in programs if re.fullmatch(r"python3\.\d+", path.name)]
        if len(found) != 1:
            raise UnavailableError(f"expected one Python among the packages, found {len(found)}")
        return found[0]

    def tool(self, name: str) -> Path:
        """The host's own program, or the one that was fetched."""
        own = shutil.which(name)
        return Path(own) if own else self.tools / "usr/bin" / name


def prepare(folder: Path) -> Machine:
    """Make the machine, or take the one that is there.

    Raises:
        UnavailableError: not an x86-64 Debian, or the packages cannot be had.
    """
    if platform.machine() != "x86_64" or not shutil.which("apt-get"):
        raise UnavailableError(
            f"expected an x86-64 host with apt-get, found {platform.machine()}"
            f"{'' if shutil.which('apt-get') else ' without apt-get'}"
        )
    machine = Machine(folder.resolve() / "root", folder.resolve() / "tools")
    missing = [package for name, package in HOST_PACKAGES.items() if not shutil.which(name)]
    # The releases that the host has: two machines are compared, not two releases.
    wheels = [f"{name}=={metadata.version(name)}" for name in WHEELS]
    _once(machine.tools, missing, _fetch_tools)
    _once(machine.root, ARM_PACKAGES, _fetch_root)
    _once(machine.site, wheels, lambda site, names: _fetch_wheels(site, names, machine.version))
    return machine


def _once(into: Path, wanted: list[str], fetch: Callable[[Path, list[str]], None]) -> None:
    """Fetch into a folder unless just this is in it already."""
    note = into / ".fetched"
    if note.exists() and note.read_text().split() == wanted:
        return
    print(f"test-arm: fetching {' '.join(wanted) or 'nothing'} into {into} ...", file=sys.stderr)
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    fetch(into, wanted)
    note.write_text("\n".join(wanted))


def _fetch_tools(tools: Path, packages: list[str]) -> None:
    if packages:
        # The host's own list of packages: only what it lacks is fetched.
        _fetch_packages(packages, "amd64", Path("/var/lib/dpkg/status"), tools)


def _fetch_root(root: Path, packages: list[str]) -> None:
    nothing = root / "no-packages"
    nothing.touch()
    _fetch_packages(packages, "arm64", nothing, root)
    # Libraries that count processors read the host's list, and believe it.
    processors = root / "sys/devices/system/cpu"
    processors.mkdir(parents=True, exist_ok=True)
    for name in ("present", "possible"):
        (processors / name).write_text("\n")


def _fetch_packages(packages: list[str], architecture: str, status: Path, into: Path) -> None:
    """Unpack some Debian packages and all that they depend on, less what `status` lists."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for part in ("lists/partial", "archives/partial"):
            (folder / part).mkdir(parents=True)
        settings: dict[str, object] = {
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "true",
            "Dir::Cache": folder,
            "Dir::Cache::archives": folder / "archives",
            "Dir::State::lists": folder / "lists",
            "Dir::State::status": status,
        }
        options = [part for name in settings for part in ("-o", f"{name}={settings[name]}")]
        apt = ["apt-get", "-qq", *options]
        _run([*apt, "update"])
        _run([*apt, "install", "--yes", "--download-only", "--no-install-recommends", *packages])
        for archive in sorted((folder / "archives").glob("*.deb")):
            _run(["dpkg", "-x", str(archive), str(into)])


def _fetch_wheels(site: Path, wheels: list[str], version: str) -> None:
    platforms = [part for name in WHEEL_PLATFORMS for part in ("--platform", name)]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--only-binary=:all:", "--upgrade", "--python-version", version]
    _run([*pip, *options, *platforms, "--target", str(site), *wheels])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise UnavailableError(f"{command[0]} failed: {lines[-1]}")
