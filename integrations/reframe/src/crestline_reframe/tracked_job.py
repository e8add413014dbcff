"""The jobs of ReFrame on their way: what the event loop learns of them, for ReFrame's thread to read."""

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
    """What to run and where, and how far it is. Written in the event loop, read in ReFrame's thread."""

    stage_dir: StageDir
    phase: str
    """`build` or `run`"""
    test: str
    """who it is for, in reports and in the journal"""
    script: str
    """the text that ReFrame has written, with local paths"""
    own_files: frozenset[str]
    """the job's script and outputs, which are not input"""
    outputs: tuple[str, ...]
    """patterns of files that come back in any case"""
    collect_new: bool = True
    """whether also everything comes back that the job has written"""
    is_array: bool = False
    is_packable: bool = False
    key: str = ""
    is_key_new: bool = True
    """False if an earlier process may have submitted a job under the key"""

    job: Job | None = None
    """the job in its last known state"""
    waits_for: str = ""
    """the scheduler's reason while the job is pending"""
    error: str = ""
    """why it can never end well"""
    results_fetched: bool = False
    """whether its results have been fetched"""
    has_files: bool = False
    """whether the results include files"""
    is_cancelled: bool = False
    was_refused: bool = False
    """whether the scheduler took no more jobs when it was last submitted"""
    is_submitting: bool = False
    """whether the request has gone out that may make it a job"""
    pack: Pack | None = None
    """the tests with which it is one job"""
    submitted_at: float | None = None
    inputs: Inputs | None = None
    """what its stage directory held when it was handed over"""
    prologue: list[str] = field(default_factory=list)
    """lines of the remote script that bring the inputs into the stage directory"""

    requests: float = 0.0
    """its share of the requests made so far"""
    sent: float = 0.0
    received: float = 0.0

    def __post_init__(self) -> None:
        self.ended = threading.Event()
        """it has ended and its results are here, or it never will"""
        self.released = threading.Event()
        """as `ended`, or the cancellation has been asked for"""
        self.settled = asyncio.Event()
        """it is known whether there is a job; for the event loop"""

    @cached_property
    def nodes(self) -> str:
        """The hostlist that its script asks for; empty: none."""
        match = _NODES.search(self.script)
        return match[1] if match else ""

    def accepted(self, job: Job) -> None:
        """Note the job under which it has been submitted."""
        self.job = job
        self.submitted_at = clock.time()
        self.settled.set()

    def update(self, event: JobEvent) -> None:
        """Apply an event of the monitor; if the state is unknown, the last one stays."""
        if event.state is JobState.UNKNOWN:
            return
        self.job = event.job
        self.waits_for = event.reason if event.state is JobState.PENDING else ""

    def not_submitted(self) -> None:
        """Note that the scheduler did not take it now, so that it is to be submitted again."""
        self.was_refused, self.is_submitting, self.pack = True, False, None
        self.settled.set()  # for those who wait at present
        self.settled.clear()

    def reset(self) -> None:
        """Forget the job of an earlier process."""
        self.job, self.waits_for, self.submitted_at = None, "", None
        self.results_fetched = self.has_files = False
        self.settled.clear()

    def end(self, error: str = "") -> None:
        """Note that nothing more will happen, and wake those that wait for it."""
        self.error = self.error or error
        self.settled.set()
        self.ended.set()
        self.released.set()

    @property
    def queue_seconds(self) -> float | None:
        """Seconds from submission to start; None where the scheduler does not say."""
        times = self.job.times if self.job else None
        if times is None or times.submit is None or times.start is None:
            return None
        return float(max(times.start - times.submit, 0))

    @property
    def run_seconds(self) -> float | None:
        """Seconds from start to end; None where the scheduler does not say."""
        times = self.job.times if self.job else None
        if times is None or times.start is None or times.end is None:
            return None
        return float(max(times.end - times.start, 0))


@dataclass(eq=False)
class Pack:
    """Several tests that are one job."""

    tests: list[TrackedJob]
    kind: Literal["array", "allocation"]
    job_id: str = ""

    @property
    def is_unwanted(self) -> bool:
        """Whether no test in it is waited for any more."""
        return all(tracked.is_cancelled or tracked.ended.is_set() for tracked in self.tests)

    def element(self, tracked: TrackedJob) -> str:
        """The job id that says how this test is."""
        return f"{self.job_id}_{self.tests.index(tracked)}" if self.kind == "array" else self.job_id
