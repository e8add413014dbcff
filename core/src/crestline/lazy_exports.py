"""Import the public names of a package on first use, so that short commands import few modules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(package: str, names: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """Return the `__getattr__` function of a package (PEP 562).

    Args:
        package: the package's `__name__`.
        names: the public names by the module that defines them.
    """
    homes = {name: module for module, each in names.items() for name in each}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, found)
        return found

    return load
