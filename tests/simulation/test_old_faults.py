"""The simulation bites: faults that the client once had, or could have, are put back one by one, and found."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from crestline.client import submit_guard
from crestline.client.backends.firecrest import calls, errors, job_rows
from crestline.client.backends.firecrest import jobs as job_calls
from crestline.client.backends.firecrest.file_calls import FileCalls
from crestline.client.logs.sources import LineSource
from crestline.client.monitor import JobMonitor
from crestline.client.submission import tag
from crestline.gateway.replicas import Replicas
from crestline.gateway.submissions import Submissions
from crestline.model import CrestlineError, Job, JobNotFoundError
from crestline.testing.simulation import run
from crestline_airflow.attempts import Attempts
from crestline_gitlab_runner.allocation import Allocation
from crestline_gitlab_runner.command_channel import CommandChannel
from crestline_jupyterhub import FirecRESTSpawner
from crestline_jupyterhub.failures import SpawnFailedError
from crestline_reframe.job_runner import JobRunner
from crestline_reframe.journal import Journal
from crestline_reframe.tracked_job import TrackedJob

SEEDS = 2000
"""Number of seeds within which each fault has to be found."""
SPAWNING, REFRAMING = "simulation.spawning:Spawning", "simulation.reframing:Reframing"
DEFERRING, GATEWAYS = "simulation.deferring:Deferring", "simulation.gateways:Gateways"
BUILDING = "simulation.building:Building"
Patch = Callable[[pytest.MonkeyPatch], None]


def nameless_rows_decide(patch: pytest.MonkeyPatch) -> None:
    """The accounting's nameless row, really one element, was taken for the end of a whole array."""
    patch.setattr(job_rows, "ACCOUNTING_LAG", -math.inf)


def missing_elements_are_not_missed(patch: pytest.MonkeyPatch) -> None:
    """An array had ended when the elements that the accounting knew had."""
    patch.setattr(job_calls, "missing_element", lambda *_: None)


def clocks_agree(patch: pytest.MonkeyPatch) -> None:
    """How old a nameless row is was judged by the client's own clock."""
    patch.setattr(job_calls, "_answered", lambda _: job_rows.now())


def first_element_speaks(patch: pytest.MonkeyPatch) -> None:
    """An array that was found by its key was told with the state of one element."""
    real = tag._Submission._ours

    async def ours(submission: Any, rows: list[Job]) -> Job | None:
        found = await real(submission, rows)
        first = next((row for row in rows if found and row.job_id.startswith(f"{found.job_id}_")), found)
        return first and msgspec.structs.replace(first, job_id=found.job_id)

    patch.setattr(tag._Submission, "_ours", ours)


def last_element_speaks(patch: pytest.MonkeyPatch) -> None:
    """An array ended as the element did that was listed last, whatever the others came to."""
    patch.setattr("crestline.client.job_ids._speaker", lambda jobs: jobs[-1])


def nothing_locks(patch: pytest.MonkeyPatch) -> None:
    """Only the look before a repeat kept a job from running twice."""
    patch.setattr(submit_guard, "_lock_lines", lambda lock: [])


def duplicates_are_results(patch: pytest.MonkeyPatch) -> None:
    """A duplicate that had ended for the lock was told as the job that failed."""
    patch.setattr("crestline.client.monitor.is_duplicate", lambda job: False)


def gone_at_first_sight(patch: pytest.MonkeyPatch) -> None:
    """A job was gone as soon as one look missed it."""
    patch.setattr(JobMonitor, "_is_confirmed_missing", lambda monitor, entry, now: entry.missing_since is not None)


def errors_mean_gone(patch: pytest.MonkeyPatch) -> None:
    """A look-up that failed was an absence."""

    async def missing(monitor: Any, entries: Any, reason: str) -> None:
        for entry in entries:
            monitor._record_miss(entry)

    patch.setattr(JobMonitor, "_mark_unknown", missing)


def refused_tokens_are_kept(patch: pytest.MonkeyPatch) -> None:
    """A token that a server had refused was sent until it expired."""
    patch.setattr(calls.Calls, "_refusal", lambda self, response: errors.error_from_response(response))


