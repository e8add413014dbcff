"""From a batch script with `#SBATCH` lines to the API's job, which has no script but a program with arguments."""

from __future__ import annotations

import base64
import binascii
import gzip
import posixpath
import re
import shlex
from collections.abc import Mapping

from crestline.model import InvalidRequestError, JobSpec, UnsupportedError, render_script
from crestline.model.memory import parse_memory
from crestline.model.sbatch import parse_count, parse_directives, parse_nodes
from crestline.model.time_limits import parse_time_limit
from crestline.wire import iri

_LARGEST = 120_000
"""characters of the encoded script: Linux allows 128 KiB for one argument of a program"""
_PLAIN = 60_000
"""bytes of a script from which on it is compressed"""
_ENCODED = re.compile(r'eval "\$\(echo ([A-Za-z0-9+/=]+) \| base64 -d( \| gzip -d)?\)"')

_COUNTS = {
    "ntasks": "process_count",
    "ntasks-per-node": "processes_per_node",
    "cpus-per-task": "cpu_cores_per_process",
}
_ATTRIBUTES = {"partition": "queue_name", "account": "account", "reservation": "reservation_id"}
_TRANSLATED = {*_COUNTS, *_ATTRIBUTES, "nodes", "time", "mem", "gpus", "gpus-per-task", "exclusive", "export"}
_TRANSLATED |= {"job-name", "output", "error", "input", "chdir"}

_EXPORTS = ("ALL", "NONE", "NIL")

_IMPOSSIBLE = {
    "array": "submit one job for each element",
    "dependency": "wait for the other job, then submit",
    "begin": "submit later",
    "clusters": "name another system",
    "export-file": "set the variables in the script",
    "get-user-env": "begin the script with #!/bin/bash -l",
    "hold": "submit later",
    "parsable": "leave it out",
    "test-only": "leave it out",
    "uid": "leave it out",
    "gid": "leave it out",
    "wait": "leave it out",
    "wrap": "write a script",
}
"""options of sbatch that no field and no custom attribute of the API carries, and what to do instead"""


def describe(
    spec: JobSpec,
    *,
    account: str | None = None,
    custom_attributes: Mapping[str, str] | None = None,
    has_patterns: bool = True,
) -> iri.JobSpec:
    """`spec` in the API's words.

    Args:
        account: charged if the job names none.
        custom_attributes: what the facility demands of every job.
        has_patterns: whether the scheduler replaces `%j` and the like in paths, as Slurm does.

    Raises:
        UnsupportedError: options of sbatch that the API cannot carry; the message lists all of them.
        InvalidRequestError: a value that is not of the form of its option, or too long a script.
    """
    script = render_script(spec)
    directives = parse_directives(script)
    options = dict(directives.options)
    if spec.constraint is not None:
        options["constraint"] = spec.constraint
    _check(options, directives.unknown)
    workdir = spec.workdir or options.get("chdir") or "/"
    name = spec.name or options.get("job-name")
    # Slurm replaces patterns in the path that a job names, not in the directory before it.
    base = workdir.replace("%", "%%") if has_patterns else workdir
    stdout = posixpath.join(base, spec.stdout or options.get("output") or f"{name or 'job'}.out")
    stdin, stderr = (
        posixpath.join(base, path) if path else None
        for path in (spec.stdin or options.get("input"), spec.stderr or options.get("error"))
    )
    attributes = {name: options[option] for option, name in _ATTRIBUTES.items() if options.get(option)}
    attributes |= {
        name: value
        for name, value in (
            ("queue_name", spec.partition),
            ("account", spec.account or attributes.get("account") or account),
            ("reservation_id", spec.reservation),
        )
        if value
    }
    others = {
        option: value for option, value in options.items() if option not in _TRANSLATED or _is_special(option, value)
    }
    environment, inherits = _export(options.get("export"))
    return iri.JobSpec(
        executable="/bin/bash",
        arguments=["-c", encode_script(_in_place(script, workdir, stdin, stdout, stderr, options, has_patterns))],
        directory=workdir,
        name=name,
        inherit_environment=inherits,
        environment={**environment, **spec.environment} or None,
        stdin_path=stdin,
        stdout_path=stdout,
        stderr_path=stderr or stdout,
        resources=_resources(options),
        attributes=iri.JobAttributes(
            **attributes,
            duration=parse_time_limit(options["time"]) if "time" in options else None,
            custom_attributes={**(custom_attributes or {}), **others} or None,
        ),
    )


def encode_script(script: str) -> str:
    """One line for `bash -c` that runs a script; facilities break or change arguments of several lines."""
    data = script.encode()
    packed = len(data) > _PLAIN
    text = base64.b64encode(gzip.compress(data, mtime=0) if packed else data).decode()
    if len(text) > _LARGEST:
        raise InvalidRequestError(
            f"The script has {len(data)} bytes, more than one argument of a program carries.",
            hint="Upload it, and submit a short script that runs it.",
        )
    return f'eval "$(echo {text} | base64 -d{" | gzip -d" if packed else ""})"'


def decode_script(arguments: list[str]) -> str | None:
    """The script that `describe` has put into a job's arguments; None if they have none."""
    if len(arguments) != 2 or arguments[0] != "-c":
        return None
    match = _ENCODED.fullmatch(arguments[1])
    if match is None:
        return arguments[1]
    try:
        data = base64.b64decode(match[1], validate=True)
        script = (gzip.decompress(data) if match[2] else data).decode()
    except (binascii.Error, OSError, EOFError, UnicodeDecodeError):
        return None
    return script[max(script.find("#!"), 0) :]


