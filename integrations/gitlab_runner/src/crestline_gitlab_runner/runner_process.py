"""The process of the runner, which no stage of a job may outlive.

If its runner dies early, a stage finds another parent: the process that adopted it. Therefore `config` records which
process called it.
"""

from __future__ import annotations

from pathlib import Path


def identify(pid: int) -> str:
    """Return the pid and the start time of a running process, or an empty string if it has ended.

    Example: `4711 93810`. The second number is in ticks of the kernel since the boot.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else f"{pid} {fields[18]}"


def runs(identity: str) -> bool:
    """Whether the process that `identify` has described still runs."""
    return identify(int(identity.partition(" ")[0])) == identity
