"""The client's libraries without what they bring along: most of the time that a short command lives.

httpx imports its own command line (rich, pygments, click) wherever that can be had; pyfirecrest imports its client of
FirecREST v1 (requests, PyJWT, cryptography) before that of v2, and with that what streams files (websockets, click).
A finder of the import system leaves these out, or puts them off until they are used. It is for the process of a command
alone: a program that uses `crestline.client` as a library imports all of it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:  # importing importlib.abc takes longer than all the rest
    Loader = MetaPathFinder = object

_LEFT_OUT = "httpx._main"
"""httpx does without it where its dependencies are not installed."""
_PUT_OFF = "firecrest"
"""A package whose modules need none of the package's own code."""
_ON_DEMAND = "streamer.streamer_client"


def install() -> None:
    """From now on this process imports these libraries so; what it has imported already stays as it is."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if fullname == _LEFT_OUT:
            raise ModuleNotFoundError(f"{fullname} is left out of this command", name=fullname)
        if fullname not in (_PUT_OFF, _ON_DEMAND):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        spec.loader = _LaterLoader(spec) if fullname == _PUT_OFF else LazyLoader(spec.loader)
        return spec


class _LaterLoader(Loader):
    """Runs a package's own code at the first access to an attribute that is not one of its modules."""

    def __init__(self, spec: ModuleSpec) -> None:
        self._loader = spec.loader

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        def later(name: str) -> Any:
            if name.startswith("__") and name != "__version__":
                raise AttributeError(name)
            del module.__dict__["__getattr__"]
            if self._loader is not None:
                self._loader.exec_module(module)
            return getattr(module, name)

        module.__dict__["__getattr__"] = later
