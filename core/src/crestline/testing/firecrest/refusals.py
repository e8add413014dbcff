"""Error responses of FirecREST, and the exceptions that handlers raise for them.

Protocol source: the recorded responses of a FirecREST v2 in operation (shapes/errors.json).
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response


class Refusal(Exception):  # noqa: N818 (an answer, not an error of ours)
    """An error response. `message` is for people, `caused_by` is the chain of underlying messages."""

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
        """Return the response as sent to `user` (None before authentication)."""
        body = {
            "errorType": self.kind,
            "message": self.message,
            "causedBy": self.caused_by,
            "data": self.data,
            "user": user,
        }
        return JSONResponse(body, status_code=self.status, headers=self.headers)


class BrokenConnection(Exception):  # noqa: N818
    """Reset the connection without a response, as the real server does here."""


def invalid(location: str, name: str, reason: str, *, value: object = None) -> Refusal:
    """Return the error for an invalid request: 400 with the field in `data`, and a message full of server paths."""
    detail = {"type": "value_error", "loc": (location, name), "msg": reason, "input": value}
    text = f'1 validation error:\n  {detail}\n\n  file "/srv/firecrest/router.py"'.lower()
    fields = [{"location": location, "name": name, "message": reason}]
    return Refusal(400, text, kind="validation", data={"fields": fields})


def remote_failure(exit_status: int, error: str) -> Refusal:
    """Return the error for a failed file system command, with the status that FirecREST derives from its output."""
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
    """Return the error for a failed Slurm command that changes something: always 500."""
    return Refusal(500, f"Unexpected Slurm command response. exit_status:{exit_status} std_err:{error}\n")


def buffer_exceeded() -> Refusal:
    """Return the error for output that exceeds the buffer of a remote command."""
    return Refusal(413, "Command output exceeded buffer limit.")


def command_timeout() -> Refusal:
    """Return the error for a remote command that exceeds FirecREST's timeout."""
    return Refusal(408, "Command execution timeout limit exceeded.")
