"""The machine that the gateway runs on; all users' files and commands are those of the gateway's own OS user.

`machine` is the host, `files` its files; `listing`, `content`, `uploads`, `trees`, `archives`, `unpacking` and `kind`
do the work, `workers` has the threads for it, `errors` words what goes wrong.
"""

from crestline.gateway.hosts.local.machine import ThisMachine

__all__ = ["ThisMachine"]
