"""Components that the configuration refers to by name, loaded through entry points.

A distribution lists its components in its metadata, for example as

    [project.entry-points."crestline.schedulers"]
    flux = "my_package:create_scheduler"

A component is imported only when it is loaded.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from crestline.model import ConfigError


def plugin_names(group: str) -> list[str]:
    """Return the names in an entry point group, sorted."""
    return sorted({each.name for each in entry_points(group=group)})


def load_plugin(group: str, name: str, what: str) -> Any:
    """Return the object that the entry point `name` of a group refers to.

    Args:
        what: the kind of component, for error messages: `scheduler`.

    Raises:
        ConfigError: the name is unknown or ambiguous, or its package cannot be imported.
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
