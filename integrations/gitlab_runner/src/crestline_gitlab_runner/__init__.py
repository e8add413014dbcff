"""GitLab Runner custom executor: CI jobs on any system behind a FirecREST v2 gateway.

`commands` is what the runner calls, `stages` where each of its stages runs: `host` on the runner's machine,
`allocation` in the scheduler's job, to which `mailbox` brings orders and from which it brings output; `agent.sh` is
the other end.
"""

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """GitLab Runner custom executor: config, prepare, run, cleanup, gc."""
    from crestline_gitlab_runner import commands  # the list of all commands does without it

    return commands.main(arguments)
