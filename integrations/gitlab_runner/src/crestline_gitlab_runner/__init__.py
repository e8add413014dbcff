"""GitLab Runner custom executor: CI jobs on any system behind a FirecREST v2 gateway.

`commands` is what the runner calls, `stages` where each of its stages runs: `host` on the runner's machine,
`allocation` in the scheduler's job, to which `mailbox` brings orders and from which it brings output; `agent.sh` is
the other end.
"""

from crestline_gitlab_runner.commands import main

__all__ = ["main"]
