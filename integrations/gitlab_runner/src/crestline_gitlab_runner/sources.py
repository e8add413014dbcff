"""`get_sources` on the runner's machine: git by argument lists, confined, in place of the runner's script.

The job's payload defines what to fetch. Of the job's variables it reads only those that git needs, with options from an
allow-list. The credential is in a file beside the project that only git reads and that never leaves this machine.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from crestline.model import ConfigError
from crestline.private_files import write_private
from crestline_gitlab_runner import log, sandbox
from crestline_gitlab_runner.ci_job import CiJob
from crestline_gitlab_runner.failures import BuildFailureError, SystemFailureError
from crestline_gitlab_runner.settings import SAFE_PATH, Settings, size
from crestline_gitlab_runner.state import State

_PASSED = re.compile(r"(?i)(https?|no|all)_proxy|LANG|LC_[A-Z]+|TZ")
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MEASURED_EVERY = 2.0
"""Seconds between two measurements of git's output."""
_LONGEST_ARGUMENT, _ALL_ARGUMENTS = 100_000, 1_000_000
"""Maximum bytes of one argument and of all arguments that every system allows."""
_WITH_NUMBER = "--(depth|deepen|jobs)"
_ALLOWED = {
    "GIT_FETCH_EXTRA_FLAGS": re.compile(
        rf"-[pqvnft]+|{_WITH_NUMBER}=\d+|--filter=(blob:none|tree:\d+|blob:limit=\d+[kmg]?)|--shallow-since=[0-9A-Za-z:.-]+"
        r"|--(no-)?(tags|prune|prune-tags|force|quiet|verbose|progress|show-forced-updates|auto-gc|auto-maintenance)"
    ),
    "GIT_CLONE_EXTRA_FLAGS": re.compile(
        rf"-[qvn]+|{_WITH_NUMBER}=\d+|--filter=(blob:none|tree:\d+|blob:limit=\d+[kmg]?)"
        r"|--(no-)?(tags|quiet|verbose|progress|single-branch)"
    ),
    "GIT_SUBMODULE_UPDATE_FLAGS": re.compile(
        rf"-[qfN]+|{_WITH_NUMBER}=\d+|--filter=(blob:none|tree:\d+|blob:limit=\d+[kmg]?)"
        r"|--(no-)?(remote|force|quiet|progress|recommend-shallow|single-branch|fetch)|--checkout"
    ),
    "GIT_CLEAN_FLAGS": re.compile(
        r"none|-[dffxXnq]+|(-e|--exclude)=?[A-Za-z0-9_.*/-]*|[A-Za-z0-9_.*][A-Za-z0-9_.*/-]*"
    ),
}


def check(job: CiJob) -> None:
    """Refuse unsupported requests of a job before it is submitted.

    Raises:
        BuildFailureError: names the unsupported part of the job.
    """
    if job.hooks:
        raise BuildFailureError(
            f"hooks:{job.hooks[0]} cannot run: sources are fetched on the runner's machine, not on the system.",
            hint="Move it into before_script.",
        )
    for name in _ALLOWED:
        _flags(job, name)


def needs_git(job: CiJob) -> bool:
    """Whether the job needs sources.

    Raises:
        BuildFailureError: unknown strategy.
    """
    strategy = job.variables.get("GIT_STRATEGY", "") or "fetch"
    if strategy not in ("fetch", "clone", "none", "empty"):
        raise BuildFailureError(
            f"GIT_STRATEGY: unknown strategy {strategy!r}.", hint="Write fetch, clone, none or empty."
        )
    return strategy in ("fetch", "clone")


async def require_confinement(state: State) -> str:
    """Return the kind of confinement for git.

    Raises:
        SystemFailureError: git cannot be confined.
    """
    kind, why = await sandbox.available(state.subdir("sources"))
    if kind is None:
        raise SystemFailureError(
            f"Sources cannot be fetched on this machine, since git cannot be confined: {why}.",
            hint='Install bubblewrap, allow user namespaces, or set stages.get_sources = "job".',
        )
    return kind


