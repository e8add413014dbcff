"""The `srun` of jobs: runs a program once per task and records it as a job step.

It supports the options `-n` (`--ntasks`) and `-N` (`--nodes`). It accepts srun's other options and ignores them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType

from crestline.gateway.schedulers.local.supervisor import records

# Options of srun(1) without a value. All others have one.
_FLAGS = frozenset("EHOQVXZhklquv") | {
    "contiguous", "disable-status", "exact", "exclusive", "help", "interactive", "kill-on-bad-exit", "label",
    "multi-prog", "no-allocate", "no-kill", "overcommit", "overlap", "oversubscribe", "preserve-env", "propagate",
    "pty", "quiet", "quit-on-interrupt", "spread-job", "unbuffered", "use-min-nodes", "verbose", "version", "wait-all",
}  # fmt: skip


def parse(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """Split srun's arguments into options (by name without dashes) and the command."""
    options: dict[str, str] = {}
    rest = list(argv)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
        else:
            name, value = word[1], word[2:]
            equals = value
            if name in _FLAGS:
                continue
        if not equals and name not in _FLAGS and rest:
            value = rest.pop(0)
        options[name] = value
    return options, rest


def run(argv: list[str]) -> int:
    """Run the command in all tasks and return the highest exit code; 128 and more for signals, as a shell does."""
    options, command = parse(argv)
    directory = os.environ.get(records.DIRECTORY)
    if not command or directory is None:
        return _fail("no command given" if directory else "this is not within a job", 1)
    wanted = options.get("n") or options.get("ntasks") or options.get("N") or options.get("nodes")
    wanted = (wanted or os.environ.get("SLURM_NTASKS", "1")).partition("-")[0]
    if not (wanted.isascii() and wanted.isdigit() and 0 < int(wanted) <= 10_000):
        return _fail(f"{wanted!r} is not a number of tasks", 1)
    count = int(wanted)
    step = records.add_step(
        directory,
        {
            "id": "",
            "name": os.path.basename(command[0]),
            "state": "RUNNING",
            "start": time.time(),
            "end": None,
            "exit_code": None,
            "signal": None,
        },
    )
    _send(directory)
    try:
        tasks = _start(command, count, step["id"])
        statuses = [task.wait() for task in tasks]
    except OSError as error:
        _fail(f"{command[0]}: {error.strerror}", 0)
        statuses = [127 if isinstance(error, FileNotFoundError) else 126]
    worst = max(statuses, key=abs)
    records.end_step(
        directory,
        step,
        state="FAILED" if worst else "COMPLETED",
        end=time.time(),
        exit_code=max(worst, 0),
        signal=max(-worst, 0),
    )
    _send(directory)
    return 128 - worst if worst < 0 else worst


def _start(command: list[str], count: int, step_id: str) -> list[subprocess.Popen[bytes]]:
    tasks: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: FrameType | None) -> None:
        for task in tasks:
            task.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, forward)
    for rank in range(count):
        environment = os.environ | {
            "SLURM_LOCALID": str(rank),
            "SLURM_NPROCS": str(count),
            "SLURM_NTASKS": str(count),
            "SLURM_PROCID": str(rank),
            "SLURM_STEPID": step_id,
            "SLURM_STEP_ID": step_id,
            "SLURM_STEP_NUM_TASKS": str(count),
        }
        tasks.append(subprocess.Popen(command, env=environment))
    return tasks


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"srun: error: {message}\n")
    return code


def _send(directory: str) -> None:
    task: records.Task = records.read(os.path.join(directory, records.TASK))
    records.notify(task["wake"], os.path.basename(directory))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
