"""Backends by the word that a site's `api` uses for them; other distributions add theirs by an entry point.

A plug-in is a subclass of `Backend` whose constructor takes what that of `Backend` takes. Its distribution lists it as

    [project.entry-points."crestline.backends"]
    iri = "my_package:IriBackend"

Nothing of a backend is imported before a site asks for it.
"""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import Any

from crestline.client.auth import Authorizer
from crestline.client.backends.base import Backend
from crestline.client.config import Site
from crestline.model import ConfigError

GROUP = "crestline.backends"
"""entry point group of backends"""

_BUILT_IN = {"firecrest": "crestline.client.backends.firecrest:FirecrestBackend"}


def backend_class(api: str) -> type[Backend]:
    """The class of the backends that speak the facility API `api`.

    Raises:
        ConfigError: the API is unknown, its plug-in cannot be imported, or several plug-ins claim it.
    """
    if (target := _BUILT_IN.get(api)) is not None:
        module, _, attribute = target.partition(":")
        return _checked(api, getattr(import_module(module), attribute))
    from importlib.metadata import entry_points  # slow to import, and built-in APIs need none

    found = list(entry_points(group=GROUP, name=api))
    if not found:
        known = ", ".join(sorted({*_BUILT_IN, *(each.name for each in entry_points(group=GROUP))}))
        raise ConfigError(f"Unknown facility API {api!r}.", hint=f"Set the site's `api` to one of: {known}.")
    if len(found) > 1:
        names = ", ".join(sorted(each.value for each in found))
        raise ConfigError(f"Several plug-ins offer the facility API {api!r}: {names}.", hint="Uninstall all but one.")
    try:
        return _checked(api, found[0].load())
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"The plug-in for the facility API {api!r} cannot be loaded: {error}.", hint="Repair its package."
        ) from error


def create_backend(site: Site, system: str | None, authorizer: Authorizer, **more: Any) -> Backend:
    """The backend for a system of a site, not yet open.

    Args:
        more: further arguments of the backend's constructor; a `transport` of None is none.

    Raises:
        ConfigError: as `backend_class`, or the backend cannot use the site's `options`, or a `transport`.
    """
    kind = backend_class(site.api)
    if more.get("transport") is None:
        more.pop("transport", None)
    elif "transport" not in signature(kind.__init__).parameters:
        raise ConfigError(f"The facility API {site.api!r} takes no `transport`.", hint="Connect over the network.")
    if site.options:
        if "options" not in signature(kind.__init__).parameters:
            raise ConfigError(f"The facility API {site.api!r} takes no `options`.", hint="Remove them from the site.")
        more["options"] = site.options
    return kind(site.url.rstrip("/"), system, authorizer, **{"verify": site.trust(), **more})


def _checked(api: str, found: object) -> type[Backend]:
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise ConfigError(
            f"The plug-in for the facility API {api!r} is not a Backend class: {found!r}.",
            hint="Let its entry point name a subclass of crestline.client.backends.Backend.",
        )
    return found
