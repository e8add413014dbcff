"""`/`: the gateway's own page. Its files are in `gateway/page`. It uses the endpoints of this gateway.

A sign-in link has a code that can be used once. The page exchanges it for an API key, which is revoked at sign-out.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterable
from html import escape
from importlib import resources
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

from litestar import Response, Router, get, post
from litestar.exceptions import NotFoundException
from litestar.params import HeaderParameter, JSONBody, PathParameter
from msgspec import Meta

from crestline import __version__
from crestline.gateway.audit.notes import note_target, set_principal
from crestline.gateway.identity import Principal
from crestline.gateway.iri.facility import PREFIX, VERSIONS
from crestline.gateway.page_headers import COMMON, page_headers
from crestline.gateway.requests import GatewayRequest
from crestline.gateway.routes.entity_tags import matches
from crestline.model import AuthenticationError, RateLimitedError
from crestline.wire.codec import Message
from crestline.wire.extensions import NewApiKey, Scope

_TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml"}
_FILES = {
    file.name: file.read_bytes()
    for file in (resources.files("crestline.gateway") / "page").iterdir()
    if file.name.rpartition(".")[2] in _TYPES
}
_SESSION = 12 * 3600
"""Maximum seconds of a sign-in by a link."""
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+")
_PACKED = {name: gzip.compress(content, mtime=0) for name, content in _FILES.items()}


class SignInCode(Message):
    """The code of a sign-in link."""

    code: Annotated[str, Meta(min_length=1, max_length=128)]

    def __repr__(self) -> str:
        return "SignInCode()"


class PageProvider(Message):
    """An identity provider for sign-in: authorization code with PKCE (RFC 7636), as a public client."""

    issuer: str
    name: str
    client_id: str
    scope: str
    resource: str | None = None


class PageApi(Message):
    """An API that the gateway serves for all its systems."""

    name: str
    url: str
    """Base URL of the API."""


class PageSettings(Message):
    """Settings that the page needs before the sign-in."""

    version: str
    public_url: str
    """Base of the URLs that the gateway signs."""
    providers: list[PageProvider]
    apis: list[PageApi]


class PageNotice(Message):
    """A current or announced maintenance."""

    message: str
    system: str | None = None
    """Name of the system; None: all systems."""
    start: int | None = None
    """Unix time."""
    end: int | None = None
    """Unix time."""


class PageNotices(Message):
    """Current notices for users."""

    notices: list[PageNotice]


KnownTag = Annotated[str | None, HeaderParameter(name="If-None-Match", max_length=4096)]
Encodings = Annotated[str, HeaderParameter(name="Accept-Encoding", max_length=4096)]


@get("/", media_type="text/html", include_in_schema=False, public=True)
async def get_page(request: GatewayRequest) -> Response[bytes]:
    """Return the page, which asks for a credential itself."""
    base = urlsplit(request.runtime.public_url()).path.rstrip("/") + "/"
    pages = [(each.issuer, *each.page.origins) for each in request.runtime.config.oidc if each.page is not None]
    origins = [f"{url.scheme}://{url.netloc}" for urls in pages for url in map(urlsplit, urls)]
    return page_response(base, origins)


def page_response(base: str, origins: Iterable[str]) -> Response[bytes]:
    """Return the page for a server whose paths begin with `base`, and that can contact identity providers at
    `origins`."""
    content = _FILES["index.html"].replace(b'<base href="/">', f'<base href="{escape(base)}">'.encode())
    headers = page_headers(_policy(origins))
    return Response(content, media_type="text/html; charset=utf-8", headers=headers)


@get("/page/settings.json", include_in_schema=False, public=True)
async def get_settings(request: GatewayRequest) -> Response[PageSettings]:
    """Return the settings that the page needs before the sign-in."""
    settings = PageSettings(
        version=__version__,
        public_url=request.runtime.public_url(),
        providers=[
            PageProvider(
                issuer=each.issuer,
                name=each.page.name or urlsplit(each.issuer).netloc,
                client_id=each.page.client_id,
                scope=each.page.scope,
                resource=each.page.resource,
            )
            for each in request.runtime.config.oidc
            if each.page is not None
        ],
        apis=_apis(request),
    )
    return Response(settings, headers=COMMON)


@get("/page/notices.json", include_in_schema=False, scope="status:read")
async def get_notices(request: GatewayRequest) -> Response[PageNotices]:
    """Return the maintenances that have not ended."""
    runtime = request.runtime
    announced = [
        (None, runtime.config.maintenance),
        *((each.name, each.config.maintenance) for each in runtime.systems),
    ]
    notices = [
        PageNotice(
            message=maintenance.message,
            system=system,
            start=int(maintenance.start.timestamp()) if maintenance.start else None,
            end=int(maintenance.end.timestamp()) if maintenance.end else None,
        )
        for system, maintenance in announced
        if maintenance is not None and not maintenance.has_ended()
    ]
    return Response(PageNotices(notices=notices), headers=COMMON)


@post("/page/sign-in", status_code=201, include_in_schema=False, public=True, request_max_body_size=4096)
async def post_sign_in(request: GatewayRequest, data: JSONBody[SignInCode]) -> Response[NewApiKey]:
    """Return an API key with all scopes of the client of this sign-in code."""
    runtime = request.runtime
    client = await runtime.clients.use_sign_in_code(data.code)
    if client is None:
        address = request.client.host if request.client else ""
        runtime.sign_ins.note(address)
        if (pause := runtime.sign_ins.retry_after(address)) is not None:
            raise RateLimitedError("Too many failed sign-ins.", hint="Try again later.", retry_after=pause)
        raise AuthenticationError(
            "The sign-in link was used already, or has expired.",
            hint="Make another one with `crestline clients link`, or sign in below.",
        )
    caller = Principal(
        username=client.username,
        client_id=client.client_id,
        scopes=client.scopes,
        via="client",
        issuer=runtime.issuer.name,
    )
    set_principal(request.scope, caller)
    scopes: list[Scope] = [each for each in get_args(Scope) if each in client.scopes]
    lifetime = min(_SESSION, runtime.config.api_keys.max_lifetime)
    key = await runtime.api_keys.create(caller, "page, by a sign-in link", scopes, lifetime)
    note_target(request.scope, key.key_id)
    return Response(key, headers={"Cache-Control": "no-store"})


@get("/page/{name:str}", include_in_schema=False, public=True)
async def get_file(
    name: Annotated[str, PathParameter()], known: KnownTag = None, encodings: Encodings = ""
) -> Response[Any]:
    """Return a script, the style or the icon of the page."""
    if name not in _FILES or name == "index.html":
        raise NotFoundException("The page has no such file.")
    content = _FILES[name]
    tag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**COMMON, "ETag": tag, "Vary": "Accept-Encoding"}
    if matches(known, tag):
        return Response(None, status_code=304, headers=headers)
    if "gzip" in encodings:
        content = _PACKED[name]
        headers["Content-Encoding"] = "gzip"
    return Response(content, media_type=f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8", headers=headers)


def _apis(request: GatewayRequest) -> list[PageApi]:
    url = request.runtime.public_url()
    found = [PageApi(name="FirecREST v2", url=url)]
    if request.runtime.config.iri.enabled:
        found += [PageApi(name=f"IRI v{version}", url=f"{url}{PREFIX}/v{version}") for version in VERSIONS]
    return found


def _policy(origins: Iterable[str]) -> dict[str, str]:
    """Return the Content-Security-Policy: nothing inline, and requests only to the gateway and the providers."""
    return {
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob:",
        "connect-src": " ".join(["'self'", *sorted({each for each in origins if _ORIGIN.fullmatch(each)})]),
        "base-uri": "'self'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


router = Router("/", route_handlers=[get_page, get_settings, get_notices, post_sign_in, get_file])
