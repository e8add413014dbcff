"""A local server that shows the gateway's page and forwards its requests to a site with the client."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any

import msgspec
from litestar import Litestar, Request, Response, Router, delete, get, head, post, put
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.exceptions import HTTPException, NotFoundException
from litestar.handlers import BaseRouteHandler
from litestar.params import HeaderParameter, JSONBody, PathParameter, QueryParameter
from litestar.response import Stream

from crestline import __version__
from crestline.cli.page.messages import file_entry, job_info, job_metadata, job_spec
from crestline.cli.page.remote import Remote
from crestline.cli.remote_files import check_deletable
from crestline.client import System, find_site, load_sites, sites_file
from crestline.gateway.errors import handle_crestline_error, handle_http_exception, handle_unexpected
from crestline.gateway.identity.clients import sign_in_link
from crestline.gateway.page_headers import COMMON
from crestline.gateway.routes.content import FilePath, UploadId
from crestline.gateway.routes.entity_tags import matches
from crestline.gateway.routes.page import PageApi, PageSettings, SignInCode, get_file, page_response
from crestline.gateway.routes.ranges import RangeHeader, file_answer
from crestline.model import AuthenticationError, ConfigError, CrestlineError, Job, JobState, UnsupportedError
from crestline.serving.server import HttpServer, bind
from crestline.wire.codec import camelize_keys
from crestline.wire.compute import TIME_WINDOWS, SubmitAnswer, SubmitRequest
from crestline.wire.extensions import CHECKSUM_HEADER, UPLOAD_COMPLETE_HEADER, UPLOAD_OFFSET_HEADER
from crestline.wire.filesystem import MakeDirectoryRequest

_INTERVAL = 3.0
"""Seconds between two polls of the jobs while a tab waits for a change."""
_LONGEST_WAIT = 20
_DONE = "page-done"
"""Job id for the page's moves and copies, which have finished when the page asks for their transfer job."""

_LISTS: dict[str, tuple[str, Callable[[System], Awaitable[list[Any]]]]] = {
    "partitions": ("partitions", System.partitions),
    "nodes": ("nodes", System.nodes),
    "userinfo": ("accounts", System.accounts),
}
"""Status resources of the page: the key of the response, and the client call. Empty if the site does not support it."""

Name = Annotated[str, PathParameter()]


class PageServer(HttpServer):
    """The page of one site, or of all configured ones, on a port of this machine.

    Args:
        target: the site, or SYSTEM@SITE.
        port: the port to listen on. 0 selects a free one.
        all_sites: ignore `target`, and show the systems of every site of the sites file as SYSTEM@SITE.

    Raises:
        ConfigError: the port is in use, the site is unknown, or no site is configured.
    """

    def __init__(self, target: str | None, port: int, *, all_sites: bool = False) -> None:
        only = None
        if all_sites:
            sites = load_sites()
            if not sites:
                raise ConfigError("No site is configured.", hint=f"Write one into {sites_file()}.")
        else:
            site, default = find_site(target)
            sites = {"": site}
            only = default if "@" in (target or "") else None
        listener = bind("127.0.0.1", port)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.session = Session(self.url)
        titles = [f"{each.api} at {each.url}" for each in sites.values()]
        self._app = make_app(Remote(sites, only), self.url, titles, self.session)
        super().__init__(self._app, listener)

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.session.print_link()

    async def shutdown(self, sockets: Any = None) -> None:
        remote: Remote = self._app.state.remote
        remote.is_closing.set()
        await super().shutdown(sockets)
        await remote.close()


