"""The agent as one file that any Python runs."""

from __future__ import annotations

import functools
import io
import zipfile
from importlib import resources

MODULES = ("frames", "mux", "splice", "websocket", "agent")


@functools.cache
def agent_program() -> bytes:
    """A zip archive that `python3 FILE CONFIG -- COMMAND...` runs; needs Python 3.9 and nothing else.

    The same content gives the same bytes, so that a copy can be recognised.
    """
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as program:
        package = resources.files("crestline.relay")
        members = {"__main__.py": "from crestline.relay.agent import main\n\nmain()\n"}
        members |= {"crestline/__init__.py": "", "crestline/relay/__init__.py": ""}
        members |= {f"crestline/relay/{name}.py": package.joinpath(f"{name}.py").read_text() for name in MODULES}
        for name, content in members.items():
            program.writestr(zipfile.ZipInfo(name), content)
    return archive.getvalue()
