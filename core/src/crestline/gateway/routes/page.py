"""`/`: what this gateway is and where to go from here."""

from __future__ import annotations

from html import escape

from litestar import MediaType, Router, get

from crestline import __version__
from crestline.gateway.health import Health
from crestline.gateway.requests import AnyRequest
from crestline.gateway.systems import Systems

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Crestline</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; color: #1c2733 }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #d5dce3 }}
code {{ background: #eef2f5; padding: .1rem .3rem }}
</style>
</head>
<body>
<h1>Crestline {version}</h1>
<p>A FirecREST v2 gateway. Its endpoints: <a href="{base}/docs">API documentation</a>.</p>
<table>
<thead><tr><th>System</th><th>Scheduler</th><th>Health</th></tr></thead>
<tbody>{rows}</tbody>
</table>
<p>Connect from a shell on this machine: <code>eval "$(crestline env)"</code></p>
</body>
</html>
"""


@get("/", media_type=MediaType.HTML, include_in_schema=False, public=True)
async def get_page(request: AnyRequest) -> str:
    """The page."""
    systems: Systems = request.app.state.systems
    health: Health = request.app.state.health
    rows = "".join(
        f"<tr><td>{escape(system.name)}</td><td>{escape(system.scheduler.version)}</td>"
        f"<td>{_summary(health, system.name)}</td></tr>"
        for system in systems
    )
    return _PAGE.format(version=__version__, base=escape(request.app.state.public_url()), rows=rows)


def _summary(health: Health, system: str) -> str:
    sick = [each.service_type for each in health.services.get(system, []) if not each.healthy]
    return escape("trouble with " + ", ".join(sick)) if sick else "ok"


router = Router("/", route_handlers=[get_page])
