"""Reads the result of a function that ran as a job: its value, or an error that says what to do."""

from __future__ import annotations

import json
import pickle
from typing import Any

import msgspec

from crestline.model import InvalidRequestError, Job, JobFailedError
from crestline_airflow.functions.packing import Serializer, local_python_version


class RemoteFunctionError(JobFailedError):
    """The function raised an exception.

    Attributes:
        job: its job.
        type_name: name of the exception's class.
        traceback: as Python prints it, with the lines of the DAG's file.
    """

    def __init__(self, message: str, job: Job, *, type_name: str, traceback: str) -> None:
        super().__init__(message, job)
        self.type_name = type_name
        self.traceback = traceback

    def shortened(self) -> RemoteFunctionError:
        """Return the same error with a message of one line."""
        line = self.message.partition("\n")[0]
        return RemoteFunctionError(line, self.job, type_name=self.type_name, traceback=self.traceback)


class _Status(msgspec.Struct):
    """The first line of a result file."""

    status: str
    python: str
    executable: str
    type: str = ""
    message: str = ""
    traceback: str = ""
    value_type: str = ""
    size: int = 0


def value_of(content: bytes, name: str, serializer: Serializer, limit: int, job: Job | None = None) -> Any:
    """Return the function's value.

    Args:
        content: content of the result file.
        name: name of the function.
        serializer: format of the value.
        limit: maximum size in bytes.
        job: the job, if it failed.

    Raises:
        RemoteFunctionError: the function raised an exception.
        InvalidRequestError: the system's Python, or this one, cannot load the other's data.
    """
    line, _, value = content.partition(b"\n")
    status = msgspec.json.decode(line, type=_Status)
    there = f"Python {status.python} on the system ({status.executable})"
    if status.status == "returned":
        try:
            return json.loads(value) if serializer == "json" else pickle.loads(value)  # noqa: S301 - of our own job
        except Exception as error:
            raise InvalidRequestError(
                f"{name}() has returned what this worker cannot load: {type(error).__name__}: {error}.",
                hint=f"{there} and Python {local_python_version()} here need the same modules; or return plain values.",
            ) from error
    if status.status == "raised" and job is not None:
        raise RemoteFunctionError(
            f"{name}() raised {status.type}: {status.message}{_advice(status, there)}\n{status.traceback}",
            job,
            type_name=status.type,
            traceback=status.traceback,
        )
    raise _unusable(status, name, there, limit)


def _advice(status: _Status, there: str) -> str:
    if status.type in ("ModuleNotFoundError", "ImportError"):
        return f"\n{there} has no such module: name another Python with python=, or set one up with prologue=."
    if status.type == "NameError":
        return "\nThe function travels alone: what its file imports and defines outside of it is not there."
    return ""


def _unusable(status: _Status, name: str, there: str, limit: int) -> InvalidRequestError:
    why = f"{status.type}: {status.message}"
    if status.status == "value too large":
        return InvalidRequestError(
            f"{name}() has returned {status.size} bytes; {limit} are allowed.",
            hint="Write a file and return its path, or raise size_limit.",
        )
    if status.status == "value not serialized":
        return InvalidRequestError(
            f"{name}() has returned a {status.value_type}, which cannot be serialized: {why}.",
            hint="Return plain values, or write a file and return its path.",
        )
    if status.status == "arguments not loaded":
        return InvalidRequestError(
            f"{there} cannot load the arguments of {name}(): {why}.",
            hint=f"They were made by Python {local_python_version()} and its modules: name such a Python with "
            "python=, or pass plain values.",
        )
    return InvalidRequestError(
        f"{there} cannot load {name}(): {why}.",
        hint=f"The function was written for Python {local_python_version()}: name such a Python with "
        "python=. Only the function itself travels.",
    )
