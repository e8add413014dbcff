"""Tasks that begin in the triggerer, on Airflow's real TriggerRunner, at moments that a whole Airflow seldom hits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from airflow.triggers.base import TaskSuccessEvent

from crestline.testing.firecrest import PlainFirecrest, running
from crestline_airflow.operators import FirecRESTSubmitOperator
from crestline_airflow.triggers import FirecRESTJobTrigger, FirecRESTSubmitTrigger
from harness import triggerer
from harness.seeming_jobs import add_jobs, end_jobs
from harness.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def plain(define: Any) -> Iterator[PlainFirecrest]:
    with running() as plain:
        define(plain)
        yield plain


def trigger_of(plain: PlainFirecrest, script: str) -> FirecRESTSubmitTrigger:
    operator = FirecRESTSubmitOperator(task_id="job", system=plain.system, script=script, start_from_trigger=True)
    return FirecRESTSubmitTrigger(**operator.start_trigger_args.trigger_kwargs)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_kill_while_the_job_is_submitted_leaves_no_job(plain: PlainFirecrest, when: str) -> None:
    """The gateway has not yet submitted the job, or has not yet said so."""
    rule = plain.faults.delay(3.0, path="/jobs", method="POST", when=when)
    async with triggerer.running() as at_work:
        number = at_work.add(trigger_of(plain, "#!/bin/bash\nsleep 600\n"))
        await until(lambda: rule.count == 0 if when == "before" else plain.jobs())
        at_work.supervisor.state = "failed"
        at_work.cancel(number)
        await until(lambda: [job.state.split()[0] for job in plain.jobs()] == ["CANCELLED"])
        await until(lambda: at_work.waiting == 0)


async def test_a_triggerer_that_has_lost_the_task_leaves_its_job(plain: PlainFirecrest) -> None:
    async with triggerer.running() as at_work:
        number = at_work.add(trigger_of(plain, "#!/bin/bash\nsleep 600\n"))
        await until(lambda: at_work.supervisor.xcoms and [job.state for job in plain.jobs()] == ["RUNNING"])
        at_work.cancel(number)
        await until(lambda: at_work.waiting == 0)
        assert [job.state for job in plain.jobs()] == ["RUNNING"]


@pytest.mark.parametrize("again", [False, True])
async def test_a_deleted_task_instance_cancels_its_job(plain: PlainFirecrest, again: bool) -> None:
    """Airflow deletes its XComs, makes another one of the same names, and says that the task is deferred."""
    script = "#!/bin/bash\nsleep 600\n"
    async with triggerer.running() as at_work:
        number = at_work.add(trigger_of(plain, script), task_id="job")
        await until(lambda: [job.state for job in plain.jobs()] == ["RUNNING"] and len(at_work.supervisor.xcoms) >= 3)
        at_work.supervisor.xcoms.clear()
        if again:
            at_work.add(trigger_of(plain, script), task_id="job")
            await until(lambda: [job.state for job in plain.jobs()] == ["RUNNING", "RUNNING"])
            await until(lambda: len(at_work.supervisor.xcoms) >= 3)
        at_work.cancel(number)
        await until(lambda: plain.jobs()[0].state.startswith("CANCELLED"))
        assert [job.state for job in plain.jobs()[1:]] == ["RUNNING"] * again


async def test_the_next_try_cancels_a_job_whose_id_no_triggerer_recorded(plain: PlainFirecrest) -> None:
    """Its triggerer was killed between the submission and the record; then a user cleared the task."""
    script = "#!/bin/bash\nsleep 600\n"
    async with triggerer.running() as at_work:
        number = at_work.add(trigger_of(plain, script), task_id="job")
        await until(lambda: [job.state for job in plain.jobs()] == ["RUNNING"] and len(at_work.supervisor.xcoms) >= 3)
        at_work.cancel(number)
        await until(lambda: at_work.waiting == 0)
        place = next(each for each in at_work.supervisor.xcoms if each[-1] == "firecrest_job")
        at_work.supervisor.xcoms[place] |= {"job_id": None}
        at_work.add(trigger_of(plain, script), task_id="job")
        await until(lambda: [job.state.split()[0] for job in plain.jobs()] == ["CANCELLED", "RUNNING"])


async def test_a_new_task_asks_for_one_xcom_that_is_not_there(plain: PlainFirecrest) -> None:
    async with triggerer.running() as at_work:
        at_work.add(trigger_of(plain, "#!/bin/bash\necho done\n"))
        await until(lambda: at_work.events)
    assert at_work.supervisor.missed == ["firecrest_job"]


@pytest.mark.parametrize("stored", ["of this job", "of another job", "none"])
async def test_a_deferred_task_ends_in_the_triggerer_with_its_own_job_alone(plain: PlainFirecrest, stored: str) -> None:
    """SQLite gives the number of a deleted task instance's trigger to that of the one made anew."""
    job_id, other = add_jobs(plain, 2)
    end_jobs(plain)
    trigger = FirecRESTJobTrigger("firecrest_default", plain.system, job_id, end_from_trigger=True)
    async with triggerer.running() as at_work:
        if stored != "none":
            place = ("scale", "run", "task_1", -1, "job_id")
            at_work.supervisor.xcoms[place] = job_id if stored == "of this job" else other
        number = at_work.add(trigger)
        await until(lambda: at_work.events)
    event = at_work.events[number]
    if stored == "of this job":
        assert isinstance(event, TaskSuccessEvent)
        assert event.xcoms is not None
        assert event.xcoms["return_value"]["job_id"] == job_id
    else:
        assert event.payload["state"] == "completed"
