"""The batch job of a session, made of the spawner's settings."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crestline.model import InvalidRequestError, JobSpec
from crestline_jupyterhub import clusters
from crestline_jupyterhub.software import Software, software
from crestline_jupyterhub.staging import CONFIG, LOG, PROGRAM
from crestline_jupyterhub.template import fill

if TYPE_CHECKING:
    from crestline_jupyterhub.spawner import FirecRESTSpawner

MAX_NAME = 100
MAX_HUB = 30
_NAME = re.compile(r"jupyter-([A-Za-z0-9_.]+)-([0-9a-f]{12})-")


def job_name(spawner: FirecRESTSpawner) -> str:
    """Hub, attempt, user and server: with the first two ahead, of which nothing is ever cut off."""
    user, server = (_safe(part) for part in (spawner.user.name, spawner.name or "default"))
    return f"jupyter-{hub_word(spawner.hub_name)}-{spawner.attempt}-{user}-{server}"[:MAX_NAME]


def hub_word(hub_name: str) -> str:
    """A hub's name as its jobs' names have it."""
    return _safe(hub_name)[:MAX_HUB]


def parse_name(name: str) -> tuple[str, str] | None:
    """Hub and attempt of a session's job (or folder); None for a name that is none."""
    found = _NAME.match(name)
    return (found[1], found[2]) if found else None


def is_attempt(name: str, attempt: str) -> bool:
    """Whether a job's name is that of this start."""
    parsed = parse_name(name)
    return parsed is not None and parsed[1] == attempt


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "_", text) or "_"


def make_spec(spawner: FirecRESTSpawner, folder: str, workdir: str) -> JobSpec:
    """The job.

    Args:
        folder: the session's own on the system.

    Raises:
        InvalidRequestError: a setting or the template cannot be used; says which.
    """
    chosen = software(spawner.software)
    values = template_values(spawner, workdir)
    values["prologue"] = _lines(
        values["prologue"], *chosen.lines(), *clusters.lines(spawner.clusters, folder, chosen.wrapper())
    )
    values["epilogue"] = _lines(*clusters.closing_lines(spawner.clusters), values["epilogue"])
    program = [f"{folder}/{PROGRAM}", f"{folder}/{CONFIG}"]
    values["cmd"] = shlex.join([*chosen.wrapper(), spawner.python, *program])
    if spawner.batch_script:
        script, resources = fill(spawner.batch_script, values), {}
    else:
        script, resources = _plain_script(values), _resources(values, chosen)
    return JobSpec(
        script=script,
        name=job_name(spawner),
        workdir=workdir,
        stdout=f"{folder}/{LOG}",
        stderr=f"{folder}/{LOG}",
        environment=texts(spawner.req_submitenv),
        **resources,
    )


def template_values(spawner: FirecRESTSpawner, workdir: str) -> dict[str, str]:
    """The fields of a template: the chosen options by their names, and every `req_*` setting without its prefix.

    Raises:
        InvalidRequestError: a setting that is one line has several.
    """
    settings = {
        name.removeprefix("req_"): getattr(spawner, name) for name in spawner.trait_names() if name.startswith("req_")
    }
    settings.pop("submitenv")
    settings["spawner_name"] = spawner.name
    settings["memory"] = settings["memory"] or _memory(spawner.mem_limit or spawner.mem_guarantee)
    settings["nprocs"] = settings["nprocs"] or _cpus(spawner.cpu_limit or spawner.cpu_guarantee)
    settings["homedir"] = settings["homedir"] or workdir
    settings["keepvars"] = settings["keepvars"] or "ALL"
    values = dict(spawner.chosen_options) | {name: str(value) for name, value in settings.items()}
    for name, value in values.items():
        if name not in _SEVERAL_LINES and not value.isprintable():
            raise InvalidRequestError(f"{name} is {value!r}.", hint="It has one line, without control characters.")
    values["username"] = shlex.quote(values["username"])  # some hubs let users choose it
    return values


def texts(variables: Mapping[str, Any]) -> dict[str, str]:
    """Environment variables as texts, as sites may write them as numbers; a variable that is None is left out."""
    return {name: str(value) for name, value in variables.items() if value is not None}


def _memory(size: int | None) -> str:
    return f"{math.ceil(size / 2**20)}M" if size else ""


def _cpus(count: float | None) -> str:
    return str(math.ceil(count)) if count else ""


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
    """The value of one scheduler option: nothing in it could begin another."""
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
