"""The gateway's own machine. All users' files and commands belong to the gateway's own account.

`machine` has the host and `files` its files. `listing`, `content`, `uploads`, `trees`, `archives`, `unpacking` and
`kind` implement the operations, `workers` has their threads, and `errors` the messages.
"""

from crestline.gateway.hosts.local.machine import LocalHost

__all__ = ["LocalHost"]
