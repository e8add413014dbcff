"""Libraries without what they bring along and nobody here needs: most of the time that a short command lives.

httpx imports its own command line (rich, pygments, click) wherever that can be had; pyfirecrest imports its client of
FirecREST v1 (requests, PyJWT, cryptography) before that of v2, and with that what streams files (websockets, click).
Whoever else in the process uses any of it gets it then.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import LazyLoader, find_spec, module_from_spec
from typing import Any

_modules: dict[str, Any] = sys.modules


@contextmanager
def _instead(name: str, module: Any) -> Iterator[None]:
    """Have imports find `module` under this name, unless the real one is there already."""
    if name in _modules:
        yield
        return
    _modules[name] = module
    try:
        yield
    finally:
        del _modules[name]


def _not_run(name: str) -> Any:
    """A package whose modules can be imported while its own code has not run."""
    spec = find_spec(name)
    return module_from_spec(spec) if spec else None


def _on_demand(package: str, name: str) -> None:
    """Have a module run once something in it is asked for."""
    spec = find_spec(package) and find_spec(f"{package}.{name}")
    if spec is None or spec.loader is None or spec.name in _modules:
        return
    spec.loader = LazyLoader(spec.loader)
    module = _modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    setattr(_modules[package], name, module)


with _instead("httpx._main", None):  # as if its dependencies were not installed
    import httpx  # noqa: F401

_on_demand("streamer", "streamer_client")
try:
    with _instead("firecrest", _not_run("firecrest")):
        from firecrest.v2 import AsyncFirecrest
except ImportError:  # a later version may need its package's own code: slower, and as good
    from firecrest.v2 import AsyncFirecrest
with _instead("firecrest", _not_run("firecrest")):
    from firecrest.FirecrestException import FirecrestException
    from firecrest.tracing import ensure_correlation_id

__all__ = ["AsyncFirecrest", "FirecrestException", "ensure_correlation_id"]
