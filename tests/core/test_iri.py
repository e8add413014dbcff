"""The client on IRI facilities: the stand-in in both versions of the API, and with each known deviation."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crestline.client import (
    Policy,
    PollPolicy,
    RetryPolicy,
    Site,
    SubmitPolicy,
    connect,
    list_systems,
    site_from_environment,
)
from crestline.client.backends import JobFilter
from crestline.client.backends.iri.errors import error_from_task
from crestline.client.backends.iri.job_specs import decode_script, describe
from crestline.client.backends.iri.job_states import normalize, read_job
from crestline.client.backends.registry import create_backend
from crestline.client.system import System
from crestline.model import (
    Allocation,
    AuthenticationError,
    ConfigError,
    ConflictError,
    FileMissingError,
    GatewayUnavailableError,
    InvalidRequestError,
    JobNotFoundError,
    JobSpec,
    JobState,
    NotFoundError,
    PermissionDeniedError,
    SystemNotFoundError,
    TooLargeError,
    TransferError,
    UnsupportedError,
)
from crestline.testing.iri import TOKEN, Deviations, Facility, running
from crestline.wire import iri
from harness.facility_contract import FacilityContract

pytestmark = pytest.mark.anyio

QUICK = Policy(
    poll=PollPolicy(min_interval=0.05, max_interval=0.5),
    submit=SubmitPolicy(visibility_timeout=0.2, poll_interval=0.05, total_timeout=20),
    retry=RetryPolicy(initial_backoff=0.05, max_backoff=0.1, attempts=2),
)
HELLO = "#!/bin/bash\necho hello >> ran\n"

Start = Callable[..., Facility]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The user's directory at the facility."""
    place = tmp_path / "facility"
    place.mkdir()
    return place


@pytest.fixture
def start(place: Path) -> Iterator[Start]:
    """Serves facilities with deviations."""
    with contextlib.ExitStack() as stack:
        yield lambda **deviations: stack.enter_context(running(place, Deviations(**deviations)))


def site_of(facility: Facility, version: int | None = None, **options: Any) -> Site:
    """A site whose `url` names a version, or the root."""
    url = facility.url if version is None else f"{facility.url}/api/v{version}"
    return Site(name="doe", url=url, api="iri", token=TOKEN, options={"workdir": str(facility.root), **options})


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def site(start: Start, request: pytest.FixtureRequest) -> Site:
    return site_of(start(), request.param)


@pytest.fixture
async def system(site: Site) -> AsyncIterator[System]:
    async with connect(site, policy=QUICK) as system:
        yield system


class TestIri(FacilityContract):
    """The operations that every facility API has."""


# the facility


async def test_compute_resources_are_systems(site: Site, system: System) -> None:
    assert system.name == "Pearl"
    assert [each["name"] for each in await list_systems(site)] == ["Pearl"]
    assert (await system.describe())["servicesHealth"] == [{"serviceType": "scheduler", "healthy": True}]


async def test_projects_are_the_accounts(system: System) -> None:
    assert [each.name for each in await system.accounts()] == ["climate", "empty"]


async def test_a_facility_without_accounts_says_so(start: Start) -> None:
    async with connect(site_of(start(has_filesystem=False)), policy=QUICK) as system:
        for fetch in (system.accounts, system.allocations):
            with pytest.raises(UnsupportedError, match="does not report accounts"):
                await fetch()


async def test_allocations_of_the_system(system: System) -> None:
    assert await system.allocations() == [Allocation(account="climate", unit="node-hours", budget=1000, used=250.5)]


async def test_the_words_behind_a_path_say_why_a_task_failed() -> None:
    for path, words, kind in (
        ("/x/does not exist", "Permission denied", PermissionDeniedError),
        (f"/{'d' * 500}", "No such file or directory", FileMissingError),
    ):
        error = error_from_task(f"stat: cannot statx '{path}': {words}", "stat", path)
        assert type(error) is kind
        assert words in error.message


async def test_text_that_no_request_carries_is_named(system: System) -> None:
    for call in (lambda: system.submit(JobSpec(script="#!/bin/sh\n# caf\udce9\n")), lambda: system.stat("/caf\udce9")):
        with pytest.raises(InvalidRequestError, match=r"caf\\udce9.* is not UTF-8"):
            await call()


