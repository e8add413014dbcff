"""Configuration keys, from the structs that the file is read into."""

from __future__ import annotations

import re
from typing import Any, get_args

import msgspec
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.typing import stringify_annotation

from crestline_reference.tables import code, table


def markdown(*names: str) -> str:
    """A table of the keys of each struct, which is named by its dotted name."""
    return "\n".join(_keys(_find(name)) for name in names)


def _find(name: str) -> type[msgspec.Struct]:
    module, _, attribute = name.rpartition(".")
    return getattr(__import__(module, fromlist=[attribute]), attribute)


def _docs(kind: type[msgspec.Struct]) -> dict[str, str]:
    """What is said of each field, where it is defined: in the struct or in one that it extends."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if issubclass(each, msgspec.Struct) and each is not msgspec.Struct:
            docs = ModuleAnalyzer.for_module(each.__module__).find_attr_docs()
            found |= {name: " ".join(lines) for (owner, name), lines in docs.items() if owner == each.__name__}
    return found


def _keys(kind: type[msgspec.Struct]) -> str:
    said, rows = _docs(kind), []
    for field in msgspec.structs.fields(kind):
        about = said.get(field.name) or _first_line(field.type)
        rows.append([code(field.encode_name), code(_type(field.type)), code(_default(field)), about])
    return table(["key", "type", "default", "what"], rows)


def _first_line(annotation: Any) -> str:
    """What the struct in an annotation says of itself; nothing where there is none."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return (annotation.__doc__ or "").splitlines()[0]
    return next(filter(None, map(_first_line, get_args(annotation))), "")


def _type(annotation: Any) -> str:
    """The type in short, without what only Python has to know."""
    while hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    text = stringify_annotation(annotation, "smart").replace("~", "")
    text = re.sub(r"Annotated\[(\w+), .*?\)\]", r"\1", text)
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)
    return re.sub(r" \| None\b", "", text)


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if value is None or isinstance(value, msgspec.Struct) or field.name in ("home", "systems"):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, frozenset | tuple):
        value = list(value)
    return repr(value).replace("'", '"')
