"""Stages that run on the runner's own machine: its scripts, with the builds directory replaced by a folder here.

No code of a user may run here: the driver's credentials are within reach. What a job could smuggle in is refused
(`check`) or does not arrive (`prelude.sh`).
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from crestline.model import ConfigError
from crestline_gitlab_runner.ci_job import CiJob
from crestline_gitlab_runner.failures import BuildFailureError, SystemFailureError
from crestline_gitlab_runner.settings import SAFE_PATH, Settings
from crestline_gitlab_runner.state import State

_PASSED = re.compile(r"(?i)(https?|no|all)_proxy|SSL_CERT_(FILE|DIR)|LANG|LC_[A-Z]+|TZ")
_FLAGS = ("GIT_CLONE_EXTRA_FLAGS", "GIT_FETCH_EXTRA_FLAGS", "GIT_SUBMODULE_UPDATE_FLAGS", "GIT_CLEAN_FLAGS")
_HARMLESS = re.compile(
    r"none|-[dffxXnqv]+|-e|--(exclude|depth|jobs|filter|shallow-since)(=[A-Za-z0-9_.:/*-]+)?|[A-Za-z0-9_.*][A-Za-z0-9_./*-]*"
    r"|--(no-)?(tags|prune|prune-tags|force|quiet|verbose|progress|remote|recommend-shallow|single-branch|recurse-submodules)"
)


def check(job: CiJob) -> None:
    """Refuse jobs that would have code of theirs run on this machine.

    Raises:
        BuildFailureError: which part of the job.
    """
    if job.hooks:
        raise BuildFailureError(
            f"hooks:{job.hooks[0]} cannot run: sources are fetched on the runner's machine, not on the system.",
            hint="Move it into before_script.",
        )
    for name in _FLAGS:
        for flag in job.variables.get(name, "").split():
            if not _HARMLESS.fullmatch(flag):
                raise BuildFailureError(f"{name}: {flag!r} is not allowed here.", hint="Use plain options of git only.")


async def run(state: State, script: Path, room: str, *, helper: Path | None = None, quiet: bool = False) -> int:
    """Run a stage's script with `room` as builds directory, its output going to the log.

    Args:
        helper: folder with a `gitlab-runner` that goes before all others.
        quiet: its output is not wanted.

    Returns:
        its exit code.
    """
    place = state.room(room)
    for folder in (state.folder, place):
        if not SAFE_PATH.fullmatch(str(folder)):
            raise ConfigError(f"state_dir: {folder} cannot be used.", hint="Only A-Z a-z 0-9 . _ - / in it, please.")
    caches = state.folder / state.cache_dir.rpartition("/")[2]
    if not caches.is_symlink():
        shared = state.folder.parent / "caches"
        shared.mkdir(mode=0o700, exist_ok=True)
        caches.symlink_to(shared)
    text = script.read_bytes()
    for theirs, ours in ((state.builds_dir, place), (state.cache_dir, caches)):
        text = re.sub(re.escape(theirs.encode()) + rb"(?![A-Za-z0-9._-])", str(ours).encode(), text)
    rewritten = state.folder / "script"
    rewritten.write_bytes(text)
    prelude = files("crestline_gitlab_runner").joinpath("prelude.sh")
    process = await asyncio.create_subprocess_exec(
        *("bash", str(prelude), str(rewritten)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL if quiet else None,
        stderr=asyncio.subprocess.DEVNULL if quiet else None,
        cwd=place,
        env=_environment(state, helper),
        start_new_session=True,
    )
    try:
        return await process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        rewritten.unlink(missing_ok=True)


def project_folder(state: State, room: str, job: CiJob) -> Path:
    """The folder in `room` that stands for the project's directory on the system.

    Raises:
        BuildFailureError: the job has put its project elsewhere.
    """
    return state.room(room) / project_path(state, job)


def project_path(state: State, job: CiJob) -> str:
    """The project's directory, below the builds directory.

    Raises:
        BuildFailureError: the job has put its project elsewhere.
    """
    path = job.variables.get("CI_PROJECT_DIR", "")
    below = path.removeprefix(f"{state.builds_dir}/")
    if below == path or ".." in below.split("/"):
        raise BuildFailureError(f"CI_PROJECT_DIR {path!r} is not below {state.builds_dir}.", hint="Do not set it.")
    return below


def genuine_helper(settings: Settings, state: State) -> Path:
    """A folder in which `gitlab-runner` is the runner's own executable.

    Raises:
        SystemFailureError: there is none: artifacts and caches would be skipped without a word.
    """
    found = shutil.which(settings.stages.helper)
    if found is None:
        with suppress(OSError):
            parent = Path(f"/proc/{os.getppid()}/exe").resolve()
            found = str(parent) if parent.name.startswith("gitlab-runner") else None
    if found is None:
        raise SystemFailureError(
            f"{settings.stages.helper} is not on this machine's PATH: artifacts and caches cannot be moved.",
            hint="Set stages.helper to the runner's executable.",
        )
    folder = state.room("bin")
    link = folder / "gitlab-runner"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(found).absolute())
    return folder


def recording_helper(state: State) -> tuple[Path, Path]:
    """A folder with a `gitlab-runner` that only writes down how it was called, and the file it writes to."""
    folder, calls = state.room("recorder"), state.folder / "calls"
    calls.unlink(missing_ok=True)
    program = folder / "gitlab-runner"
    program.write_text(
        f'#!/bin/sh\n[ "$1" != --version ] || exit 0\nprintf "%s\\0" "$#" "$@" >>{shlex.quote(str(calls))}\n'
    )
    program.chmod(0o700)
    return folder, calls


def read_calls(calls: Path) -> list[list[str]]:
    """The recorded calls."""
    if not calls.exists():
        return []
    words = calls.read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
    found = []
    while words:
        count = int(words[0])
        found.append(words[1 : count + 1])
        words = words[count + 1 :]
    return found


async def make_repository(state: State, folder: Path) -> None:
    """An empty repository, for a helper that asks git which files it does not keep: all of them."""
    process = await asyncio.create_subprocess_exec(
        *("git", "init", "--quiet", "--template=", str(folder)), env=_environment(state, None)
    )
    if await process.wait() != 0:
        raise SystemFailureError("git does not work on the runner's machine.")


def _environment(state: State, helper: Path | None) -> dict[str, str]:
    passed = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)}
    path = os.environ.get("PATH", os.defpath)
    return passed | {
        "PATH": f"{helper}:{path}" if helper else path,
        "HOME": str(state.room("home")),
        "TMPDIR": str(state.room("tmp")),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "http:https:ssh",
    }
