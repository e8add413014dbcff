"""Settings that sites bring along from other spawners: what they set reaches the job, or its refusal says why."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from traitlets import TraitError

from crestline.client import JobEvent
from crestline.model import File, FileType, Job, JobState
from crestline.testing.firecrest import PlainFirecrest
from crestline_jupyterhub import FirecRESTSpawner
from crestline_jupyterhub.failures import SpawnFailedError
from crestline_jupyterhub.job import texts
from crestline_jupyterhub.software import software
from crestline_jupyterhub.spawner import MIN_TIME_LEFT
from crestline_jupyterhub.staging import without_address
from harness.hub import Hub
from harness.hub_site import hub_before_firecrest, session_of

SETTINGS = '''
c.FirecRESTSpawner.options_form = """
<label>Queue <input name="queue"></label> <label>Note <input name="note"></label>
"""
c.Spawner.args = ["--ip", "0.0.0.0", "--port=8888", "--allow-root"]
c.Spawner.environment = {"OMP_NUM_THREADS": 4, "RATIO": 0.5, "UNSET": None}
c.Spawner.environment["USER_NAME"] = lambda spawner: spawner.user.name
c.FirecRESTSpawner.req_submitenv = {"OF_THE_JOB": 7}
c.Spawner.mem_limit = "1.5G"
c.Spawner.cpu_limit = 1.5
c.FirecRESTSpawner.batch_script = """#!/bin/bash
#SBATCH --mem={{memory}}
#SBATCH --cpus-per-task={{nprocs}}
#SBATCH --partition={{queue or partition}}
#SBATCH --comment={{note | default("none")}}
{{cmd}}
"""

def choose_queue(spawner):
    spawner.req_queue = "xfer" if spawner.user_options.get("queue") == "fast" else ""

c.Spawner.pre_spawn_hook = choose_queue
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, PlainFirecrest]]:
    with hub_before_firecrest(tmp_path_factory.mktemp("hub"), SETTINGS) as site:
        yield site


def test_form_of_a_site_starts_a_server(site: tuple[Hub, PlainFirecrest]) -> None:
    hub, plain = site
    with hub.browser("anna") as browser:
        assert '<input name="queue">' in browser.get("/hub/spawn").text
        form = {"queue": "fast", "note": "x\n#SBATCH --uid=0", "_xsrf": browser.cookies["_xsrf"]}
        assert browser.post("/hub/spawn", data=form).status_code == 200
    hub.ready("anna")
    (job,) = (job for job in plain.jobs() if "-anna-" in job.name)
    assert job.partition == "xfer"
    assert "#SBATCH --mem=1536M\n#SBATCH --cpus-per-task=2\n" in job.script
    assert "#SBATCH --comment=none" in job.script  # a value with several lines is no field of the template
    assert "--uid" not in job.script
    session = session_of(plain, "anna")
    assert "0.0.0.0" not in session["command"]  # type: ignore[operator]
    assert session["command"][-1] == "--allow-root"  # type: ignore[index]
    environment: dict[str, str] = session["environment"]  # type: ignore[assignment]
    assert (environment["OMP_NUM_THREADS"], environment["RATIO"]) == ("4", "0.5")
    assert environment["USER_NAME"] == "anna"
    assert "UNSET" not in environment
    hub.stop_server("anna")


def test_options_of_the_rest_api_reach_the_sites_own_code(site: tuple[Hub, PlainFirecrest]) -> None:
    hub, plain = site
    assert hub.spawn("berta", {"queue": "fast", "note": "hello"}).status_code in (201, 202)
    hub.ready("berta")
    (job,) = (job for job in plain.jobs() if "-berta-" in job.name)
    assert job.partition == "xfer"
    assert "#SBATCH --comment=hello" in job.script
    hub.stop_server("berta")


class _User(SimpleNamespace):
    __hash__ = object.__hash__


def spawner(**settings: object) -> FirecRESTSpawner:
    made = FirecRESTSpawner(hub_name="test", **settings)
    made.user = _User(name="alice", settings={}, url="/user/alice/")
    made.attempt = "0123456789ab"
    return made


@pytest.mark.parametrize(
    ("settings", "memory", "cpus"),
    [
        ({}, None, None),
        ({"mem_limit": "2G", "cpu_limit": 3}, "2048M", 3),
        ({"mem_guarantee": "512M", "cpu_guarantee": 0.5}, "512M", 1),
        ({"mem_limit": "2G", "mem_guarantee": "1G"}, "2048M", None),
        ({"mem_limit": "2G", "req_memory": "8GB", "cpu_limit": 3, "req_nprocs": "5"}, "8GB", 5),
    ],
)
def test_limits_are_asked_of_the_scheduler(settings: dict[str, object], memory: str | None, cpus: int | None) -> None:
    spec = spawner(**settings).job_spec("/home/a/.crestline/one", "/home/a")
    assert (spec.memory, spec.cpus_per_task) == (memory, cpus)


def test_numbers_in_environments_are_texts() -> None:
    assert texts({"A": 1, "B": 0.5, "C": "c", "D": None, "E": True}) == {"A": "1", "B": "0.5", "C": "c", "E": "True"}
    assert software({"variables": {"N": 4}}).variables == {"N": "4"}
    variables: dict[str, object] = {"N": 4, "USER": lambda spawner: spawner.user.name, "UNSET": None, "F": False}
    spec = spawner(req_submitenv=variables).job_spec("/home/a/.crestline/one", "/home/a")
    assert spec.environment == {"N": "4", "USER": "alice", "F": "False"}


def test_numbers_in_settings_of_the_job_are_texts() -> None:
    made = spawner(req_nnodes=2, req_nprocs=4.0, req_account=None, req_runtime="00:10:00")
    spec = made.job_spec("/home/a/.crestline/one", "/home/a")
    assert (spec.nodes, spec.cpus_per_task, spec.account) == (2, 4, None)
    with pytest.raises(TraitError):
        made.req_account = ["a"]


@pytest.mark.anyio
@pytest.mark.parametrize("form", ["<input name='project'>", None])
async def test_form_of_a_site_may_choose_a_profile_and_more(form: str | None) -> None:
    option = {"display_name": "Q", "choices": {"a": {"display_name": "A", "spawner_override": {"req_qos": 7}}}}
    profile = {"display_name": "Small", "spawner_override": {"req_nnodes": 1}, "profile_options": {"q": option}}
    made = spawner(profile_list=[profile], **({"options_form": form} if form else {}))
    given = {"profile": "small", "project": "p1", "gpu": True, "tags": ["x"], "none": None, "bad": "a\n#SBATCH"}
    if form is None:
        with pytest.raises(SpawnFailedError, match="Unknown option"):
            await made.apply_user_options(made, given)
        return
    await made.apply_user_options(made, given)
    assert made.chosen_options == {"q": "a", "project": "p1", "gpu": "True"}
    assert (made.req_nnodes, made.req_qos) == ("1", "7")
    with pytest.raises(SpawnFailedError, match="Q cannot be"):
        await made.apply_user_options(made, {"profile": "small", "q": "other"})


@pytest.mark.anyio
async def test_progress_says_why_there_is_no_news() -> None:
    made = spawner(system="nowhere")
    made.job_id = "12"
    messages = [event["message"] async for event in made.progress()]
    assert len(messages) == 1
    assert messages[0].startswith("Job 12: its state is not known at present.")


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (["--ip", "0.0.0.0"], []),
        (["--ip=0.0.0.0", "--debug"], ["--debug"]),
        (["--port", "8888", "--debug"], ["--debug"]),
        (["--ServerApp.ip", "0.0.0.0", "--ServerApp.port=1"], []),
        (["--ServerApp.port_retries=0", "--ip-x=1"], ["--ServerApp.port_retries=0", "--ip-x=1"]),
        (["--SingleUserNotebookApp.ip", "0.0.0.0", "-y"], ["-y"]),
        (["--ip"], []),
        (["--sock", "/tmp/s", "--notebook-dir", "/a b"], ["--notebook-dir", "/a b"]),
    ],
)
def test_arguments_that_say_where_to_listen_are_left_out(given: list[str], left: list[str]) -> None:
    assert without_address(["jupyterhub-singleuser", *given]) == ["jupyterhub-singleuser", *left]


@pytest.mark.anyio
async def test_internal_ssl_is_refused_before_there_is_a_job() -> None:
    with pytest.raises(SpawnFailedError, match="internal_ssl") as caught:
        await spawner(internal_ssl=True).start()
    assert "connect_mode = 'relay'" in caught.value.log_message
    assert "administrator" in caught.value.jupyterhub_message


def test_help_shows_the_defaults_that_hold() -> None:
    """`--help-all` shows what a trait is declared with; only what a server's own user or host decides may differ."""
    made, own = spawner(), {"hub_name", "req_username"}
    for name, trait in FirecRESTSpawner.class_traits(config=True).items():
        if trait.this_class.__module__.startswith("crestline_jupyterhub") and name not in own | {"profile_list"}:
            assert getattr(made, name) == trait.default_value or not getattr(made, name), name
    for trait, default in ((FirecRESTSpawner.start_timeout, 3600), (FirecRESTSpawner.http_timeout, 120)):
        assert f"Default: {default}" in FirecRESTSpawner.class_get_trait_help(trait)


