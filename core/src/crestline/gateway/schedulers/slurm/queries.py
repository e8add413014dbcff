"""Slurm's read-only commands: which command lines of users the gateway accepts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from crestline.model import InvalidRequestError
from crestline.model.slurm_queries import QUERIES, USERS, parse_options

_REFUSED = {
    "iterate": "it never ends",
    "file": "it reads a file",
    "clusters": "it reads another system",
    "allclusters": "it reads other systems",
    "federation": "it reads other systems",
    "sibling": "it reads other systems",
    "help": "it answers nothing of the system",
}
_ENTITIES = frozenset(
    "assoc_mgr burstbuffer bbstat config daemons dwstat federation frontend hostlist hostlistsorted hostnames job jobs "
    "licenses nodes partitions reservations steps topology".split()
)
"""Entities that `scontrol show` may name, also abbreviated."""
_VARIABLES = re.compile(r"(SQUEUE|SACCT|SINFO|SPRIO|SSHARE|SCONTROL)_[A-Z0-9_]{1,40}|TZ|SLURM_(TIME_FORMAT|BITSTR_LEN)")
_ZONE = re.compile(r"(?!.*\.\.)[A-Za-z0-9<][A-Za-z0-9_+,.:/<>-]{0,63}", re.ASCII)
_ELSEWHERE = frozenset({"SQUEUE_CLUSTERS", "SACCT_FEDERATION", "SPRIO_CLUSTERS"})
_LONGEST = 16384
"""Maximum number of characters of a command line."""


def checked(program: str, arguments: Sequence[str], user: str, me: str) -> list[str]:
    """Return the arguments to run a command with.

    Args:
        program: one of `QUERIES`.
        arguments: arguments of the command.
        user: the POSIX user that it runs as.
        me: the caller's name on the client's machine, which stands for `user`.

    Raises:
        InvalidRequestError: the command, an option or a value is not read-only.
    """
    if program not in QUERIES:
        raise InvalidRequestError(f"{program[:40]!r} is not served.", hint=f"Known are: {', '.join(QUERIES)}.")
    if sum(map(len, arguments)) > _LONGEST or any("\0" in each for each in arguments):
        raise InvalidRequestError("The command line is too long, or has a NUL character.", hint="Ask for less at once.")
    parsed = parse_options(arguments, QUERIES[program])
    words = _check_arguments(program, parsed.words, user, me)
    for name, _ in parsed.pairs:
        if name in _REFUSED:
            raise InvalidRequestError(f"--{name} of {program} is not served: {_REFUSED[name]}.", hint="Leave it out.")
    pairs = [(name, _named(value, user, me) if name in USERS else value) for name, value in parsed.pairs]
    return [*replace(parsed, pairs=pairs).written(), *words]


def variables(given: Sequence[str]) -> dict[str, str]:
    """Parse environment variables that change the output of the commands, written as `NAME=value`.

    Raises:
        InvalidRequestError: a variable has another effect.
    """
    found: dict[str, str] = {}
    for each in given:
        name, _, value = each.partition("=")
        if not _VARIABLES.fullmatch(name) or name in _ELSEWHERE or len(value) > 1024 or "\0" in value:
            raise InvalidRequestError(f"The variable {name[:40]!r} is not taken.", hint="Leave it out.")
        if name == "TZ" and not _ZONE.fullmatch(value):
            raise InvalidRequestError("Invalid time zone.", hint="Give one such as Europe/Zurich or UTC.")
        found[name] = value
    return found


def as_arguments(environment: Mapping[str, str]) -> list[str]:
    """Return a prefix that sets these variables for a command and unsets those that select other clusters."""
    return ["env", "-uSLURM_CLUSTERS", "-uSQUEUE_CLUSTERS", *(f"{name}={value}" for name, value in environment.items())]


def _check_arguments(program: str, words: Sequence[str], user: str, me: str) -> list[str]:
    if any(word.startswith("-") for word in words):
        raise InvalidRequestError("A word of the command line begins with '-'.", hint="Leave it out.")
    if program == "scontrol":
        return _checked_show(words)
    if program == "sacctmgr":
        if not words or words[0].lower() not in ("show", "list", "version", "ping"):
            raise InvalidRequestError("sacctmgr is served for 'show' and 'list' alone.", hint="Ask the operators.")
        return [*words[:2], *(_renamed(word, user, me) for word in words[2:])]
    return list(words)


def _checked_show(words: Sequence[str]) -> list[str]:
    command, entity = (words[0].lower(), words[1].partition("=")[0].lower()) if len(words) > 1 else ("", "")
    names = {"jobid": "job", "nodename": "nodes", "partitionname": "partitions", "reservationname": "reservations"}
    entity = names.get(entity, entity)
    if list(words) == ["ping"]:
        return ["ping"]
    if command != "show" or len(entity) < 3 or not any(each.startswith(entity) for each in _ENTITIES):
        raise InvalidRequestError("scontrol is served for 'show' alone.", hint="Name what to show, for example a job.")
    if any(word.rpartition("=")[2].startswith("/") for word in words):
        raise InvalidRequestError("scontrol would read the file of that name.", hint="Name hosts instead.")
    return list(words)


def _renamed(word: str, user: str, me: str) -> str:
    """Replace the caller's name in `user=me` and `me` by the name on the system."""
    name, equals, value = word.rpartition("=")
    if name.lower() not in ("", "user", "users", "name", "names"):
        return word
    return name + equals + _named(value, user, me)


def _named(names: str, user: str, me: str) -> str:
    return ",".join(user if each == me else each for each in names.split(","))