async def fetch(settings: Settings, state: State, job: CiJob, project: str, url: str | None) -> None:
    """Fetch a job's sources into the directory that stands for the builds directory.

    Args:
        settings: the configuration.
        state: the job's state.
        job: the job.
        project: the project's directory below the builds directory.
        url: address; None: the one in the payload.

    Raises:
        BuildFailureError: git failed, or the job requests something that is not allowed.
        SystemFailureError: git cannot be confined here.
    """
    check(job)
    place = state.subdir("sources")
    if not SAFE_PATH.fullmatch(str(place)):
        raise ConfigError(f"state_dir: {place} cannot be used.", hint="Only A-Z a-z 0-9 . _ - / in it, please.")
    folder = place / project
    _remove(folder)
    if not needs_git(job):
        log.write(b"Skipping Git repository setup\n")
        folder.mkdir(parents=True)
        return
    git = Git(settings, state, job, place, folder, await require_confinement(state))
    await git.fetch(_plain(url or job.git_info.repo_url))


class Git:
    """Git for one job, confined to the directory of its sources, which is measured while git writes."""

    def __init__(self, settings: Settings, state: State, job: CiJob, place: Path, folder: Path, kind: str) -> None:
        self._limits = settings.limits
        self._job = job
        self._place = place
        self._folder = folder
        self._kind = kind
        self._home = state.subdir("git")
        self._temporary = place / ".tmp"

    async def fetch(self, url: str) -> None:
        """Fetch, check out, and fetch submodules."""
        info = self._job.git_info
        if not _SHA.fullmatch(info.sha):
            raise BuildFailureError(f"{info.sha!r} is not the hash of a commit.")
        self._configure(url)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._temporary.mkdir(exist_ok=True)
        try:
            form = [f"--object-format={info.repo_object_format}"] if info.repo_object_format == "sha256" else []
            await self._git("init", "--quiet", "--template=", *form)
            await self._git("remote", "add", "origin", url)
            depth = [f"--depth={info.depth}"] if info.depth > 0 else []
            log.remark(f"Fetching changes{f' with git depth set to {info.depth}' if depth else ''}...")
            refspecs = info.refspecs or [_default_refspec(info.ref, info.ref_type)]
            flags = _flags(self._job, "GIT_FETCH_EXTRA_FLAGS") or ["--prune", "--quiet"]
            await self._git("fetch", "--no-recurse-submodules", *depth, *flags, "--", "origin", *refspecs)
            if self._job.variables.get("GIT_CHECKOUT", "").lower() in ("false", "0", "no"):
                log.write(b"Skipping Git checkout\n")
                return
            log.remark(f"Checking out {info.sha[:8]} as detached HEAD (ref is {info.ref})...")
            await self._git("checkout", "--force", "--quiet", "--detach", info.sha, "--")
            await self._large_files()
            await self._submodules()
        finally:
            _remove(self._temporary)

    async def _submodules(self) -> None:
        strategy = self._job.variables.get("GIT_SUBMODULE_STRATEGY", "") or "none"
        if strategy not in ("none", "normal", "recursive"):
            raise BuildFailureError(
                f"GIT_SUBMODULE_STRATEGY: unknown strategy {strategy!r}.", hint="Write none, normal or recursive."
            )
        if strategy == "none" or not (self._folder / ".gitmodules").is_file():
            return
        recursive = ["--recursive"] if strategy == "recursive" else []
        paths = self._job.variables.get("GIT_SUBMODULE_PATHS", "").split()
        chosen = ["--", *paths] if paths else []
        depth = self._job.variables.get("GIT_SUBMODULE_DEPTH", "")
        flags = _flags(self._job, "GIT_SUBMODULE_UPDATE_FLAGS")
        if re.fullmatch(r"[1-9][0-9]{0,8}", depth):
            flags = [f"--depth={depth}", *flags]
        log.remark("Updating submodules...")
        await self._git("submodule", "--quiet", "init")
        await self._git("submodule", "--quiet", "sync", *recursive, *chosen)
        await self._git("submodule", "update", "--init", *recursive, *flags, *chosen)

    async def _large_files(self) -> None:
        if self._job.variables.get("GIT_LFS_SKIP_SMUDGE", "") in ("1", "true"):
            return
        if shutil.which("git-lfs", path=sandbox.PATH):
            await self._git("lfs", "pull")

    async def _git(self, *arguments: str) -> None:
        sizes = [len(os.fsencode(each)) for each in arguments]
        if any("\0" in each for each in arguments) or max(sizes) > _LONGEST_ARGUMENT or sum(sizes) > _ALL_ARGUMENTS:
            raise BuildFailureError(
                f"git {arguments[0]}: an argument has a NUL in it, or they are too long.",
                hint="Check the refs, the paths of submodules and the options of git that the job names.",
            )
        readable = [
            self._home,
            *(Path(os.environ[name]) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ),
        ]
        confined = sandbox.Sandbox(self._place, tuple(readable), network=True)
        command = ["git", "-C", str(self._folder), *arguments]
        work = asyncio.ensure_future(sandbox.run(command, confined, self._environment(), kind=self._kind))
        try:
            pause = _MEASURED_EVERY
            while not (await asyncio.wait((work,), timeout=pause))[0]:
                began = time.monotonic()
                await self._check_size()
                pause = max(_MEASURED_EVERY, 10 * (time.monotonic() - began))
            code, _ = await work
        finally:
            work.cancel()
            await asyncio.wait((work,))
        await self._check_size()
        if code != 0:
            raise BuildFailureError(f"git {arguments[0]} ended with exit code {code}.")

    async def _check_size(self) -> None:
        """Refuse sources beyond the limits, because a few KiB of trees, deltas or large objects can become any number
        of files.

        Raises:
            BuildFailureError: the sources exceed a limit.
        """
        files, number = await asyncio.to_thread(_measure, self._place, self._limits.members)
        if files > self._limits.members:
            raise BuildFailureError(f"The sources have more than {self._limits.members} files (limits.members).")
        if number > size(self._limits.unpacked):
            raise BuildFailureError(f"The sources have more than {self._limits.unpacked} bytes (limits.unpacked).")

    def _environment(self) -> dict[str, str]:
        passed = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)}
        passed |= {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ}
        return passed | {
            "HOME": str(self._home),
            "TMPDIR": str(self._temporary),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "http:https",
            "GIT_LFS_SKIP_SMUDGE": "1",
        }

    def _configure(self, url: str) -> None:
        """Write the configuration and the credential, readable to git only."""
        server = urlsplit(url)
        base = f"{server.scheme}://{server.netloc}"
        write_private(self._home / "credential", f"username=gitlab-ci-token\npassword={self._job.token}\n".encode())
        lines = [
            "[init]\n\tdefaultBranch = none\n[gc]\n\tauto = 0\n[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n",
            "[advice]\n\tdetachedHead = false\n[http]\n\tuserAgent = gitlab-runner crestline\n",
            f'[credential "{base}"]\n\thelper = "!f() {{ test $1 != get || cat {self._home}/credential; }}; f"\n',
        ]
        authority = self._job.variables.get("CI_SERVER_TLS_CA_FILE", "")
        if authority:
            write_private(self._home / "ca.pem", authority.encode())
            lines.append(f'[http "{base}"]\n\tsslCAInfo = {self._home}/ca.pem\n')
        if self._job.variables.get("GIT_SUBMODULE_FORCE_HTTPS", "").lower() in ("true", "1"):
            host = server.hostname or ""
            lines.append(f'[url "{base}/"]\n\tinsteadOf = git@{host}:\n\tinsteadOf = ssh://git@{host}/\n')
        write_private(self._home / ".gitconfig", "".join(lines).encode())


