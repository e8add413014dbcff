"""The `crestline` command: one module per command or small family of commands.

`app` puts them together, `errors` says what a failure looks like and which exit code it has, `output` how results are
printed. Other distributions add commands through the entry point group `crestline.commands`. Client and gateway are
imported inside the commands that need them, so that the command starts quickly.
"""

from crestline.cli.app import main

__all__ = ["main"]
