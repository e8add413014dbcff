"""The secrets of a test run, and a search for them where none may be."""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

CONSTANTS = {
    "the S3 server's secret": b"a secret of the tests",
    "a provider's client secret": b"-secret-of-the-tests",
    "a relay's key": b"a test's key that is long enough",
}
"""what the harness gives its parts"""

_planted: dict[str, bytes] = {}
_LARGEST = 64 * 1024 * 1024
"""bytes of a file that is searched"""


def plant(what: str) -> str:
    """A new secret, to be searched for until the run ends."""
    secret = f"planted-{secrets.token_hex(16)}"
    remember(what, secret)
    return secret


def remember(what: str, secret: str) -> None:
    """Search for a secret that others have made."""
    _planted[f"{what} ({len(_planted)})"] = secret.encode()


def known_below(folder: Path) -> dict[str, bytes]:
    """All that was planted, and the secrets of every gateway and every hub whose home is below `folder`."""
    found = CONSTANTS | _planted
    for file in files_below(folder):
        if file.name == "client.json":
            found[f"the client secret in {file}"] = _field(file, "client_secret")
        elif file.name == "signing_key.json":
            found[f"the key in {file}"] = _field(file, "d")
        elif file.name == "cookie":
            found[f"the cookie secret in {file}"] = file.read_bytes().strip()
    return {what: secret for what, secret in found.items() if len(secret) >= 16}


def found_in(content: bytes, known: Mapping[str, bytes]) -> list[str]:
    """Which secrets a text shows."""
    return [what for what, secret in known.items() if secret in content]


def shown_by(files: Iterable[Path], known: Mapping[str, bytes]) -> list[str]:
    """Which secrets are in which files, as sentences without the secrets."""
    return [f"{file} shows {what}" for file in files for what in found_in(_content(file), known)]


def logs_below(folder: Path) -> Iterator[Path]:
    """Whatever programs wrote down about what they did, and the output of jobs."""
    for file in files_below(folder):
        folders = file.relative_to(folder).parts[:-1]
        if file.suffix in (".log", ".out", ".err") or file.name == "log" or "logs" in folders:
            yield file


def readable_by_others(folder: Path) -> Iterator[Path]:
    """Files in `folder` that their mode, and that of every directory on the way, opens to others."""
    for directory, names, files in os.walk(folder):
        names[:] = [name for name in names if _others_may(os.path.join(directory, name), stat.S_IXOTH)]
        yield from (Path(directory, name) for name in files if _others_may(os.path.join(directory, name), stat.S_IROTH))


def files_below(folder: Path) -> Iterator[Path]:
    """All regular files; what vanishes meanwhile is left out."""
    for directory, _, files in os.walk(folder):
        for name in files:
            file = Path(directory, name)
            if _is_regular(file):
                yield file


def _field(file: Path, name: str) -> bytes:
    """A text of a JSON object; empty where a test has written something else there."""
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        return b""
    return str(content.get(name, "")).encode() if isinstance(content, dict) else b""


def _others_may(path: str, bit: int) -> bool:
    status = os.lstat(path)
    return not stat.S_ISLNK(status.st_mode) and bool(status.st_mode & bit)


def _is_regular(file: Path) -> bool:
    try:
        status = file.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