def _check(options: dict[str, str], unknown: tuple[str, ...]) -> None:
    """Refuse what has no place in the API, all of it at once."""
    refused = [f"{word} (not an option that can be translated)" for word in unknown]
    for option, value in options.items():
        if option in _IMPOSSIBLE:
            refused.append(f"--{option} ({_IMPOSSIBLE[option]})")
        elif option not in _TRANSLATED and not value:
            refused.append(f"--{option} (the API carries options with a value only)")
    if "nodes" in options and len(set(parse_nodes(options["nodes"]))) > 1:
        refused.append(f"--nodes={options['nodes']} (name one number)")
    for word in options.get("export", "").split(","):
        if word and "=" not in word and word.upper() not in _EXPORTS:
            refused.append(f"--export={word} (the variables here do not reach the facility: write {word}=VALUE)")
    if "gpus" in options and not _is_special("gpus", options["gpus"]) and _gpus_per_task(options) is None:
        refused.append(f"--gpus={options['gpus']} (the API counts GPUs for each task: write --gpus-per-task)")
    if refused:
        raise UnsupportedError(
            f"The IRI API cannot carry these options of the job: {'; '.join(refused)}.", hint="Remove or replace them."
        )


def _resources(options: dict[str, str]) -> iri.JobResources:
    found: dict[str, int] = {
        name: parse_count(options[option], option) for option, name in _COUNTS.items() if option in options
    }
    if "nodes" in options:
        found["node_count"] = parse_nodes(options["nodes"])[0]
    if (gpus := _gpus_per_task(options)) is not None:
        found["gpu_cores_per_process"] = gpus
    if memory := parse_memory(options.get("mem", "0")):
        found["memory"] = memory * 1024**2
    # Said in every case, as the API's default is true.
    return iri.JobResources(**found, exclusive_node_use=options.get("exclusive") == "")


def _is_special(option: str, value: str) -> bool:
    """Whether a value of a translated option says more than the API's field can: it goes along as Slurm writes it."""
    if option in ("gpus", "gpus-per-task"):
        return ":" in value  # a type, `a100:4`
    if option == "exclusive":
        return value != ""  # `user`: shared with the user's own jobs
    if option == "mem":
        return parse_memory(value) == 0  # all memory of the node
    return option == "time" and parse_time_limit(value) is None  # no limit


def _gpus_per_task(options: dict[str, str]) -> int | None:
    """GPUs of each task, None if the options ask for none, for a type or for what tasks cannot share evenly."""
    if "gpus-per-task" in options:
        value = options["gpus-per-task"]
        return None if _is_special("gpus-per-task", value) else parse_count(value, "gpus-per-task")
    if "gpus" not in options or _is_special("gpus", options["gpus"]):
        return None
    gpus = parse_count(options["gpus"], "gpus")
    if "ntasks" in options:
        tasks = parse_count(options["ntasks"], "ntasks")
    else:  # Slurm starts one on each node
        nodes = parse_nodes(options.get("nodes", "1"))[0]
        tasks = nodes * parse_count(options.get("ntasks-per-node", "1"), "ntasks-per-node")
    return gpus // tasks if gpus % tasks == 0 else None


def _export(value: str | None) -> tuple[dict[str, str], bool | None]:
    """Variables of `--export`, and whether the job inherits the others; None: the API's default, which is yes."""
    words = [word for word in (value or "").split(",") if word]
    variables = dict(word.split("=", 1) for word in words if "=" in word)
    return variables, None if not words or "ALL" in map(str.upper, words) else False


def _in_place(
    script: str,
    workdir: str,
    stdin: str | None,
    stdout: str,
    stderr: str | None,
    options: dict[str, str],
    has_patterns: bool,
) -> str:
    """The script with lines before it that change directory and redirect where a facility does not.

    PBS copies its own output file over another's when the job ends, so that only Slurm's jobs are redirected.
    """
    lines = [f"cd -- {shlex.quote(workdir)} || exit"]
    if stdin is not None and (word := _expanded(stdin) if has_patterns else shlex.quote(stdin)):
        lines.append(f"exec <{word} || exit")
    arrow = ">>" if options.get("open-mode") == "append" else ">"
    for number, path in ((1, stdout), (2, stderr)):
        if path is None:
            lines.append("exec 2>&1")
        elif word := _expanded(path):
            lines.append(
                f'[ -z "${{SLURM_JOB_ID-}}" ] || [ /dev/fd/{number} -ef {word} ] || exec {number}{arrow}{word} || exit'
            )
    return "\n".join([*lines, script])


def _expanded(path: str) -> str | None:
    """A path with Slurm's patterns as a word of the shell; None if it has others than the id and the name of a job."""
    words = {"%j": "${SLURM_JOB_ID}", "%A": "${SLURM_JOB_ID}", "%x": "${SLURM_JOB_NAME}", "%%": "%"}
    parts = re.split(r"(%.)", path)
    if any(part[:1] == "%" and part not in words for part in parts):
        return None
    return "".join(f'"{words[part]}"' if part in words else shlex.quote(part) for part in parts if part)