class Session:
    """The page's only session: it belongs to the browser that opened the link, until that signs out."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._code = secrets.token_urlsafe(32)
        self._token: str | None = None

    def print_link(self) -> None:
        """Print a single-use sign-in link on the terminal."""
        print(f"Open {sign_in_link(self._url, self._code)}\nCtrl-C ends the page.", flush=True)

    def sign_in(self, code: str) -> str:
        """Return a token for the code of the link. Raises AuthenticationError if the code is invalid or used."""
        if not self._code or not secrets.compare_digest(code.encode(), self._code.encode()):
            raise AuthenticationError("The link was used already.", hint="Start `crestline page` again for another.")
        self._code = ""
        self._token = secrets.token_urlsafe(32)
        return self._token

    def sign_out(self) -> None:
        """End the session, and print a link for the next one."""
        self._token, self._code = None, secrets.token_urlsafe(32)
        self.print_link()

    def check(self, authorization: str) -> None:
        """Raise AuthenticationError unless the header contains the token."""
        expected = f"Bearer {self._token}"
        if self._token is None or not secrets.compare_digest(authorization.encode(), expected.encode()):
            raise AuthenticationError(
                "This tab is not signed in.", hint="Open the link that `crestline page` printed on its terminal."
            )


class PageRequest(Request[Any, Any, Any]):
    """A request with access to the site behind the page."""

    @property
    def remote(self) -> Remote:
        found: Remote = self.app.state.remote
        return found


@get("/status/systems")
async def get_systems(request: PageRequest) -> dict[str, Any]:
    """List the systems of the site."""
    return {"systems": await request.remote.entries()}


@get("/page/notices.json", sync_to_thread=False)
def get_notices() -> dict[str, Any]:
    """List maintenance notices. Sites do not announce any to their clients."""
    return {"notices": []}


@get("/keys", sync_to_thread=False)
def get_keys() -> dict[str, Any]:
    """List API keys. The site has no API keys, or manages them on its own page."""
    return {"keys": []}


@post("/keys", sync_to_thread=False)
def post_key() -> None:
    """Refuse to create an API key, which would open this page to other programs."""
    raise UnsupportedError("This page makes no API keys.", hint="Ask the site for a credential.")


@get("/status/{name:str}/{what:str}")
async def get_status(request: PageRequest, name: Name, what: Name) -> dict[str, Any]:
    """List partitions, nodes, allocations, or the user's accounts."""
    system = await request.remote.system(name)
    if what == "allocations":
        return {what: camelize_keys(msgspec.to_builtins(await system.allocations()))}
    if what not in _LISTS:
        raise NotFoundException(f"This page has no {what}.")
    key, fetch = _LISTS[what]
    try:
        return {key: camelize_keys(msgspec.to_builtins(await fetch(system)))}
    except UnsupportedError:
        return {key: []}


@get("/compute/{name:str}/jobs")
async def get_jobs(
    request: PageRequest,
    name: Name,
    ids: Annotated[str, QueryParameter()] = "",
    window: Annotated[str, QueryParameter(name="time_window")] = "24h",
    wait: Annotated[int, QueryParameter(ge=0, le=_LONGEST_WAIT)] = 0,
    known: Annotated[str | None, HeaderParameter(name="If-None-Match")] = None,
) -> Response[bytes]:
    """List the user's jobs as soon as they differ from those of `If-None-Match`, at the latest after `wait` seconds."""
    chosen, seconds = tuple(filter(None, ids.split(","))), TIME_WINDOWS.get(window)
    end = asyncio.get_running_loop().time() + wait
    while True:
        content = await request.remote.jobs(name, chosen, seconds)
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        if not matches(known, tag):
            return Response(content, media_type="application/json", headers={"ETag": tag})
        if asyncio.get_running_loop().time() >= end or request.remote.is_closing.is_set():
            return Response(b"", status_code=304, headers={"ETag": tag})
        with suppress(TimeoutError):
            await asyncio.wait_for(request.remote.is_closing.wait(), _INTERVAL)


@get("/compute/{name:str}/jobs/events", sync_to_thread=False)
def get_events(name: Name) -> Response[bytes]:
    """Return an event stream that ends immediately, so that the page waits for changes of the list instead."""
    return Response(b"", media_type="text/event-stream")


