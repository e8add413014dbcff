"""Confines programs that use a job's data on the runner's machine.

They can read the system's programs and libraries and the given files, and write into one directory. They cannot access
other files of the machine, other processes or capabilities, and have a network only if they need one. Bubblewrap does
this, or util-linux's `unshare` with a user namespace if Bubblewrap is not installed. Both require that the kernel
allows user namespaces, or that the runner is root.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
"""PATH inside the sandbox."""
_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/alternatives", "/etc/ld.so.cache")
_NETWORK = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted"),
    *("/etc/ca-certificates", "/usr/share/ca-certificates"),
)
_found: list[str] = []
"""The result of `available` in this process."""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


class Sandbox(msgspec.Struct, frozen=True):
    """What a confined program can access.

    Attributes:
        writable: its working directory.
        readable: further files and directories.
        network: whether it has a network.
    """

    writable: Path
    readable: tuple[Path, ...] = ()
    network: bool = False

    def command(self, arguments: Sequence[str], kind: str) -> list[str]:
        """Return the command that runs a program confined by one of `_KINDS`."""
        return _KINDS[kind](self, arguments)

    def bound(self) -> list[str]:
        """Return all readable paths, none below another, with the system's existing ones."""
        paths = [*_PROGRAMS, *(_NETWORK if self.network else ()), *map(str, self.readable)]
        found = {path for path in paths if os.path.lexists(path)}
        found |= {os.path.realpath(path) for path in found if path not in _PROGRAMS}
        return sorted(path for path in found if not any(path.startswith(f"{other}/") for other in found))


async def run(
    arguments: Sequence[str],
    sandbox: Sandbox,
    environment: Mapping[str, str],
    *,
    kind: str | None,
    output: int | None = None,
) -> tuple[int, bytes]:
    """Run a program. When this coroutine is cancelled, all of its processes are killed.

    Args:
        arguments: the program and its arguments.
        kind: kind of confinement from `available`; None: unconfined.
        output: `asyncio.subprocess.PIPE` to return its output; otherwise it goes to the job's log.

    Returns:
        its exit code and its output.
    """
    command = list(arguments) if kind is None else sandbox.command(arguments, kind)
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=asyncio.subprocess.STDOUT if output is not None else None,
        cwd=sandbox.writable,
        env={"PATH": PATH, **environment},
        start_new_session=True,
    )
    try:
        written, _ = await process.communicate()
        return process.returncode or 0, written or b""
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.returncode is None:
            await process.wait()


async def available(folder: Path) -> tuple[str | None, str]:
    """Find out how programs can be confined on this machine.

    Args:
        folder: a private directory for the test.

    Returns:
        the kind, or None, and the reason if it is None.
    """
    if _found:
        return _found[0], ""
    reasons = []
    for kind, program in (("bubblewrap", "bwrap"), ("unshare", "unshare")):
        if shutil.which(program, path=PATH) is None:
            reasons.append(f"there is no {program}")
            continue
        code, said = await run(["true"], Sandbox(folder), {}, kind=kind, output=asyncio.subprocess.PIPE)
        if code == 0:
            _found.append(kind)
            return kind, ""
        last = (said.decode(errors="replace").strip().splitlines() or [f"exit code {code}"])[-1]
        reasons.append(f"{program} says: {last}")
    return None, "; ".join(reasons)


def _bubblewrap(sandbox: Sandbox, arguments: Sequence[str]) -> list[str]:
    command = ["bwrap", "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
    command += [] if sandbox.network else ["--unshare-net"]
    command += ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108
    for path in sandbox.bound():
        if os.path.islink(path) and path in _PROGRAMS:
            command += ["--symlink", os.readlink(path), path]
        else:
            command += ["--ro-bind", os.path.realpath(path), path]
    writable = str(sandbox.writable)
    return [*command, "--bind", writable, writable, "--chdir", writable, "--", *arguments]


def _unshare(sandbox: Sandbox, arguments: Sequence[str]) -> list[str]:
    command = ["unshare", "--user", "--map-root-user", "--mount", "--ipc", "--uts", "--pid", "--fork", "--kill-child"]
    command += [] if sandbox.network else ["--net"]
    links = [path for path in _PROGRAMS if os.path.islink(path)]
    bound = [path for path in sandbox.bound() if path not in links]
    counts = [str(len(links)), str(len(bound)), str(len(_DEVICES))]
    return [*command, "sh", _script(), str(sandbox.writable), *counts, *links, *bound, *_DEVICES, *arguments]


@cache
def _script() -> str:
    return str(files("crestline_gitlab_runner").joinpath("sandbox.sh"))


_KINDS = {"bubblewrap": _bubblewrap, "unshare": _unshare}
