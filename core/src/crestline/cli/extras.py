"""Import packages of optional extras of the distribution."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from crestline.model import ConfigError


@contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Wrap imports, and name the extra to install if one of its packages is missing.

    Args:
        what: the component that needs it, as the subject of the error message.
        extra: the name of an extra of the distribution `crestline`.

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
