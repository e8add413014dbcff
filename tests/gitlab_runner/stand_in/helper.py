"""What `gitlab-runner artifacts-uploader`, `artifacts-downloader`, `cache-archiver` and `cache-extractor` do."""

from __future__ import annotations

import argparse
import glob
import os
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path


def main() -> int:
    """Run a subcommand; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", action="version", version="stand-in")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("artifacts-uploader", "artifacts-downloader", "cache-archiver", "cache-extractor"):
        command = commands.add_parser(name)
        for option in (
            "url",
            "token",
            "id",
            "file",
            "name",
            "expire-in",
            "artifact-format",
            "artifact-type",
            "timeout",
        ):
            command.add_argument(f"--{option}", default="")
        for option in ("path", "exclude"):
            command.add_argument(f"--{option}", action="append", default=[])
        command.add_argument("--untracked", action="store_true")
    asked = parser.parse_args()
    if asked.command == "artifacts-uploader":
        files = _matching(asked)
        if not files:
            print("ERROR: No files to upload")
            return 0
        url = f"{asked.url}api/v4/jobs/{asked.id}/artifacts"
        _send("POST", url, _zip(files), {"JOB-TOKEN": asked.token})
        print(f'Uploading artifacts as "archive" to coordinator... 201 Created id={asked.id}')
    elif asked.command == "artifacts-downloader":
        answer = _send("GET", f"{asked.url}api/v4/jobs/{asked.id}/artifacts", None, {"JOB-TOKEN": asked.token})
        _unzip(answer)
    elif asked.command == "cache-archiver":
        file = Path(asked.file)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_zip(_matching(asked)))
        if asked.url:
            _send("PUT", asked.url, file.read_bytes(), {})
        print(f"Created cache {len(file.read_bytes())}")
    else:
        file = Path(asked.file)
        if asked.url:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(_send("GET", asked.url, None, {}))
            except urllib.error.HTTPError:
                pass
        if not file.exists():
            print("WARNING: file does not exist")
            return 1
        _unzip(file.read_bytes())
        print("Successfully extracted cache")
    return 0


def _matching(asked: argparse.Namespace) -> list[str]:
    found: set[str] = set()
    here = os.getcwd()
    for pattern in asked.path:
        matches = glob.glob(pattern, recursive=True, include_hidden=True)
        print(f"{pattern}: found {len(matches)} matching files and directories" if matches else
              f"WARNING: {pattern}: no matching files")  # fmt: skip
        for match in matches:
            below = os.path.relpath(match, here)
            if below.startswith(".."):
                print(f"WARNING: {match} is not a subpath of project directory")
                continue
            found.add(below)
            for folder, folders, names in os.walk(match):
                found |= {os.path.relpath(os.path.join(folder, name), here) for name in [*folders, *names]}
    if asked.untracked:
        listed = subprocess.run(["git", "ls-files", "-o", "-z"], capture_output=True, check=True)
        found |= {name for name in listed.stdout.decode().split("\0") if name}
    return sorted(name for name in found if not any(fnmatchcase(name, each) for each in asked.exclude))


def _zip(files: list[str]) -> bytes:
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in files:
            if os.path.islink(name):
                entry = zipfile.ZipInfo(name)
                entry.create_system = 3
                entry.external_attr = 0o120777 << 16
                archive.writestr(entry, os.readlink(name))
            else:
                archive.write(name)
    return buffer.getvalue()


def _unzip(content: bytes) -> None:
    import io

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall()


def _send(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> bytes:
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


if __name__ == "__main__":
    sys.exit(main())
