"""Messages for users if a session does not start."""

from __future__ import annotations

import asyncio
import html
from typing import Any

from tornado import web

from crestline.client import JobEvent, System
from crestline.model import (
    AuthenticationError,
    ConfigError,
    CrestlineError,
    InvalidRequestError,
    Job,
    PermissionDeniedError,
    describe_end,
    end_hint,
    end_reason,
)
from crestline_jupyterhub.progress import describe

try:
    from jupyterhub.spawner import SpawnException as _SpawnException
except ImportError:  # JupyterHub 5

    class _SpawnException(web.HTTPError):  # type: ignore[no-redef]
        def __init__(self, message: str, *, reason: str, log_message: str, status_code: int, **_: Any) -> None:
            super().__init__(status_code, message)
            self.message = message


TAIL_LINES = 15
MAX_LOG = 1 << 20
"""Maximum size in bytes of a log that is read to show its end."""
LOG_TIMEOUT = 20.0
COMMAND_NOT_FOUND = 127


class SpawnFailedError(_SpawnException):
    """A server does not start. Every page of the hub shows the user why and what to do.

    Args:
        message: what happened, and what to do.
        reason: one word, for the hub's metrics.
        status_code: status of the hub's response.
        log: the end of the session's log, which the pages show as a block.
        log_message: text for the hub's log, in place of the message.
    """

    def __init__(self, message: str, *, reason: str, status_code: int, log: str = "", log_message: str = "") -> None:
        whole = f"{message}\nThe end of its log:\n{log}" if log else message
        super().__init__(whole, reason=reason, log_message=log_message or whole, status_code=status_code)
        self.jupyterhub_message = message
        self.jupyterhub_html_message = html.escape(message)
        if log:
            block = f'<pre class="crestline-log text-start">{html.escape(log)}</pre>'
            self.jupyterhub_html_message += f" The end of its log:{block}"


def refused(error: CrestlineError) -> SpawnFailedError:
    """Convert an error of the gateway for the hub."""
    reason, status = "gateway", 503
    if isinstance(error, AuthenticationError | PermissionDeniedError):
        reason, status = "auth", 403
    elif isinstance(error, InvalidRequestError):
        reason, status = "options", 400
    elif isinstance(error, ConfigError):
        reason, status = "configuration", 500
    return SpawnFailedError(str(error), reason=reason, status_code=status)


async def ended(system: System, job: Job, folder: str, name: str) -> SpawnFailedError:
    """Return the error for a job that ended before its server had started, with the end of its log.

    Args:
        system: the system.
        job: the job.
        folder: the session's folder on the system.
        name: name of the log in it.
    """
    parts = ["The server did not start.", describe_end(job)]
    if reason := end_reason(job):
        parts.append(f"Reason: {reason}.")
    if job.exit_code == COMMAND_NOT_FOUND:
        parts.append(
            "Tell your administrator: the server's command must be in PATH after req_prologue, or have an absolute "
            "path in c.Spawner.cmd."
        )
    elif hint := end_hint(job):
        parts.append(hint)
    log = await _tail(system, folder, name)
    return SpawnFailedError(" ".join(parts), reason="job", status_code=500, log=log)


async def late(system: System, news: JobEvent | None, timeout: float, folder: str, name: str) -> SpawnFailedError:
    """Return the error for a start that exceeds the hub's time limit: the state of its job, and the end of its log.

    Args:
        system: the system.
        news: the last event of the job.
        timeout: seconds for which the hub waits.
        folder: the session's folder on the system.
        name: name of the log in it.
    """
    said = describe(news, news.job)["message"] if news is not None else "Nothing was heard of its job."
    if news is None or news.state.is_waiting:
        hint = "Ask for less, or for a shorter time, if you can choose. Your administrator can raise start_timeout."
    else:
        hint = "Try again. If that does not help, show your administrator the end of the log."
    text = f"The server did not start within {timeout:.0f} seconds, so its job is cancelled. {said} {hint}"
    runs = news is not None and not news.state.is_waiting
    log = await _tail(system, folder, name) if runs else ""
    return SpawnFailedError(text, reason="timeout", status_code=504, log=log)


async def _tail(system: System, folder: str, name: str) -> str:
    try:
        async with asyncio.timeout(LOG_TIMEOUT):
            size = next((int(file.size) for file in await system.ls(folder) if file.name == name), 0)
            if size > MAX_LOG:
                return f"({folder}/{name} has {size} bytes: too many to be shown here.)"
            content = await system.read_text(f"{folder}/{name}") if size else ""
    except (CrestlineError, OSError, TimeoutError):
        return ""
    lines = content.splitlines()[-TAIL_LINES:]
    return "\n".join("".join(each for each in line if each.isprintable() or each == "\t") for line in lines)
