"""The process of the runner, which no stage of a job may outlive.

A stage whose runner dies before the stage asks for its parent finds another one: the process that took it over. So
`config` notes which process called it.
"""

from __future__ import annotations

from pathlib import Path


def identify(pid: int) -> str:
    """Return the pid and the start time of a process that runs, empty for one that has ended.

    Example: `4711 93810`, the second number in ticks of the kernel since it was booted.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else f"{pid} {fields[18]}"


def runs(identity: str) -> bool:
    """Whether a process that `identify` has described still runs."""
    return identify(int(identity.partition(" ")[0])) == identity
