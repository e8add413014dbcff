"""The backend as ReFrame's own objects call it, in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import reframe.core.runtime as rt
from reframe.core.backends import getlauncher, getscheduler
from reframe.core.exceptions import JobSchedulerError
from reframe.core.schedulers import Job

from crestline.client import System
from crestline.model import Job as CrestlineJob
from crestline.model import JobState, Node, Partition, Reservation
from crestline_reframe import NAME, close_all
from crestline_reframe.nodes import Nodes
from crestline_reframe.runs import Run
from harness.reframe_suite import Suite


class _Site:
    """Answers as a system behind a gateway does, and is its own run."""

    def __init__(self, *defaults: bool | None) -> None:
        self._partitions = [
            Partition(name=f"p{number}", default=default) for number, default in enumerate(defaults, start=1)
        ]

    async def nodes(self) -> list[Node]:
        partitions = [each.name for each in self._partitions]
        words = {"n1": "MAINT", "n2": "IDLE+MAINTENANCE+RESERVED", "n3": "IDLE", "n4": "IDLE+MAINT+DRAIN"}
        return [
            Node(
                name=name,
                states=frozenset(word.split("+")),
                partitions=frozenset(partitions[:1] if name == "n3" else partitions),
                features=frozenset({"f"}),
            )
            for name, word in words.items()
        ]

    async def partitions(self) -> list[Partition]:
        return self._partitions

    async def reservations(self) -> list[Reservation]:
        return [Reservation(name="upkeep", nodes="n[1-2,4]"), Reservation(name="course", nodes="n3")]

    def call(self, question: Callable[[System], Coroutine[Any, Any, Any]]) -> Any:
        coroutine = question(cast("System", self))
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("the answer should be there at once")


@pytest.fixture
def make_job(on_local: Suite, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Jobs of the only partition."""
    monkeypatch.chdir(on_local.place)

    def make(site: _Site | None = None, **arguments: Any) -> Any:
        scheduler = getscheduler(NAME)(part_name="normal")
        if site is not None:
            scheduler._cached_nodes = Nodes(cast("Run", site))
            scheduler._options = msgspec.structs.replace(scheduler._options, scheduler="slurm")
        files = {name: str(on_local.place / f"job.{end}") for name, end in (("stdout", "out"), ("stderr", "err"))}
        script = str(on_local.place / "job.sh")
        return Job.create(
            scheduler,
            getlauncher("local")(),
            name="job",
            workdir=str(on_local.place),
            script_filename=script,
            **files,
            **arguments,
        )

    with rt.temp_runtime(str(on_local.settings()), "remote:normal"):
        yield make
    close_all()


def test_a_cancelled_job_that_is_waited_for_has_a_state(make_job: Callable[..., Any], on_local: Suite) -> None:
    for _ in range(2):  # the second is no more out of time than the first
        job = make_job()
        job.prepare(["sleep 600"])
        job.submit()
        job.cancel()
        job.wait()
        assert job.finished()
        assert job.state == "CANCELLED"


def test_a_job_that_could_not_be_started_says_so(make_job: Callable[..., Any]) -> None:
    job, has_ended = make_job(), threading.Event()
    has_ended.set()
    seen = CrestlineJob(job_id="7", state=JobState.FAILED, exit_code=0, signal=53)
    job._tracked = SimpleNamespace(job=seen, ended=has_ended, stage_dir=None, pack=None, error="", submitted_at=0.0)
    job.scheduler._update_job(job)
    assert "could not be started. Check that its working directory" in str(job.exception)


@pytest.mark.parametrize(
    ("defaults", "state", "option", "tasks"),
    [
        ((False, True), "all", "--constraint=f", 2),  # n1 and n4; n2 is reserved
        ((False, False), "all", "--constraint=f", 3),  # Slurm has no default either: no filter
        ((None,), "all", "--constraint=f", 3),
        ((True,), "idle", "--constraint=f", 1),
        ((True,), "avail", "--reservation=upkeep", 2),  # not the one that is drained
        ((True,), "avail", "--reservation=course", 1),
    ],
)
def test_nodes_that_a_flexible_job_takes(
    make_job: Callable[..., Any], defaults: tuple[bool | None, ...], state: str, option: str, tasks: int
) -> None:
    job = make_job(_Site(*defaults), sched_flex_alloc_nodes=state, sched_options=[option])
    job.num_tasks, job.num_tasks_per_node = 0, 1
    job.prepare(["true"])
    assert job.num_tasks == tasks


def test_a_default_partition_that_no_one_tells_has_to_be_named(make_job: Callable[..., Any]) -> None:
    job = make_job(_Site(None, None), sched_flex_alloc_nodes="all")
    job.num_tasks, job.num_tasks_per_node = 0, 1
    with pytest.raises(JobSchedulerError, match=r"p1, p2 .* 'access'"):
        job.prepare(["true"])
