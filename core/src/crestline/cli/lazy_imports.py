"""Skip imports of the client's libraries that a short command does not need, as they take most of its run time.

httpx imports its own command line (rich, pygments, click) if that is installed. pyfirecrest imports its FirecREST v1
client (requests, PyJWT, cryptography) before that of v2, and its streaming client (websockets, click). An import hook
skips these modules, or defers them until they are used. Only commands install the hook: programs that use
`crestline.client` as a library import everything.
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
else:  # importing importlib.abc takes longer than everything else here
    Loader = MetaPathFinder = object

_LEFT_OUT = "httpx._main"
"""Module that httpx treats as optional, since its dependencies may not be installed."""
_PUT_OFF = "firecrest"
"""Package whose modules do not depend on the code in its `__init__.py`."""
_ON_DEMAND = "streamer.streamer_client"


def install() -> None:
    """Install the import hook in this process. Modules that are already imported are unaffected."""
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
    """A loader that runs a package's `__init__.py` at the first access to an attribute other than a submodule."""

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
