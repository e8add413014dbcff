"""Encodes and decodes messages: camelCase is sent, camelCase and snake_case are accepted, unknown fields are
ignored."""

from __future__ import annotations

import types
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec

T = TypeVar("T")

# Fields with the user's own keys, which must not change.
_OPAQUE = frozenset({"env", "files"})

# Alternative names of fields that FirecREST accepts.
_ALIASES = {"sourcePath": "path", "currentWorkingDirectory": "workingDirectory", "environment": "env"}


class Message(msgspec.Struct, rename="camel", kw_only=True):
    """Base of every message: fields are snake_case here and camelCase on the wire."""


def camelize(name: str) -> str:
    """Convert `working_directory` to `workingDirectory`. A camelCase name does not change."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest) if head else name


def camelize_keys(value: Any) -> Any:
    """Return a decoded JSON value with every key in camelCase and by its first name, except in the user's own mappings.

    If a body has a field by several names, its first name takes precedence.
    """
    if isinstance(value, dict):
        names = {key: camelize(key) for key in value}
        fields = {_ALIASES.get(name, name): value[key] for key, name in names.items() if name in _ALIASES}
        fields |= {name: value[key] for key, name in names.items() if name not in _ALIASES}
        return {name: child if name in _OPAQUE else camelize_keys(child) for name, child in fields.items()}
    if isinstance(value, list):
        return [camelize_keys(child) for child in value]
    return value


class TooManyElementsError(ValueError):
    """A list or mapping of a body has too many elements."""


_MOST_ELEMENTS = 200_000


def read_message(body: bytes, kind: type[T]) -> T:
    """Parse a large body as `camelize_keys` and `msgspec.convert` would, but skip values without a field, and lists and
    mappings that are too large.

    Raises:
        TooManyElementsError: a list or mapping has too many elements.
        msgspec.ValidationError: the JSON does not match.
        msgspec.DecodeError: invalid JSON.
    """
    return _assemble(msgspec.json.decode(body, type=_reader(kind)), kind)  # type: ignore[no-any-return, arg-type]


def _assemble(read: msgspec.Struct, kind: Any) -> Any:
    values: dict[str, Any] = {}
    for field in _fields(kind):
        for spelling in _spellings(field):
            value = getattr(read, spelling)
            if value is not msgspec.UNSET:
                values[field.name] = _value(value, field.type)
                break
        else:
            if field.required:
                raise msgspec.ValidationError(f"Object missing required field `{field.encode_name}`")
    return kind(**values)


def _value(value: Any, kind: Any) -> Any:
    inner = _message_in(kind)
    if isinstance(value, msgspec.Raw):
        text = bytes(value)
        # Upper limits of the number of elements: each object has a brace, and all elements but one are followed by a
        # comma.
        if text.count(b"{" if inner else b",") > _MOST_ELEMENTS:
            raise TooManyElementsError(f"A list or mapping has more than {_MOST_ELEMENTS} elements.")
        value = msgspec.json.decode(text, type=_optional(list[_reader(inner)], kind) if inner else kind)  # type: ignore[misc]
    if inner is None or value is None:
        return value
    return [_assemble(each, inner) for each in value] if isinstance(value, list) else _assemble(value, inner)


@cache
def _reader(kind: type) -> Any:
    """Return `kind` with a field for each spelling of each of its fields. Lists and mappings are not decoded."""
    return msgspec.defstruct(
        f"{kind.__name__}Reader",
        [
            (spelling, _read_type(field.type) | msgspec.UnsetType, msgspec.UNSET)
            for field in _fields(kind)
            for spelling in _spellings(field)
        ],
    )


@cache
def _fields(kind: type) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def _spellings(field: msgspec.structs.FieldInfo) -> list[str]:
    names = [field.encode_name, field.name]
    aliases = [alias for alias, name in _ALIASES.items() if name == field.encode_name]
    snakes = ["".join(f"_{c.lower()}" if c.isupper() else c for c in alias) for alias in aliases]
    return list(dict.fromkeys([*names, *aliases, *snakes]))


def _read_type(kind: Any) -> Any:
    if any(get_origin(each) in (list, dict) or each in (list, dict) for each in _options(kind)):
        return msgspec.Raw
    inner = _message_in(kind)
    return kind if inner is None else _optional(_reader(inner), kind)


def _optional(read: Any, kind: Any) -> Any:
    return read | None if type(None) in _options(kind) else read


def _message_in(kind: Any) -> Any:
    """Return the message type of a field, itself or in a list."""
    for option in _options(kind):
        candidate = get_args(option)[0] if get_origin(option) is list else option
        if isinstance(candidate, type) and issubclass(candidate, Message):
            return candidate
    return None


def _options(kind: Any) -> tuple[Any, ...]:
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def encode(message: Any) -> bytes:
    """Encode a message as JSON."""
    return msgspec.json.encode(message)


def decode(body: bytes | bytearray | memoryview, kind: type[T]) -> T:
    """Decode JSON as a message.

    Raises:
        msgspec.ValidationError: the JSON does not match (its text names the field).
        msgspec.DecodeError: invalid JSON.
    """
    return msgspec.json.decode(body, type=kind)
