"""The distributions as they are published: each one's wheel, in an environment that has what it declares and no more.

Packages come from the environment that runs this, by the `Requires-Dist` of the wheels and of what those need; so
nothing is downloaded, and what a distribution imports without declaring it is missing.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tools.release.build import digests, read
from tools.release.recipes import conda_recipe, spack_package

from harness.certificates import environment_for_downloads

ROOT = Path(__file__).parents[2]
HOSTS = ("airflow", "jupyterhub", "reframe", "litestar")
"""what only some of the distributions may bring"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels by the name of their distribution."""
    out = tmp_path_factory.mktemp("dist")
    build(out, "--all-packages")
    return {canonicalize_name(file.name.split("-")[0]): file for file in out.glob("*.whl")}


def build(out: Path, *arguments: str) -> None:
    """Build source distributions, and wheels from them."""
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "build", "--quiet", *arguments, "--python", sys.executable, "--out-dir", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment_for_downloads())
    assert done.returncode == 0, done.stderr


class Place:
    """A directory with wheels unpacked and links to what they declare, and an interpreter that sees nothing else."""

    def __init__(self, place: Path, wheels: dict[str, Path], name: str, *extras: str) -> None:
        self._packages = place / "packages"
        self._packages.mkdir()
        self._wheels = wheels
        self._done: set[tuple[str, str]] = set()
        for extra in ("", *extras):
            self._install(name, extra)

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        # -S: not even the packages of the interpreter; -P: not this directory
        start = f"import sys; sys.path.append({str(self._packages)!r})\n"
        return subprocess.run(
            [sys.executable, "-S", "-P", "-E", "-c", start + code], capture_output=True, text=True, cwd=self._packages
        )

    def _install(self, name: str, extra: str) -> None:
        name = canonicalize_name(name)
        if (name, extra) in self._done:
            return
        self._done.add((name, extra))
        if name in self._wheels:
            with zipfile.ZipFile(self._wheels[name]) as wheel:
                wheel.extractall(self._packages)
                [metadata] = [each for each in wheel.namelist() if each.endswith(".dist-info/METADATA")]
                needs = Parser().parsestr(wheel.read(metadata).decode()).get_all("Requires-Dist") or []
        else:
            try:
                found = distribution(name)
            except PackageNotFoundError:
                return  # for another platform, or another version of Python
            self._link(found)
            needs = found.requires or []
        for requirement in map(Requirement, needs):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                for each in ("", *requirement.extras):
                    self._install(requirement.name, each)

    def _link(self, found: Distribution) -> None:
        for top in {file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            source, target = Path(str(found.locate_file(top))), self._packages / top
            if not target.exists() and source.exists():
                target.symlink_to(source)
            elif target.is_symlink() and source.is_dir():
                pass  # a namespace that several share


def every_module(package: str) -> str:
    """Code that imports all of a package."""
    return (
        f"import pkgutil, importlib, {package}\n"
        f"for each in pkgutil.walk_packages({package}.__path__, '{package}.'): importlib.import_module(each.name)\n"
    )


def absent(*names: str) -> Iterator[str]:
    """Code that fails where a package can be imported."""
    for name in names:
        yield f"import importlib.util; assert importlib.util.find_spec({name!r}) is None, {name!r}\n"


def test_all_distributions_build(wheels: dict[str, Path]) -> None:
    assert wheels.keys() == {
        "crestline",
        "airflow-provider-crestline",
        "crestline-gitlab-runner",
        "crestline-jupyterhub",
        "crestline-reframe",
    }


def test_a_second_build_is_the_same(wheels: dict[str, Path], tmp_path: Path) -> None:
    build(tmp_path, "--package", "crestline-reframe")
    second = digests(tmp_path)
    first = digests(wheels["crestline-reframe"].parent)
    assert second
    assert second.items() <= first.items()


def test_every_distribution_brings_the_licence(wheels: dict[str, Path]) -> None:
    for wheel in wheels.values():
        with zipfile.ZipFile(wheel) as archive:
            [licence] = [name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
            assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_recipes_name_every_dependency(wheels: dict[str, Path]) -> None:
    for wheel in wheels.values():
        distribution = read(wheel)
        recipe = yaml.safe_load(conda_recipe(distribution))
        package = spack_package(distribution)
        compile(package, "package.py", "exec")
        assert [each["package"]["name"] for each in recipe["outputs"]] == [
            distribution.name,
            *(f"{distribution.name}-{extra}" for extra in distribution.extras),
        ]
        outputs = dict(zip(("", *distribution.extras), recipe["outputs"], strict=True))
        for extra, output in outputs.items():
            needs = {need.split()[0].replace("_", "-").replace(".", "-") for need in output["requirements"]["run"]}
            for requirement in distribution.requirements(extra):
                name = canonicalize_name(requirement.name)
                assert needs & {name, *(f"{name}-{each}" for each in requirement.extras)}, (extra, requirement)
                assert f'"py-{name}' in package or name == distribution.name, (extra, requirement)


@pytest.mark.parametrize(
    ("name", "code", "hosts"),
    [
        ("crestline", "import crestline.cli.app; crestline.connect; crestline.JobSpec", HOSTS),
        ("crestline-gitlab-runner", every_module("crestline_gitlab_runner"), HOSTS),
        ("crestline-jupyterhub", "import crestline_jupyterhub.reaper", ("airflow", "reframe", "litestar")),
        ("crestline-reframe", every_module("crestline_reframe"), ("airflow", "jupyterhub", "litestar")),
        ("airflow-provider-crestline", "import crestline_airflow.operators", ("jupyterhub", "reframe", "litestar")),
    ],
    ids=["core", "gitlab-runner", "jupyterhub", "reframe", "airflow"],
)
def test_it_needs_what_it_declares(
    name: str, code: str, hosts: tuple[str, ...], wheels: dict[str, Path], tmp_path: Path
) -> None:
    place = Place(tmp_path, wheels, name)
    done = place.python("".join(absent(*hosts)) + code)
    assert done.returncode == 0, done.stderr


def test_the_tools_for_agents_need_what_their_extra_declares(wheels: dict[str, Path], tmp_path: Path) -> None:
    place = Place(tmp_path, wheels, "crestline", "mcp")
    code = "import asyncio; from crestline.cli.mcp.server import make_server as make\n"
    code += "assert asyncio.run(make(None, frozenset()).list_tools())"
    done = place.python("".join(absent(*HOSTS)) + code)
    assert done.returncode == 0, done.stderr


def test_the_gateway_starts_from_its_wheel(wheels: dict[str, Path], tmp_path: Path) -> None:
    place = Place(tmp_path, wheels, "crestline", "gateway")
    home = tmp_path / "home"
    code = f"""
import threading, httpx, time
from pathlib import Path
from crestline.gateway.config import load_config
from crestline.gateway.server import Server
server = Server(load_config(state_dir=Path({str(home)!r})), port=0)
thread = threading.Thread(target=server.run_forever)
thread.start()
while True:
    try:
        answer = httpx.get(server.url + "/docs/openapi.json", trust_env=False)
        break
    except httpx.TransportError:
        assert thread.is_alive()
        time.sleep(0.05)
server.should_exit = True
thread.join()
assert answer.json()["info"]["title"] == "Crestline"
"""
    done = place.python("".join(absent("airflow", "jupyterhub", "reframe", "asyncpg", "aiobotocore")) + code)
    assert done.returncode == 0, done.stderr
