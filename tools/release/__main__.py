"""Prepare and build a release: `make version VERSION=X.Y.Z`, then a commit and the tag, then `make release`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tools.release.build import release
from tools.release.site import publish_docs
from tools.release.versions import ReleaseError, current_version, set_version


def main() -> None:
    """Run the subcommand that the arguments name."""
    parser = argparse.ArgumentParser(prog="release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("version", help="write a version everywhere and cut the changelog")
    prepare.add_argument("version")
    build = commands.add_parser("build", help="build, check and sign all distributions of the tagged commit")
    build.add_argument("--rehearsal", action="store_true", help="of a commit without tag or changelog section, too")
    build.add_argument("--skip-install", action="store_true", help="leave out the installations, which take minutes")
    docs = commands.add_parser("docs", help="put docs/_build/html into a folder with those of other versions")
    docs.add_argument("site", type=Path)
    arguments = parser.parse_args()
    root = Path.cwd()
    try:
        if arguments.command == "version":
            set_version(root, arguments.version)
        elif arguments.command == "docs":
            publish_docs(root / "docs/_build/html", arguments.site, current_version(root))
        else:
            release(root, rehearsal=arguments.rehearsal, install=not arguments.skip_install)
    except ReleaseError as error:
        parser.exit(1, f"release: {error}\n")


main()
