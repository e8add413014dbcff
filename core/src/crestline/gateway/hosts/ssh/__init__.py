"""Another machine, reached over SSH as the user of each request.

`machine` has the host. `connector` logs in with the `credentials`, `pool` and `pools` share the connections, and
`commands` runs programs. `files`, `content`, `uploads`, `archives` and `listing` are the file operations. They use
SFTP for contents and the machine's own programs otherwise.
"""

from crestline.gateway.hosts.ssh.machine import SshHost
from crestline.gateway.hosts.ssh.settings import SshSettings

__all__ = ["SshHost", "SshSettings"]