async def test_a_facility_that_is_down_says_why(start: Start) -> None:
    facility = start()
    async with connect(site_of(facility, 1), policy=QUICK) as system:
        facility.status = "down"
        [health] = (await system.describe())["servicesHealth"]
    assert not health["healthy"]
    assert "cooling" in health["message"]


@pytest.mark.parametrize(("versions", "used"), [((1, 2), 2), ((1,), 1), ((2,), 2)])
async def test_the_root_of_a_facility_leads_to_its_newest_version(
    start: Start, versions: tuple[int, ...], used: int
) -> None:
    facility = start(versions=versions)
    async with connect(site_of(facility), policy=QUICK) as system:
        assert system.backend.description.system["iri"]["version"] == used
        assert (await system.wait(await system.submit(JobSpec(script=HELLO)))).state is JobState.COMPLETED


@pytest.mark.parametrize("absent", [401, 403, 405, 501])
async def test_proxies_may_hide_the_version_that_is_not_served(start: Start, absent: int) -> None:
    async with connect(site_of(start(versions=(1,), absent=absent)), policy=QUICK) as system:
        assert system.backend.description.system["iri"]["version"] == 1


async def test_a_url_without_the_api_is_named(start: Start) -> None:
    facility = start(versions=())
    with pytest.raises(NotFoundError, match="serves no IRI Facility API"):
        async with connect(site_of(facility), policy=QUICK):
            pass


async def test_one_slow_list_does_not_end_lists(start: Start) -> None:
    facility = start(has_list=False)
    async with connect(site_of(facility, 1), policy=QUICK) as system:
        with pytest.raises(GatewayUnavailableError):
            await system.backend.jobs.list(JobFilter(), retry=False)
        facility.deviations.has_list = True
        assert await system.jobs() == []


async def test_v2_tells_the_users_directory_and_v1_does_not(start: Start, place: Path) -> None:
    facility = start()
    for version in (1, 2):
        site = Site(url=f"{facility.url}/api/v{version}", api="iri", token=TOKEN)
        async with connect(site, policy=QUICK) as system:
            if version == 2:
                assert await system.default_workdir() == str(place)
            else:
                with pytest.raises(ConfigError, match="workdir"):
                    await system.default_workdir()


@pytest.mark.parametrize(("named", "error"), [("Pebble", SystemNotFoundError), ("pearl", None)])
async def test_systems_are_named_by_resource(start: Start, named: str, error: type[Exception] | None) -> None:
    facility = start()
    for system in (named, facility.compute) if error is None else (named,):
        site = Site(name="doe", url=facility.url, api="iri", token=TOKEN, system=system)
        with pytest.raises(error) if error else contextlib.nullcontext():
            async with connect(site, policy=QUICK) as opened:
                assert opened.name == "Pearl"


async def test_unknown_options_are_refused(start: Start) -> None:
    with pytest.raises(ConfigError, match="filesytem"):
        async with connect(site_of(start(), filesytem="Scratch"), policy=QUICK):
            pass


async def test_a_refused_token_is_an_authentication_error(start: Start) -> None:
    facility = start()
    site = Site(url=facility.url, api="iri", token="wrong", options={"workdir": "/"})
    async with connect(site, policy=QUICK) as system:
        with pytest.raises(AuthenticationError, match="Invalid token"):
            await system.jobs()


@pytest.mark.parametrize("what", ["nodes", "partitions", "reservations"])
async def test_what_the_api_cannot_tell_is_named(system: System, what: str) -> None:
    with pytest.raises(UnsupportedError, match=f"Pearl does not list its {what}"):
        await getattr(system, what)()


def test_variables_name_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRECREST_URL", "https://api.example.gov")
    monkeypatch.setenv("FIRECREST_API", "iri")
    found = site_from_environment()
    assert found is not None
    assert found.api == "iri"


def test_options_are_for_backends_that_take_some() -> None:
    site = Site(url="https://x.example", token="t", options={"workdir": "/"})
    with pytest.raises(ConfigError, match="takes no `options`"):
        create_backend(site, None, site.authorizer())


# jobs


