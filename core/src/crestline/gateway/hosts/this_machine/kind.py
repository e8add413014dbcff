"""What kind of file it is, in the words of file(1)."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess

from crestline.gateway.paths import PathGuard, printable
from crestline.model import GatewayUnavailableError

_PROBE = 8192
_TIMEOUT = 10  # seconds


def file_type(guard: PathGuard, path: str) -> str:
    """What file(1) says, or a plain word where it is not installed; a link is a link."""
    real = guard.locate(path)
    mode = os.lstat(real).st_mode
    if shutil.which("file") is None:
        return _guess(real, mode)
    try:
        result = subprocess.run(
            ["file", "--brief", "--", real],
            capture_output=True,
            check=False,
            timeout=_TIMEOUT,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise GatewayUnavailableError(f"file: no answer about '{printable(path)}' in time.") from error
    return printable(os.fsdecode(result.stdout)).strip() if result.returncode == 0 else _guess(real, mode)


def _guess(path: str, mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "directory"
    if stat.S_ISLNK(mode):
        return f"symbolic link to {printable(os.readlink(path))}"
    if not stat.S_ISREG(mode):
        return "special file"
    with open(path, "rb") as file:
        start = file.read(_PROBE)
    if not start:
        return "empty"
    if start.isascii() and b"\0" not in start:
        return "ASCII text"
    try:
        start.decode()
    except UnicodeDecodeError as error:
        # A character may be cut at the end of what was read.
        return "Unicode text, UTF-8 text" if error.start > _PROBE - 4 else "data"
    return "data" if b"\0" in start else "Unicode text, UTF-8 text"
