"""The state of jobs, written in the event loop and read in ReFrame's thread."""

from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from crestline import clock
from crestline.client import JobEvent
from crestline.model import Job, JobState
from crestline_reframe.inputs import Inputs
from crestline_reframe.stage_dirs import StageDir

_NODES = re.compile(r"^#SBATCH (?:--nodelist[= ]|-w *)(\S+)", re.MULTILINE)


@dataclass(eq=False)
class TrackedJob:
    """A job with its files and its progress. Written in the event loop, read in ReFrame's thread."""

    stage_dir: StageDir
    phase: str
    """`build` or `run`."""
    test: str
    """Name of the test, for reports and the journal."""
    script: str
    """Text of ReFrame's script, with local paths."""
    own_files: frozenset[str]
    """The job's script and outputs, which are not inputs."""
    outputs: tuple[str, ...]
    """Patterns of files that are always fetched."""
    collect_new: bool = True
    """Whether all files that the job has written are fetched."""
    is_array: bool = False
    is_packable: bool = False
    key: str = ""
    is_key_new: bool = True
    """False if an earlier process may have submitted a job with the key."""

    job: Job | None = None
    """The job in its last known state."""
    waits_for: str = ""
    """The scheduler's reason while the job is pending."""
    error: str = ""
    """Why it can never end successfully."""
    results_fetched: bool = False
    """Whether its results have been fetched."""
    has_files: bool = False
    """Whether the results include files."""
    is_cancelled: bool = False
    was_refused: bool = False
    """Whether the scheduler refused further jobs at its last submission."""
    is_submitting: bool = False
    """Whether the request to submit it has been sent."""
    pack: Pack | None = None
    """The group of tests with which it is one job."""
    submitted_at: float | None = None
    inputs: Inputs | None = None
    """Content of its stage directory when ReFrame submitted it."""
    prologue: list[str] = field(default_factory=list)
    """Lines of the remote script that copy the inputs into the stage directory."""

    requests: float = 0.0
    """Its share of the requests so far."""
    sent: float = 0.0
    received: float = 0.0

    def __post_init__(self) -> None:
        self.ended = threading.Event()
        """Set when it has ended and its results are here, or it never will."""
        self.released = threading.Event()
        """Set as `ended`, or when its cancellation has been requested."""
        self.settled = asyncio.Event()
        """Set when it is known whether a job exists; for the event loop."""

    @cached_property
    def nodes(self) -> str:
        """The hostlist that its script requests; empty: none."""
        match = _NODES.search(self.script)
        return match[1] if match else ""

    def accepted(self, job: Job) -> None:
        """Record its submitted job."""
        self.job = job
        self.submitted_at = clock.time()
        self.settled.set()

    def update(self, event: JobEvent) -> None:
        """Apply an event of the monitor. If the state is unknown, the last one stays."""
        if event.state is JobState.UNKNOWN:
            return
        self.job = event.job
        self.waits_for = event.reason if event.state is JobState.PENDING else ""

    def not_submitted(self) -> None:
        """Record that the scheduler did not accept it, so that it is submitted again."""
        self.was_refused, self.is_submitting, self.pack = True, False, None
        self.settled.set()  # for the current waiters
        self.settled.clear()

    def reset(self) -> None:
        """Forget the job of an earlier process."""
        self.job, self.waits_for, self.submitted_at = None, "", None
        self.results_fetched = self.has_files = False
        self.settled.clear()

    def end(self, error: str = "") -> None:
        """Record its end, and wake those that wait for it."""
        self.error = self.error or error
        self.settled.set()
        self.ended.set()
        self.released.set()

    @property
    def queue_seconds(self) -> float | None:
        """Seconds from submission to start; None if the scheduler does not report them."""
        times = self.job.times if self.job else None
        if times is None or times.submit is None or times.start is None:
            return None
        return float(max(times.start - times.submit, 0))

    @property
    def run_seconds(self) -> float | None:
        """Seconds from start to end; None if the scheduler does not report them."""
        times = self.job.times if self.job else None
        if times is None or times.start is None or times.end is None:
            return None
        return float(max(times.end - times.start, 0))


@dataclass(eq=False)
class Pack:
    """Several tests as one job."""

    tests: list[TrackedJob]
    kind: Literal["array", "allocation"]
    job_id: str = ""

    @property
    def is_unwanted(self) -> bool:
        """Whether ReFrame no longer waits for any of its tests."""
        return all(tracked.is_cancelled or tracked.ended.is_set() for tracked in self.tests)

    def element(self, tracked: TrackedJob) -> str:
        """Return the job id with the state of this test."""
        return f"{self.job_id}_{self.tests.index(tracked)}" if self.kind == "array" else self.job_id
