"""Another machine, reached over SSH as the user of each request.

`machine` is the host. `connector` logs in with the `credentials`, `pool` and `pools` share the connections, and
`commands` runs programs. `files`, `content`, `uploads`, `archives` and `listing` are the file operations, by SFTP for
contents and by the machine's own programs otherwise.
"""

from crestline.gateway.hosts.ssh.machine import SshHost
from crestline.gateway.hosts.ssh.settings import SshSettings

__all__ = ["SshHost", "SshSettings"]
