"""The spawner: one server's life, from its options to its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import sqlalchemy
from jupyterhub.spawner import Spawner, SpawnException
from jupyterhub.utils import maybe_future, url_path_join

from crestline.client import System
from crestline.model import CrestlineError, Job, JobNotFoundError, JobSpec, JobState
from crestline.relay.manager import SessionManager
from crestline.relay.tokens import HubKey
from crestline_jupyterhub import callback, progress
from crestline_jupyterhub.connections import connections
from crestline_jupyterhub.failures import ended, refused
from crestline_jupyterhub.job import job_name, make_spec
from crestline_jupyterhub.session.program import session_program
from crestline_jupyterhub.settings import SpawnerSettings

SESSION_LIFETIME = 90 * 86400.0
"""seconds that a relay session is good for: the longest queue and the longest job"""


class FirecRESTSpawner(SpawnerSettings, Spawner):
    """Runs each server as a batch job of a system behind a FirecREST v2 gateway.

    `poll` looks into the shared job monitor and never waits for the gateway; an error there never ends a server.
    """

    attempt = ""
    """names this start, and so its job; survives the hub"""
    job_id = ""
    nonce = ""
    folder = ""
    """the session's own on the system"""
    relay_session = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._address: asyncio.Future[str] | None = None
        self._starting = False
        self._watching: asyncio.Task[Job] | None = None
        self._ended: Job | None = None
        super().__init__(*args, **kwargs)

    # what survives the hub

    def get_state(self) -> dict[str, Any]:
        """The base's state and what names the job."""
        state: dict[str, Any] = super().get_state()
        if self.attempt:
            state |= {name: getattr(self, name) for name in _KEPT}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what an earlier hub process knew."""
        super().load_state(state)
        for name in _KEPT:
            setattr(self, name, state.get(name, ""))
        if self.nonce:
            callback.expect(self)
        if self.job_id:
            self._watch()

    def clear_state(self) -> None:
        """The server is gone."""
        super().clear_state()
        callback.forget(self.nonce)
        if self._watching is not None:
            self._watching.cancel()
        self._watching = self._ended = self._address = None
        for name in _KEPT:
            setattr(self, name, "")

    def _persist(self) -> None:
        """Save the state now: the hub itself does so only when `start` has returned."""
        self.orm_spawner.state = self.get_state()
        session = sqlalchemy.inspect(self.orm_spawner).session
        if session is not None:
            session.commit()

    # start

    async def start(self) -> str:
        """Submit the job and return the server's URL once it listens.

        Raises:
            SpawnException: the job cannot be submitted, or ended before.
        """
        self._starting = True
        try:
            system = await self._system()
            self.attempt, self.nonce = secrets.token_hex(6), secrets.token_urlsafe(24)
            self._persist()
            callback.expect(self)
            spec = await self._prepare(system)
            job = await system.submit(spec, key=f"jupyterhub/{spec.name}")
            self.job_id = job.job_id
            self._persist()
            self.log.info("Server %s is job %s on %s", self._log_name, self.job_id, system)
            if self.after_submit_hook is not None:
                await maybe_future(self.after_submit_hook(self, job))
            self._watch()
            return await self._listening(system)
        except CrestlineError as error:
            raise refused(error) from error
        finally:
            self._starting = False

    async def _prepare(self, system: System) -> JobSpec:
        home = await system.default_workdir()
        base = self.session_dir or f"{home}/.crestline/jupyterhub"
        self.folder = f"{base}/{job_name(self)}"
        spec = make_spec(self, self.folder, self.workdir or self.req_homedir or home)
        if self.modify_job_hook is not None:
            spec = await maybe_future(self.modify_job_hook(self, spec))
        await self._stage(system)
        return spec

    async def _stage(self, system: System) -> None:
        """The session's folder: closed to others before a secret goes in."""
        content = json.dumps(self._session_config()).encode()
        await system.mkdir(self.folder, parents=True)
        await system.chmod(self.folder, "700")
        with tempfile.TemporaryDirectory() as local:
            files = {"session.pyz": session_program(), "session.json": content}
            for name, data in files.items():
                path = Path(local, name)
                path.touch(0o600)
                path.write_bytes(data)
                await system.upload(path, f"{self.folder}/{name}")
        await system.chmod(f"{self.folder}/session.json", "600")

    def _session_config(self) -> dict[str, Any]:
        environment = self.get_env()
        for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "CONDA_ROOT", "VIRTUAL_ENV", "HOME"):
            environment.pop(name, None)  # the hub's own, of no use elsewhere
        return {
            "command": [*self.cmd, *self.get_args(), *self.server_args],
            "environment": environment,
            "base_path": self.server.base_url,
            "hub_api": self.hub.api_url,
            "nonce": self.nonce,
            "relay": self._open_relay_session() if self.connect_mode == "relay" else None,
        }

    def get_args(self) -> list[str]:
        """The base's arguments without address and port: the server listens on a socket of its own."""
        return [
            argument
            for argument in super().get_args()
            if not argument.startswith(("--port", "--ip", "--ServerApp.ip", "--ServerApp.port"))
        ]

    def _relay_key(self) -> HubKey:
        try:
            return HubKey(Path(self.relay_key_file).read_bytes())
        except (OSError, ValueError) as error:
            raise SpawnException(
                "The relay's key cannot be read; tell your administrator.",
                log_message=f"relay_key_file: {error}",
                reason="configuration",
                status_code=500,
            ) from error

    def _open_relay_session(self) -> dict[str, Any]:
        session, token = self._relay_key().new_session(
            user=self.user.name, path=self.server.base_url, hub_api=self.hub.api_url, lifetime=SESSION_LIFETIME
        )
        self.relay_session = session.id
        return {"url": url_path_join(self.relay_url, "agents"), "token": token, "ca_file": self.relay_ca_file or None}

    async def _listening(self, system: System) -> str:
        """The URL once the session has called back.

        Raises:
            SpawnException: the job has ended.
        """
        address = self._awaited_address()
        ending = asyncio.ensure_future(asyncio.shield(self._watch()))
        try:
            await asyncio.wait([address, ending], return_when=asyncio.FIRST_COMPLETED)
            if not address.done():
                raise await ended(system, ending.result(), f"{self.folder}/session.log")
            return address.result()
        finally:
            ending.cancel()

    def _awaited_address(self) -> asyncio.Future[str]:
        if self._address is None:
            self._address = asyncio.get_running_loop().create_future()
        return self._address

    def take_address(self, address: tuple[str, int] | None) -> None:
        """The session's call back: where it listens; None: at the relay."""
        if self.connect_mode == "relay":
            url = self.relay_ingress.rstrip("/")
        elif address is None:
            return
        else:
            host, port = address
            url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        waiting = self._awaited_address()
        if not waiting.done():
            waiting.set_result(url)

    async def get_url(self) -> str:
        """The server's URL; after a restart of the hub in the middle of a start, once the session has called back."""
        if self.relay_session or self.server.port not in (0, None) or not self.attempt:
            return str(self.server.url)
        system = await self._system()
        return url_path_join(await self._listening(system), self.server.base_url)

    # the job

    async def _system(self) -> System:
        return await connections.get(self.system)

    def _watch(self) -> asyncio.Task[Job]:
        """Hear of the job's end as soon as the monitor does."""
        if self._watching is None:
            self._watching = asyncio.ensure_future(self._follow_job())
        return self._watching

    async def _follow_job(self) -> Job:
        job = Job(job_id=self.job_id, state=JobState.UNKNOWN)
        while not job.is_finished:
            try:
                system = await self._system()
                async with contextlib.aclosing(system.watch(self.job_id)) as events:
                    async for event in events:
                        job = event.job
            except JobNotFoundError:
                job = Job(job_id=self.job_id, state=JobState.FAILED, reason="the scheduler does not know it")
            except CrestlineError as error:
                self.log.warning("Job %s of %s cannot be watched now: %s", self.job_id, self._log_name, error)
                await asyncio.sleep(10)
        self.log.info("Job %s of %s has ended: %s", job.job_id, self._log_name, job.state)
        self._ended = job
        if not self._starting and self.ready:
            await self.poll_and_notify()
        return job

    async def poll(self) -> int | None:
        """None while the server lives, or may: nothing but the scheduler's own word ends it."""
        if self._starting:
            return None
        if not self.attempt:
            return 0
        if not self.job_id:
            return await self._poll_unsubmitted()
        self._watch()
        if self._ended is None:
            return None
        return 0 if self._ended.state.is_success else self._ended.exit_code or 1

    async def _poll_unsubmitted(self) -> int | None:
        """A hub ended between saving the attempt and the job's id: the job is found by its name, or is not there."""
        system = connections.ready(self.system)
        if system is None:
            return None
        try:
            found = await system.jobs(name=job_name(self), window=86400)
        except CrestlineError:
            return None
        ours = [job for job in found if job_name(self) in job.name]
        if not ours:
            return 1
        self.job_id = ours[0].job_id
        self._persist()
        self._watch()
        return None

    async def stop(self, now: bool = False) -> None:
        """Cancel the job. A gateway that does not answer is asked again in the background: the job does not stay."""
        job_id, session, target = self.job_id, self.relay_session, self.system
        if session:
            await self._end_relay_session(session)
        if not job_id:
            return
        cancelling = asyncio.ensure_future(_cancel(target, job_id))
        cancelling.add_done_callback(_background.discard)
        _background.add(cancelling)
        done, _ = await asyncio.wait([cancelling], timeout=self.cancel_patience)
        if not done:
            self.log.warning("The gateway does not answer; job %s of %s is cancelled later", job_id, self._log_name)

    async def _end_relay_session(self, session: str) -> None:
        try:
            await SessionManager(self.relay_url, self._relay_key(), self.relay_ca_file or None).end(session)
        except (CrestlineError, SpawnException) as error:
            self.log.warning("The relay session of %s was not ended: %s", self._log_name, error)

    # what the user sees meanwhile

    async def progress(self) -> AsyncGenerator[dict[str, Any], None]:
        """The job's news, in words."""
        yield {"progress": 10, "message": "Submitting the job."}
        while not self.job_id:
            await asyncio.sleep(0.2)
            if not self._starting:
                return
        system = await self._system()
        async with contextlib.aclosing(system.watch(self.job_id)) as events:
            async for event in events:
                yield progress.describe(event)


_KEPT = ("attempt", "job_id", "nonce", "folder", "relay_session")
_background: set[asyncio.Task[None]] = set()


async def _cancel(target: str, job_id: str) -> None:
    delay = 1.0
    while True:
        try:
            system = await connections.get(target)
            await system.cancel(job_id)
            return
        except JobNotFoundError:
            return
        except CrestlineError:
            await asyncio.sleep(delay)
            delay = min(2 * delay, 60.0)
