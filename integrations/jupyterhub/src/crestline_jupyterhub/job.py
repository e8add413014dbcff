"""The batch job of a session: pure builders, which take settings and do not use the spawner or the hub."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from typing import Any

from crestline.model import InvalidRequestError, JobSpec
from crestline_jupyterhub.clusters import closing_lines
from crestline_jupyterhub.clusters import lines as cluster_lines
from crestline_jupyterhub.software import Software
from crestline_jupyterhub.software import software as read_software
from crestline_jupyterhub.staging import CONFIG, LOG, PROGRAM
from crestline_jupyterhub.template import fill

MAX_NAME = 100
MAX_HUB = 30
_NAME = re.compile(r"jupyter-([A-Za-z0-9_.]+)-([0-9a-f]{12})-")


def job_name(hub: str, attempt: str, user: str, server: str) -> str:
    """Return the name of a session's job, and of its folder.

    Hub and attempt come first, so that they are never truncated: the reaper finds a hub's jobs by them.

    Args:
        hub: the hub's name, as in the setting `hub_name`.
        attempt: id of this start of the server.
        user: the user's name at the hub.
        server: the server's name; empty for the default server.
    """
    return f"jupyter-{hub_slug(hub)}-{attempt}-{_safe(user)}-{_safe(server or 'default')}"[:MAX_NAME]


def hub_slug(hub_name: str) -> str:
    """Return a hub's name as it appears in job names."""
    return _safe(hub_name)[:MAX_HUB]


def parse_name(name: str) -> tuple[str, str] | None:
    """Return hub and attempt of a session's job (or folder); None for other names."""
    found = _NAME.match(name)
    return (found[1], found[2]) if found else None


def is_attempt(name: str, attempt: str) -> bool:
    """Whether a job's name is that of this start."""
    parsed = parse_name(name)
    return parsed is not None and parsed[1] == attempt


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "_", text) or "_"


def make_spec(
    *,
    name: str,
    folder: str,
    workdir: str,
    fields: Mapping[str, str],
    python: str = "python3",
    software: Mapping[str, Any] | None = None,
    clusters: Mapping[str, Mapping[str, Any]] | None = None,
    batch_script: str = "",
    environment: Mapping[str, Any] | None = None,
) -> JobSpec:
    """Build the job of a session.

    Args:
        name: name of the job, from `job_name`.
        folder: the session's folder on the system, absolute.
        workdir: working directory of the session, absolute.
        fields: the requested resources, from `template_fields`.
        python: the command that runs the session's program.
        software: the setting `software`.
        clusters: the setting `clusters`.
        batch_script: the site's template; empty: generate the script from `fields`.
        environment: variables of the job, without those that are None.

    Raises:
        InvalidRequestError: a setting or the template is invalid; the message names it.
    """
    chosen = read_software(software or {})
    values = dict(fields)
    values["prologue"] = _lines(
        values["prologue"], *chosen.lines(), *cluster_lines(clusters or {}, folder, chosen.wrapper())
    )
    values["epilogue"] = _lines(*closing_lines(clusters or {}), values["epilogue"])
    values["cmd"] = shlex.join([*chosen.wrapper(), python, f"{folder}/{PROGRAM}", f"{folder}/{CONFIG}"])
    if batch_script:
        script, resources = fill(batch_script, values), {}
    else:
        script, resources = _plain_script(values), _resources(values, chosen)
    return JobSpec(
        script=script,
        name=name,
        workdir=workdir,
        stdout=f"{folder}/{LOG}",
        stderr=f"{folder}/{LOG}",
        environment=texts(environment or {}),
        **resources,
    )


def template_fields(
    requested: Mapping[str, Any],
    *,
    server: str,
    workdir: str,
    memory: int | None = None,
    cpus: float | None = None,
    options: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Collect the fields of a batch script's template.

    Args:
        requested: the `req_*` settings, without this prefix and without `req_submitenv`.
        server: the server's name.
        workdir: working directory of the session, also the default of `homedir`.
        memory: bytes, if `requested` has no memory.
        cpus: CPUs, if `requested` has no `nprocs`.
        options: the chosen options, which are fields with their names unless a setting has that name.

    Raises:
        InvalidRequestError: a value that must be one line has several.
    """
    settings = dict(requested)
    settings["spawner_name"] = server
    settings["memory"] = settings["memory"] or (f"{math.ceil(memory / 2**20)}M" if memory else "")
    settings["nprocs"] = settings["nprocs"] or (math.ceil(cpus) if cpus else "")
    settings["homedir"] = settings["homedir"] or workdir
    settings["keepvars"] = settings["keepvars"] or "ALL"
    values = dict(options or {}) | {name: str(value) for name, value in settings.items()}
    for name, value in values.items():
        if name not in _SEVERAL_LINES and not value.isprintable():
            raise InvalidRequestError(f"{name} is {value!r}.", hint="It has one line, without control characters.")
    values["username"] = shlex.quote(values["username"])  # some hubs let users choose it
    return values


def texts(variables: Mapping[str, Any]) -> dict[str, str]:
    """Convert environment variables to strings, because sites may write them as numbers. None is left out."""
    return {name: str(value) for name, value in variables.items() if value is not None}


_SEVERAL_LINES = ("prologue", "epilogue")


def _resources(values: dict[str, str], chosen: Software) -> dict[str, Any]:
    values = values | {
        "partition": values["partition"] or values["queue"],
        "reservation": values["reservation_custom"] or values["reservation"],
        "uenv": chosen.uenv or values["uenv"],
        "uenv_view": chosen.view or values["uenv_view"],
    }
    directives = [f"--{option}={_word(values, field)}" for field, option in _OPTIONS.items() if values[field]]
    return {
        **{name: _word(values, field) for name, field in _WORDS.items()},
        "nodes": _number(values, "nnodes"),
        "tasks": _number(values, "ntasks"),
        "cpus_per_task": _number(values, "nprocs"),
        "directives": (*directives, *_split("options", values["options"])),
    }


_OPTIONS = {"gres": "gres", "cluster": "clusters", "uenv": "uenv", "uenv_view": "view"}
_WORDS = {
    "partition": "partition",
    "account": "account",
    "reservation": "reservation",
    "time_limit": "runtime",
    "memory": "memory",
    "gpus": "ngpus",
    "constraint": "constraint",
    "qos": "qos",
}


def _word(values: dict[str, str], field: str) -> str | None:
    """Return the value of one scheduler option, which cannot start another one."""
    text = values[field].strip()
    if re.search(r"[\s\"'`\\$;#]", text):
        raise InvalidRequestError(
            f"req_{field} is {text!r}.", hint="Give one value without white space, quotes or special characters."
        )
    return text or None


def _number(values: dict[str, str], field: str) -> int | None:
    text = values[field].strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise InvalidRequestError(f"req_{field} is {text!r}.", hint="Give a whole number of at least 1.")
    return int(text)


def _split(name: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidRequestError(f"req_{name} is {text!r}: {error}.", hint="Close its quotes.") from error


def _plain_script(values: dict[str, str]) -> str:
    command = " ".join([*_split("srun", values["srun"]), values["cmd"]])
    return _lines("#!/bin/bash", values["prologue"], command, "code=$?", values["epilogue"], "exit $code") + "\n"


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)
