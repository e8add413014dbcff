"""A gateway in front of the PBS stand-in, and what runs the jobs that the stand-in only keeps books of."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.gateway import RunningGateway, in_thread

PROGRAMS = Path(__file__).parents[1] / "stand_ins" / "pbs"
STOPPED_QUEUE = "gpu"
"""jobs in it wait for ever"""


class Mom(threading.Thread):
    """Starts the jobs of the stand-in's books, notes how they end, and kills those that qdel has ended."""

    def __init__(self, books: Path) -> None:
        super().__init__(name="pbs-mom", daemon=True)
        self._books = books
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = threading.Event()

    def jobs(self) -> dict[str, dict[str, Any]]:
        """The books."""
        with self._locked():
            return self._read()

    def run(self) -> None:
        while not self._stopping.wait(0.1):
            with self._locked():
                jobs = self._read()
                for job_id, job in jobs.items():
                    self._move(job_id, job)
                (self._books / "jobs.json").write_text(json.dumps(jobs))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep every other process from the books, which are written in place."""
        with (self._books / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> dict[str, dict[str, Any]]:
        file = self._books / "jobs.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def stop(self) -> None:
        """Kill what still runs."""
        self._stopping.set()
        self.join()
        for process in self._running.values():
            _kill(process)

    def _move(self, job_id: str, job: dict[str, Any]) -> None:
        now = int(time.time())
        process = self._running.get(job_id)
        if process is None:
            if job["job_state"] == "Q" and job["queue"] != STOPPED_QUEUE:
                self._running[job_id] = self._start(job_id, job)
                job |= {"job_state": "R", "substate": 42, "stime": now, "mtime": now, "exec_host": "n1/0*8"}
        elif job["job_state"] != "R":
            _kill(process)
        elif (status := process.poll()) is not None:
            status = status if status >= 0 else 256 - status
            job |= {"job_state": "F", "substate": 92, "Exit_status": status, "mtime": now}
            job["resources_used"] = {"walltime": "00:00:01"}

    def _start(self, job_id: str, job: dict[str, Any]) -> subprocess.Popen[bytes]:
        variables = job["Variable_List"]
        here = variables["PBS_O_WORKDIR"]
        environment = {"PATH": os.environ["PATH"], "HOME": here, "PBS_JOBID": job_id} | variables
        out, err = (Path(here, job[key].partition(":")[2]) for key in ("Output_Path", "Error_Path"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            return subprocess.Popen(
                ["/bin/bash", str(self._books / f"script.{job_id.partition('.')[0]}")],
                cwd="/",  # PBS starts a job in the home directory, not where it was submitted
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def running(place: Path) -> Iterator[tuple[RunningGateway, Mom]]:
    """The gateway with the system `pbs`, whose books and files are below `place`."""
    books, programs, files = place / "books", place / "programs", place / "files"
    for directory in (books, programs, files):
        directory.mkdir(parents=True)
    for name in ("qsub", "qstat", "qdel", "pbsnodes", "pbs_rstat"):
        program = programs / name
        program.write_text(f'#!/bin/sh\nPBS_STAND_IN={books} exec {sys.executable} {PROGRAMS / name} "$@"\n')
        program.chmod(0o755)
    patient = {"timeout": 60.0, "submit_timeout": 60.0, "max_age": 0.2}
    system = {
        "scheduler": {"type": "pbs", "directory": str(programs), **patient},
        "file_systems": [{"path": str(files), "data_type": "scratch", "default_work_dir": True}],
    }
    mom = Mom(books)
    mom.start()
    try:
        with in_thread(place / "home", systems={"pbs": system}) as gateway:
            yield RunningGateway(gateway.url, gateway.home, "pbs"), mom
    finally:
        mom.stop()
