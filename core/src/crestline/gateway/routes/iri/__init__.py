"""The endpoints of the DOE's IRI Facility API, v1 and v2, for the same systems as FirecREST's."""

from __future__ import annotations

from litestar import Router
from litestar.handlers import HTTPRouteHandler

from crestline.gateway.iri.facility import PREFIX, VERSIONS
from crestline.gateway.routes.iri import account, compute, facility, files, tasks
from crestline.gateway.routes.iri.document import document_handlers


def handlers(version: int) -> list[HTTPRouteHandler]:
    """Return the endpoints of a version."""
    shared = [*facility.handlers, *account.handlers, *compute.handlers, *tasks.handlers]
    return [*shared, *files.handlers(version), *(account.newer_handlers if version >= 2 else [])]


def routers() -> list[Router | HTTPRouteHandler]:
    """Return the routers of the versions, which differ in methods, bodies and names, and their documents."""
    found: list[Router | HTTPRouteHandler] = []
    for version in VERSIONS:
        described = handlers(version)
        found.append(Router(f"{PREFIX}/v{version}", route_handlers=described, include_in_schema=False))
        found += document_handlers(version, described)
    return found