@get("/compute/{name:str}/jobs/{job_id:str}")
async def get_job(request: PageRequest, name: Name, job_id: Name) -> dict[str, Any]:
    """Return a job, or the tasks of an array."""
    if job_id == _DONE:
        done = Job(job_id=_DONE, state=JobState.COMPLETED)
        return {"jobs": [job_info(done)]}
    system = await request.remote.system(name)
    return {"jobs": [job_info(job) for job in await system.backend.jobs.get(job_id)]}


@get("/compute/{name:str}/jobs/{job_id:str}/metadata")
async def get_metadata(request: PageRequest, name: Name, job_id: Name) -> dict[str, Any]:
    """Return the script and the paths of a job."""
    system = await request.remote.system(name)
    return {"jobs": [job_metadata(job) for job in await system.backend.jobs.metadata(job_id)]}


@get("/compute/{name:str}/jobs/{job_id:str}/usage")
async def get_usage(request: PageRequest, name: Name, job_id: Name) -> dict[str, Any]:
    """Return the resource usage of a job, or nothing if the site does not report it."""
    system = await request.remote.system(name)
    try:
        return {"usage": camelize_keys(msgspec.to_builtins(await system.usage(job_id)))}
    except UnsupportedError:
        return {"usage": []}


@post("/compute/{name:str}/jobs", status_code=201)
async def post_job(
    request: PageRequest,
    name: Name,
    data: JSONBody[SubmitRequest],
    key: Annotated[str | None, HeaderParameter(name="Idempotency-Key")] = None,
) -> SubmitAnswer:
    """Submit a job."""
    return SubmitAnswer(job_id=await request.remote.submit(name, job_spec(data.job), key or secrets.token_hex()))


@delete("/compute/{name:str}/jobs/{job_id:str}", status_code=204)
async def delete_job(request: PageRequest, name: Name, job_id: Name) -> None:
    """Cancel a job."""
    await (await request.remote.system(name)).cancel(job_id)


@get("/filesystem/{name:str}/ops/ls")
async def get_list(
    request: PageRequest,
    name: Name,
    path: FilePath,
    hidden: Annotated[bool, QueryParameter(name="showHidden")] = False,
) -> dict[str, Any]:
    """List a directory."""
    system = await request.remote.system(name)
    return {"output": [file_entry(file) for file in await system.ls(path, hidden=hidden)]}


@get("/filesystem/{name:str}/ops/stat")
async def get_stat(request: PageRequest, name: Name, path: FilePath) -> dict[str, Any]:
    """Return the attributes of a file, following symbolic links."""
    return {"output": await (await request.remote.system(name)).stat(path)}


@post("/filesystem/{name:str}/ops/mkdir", status_code=201)
async def post_directory(request: PageRequest, name: Name, data: JSONBody[MakeDirectoryRequest]) -> dict[str, Any]:
    """Create a directory."""
    await (await request.remote.system(name)).mkdir(data.path)
    return {"output": None}


@delete("/filesystem/{name:str}/ops/rm", status_code=204)
async def delete_path(request: PageRequest, name: Name, path: FilePath) -> None:
    """Delete a file or a directory."""
    system = await request.remote.system(name)
    await check_deletable(system, path)
    await system.remove(path)


@get("/filesystem/{name:str}/ops/content")
async def get_content(request: PageRequest, name: Name, path: FilePath, wanted: RangeHeader = None) -> Response[Any]:
    """Return a file, or a range of it."""
    return await file_answer(await request.remote.open(await request.remote.system(name), path), wanted=wanted)


@head("/filesystem/{name:str}/ops/content")
async def head_content(request: PageRequest, name: Name, path: FilePath, upload_id: UploadId = None) -> Response[None]:
    """Return the size of a file, or the offset of an upload."""
    if upload_id is None:
        return await file_answer(await request.remote.open(await request.remote.system(name), path), body=False)
    file = request.remote.upload(upload_id)
    size = file.stat().st_size if file.exists() else 0
    return Response(None, headers={UPLOAD_OFFSET_HEADER: str(size)})


