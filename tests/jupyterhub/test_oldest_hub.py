"""The oldest JupyterHub that the distribution declares, installed from the package index, with real servers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crestline.testing.firecrest import PlainFirecrest
from harness.certificates import environment_for_downloads
from harness.example_hub import EXAMPLES
from harness.hub import PASSWORD, Hub
from harness.hub_site import active_jobs, hub_before_firecrest, spawn_queued, spawn_started

ROOT = Path(__file__).parents[2]
DECLARED = re.search(r'"jupyterhub>=([0-9.]+)"', (ROOT / "integrations/jupyterhub/pyproject.toml").read_text())
SETTINGS = f"""
load_subconfig({str(EXAMPLES / "form.py")!r})
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = "{PASSWORD}"
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with that JupyterHub and the oldest versions of all that is declared."""
    assert DECLARED is not None
    uv, place = str(Path(sys.executable).with_name("uv")), tmp_path_factory.mktemp("oldest") / "venv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(place)], check=True, timeout=300)
    install = [uv, "pip", "install", "--quiet", "--python", str(place / "bin/python")]
    core = f"{ROOT / 'core'}[relay,gateway,s3,postgresql,fsspec,mcp,otel,testing]"
    here = ["--resolution=lowest-direct", "-e", core, "-e", str(ROOT / "integrations/jupyterhub")]
    command = [*install, f"jupyterhub=={DECLARED[1]}.*", *here]
    subprocess.run(command, check=True, timeout=600, cwd=place, env=environment_for_downloads())
    return str(place / "bin/python")


IMPORTS = """
import importlib, pkgutil, sys
for root in sys.argv[1:]:
    for module in pkgutil.walk_packages(importlib.import_module(root).__path__, f"{root}."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
"""


@pytest.fixture(scope="module")
def site(python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, PlainFirecrest]]:
    with hub_before_firecrest(tmp_path_factory.mktemp("hub"), SETTINGS, python=python) as (hub, plain):
        assert DECLARED is not None
        with hub.http() as http:
            assert http.get("/hub/api/info").json()["version"].startswith(DECLARED[1])
        yield hub, plain


def test_every_module_can_be_imported_with_the_oldest_packages(python: str) -> None:
    """What is declared as `package>=version` has what is imported from it."""
    command = [python, "-c", IMPORTS, "crestline", "crestline_jupyterhub"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_choice_reaches_the_scheduler_and_the_server_answers(site: tuple[Hub, PlainFirecrest]) -> None:
    hub, plain = site
    assert hub.spawn("anna", {"hours": 2, "queue": "xfer"}).status_code in (201, 202)
    hub.ready("anna")
    (job,) = (job for job in plain.jobs() if "-anna-" in job.name)
    assert job.partition == "xfer"
    assert "#SBATCH --time=2:00:00" in job.script
    with hub.http() as http:
        assert http.get("/user/anna/api").status_code == 200
    hub.stop_server("anna")
    hub.wait(lambda: not active_jobs(plain, "-anna-"), "the job was not cancelled")


def test_what_is_not_offered_is_refused_and_the_page_says_why(site: tuple[Hub, PlainFirecrest]) -> None:
    hub, plain = site
    with hub.browser("bert") as browser:
        browser.get("/hub/spawn")
        form = {"profile": "jupyterlab", "profile-option-jupyterlab--nodes": "99", "_xsrf": browser.cookies["_xsrf"]}
        shown = browser.post("/hub/spawn", data=form).text
    assert shown.count("Give a whole number from 1 to") == 1
    assert not active_jobs(plain, "-bert-")


def test_server_that_waits_is_stopped_after_the_hub_came_back(site: tuple[Hub, PlainFirecrest]) -> None:
    hub, plain = site
    spawn_queued(hub, plain, "cleo")
    hub.kill()
    hub.start()
    hub.stop_server("cleo")
    hub.wait(lambda: not active_jobs(plain, "-cleo-"), "the job was not cancelled")
    spawn_started(hub, plain, "cleo")