async def test_a_key_leads_to_one_job(site: Site, system: System, place: Path) -> None:
    key = uuid.uuid4().hex
    job = await system.submit(JobSpec(script="#!/bin/bash\necho ran >> ran\nexit 3\n", name="once"), key=key)
    async with connect(site, policy=QUICK) as other:
        again = await other.submit(JobSpec(script="#!/bin/bash\necho ran >> ran\nexit 3\n", name="once"), key=key)
        assert again.job_id == job.job_id
        ended = await other.wait(job)
    assert (ended.state, ended.exit_code) == (JobState.FAILED, 3)
    assert (place / "ran").read_text() == "ran\n"


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("lacks", ["", "has_key_store", "has_list", "has_specs"])
async def test_lost_answers_lead_to_one_job(start: Start, place: Path, version: int, lacks: str) -> None:
    facility = start(**{lacks: False} if lacks else {})
    facility.lose_answers = 2
    async with connect(site_of(facility, version), policy=QUICK) as system:
        job = await system.submit(JobSpec(script=HELLO))
        assert (await system.wait(job)).state is JobState.COMPLETED
    assert (place / "ran").read_text() == "hello\n"


async def test_a_key_with_another_job_is_refused(start: Start) -> None:
    facility = start(has_list=False)
    async with connect(site_of(facility, 2), policy=QUICK) as system:
        backend = system.backend.jobs
        await backend.submit(JobSpec(script=HELLO, workdir=str(facility.root)), "key")
        with pytest.raises(ConflictError):
            await backend.submit(JobSpec(script="#!/bin/bash\nfalse\n", workdir=str(facility.root)), "key")


async def test_the_list_holds_names_and_ended_jobs(system: System) -> None:
    jobs = await system.submit_many([JobSpec(script=HELLO, name=f"job{number}") for number in range(3)])
    for job in jobs:
        assert not isinstance(job, Exception)
        await system.wait(job)
    found = await system.jobs()
    assert {job.name.partition("-c")[0] for job in found} == {"job0", "job1", "job2"}
    assert {job.state for job in found} == {JobState.COMPLETED}
    with pytest.raises(JobNotFoundError):
        await system.job("4711")


