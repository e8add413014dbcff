"""How FirecREST says no: the error body, and the exception that carries it out of a handler.

Protocol source: the recorded answers of a FirecREST v2 at work (shapes/errors.json).
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response


class Refusal(Exception):  # noqa: N818 (an answer, not an error of ours)
    """An answer with an error body. `message` is for people, `caused_by` the chain of texts below it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        caused_by: list[str] | None = None,
        data: dict[str, Any] | None = None,
        kind: str = "error",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.caused_by = caused_by
        self.data = data
        self.kind = kind
        self.headers = headers or {}

    def response(self, user: str | None = None) -> Response:
        """The answer, as seen by `user` (None before authentication)."""
        body = {
            "errorType": self.kind,
            "message": self.message,
            "causedBy": self.caused_by,
            "data": self.data,
            "user": user,
        }
        return JSONResponse(body, status_code=self.status, headers=self.headers)


class BrokenConnection(Exception):  # noqa: N818
    """The real server loses the connection here without an answer, and so does this one."""


def invalid(location: str, name: str, reason: str, *, value: object = None) -> Refusal:
    """A request that does not validate: 400 with the field in `data`, and a message full of server paths."""
    detail = {"type": "value_error", "loc": (location, name), "msg": reason, "input": value}
    text = f'1 validation error:\n  {detail}\n\n  file "/srv/firecrest/router.py"'.lower()
    fields = [{"location": location, "name": name, "message": reason}]
    return Refusal(400, text, kind="validation", data={"fields": fields})


def remote_failure(exit_status: int, error: str) -> Refusal:
    """A command of the file system that failed, with the status that FirecREST derives from its error text."""
    message = f"Remote process failed with exit status:{exit_status}"
    if error.strip():
        message += f" and error message:{error.strip()}"
    if exit_status == 124:
        return Refusal(408, message)
    if "No such file or directory" in error:
        return Refusal(404, message)
    if "Permission denied" in error or "Operation not permitted" in error:
        return Refusal(403, message)
    if "File exists" in error or "invalid user" in error or "invalid group" in error:
        return Refusal(400, message)
    return Refusal(500, message)


def slurm_failure(error: str, exit_status: int = 1) -> Refusal:
    """A Slurm command that failed while it changed something: 500, whosever fault it was."""
    return Refusal(500, f"Unexpected Slurm command response. exit_status:{exit_status} std_err:{error}\n")


def buffer_exceeded() -> Refusal:
    """More output than the buffer of a remote command holds."""
    return Refusal(413, "Command output exceeded buffer limit.")


def command_timeout() -> Refusal:
    """A remote command that took longer than FirecREST waits."""
    return Refusal(408, "Command execution timeout limit exceeded.")
