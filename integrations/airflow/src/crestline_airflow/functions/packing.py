"""A call of a function as one file that any Python runs."""

from __future__ import annotations

import ast
import base64
import functools
import inspect
import json
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any, Literal

import msgspec

from crestline.model import InvalidRequestError

Serializer = Literal["pickle", "json"]

_PROTOCOL = 4
"""Protocol of pickle that Python 3.4 and newer can read."""

_OF_AIRFLOW = frozenset({"task", "firecrest", "setup", "teardown", "skip_if", "run_if"})


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A function and its arguments."""

    function: Callable[..., Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = {}
    serializer: Serializer = "pickle"
    limit: int
    """Maximum size in bytes of the serialized arguments, and of the serialized value."""


def pack(call: Call) -> bytes:
    """Return the file. Its first argument is the path of the result file.

    Raises:
        InvalidRequestError: the function cannot be sent, or its arguments cannot be serialized or are too large.
    """
    arguments = _serialized(call)
    if len(arguments) > call.limit:
        raise InvalidRequestError(
            f"The arguments of {call.function.__name__}() have {len(arguments)} bytes; {call.limit} are allowed.",
            hint="Upload a file and pass its path, or raise size_limit.",
        )
    content = {
        "name": call.function.__name__,
        "file": inspect.getsourcefile(call.function) or "<function>",
        "source": source_of(call.function),
        "serializer": call.serializer,
        "limit": call.limit,
        "arguments": base64.b64encode(arguments).decode(),
    }
    return f"{_runner()}\n\nif __name__ == '__main__':\n    run({content!r})\n".encode()


def source_of(function: Callable[..., Any]) -> str:
    """The source of a function without its decorators, each line under the number that it has in its file.

    Raises:
        InvalidRequestError: there is none, or it needs more than itself.
    """
    if function.__closure__:
        names = ", ".join(function.__code__.co_freevars)
        raise _not_alone(function, f"it uses {names} of the function around it")
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError) as error:
        raise _not_alone(function, f"its source cannot be found ({error})") from error
    indented = lines[0][:1].isspace()
    text = "if True:\n" * indented + "".join(lines)
    [block] = ast.parse(text).body
    definition = block.body[0] if isinstance(block, ast.If) else block
    if not isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
        raise _not_alone(function, "it is not a function with a name")
    for decorator in definition.decorator_list:
        if not _is_airflows(decorator):
            raise _not_alone(function, f"@{ast.unparse(decorator)} stays behind")
    skipped = definition.lineno - 1 - indented
    before = first - 1 + skipped - indented
    return "\n" * before + "if True:\n" * indented + "".join(lines[skipped:])


def _is_airflows(decorator: ast.expr) -> bool:
    if isinstance(decorator, ast.Call):
        return _is_airflows(decorator.func)
    if isinstance(decorator, ast.Attribute):
        return decorator.attr in _OF_AIRFLOW
    return isinstance(decorator, ast.Name) and decorator.id in _OF_AIRFLOW


def _not_alone(function: Callable[..., Any], why: str) -> InvalidRequestError:
    name = getattr(function, "__name__", repr(function))
    return InvalidRequestError(
        f"{name}() cannot run on its own: {why}.",
        hint="The function travels alone: import and define in it what it needs, and pass the rest as arguments.",
    )


def _serialized(call: Call) -> bytes:
    both = [list(call.args), dict(call.kwargs)]
    try:
        return json.dumps(both).encode() if call.serializer == "json" else pickle.dumps(both, _PROTOCOL)
    except Exception as error:  # whatever __reduce__ of anything in it raises
        raise InvalidRequestError(
            f"The arguments of {call.function.__name__}() cannot be serialized as {call.serializer}: {error}.",
            hint="Pass plain values, or paths of files.",
        ) from error


@functools.cache
def _runner() -> str:
    return resources.files(__package__).joinpath("runner.py").read_text(encoding="utf-8")


def local_python_version() -> str:
    """Return major and minor version of the Python that runs here."""
    return ".".join(map(str, sys.version_info[:3]))
