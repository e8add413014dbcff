"""A real nginx on loopback, with the server blocks that a test gives it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.parts import require
from harness.ports import until_open

_SETTINGS = """{user}daemon off;
pid {place}/nginx.pid;
events {{}}
http {{
    access_log {place}/access.log;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
{blocks}
}}
"""


@contextmanager
def nginx(place: Path, blocks: str, port: int) -> Iterator[Path]:
    """Serve what the blocks say; yields its access log.

    Args:
        place: an empty directory.
        blocks: of nginx's `http` block.
        port: one that a block listens on.
    """
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    require(program is not None, "there is no `nginx`: install Debian's `nginx-light`")
    assert program is not None
    settings = place / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""
    settings.write_text(_SETTINGS.format(user=user, place=place, blocks=blocks))
    errors = place / "error.log"
    process = subprocess.Popen([program, "-p", place, "-c", settings, "-e", errors])
    try:
        until_open(port, process, errors)
        yield place / "access.log"
    finally:
        process.terminate()
        process.wait(30)
