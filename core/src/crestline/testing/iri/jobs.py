"""Jobs of the stand-in. Each runs as a process group."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any


def _shell_text(spec: dict[str, Any], command: list[str], stdin: str) -> str:
    """Return the job as lines of bash. A launcher starts the program only once."""
    line = shlex.join(command)
    if stdin:
        line += f" <{shlex.quote(stdin)}"
    return "\n".join([spec.get("pre_launch") or "", line, "status=$?", spec.get("post_launch") or "", "exit $status"])


class Job:
    """A job with the fields of a PSI/J job spec."""

    def __init__(self, job_id: str, spec: dict[str, Any], root: Path, *, ignores_paths: bool, is_pbs: bool) -> None:
        self.id = job_id
        self.spec = spec
        self._root = root
        self._ignores_paths = ignores_paths
        self._is_pbs = is_pbs
        self._process: subprocess.Popen[bytes] | None = None
        self._state = "queued"
        self._word = "PENDING"
        self._exit_code: int | None = None
        self._time = time.time()
        self._is_cancelled = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the job."""
        spec = self.spec
        default = str(self._root / f"slurm-{self.id}.out")
        directory, stdout = spec.get("directory"), spec.get("stdout_path") or default
        stderr = spec.get("stderr_path") or stdout
        if self._ignores_paths:
            directory, stdout, stderr = str(self._root), default, default
        stdin = spec.get("stdin_path") or ""
        name = str(spec.get("name") or "")
        if self._is_pbs:
            own = {"PBS_JOBID": self.id, "PBS_JOBNAME": name}
        else:
            own = {"SLURM_JOB_ID": self.id, "SLURM_JOB_NAME": name}
            values = {"%j": self.id, "%A": self.id, "%x": name, "%%": "%"}
            stdin, stdout, stderr = (
                re.sub("%.", lambda match: values.get(match[0], match[0]), path) for path in (stdin, stdout, stderr)
            )
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._root),
            **own,
            **(spec.get("environment") or {}),
        }
        command = [spec["executable"], *(spec.get("arguments") or [])]
        if any(spec.get(each) for each in ("pre_launch", "post_launch", "launcher", "stdin_path")):
            command = ["/bin/bash", "-c", _shell_text(spec, command, stdin)]
        try:
            with open(stdout, "wb") as out, open(stderr, "ab") as err:
                self._process = subprocess.Popen(
                    command,
                    cwd=directory,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out if stderr == stdout else err,
                    start_new_session=True,
                )
        except OSError:
            self._end(1)
            return
        self._state, self._word, self._time = "active", "RUNNING", time.time()
        threading.Thread(target=self._watch, args=(self._process,), daemon=True).start()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        limit = (self.spec.get("attributes") or {}).get("duration")
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            self._word = "TIMEOUT"
            self._kill()
            status = process.wait()
        self._end(status)

    def _end(self, status: int) -> None:
        with self._lock:
            self._exit_code, self._time = max(status, 0), time.time()
            if self._is_cancelled:
                self._state, self._word = "canceled", "CANCELLED"
            elif status == 0:
                self._state, self._word = "completed", "COMPLETED"
            else:
                self._state = "failed"
                self._word = self._word if self._word == "TIMEOUT" else "FAILED"

    def cancel(self) -> bool:
        """Cancel the job. Returns whether it had not ended yet."""
        with self._lock:
            if self._state in ("completed", "failed", "canceled"):
                return False
            self._is_cancelled = True
        self._kill()
        return True

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def show(self, *, reports_scheduler_states: bool) -> dict[str, Any]:
        """Return the job in the format of the API."""
        status: dict[str, Any] = {"state": self._state, "time": self._time}
        if self._exit_code is not None and self._state != "canceled":
            status["exit_code"] = self._exit_code
        if reports_scheduler_states:
            status["meta_data"] = {"raw_state": self._word}
        return {"id": self.id, "status": status}
