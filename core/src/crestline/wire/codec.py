"""How messages are written: camelCase goes out, camelCase and snake_case come in, unknown fields are ignored."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

# Values that hold the user's own keys, which must stay as they are.
_OPAQUE = frozenset({"env", "files"})

# Other names that FirecREST accepts for a field.
_ALIASES = {"sourcePath": "path", "currentWorkingDirectory": "workingDirectory", "environment": "env"}


class Message(msgspec.Struct, rename="camel", kw_only=True):
    """Base of every message: fields are snake_case here and camelCase on the wire."""


def camelize(name: str) -> str:
    """`working_directory` -> `workingDirectory`; a camelCase name stays as it is."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest) if head else name


def camelize_keys(value: Any) -> Any:
    """A decoded JSON value with every key in camelCase and by its first name; the user's own mappings stay as they are.

    Where a body has a field by several names, its first name wins.
    """
    if isinstance(value, dict):
        names = {key: camelize(key) for key in value}
        fields = {_ALIASES.get(name, name): value[key] for key, name in names.items() if name in _ALIASES}
        fields |= {name: value[key] for key, name in names.items() if name not in _ALIASES}
        return {name: child if name in _OPAQUE else camelize_keys(child) for name, child in fields.items()}
    if isinstance(value, list):
        return [camelize_keys(child) for child in value]
    return value


def encode(message: Any) -> bytes:
    """A message as JSON."""
    return msgspec.json.encode(message)


def decode(body: bytes | bytearray | memoryview, kind: type[T]) -> T:
    """JSON as a message.

    Raises:
        msgspec.ValidationError: the JSON has another shape (its text names the field).
        msgspec.DecodeError: not JSON.
    """
    return msgspec.json.decode(body, type=kind)
