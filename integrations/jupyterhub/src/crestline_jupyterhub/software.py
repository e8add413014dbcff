"""The software that a session runs in: modules, a virtual environment, conda, a container, a uenv."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from crestline.model import InvalidRequestError


@dataclass(frozen=True, kw_only=True)
class Software:
    """One choice; what is not empty is used, in this order."""

    module_paths: tuple[str, ...] = ()
    """for `module use`"""
    modules: tuple[str, ...] = ()
    """for `module load`"""
    conda: str = ""
    """name or path of an environment"""
    venv: str = ""
    """folder of a virtual environment"""
    variables: Mapping[str, str] = field(default_factory=dict)
    """environment variables"""
    container: str = ""
    """image; the session and its clusters run in it, so it has Python and JupyterHub's single-user server"""
    container_command: tuple[str, ...] = ("apptainer", "exec")
    """what runs a command in the image, with its options"""
    uenv: str = ""
    """as `--uenv` takes it"""
    view: str = ""
    """as `--view` takes it"""

    def lines(self) -> list[str]:
        """The shell lines that prepare it."""
        lines = [f"module use {shlex.quote(path)}" for path in self.module_paths]
        lines += [f"module load {shlex.quote(module)}" for module in self.modules]
        if self.conda:
            lines += [
                '. "$(conda info --base)/etc/profile.d/conda.sh"',
                f"conda activate {shlex.quote(self.conda)}",
            ]
        if self.venv:
            lines.append(f". {shlex.quote(self.venv.rstrip('/') + '/bin/activate')}")
        lines += [f"export {name}={shlex.quote(value)}" for name, value in self.variables.items()]
        return lines

    def wrapper(self) -> list[str]:
        """What stands in front of a command."""
        return [*self.container_command, self.container] if self.container else []


def software(value: Mapping[str, Any]) -> Software:
    """The setting `software` as it is configured.

    Raises:
        InvalidRequestError: an unknown field, or a value of another type; says which.
    """
    hints = get_type_hints(Software)
    names = [each.name for each in fields(Software)]
    checked: dict[str, Any] = {}
    for name, given in value.items():
        if name not in names:
            raise InvalidRequestError(f"software has no field {name!r}.", hint=f"Its fields: {', '.join(names)}.")
        checked[name] = _typed(name, given, hints[name])
    return Software(**checked)


def _typed(name: str, given: Any, wanted: Any) -> Any:
    if wanted is str and isinstance(given, str):
        return _one_line(name, given)
    if wanted == tuple[str, ...] and isinstance(given, list | tuple):
        return tuple(_one_line(name, each) for each in given)
    if wanted == Mapping[str, str] and isinstance(given, Mapping):
        if wrong := [key for key in given if not (isinstance(key, str) and key.isascii() and key.isidentifier())]:
            raise InvalidRequestError(f"{wrong[0]!r} cannot name an environment variable.", hint="See software.")
        return {key: _one_line(name, str(each) if _is_number(each) else each) for key, each in given.items()}
    raise InvalidRequestError(f"software: {name} is {given!r}.", hint="Give text, or a list of texts; see its type.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _one_line(name: str, given: Any) -> str:
    if not isinstance(given, str) or not given.isprintable():
        raise InvalidRequestError(f"software: {name} has {given!r}.", hint="Give text of one line.")
    return given
