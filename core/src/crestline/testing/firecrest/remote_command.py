"""Run coreutils commands as FirecREST does over SSH, with a timeout and a bounded buffer, but without a shell."""

from __future__ import annotations

import os
import subprocess

from crestline.testing.firecrest.endpoint import Call
from crestline.testing.firecrest.refusals import Refusal, buffer_exceeded, remote_failure


def run(call: Call, *command: str, cwd: str | None = None, stdin: bytes = b"") -> bytes:
    """Run a command in the home directory and return its output. Raises Refusal with FirecREST's message."""
    settings = call.facility.settings
    cwd = cwd or str(settings.home_of(call.user.name))
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            input=stdin,
            capture_output=True,
            timeout=settings.command_timeout,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise remote_failure(124, "") from None
    except OSError as error:
        raise remote_failure(1, f"{command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise remote_failure(done.returncode, done.stderr.decode(errors="replace"))
    if len(done.stdout) >= settings.max_ops_file_size:
        raise buffer_exceeded()
    return done.stdout


def failed(program: str, path: str, error: OSError, doing: str = "cannot open") -> Refusal:
    """Return the refusal for a failed system call, with the message of the program that FirecREST would run."""
    return remote_failure(1, f"{program}: {doing} '{path}': {error.strerror}")
