"""What may reach a session and what it may say: the callback, other users' access, and what the reaper removes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from crestline.client import Site, connect
from crestline.model import JobSpec
from crestline.testing.firecrest import PlainFirecrest
from harness.example_hub import EXAMPLES
from harness.hub import Hub
from harness.hub_settings import variables
from harness.hub_site import active_jobs, hub_before_firecrest, session_of

REAPER_TOKEN = "a-token-of-the-reaper-in-the-tests"
SETTINGS = f"""
from pathlib import Path
load_subconfig({str(EXAMPLES / "form.py")!r})
c.JupyterHub.allow_named_servers = True
c.FirecRESTSpawner.node_networks = ["127.0.0.0/8", "10.0.0.0/8"]
c.JupyterHub.services.append(
    {{
        "name": "reaper",
        "api_token": "{REAPER_TOKEN}",
        "environment": {{name: os.environ[name] for name in os.environ if name.startswith(("FIRECREST_", "AUTH_"))}},
        "command": ["{sys.executable}", "-m", "crestline_jupyterhub.reaper", "--hub-name", "test", "--grace", "0.1",
                    "--days", "0", "--every", "1", "--hub-pid", str(os.getpid()),
                    *(["--delete"] if Path("in-earnest").exists() else [])],
    }}
)
c.JupyterHub.load_roles.append(
    {{"name": "reaper", "scopes": ["list:users", "read:servers", "admin:server_state"], "services": ["reaper"]}}
)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, PlainFirecrest]]:
    with hub_before_firecrest(tmp_path_factory.mktemp("hub"), SETTINGS) as site:
        yield site


@pytest.fixture
def hub(site: tuple[Hub, PlainFirecrest]) -> Hub:
    return site[0]


@pytest.fixture
def plain(site: tuple[Hub, PlainFirecrest]) -> PlainFirecrest:
    return site[1]


def say(hub: Hub, news: object) -> int:
    content = news if isinstance(news, bytes) else json.dumps(news).encode()
    return httpx.post(f"{hub.url}/hub/api/crestline/callback", content=content, timeout=60).status_code


def test_callback_says_one_address_and_nothing_else(hub: Hub, plain: PlainFirecrest) -> None:
    plain.settings.start_delay = 3600
    hub.spawn("anna")
    hub.wait(lambda: active_jobs(plain, "-anna-"), "no job")
    nonce = session_of(plain, "anna")["nonce"]
    here = {"nonce": nonce, "port": 4711, "host": "127.0.0.1"}
    for more in ({"job_id": "1"}, {"cmd": ["sh"]}, {"system": "x@y"}, {"relay_url": "http://127.0.0.1"}):
        assert say(hub, here | more) == 400
    for wrong in (b"{", b"[]", b"null", {"nonce": nonce}, here | {"port": "4711"}, here | {"port": 0}):
        assert say(hub, wrong) == 400
    for name in ("host.example.org", "127.0.0.1/@x", "127.0.0.1:80", 1):
        assert say(hub, here | {"host": name}) == 400
    assert say(hub, b" " * 2000) == 413
    assert say(hub, here | {"nonce": "guessed"}) == 403
    assert say(hub, here | {"nonce": ["guessed"]}) == 400
    assert say(hub, here | {"host": "169.254.169.254"}) == 409  # no node is there
    assert say(hub, {"nonce": nonce, "port": None}) == 409  # not over a relay
    assert (hub.server("anna") or {})["pending"] == "spawn"

    hub.kill()
    hub.start()  # the nonce holds still
    hub.wait(lambda: say(hub, here) == 204, "the hub does not know the nonce any more")
    assert say(hub, here) == 204  # the answer may have got lost
    assert say(hub, here | {"port": 4712}) == 409
    for wrong in (0, -1, True, "2", 10**9):
        assert say(hub, here | {"run": wrong}) == 400
    assert say(hub, here | {"port": 4712, "run": 2}) == 204  # its job was requeued
    assert say(hub, here) == 409  # the first run is over
    plain.settings.start_delay = 0
    for job_id in active_jobs(plain, "-anna-"):
        plain.scheduler.end(job_id, "CANCELLED")


