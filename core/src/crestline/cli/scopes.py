"""The option `--scope`."""

from __future__ import annotations

from typing import Annotated

import typer

from crestline.cli.errors import UsageError
from crestline.wire.extensions import SCOPES, Scope

_ALL = ", ".join(sorted(SCOPES))


def read_scopes(words: list[str] | None) -> list[Scope] | None:
    """Return the scopes with these names, or None without names.

    Raises:
        UsageError: unknown scope.
    """
    known = {scope: scope for scope in SCOPES}
    try:
        return [known[word] for word in words] if words else None  # type: ignore[index]
    except KeyError as error:
        raise UsageError(f"{error.args[0]!r} is not a scope; there are {_ALL}.") from None


ScopeNames = Annotated[
    list[str] | None, typer.Option("--scope", metavar="SCOPE", help=f"What it may do; repeatable. {_ALL}.")
]