@put("/filesystem/{name:str}/ops/content", status_code=204, request_max_body_size=None)
async def put_content(
    request: PageRequest,
    name: Name,
    path: FilePath,
    upload_id: UploadId = None,
    offset: Annotated[int, HeaderParameter(name=UPLOAD_OFFSET_HEADER, ge=0)] = 0,
    complete: Annotated[str, HeaderParameter(name=UPLOAD_COMPLETE_HEADER)] = "?1",
    sha256: Annotated[str | None, HeaderParameter(name=CHECKSUM_HEADER)] = None,
) -> None:
    """Receive a part of a file. After the last part, upload the file to the site."""
    remote = request.remote
    system = await remote.system(name)
    file = await remote.receive(upload_id or secrets.token_hex(), offset, request.stream())
    if complete == "?1":
        await remote.send(system, file, path, sha256)


@get("/filesystem/{name:str}/ops/tar")
async def get_tar(request: PageRequest, name: Name, path: FilePath) -> Stream:
    """Return a directory as a tar archive."""
    system = await request.remote.system(name)
    return Stream(request.remote.tar(system, path), media_type="application/x-tar")


@post("/filesystem/{name:str}/transfer/{verb:str}", status_code=201)
async def post_transfer(request: PageRequest, name: Name, verb: Name, data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
    """Move or copy a file, or return the URL from which this page serves a large one."""
    system = await request.remote.system(name)
    job = {"transferJob": {"jobId": _DONE}}
    match verb, data:
        case "mv", {"path": str(path), "targetPath": str(target)}:
            await system.move(path, target)
        case "cp", {"path": str(path), "targetPath": str(target)}:
            await system.copy(path, target)
        case "download", {"path": str(path)}:
            ticket = request.remote.offer(name, path)
            return job | {"transferDirectives": {"downloadUrl": f"{request.base_url}page/download/{ticket}"}}
        case _:
            raise UnsupportedError(f"This page cannot {verb} that.", hint="Move, copy or download a file.")
    return job


@get("/page/download/{ticket:str}")
async def get_download(request: PageRequest, ticket: Name) -> Response[Any]:
    """Return a file for a single-use download secret."""
    name, path = request.remote.redeem(ticket)
    answer = await file_answer(await request.remote.open(await request.remote.system(name), path))
    answer.headers["Content-Disposition"] = "attachment"
    return answer


_HANDLERS = [
    *(get_systems, get_notices, get_keys, post_key, get_status, get_jobs, get_events, get_job, get_metadata, post_job),
    get_usage,
    *(delete_job, get_list, get_stat, post_directory, delete_path, get_content, head_content, put_content, get_tar),
    post_transfer,
]


def make_app(remote: Remote, url: str, titles: Sequence[str], session: Session) -> Litestar:
    """Create the ASGI application with the page and its endpoints."""

    def check(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        session.check(connection.headers.get("authorization", ""))

    @get("/", media_type="text/html", sync_to_thread=False)
    def show() -> Response[bytes]:
        return page_response("/", [])

    @get("/page/settings.json", sync_to_thread=False)
    def settings() -> Response[PageSettings]:
        apis = [PageApi(name=title, url=url) for title in titles]
        return Response(PageSettings(version=__version__, public_url=url, providers=[], apis=apis), headers=COMMON)

    @post("/page/sign-in", status_code=201, request_max_body_size=4096, sync_to_thread=False)
    def sign_in(data: JSONBody[SignInCode]) -> Response[dict[str, str]]:
        return Response({"keyId": "page", "secret": session.sign_in(data.code)}, headers={"Cache-Control": "no-store"})

    @delete("/keys/{key:str}", status_code=204, guards=[check], sync_to_thread=False)
    def sign_out(key: Name) -> None:
        session.sign_out()

    api = Router("/", guards=[check], route_handlers=_HANDLERS)
    return Litestar(
        route_handlers=[show, settings, sign_in, sign_out, get_download, get_file, api],
        request_class=PageRequest,
        exception_handlers={
            CrestlineError: handle_crestline_error,
            HTTPException: handle_http_exception,
            Exception: handle_unexpected,
        },
        state=State({"remote": remote}),
        openapi_config=None,
        logging_config=None,
    )
