"""The agent as one file that any Python runs."""

from __future__ import annotations

import functools
import io
import zipfile
from collections.abc import Mapping
from importlib import resources

MODULES = ("frames", "mux", "server_socket", "splice", "websocket", "agent")


@functools.cache
def agent_program() -> bytes:
    """Return a zip archive for `python3 FILE CONFIG -- COMMAND...`. It needs only Python 3.9."""
    return pack({}, "from crestline.relay.agent import main")


def pack(modules: Mapping[str, str], import_main: str) -> bytes:
    """Return a zip archive with the agent and further modules that Python can run.

    The same content gives the same bytes, so that a copy can be recognised.

    Args:
        modules: further source files by their names.
        import_main: the statement that imports the function `main`, which is called.
    """
    package = resources.files("crestline.relay")
    members = {"__main__.py": f"{import_main}\n\nmain()\n"}
    members |= {"crestline/__init__.py": "", "crestline/relay/__init__.py": ""}
    members |= {f"crestline/relay/{name}.py": package.joinpath(f"{name}.py").read_text() for name in MODULES}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as program:
        for name, content in {**members, **modules}.items():
            program.writestr(zipfile.ZipInfo(name), content)
    return archive.getvalue()
