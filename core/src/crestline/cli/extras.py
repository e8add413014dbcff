"""Imports of what an extra of the distribution brings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from crestline.model import ConfigError


@contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Around imports: name the extra to install where a package of it is missing.

    Args:
        what: the part that needs it, which begins the message.
        extra: of the distribution `crestline`.

    Raises:
        ConfigError: a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("crestline"):
            raise
        raise ConfigError(
            f"{what} needs {error.name}, which is not installed.", hint=f"Run: pip install 'crestline[{extra}]'"
        ) from error
