"""A site's own batch script: a template that cannot access the hub."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from string import Formatter
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from crestline.model import InvalidRequestError


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return the script.

    Args:
        template: Jinja2 if it contains `{{` or `{%`, as in batchspawner; otherwise `{field}`.
        values: the fields.

    Raises:
        InvalidRequestError: an unknown field, or an error in the template.
    """
    try:
        if "{{" in template or "{%" in template:
            return _environment.from_string(template).render(values)
        return _Fields().vformat(template, (), values)
    except (TemplateError, LookupError, ValueError, AttributeError) as error:
        raise InvalidRequestError(
            f"The template batch_script cannot be filled: {error}.",
            hint="Its fields are the req_* names without req_, cmd, spawner_name, and the options by name.",
        ) from error


class _Fields(Formatter):
    """Only `{field}`: no attributes, indexes or conversions."""

    def get_field(self, field_name: str, args: Any, kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        if not field_name.isidentifier():
            raise ValueError(f"{{{field_name}}} is not the name of a field")
        return kwargs[field_name], field_name


_environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
_environment.filters["quote"] = lambda value: shlex.quote(str(value))
