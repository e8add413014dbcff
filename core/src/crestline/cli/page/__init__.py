"""`crestline page`: the gateway's page for sites that have none, such as a plain FirecREST or an IRI facility.

`server` answers the page's requests, `remote` forwards them with the client, and `messages` converts the results to the
format of the page. They require the extra `crestline[gateway]`, and are imported when the command runs.
"""

from __future__ import annotations

from typing import Annotated

import typer

from crestline.cli.errors import UsageError
from crestline.cli.extras import needs_extra
from crestline.cli.help import make_app
from crestline.cli.options import Site

app = make_app()


@app.command("page")
def page(
    site: Site = None,
    all_sites: Annotated[bool, typer.Option("--all-sites", help="Show the systems of all configured sites.")] = False,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 0,
) -> None:
    """Show a site's jobs and files in a browser, until Ctrl-C.

    It listens on loopback and prints a link that opens the page once. With SYSTEM@SITE the page shows one system,
    with SITE all systems of the site, and with --all-sites the systems of all configured sites.
    """
    from contextlib import suppress

    if site and all_sites:
        raise UsageError("Give either --site or --all-sites.")
    with needs_extra("`crestline page`", "gateway"):
        from crestline.cli.page.server import PageServer
    server = PageServer(site, port, all_sites=all_sites)
    with suppress(KeyboardInterrupt):
        server.run_forever()
