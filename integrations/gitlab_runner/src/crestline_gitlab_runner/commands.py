"""`crestline gitlab`: what a runner's `[runners.custom]` calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from crestline.model import CrestlineError
from crestline_gitlab_runner import log
from crestline_gitlab_runner.ci_job import CiJob
from crestline_gitlab_runner.failures import BuildFailureError, SystemFailureError
from crestline_gitlab_runner.settings import Settings, load_settings

if TYPE_CHECKING:
    from crestline.client import System

app = typer.Typer(help="GitLab Runner custom executor.", no_args_is_help=True, rich_markup_mode=None)

Configuration = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The driver's configuration.")]


@app.command()
def config(file: Configuration) -> None:
    """Say where the job works (JSON on stdout)."""

    async def work(settings: Settings, job: CiJob) -> None:
        from crestline_gitlab_runner.preparing import describe

        answer = await describe(settings, job, lambda: connected(settings, job))
        sys.stdout.write(json.dumps(answer))
        sys.stdout.flush()

    _stage(file, work, to_log=sys.stderr)


@app.command()
def prepare(file: Configuration) -> None:
    """Submit the job; never waits for its nodes."""

    async def work(settings: Settings, job: CiJob) -> None:
        from crestline_gitlab_runner.preparing import prepare as submit

        await submit(settings, job, lambda: connected(settings, job))

    _stage(file, work)


@app.command()
def run(
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="The stage's script.")],
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="Its name.")],
    file: Configuration,
) -> None:
    """Run a stage."""

    async def work(settings: Settings, job: CiJob) -> None:
        from crestline_gitlab_runner.preparing import known_state
        from crestline_gitlab_runner.stages import Stages

        if job.exit_code_file is not None:
            job.exit_code_file.unlink(missing_ok=True)
        stages = Stages(settings, job, known_state(settings, job), lambda: connected(settings, job))
        await stages.run(stage, script)

    _stage(file, work)


@app.command()
def cleanup(file: Configuration) -> None:
    """End the job and remove everything."""

    async def work(settings: Settings, job: CiJob) -> None:
        from crestline_gitlab_runner.tidying import clean_up

        await clean_up(settings, job, lambda: connected(settings, job))

    _stage(file, work)


@app.command()
def gc(file: Configuration) -> None:
    """Remove what runners that crashed have left: jobs, workspaces, folders here."""

    async def work(settings: Settings) -> None:
        from crestline_gitlab_runner.tidying import collect_garbage

        await collect_garbage(settings, lambda: connected(settings, None))

    try:
        _run(work(load_settings(file)))
    except Exception as error:
        _explain(_first(error))
        raise typer.Exit(1) from None


@contextlib.asynccontextmanager
async def connected(settings: Settings, job: CiJob | None) -> AsyncIterator[System]:
    """The system, as whoever the job is."""
    from crestline.client import Policy, PollPolicy, connect
    from crestline_gitlab_runner.identity import site

    policy = Policy(poll=PollPolicy(shortest=0.5, longest=5.0))
    async with connect(site(settings, job), policy=policy) as system:
        yield system


def _stage(file: Path, work: Callable[[Settings, CiJob], Coroutine[Any, Any, None]], *, to_log: Any = None) -> None:
    """Do a stage's work and exit as the runner wants to be told; whatever is not the job's fault is ours."""
    job: CiJob | None = None
    try:
        job = CiJob.of_this_process()
        _run(work(load_settings(file), job))
    except BrokenPipeError:
        _exit(job, None)
    except asyncio.CancelledError:
        _exit(job, BuildFailureError("Cancelled.", code=128 + signal.SIGTERM))
    except Exception as error:
        found = _first(error)
        _explain(found, to_log)
        _exit(job, found)


def _exit(job: CiJob | None, error: Exception | None) -> NoReturn:
    if job is None or not isinstance(error, BuildFailureError):
        raise typer.Exit(job.system_failure if job else int(os.environ.get("SYSTEM_FAILURE_EXIT_CODE", "2")))
    if error.code is not None and job.exit_code_file is not None:
        job.exit_code_file.write_text(f"{error.code}\n")
    raise typer.Exit(job.build_failure)


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
    """Run it; SIGTERM and SIGINT cancel it, so that it can tidy up."""

    async def cancellable() -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await work

    asyncio.run(cancellable())