def _measure(folder: Path, most: int) -> tuple[int, int]:
    """Return the number of files and directories below a directory, and their bytes on disk. Counting stops above
    `most`."""
    files = number = 0
    pending = [os.fspath(folder)]
    while pending and files <= most:
        with suppress(OSError), os.scandir(pending.pop()) as entries:  # git removes some meanwhile
            for entry in entries:
                files += 1
                with suppress(OSError):
                    number += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                if files > most:
                    break
    return files, number


def _flags(job: CiJob, name: str) -> list[str]:
    """Return the options in a variable. An option that could make git run a program is refused."""
    words = job.variables.get(name, "").split()
    joined: list[str] = []
    for word in words:
        if joined and re.fullmatch(_WITH_NUMBER, joined[-1]) and word.isdigit():
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    for word in joined:
        if not _ALLOWED[name].fullmatch(word):
            raise BuildFailureError(f"{name}: {word!r} is not allowed here.", hint="Use plain options of git only.")
    return joined


def _default_refspec(ref: str, kind: str) -> str:
    return f"+refs/tags/{ref}:refs/tags/{ref}" if kind == "tag" else f"+refs/heads/{ref}:refs/remotes/origin/{ref}"


def _plain(url: str) -> str:
    """Return an address without credentials.

    Raises:
        BuildFailureError: the address is not HTTP, or cannot be written into a configuration file.
    """
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    if parts.scheme not in ("http", "https") or not re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", netloc):
        raise BuildFailureError("The repository's address is not one of HTTP.", hint="Set clone_url of the runner.")
    return parts._replace(netloc=netloc).geturl()


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
