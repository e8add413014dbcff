"""Schedulers by name, those of other distributions included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crestline.gateway.hosts import Commands, Completed
from crestline.gateway.schedulers.registry import SchedulerSetup, create_scheduler, scheduler_types
from crestline.gateway.schedulers.slurm import SlurmScheduler
from crestline.model import ConfigError


class NoCommands(Commands):
    async def run(self, *_: Any, **__: Any) -> Completed:
        raise AssertionError("nothing may run here")


def setup(**options: object) -> SchedulerSetup:
    return SchedulerSetup(name="s", options=options, commands=NoCommands(), directory=Path("/nowhere"))


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in the path, as site-packages is, with a distribution that has a scheduler."""
    (tmp_path / "flux_plugin.py").write_text(
        "from crestline.gateway.schedulers.slurm import SlurmScheduler, SlurmOptions\n"
        "class FluxScheduler(SlurmScheduler):\n    pass\n"
        "def create(setup):\n    return FluxScheduler(setup.name, setup.commands, SlurmOptions())\n"
    )
    _distribution(
        tmp_path, "one", "flux = flux_plugin:create\nbroken = flux_plugin:nothing\ntwice = flux_plugin:create\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def _distribution(path: Path, name: str, lines: str) -> None:
    info = path / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[crestline.schedulers]\n{lines}")


def test_built_in() -> None:
    scheduler = create_scheduler("slurm", setup(observer="watch", timeout=9))
    assert isinstance(scheduler, SlurmScheduler)
    assert scheduler.kind == "slurm"
    assert {"slurm", "pbs", "hyperqueue"} <= set(scheduler_types())


def test_a_plug_in(plugins: Path) -> None:
    assert type(create_scheduler("flux", setup())).__name__ == "FluxScheduler"
    assert "flux" in scheduler_types()


@pytest.mark.parametrize("options", [{"timeout": "soon"}, {"no_such_option": 1}])
def test_options_that_cannot_be_used(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="'s'"):
        create_scheduler("slurm", setup(**options))


def test_what_cannot_be_created(plugins: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        create_scheduler("lsf", setup())
    assert "slurm" in caught.value.hint
    with pytest.raises(ConfigError, match="cannot be loaded"):
        create_scheduler("broken", setup())
    _distribution(plugins, "two", "twice = flux_plugin:create\n")
    with pytest.raises(ConfigError, match="Several"):
        create_scheduler("twice", setup())
