"""GitLab Runner custom executor: CI jobs on any system behind a FirecREST v2 gateway.

`commands` has the entry points that the runner calls, and `stages` decides where each of its stages runs: on the
runner's machine or in the scheduler's job (`allocation`). `command_channel` sends commands to the job and receives its
output; `agent.sh` is the other end.
"""

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """GitLab Runner custom executor: config, prepare, run, cleanup, gc."""
    from crestline_gitlab_runner import commands  # the list of all commands works without it

    return commands.main(arguments)
