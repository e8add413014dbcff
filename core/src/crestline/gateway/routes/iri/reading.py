"""Parses queries and bodies of the IRI API as strictly as its document requires."""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec

from crestline.gateway.iri.errors import InvalidFieldError, UnprocessableError
from crestline.gateway.requests import GatewayRequest
from crestline.model import InvalidRequestError
from crestline.wire.codec import camelize_keys

T = TypeVar("T", bound=msgspec.Struct)

_MOST_FIELDS = 100
"""Maximum number of parameters in a query."""
_INTEGER = re.compile(r"-?[0-9]{1,100}")
_MOST = 2**53
"""Larger integers count as this one, because no list has so many entries."""


def read_query(request: GatewayRequest, kind: type[T], nullable: Collection[str] = ()) -> T:
    """Parse the query as a message.

    Args:
        request: the request.
        kind: type of the message.
        nullable: parameters for which `null` means that they are not given.

    Raises:
        UnprocessableError: a parameter is unknown, or given twice.
        InvalidFieldError: a value is invalid.
    """
    kinds = _kinds(kind)
    values: dict[str, Any] = {}
    for name, text in _pairs(request):
        if name not in kinds:
            raise UnprocessableError(f"Unknown query parameter: {name[:100]}.", hint="Leave it out.")
        value = None if text == "null" and name in nullable else _value(text, kinds[name])
        if list in kinds[name]:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise UnprocessableError(f"The query parameter {name} is given twice.", hint="Send one.")
        else:
            values[name] = value
    return _convert(values, kind)


def read_file_query(request: GatewayRequest, kind: type[T]) -> T:
    """Parse the fields of a file operation in the query, in both spellings. Unknown fields are ignored.

    Raises:
        InvalidFieldError: a value is invalid.
    """
    kinds = _kinds(kind)
    given = camelize_keys(dict(_pairs(request)))
    return _convert({name: _value(text, kinds[name]) for name, text in given.items() if name in kinds}, kind)


async def read_body(request: GatewayRequest, kind: type[T], *, may_be_empty: bool = False) -> T:
    """Parse the body as a message.

    Raises:
        InvalidRequestError: the body is missing, not JSON, or does not match.
    """
    return _convert(await _read(request, may_be_empty), kind)


async def read_file_body(request: GatewayRequest, kind: type[T], words: Collection[str] = (), prefix: str = "") -> T:
    """Parse the fields of a file operation in the body, in both spellings.

    Args:
        request: the request.
        kind: type of the message.
        words: fields whose values begin with `prefix`.
        prefix: prefix of these values.

    Raises:
        InvalidRequestError: the body is missing, not JSON, or does not match.
    """
    content = await _read(request, may_be_empty=False)
    with _refusing_depth():
        values = camelize_keys(content)
    if isinstance(values, dict) and prefix:
        for name in words:
            value = values.get(name, prefix)
            if not isinstance(value, str) or not value.startswith(prefix):
                raise InvalidFieldError(name, f"Invalid value, it begins with {prefix}")
            if name in values:
                values[name] = value.removeprefix(prefix)
    return _convert(values, kind)


async def _read(request: GatewayRequest, may_be_empty: bool) -> Any:
    content = await request.body()
    if may_be_empty and not content.strip():
        return {}
    try:
        with _refusing_depth():
            value = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"The body is not JSON: {error}.", hint="Send one JSON object.") from None
    if value is None and may_be_empty:
        return {}
    return value


def _pairs(request: GatewayRequest) -> list[tuple[str, str]]:
    query: bytes = request.scope["query_string"]
    try:
        return parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise UnprocessableError("The query has too many parameters.", hint="Send fewer.") from None


def _convert(values: Any, kind: type[T]) -> T:
    try:
        with _refusing_depth():
            return msgspec.convert(values, kind, strict=True)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `")
        raise InvalidFieldError(path.rstrip("`").removeprefix("$").lstrip("."), reason) from None


@contextmanager
def _refusing_depth() -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise InvalidRequestError("The body is nested too deeply.", hint="See the API's document.") from None


def _value(text: str, kinds: frozenset[Any]) -> Any:
    """Convert the text of a query parameter to one of these types. Text that does not convert is refused later."""
    if bool in kinds and text in ("true", "false"):
        return text == "true"
    if int in kinds and _INTEGER.fullmatch(text):
        return max(-_MOST, min(int(text), _MOST))
    return text


@cache
def _kinds(kind: type) -> dict[str, frozenset[Any]]:
    return {field.encode_name: frozenset(_flat(field.type)) for field in msgspec.structs.fields(kind)}


def _flat(kind: Any) -> list[Any]:
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        return [each for part in get_args(kind) for each in _flat(part)]
    return [get_origin(kind) or kind]