async def test_lists_of_many_pages(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crestline.client.backends.iri.calls._PAGE", 2)
    facility = start()
    async with connect(site_of(facility, 1), policy=QUICK) as system:
        jobs = await system.submit_many([JobSpec(script=HELLO)] * 5, keys_are_new=True)
        assert len({job.job_id for job in jobs if not isinstance(job, Exception)}) == 5
        assert len(await system.jobs()) == 5


async def test_entries_that_move_to_the_next_page_are_listed_once(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crestline.client.backends.iri.calls._PAGE", 2)
    facility = start(ignores_offsets=True)
    async with connect(site_of(facility, 1), policy=QUICK) as system:
        jobs = await system.submit_many([JobSpec(script=HELLO)] * 5, keys_are_new=True)
        found = [job.job_id for job in await system.jobs()]
        assert sorted(found) == sorted(job.job_id for job in jobs if not isinstance(job, Exception))


async def test_a_history_that_is_too_long_leaves_the_current_jobs(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crestline.client.backends.iri.calls._PAGE", 2)
    monkeypatch.setattr("crestline.client.backends.iri.calls._PAGES", 2)
    facility = start()
    async with connect(site_of(facility, 1), policy=QUICK) as system:
        for job in await system.submit_many([JobSpec(script=HELLO)] * 5, keys_are_new=True):
            assert not isinstance(job, Exception)
            await system.wait(job)
        running = await system.submit(JobSpec(script="#!/bin/bash\nsleep 1000\n"))
        with pytest.raises(TooLargeError):
            await system.backend.jobs.list(JobFilter(window=3600))
        assert [job.job_id for job in await system.jobs()] == [running.job_id]


async def test_a_user_or_resource_that_the_facility_forgot_ends_no_job(start: Start) -> None:
    facility = start()
    async with connect(site_of(facility, 1), policy=QUICK) as system:
        job = await system.submit(JobSpec(script=HELLO))
        for unknown, kind in (("User", PermissionDeniedError), ("Resource", SystemNotFoundError)):
            facility.unknown = unknown
            with pytest.raises(kind, match=f"{unknown} not found"):
                await system.job(job.job_id)


async def test_time_limits_are_told_apart_where_the_facility_says_the_schedulers_word(system: System) -> None:
    job = await system.submit(JobSpec(script="#!/bin/bash\n#SBATCH --time=0:01\nsleep 1000\n"))
    assert (await system.wait(job)).state is JobState.TIMEOUT


async def test_metadata_has_the_script_and_the_paths(system: System, place: Path) -> None:
    script = "#!/bin/bash\ncat in; echo error >&2\n"
    (place / "in").write_text("in")
    job = await system.submit(JobSpec(script=script, stdout="out-%j", stderr="err"))
    await system.wait(job)
    found = await system.metadata(job)
    assert found.script is not None
    assert found.script.startswith("#!/bin/bash\n")
    assert "cat in; echo error >&2" in found.script
    assert (found.stdout, found.stderr) == (f"{place}/out-{job.job_id}", f"{place}/err")
    assert (place / f"out-{job.job_id}").read_text() == "in"
    assert (place / "err").read_text() == "error\n"


@pytest.mark.parametrize("ignores_paths", [False, True])
async def test_a_directory_may_have_the_letters_of_a_pattern(start: Start, place: Path, ignores_paths: bool) -> None:
    workdir = place / "%j%%x"
    workdir.mkdir()
    (workdir / "in-%").write_text("in")
    async with connect(site_of(start(ignores_paths=ignores_paths), 1), policy=QUICK) as system:
        script = "#!/bin/bash\n#SBATCH --open-mode=append\ncat; pwd\n"
        spec = JobSpec(script=script, workdir=str(workdir), stdin="in-%%", stdout="out-%j", stderr=f"{place}/err-%j")
        job = await system.submit(spec)
        assert (await system.wait(job)).state is JobState.COMPLETED
        found = await system.metadata(job)
        assert (found.stdin, found.stdout) == (f"{workdir}/in-%", f"{workdir}/out-{job.job_id}")
        assert (workdir / f"out-{job.job_id}").read_text() == f"in{workdir}\n"
        assert found.stderr == f"{place}/err-{job.job_id}"


async def test_a_key_belongs_to_one_resource(start: Start) -> None:
    facility = start()
    jobs = []
    for compute in (facility.compute, str(uuid.uuid4())):
        facility.compute = compute
        async with connect(site_of(facility, 2), policy=QUICK) as system:
            jobs.append(await system.backend.jobs.submit(JobSpec(script=HELLO, workdir=str(facility.root)), "key"))
    assert len(set(jobs)) == 2


async def test_scripts_of_other_interpreters_and_variables(system: System, place: Path) -> None:
    script = "#!/usr/bin/env python3\nimport os\nopen('value', 'w').write(os.environ['VALUE'])\n"
    job = await system.submit(JobSpec(script=script, environment={"VALUE": "a, 'b'\n\"$c\""}))
    assert (await system.wait(job)).state is JobState.COMPLETED
    assert (place / "value").read_text() == "a, 'b'\n\"$c\""


async def test_long_scripts_arrive_whole(system: System, place: Path) -> None:
    lines = "\n".join(f"# {number:050d}" for number in range(10_000))
    job = await system.submit(JobSpec(script=f"#!/bin/bash\n{lines}\necho end > end\n"))
    assert (await system.wait(job)).state is JobState.COMPLETED
    assert (place / "end").read_text() == "end\n"


async def test_many_waiters_share_one_list(start: Start) -> None:
    facility = start()
    async with connect(site_of(facility, 1), policy=QUICK) as system:
        jobs = await system.submit_many([JobSpec(script="#!/bin/bash\nsleep 0.5\n")] * 20, keys_are_new=True)
        await asyncio.gather(*(system.wait(job) for job in jobs if not isinstance(job, Exception)))
        assert facility.requests.count("getJob") < 20
        assert facility.requests.count("getJobs") == system.monitor.list_requests


# what facilities do otherwise


async def test_without_a_list_jobs_are_asked_for_one_by_one(start: Start, place: Path) -> None:
    facility = start(has_list=False)
    async with connect(site_of(facility, 1), policy=QUICK) as system:
        job = await system.submit(JobSpec(script=HELLO))
        assert (await system.wait(job)).state is JobState.COMPLETED
        with contextlib.suppress(GatewayUnavailableError):  # the second list that times out, if not the third
            await system.jobs()
        asked = facility.requests.count("getJobs")
        with pytest.raises(UnsupportedError, match="does not list jobs"):
            await system.jobs()
        assert facility.requests.count("getJobs") == asked, "a list that timed out was asked for again"


async def test_without_a_filesystem_jobs_run_and_files_are_refused(start: Start, place: Path) -> None:
    facility = start(has_filesystem=False, versions=(1,))
    async with connect(site_of(facility), policy=QUICK) as system:
        job = await system.submit(JobSpec(script=HELLO))
        assert (await system.wait(job)).state is JobState.COMPLETED
        assert system.max_direct_size == 0
        with pytest.raises(UnsupportedError, match="Globus"):
            await system.upload(__file__, f"{place}/f")
        with pytest.raises(UnsupportedError, match="Globus"):
            await system.ls(str(place))
    assert (place / "ran").read_text() == "hello\n"


async def test_seven_states_are_enough(start: Start) -> None:
    async with connect(site_of(start(reports_scheduler_states=False), 1), policy=QUICK) as system:
        ended = await system.wait(await system.submit(JobSpec(script="#!/bin/bash\n#SBATCH -t 0:01\nsleep 100\n")))
        assert ended.state is JobState.FAILED


async def test_an_unknown_state_ends_no_job(start: Start, place: Path) -> None:
    async with connect(site_of(start(unknown_state="suspended"), 1), policy=QUICK) as system:
        job = await system.submit(JobSpec(script="#!/bin/bash\nuntil [ -e go ]; do sleep 0.05; done\n"))
        while (state := (await system.job(job.job_id)).state) is not JobState.UNKNOWN:
            assert not state.is_terminal
        (place / "go").touch()
        assert (await system.wait(job)).state is JobState.COMPLETED


async def test_tasks_that_stay_pending_end_with_an_error(start: Start, place: Path) -> None:
    facility = start(tasks_stay_pending=True)
    policy = Policy(retry=RetryPolicy(total_timeout=0.3))
    async with connect(site_of(facility, 1), policy=policy) as system:
        with pytest.raises(GatewayUnavailableError, match="has not ended"):
            await system.stat(str(place))
    assert [task["status"] for task in facility.tasks.values()] == ["canceled"]


async def test_tasks_that_a_facility_forgets_end_with_an_error(start: Start, place: Path) -> None:
    async with connect(site_of(start(forgets_tasks=True), 1), policy=QUICK) as system:
        with pytest.raises(GatewayUnavailableError, match="has forgotten a task"):
            await system.stat(str(place))


async def test_one_loop_looks_at_all_tasks(start: Start, place: Path) -> None:
    facility = start(polls=2)
    async with connect(site_of(facility, 2), policy=QUICK) as system:
        await asyncio.gather(*(system.stat(str(place)) for _ in range(30)))
    assert facility.requests.count("stat") == 30
    assert facility.requests.count("getTask") == 60


async def test_paths_that_a_facility_ignores_hold_all_the_same(start: Start, place: Path) -> None:
    (place / "deep").mkdir()
    async with connect(site_of(start(ignores_paths=True), 1), policy=QUICK) as system:
        job = await system.submit(
            JobSpec(script="#!/bin/bash\npwd\necho error >&2\n", workdir=f"{place}/deep", stdout="out")
        )
        await system.wait(job)
    assert (place / "deep/out").read_text() == f"{place}/deep\nerror\n"


async def test_a_facility_with_pbs(start: Start, place: Path) -> None:
    facility = start(is_pbs=True, has_specs=False)
    options = {"scheduler": "pbs", "custom_attributes": {"filesystems": "home:eagle"}}
    async with connect(site_of(facility, 1, **options), policy=QUICK) as system:
        assert system.scheduler_type == "pbs"
        job = await system.submit(JobSpec(script=HELLO, nodes=1, time_limit="10:00", partition="debug"))
        assert (await system.wait(job)).state is JobState.COMPLETED
        assert (await system.metadata(job)).stdout is not None
        with pytest.raises(JobNotFoundError):
            await system.job("4711")
        with pytest.raises(UnsupportedError, match="process_count"):
            await system.submit(JobSpec(script=HELLO, tasks=4))
        (place / "in").write_text("in")
        spec = JobSpec(script="#!/bin/bash\ncat\n", time_limit="10:00", partition="debug", stdin="in", stdout="out-%j")
        job = await system.submit(spec)
        assert (await system.wait(job)).state is JobState.COMPLETED
        assert (await system.metadata(job)).stdout == f"{place}/out-%j"
    assert (place / "out-%j").read_text() == "in"
    async with connect(site_of(facility, 1), policy=QUICK) as system:
        with pytest.raises(InvalidRequestError, match="filesystems are required"):
            await system.submit(JobSpec(script=HELLO))


async def test_listings_without_recursion(start: Start, place: Path) -> None:
    (place / "a/b").mkdir(parents=True)
    (place / "a/b/c").write_text("c")
    async with connect(site_of(start(has_recursive_listings=False), 1), policy=QUICK) as system:
        assert {file.name for file in await system.ls(str(place), recursive=True)} == {"a", "a/b", "a/b/c"}


# files


async def test_text_arrives_from_a_facility_that_offers_views_alone(
    start: Start, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "text").write_text("größe\nsecond\nend")
    (place / "bytes").write_bytes(b"one\n\xff")
    async with connect(site_of(start(lacks=("download", "tail")), 2), policy=QUICK) as system:
        files = system.backend.files
        assert await system.read_text(f"{place}/text") == "größe\nsecond\nend"
        assert [await files.tail_lines(f"{place}/text", first) for first in (1, 3)] == ["größe\nsecond\nend", "end"]
        assert await files.tail_lines(f"{place}/bytes", 1) == "one\n\ufffd"
        with pytest.raises(UnsupportedError, match="download is not implemented"):
            await files.download_small(f"{place}/bytes")
        monkeypatch.setattr("crestline.wire.iri.SIZE_LIMIT", 5)
        with pytest.raises(TooLargeError):
            await files.tail_lines(f"{place}/text", 2)


@pytest.mark.parametrize("field", ["output", "error"])
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ls: cannot access 'x': No such file or directory", FileMissingError),
        ("cat: x: Permission denied", PermissionDeniedError),
        ("mkdir: cannot create directory: File exists", ConflictError),
        ("404: path not found", FileMissingError),
        ("Operation not supported", UnsupportedError),
        ("something else", InvalidRequestError),
    ],
)
async def test_a_tasks_error_is_read_from_its_text(
    start: Start, monkeypatch: pytest.MonkeyPatch, text: str, kind: type[Exception], field: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(text)

    monkeypatch.setattr("crestline.testing.iri.facility.run_operation", fail)
    async with connect(site_of(start(task_error_field=field), 1), policy=QUICK) as system:
        with pytest.raises(kind):
            await system.stat("/x")


async def test_files_of_more_than_a_request_carries_move_in_pieces(system: System, place: Path, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096 * 6  # 6 MiB
    (tmp_path / "large").write_bytes(content)
    await system.upload(tmp_path / "large", f"{place}/large")
    assert (place / "large").read_bytes() == content
    await system.download(f"{place}/large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    assert sorted(path.name for path in place.iterdir() if path.name != ".crestline") == ["large"]


async def test_jobs_that_move_files_have_what_the_site_says(start: Start, place: Path, tmp_path: Path) -> None:
    facility = start(is_pbs=True)
    (tmp_path / "large").write_bytes(bytes(6 * 1024**2))
    options: dict[str, Any] = {"scheduler": "pbs", "custom_attributes": {"filesystems": "home:eagle"}}
    async with connect(site_of(facility, 1, **options), policy=QUICK) as system:
        with pytest.raises(TransferError, match=r"queue_name required.*transfer_directives"):
            await system.upload(tmp_path / "large", f"{place}/large")
    options["transfer_directives"] = ["#SBATCH --partition=prod --time=5:00", "#SBATCH --account=proj"]
    async with connect(site_of(facility, 1, **options), policy=QUICK) as system:
        await system.upload(tmp_path / "large", f"{place}/large")
    [job] = facility.jobs.values()
    assert job.spec["attributes"] == {
        "queue_name": "prod", "duration": 300, "account": "proj", "custom_attributes": {"filesystems": "home:eagle"}
    }  # fmt: skip
    assert job.spec["resources"]["node_count"] == 1
    assert (place / "large").stat().st_size == 6 * 1024**2


@pytest.mark.parametrize("line", ["--partition=debug", "rm -rf /", "#SBATCH --time=1\nrm -rf /", "#SBATCH"])
async def test_directives_of_a_site_are_directives(start: Start, line: str) -> None:
    with pytest.raises(ConfigError, match="transfer_directives"):
        async with connect(site_of(start(), 1, transfer_directives=[line]), policy=QUICK):
            raise AssertionError("opened")


async def test_files_that_are_too_large_name_globus(start: Start, place: Path, tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(300 * 1024**2)
    facility = start()
    for version, name in ((1, "Globus Transfer"), (2, "Stand-in DTN e-42")):
        async with connect(site_of(facility, version), policy=QUICK) as system:
            with pytest.raises(TransferError, match=name):
                await system.upload(tmp_path / "huge", f"{place}/huge")
    assert "upload" not in facility.requests


# translation


def test_options_of_scripts_become_fields() -> None:
    script = (
        "#!/bin/bash\n#SBATCH -J name -N 2 --ntasks=8 --ntasks-per-node=4\n#SBATCH -c 3 --gpus=8 --mem=4G -t 1:00:00\n"
        "#SBATCH -p debug -A proj --reservation=r --exclusive\n#SBATCH --constraint=gpu --qos=high\n"
        "#SBATCH -o out -e err --export=NONE\ntrue\n"
    )
    found = describe(JobSpec(script=script, workdir="/w"))
    assert found.name == "name"
    assert found.resources == iri.JobResources(
        node_count=2,
        process_count=8,
        processes_per_node=4,
        cpu_cores_per_process=3,
        gpu_cores_per_process=1,
        memory=4 * 1024**3,
        exclusive_node_use=True,
    )
    assert found.attributes == iri.JobAttributes(
        duration=3600,
        queue_name="debug",
        account="proj",
        reservation_id="r",
        custom_attributes={"constraint": "gpu", "qos": "high"},
    )
    assert (found.stdout_path, found.stderr_path) == ("/w/out", "/w/err")
    assert found.inherit_environment is False
    assert decode_script(found.arguments or []) == script


@pytest.mark.parametrize(
    ("options", "resources", "attributes"),
    [
        ("--gpus=8 -N 2 --ntasks-per-node=4", {"gpu_cores_per_process": 1}, None),
        ("--gpus=8 -N 2", {"gpu_cores_per_process": 4}, None),
        ("--gpus=8 -N 2 -n 4", {"gpu_cores_per_process": 2}, None),
        ("--gpus=a100:3 -n 2", {"gpu_cores_per_process": None}, {"gpus": "a100:3"}),
        ("--gpus-per-task=a100:1", {"gpu_cores_per_process": None}, {"gpus-per-task": "a100:1"}),
        ("--gpus-per-node=4 --mem-per-cpu=2G", {"memory": None}, {"gpus-per-node": "4", "mem-per-cpu": "2G"}),
        ("--exclusive=user", {"exclusive_node_use": False}, {"exclusive": "user"}),
        ("--exclusive", {"exclusive_node_use": True}, None),
        ("--mem=0", {"memory": None}, {"mem": "0"}),
        ("--mem=1500K", {"memory": 2 * 1024**2}, None),
        ("--time=UNLIMITED", {}, {"time": "UNLIMITED"}),
        ("--time=1-12", {}, None),
    ],
)
def test_values_that_say_more_than_a_field_go_along(
    options: str, resources: dict[str, Any], attributes: dict[str, str] | None
) -> None:
    found = describe(JobSpec(script=f"#!/bin/bash\n#SBATCH {options}\n", workdir="/w"))
    assert found.resources is not None
    assert {name: getattr(found.resources, name) for name in resources} == resources
    assert found.attributes is not None
    assert found.attributes.custom_attributes == attributes


@pytest.mark.parametrize(
    ("value", "environment", "inherits"),
    [
        ("ALL", None, None),
        ("ALL,A=1,B=", {"A": "1", "B": ""}, None),
        ("none", None, False),
        ("NIL", None, False),
        ("A=1", {"A": "1"}, False),
    ],
)
def test_variables_of_a_script(value: str, environment: dict[str, str] | None, inherits: bool | None) -> None:
    found = describe(JobSpec(script=f"#!/bin/bash\n#SBATCH --export={value}\n", workdir="/w"))
    assert (found.environment, found.inherit_environment) == (environment, inherits)


def test_variables_that_are_here_alone_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"--export=HOME .*write HOME=VALUE"):
        describe(JobSpec(script="#!/bin/bash\n#SBATCH --export=ALL,HOME\n", workdir="/w"))


def test_fields_of_a_spec_win_over_its_script() -> None:
    spec = JobSpec(script="#!/bin/bash\n#SBATCH -p a -A b -N 1\n", partition="c", account="d", nodes=2, workdir="/w")
    found = describe(spec, account="e", custom_attributes={"filesystems": "home"})
    assert found.attributes == iri.JobAttributes(queue_name="c", account="d", custom_attributes={"filesystems": "home"})
    assert found.resources == iri.JobResources(node_count=2, exclusive_node_use=False)


def test_all_options_without_a_place_are_listed() -> None:
    script = "#!/bin/bash\n#SBATCH --array=0-3 --dependency=afterok:1\n#SBATCH --hold --contiguous --nonsense -N 1-4\n"
    with pytest.raises(UnsupportedError) as caught:
        describe(JobSpec(script=script, workdir="/w"))
    for option in ("--array", "--dependency", "--hold", "--contiguous", "--nonsense", "--nodes=1-4"):
        assert option in str(caught.value)


def test_scripts_that_no_argument_carries_are_refused() -> None:
    noise = "".join(uuid.uuid4().hex for _ in range(10_000))
    with pytest.raises(InvalidRequestError, match="Upload it"):
        describe(JobSpec(script=f"#!/bin/bash\n# {noise}\n", workdir="/w"))


STATES = {
    "new": JobState.SUBMITTED,
    "queued": JobState.PENDING,
    "held": JobState.PENDING,
    "active": JobState.RUNNING,
    "completed": JobState.COMPLETED,
    "failed": JobState.FAILED,
    "canceled": JobState.CANCELLED,
    "cancelled": JobState.CANCELLED,
    "CANCELED": JobState.CANCELLED,
    "frozen": JobState.UNKNOWN,
}


@pytest.mark.parametrize(("word", "state"), STATES.items())
def test_states_of_the_api(word: str, state: JobState) -> None:
    assert normalize(iri.JobStatus(state=word))[0] is state


@pytest.mark.parametrize(
    ("word", "meta", "message", "state"),
    [
        ("failed", {"raw_state": "TIMEOUT"}, None, JobState.TIMEOUT),
        ("failed", {}, "Job state OUT_OF_MEMORY", JobState.OUT_OF_MEMORY),
        ("failed", {"job_state": ["NODE_FAIL"]}, None, JobState.NODE_FAIL),
        ("canceled", {"state": "SUSPENDED"}, None, JobState.SUSPENDED),
        ("active", {"raw_state": "COMPLETING"}, None, JobState.COMPLETING),
        ("completed", {"raw_state": "FAILED"}, None, JobState.COMPLETED),
        ("queued", {"raw_state": "R"}, "Resources", JobState.PENDING),
    ],
)
def test_schedulers_words_refine_states(word: str, meta: dict[str, Any], message: str | None, state: JobState) -> None:
    assert normalize(iri.JobStatus(state=word, meta_data=meta, message=message))[0] is state


@pytest.mark.parametrize("state", JobState)
def test_states_survive_the_way_there_and_back(state: JobState) -> None:
    word = iri.state_name(state)
    found = read_job(iri.Job(id="1", status=iri.JobStatus(state=word, meta_data={"raw_state": state.name})), "pearl")
    coarse = {
        JobState.SUBMITTED: JobState.PENDING,
        JobState.UNKNOWN: JobState.PENDING,
    }
    assert found.state is coarse.get(state, state)
