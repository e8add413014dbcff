"""All processes of a job, and signals to all of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable

import psutil  # type: ignore[import-untyped]

from crestline.gateway.schedulers.local.supervisor import records


def members(marker: str) -> set[psutil.Process]:
    """Return every running process of the job.

    These are the descendants of the calling supervisor, including orphans (the supervisor is their subreaper), and all
    other processes with the job's marker in their environment.
    """
    found = {child for child in psutil.Process().children(recursive=True) if _alive(child)}
    for process in psutil.process_iter():
        if process not in found and process.pid != os.getpid() and _carries(process, marker) and _alive(process):
            found.add(process)
    return found


def send(processes: Iterable[psutil.Process], *numbers: int) -> None:
    """Send signals to processes, parents first. Processes that have ended are ignored.

    Parents come first so that a shell ends by the signal and not by the result of its command.
    """
    for process in sorted(processes, key=_age):
        for number in numbers:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                break


def stop(marker: str) -> None:
    """Stop every process of the job, including processes that start meanwhile."""
    stopped: set[psutil.Process] = set()
    while fresh := members(marker) - stopped:
        send(fresh, signal.SIGSTOP)
        stopped |= fresh


def kill_orphans(marker: str, kill_wait: float) -> None:
    """End the processes of a job whose supervisor has died."""
    send(members(marker), signal.SIGTERM, signal.SIGCONT)
    deadline = time.monotonic() + kill_wait
    while remaining := members(marker):
        if time.monotonic() > deadline:
            send(remaining, signal.SIGKILL)
        psutil.wait_procs(remaining, timeout=0.1)


def _age(process: psutil.Process) -> tuple[float, int]:
    """Sort key: the start time of a process."""
    try:
        return process.create_time(), process.pid
    except psutil.NoSuchProcess:
        return 0.0, process.pid


def _carries(process: psutil.Process, marker: str) -> bool:
    try:
        environment: dict[str, str] = process.environ()
    except (psutil.Error, OSError):  # a process of another user, or one that has ended
        return False
    return environment.get(records.MARKER) == marker


def _alive(process: psutil.Process) -> bool:
    try:
        status: str = process.status()
    except psutil.NoSuchProcess:
        return False
    return status != str(psutil.STATUS_ZOMBIE)
