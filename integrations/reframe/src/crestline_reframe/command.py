"""`crestline-reframe`: ReFrame with the backend registered; all its options are ReFrame's."""

from __future__ import annotations

import sys

from reframe.frontend import cli

from crestline_reframe import close_all, fragment


def main() -> None:
    """Run ReFrame; with `--fragment` alone print the path of the settings file that registers the backend."""
    if sys.argv[1:] == ["--fragment"]:
        print(fragment())
        return
    try:
        cli.main()
    finally:
        close_all()
