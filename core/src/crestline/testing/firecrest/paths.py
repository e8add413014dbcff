"""Checks of paths and permissions for the file endpoints."""

from __future__ import annotations

import os
from pathlib import Path

from crestline.testing.firecrest.endpoint import Call
from crestline.testing.firecrest.refusals import Refusal, remote_failure

_BODY_NAMES = ("path", "sourcePath", "source_path")


def checked(call: Call, *, in_body: bool = False) -> str:
    """Return the path of a request after checking that it is absolute, in a mount, and accessible. Raises Refusal."""
    path = call.text(*_BODY_NAMES) if in_body else next((call.query[n] for n in _BODY_NAMES if n in call.query), None)
    if path is None:
        raise Refusal(400, "Unable to decode request and retreive the required path or source_path parameter.")
    settings = call.facility.settings
    if not path.startswith("/"):
        raise Refusal(400, f"The provided path ({path}) is not absolute.")
    clean = os.path.normpath(path)
    if not any(Path(clean).is_relative_to(mount) for mount in settings.mounts):
        message = (
            f"The provided path ({clean}) does not match any of the defined filesystem paths "
            f"for the requested system ({settings.system})."
        )
        raise Refusal(400, message)
    if not call.user.has_ssh_key:
        raise Refusal(500, f"No SSH credentials found for user:{call.user.name}")
    check_quotes(call, path)
    _check_owner(call, Path(clean))
    return path


def check_quotes(call: Call, path: str) -> None:
    """Reject a path that would end the single quotes around it on a real server. No part of it is ever executed."""
    if "'" in path and call.facility.faults.quote_in_path_breaks:
        raise remote_failure(2, "bash: -c: line 1: unexpected EOF while looking for matching `''")


def _check_owner(call: Call, path: Path) -> None:
    """Check the permission bits for others in other users' directories, as all users share one real uid."""
    home = call.facility.settings.home
    if not path.is_relative_to(home) or path == home:
        return
    owner = path.relative_to(home).parts[0]
    if owner == call.user.name:
        return
    step = home / owner
    for part in ("", *path.relative_to(home).parts[1:]):
        step = step / part
        if step.exists() and not step.stat().st_mode & (0o001 if step.is_dir() else 0o004):
            raise remote_failure(2, f"cannot open '{path}': Permission denied")
