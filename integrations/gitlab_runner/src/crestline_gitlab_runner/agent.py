"""The job-side agent as a batch script, and its orders (`agent.sh` describes how they work)."""

from __future__ import annotations

import shlex
from importlib.resources import files

AWAY, WORKSPACE_GONE, BROKEN, STARTED_TWICE = 90, 91, 92, 94
"""Exit codes of the agent itself."""


def batch_script(workspace: str, *, ttl: int, grace: int = 10) -> str:
    """Return the agent for a workspace.

    Args:
        workspace: absolute path of the workspace.
        ttl: seconds without a heartbeat after which the job ends itself.
        grace: seconds between SIGTERM and SIGKILL of a stopped command.
    """
    code = files("crestline_gitlab_runner").joinpath("agent.sh").read_text(encoding="utf-8")
    return f"#!/bin/sh\nworkspace={shlex.quote(workspace)} ttl={ttl} grace={grace}\n{code}"


def order(lines: list[str], *, last: bool = False) -> bytes:
    """Build the content of `in/NAME.go`, the agent's order to run a command.

    Args:
        lines: of shell.
        last: the agent ends after this command.
    """
    return "\n".join([*lines, "# end of all" if last else "# end", ""]).encode()


def await_file(name: str, size: int) -> str:
    """Return a shell line that waits until a file has arrived completely, for at most eleven minutes.

    The driver sends the file again until its `gateway_budget`, 10 minutes by default, is used up. If the runner has
    ended, the agent ends the job before that.
    """
    path = shlex.quote(name)
    return (
        f"n=0; until [ -f {path} ] && [ $(wc -c <{path}) -eq {size} ]; do "
        f"n=$((n + 1)); [ $n -le 6600 ] || {{ echo crestline: {path} did not arrive >&2; exit 93; }}; sleep 0.1; done"
    )