def test_options_of_a_user_set_nothing_but_what_is_offered(hub: Hub, plain: PlainFirecrest) -> None:
    hostile = {
        "req_prologue": "touch /tmp/pwned",
        "cmd": ["sh"],
        "partition": "x\n#SBATCH --uid=0",
        "host": "elsewhere",
    }
    answer = hub.spawn("berta", hostile)
    if answer.status_code < 400:
        hub.wait(lambda: not (hub.server("berta") or {}).get("pending"), "it does not end")
        for job in plain.jobs():
            assert "pwned" not in job.script
            assert "--uid" not in job.script
    with hub.http() as http:
        http.delete("/hub/api/users/berta/server")


def test_form_offers_what_the_system_has_and_sets_it(hub: Hub, plain: PlainFirecrest) -> None:
    with hub.browser("ada") as browser:
        form = browser.get("/hub/spawn").text
    assert '<option value="xfer">' in form
    assert "nodes free)" in form
    refused = hub.spawn("ada", {"queue": "moon"})
    if refused.status_code < 400:
        hub.wait(lambda: not (hub.server("ada") or {}).get("pending"), "it does not end")
    assert not active_jobs(plain, "-ada-")
    hub.spawn("ada", {"queue": "xfer", "nodes": 1, "hours": 2})
    hub.ready("ada")
    (job,) = (job for job in plain.jobs() if "-ada-" in job.name)
    assert job.partition == "xfer"
    assert "#SBATCH --time=2:00:00" in job.script
    hub.stop_server("ada")


