"""Values of templated fields, which are any object of Python if a DAG has `render_template_as_native_obj`.

Airflow then reads each text, also one without a template, as a Python literal if it can be one: `"42"` becomes a
number, `"1,3"` a tuple, `"None"` nothing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from numbers import Real
from typing import Any

from airflow.sdk import Context

from crestline.model import InvalidRequestError


class ExactRendering:
    """For classes of Airflow with templates: a text becomes a number only if that says the same as the text.

    Otherwise `12_3`, the id of an array's element, would become 123, and the version `1.10` would become 1.1.
    """

    def render_template(
        self, content: Any, context: Context, jinja_env: Any = None, seen_oids: set[int] | None = None
    ) -> Any:
        """Render as Airflow does; the number of another text remains this text."""
        jinja_env = jinja_env or self.get_template_env()  # type: ignore[attr-defined]
        rendered = super().render_template(content, context, jinja_env, seen_oids)  # type: ignore[misc]
        if not isinstance(content, str) or not isinstance(rendered, int | float | complex):
            return rendered
        text = "".join(map(str, jinja_env.from_string(content).generate(context))).strip()
        return rendered if text == str(rendered) else text


def texts(value: Any) -> list[str]:
    """The texts in a value: none for None, one for a text or a number, all those of a (nested) list.

    What `{{ 8 / 2 }}` gives, 4.0, is the text 4.
    """
    if value is None or value == "":
        return []
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return [text for each in value for text in texts(each)]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return [os.fspath(value) if isinstance(value, os.PathLike) else str(value)]


def count(value: Any) -> Any:
    """A whole number of whatever type as `int`, a duration as its seconds, a text without white space around it."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, Real | Decimal) and not isinstance(value, bool) and math.isfinite(value):
        return int(value) if value == int(value) else value
    return value.strip() if isinstance(value, str) else value


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
            found[str(name)] = json.dumps(each, default=str)
        elif isinstance(each, tuple):
            found[str(name)] = ",".join(map(str, each))
        elif each is not None:
            found[str(name)] = str(each)
    return found
