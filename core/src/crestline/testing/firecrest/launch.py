"""Start and signal the processes of a job on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path

from crestline.testing.firecrest.batch_script import interpreter
from crestline.testing.firecrest.job import Job

PATH = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")


def start(job: Job, spool: Path, home: Path, login_environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Run the job's script in its directory and in a new session. Raises OSError if that fails.

    The interpreter of the first line is called with the script as its argument, so the script need not be executable.
    """
    place = spool / f"job{job.number:06d}"
    place.mkdir(exist_ok=True)
    script = place / "slurm_script"
    script.write_text(job.script, encoding="utf-8")
    environment = {
        "PATH": PATH,
        "HOME": str(home),
        "USER": job.user.name,
        "LOGNAME": job.user.name,
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        **login_environment,
        **job.environment,
        **job.slurm_variables(home),
    }
    with ExitStack() as files:
        stdin = files.enter_context((job.workdir / job.stdin).open("rb"))
        stdout = files.enter_context(job.stdout.open("wb"))
        stderr = stdout if job.stderr == job.stdout else files.enter_context(job.stderr.open("wb"))
        return subprocess.Popen(
            [*interpreter(job.script), str(script)],
            cwd=job.workdir,
            env=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )


def send(job: Job, number: signal.Signals) -> None:
    """Send a signal to all processes in the process group of the job's session."""
    if job.process is None:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(job.process.pid, number)