def test_time_of_a_start_goes_on_over_a_restart_and_a_requeued_job_has_it_anew() -> None:
    begun = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=5)
    made = spawner(start_timeout=6 * 3600, orm_spawner=SimpleNamespace(started=begun, server=None))
    assert 0 < made._time_left() <= 3600
    made.start_timeout = 3600
    assert made._time_left() == MIN_TIME_LEFT
    made.run = 1
    assert made._time_left() == 3600


def _news(state: JobState, reason: str = "") -> JobEvent:
    return JobEvent(job=Job(job_id="7", state=state, nodes="n1"), state=state, reason=reason)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("news", "said", "log"),
    [
        (None, "Nothing was heard of its job.", False),
        (_news(JobState.PENDING, "(Priority)"), "other jobs come first", False),
        (_news(JobState.RUNNING), "Job 7 runs on n1", True),
    ],
)
async def test_start_that_takes_too_long_says_where_its_job_is(news: JobEvent | None, said: str, log: bool) -> None:
    """The hub itself only says that it gave up, without a word about the queue."""
    made = spawner(start_timeout=240)
    made._watching, made._news = asyncio.get_running_loop().create_future(), news
    system = SimpleNamespace(
        ls=lambda _: _done([File(name="session.log", type=FileType.FILE, size=6)]), read_text=lambda _: _done("stuck\n")
    )
    made.access = lambda: SimpleNamespace(as_user=lambda: _done(system))
    with pytest.raises(SpawnFailedError) as caught:
        await made._listening(0.01)
    message = caught.value.jupyterhub_message
    assert message.startswith("The server did not start within 240 seconds, so its job is cancelled.")
    assert said in message
    assert ("stuck" in caught.value.jupyterhub_html_message) == log


async def _done(value: Any) -> Any:
    return value
