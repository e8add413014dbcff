"""The runs of this process: one for each gateway, system and base directory, shared by all partitions there."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import reframe.core.runtime as rt

from crestline_reframe.options import Options
from crestline_reframe.runs import Run

log = logging.getLogger(__name__)

_LAST_WORDS = 2.5
"""Seconds for all cancellations of an interrupted session together."""
_INTERRUPTED_FAREWELL = 10.0
"""Seconds for the clean-up afterwards. The next run removes the rest."""


class Paths(NamedTuple):
    """The directory in which ReFrame was started, and its prefixes, which it computes again from the working
    directory each time."""

    working_directory: Path
    prefix: Path
    stage_prefix: Path


_runs: dict[tuple[Options, Path, Path], Run] = {}
_interrupted_at: float | None = None


def current_paths() -> Paths:
    """Return ReFrame's paths, before it changes into a stage directory."""
    runtime = rt.runtime()
    return Paths(Path.cwd(), Path(runtime.prefix).absolute(), Path(runtime.stage_prefix).absolute())


def run_of(options: Options, paths: Paths) -> Run:
    """Return the run for these options; the first call creates it.

    Relative paths of the options are below the directory in which ReFrame was started, not the current one.
    """
    key = (options, paths.prefix, paths.stage_prefix)
    if key not in _runs:
        keep = bool(rt.runtime().get_option("general/0/keep_stage_files"))
        with contextlib.chdir(paths.working_directory):
            _runs[key] = Run(options, paths.prefix, paths.stage_prefix, keep=keep)
    return _runs[key]


def all_runs() -> Iterator[Run]:
    """Iterate over the runs of this process."""
    return iter(list(_runs.values()))


def is_out_of_time() -> bool:
    """Whether the time for cancellations is over, counted from the first one."""
    global _interrupted_at  # noqa: PLW0603 - a process is interrupted once
    if _interrupted_at is None:
        _interrupted_at = time.monotonic()
    return time.monotonic() - _interrupted_at > _LAST_WORDS


def close_all() -> None:
    """End all runs and clean up."""
    global _interrupted_at  # noqa: PLW0603
    while _runs:
        run = _runs.popitem()[1]
        if _interrupted_at is None:
            run.close()
        else:
            run.close(_INTERRUPTED_FAREWELL)
    _interrupted_at = None


class _OutageHandler(logging.Handler):
    """Shows the gateway's answers during an outage, which only delays the tests."""

    def emit(self, record: logging.LogRecord) -> None:
        log.warning(record.getMessage())


def show_outages() -> None:
    """Show outages of gateways on the terminal."""
    outages = logging.getLogger("crestline.client.backends.outages")
    outages.setLevel(logging.INFO)
    outages.addHandler(_OutageHandler())
    outages.propagate = False


# Earlier than `atexit`, when an event loop can no longer resolve names.
threading._register_atexit(close_all)  # type: ignore[attr-defined]
