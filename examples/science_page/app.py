"""A science page: choose parameters, submit, watch the jobs, look at files and at the picture that came out.

    python examples/science_page/app.py

It serves one user, on this machine alone, and acts on the system as who the `FIRECREST_*` variables or the sites file
say (`crestline serve` writes one). All that is known of supercomputers here is `crestline`.
"""

from __future__ import annotations

import argparse
import posixpath
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from litestar import Litestar, Request, Response, delete, get, post
from litestar.config.allowed_hosts import AllowedHostsConfig
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage
from litestar.static_files import create_static_files_router
from simulations import Parameters, Simulation, Simulations

import crestline
from crestline.model import CrestlineError, File

PAGE = Path(__file__).with_name("page")
_TEXT = {"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff"}
"""for files of the system, which may hold anything"""


@asynccontextmanager
async def connected(app: Litestar) -> AsyncIterator[None]:
    """The connection to the system, as long as the page is served."""
    async with crestline.connect() as system:
        simulations = Simulations(system)
        await simulations.start()
        app.state.system, app.state.simulations = system, simulations
        yield
        await simulations.stop()


@get("/about", sync_to_thread=False)
def about(state: State) -> dict[str, str]:
    """Where the page computes."""
    return {"system": state.system.name, "gateway": state.system.gateway_url, "folder": state.simulations.folder}


@post("/simulations")
async def submit(state: State, data: Parameters) -> Simulation:
    """A new job."""
    return await state.simulations.submit(data)


@delete("/simulations/{run:str}")
async def cancel(state: State, run: str) -> None:
    """End it."""
    await _known(state, run).cancel(run)


@get("/simulations")
async def live(state: State) -> ServerSentEvent:
    """The job list, and again whenever something has changed."""
    return ServerSentEvent(_events(state.simulations.lists()))


@get("/simulations/{run:str}/output")
async def output(state: State, run: str) -> ServerSentEvent:
    """What the program prints; the event `end` when there will be no more."""
    return ServerSentEvent(_events(_known(state, run).output(run), last="end"))


@get("/files")
async def files(state: State, path: str) -> list[File]:
    """A directory."""
    return sorted(await state.system.ls(path), key=lambda each: (not each.is_directory, each.name))


@get("/content")
async def content(state: State, path: str) -> Response[bytes]:
    """A file, to be saved."""
    quoted = posixpath.basename(path).encode("ascii", "replace").decode().replace('"', "_")
    headers = {"Content-Disposition": f'attachment; filename="{quoted}"'}
    return Response(await state.system.read_bytes(path), media_type="application/octet-stream", headers=headers | _TEXT)


def _known(state: State, run: str) -> Simulations:
    simulations: Simulations = state.simulations
    if run not in simulations:
        raise NotFoundException(f"Simulation {run!r} does not exist.")
    return simulations


async def _events(items: AsyncGenerator[Any], *, last: str | None = None) -> AsyncGenerator[ServerSentEventMessage]:
    try:
        async for item in items:
            yield ServerSentEventMessage(data=msgspec.json.encode(item).decode())
        if last is not None:
            yield ServerSentEventMessage(event=last, data="")
    finally:
        await items.aclose()


def _refused(_: Request[Any, Any, Any], error: CrestlineError) -> Response[dict[str, str]]:
    """What the gateway, or the scheduler behind it, says is the answer."""
    return Response({"detail": str(error)}, status_code=error.status)


def create(port: int) -> Litestar:
    """The application, for requests to this machine's own names alone."""
    files_of_page = create_static_files_router(path="/", directories=[PAGE], html_mode=True)
    return Litestar(
        [about, submit, cancel, live, output, files, content, files_of_page],
        lifespan=[connected],
        exception_handlers={CrestlineError: _refused},
        allowed_hosts=AllowedHostsConfig([f"127.0.0.1:{port}", f"localhost:{port}"]),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8081)
    port = parser.parse_args().port
    uvicorn.run(create(port), host="127.0.0.1", port=port, timeout_graceful_shutdown=1)
