"""A submission happens once, whatever gets lost on the way."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import crestline
from crestline.client import DUPLICATE_EXIT_CODE, System
from crestline.client.backends.messages import JobFilter
from crestline.client.submit_guard import lock_path, tag_in, tag_of, tagged_name, wrap_script
from crestline.model import (
    ConflictError,
    FileMissingError,
    GatewayUnavailableError,
    InvalidRequestError,
    Job,
    JobSpec,
    JobState,
    SubmitOutcomeUnknownError,
)
from crestline.testing.firecrest import PlainFirecrest, Rule, running
from harness.gateway import RunningGateway
from harness.sites import BRISK, gateway_site, plain_site
from harness.waiting import until

pytestmark = pytest.mark.anyio

OTHER_PROCESS = msgspec.structs.replace(BRISK, retry=msgspec.structs.replace(BRISK.retry, attempts=5))
"""A policy of its own, with which nothing is shared."""
QUICK = "#!/bin/bash\necho ran >> ran\n"
SLEEP = "#!/bin/bash\necho ran >> ran\nsleep 60\n"


@pytest.fixture
def plain() -> Iterator[PlainFirecrest]:
    with running(kill_wait=0.2, command_timeout=2.0, cpus_per_node=8) as plain:
        yield plain


@pytest.fixture
async def lab(plain: PlainFirecrest) -> AsyncIterator[System]:
    async with crestline.connect(plain_site(plain), policy=BRISK) as lab:
        yield lab


def ran(plain: PlainFirecrest) -> int:
    """How often the script got past its lock."""
    file = plain.home / "ran"
    return len(file.read_text().splitlines()) if file.exists() else 0


def lost(plain: PlainFirecrest, kind: str) -> None:
    """Let the answer to the next submission get lost, after it was accepted."""
    options: dict[str, Any] = {"path": "/jobs$", "method": "POST", "when": "after", "count": 1}
    if kind == "drop":
        plain.faults.drop(**options)
    elif kind == "garbage":
        plain.faults.garble(**options)
    else:
        plain.faults.fail(int(kind), **options)


# plain FirecREST


async def test_each_request_that_can_begin_a_job_is_confirmed(lab: System, plain: PlainFirecrest) -> None:
    """Where that is refused, no request leaves. The job that the key has is found all the same."""
    plain.faults.fail(503, path="/jobs$", method="POST", count=1)
    sent: list[int] = []

    async def confirm() -> None:
        sent.append(plain.count("POST", "/jobs"))
        if len(sent) > 1:
            raise ConflictError("the user has cleared the task")

    spec = JobSpec(script=SLEEP, name="scf")
    with pytest.raises(ConflictError):
        await lab.connection.submission.submit(spec, "dag/task/1", confirm=confirm)
    assert sent == [0, 1]
    assert (plain.count("POST", "/jobs"), plain.jobs()) == (1, [])
    job = await lab.submit(spec, key="dag/task/1")
    async with crestline.connect(plain_site(plain), policy=OTHER_PROCESS) as later:
        found = await later.connection.submission.submit(spec, "dag/task/1", confirm=confirm)
    assert (found.job_id, sent) == (job.job_id, [0, 1])


@pytest.mark.parametrize("kind", ["500", "408", "502", "503", "504", "424", "drop", "garbage"])
async def test_a_lost_answer(lab: System, plain: PlainFirecrest, kind: str) -> None:
    lost(plain, kind)
    job = await lab.submit(JobSpec(script=SLEEP, name="scf"), key="dag/task/1")
    assert [job.job_id] == [str(each.number) for each in plain.jobs()]
    assert plain.count("POST", "/jobs") == 1


@pytest.mark.parametrize("version", ["2.5.6", "2.6.0"])
async def test_a_lost_answer_while_the_job_is_invisible(version: str) -> None:
    with running(version=version) as plain:
        async with crestline.connect(plain_site(plain), policy=BRISK) as lab:
            plain.faults.fresh_job_404 = 0.4
            lost(plain, "500")
            job = await lab.submit(JobSpec(script=SLEEP), key="k")
            assert [job.job_id] == [str(each.number) for each in plain.jobs()]


async def test_a_lost_answer_while_the_job_has_no_name(lab: System, plain: PlainFirecrest) -> None:
    plain.faults.allocation_window = 2.0  # longer than it takes to believe that there is none
    lost(plain, "408")
    held = "#!/bin/bash\n#SBATCH --hold\n"  # it does not start, so no lock tells of it either
    job = await lab.submit(JobSpec(script=held), key="k")
    assert [job.job_id] == [str(each.number) for each in plain.jobs()]


@pytest.mark.parametrize("status", [500, 408, 503])
async def test_a_submission_that_did_not_happen_is_repeated(lab: System, plain: PlainFirecrest, status: int) -> None:
    plain.faults.fail(status, path="/jobs$", method="POST", when="before", count=2)
    job = await lab.submit(JobSpec(script=SLEEP), key="k")
    assert [job.job_id] == [str(each.number) for each in plain.jobs()]
    assert plain.count("POST", "/jobs") == 3


async def test_what_certainly_did_not_happen_is_repeated_at_once(lab: System, plain: PlainFirecrest) -> None:
    plain.faults.throttle(retry_after=0, path="/jobs$", method="POST", count=6)
    await lab.submit(JobSpec(script=SLEEP))
    assert plain.count("GET", "/jobs") == 0
    plain.down(seconds=0.5)
    await lab.submit(JobSpec(script=SLEEP))
    assert len(plain.jobs()) == 2


async def test_a_refusal_before_anything_ran_is_no_open_outcome(lab: System, plain: PlainFirecrest) -> None:
    for text in (
        {"status": 424},
        {"status": 503},
        {"status": 424, "body": '{"errorType":"error","message":"SSH connection pool capacity exceeded"}'},
        {"status": 408, "body": '{"errorType":"error","message":"SSH connection timeout limit exceeded."}'},
    ):
        plain.faults.add(Rule(path="/jobs$", method="POST", count=2, **text))
        await lab.submit(JobSpec(script=SLEEP))
    assert plain.count("GET", "/jobs") == 0
    assert (plain.count("POST", "/jobs"), len(plain.jobs())) == (12, 4)


async def test_a_busy_connection_delays_submissions_and_doubles_none(lab: System, plain: PlainFirecrest) -> None:
    plain.faults.max_sessions, plain.faults.command_time = 2, 0.02
    jobs = await asyncio.gather(*(lab.submit(JobSpec(script=QUICK)) for _ in range(20)))
    assert {job.job_id for job in jobs} == {job.id for job in plain.jobs()}
    assert any(seen.status == 424 for seen in plain.requests)
    assert plain.count("GET", "/jobs") == 0


async def test_what_was_refused_to_the_end_was_not_submitted(plain: PlainFirecrest) -> None:
    hasty = msgspec.structs.replace(BRISK, submit=msgspec.structs.replace(BRISK.submit, total_timeout=0.5))
    async with crestline.connect(plain_site(plain), policy=hasty) as lab:
        plain.faults.fail(424, path="/jobs$", method="POST", count=None)
        with pytest.raises(GatewayUnavailableError, match=r"was not submitted: .*Unable to open a new SSH") as caught:
            await lab.submit(JobSpec(script=SLEEP))
    assert not isinstance(caught.value, SubmitOutcomeUnknownError)


async def test_lists_that_fail_do_not_begin_the_absence_anew(plain: PlainFirecrest) -> None:
    slow = msgspec.structs.replace(BRISK.submit, visibility_timeout=1.0, poll_interval=0.3, total_timeout=6.0)
    async with crestline.connect(plain_site(plain), policy=msgspec.structs.replace(BRISK, submit=slow)) as lab:
        plain.faults.fail(408, path="/jobs$", method="POST")
        for number in range(1, 30):  # every other list
            plain.faults.fail(502, path="/jobs$", method="GET", skip=number)
        job = await lab.submit(JobSpec(script=SLEEP), key="k")
    assert [job.job_id] == [str(each.number) for each in plain.jobs()]


async def test_one_look_serves_all_keys_of_a_moment(lab: System, plain: PlainFirecrest) -> None:
    specs = [JobSpec(script=QUICK, name="sweep") for _ in range(200)]
    keys = [f"k{number}" for number in range(200)]
    first = await lab.submit_many(specs[:20], keys[:20])
    plain.requests.clear()
    jobs = await lab.submit_many(specs, keys)
    assert [job.job_id for job in jobs[:20]] == [job.job_id for job in first]
    assert len({job.job_id for job in jobs}) == len(plain.jobs()) == 200
    assert len(plain.requests) <= 190  # one each for those that are new
    plain.requests.clear()
    await asyncio.gather(*(lab.submit(spec, key=key) for spec, key in zip(specs, keys, strict=True)))
    assert len(plain.requests) <= 3
    assert len(plain.jobs()) == 200


@pytest.mark.parametrize("switch", ["list_413_above", "list_408_above"])
async def test_keys_are_looked_for_by_name_where_the_list_is_too_long(
    lab: System, plain: PlainFirecrest, switch: str
) -> None:
    keys = [f"k{number}" for number in range(20)]
    specs = [JobSpec(script=QUICK)] * 20
    first = await lab.submit_many(specs, keys)
    setattr(plain.faults, switch, 15)
    plain.requests.clear()
    async with crestline.connect(plain_site(plain), policy=OTHER_PROCESS) as other:
        again = await other.submit_many(specs, keys)
    assert [job.job_id for job in again] == [job.job_id for job in first]
    assert plain.count("POST", "/jobs") == 0
    assert plain.count("GET", "/jobs") <= 5, plain.requests


async def test_fresh_jobs_of_other_keys_keep_none_waiting(lab: System, plain: PlainFirecrest) -> None:
    plain.faults.allocation_window = 1e6
    for number in range(5):
        await lab.submit(JobSpec(script=QUICK), key=f"k{number}")
    assert plain.count("GET", "/jobs") == 5
    assert (await lab.submit(JobSpec(script=QUICK), key="k0")).job_id == "1"


async def test_an_array_is_found_by_its_own_id(lab: System, plain: PlainFirecrest) -> None:
    """Elements that run have ids of their own, and are listed by them also."""
    spec = JobSpec(script="#!/bin/bash\n[ $SLURM_ARRAY_TASK_ID = 2 ] || sleep 60\n", array="0-2")
    job = await lab.submit(spec, key="k")
    await until(lambda: plain.jobs(f"{job.job_id}_2")[0].is_over)
    async with crestline.connect(plain_site(plain), policy=OTHER_PROCESS) as other:
        assert (await other.submit(spec, key="k")).job_id == job.job_id
        plain.faults.accounting_lag = 1e6
        assert (await other.submit(spec, key="k")).job_id == job.job_id


async def test_a_found_array_has_not_ended_with_its_first_element(lab: System, plain: PlainFirecrest) -> None:
    spec = JobSpec(script="#!/bin/bash\n[ $SLURM_ARRAY_TASK_ID = 0 ] || sleep 60\n", array="0-2")
    job = await lab.submit(spec, key="k")
    await until(lambda: plain.jobs(f"{job.job_id}_0")[0].is_over)
    async with crestline.connect(plain_site(plain), policy=OTHER_PROCESS) as other:
        found = await other.submit(spec, key="k")
        assert (found.job_id, found.is_finished) == (job.job_id, False)
        for each in plain.jobs():
            plain.scheduler.end(each.id, "FAILED", exit_code=3)
        assert (await other.wait(await other.submit(spec, key="k"))).state is JobState.FAILED


async def test_the_same_key_is_the_same_job(lab: System, plain: PlainFirecrest) -> None:
    spec = JobSpec(script=QUICK, name="scf")
    first = await lab.submit(spec, key="k")
    assert first.state is JobState.SUBMITTED
    done = await lab.wait(first)
    again = await lab.submit(spec, key="k")
    assert (again.job_id, again.state) == (first.job_id, JobState.COMPLETED)
    other = await lab.submit(spec, key="k/2")
    assert other.job_id != done.job_id
    await lab.submit(spec)
    await lab.submit(spec)
    assert len(plain.jobs()) == 4


async def test_the_same_key_in_another_process_and_an_old_job(lab: System, plain: PlainFirecrest) -> None:
    first = await lab.submit(JobSpec(script=QUICK), key="k")
    await lab.wait(first)
    plain.scheduler.age(first.job_id, 2 * 86400)
    async with crestline.connect(plain_site(plain, name="other"), policy=msgspec.structs.replace(BRISK)) as other:
        assert (await other.submit(JobSpec(script=QUICK), key="k")).job_id == first.job_id


async def test_the_same_key_just_after_its_job_has_ended(lab: System, plain: PlainFirecrest) -> None:
    """The list lacks the job until the accounting has learnt of its end."""
    job = await lab.submit(JobSpec(script=QUICK), key="k")
    await until(lambda: plain.jobs(job.job_id)[0].is_over)
    plain.faults.list_loses_ended = 1e6
    async with crestline.connect(plain_site(plain), policy=OTHER_PROCESS) as other:
        assert (await other.submit(JobSpec(script=QUICK), key="k")).job_id == job.job_id
    assert len(plain.jobs()) == 1


async def test_an_unknown_outcome_is_said_and_cleared_up_later(plain: PlainFirecrest) -> None:
    hasty = msgspec.structs.replace(BRISK, submit=msgspec.structs.replace(BRISK.submit, total_timeout=1.0))
    async with crestline.connect(plain_site(plain), policy=hasty) as lab:
        lost(plain, "500")
        plain.faults.fail(500, path="/jobs$", method="GET", count=None)
        with pytest.raises(SubmitOutcomeUnknownError) as caught:
            await lab.submit(JobSpec(script=SLEEP), key="k")
        assert "same key" in caught.value.hint
        plain.faults.reset()
        job = await lab.submit(JobSpec(script=SLEEP), key="k")
    assert [job.job_id] == [str(each.number) for each in plain.jobs()]


async def test_a_spoilt_list_stops_no_submission_and_the_lock_holds(lab: System, plain: PlainFirecrest) -> None:
    spoiler = JobSpec(script=SLEEP, name="a|b", workdir=str(plain.home))
    await lab.backend.jobs.submit(spoiler, "k0")
    first = await lab.submit(JobSpec(script=SLEEP), key="k")
    await until(lambda: ran(plain) == 2)
    again = await lab.submit(JobSpec(script=SLEEP), key="k")
    assert again.job_id == first.job_id
    assert len(plain.jobs()) == 2


async def test_many_at_once_do_not_wait_for_each_other(lab: System, plain: PlainFirecrest) -> None:
    """Fresh jobs of others are nameless, too: they delay no submission for longer than they are."""
    plain.faults.allocation_window = 1.0
    jobs = await asyncio.gather(*(lab.submit(JobSpec(script=QUICK), key=f"k{number}") for number in range(20)))
    assert len({job.job_id for job in jobs}) == len(plain.jobs()) == 20


async def test_a_job_of_which_only_a_duplicate_is_listed(lab: System, plain: PlainFirecrest) -> None:
    first, second = await twice(lab, JobSpec(script=QUICK))
    await lab.wait(second)
    plain.faults.list_omits = first
    assert (await lab.submit(JobSpec(script=QUICK), key="k")).job_id == first
    assert len(plain.jobs()) == 2


async def test_a_refusal_is_final(lab: System, plain: PlainFirecrest) -> None:
    with pytest.raises(InvalidRequestError, match="invalid partition"):
        await lab.submit(JobSpec(script=QUICK, partition="nosuch"), key="k")
    assert plain.count("POST", "/jobs") == 1


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: unrecognized option '--nosuch=1'\nTry \"sbatch --help\" for more information",
        "sbatch: option '--time' requires an argument\nTry \"sbatch --help\" for more information",
        "sbatch: invalid option -- 'Z'\nTry \"sbatch --help\" for more information",
        "sbatch: error: Invalid --time specification",
    ],
)
async def test_options_that_sbatch_does_not_take_are_a_refusal(lab: System, plain: PlainFirecrest, words: str) -> None:
    message = f"Unexpected Slurm command response. exit_status:255 std_err:{words}\n"
    body = json.dumps({"errorType": "error", "message": message})
    plain.faults.add(Rule(path="/jobs$", method="POST", status=500, body=body, count=None))
    with pytest.raises(InvalidRequestError, match="sbatch: "):
        await lab.submit(JobSpec(script=QUICK), key="k")
    assert plain.count("POST", "/jobs") == 1


@pytest.mark.parametrize(
    "spec",
    [
        JobSpec(),
        JobSpec(script=QUICK, script_path="/x"),
        JobSpec(script="echo no interpreter"),
        JobSpec(script=QUICK, environment={"no name": "x"}),
        JobSpec(script=QUICK, nodes=1, memory="1 G"),
    ],
)
async def test_a_wrong_job_is_not_sent(lab: System, plain: PlainFirecrest, spec: JobSpec) -> None:
    with pytest.raises(InvalidRequestError):
        await lab.submit(spec, key="k")
    assert plain.count("POST", "/jobs") == 0


@pytest.mark.parametrize("count", [30, pytest.param(400, marks=pytest.mark.soak)])
@pytest.mark.timeout(1200)
async def test_each_of_many_runs_once_through_a_bad_network(lab: System, plain: PlainFirecrest, count: int) -> None:
    dice = random.Random(count)
    plain.faults.allocation_window = 0.3
    for _ in range(count):
        kind = dice.choice(["408", "500", "502", "drop"])
        options: dict[str, Any] = {
            "method": "POST",
            "when": dice.choice(["before", "after"]),
            "skip": dice.randrange(3),
        }
        if kind == "drop":
            plain.faults.drop(path="/jobs$", **options)
        else:
            plain.faults.fail(int(kind), path="/jobs$", **options)
        plain.faults.fail(500, path="/jobs$", method="GET", skip=dice.randrange(8))
    gate = asyncio.Semaphore(10)

    async def run(number: int) -> str:
        async with gate:
            while True:
                try:
                    job = await lab.submit(JobSpec(script=f"#!/bin/sh\necho {number} >> ran\n"), key=f"k{number}")
                except SubmitOutcomeUnknownError:
                    continue
                return (await lab.wait(job, check=True)).job_id

    ids = await asyncio.gather(*(run(number) for number in range(count)))
    assert len(set(ids)) == count
    assert sorted((plain.home / "ran").read_text().split(), key=int) == [str(number) for number in range(count)]


@pytest.fixture(params=["plain", "ours"])
async def either(
    request: pytest.FixtureRequest, plain: PlainFirecrest, gateway: RunningGateway
) -> AsyncIterator[System]:
    site = plain_site(plain) if request.param == "plain" else gateway_site(gateway)
    async with crestline.connect(site, policy=BRISK) as system:
        yield system


@pytest.mark.parametrize("key", ["a\n", " a ", "\x00", "w\xe4rme/1", "\udcff", "k" * 5000])
async def test_any_text_is_a_key(either: System, key: str) -> None:
    spec = JobSpec(script=QUICK)
    first = await either.submit(spec, key=key)
    assert (await either.submit(spec, key=key)).job_id == first.job_id
    [again, other] = await either.submit_many([spec, spec], [key, key + "b"])
    assert isinstance(again, Job)
    assert isinstance(other, Job)
    assert again.job_id == first.job_id != other.job_id


async def test_an_empty_key_is_refused(either: System) -> None:
    with pytest.raises(InvalidRequestError, match="key is empty"):
        await either.submit(JobSpec(script=QUICK), key="")
    with pytest.raises(InvalidRequestError, match="key is empty"):
        await either.submit_many([JobSpec(script=QUICK)], [""])


# the lock


async def twice(lab: System, spec: JobSpec, key: str = "k") -> tuple[str, str]:
    """Two jobs of one submission, as they can only come about where the look-up was deceived."""
    first = await lab.submit(spec, key=key)
    job = (await lab.backend.jobs.list(JobFilter(ids=(first.job_id,))))[0]
    metadata = (await lab.backend.jobs.metadata(first.job_id))[0]
    assert metadata.script is not None
    return first.job_id, await lab.backend.jobs.submit(
        JobSpec(script=metadata.script, workdir=first.workdir, name=job.name), key
    )


async def test_a_duplicate_ends_at_once_and_the_first_is_adopted(lab: System, plain: PlainFirecrest) -> None:
    spec = JobSpec(script="#!/bin/bash -eu\necho ran >> ran\nwhile [ ! -e go ]; do sleep 0.1; done\n")
    first = (await lab.submit(spec, key="k")).job_id
    await until(lambda: ran(plain) == 1)
    _, second = await twice(lab, spec)
    states = []
    async for event in lab.watch(second):
        states.append((event.job.job_id, event.state))
        if event.job.job_id == first and event.state is JobState.RUNNING:
            (plain.home / "go").touch()
    assert states[-1] == (first, JobState.COMPLETED)
    assert (second, JobState.FAILED) not in states
    assert plain.jobs(second)[0].exit_code == DUPLICATE_EXIT_CODE
    assert lab.monitor.snapshot(second).job_id == first
    assert ran(plain) == 1


async def test_a_requeued_job_passes_its_lock(lab: System, plain: PlainFirecrest) -> None:
    job = await lab.submit(JobSpec(script=SLEEP), key="k")
    for runs in (1, 2, 3):
        await until(lambda runs=runs: ran(plain) == runs)
        plain.scheduler.requeue(job.job_id)
    await until(lambda: ran(plain) == 4)
    assert len(plain.jobs()) == 1


async def test_all_elements_of_an_array_pass_and_a_second_array_does_not(lab: System, plain: PlainFirecrest) -> None:
    spec = JobSpec(script=QUICK, array="0-3", name="sweep")
    first, second = await twice(lab, spec)
    assert (await lab.wait(first)).state is JobState.COMPLETED
    await until(lambda: all(job.is_over for job in plain.jobs()))
    assert ran(plain) == 4
    assert {job.exit_code for job in plain.jobs(second)} == {DUPLICATE_EXIT_CODE}
    assert (await lab.wait(second)).job_id == first


async def test_a_lost_answer_for_an_array(lab: System, plain: PlainFirecrest) -> None:
    lost(plain, "500")
    job = await lab.submit(JobSpec(script=QUICK, array="0-3"), key="k")
    assert job.job_id == "1"
    assert len(plain.jobs()) == 4


async def test_a_script_on_the_system(lab: System, plain: PlainFirecrest) -> None:
    script = plain.home / "job.sh"
    script.write_text("#!/bin/bash\n#SBATCH --job-name=inner\n#SBATCH --output=the.out\necho ran >> ran; echo é\n")
    lost(plain, "500")
    job = await lab.submit(JobSpec(script_path=str(script)), key="k")
    assert (await lab.wait(job)).state is JobState.COMPLETED
    assert plain.jobs()[0].name == f"inner-c{tag_of('k')}"
    assert (plain.home / "the.out").read_text() == "é\n"
    assert (await lab.submit(JobSpec(script_path=str(script)), key="k")).job_id == job.job_id
    assert ran(plain) == 1
    with pytest.raises(FileMissingError):
        await lab.submit(JobSpec(script_path=f"{plain.home}/none"), key="k2")
    script.write_bytes(b"#!/bin/bash\necho \xe9\n")
    with pytest.raises(InvalidRequestError, match="UTF-8"):
        await lab.submit(JobSpec(script_path=str(script)), key="k3")


async def test_scripts_for_other_interpreters(lab: System, plain: PlainFirecrest) -> None:
    script = (
        "#!/usr/bin/env python3\n"
        "#SBATCH --time=00:10:00\n"
        "import os, sys\n"
        "text = '''EOF $HOME `id`\\\\n'''\n"
        "open('ran', 'a').write('ran\\n')\n"
        "print(text.strip(), os.environ['VALUE'])\n"
        "sys.exit(5)\n"
    )
    first, second = await twice(lab, JobSpec(script=script, environment={"VALUE": "a,b'c\"d\n$e"}, stdout="out"))
    done = await lab.wait(first)
    assert done.exit_code == 5
    assert (plain.home / "out").read_text() == "EOF $HOME `id`\\n a,b'c\"d\n$e\n"
    assert (await lab.wait(second)).job_id == first
    assert ran(plain) == 1
    assert plain.jobs()[0].time_limit == 600


async def test_where_no_lock_can_be_made_the_job_runs(lab: System, plain: PlainFirecrest) -> None:
    (plain.home / ".crestline").touch()
    done = await lab.wait(await lab.submit(JobSpec(script=QUICK), key="k"))
    assert done.state is JobState.COMPLETED
    assert ran(plain) == 1


async def test_variables_arrive_as_they_are(lab: System, plain: PlainFirecrest) -> None:
    spec = JobSpec(script='#!/bin/sh\nprintf %s "$A" > value\n', environment={"A": "1,2 'x' \"y\" $z \\ \n é"})
    await lab.wait(await lab.submit(spec), check=True)
    assert (plain.home / "value").read_text() == "1,2 'x' \"y\" $z \\ \n é"


async def test_a_working_directory_with_odd_characters(lab: System, plain: PlainFirecrest) -> None:
    place = plain.home / "a b & $c"
    place.mkdir()
    first, second = await twice(lab, JobSpec(script=QUICK, workdir=str(place)))
    assert (await lab.wait(second)).job_id == first
    assert (place / "ran").read_text() == "ran\n"


# names and scripts as text


@pytest.mark.parametrize(
    ("name", "script", "prefix"),
    [
        (None, QUICK, "job"),
        ("a b|c\n", QUICK, "a_b_c_"),
        ("名前", QUICK, "__"),
        (None, '#!/bin/sh\n#SBATCH --job-name="own"\n', "own"),
        (None, "#!/bin/sh\n#SBATCH -J own\n", "own"),
        ("given", "#!/bin/sh\n#SBATCH -J own\n", "given"),
        ("x" * 300, QUICK, "x" * 200),
    ],
)
def test_tagged_names(name: str | None, script: str, prefix: str) -> None:
    tagged = tagged_name(name, script, tag_of("k"))
    assert tagged == f"{prefix}-c{tag_of('k')}"
    assert len(tagged) <= 230
    assert tag_in(tagged) == tag_of("k")
    assert tag_in("my-job") is None


def test_directives_stay_where_the_scheduler_reads_them() -> None:
    script = "#!/bin/bash\n\n# comment\n#SBATCH --nodes=2\n\n#SBATCH --time=5\necho work\n#SBATCH --late\n"
    lines = wrap_script(script, name="n", lock=lock_path("/w", "t"), environment={}).split("\n")
    body = lines.index("echo work")
    lock = next(number for number, line in enumerate(lines) if line.startswith("crestline_id="))
    for directive in ("#SBATCH --nodes=2", "#SBATCH --time=5", "#SBATCH --job-name=n"):
        assert lines.index(directive) < lock < body
    assert lines.index("#SBATCH --late") > body


@pytest.mark.parametrize(
    ("job_id", "holder"), [("123.server", "123"), ("123[4].server", "123"), ("123[].server", "123"), ("7", "7")]
)
async def test_pbs_ids_in_the_lock(tmp_path: Path, job_id: str, holder: str) -> None:
    script = wrap_script(QUICK, name="n", lock=lock_path(str(tmp_path), "tag"), environment={})
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", script, cwd=tmp_path, env={"PBS_JOBID": job_id, "PATH": "/usr/bin:/bin"}
    )
    assert await process.wait() == 0
    assert (tmp_path / ".crestline/tag").readlink() == Path(holder)


# a Crestline gateway


async def test_the_key_travels_in_a_header(gateway: RunningGateway) -> None:
    async with crestline.connect(gateway_site(gateway), policy=BRISK) as local:
        spec = JobSpec(script="#!/bin/sh\ntrue\n", name="plain name")
        first = await local.submit(spec, key=f"{gateway.home}/1")
        again = await local.submit(spec, key=f"{gateway.home}/1")
        assert first.job_id == again.job_id
        done = await local.wait(first)
        assert (done.name, done.state) == ("plain name", JobState.COMPLETED)
        script = (await local.metadata(first)).script
        assert script is not None
        assert "crestline" not in script
        with pytest.raises(ConflictError):
            await local.submit(JobSpec(script="#!/bin/sh\nfalse\n"), key=f"{gateway.home}/1")
