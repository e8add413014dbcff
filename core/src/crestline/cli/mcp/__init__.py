"""`crestline mcp`: a Model Context Protocol server for the jobs and files of a system.

`tools` implements the tools, `server` defines their schemas and errors. They require the extra `crestline[mcp]`, and
are imported when the command runs.
"""

from __future__ import annotations

from typing import Annotated

import typer

from crestline.cli.errors import UsageError
from crestline.cli.extras import needs_extra
from crestline.cli.help import make_app
from crestline.cli.options import Site

ACTIONS = ("submit", "cancel", "write", "delete")
"""Actions that change something. They are dry runs unless `--allow` names them."""

app = make_app()


@app.command("mcp")
def mcp(
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="ACTION,...", help=f"What the agent may do: {', '.join(ACTIONS)}. Repeatable."),
    ] = None,
    site: Site = None,
) -> None:
    """Serve systems, jobs, logs and files to an agent as MCP tools, over stdin and stdout.

    Without --allow, tools that submit, cancel, write or delete only answer what they would do. With SYSTEM@SITE the
    tools reach that system alone, with SITE every system of the site that its credential opens.
    """
    allowed = frozenset(word.strip() for words in allow or () for word in words.split(","))
    if unknown := allowed.difference(ACTIONS):
        raise UsageError(f"{', '.join(map(repr, sorted(unknown)))}: --allow takes {', '.join(ACTIONS)}.")
    import asyncio
    import logging
    import signal

    from crestline.client.config import find_site

    find_site(site)  # an unknown site ends the command, an unavailable gateway does not
    with needs_extra("`crestline mcp`", "mcp"):
        from crestline.cli.mcp.server import make_server
    # Otherwise the SDK logs in boxes on stderr.
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # A thread blocks on stdin, and an interrupted event loop would wait for it. Nothing is lost by exiting immediately.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(make_server(site, allowed).run_stdio_async())
