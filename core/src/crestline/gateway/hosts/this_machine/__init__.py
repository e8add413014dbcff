"""The machine that the gateway runs on; the gateway's own OS user is everybody's user.

`machine` is the host, `files` its files; `listing`, `content`, `trees`, `archives` and `kind` do the work in worker
threads, `errors` words what goes wrong.
"""

from crestline.gateway.hosts.this_machine.machine import ThisMachine

__all__ = ["ThisMachine"]
