"""The endpoints of the DOE's IRI Facility API, v1 and v2, from the same systems as FirecREST's."""

from __future__ import annotations

from litestar import Router

from crestline.gateway.iri.facility import PREFIX
from crestline.gateway.routes.iri import account, compute, facility, files, tasks


def routers() -> list[Router]:
    """One for each version; they differ in methods, bodies and words alone."""
    shared = [*facility.handlers, *account.handlers, *compute.handlers, *tasks.handlers]
    return [
        Router(
            f"{PREFIX}/v{version}",
            route_handlers=[*shared, *files.handlers(version), *(account.newer_handlers if version >= 2 else [])],
            include_in_schema=False,
        )
        for version in (1, 2)
    ]