def test_no_other_user_reads_a_session(hub: Hub, plain: PlainFirecrest) -> None:
    hub.spawn("clara")
    hub.ready("clara")
    (folder,) = (plain.home / ".crestline/jupyterhub").glob("*-clara-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "session.json").stat().st_mode & 0o777 == 0o600
    config = session_of(plain, "clara")
    secrets = [str(config["nonce"]), config["environment"]["JUPYTERHUB_API_TOKEN"]]  # type: ignore[index]
    (job,) = (job for job in plain.jobs() if "-clara-" in job.name)
    submitted = f"{job.script} {job.environment}"
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    for secret in secrets:
        assert len(secret) > 20
        assert secret not in submitted + processes + hub.log()
    hub.stop_server("clara")
    hub.wait(lambda: not (folder / "session.json").exists(), "the secrets stay")
    assert (folder / "session.log").exists()


def services(hub: Hub) -> list[psutil.Process]:
    """The reapers that the hub has started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "crestline_jupyterhub.reaper" in process.cmdline() and process.cwd() == str(hub.folder):
                found.append(process)
    return found


def test_a_killed_hub_leaves_no_reaper(hub: Hub) -> None:
    (old,) = services(hub)
    hub.kill()
    hub.start()
    hub.wait(lambda: not old.is_running(), "the reaper of the killed hub goes on")
    hub.wait(lambda: len(services(hub)) == 1, "the hub has no reaper")


def reap(
    hub: Hub, plain: PlainFirecrest, *arguments: str, token: str = REAPER_TOKEN
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | variables(plain)
    environment |= {"JUPYTERHUB_API_URL": f"{hub.url}/hub/api", "JUPYTERHUB_API_TOKEN": token}
    command = [sys.executable, "-m", "crestline_jupyterhub.reaper", "--hub-name", "test", "--grace", "0", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_reaper_ends_whose_hub_was_killed_while_it_started(plain: PlainFirecrest) -> None:
    reaper = f"{sys.executable} -m crestline_jupyterhub.reaper --hub-name test --every 0.1"
    environment = (
        os.environ | variables(plain) | {"JUPYTERHUB_API_URL": "http://127.0.0.1:9", "JUPYTERHUB_API_TOKEN": "x"}
    )
    hub = f"{reaper} --hub-pid $$ & exit 0"  # the pipes stay open until the reaper ends
    done = subprocess.run(["sh", "-c", hub], env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert "has gone" in done.stderr


def test_reaper_removes_orphaned_jobs_and_folders(hub: Hub, plain: PlainFirecrest) -> None:
    hub.spawn("dora")
    hub.ready("dora")
    sessions = plain.home / ".crestline/jupyterhub"
    lost = sessions / "jupyter-test-0123456789ab-eve-default"
    lost.mkdir()
    site = Site(url=plain.url, token=plain.token(), system=plain.system)
    names = ("jupyter-test-aaaaaaaaaaaa-eve-default", "jupyter-test_2-bbbbbbbbbbbb-eve-default", "mine")

    async def submit() -> None:
        async with connect(site) as system:
            for name in names:
                await system.submit(JobSpec(script="#!/bin/sh\nsleep 600\n", name=name, workdir=str(plain.home)))

    asyncio.run(submit())
    hub.wait(lambda: "would remove job" in hub.log(), "the service tells of no job")
    hub.wait(lambda: "would remove folder" in hub.log(), "the service tells of no folder")
    assert all(active_jobs(plain, name) for name in names)
    assert lost.is_dir()

    blind = reap(hub, plain, "--delete", token="wrong")
    assert blind.returncode == 1
    assert all(active_jobs(plain, name) for name in names)

    hub.stop()
    (hub.folder / "in-earnest").touch()
    hub.start()
    hub.wait(lambda: not active_jobs(plain, names[0]), "the orphan lives")
    hub.wait(lambda: not lost.exists(), "its folder stays")
    assert active_jobs(plain, names[1])
    assert active_jobs(plain, names[2])
    assert active_jobs(plain, "-dora-")
    assert Path(sessions / next(each.name for each in sessions.glob("*-dora-*"))).is_dir()
    with hub.http() as http:
        assert http.get("/user/dora/api").status_code == 200


def page(hub: Hub, user: str, path: str) -> str:
    with hub.browser(user) as browser:
        return browser.get(path).text


def test_failure_page_says_what_happened_and_shows_the_log_as_a_block(hub: Hub, plain: PlainFirecrest) -> None:
    wrong = "c.Spawner.cmd = ['jupyterhub-singleuser-that-is-not-there']"
    with hub.http() as http:
        http.post("/hub/api/users/greta")
    config = hub.folder / "config.py"
    before = config.read_text()
    hub.stop()
    config.write_text(f"{before}\n{wrong}\n")
    hub.start()
    try:
        hub.spawn("greta")
        hub.wait(lambda: not (hub.server("greta") or {"pending": None})["pending"], "it does not end")
        shown = page(hub, "greta", "/hub/spawn-pending/greta")
    finally:
        hub.stop()
        config.write_text(before)
        hub.start()
    assert "exit code 127" in shown
    assert shown.count("a command was not found") == 1
    block = shown.partition('<pre class="crestline-log text-start">')[2].partition("</pre>")[0]
    assert "jupyterhub-singleuser-that-is-not-there cannot be started: No such file or directory" in block
    assert "Traceback" not in shown
    assert "SpawnException" not in shown


@pytest.mark.parametrize("server", ["", "/hanna/gpu"])
def test_form_that_was_refused_keeps_what_was_chosen(hub: Hub, plain: PlainFirecrest, server: str) -> None:
    with hub.browser("hanna") as browser:
        browser.get("/hub/spawn")
        fields = {"profile": "jupyterlab", "nodes": "99", "hours": "3", "_xsrf": browser.cookies["_xsrf"]}
        prefix = "profile-option-jupyterlab--"
        form = {name if name in ("profile", "_xsrf") else prefix + name: value for name, value in fields.items()}
        answer = browser.post(f"/hub/spawn{server}", data=form)
        again = browser.get(f"/hub/spawn{server}")
    assert answer.status_code == 400
    assert answer.text.count("Give a whole number from 1 to") == 1
    assert "SpawnException" not in answer.text
    for shown in (answer.text, again.text):
        assert 'name="profile-option-jupyterlab--nodes" value="99"' in shown
        assert 'name="profile-option-jupyterlab--hours" value="3"' in shown
