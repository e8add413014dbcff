"""`crestline gitlab`: what a runner's `[runners.custom]` calls."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crestline.model import CrestlineError
from crestline_gitlab_runner import log
from crestline_gitlab_runner.ci_job import CiJob
from crestline_gitlab_runner.failures import BuildFailureError, SystemFailureError
from crestline_gitlab_runner.settings import Settings, load_settings

if TYPE_CHECKING:
    from crestline.client import System

_RUNNER = os.getppid()
"""The runner's pid, read before anything slow."""


def main(arguments: list[str]) -> int:
    """GitLab Runner custom executor: config, prepare, run, cleanup, gc."""
    asked = _parser().parse_args(arguments)
    match asked.command:
        case "gc":
            return _collect_garbage(asked.config)
        case "config":
            return _stage(asked.config, _config, to_log=sys.stderr)
        case "prepare":
            return _stage(asked.config, _prepare)
        case "cleanup":
            return _stage(asked.config, _cleanup)
        case _:
            return _stage(asked.config, lambda settings, job: _run_stage(settings, job, asked.script, asked.stage))


async def _config(settings: Settings, job: CiJob) -> None:
    from crestline_gitlab_runner.prepare import describe

    answer = await describe(settings, job, lambda: connected(settings, job))
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()


async def _prepare(settings: Settings, job: CiJob) -> None:
    from crestline_gitlab_runner.prepare import prepare

    await prepare(settings, job, lambda: connected(settings, job))


async def _run_stage(settings: Settings, job: CiJob, script: Path, stage: str) -> None:
    from crestline_gitlab_runner.prepare import load_state
    from crestline_gitlab_runner.stages import Stages

    if job.exit_code_file is not None:
        job.exit_code_file.unlink(missing_ok=True)
    stages = Stages(settings, job, load_state(settings, job), lambda: connected(settings, job))
    await stages.run(stage, script, _RUNNER)


async def _cleanup(settings: Settings, job: CiJob) -> None:
    from crestline_gitlab_runner.cleanup import clean_up

    await clean_up(settings, job, lambda: connected(settings, job))


def _collect_garbage(file: Path) -> int:
    async def work(settings: Settings) -> None:
        from crestline_gitlab_runner.cleanup import collect_garbage

        await collect_garbage(settings, lambda: connected(settings, None))

    try:
        _run(work(load_settings(file)))
    except Exception as error:
        _explain(_first(error))
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-c", "--config", metavar="FILE", type=Path, required=True, help="the driver's configuration")
    parser = argparse.ArgumentParser("crestline gitlab", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("config", "say where the job works (JSON on stdout)"),
        ("prepare", "submit the job; never waits for its nodes"),
        ("run", "run a stage"),
        ("cleanup", "end the job and remove everything"),
        ("gc", "remove what runners that crashed have left: jobs, workspaces, folders here"),
    ):
        command = commands.add_parser(name, parents=[common], help=what, description=what)
        if name == "run":
            command.add_argument("script", metavar="SCRIPT", type=Path, help="the stage's script")
            command.add_argument("stage", metavar="STAGE", help="its name")
    return parser


@contextlib.asynccontextmanager
async def connected(settings: Settings, job: CiJob | None) -> AsyncIterator[System]:
    """Connect to the system with the identity of the job."""
    gc.disable()  # imports create permanent objects, and collecting garbage meanwhile takes a quarter of the time
    from crestline.client import connect
    from crestline_gitlab_runner.identity import policy, project_client, site
    from crestline_gitlab_runner.state import folder_of

    gc.freeze()
    gc.enable()

    # For the runner's own identity, the directory of all jobs; for a project's, that of the one job that has proved to
    # know its secret.
    folder = folder_of(settings, job) if job and project_client(settings, job) else settings.state_dir
    session_cache = folder / "session_cache" if folder.exists() else None
    async with connect(site(settings, job), policy=policy(settings), session_cache=session_cache) as system:
        yield system


def _stage(file: Path, work: Callable[[Settings, CiJob], Coroutine[Any, Any, None]], *, to_log: Any = None) -> int:
    """Run a stage's work and return the exit code for the runner. A failure that the job did not cause is a system
    failure."""
    job: CiJob | None = None
    try:
        job = CiJob.of_this_process()
        _run(work(load_settings(file), job))
        return 0
    except BrokenPipeError:
        return _code(job, None)
    except asyncio.CancelledError:
        return _code(job, BuildFailureError("Cancelled.", code=128 + signal.SIGTERM))
    except Exception as error:
        found = _first(error)
        _explain(found, to_log)
        return _code(job, found)


def _code(job: CiJob | None, error: Exception | None) -> int:
    if job is None or not isinstance(error, BuildFailureError):
        return job.system_failure if job else int(os.environ.get("SYSTEM_FAILURE_EXIT_CODE", "2"))
    if error.code is not None and job.exit_code_file is not None:
        job.exit_code_file.write_text(f"{error.code}\n")
    return job.build_failure


def _explain(error: Exception, to_log: Any = None) -> None:
    text = str(error) if isinstance(error, CrestlineError) else f"{type(error).__name__} in the driver: {error}"
    if isinstance(error, CrestlineError) and not isinstance(error, BuildFailureError | SystemFailureError):
        text = "; ".join([text, *error.details[:2]])
    if to_log is not None:
        print(text, file=to_log)
        return
    with contextlib.suppress(BrokenPipeError):
        log.failure(text)


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run the work. SIGTERM and SIGINT cancel it, so that it can clean up."""

    async def cancellable() -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await work

    asyncio.run(cancellable())
