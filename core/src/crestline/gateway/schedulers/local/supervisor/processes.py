"""All processes of a job, and signals to all of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable

import psutil  # type: ignore[import-untyped]

from crestline.gateway.schedulers.local.supervisor import records


def members(marker: str) -> set[psutil.Process]:
    """Every living process of the job.

    These are the descendants of the calling supervisor, orphans included (it is their subreaper), and whatever else
    carries the job's marker in its environment.
    """
    found = {child for child in psutil.Process().children(recursive=True) if _alive(child)}
    for process in psutil.process_iter():
        if process not in found and process.pid != os.getpid() and _carries(process, marker) and _alive(process):
            found.add(process)
    return found


def send(processes: Iterable[psutil.Process], *numbers: int) -> None:
    """Send signals to processes, parents first; those that are gone meanwhile are left out.

    So a shell ends by the signal itself, and not by what became of its command.
    """
    for process in sorted(processes, key=_age):
        for number in numbers:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                break


def stop(marker: str) -> None:
    """Stop every process of the job, also those that are being started meanwhile."""
    stopped: set[psutil.Process] = set()
    while fresh := members(marker) - stopped:
        send(fresh, signal.SIGSTOP)
        stopped |= fresh


def end_strays(marker: str, kill_wait: float) -> None:
    """End the processes of a job whose supervisor is gone."""
    send(members(marker), signal.SIGTERM, signal.SIGCONT)
    deadline = time.monotonic() + kill_wait
    while remaining := members(marker):
        if time.monotonic() > deadline:
            send(remaining, signal.SIGKILL)
        psutil.wait_procs(remaining, timeout=0.1)


def _age(process: psutil.Process) -> tuple[float, int]:
    """Sorts processes by the time of their start."""
    try:
        return process.create_time(), process.pid
    except psutil.NoSuchProcess:
        return 0.0, process.pid


def _carries(process: psutil.Process, marker: str) -> bool:
    try:
        environment: dict[str, str] = process.environ()
    except (psutil.Error, OSError):  # another user's process, or gone
        return False
    return environment.get(records.MARKER) == marker


def _alive(process: psutil.Process) -> bool:
    try:
        status: str = process.status()
    except psutil.NoSuchProcess:
        return False
    return status != str(psutil.STATUS_ZOMBIE)
