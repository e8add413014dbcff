"""Parts by the word that the configuration uses for them, found through entry points.

A part of this distribution or of another one is listed in its distribution's metadata, for example as

    [project.entry-points."crestline.schedulers"]
    flux = "my_package:create_scheduler"

Nothing of a part is imported before it is asked for.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from crestline.model import ConfigError


def plugin_names(group: str) -> list[str]:
    """The names in an entry point group, sorted."""
    return sorted({each.name for each in entry_points(group=group)})


def load_plugin(group: str, name: str, what: str) -> Any:
    """What the entry point `name` of a group stands for.

    Args:
        what: the kind of part, for messages: `scheduler`.

    Raises:
        ConfigError: the name is unknown or taken twice, or its package cannot be imported.
    """
    found = list(entry_points(group=group, name=name))
    if not found:
        raise ConfigError(f"Unknown {what} {name!r}.", hint=f"Choose one of: {', '.join(plugin_names(group))}.")
    if len(found) > 1:
        packages = ", ".join(sorted(each.value for each in found))
        raise ConfigError(f"Several plug-ins call themselves {name!r}: {packages}.", hint="Uninstall all but one.")
    try:
        return found[0].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"The {what} {name!r} cannot be loaded: {error}.", hint="Repair its package.") from error
