"""The session's program as one file that any Python runs."""

from __future__ import annotations

import functools
from importlib import resources

from crestline.relay.zipapp import pack

MODULES = ("main", "notice", "token")


@functools.cache
def session_program() -> bytes:
    """Return a zip archive for `python3 FILE CONFIG`: `main` and the relay's agent."""
    package = resources.files("crestline_jupyterhub.session")
    modules = {
        f"crestline_jupyterhub/session/{name}.py": package.joinpath(f"{name}.py").read_text() for name in MODULES
    }
    modules |= {f"crestline_jupyterhub/{folder}__init__.py": "" for folder in ("", "session/")}
    return pack(modules, "from crestline_jupyterhub.session.main import main")
