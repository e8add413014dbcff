"""The machine that the gateway runs on; the gateway's own OS user is everybody's user.

`machine` is the host, `files` its files; `listing`, `content`, `uploads`, `trees`, `archives`, `unpacking` and `kind`
do the work, `workers` has the threads for it, `errors` words what goes wrong.
"""

from crestline.gateway.hosts.this_machine.machine import ThisMachine

__all__ = ["ThisMachine"]
