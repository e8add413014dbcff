"""The software environment of a session: modules, a virtual environment, conda, a container, a uenv."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import msgspec

from crestline.model import InvalidRequestError


class Software(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One environment. Fields that are not empty are applied in this order.

    Example: `{"modules": ["cray-python"], "venv": "/capstor/venvs/course", "variables": {"OMP_NUM_THREADS": 4}}`.
    """

    module_paths: tuple[str, ...] = ()
    """Paths for `module use`."""
    modules: tuple[str, ...] = ()
    """Modules for `module load`."""
    conda: str = ""
    """Name or path of a conda environment."""
    venv: str = ""
    """Directory of a virtual environment."""
    variables: dict[str, str] = {}
    """Environment variables."""
    container: str = ""
    """Image in which the session and its clusters run. It needs Python and JupyterHub's single-user server."""
    container_command: tuple[str, ...] = ("apptainer", "exec")
    """Command that runs a command in the image, with its options."""
    uenv: str = ""
    """Value of `--uenv`."""
    view: str = ""
    """Value of `--view`."""

    def lines(self) -> list[str]:
        """The shell lines that prepare the environment."""
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
        """Prefix of a command."""
        return [*self.container_command, self.container] if self.container else []


def software(value: Mapping[str, Any]) -> Software:
    """Parse the setting `software`.

    Args:
        value: fields of `Software`; numbers among `variables` are converted to strings.

    Raises:
        InvalidRequestError: an unknown field, or a value of the wrong type; the message names it.
    """
    given = dict(value)
    if isinstance(variables := given.get("variables"), Mapping):
        given["variables"] = {name: _text_of(each) for name, each in variables.items()}
    try:
        chosen = msgspec.convert(given, Software)
    except msgspec.ValidationError as error:
        hint = f"Its fields: {', '.join(Software.__struct_fields__)}."
        raise InvalidRequestError(f"software: {error}.", hint=hint) from None
    for name in chosen.variables:
        if not (name.isascii() and name.isidentifier()):
            raise InvalidRequestError(f"{name!r} cannot name an environment variable.", hint="See software.")
    for name in Software.__struct_fields__:
        field = getattr(chosen, name)
        for text in [field] if isinstance(field, str) else field.values() if isinstance(field, dict) else field:
            if not text.isprintable():
                raise InvalidRequestError(f"software: {name} has {text!r}.", hint="Give text of one line.")
    return chosen


def _text_of(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
