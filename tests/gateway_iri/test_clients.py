"""DOE's own clients, generated from the API's documents and unmodified: `amsc-iri` for v1, `amsc-iri-v2` for v2."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import amsc_iri
import amsc_iri_v2
import pytest

from harness.gateway import RunningGateway, in_thread
from harness.waiting import until_blocking


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, served: Path) -> Iterator[RunningGateway]:
    systems = {"local": {"file_systems": [{"path": str(served), "data_type": "scratch", "default_work_dir": True}]}}
    with in_thread(tmp_path_factory.mktemp("iri") / "home", systems=systems) as running:
        yield running


@pytest.fixture(params=[amsc_iri, amsc_iri_v2], ids=["v1", "v2"])
def library(request: pytest.FixtureRequest) -> ModuleType:
    found: ModuleType = request.param
    return found


@pytest.fixture
def client(gateway: RunningGateway, library: ModuleType) -> Any:
    configuration = library.Configuration(host=f"{gateway.url}/iri", access_token=gateway.token())
    return library.ApiClient(configuration)


@pytest.fixture
def ids(client: Any, library: ModuleType) -> dict[str, str]:
    """The id of the resource of each endpoint."""
    found = library.StatusApi(client).get_resources()
    return {each.supported_endpoints[0].value: each.id for each in found}


def until(look: Callable[[], Any], has_ended: Callable[[Any], bool]) -> Any:
    return until_blocking(lambda: found if has_ended(found := look()) else None)


def test_what_is_open_needs_no_token(gateway: RunningGateway, library: ModuleType) -> None:
    client = library.ApiClient(library.Configuration(host=f"{gateway.url}/iri"))
    facility = library.FacilityApi(client).get_facility()
    [site] = library.FacilityApi(client).get_sites()
    assert facility.site_uris == [site.self_uri]
    resources = library.StatusApi(client).get_resources()
    assert [each.current_status.value for each in resources] == ["up", "up"]
    assert library.StatusApi(client).get_resource(resources[0].id).name == "local"
    assert library.StatusApi(client).get_incidents() == library.StatusApi(client).get_events_by_incident() == []
    [capability] = library.AccountApi(client).get_capabilities()
    assert capability.self_uri == resources[0].capability_uris[0]
    assert [each.id for each in library.ComputeApi(client).get_compute_resources()] == [resources[0].id]
    assert [each.id for each in library.FilesystemApi(client).get_filesystem_resources()] == [resources[1].id]
    with pytest.raises(library.exceptions.UnauthorizedException):
        library.TaskApi(client).get_tasks()


def test_projects(client: Any, library: ModuleType) -> None:
    accounts = library.AccountApi(client)
    [project] = accounts.get_projects()
    [allocation] = accounts.get_project_allocations_by_project(project.id)
    [mine] = accounts.get_user_allocations_by_project_allocation(project.id, allocation.id)
    assert mine.user_id == project.user_ids[0]


def test_a_job(client: Any, library: ModuleType, ids: dict[str, str], served: Path) -> None:
    compute = library.ComputeApi(client)
    spec = library.JobSpec(
        executable="/bin/echo",
        arguments=["hello", "there"],
        directory=str(served),
        name="greeting",
        stdout_path="greeting.out",
        resources=library.ResourceSpec(node_count=1, process_count=1, exclusive_node_use=False),
        attributes=library.JobAttributes(duration=300),
    )
    job = compute.launch_job(ids["compute"], spec)
    look = lambda: compute.get_job(ids["compute"], job.id)  # noqa: E731
    ended = until(look, lambda found: found.status.state.value in ("completed", "failed", "canceled"))
    assert (ended.status.state.value, ended.status.exit_code) == ("completed", 0)
    assert (served / "greeting.out").read_text() == "hello there\n"
    assert job.id in [each.id for each in compute.get_jobs(ids["compute"], historical=True)]
    described = compute.get_job(ids["compute"], job.id, include_spec=True)
    assert (described.job_spec.executable, described.job_spec.arguments) == ("/bin/echo", ["hello", "there"])
    sleeper = compute.launch_job(
        ids["compute"], library.JobSpec(executable="sleep", arguments=["300"], directory=str(served))
    )
    compute.cancel_job(ids["compute"], sleeper.id)
    look = lambda: compute.get_job(ids["compute"], sleeper.id)  # noqa: E731
    assert until(look, lambda found: found.status.state.value == "canceled").id == sleeper.id
    with pytest.raises(library.exceptions.UnprocessableEntityException):
        compute.update_job(ids["compute"], job.id, spec)
    with pytest.raises(library.exceptions.NotFoundException):
        compute.get_job("nosuch", job.id)


def test_files(client: Any, library: ModuleType, ids: dict[str, str], served: Path) -> None:
    files, tasks, resource = library.FilesystemApi(client), library.TaskApi(client), ids["filesystem"]
    is_newer = library is amsc_iri_v2

    def result(submitted: Any) -> Any:
        look = lambda: tasks.get_task(submitted.task_id)  # noqa: E731
        task = until(look, lambda found: found.status.value not in ("pending", "active"))
        assert task.status.value == "completed", task.result
        return task.result["output"]

    directory = str(served / library.__name__)
    result(files.mkdir(resource, library.PostMakeDirRequest(path=directory)))
    result(files.upload(resource, f"{directory}/text", ("text", b"one\ntwo\n")))
    listing = (
        files.ls(resource, library.PostLsRequest(path=directory)) if is_newer else files.ls(resource, path=directory)
    )
    assert [each["name"] for each in result(listing)] == ["text"]
    path = f"{directory}/text"
    download = (
        files.download(resource, library.PostDownloadRequest(path=path)) if is_newer else files.download(resource, path)
    )
    assert base64.b64decode(result(download)) == b"one\ntwo\n"
    result(files.cp(resource, library.PostCopyRequest(path=path, target_path=f"{directory}/copy")))
    result(files.rm(resource, library.PostRmRequest(path=directory)) if is_newer else files.rm(resource, directory))
    assert not Path(directory).exists()
    assert len(tasks.get_tasks()) >= 6


def test_directories(gateway: RunningGateway, served: Path) -> None:
    configuration = amsc_iri_v2.Configuration(host=f"{gateway.url}/iri", access_token=gateway.token())
    client = amsc_iri_v2.ApiClient(configuration)
    [location] = amsc_iri_v2.StorageApi(client).get_storage_locations("local")
    assert location.path.startswith(str(served))
    assert amsc_iri_v2.StorageApi(client).get_storage_access_endpoints("local") == []
