"""ReFrame's suites on supercomputers through FirecREST v2: the scheduler backend `firecrest-scheduler`.

`import crestline_reframe` in a settings file registers it. `scheduler` is the class that ReFrame calls, `job` its job
class. `runs` handles all jobs of a run in its own event loop. `staging`, `stage_dirs` and `scripts` decide what is
transferred and map paths in scripts, `packing` joins tests into one job, `journal` lets a run resume an interrupted
one, and `reports` adds to the run report.
"""

from __future__ import annotations

from pathlib import Path

from crestline_reframe import reports
from crestline_reframe.job import FirecrestJob
from crestline_reframe.scheduler import NAME, FirecrestJobScheduler
from crestline_reframe.sessions import close_all, show_outages

__all__ = ["NAME", "FirecrestJob", "FirecrestJobScheduler", "close_all", "fragment"]

reports.install()
show_outages()


def fragment() -> Path:
    """Return the settings file to name first in `RFM_CONFIG_FILES`, for sites that are configured in YAML or JSON."""
    return Path(__file__).with_name("settings.py")
