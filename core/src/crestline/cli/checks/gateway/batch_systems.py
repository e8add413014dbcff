"""A batch system behind commands: its programs are there, and what stands behind them answers."""

from __future__ import annotations

import posixpath
import re
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from crestline.cli.checks import Check, Verdict, failed
from crestline.gateway.schedulers.base import JobQuery
from crestline.model import CrestlineError

if TYPE_CHECKING:
    from crestline.gateway.hosts import Completed
    from crestline.gateway.systems import SystemRuntime

_TIMEOUT = 15.0
_LOOK_BACK = 86400
_OLDEST_SLURM = (22, 5)
_PROGRAMS = {
    "slurm": ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo", "srun"),
    "pbs": ("qsub", "qstat", "qdel", "pbsnodes"),
    "hyperqueue": (),  # comes with the gateway, and says by itself what it misses
}


async def check(runtime: SystemRuntime, options: Mapping[str, Any], user: str) -> AsyncIterator[Check]:
    """The batch system of one system, as `user` sees it."""
    kind, name = str(options["type"]), f"scheduler of {runtime.name}"
    directory = str(options.get("directory") or "")

    async def run(program: str, *arguments: str) -> Completed:
        command = ["timeout", f"{_TIMEOUT:g}", posixpath.join(directory, program), *arguments]
        return await runtime.host.run(user, command, timeout=_TIMEOUT + 5)

    try:
        if absent := [each for each in _PROGRAMS.get(kind, ()) if (await run(each, "--version")).exit_status == 127]:
            hint = "Install them, or say in `scheduler.directory` where they are."
            yield Check(name, Verdict.FAIL, f"{user} does not find {', '.join(absent)}.", hint)
            return
        if kind == "slurm":
            async for each in _slurm(f"programs of {runtime.name}", run):
                yield each
                if each.verdict is Verdict.FAIL:
                    return
        await runtime.scheduler.start()
        try:
            await runtime.scheduler.ping()
            jobs = await runtime.scheduler.jobs(user, JobQuery(window=_LOOK_BACK))
        finally:
            await runtime.scheduler.stop()
        yield Check(name, Verdict.OK, f"It answers; jobs of {user} within a day: {len(jobs)}.")
    except CrestlineError as error:
        yield failed(name, error)


async def _slurm(name: str, run: Any) -> AsyncIterator[Check]:
    said = _first(await run("sinfo", "--version"))
    found = re.search(r"(\d+)\.(\d+)", said)
    if found and (int(found[1]), int(found[2])) < _OLDEST_SLURM:
        yield Check(name, Verdict.WARN, f"{said} is older than 22.05.", "It may work; nobody has tried.")
    else:
        yield Check(name, Verdict.OK, f"{said or 'Slurm'}, with all its programs.")
    munge = await run("munge", "--no-input")
    if munge.exit_status not in (0, 127):  # a site may authenticate in another way
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
        message = "There is no accounting: of jobs that have left the queue nothing is known."
        yield Check("slurmdbd", Verdict.WARN, message, "Set AccountingStorageType=accounting_storage/slurmdbd.")
    elif sacct.exit_status:
        hint = "Is slurmdbd running? Without it, nothing is known of jobs that have left the queue."
        yield Check("slurmdbd", Verdict.FAIL, f"It does not answer: {_first(sacct)}.", hint)
    else:
        yield Check("slurmdbd", Verdict.OK, "Accounting answers.")


def _first(done: Completed) -> str:
    """What a program said, in one line."""
    lines = [line.strip() for line in (done.stdout + done.stderr).decode(errors="replace").splitlines() if line.strip()]
    if not lines:
        return "no answer in time" if done.exit_status == 124 else f"exit status {done.exit_status}"
    return lines[0].rstrip(".")
