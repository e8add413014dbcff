"""The batch job of a session, made of the spawner's settings."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from crestline.model import InvalidRequestError, JobSpec

if TYPE_CHECKING:
    from crestline_jupyterhub.spawner import FirecRESTSpawner

MAX_NAME = 100


def job_name(spawner: FirecRESTSpawner) -> str:
    """Hub, user, server and attempt: found again by its end, and its hub by its beginning."""
    parts = [spawner.hub_name, spawner.user.name, spawner.name or "default"]
    stem = "-".join(["jupyter", *(re.sub(r"[^A-Za-z0-9_.]+", "_", part) for part in parts)])
    return f"{stem[:MAX_NAME]}-{spawner.attempt}"


def make_spec(spawner: FirecRESTSpawner, folder: str, workdir: str) -> JobSpec:
    """The job.

    Args:
        folder: the session's own on the system.

    Raises:
        InvalidRequestError: a setting or the template cannot be used; says which.
    """
    values = template_values(spawner)
    command = " ".join(
        [*shlex.split(spawner.req_srun), shlex.quote(spawner.python)]
        + [shlex.quote(f"{folder}/{name}") for name in ("session.pyz", "session.json")]
    )
    typed = {} if spawner.batch_script else _resources(values)
    return JobSpec(
        script=_script(spawner, values, command),
        name=job_name(spawner),
        workdir=workdir,
        stdout=f"{folder}/session.log",
        stderr=f"{folder}/session.log",
        environment=dict(spawner.req_submitenv),
        **typed,
    )


def template_values(spawner: FirecRESTSpawner) -> dict[str, Any]:
    """Every `req_*` setting without its prefix."""
    return {
        name.removeprefix("req_"): getattr(spawner, name) for name in spawner.trait_names() if name.startswith("req_")
    }


def _resources(values: dict[str, Any]) -> dict[str, Any]:
    directives = [f"--{option}={values[field]}" for field, option in _OPTIONS.items() if values[field]]
    directives += shlex.split(values["options"])
    return {
        "partition": values["partition"] or values["queue"] or None,
        "account": values["account"] or None,
        "reservation": values["reservation_custom"] or values["reservation"] or None,
        "time_limit": values["runtime"] or None,
        "nodes": _number(values, "nnodes"),
        "tasks": _number(values, "ntasks"),
        "cpus_per_task": _number(values, "nprocs"),
        "memory": values["memory"] or None,
        "gpus": values["ngpus"] or None,
        "constraint": values["constraint"] or None,
        "qos": values["qos"] or None,
        "directives": tuple(directives),
    }


_OPTIONS = {"gres": "gres", "cluster": "clusters", "uenv": "uenv", "uenv_view": "view"}


def _number(values: dict[str, Any], field: str) -> int | None:
    text = str(values[field]).strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InvalidRequestError(f"req_{field} is {text!r}.", hint="Give a whole number of at least 1.")
    return int(text)


def _script(spawner: FirecRESTSpawner, values: dict[str, Any], command: str) -> str:
    if not spawner.batch_script:
        lines = ["#!/bin/bash", values["prologue"], command, "code=$?", values["epilogue"], "exit $code"]
        return "\n".join(line for line in lines if line) + "\n"
    values = values | {"cmd": command, "spawner_name": spawner.name}
    template = spawner.batch_script
    try:
        if "{{" in template or "{%" in template:
            environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
            environment.filters["quote"] = lambda value: shlex.quote(str(value))
            return environment.from_string(template).render(values)
        return template.format_map({name: str(value) for name, value in values.items()})
    except (TemplateError, LookupError, ValueError, AttributeError) as error:
        raise InvalidRequestError(
            f"The template batch_script cannot be filled: {error}.",
            hint="Its fields are the req_* names, cmd, spawner_name.",
        ) from error