def refusals_are_open(patch: pytest.MonkeyPatch) -> None:
    """A busy system's 424 and 503 left it open whether there is a job."""
    patch.setattr(errors, "_NOT_BEGUN", re.compile(r"(?!)"))


def failed_lists_start_anew(patch: pytest.MonkeyPatch) -> None:
    """A list that could not be had took back what the lists before had said of a job's absence."""
    real = tag._Submission._search

    async def look(submission: Any) -> Any:
        try:
            return await real(submission)
        except CrestlineError:
            if absences:
                absences[-1].__init__(submission._policy.visibility)
            raise

    absences: list[Any] = []

    class Absence(tag._AbsenceCheck):
        def __init__(self, visibility: float) -> None:
            super().__init__(visibility)
            absences.append(self)

    patch.setattr(tag, "_AbsenceCheck", Absence)
    patch.setattr(tag._Submission, "_search", look)


def cancelled_unasked(patch: pytest.MonkeyPatch) -> None:
    """A cancellation that was refused had been successful."""

    async def get(calls: Any, job_id: str, *, retry: bool = True) -> list[Job]:
        return []

    patch.setattr(job_calls.JobCalls, "get", get)


def uploads_are_believed(patch: pytest.MonkeyPatch) -> None:
    """An upload that the gateway had answered, or had been asked to repeat, was not compared with what is there."""

    async def same(*_: Any, **__: Any) -> bool:
        return True

    async def holds(*_: Any) -> bool:
        return True

    patch.setattr("crestline.client.files.upload_file.is_same", same)
    patch.setattr(FileCalls, "_holds", holds)


def empty_files_are_repeated_blindly(patch: pytest.MonkeyPatch) -> None:
    """FirecREST never answers the upload of an empty file; it was repeated without a look at what is there."""

    async def holds(*_: Any) -> bool:
        return False

    patch.setattr(FileCalls, "_holds", holds)
    uploads = sys.modules["crestline.client.files.upload"]  # the package has a function of this name
    patch.setattr(uploads, "_needs_archive", lambda *_: False)


def half_lines_are_told(patch: pytest.MonkeyPatch) -> None:
    """A line that was not whole yet was handed out, and again when it was."""

    def take(source: LineSource, text: str) -> str:
        source._lines += text.count("\n")
        return text

    patch.setattr(LineSource, "_feed", take)


def restarted_hub_waits_without_end(patch: pytest.MonkeyPatch) -> None:
    """After its restart the hub's check of a queued server waited for the server's address, however long that took."""

    async def get_url(spawner: FirecRESTSpawner) -> str:
        try:
            return await spawner._find_url()
        except SpawnFailedError:
            return "http://127.0.0.1:1"

    patch.setattr(FirecRESTSpawner, "get_url", get_url)


def cancelled_jobs_are_adopted(patch: pytest.MonkeyPatch) -> None:
    """A run continued with the jobs that the run before had cancelled itself."""
    real = JobRunner._problem_of_resumed

    async def no_problem(runner: JobRunner, tracked: TrackedJob) -> str:
        await real(runner, tracked)
        return ""

    patch.setattr(JobRunner, "_problem_of_resumed", no_problem)
    patch.setattr(Journal, "abandoned", lambda *_: None)


def lost_results_are_final(patch: pytest.MonkeyPatch) -> None:
    """A test never ran again as long as the journal had a job of it whose results could not be had."""

    async def follow(runner: JobRunner, tracked: TrackedJob) -> str:
        await runner._follow(tracked)
        return ""

    patch.setattr(JobRunner, "_problem_of_resumed", follow)


def lost_triggers_cancel(patch: pytest.MonkeyPatch) -> None:
    """A triggerer that had lost a trigger to another one cancelled its job."""

    async def still_waits(_: Any) -> bool:
        return False

    patch.setattr("crestline_airflow.triggers.FirecRESTSubmitTrigger._is_deferred", still_waits)


