"""The runs of this process: one for each gateway, system and base directory, shared by all partitions there."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import reframe.core.runtime as rt

from crestline_reframe.options import Options
from crestline_reframe.runs import Run

_LAST_WORDS = 2.5
"""seconds that all cancellations of an interrupted session have together"""
_INTERRUPTED_FAREWELL = 10.0
"""seconds for cleaning up behind it; what is left is the next run's to remove"""

_runs: dict[tuple[Options, Path], Run] = {}
_interrupted_at: float | None = None


def run_of(options: Options) -> Run:
    """The run for these options, begun by the first who asks."""
    runtime = rt.runtime()
    stage_prefix = Path(runtime.stage_prefix).absolute()
    key = (options, stage_prefix)
    if key not in _runs:
        keep = bool(runtime.get_option("general/0/keep_stage_files"))
        _runs[key] = Run(options, Path(runtime.prefix).absolute(), stage_prefix, keep=keep)
    return _runs[key]


def all_runs() -> Iterator[Run]:
    """Those that were begun."""
    return iter(list(_runs.values()))


def is_out_of_time() -> bool:
    """Whether those who wait for their cancellation have waited long enough, since the first of them asked."""
    global _interrupted_at  # noqa: PLW0603 - a process is interrupted once
    if _interrupted_at is None:
        _interrupted_at = time.monotonic()
    return time.monotonic() - _interrupted_at > _LAST_WORDS


def close_all() -> None:
    """End all runs and clean up behind them."""
    global _interrupted_at  # noqa: PLW0603
    while _runs:
        run = _runs.popitem()[1]
        if _interrupted_at is None:
            run.close()
        else:
            run.close(_INTERRUPTED_FAREWELL)
    _interrupted_at = None


# Earlier than `atexit`: there, an event loop can no longer look up names.
threading._register_atexit(close_all)  # type: ignore[attr-defined]
