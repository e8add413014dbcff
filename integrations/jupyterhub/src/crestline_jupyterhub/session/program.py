"""The session's program as one file that any Python runs."""

from __future__ import annotations

import functools
from importlib import resources

from crestline.relay.program import pack


@functools.cache
def session_program() -> bytes:
    """A zip archive that `python3 FILE CONFIG` runs: `main` and the relay's agent."""
    main = resources.files("crestline_jupyterhub.session").joinpath("main.py").read_text()
    return pack({"crestline_session.py": main}, "from crestline_session import main")
