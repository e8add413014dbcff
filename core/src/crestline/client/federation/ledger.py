"""Which system the job of a key went to: written down before it is submitted, one file per key.

The files lie beside the sites file. Processes on machines that share that folder never decide differently.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from crestline import clock
from crestline.client.config import sites_file
from crestline.model import ConfigError
from crestline.private_files import write_private

_KEPT = 90 * 86400
"""seconds"""


def noted(key: str) -> str | None:
    """The target, `system@site`, that was noted for the key."""
    try:
        return _file(key).read_text().strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(error) from error


def note(key: str, target: str) -> str:
    """Note the target, unless another process was first; returns what is noted now."""
    file = _file(key)
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget_old(file.parent)
        write_private(draft, f"{target}\n".encode())
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)  # whole, or not at all
        draft.unlink()
    except OSError as error:
        raise _unusable(error) from error
    return noted(key) or target


def forget(key: str) -> None:
    """Let the key be looked for, or go elsewhere."""
    _file(key).unlink(missing_ok=True)


def _file(key: str) -> Path:
    return sites_file().with_name("federation") / hashlib.sha256(key.encode()).hexdigest()


def _forget_old(folder: Path) -> None:
    oldest = clock.time() - _KEPT
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if file.stat().st_mtime < oldest:
                file.unlink()


def _unusable(error: Exception) -> ConfigError:
    return ConfigError(f"Where jobs went cannot be noted: {error}.", hint="Make the folder of the sites file writable.")
