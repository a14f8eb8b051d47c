"""Speak the client protocol of tuf-conformance over the verification that devices use.

The suite of the TUF project starts this for every test, by the program `client` beside it.

    client --metadata-dir DIR init ROOT
    client --metadata-dir DIR --metadata-url URL refresh
    client --metadata-dir DIR --metadata-url URL \
        --target-name NAME --target-base-url URL --target-dir DIR download

Exit code 0 where it worked, 1 where not, with one line on stderr.
"""

import argparse
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

from edge_client import durable
from edge_client.errors import EdgeError, UnsignedError
from edge_client.trust.metadata import LIMITS, Verifier


def init(metadata: Path, root: Path) -> None:
    """Trust a root; no request is made."""
    durable.make_folder(metadata)
    durable.write(metadata / "root.json", root.read_bytes())


def refresh(metadata: Path, url: str) -> Verifier:
    """Bring the top-level metadata up to date."""
    verifier = Verifier(
        (metadata / "root.json").read_bytes(),
        metadata,
        Urllib3Fetcher(),
        datetime.now(UTC),
        # Other repositories name their targets with the hash; ours are not files with names.
        replace(LIMITS, prefix_targets_with_hash=True),
        url,
    )
    verifier.refresh()
    return verifier


def download(verifier: Verifier, name: str, base_url: str, folder: Path) -> None:
    """Bring one target, unless it is there already.

    Raises:
        UnsignedError: no role vouches for it.
    """
    updater = verifier.updater
    updater.target_dir = str(folder)
    target = updater.get_targetinfo(name)
    if target is None:
        raise UnsignedError(f"expected a signed target {name!r}, found none")
    if updater.find_cached_target(target) is None:
        updater.download_target(target, target_base_url=base_url)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = argparse.ArgumentParser(prog="client")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-name")
    parser.add_argument("--target-base-url")
    parser.add_argument("--target-dir", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    given = parser.parse_args(arguments)
    needed = {
        "init": (),
        "refresh": ("metadata_url",),
        "download": ("metadata_url", "target_name", "target_base_url", "target_dir"),
    }
    for name in needed[given.command]:
        if getattr(given, name) is None:
            parser.error(f"{given.command} needs --{name.replace('_', '-')}")
    try:
        if given.command == "init":
            init(given.metadata_dir, given.trusted_root)
            return 0
        verifier = refresh(given.metadata_dir, given.metadata_url)
        if given.command == "download":
            download(verifier, given.target_name, given.target_base_url, given.target_dir)
    except (EdgeError, RepositoryError, DownloadError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
