"""Checks the parts behind Slurm's commands: version, munge, slurmctld, slurmdbd."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from crestline.gateway.hosts import Completed
from crestline.gateway.schedulers.base import RunProgram
from crestline.model.checks import Check, Verdict

PROGRAMS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo", "srun")

_OLDEST = (22, 5)


async def diagnose(name: str, run: RunProgram) -> AsyncIterator[Check]:
    """Check each part until one does not respond."""
    said = _first(await run("sinfo", "--version"))
    found = re.search(r"(\d+)\.(\d+)", said)
    if found and (int(found[1]), int(found[2])) < _OLDEST:
        yield Check(name, Verdict.WARN, f"{said} is older than 22.05.", "It may work, but has not been tested.")
    else:
        yield Check(name, Verdict.OK, f"{said or 'Slurm'}, with all its programs.")
    munge = await run("munge", "--no-input")
    if munge.exit_status not in (0, 127):  # a site may use another kind of authentication
        hint = "Is munged running there, with the cluster's key and with the right time?"
        yield Check("munge", Verdict.FAIL, f"It does not answer: {_first(munge)}.", hint)
        return
    ping = await run("scontrol", "ping")
    if ping.exit_status or b" UP" not in ping.stdout:
        hint = "Is slurmctld running, and can this machine reach it?"
        yield Check("slurmctld", Verdict.FAIL, f"It does not answer: {_first(ping)}.", hint)
        return
    yield Check("slurmctld", Verdict.OK, f"{_first(ping)}.")
    sacct = await run("sacct", "--noheader", "--allocations", "--starttime=now")
    if b"accounting storage is disabled" in sacct.stderr:
        message = "Slurm keeps no accounting, so it knows nothing of jobs that have left the queue."
        yield Check("slurmdbd", Verdict.WARN, message, "Set AccountingStorageType=accounting_storage/slurmdbd.")
    elif sacct.exit_status:
        hint = "Is slurmdbd running? Without it, nothing is known of jobs that have left the queue."
        yield Check("slurmdbd", Verdict.FAIL, f"It does not answer: {_first(sacct)}.", hint)
    else:
        yield Check("slurmdbd", Verdict.OK, "Accounting answers.")


def _first(done: Completed) -> str:
    """Return a program's message in one line."""
    lines = [line.strip() for line in (done.stdout + done.stderr).decode(errors="replace").splitlines() if line.strip()]
    if not lines:
        return "no answer in time" if done.exit_status == 124 else f"exit status {done.exit_status}"
    return lines[0].rstrip(".")
