"""The machine that the gateway runs on; all users' files and commands belong to the gateway's own OS user.

`machine` is the host and `files` its files. `listing`, `content`, `uploads`, `trees`, `archives`, `unpacking` and
`kind` implement the operations, `workers` has their threads, and `errors` the messages.
"""

from crestline.gateway.hosts.local.machine import ThisMachine

__all__ = ["ThisMachine"]
