"""Another machine, reached over SSH as the user whom a request speaks for.

`machine` is the host; `connector` logs in, with what `credentials` give; `pool` and `pools` share the connections;
`commands` runs programs; `files`, `content`, `uploads`, `archives` and `listing` are the files, by SFTP where bytes
move and by the machine's own programs otherwise.
"""

from crestline.gateway.hosts.ssh.machine import SshHost
from crestline.gateway.hosts.ssh.settings import SshSettings

__all__ = ["SshHost", "SshSettings"]
