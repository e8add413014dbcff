"""The environment of whatever the gateway starts on this machine: a login's, nothing else of its own."""

from __future__ import annotations

import os
import pwd

_KEPT = ("LANG", "LC_ALL", "PATH", "TMPDIR", "TZ")
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


def login_environment() -> dict[str, str]:
    """What a login of the gateway's own user starts with."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    try:
        account = pwd.getpwuid(os.getuid())
        name, home, shell = account.pw_name, account.pw_dir, account.pw_shell
    except KeyError:  # a container that runs as a number
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
