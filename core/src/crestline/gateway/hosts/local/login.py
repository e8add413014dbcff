"""The environment of programs that the gateway starts on this machine: a login's, without the gateway's own
variables."""

from __future__ import annotations

import os
import pwd

_KEPT = ("LANG", "LC_ALL", "PATH", "TMPDIR", "TZ")
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


def login_environment() -> dict[str, str]:
    """Return the environment of a login of the gateway's own user."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    try:
        account = pwd.getpwuid(os.getuid())
        name, home, shell = account.pw_name, account.pw_dir, account.pw_shell
    except KeyError:  # a container with a uid that has no name
        name, home, shell = str(os.getuid()), os.path.expanduser("~"), ""
    return {
        "PATH": _DEFAULT_PATH,
        "LANG": "C.UTF-8",
        **kept,
        "HOME": home,
        "LOGNAME": name,
        "SHELL": shell or "/bin/sh",
        "USER": name,
    }
