"""Settings of a traitlets class, as an administrator sets them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from crestline_reference.tables import code, table


def markdown(name: str, prefix: str = "") -> str:
    """The settings that the distribution of the class itself defines.

    Args:
        name: dotted name of the class.
        prefix: take those whose name begins with it, or, as in `!req_`, those whose name does not.
    """
    module, _, attribute = name.rpartition(".")
    kind: Any = getattr(import_module(module), attribute)
    package = module.partition(".")[0]
    own: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.partition(".")[0] == package:
            own |= {each: kind.class_traits()[each] for each in base.class_own_traits(config=True)}
    negated, wanted = prefix.startswith("!"), prefix.removeprefix("!")
    rows = [
        [code(each), code(type(trait).__name__), code(_default(trait)), trait.help]
        for each, trait in sorted(own.items())
        if each.startswith(wanted) != negated
    ]
    return table(["setting", "type", "default", "what"], rows)


def _default(trait: Any) -> str:
    shown = trait.default_value_repr()
    return "" if shown in ("''", "None", "[]", "{}", "traitlets.Undefined") else shown.strip("'")