def cleared_tries_are_recorded(patch: pytest.MonkeyPatch) -> None:
    """A submission that outlived its cleared try recorded its job over that of the next try."""
    patch.setattr(Attempts, "is_last", lambda *_: True)


def claims_are_kept(patch: pytest.MonkeyPatch) -> None:
    """A gateway whose scheduler did not answer kept a key to itself, so that the others refused it for two minutes."""

    async def release(*_: Any) -> None: ...

    patch.setattr(Submissions, "_release", release)


def all_others_are_dead(patch: pytest.MonkeyPatch) -> None:
    """A gateway took over what another one was still at work on."""

    async def is_dead(replicas: Replicas, replica: str | None) -> bool:
        return replica != replicas.id

    patch.setattr(Replicas, "is_dead", is_dead)


def open_keys_are_new(patch: pytest.MonkeyPatch) -> None:
    """A key whose submission had an open outcome was submitted again without a look."""
    real = Submissions._settle

    async def settle(submissions: Submissions, *args: Any, is_new: bool) -> str:
        return await real(submissions, *args, is_new=True)

    patch.setattr(Submissions, "_settle", settle)


def orders_are_sent_once(patch: pytest.MonkeyPatch) -> None:
    """An order that the gateway had not taken after three requests failed its CI job."""
    patch.setattr(CommandChannel, "_put", CommandChannel._write)


def hidden_jobs_are_left(patch: pytest.MonkeyPatch) -> None:
    """The clean-up of a CI job took a job that could not be seen yet for one that is gone."""
    real = Allocation.cancel

    async def cancel(allocation: Allocation, *, long_ago: bool = False) -> None:
        for job_id in await allocation._possible_ids(long_ago):
            try:
                await allocation._system.job(job_id)
            except JobNotFoundError:
                return
        await real(allocation, long_ago=long_ago)

    patch.setattr(Allocation, "cancel", cancel)


OLD_FAULTS: dict[Patch, tuple[str, int]] = {
    nameless_rows_decide: ("submission", 166),
    missing_elements_are_not_missed: ("submission", 400),
    clocks_agree: ("submission", 1158),
    first_element_speaks: ("submission", 21),
    last_element_speaks: ("submission", 21),
    nothing_locks: ("submission", 5),
    duplicates_are_results: ("submission", 5),
    gone_at_first_sight: ("submission", 2),
    errors_mean_gone: ("submission", 7),
    refused_tokens_are_kept: ("submission", 10),
    refusals_are_open: ("submission", 103),
    failed_lists_start_anew: ("submission", 748),
    uploads_are_believed: ("copying", 9),
    empty_files_are_repeated_blindly: ("copying", 0),
    half_lines_are_told: ("following", 4),
    restarted_hub_waits_without_end: (SPAWNING, 115),
    cancelled_jobs_are_adopted: (REFRAMING, 1),
    lost_results_are_final: (REFRAMING, 1),
    cancelled_unasked: ("watching", 1),
    lost_triggers_cancel: (DEFERRING, 12),
    cleared_tries_are_recorded: (DEFERRING, 1372),
    claims_are_kept: (GATEWAYS, 108),
    all_others_are_dead: (GATEWAYS, 24),
    open_keys_are_new: (GATEWAYS, 7),
    orders_are_sent_once: (BUILDING, 66),
    hidden_jobs_are_left: (BUILDING, 248),
}
"""Each with the subject and the first seed that finds it; `test_the_first_seed` searches for it anew."""


@pytest.mark.parametrize("put_back", OLD_FAULTS, ids=lambda each: each.__name__)
def test_an_old_fault_is_found(put_back: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, seed = OLD_FAULTS[put_back]
    assert run(subject, seed).violation is None
    put_back(monkeypatch)
    assert run(subject, seed).violation is not None, "After a change of the simulation, search for another seed."


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("put_back", OLD_FAULTS, ids=lambda each: each.__name__)
def test_the_first_seed(put_back: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, seed = OLD_FAULTS[put_back]
    put_back(monkeypatch)
    assert next((each for each in range(SEEDS) if run(subject, each).violation is not None), None) == seed
