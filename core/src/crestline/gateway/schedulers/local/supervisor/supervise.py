"""Starts one job, watches it until its last process has ended, and records the result."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from crestline.gateway.schedulers.local.supervisor import records
from crestline.gateway.schedulers.local.supervisor.records import Record, Request, Step, Task, Usage

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
# Signals whose handling Python, or the program that started the gateway, may have changed from the default.
_USUAL = tuple(getattr(signal, f"SIG{name}") for name in ["CHLD", "HUP", "INT", "PIPE", "QUIT", "TERM", "XFSZ"])
_KILL_AGAIN = 0.1  # seconds between two rounds of SIGKILL
_RECORD_AGAIN = 1.0  # seconds between two attempts to write the record


def supervise(directory: str) -> None:
    """Run the job in `directory`, unless another process runs it or it was started before.

    If the job was started and its supervisor has died, clean up and record the job as lost.
    """
    os.chdir(directory)
    if os.getsid(0) != os.getpid():
        os.setsid()
    if (lock := records.claim(".")) is None:
        return
    task: Task = records.read(records.TASK)
    record: Record | None = records.read(records.RECORD)
    if record is None:
        Supervisor(task).run()
    elif record["end"] is None:
        _finalize_orphan(task, record)
    os.close(lock)


def _finalize_orphan(task: Task, record: Record) -> None:
    rebooted = record["boot"] != records.boot_id()
    if not rebooted:
        from crestline.gateway.schedulers.local.supervisor import processes

        processes.kill_orphans(task["marker"], task["kill_wait"])
    reason = "NodeRebooted" if rebooted else "SupervisorLost"
    _end(task, {**record, "state": "NODE_FAIL", "reason": reason, "end": time.time()})


def _end(task: Task, record: Record) -> None:
    """Record the end of the job, and of steps that did not record their own end."""
    end = record["end"] or time.time()
    with suppress(OSError):  # the job's record is more important than those of steps
        for step in records.read_steps("."):
            if step["end"] is None:
                records.end_step(".", step, state="CANCELLED", end=end, exit_code=0, signal=signal.SIGKILL)
    while True:
        try:
            records.write(records.RECORD, record)
            break
        except OSError as error:  # the disk is full: wait for free space, because the result must not be lost
            print(f"cannot record the end of the job, trying again: {error}", flush=True)
            time.sleep(_RECORD_AGAIN)
    records.notify(task["wake"], os.path.basename(os.getcwd()))


class Supervisor:
    """Watches the processes of one job.

    On Linux every orphan among the descendants of the script becomes our child (we are their subreaper), so the job has
    ended when no child is left. Elsewhere the marker in their environment finds them.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._control = _open_fifo(records.CONTROL)
        self._signals, wakeup = os.pipe()
        for descriptor in (self._signals, wakeup):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        self._record: Record = {
            "state": "RUNNING",
            "reason": "None",
            "start": time.time(),
            "end": None,
            "exit_code": None,
            "signal": None,
            "suspended": 0.0,
            "suspended_since": None,
            "boot": records.boot_id(),
        }
        self._script = 0
        self._status: int | None = None
        self._steps: dict[int, Step] = {}
        self._verdict: tuple[str, str] | None = None  # state and reason, if they do not follow from the exit status
        self._kill_at: float | None = None
        self._limit = task["time_limit"]
        self._ran = 0.0  # seconds of running time before the last resumption
        self._resumed = time.monotonic()

    def run(self) -> None:
        """Start the script and return when all processes of the job have ended."""
        if os.path.exists(records.CANCEL):
            _end(self._task, {**self._record, "state": "CANCELLED", "start": None, "end": time.time()})
            return
        _become_subreaper()
        records.write(records.RECORD, self._record)
        self._script = self._fork(self._task["argv"])
        self._report()
        while True:
            self._wait()
            self._process_requests()
            self._reap()
            if self._status is not None and not self._has_processes():
                break
            self._enforce_time_limit()
        self._finish()

    def _wait(self) -> None:
        select.select([self._control, self._signals], [], [], self._kill_wait())
        for descriptor in (self._control, self._signals):
            try:
                os.read(descriptor, 4096)
            except BlockingIOError:
                continue

    def _kill_wait(self) -> float | None:
        moments = [moment for moment in (self._kill_at, self._limit_at()) if moment is not None]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _limit_at(self) -> float | None:
        if self._limit is None or self._kill_at is not None or self._record["state"] == "SUSPENDED":
            return None
        return self._resumed + self._limit - self._ran

    def _enforce_time_limit(self) -> None:
        now = time.monotonic()
        limit_at = self._limit_at()
        if limit_at is not None and now >= limit_at:
            self._stop("TIMEOUT", "TimeLimit")
        elif self._status is not None and self._kill_at is None:
            self._terminate()  # the script has ended, so end its remaining processes too
        elif self._kill_at is not None and now >= self._kill_at:
            from crestline.gateway.schedulers.local.supervisor import processes

            processes.send(processes.members(self._task["marker"]), signal.SIGKILL)
            self._kill_at = time.monotonic() + _KILL_AGAIN

    def _stop(self, state: str, reason: str) -> None:
        if self._verdict is None and self._status is None:
            self._verdict = (state, reason)
            self._terminate()

    def _terminate(self) -> None:
        from crestline.gateway.schedulers.local.supervisor import processes

        self._kill_at = time.monotonic() + self._task["kill_wait"]
        processes.send(processes.members(self._task["marker"]), signal.SIGTERM, signal.SIGCONT)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._script:
                self._status = status
            elif step := self._steps.pop(pid, None):
                state, exit_code, number = records.outcome(status)
                with suppress(OSError):  # the disk is full; `_end` tries again
                    records.end_step(".", step, state=state, end=time.time(), exit_code=exit_code, signal=number)
                self._report()

    def _has_processes(self) -> bool:
        if sys.platform == "linux":
            try:
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return False
            return True
        from crestline.gateway.schedulers.local.supervisor import processes

        return bool(processes.members(self._task["marker"]))

    def _finish(self) -> None:
        assert self._status is not None  # noqa: S101 - run() leaves its loop with it
        state, exit_code, number = records.outcome(self._status)
        reason = "None"
        if self._verdict:
            state, reason = self._verdict
        elif problem := records.read(records.LAUNCH_ERROR):
            reason = problem
        elif number:
            reason = f"RaisedSignal:{number}({signal.strsignal(number)})"
        elif exit_code:
            reason = "NonZeroExitCode"
        self._resume()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        scale = 1 if sys.platform == "darwin" else 1024
        usage: Usage = {"cpu_seconds": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss * scale}
        with suppress(OSError):  # the disk is full; the job's own record is more important
            records.write(records.USAGE, usage)
        self._record |= {"state": state, "reason": reason, "exit_code": exit_code, "signal": number}
        _end(self._task, {**self._record, "end": time.time()})

    def _process_requests(self) -> None:
        if os.path.exists(records.CANCEL):
            self._stop("CANCELLED", "None")
        for name in sorted(os.listdir(records.REQUESTS)):
            if name.endswith(".json"):
                path = os.path.join(records.REQUESTS, name)
                request: Request = records.read(path)
                os.unlink(path)
                try:
                    error = self._do(request)
                except OSError as problem:
                    error = str(problem)
                self._report(name.removesuffix(".json"), error)

    def _do(self, request: Request) -> str:
        """Carry out a request and return an error message, or an empty string."""
        if self._verdict or self._status is not None:
            return "The job is ending."
        if request["action"] == "attach":
            step: Step = {
                "id": "",
                "name": os.path.basename(request["argv"][0]),
                "state": "RUNNING",
                "start": time.time(),
                "end": None,
                "exit_code": None,
                "signal": None,
            }
            step = records.add_step(".", step)
            self._steps[self._fork(request["argv"], step=step)] = step
        elif request["action"] == "suspend" and self._record["state"] == "RUNNING":
            from crestline.gateway.schedulers.local.supervisor import processes

            processes.stop(self._task["marker"])
            self._ran += time.monotonic() - self._resumed
            self._record |= {"state": "SUSPENDED", "suspended_since": time.time()}
            records.write(records.RECORD, self._record)
        elif request["action"] == "resume" and self._record["state"] == "SUSPENDED":
            from crestline.gateway.schedulers.local.supervisor import processes

            processes.send(processes.members(self._task["marker"]), signal.SIGCONT)
            self._resumed = time.monotonic()
            self._resume()
            self._record["state"] = "RUNNING"
            records.write(records.RECORD, self._record)
        return ""

    def _resume(self) -> None:
        if (since := self._record["suspended_since"]) is not None:
            self._record["suspended"] += time.time() - since
            self._record["suspended_since"] = None

    def _report(self, request: str = "", error: str = "") -> None:
        records.notify(self._task["wake"], f"{os.path.basename(os.getcwd())} {request} {error}".rstrip())

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self._stop("NODE_FAIL", "SupervisorTerminated")

    def _fork(self, argv: list[str], *, step: Step | None = None) -> int:
        """Start a program of the job: the script, or a step whose output is discarded."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # the child has our handler until it resets it
        pid = os.fork()
        if pid == 0:
            _exec(self._task, argv, self._script, step)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return pid


def _exec(task: Task, argv: list[str], group: int, step: Step | None) -> NoReturn:
    """In the new process: replace it by the program, in the process group of the script."""
    message = ""
    environment = task["environment"]
    home = os.open(".", os.O_RDONLY)
    try:
        os.setpgid(0, group)
        for number in _USUAL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.chdir(task["directory"])
        if step is None:
            _redirect(task)
            for warning in task["warnings"]:
                os.write(2, f"crestline: warning: {warning}\n".encode())
        else:
            environment = environment | {"SLURM_STEP_ID": step["id"], "SLURM_STEPID": step["id"]}
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
        message = f"Cannot run {argv[0]}"
        os.execvpe(argv[0], argv, environment)  # noqa: S606
    except OSError as error:
        where = f" {error.filename}" if error.filename and error.filename != argv[0] else ""
        message = f"{message or 'Cannot start the job'}:{where} {error.strerror}"
        if step is None:
            os.fchdir(home)
            records.write(records.LAUNCH_ERROR, message)
            os.write(2, f"crestline: error: {message}\n".encode())
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(127)  # in any case, the child must not continue as a second supervisor


def _redirect(task: Task) -> None:
    mode = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if task["append"] else os.O_TRUNC)
    os.dup2(os.open(task["stdin"], os.O_RDONLY), 0)
    os.dup2(os.open(task["stdout"], mode, 0o666), 1)
    os.dup2(1 if task["stderr"] == task["stdout"] else os.open(task["stderr"], mode, 0o666), 2)


def _open_fifo(path: str) -> int:
    with suppress(FileExistsError):
        os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK)  # read and write, so that it never reads as closed


def _become_subreaper() -> None:
    if sys.platform == "linux":
        import ctypes

        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
