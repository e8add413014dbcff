"""The corpus in what reaches the adapters: a hub's options, CI variables, ReFrame's places, any job specification.

A value is refused in a typed way, or it stays one value: the batch script's directives name no other option, and bash
runs it without waking the canary.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from crestline.model import CrestlineError, JobSpec
from crestline.model.sbatch import parse_directives
from crestline.model.script import render_script
from crestline_gitlab_runner.failures import BuildFailureError
from crestline_gitlab_runner.images import launch
from crestline_gitlab_runner.resources import ask
from crestline_gitlab_runner.settings import Defaults, Images
from crestline_jupyterhub import FirecRESTSpawner
from crestline_jupyterhub.software import software
from crestline_reframe.scripts import arrival, remote_script
from harness.corpus import Canary

SCRIPT = "#!/bin/bash\ntrue\n"

Adapter = Callable[[str], str]


def of_spec(**values: Any) -> str:
    return render_script(JobSpec(**({"script": SCRIPT, "workdir": "/w"} | values)))


def of_hub(**settings: Any) -> str:
    spawner = FirecRESTSpawner(hub_name="test", **settings)
    spawner.user = SimpleNamespace(name="alice", settings={}, url="/user/alice/")
    spawner.attempt = "0123456789ab"
    return render_script(spawner.job_spec("/home/alice/.crestline/one", "/home/alice"))


def of_variables(**variables: str) -> str:
    spec, _ = ask(Defaults(), variables, 0)
    return render_script(msgspec.structs.replace(spec, script=SCRIPT))


def of_image(runtime: str, image: str) -> str:
    return "\n".join(["#!/bin/bash", *launch(Images(runtime=runtime), image, "/w", "bash", "/w/s", per_rank=False)])


def of_software(**chosen: Any) -> str:
    return "\n".join(["#!/bin/bash", *software(chosen).lines()])


def of_arrival(value: str) -> str:
    return remote_script(SCRIPT, arrival(value, "began", value, [(value, value)]))


ADAPTERS: dict[str, Adapter] = {
    **{
        f"JobSpec.{field}": lambda value, field=field: of_spec(**{field: value})  # type: ignore[misc]
        for field in ("time_limit", "memory", "gpus", "qos", "array", "dependency", "nodes", "tasks")
    },
    "JobSpec.directives": lambda value: of_spec(directives=(f"--comment={shlex.quote(value)}",)),
    **{
        f"hub, {field}": lambda value, field=field: of_hub(**{f"req_{field}": value})  # type: ignore[misc]
        for field in ("partition", "account", "reservation", "runtime", "memory", "ngpus", "constraint", "qos", "gres")
    },
    "hub, modules": lambda value: of_software(modules=[value], module_paths=[value]),
    "hub, environments": lambda value: of_software(venv=value),
    "hub, variables": lambda value: of_software(variables={"X": value}),
    "hub, names of variables": lambda value: of_software(variables={value: "x"}),
    **{
        f"CI, {name}": lambda value, name=name: of_variables(**{name: value})  # type: ignore[misc]
        for name in (
            "CRESTLINE_ACCOUNT",
            "CRESTLINE_TIME",
            "CRESTLINE_NODES",
            "CRESTLINE_MEMORY",
            "SLURM_CONSTRAINT",
            "SLURM_HINT",
            "SLURM_NETWORK",
            "SCHEDULER_PARAMETERS",
        )
    },
    **{
        f"CI, image for {runtime}": lambda value, runtime=runtime: of_image(runtime, value)  # type: ignore[misc]
        for runtime in ("apptainer", "pyxis", "ce", "uenv")
    },
    "ReFrame, places": of_arrival,
}


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins for what the scripts call; each does nothing."""
    folder = tmp_path_factory.mktemp("tools")
    for name in ("module", "conda", "srun", "apptainer", "uenv", "python3"):
        (folder / name).write_text("#!/bin/sh\nexit 0\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_value_stays_one_value(adapter: str, tools: Path, tmp_path: Path) -> None:
    canary = Canary()
    taken = []
    for value in canary.everything():
        try:
            script = ADAPTERS[adapter](value)
        except (CrestlineError, BuildFailureError):
            continue
        taken.append(script)
        directives = [line for line in script.split("\n") if line.startswith("#SBATCH")]
        options = parse_directives("\n".join(["#!/bin/sh", *directives])).options
        assert len(options) <= len(directives), (value, directives)
    assert woken(canary, taken, tools, tmp_path) == []


def test_canary_detects_script_injection(tools: Path, tmp_path: Path) -> None:
    """Where a value is put into a script as it is."""
    canary = Canary()
    scripts = [f"#!/bin/bash\n: {value}\n" for value in canary.words()]
    assert woken(canary, scripts, tools, tmp_path) == [str(tmp_path / canary.name)]


def woken(canary: Canary, scripts: list[str], tools: Path, folder: Path) -> list[str]:
    """What the scripts left of the canary's name."""
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(folder)}
    for script in scripts:
        content = script.encode(errors="replace")
        subprocess.run(["bash", "-s"], input=content, cwd=folder, env=environment, timeout=60, capture_output=True)
    return [str(path) for path in folder.rglob(canary.name)]
