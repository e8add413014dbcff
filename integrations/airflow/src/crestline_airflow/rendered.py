"""Values of templated fields, which are any object of Python if a DAG has `render_template_as_native_obj`.

Airflow then reads each text, also one without a template, as a Python literal if it can be one: `"42"` becomes a
number, `"1,3"` a tuple, `"None"` nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from crestline.model import InvalidRequestError


def texts(value: Any) -> list[str]:
    """The texts in a value: none for None, one for a text or a number, all those of a (nested) list."""
    if value is None or value == "":
        return []
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return [text for each in value for text in texts(each)]
    return [os.fspath(value) if isinstance(value, os.PathLike) else str(value)]


def joined(value: Any, separator: str = ",") -> str | None:
    """A value as one text, the elements of a list with `separator` between them; None for nothing."""
    return separator.join(texts(value)) or None


def single(value: Any, field: str) -> str | None:
    """A value that is one text; None for nothing.

    Raises:
        InvalidRequestError: it has several.
    """
    found = texts(value)
    if len(found) > 1:
        raise InvalidRequestError(f"{field} takes one text, but is {value!r}.", hint=f"Check the template of {field}.")
    return found[0] if found else None


def required(value: Any, field: str) -> str:
    """A value that is one text.

    Raises:
        InvalidRequestError: it has none, or several.
    """
    if (text := single(value, field)) is None or not text.strip():
        raise InvalidRequestError(f"{field} is empty.", hint=f"Check the template of {field}.")
    return text


def variables(value: Mapping[Any, Any]) -> dict[str, str]:
    """The environment of a job: without those that are None; lists and dictionaries as JSON."""
    found: dict[str, str] = {}
    for name, each in value.items():
        if isinstance(each, list | dict):
            found[str(name)] = json.dumps(each)
        elif isinstance(each, tuple):
            found[str(name)] = ",".join(map(str, each))
        elif each is not None:
            found[str(name)] = str(each)
    return found
