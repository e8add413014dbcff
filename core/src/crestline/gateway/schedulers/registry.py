"""Schedulers by the word that the configuration uses for them, all found through entry points.

A scheduler, of this distribution or of another one, is a callable that takes a `SchedulerSetup` and returns a
`Scheduler`, listed in its distribution as

    [project.entry-points."crestline.schedulers"]
    flux = "my_package:create_scheduler"

Nothing of a scheduler is imported before a system asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from crestline.gateway.hosts import Commands
from crestline.gateway.schedulers.base import Scheduler
from crestline.model import ConfigError
from crestline.plugins import load_plugin, plugin_names

T = TypeVar("T")

GROUP = "crestline.schedulers"
"""The entry point group."""


@dataclass(frozen=True)
class SchedulerSetup:
    """The parts from which a scheduler is created."""

    name: str
    """Name of the system."""
    options: Mapping[str, Any]
    """The system's `scheduler` table without `type`, as configured."""
    commands: Commands
    """Runs programs on the system's machine."""
    directory: Path
    """A directory of the gateway, private to this system, for the scheduler's files; created on demand."""

    def read_options(self, kind: type[T]) -> T:
        """Convert the options to a struct.

        Raises:
            ConfigError: invalid key or value.
        """
        try:
            return msgspec.convert(dict(self.options), kind, dec_hook=_decode)
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"The scheduler of the system {self.name!r} cannot be set up: {error}.", hint="Correct its table."
            ) from error


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(kind)


SchedulerFactory = Callable[[SchedulerSetup], Scheduler]


def create_scheduler(type_: str, setup: SchedulerSetup) -> Scheduler:
    """Create the scheduler of the given type, without starting it.

    Raises:
        ConfigError: the type is unknown, its module cannot be imported, or its options are invalid.
    """
    factory: SchedulerFactory = load_plugin(GROUP, type_, "scheduler")
    return factory(setup)


def scheduler_types() -> list[str]:
    """Return the valid values of `type`, including those of installed plug-ins."""
    return plugin_names(GROUP)
