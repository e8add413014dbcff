"""Puts the documentation of a version beside the others, with a list of them and a page that leads to the newest."""

from __future__ import annotations

import json
import shutil
from html import escape
from pathlib import Path

from packaging.version import Version
from tools.release.versions import ReleaseError


def publish_docs(html: Path, site: Path, version: str) -> None:
    """Copy a built site into the folder of its version and list all versions there are, the newest first.

    Args:
        html: what `make docs` has built.
        site: the folder that the web server serves; made if it is missing.
        version: of the documentation, such as `0.2.0`.

    Raises:
        ReleaseError: nothing was built.
    """
    if not (html / "index.html").is_file():
        raise ReleaseError(f"{html} has no index.html. Run `make docs`.")
    target = site / version
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(html, target, ignore=shutil.ignore_patterns(".doctrees", ".buildinfo"))
    names = sorted({each.parent.name for each in site.glob("*/index.html")}, key=Version, reverse=True)
    newest = next((each for each in names if not Version(each).is_prerelease), names[0])
    (site / "versions.json").write_text(json.dumps({"newest": newest, "versions": names}))
    link = escape(f"{newest}/")
    (site / "index.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Crestline</title>'
        f'<meta http-equiv="refresh" content="0; url={link}"><a href="{link}">Crestline {escape(newest)}</a></html>\n'
    )
