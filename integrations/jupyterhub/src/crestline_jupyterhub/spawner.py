"""The spawner: manages one server from its options to its end."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Coroutine
from datetime import UTC
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy
from jupyterhub.proxy import Proxy
from jupyterhub.spawner import Spawner
from jupyterhub.utils import maybe_future, url_path_join

from crestline import clock
from crestline.client import JobEvent, System
from crestline.model import CrestlineError, GatewayUnavailableError, Job, JobNotFoundError, JobSpec, JobState
from crestline_jupyterhub import callback, node_addresses, progress
from crestline_jupyterhub.background import spawn_task
from crestline_jupyterhub.cleanup import cancel, remove_files
from crestline_jupyterhub.failures import SpawnFailedError, ended, late, refused
from crestline_jupyterhub.job import is_attempt, job_name, make_spec, template_fields, texts
from crestline_jupyterhub.options import SpawnerOptions, apply_before_start
from crestline_jupyterhub.relay_sessions import SessionManager
from crestline_jupyterhub.staging import LOG, open_relay_session, relay_key, session_config, stage

LOOK_PATIENCE = 10.0
"""Seconds for which a restarted hub waits for the first event of a job."""
DIAL_PATIENCE = 5.0
"""Seconds for which it then tries the session's last address."""
LAST_WORDS = 25.0
"""Seconds before the hub's timeout at which this spawner reports why a start is late; at most a tenth of the
timeout."""
MIN_TIME_LEFT = 60.0
"""Minimum seconds for which it waits for a start."""
NO_INTERNAL_SSL = (
    "FirecRESTSpawner does not support internal_ssl: the certificates are made before the node is known. Use "
    "connect_mode = 'relay' with TLS, or direct connections in a network of your own, without internal_ssl."
)
NOWHERE = "http://127.0.0.1:1"
"""An address at which no server listens."""


class FirecRESTSpawner(SpawnerOptions, Spawner):
    """Runs each server as a batch job of a system behind a FirecREST v2 gateway.

    Example, in `jupyterhub_config.py`::

        c.JupyterHub.spawner_class = "firecrest"
        c.FirecRESTSpawner.system = "daint@cscs"
        c.FirecRESTSpawner.req_partition = "interactive"
        c.FirecRESTSpawner.req_runtime = "08:00:00"

    `poll` reads the shared job monitor and never waits for the gateway. An error of the gateway never ends a server.
    """

    attempt = ""
    """Id of this start, which its job's name contains. It survives a restart of the hub."""
    job_id = ""
    nonce = ""
    folder = ""
    """The session's folder on the system."""
    relay_session = ""
    address = ""
    """URL of the server's host and port, once it is known."""
    run = 0
    """Run of the job that reported the address: a requeued job runs again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._called_back = asyncio.Event()
        self._looked = asyncio.Event()
        """Set when the job's state, or the reason why it is unknown, is available."""
        self._news: JobEvent | None = None
        """The last event of the job."""
        self._starting = False
        self._configured: dict[str, Any] = {}
        """Settings that an earlier hub's state overrides."""
        self._watching: asyncio.Task[Job] | None = None
        self._ended: Job | None = None
        self._resumed: asyncio.Future[None] | None = None
        """A start that an earlier hub process began."""
        self._held: asyncio.Future[None] | None = None
        """Stands for a start while the hub's check stops this server, so that the hub keeps this object for the
        user's stop."""
        super().__init__(*args, **kwargs)

    # State that survives the hub

    def get_state(self) -> dict[str, Any]:
        """Return the base class's state with the job's ids."""
        state: dict[str, Any] = super().get_state()
        if self.attempt:
            state |= {name: getattr(self, name) for name in (*_KEPT, *_CHOSEN)}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the state of an earlier hub process."""
        super().load_state(state)
        for name, unset in _KEPT.items():
            setattr(self, name, state.get(name, unset))
        self._configured = {name: getattr(self, name) for name in _CHOSEN}
        for name in _CHOSEN:
            setattr(self, name, state.get(name, self._configured[name]))
        if self.nonce:
            callback.register(self.nonce, self)
        if self.job_id:
            self._watch()

    def clear_state(self) -> None:
        """Forget the server that has ended, and remove its files on the system."""
        super().clear_state()
        callback.unregister(self.nonce)
        if self._watching is not None:
            self._watching.cancel()
        if self._resumed is not None:
            self._resumed.cancel()
            self._resumed = None
        if not self.attempt and self._held is not None:
            self._spawn_future = None if self._spawn_future is self._held else self._spawn_future
            self._held = None
        if self.folder:
            spawn_task(remove_files(self.access().identities, self.folder, keep_log=self.keep_log))
        self._watching = self._ended = self._news = None
        self._looked.clear()
        self._called_back.clear()
        for name, unset in _KEPT.items():
            setattr(self, name, unset)
        for name, value in self._configured.items():
            setattr(self, name, value)

    def _persist(self) -> None:
        """Save the state now, because the hub does so only when `start` has returned."""
        self.orm_spawner.state = self.get_state()
        session = sqlalchemy.inspect(self.orm_spawner).session
        if session is not None:
            session.commit()

    # Start

    async def start(self) -> str:
        """Submit the job and return the server's URL once it listens.

        Raises:
            SpawnFailedError: the job cannot be submitted, or ended before.
        """
        if self.internal_ssl:
            raise SpawnFailedError(
                "This hub's servers cannot be started; tell your administrator.",
                reason="configuration",
                status_code=500,
                log_message=NO_INTERNAL_SSL,
            )
        self._starting = True
        began = clock.monotonic()
        try:
            await apply_before_start(self)
            system = await self.access().as_user()
            job = await self._submit(system)
            self.job_id = job.job_id
            self._persist()
            self.log.info("Server %s is job %s on %s", self._log_name, self.job_id, system)
            if self.after_submit_hook is not None:
                await maybe_future(self.after_submit_hook(self, job))
            return await self._listening(self.start_timeout - (clock.monotonic() - began))
        except CrestlineError as error:
            raise refused(error) from error
        finally:
            self._starting = False

    async def _submit(self, system: System) -> Job:
        """Submit the job. Its ids are saved before it can exist."""
        self.attempt, self.nonce = secrets.token_hex(6), secrets.token_urlsafe(24)
        try:
            spec = await self._prepare(system)
        except BaseException:
            self.attempt = ""  # no job was submitted
            raise
        self._persist()
        callback.register(self.nonce, self)
        try:
            return await system.submit(spec, key=f"jupyterhub/{self.attempt}")
        except GatewayUnavailableError:
            raise  # the job may exist: it is searched for and cancelled
        except CrestlineError:
            self.attempt = ""
            raise

    async def _prepare(self, system: System) -> JobSpec:
        home = await system.default_workdir()
        base = self.session_dir or f"{home}/.crestline/jupyterhub"
        self.folder = f"{base}/{self._job_name}"
        spec = self.job_spec(self.folder, self.workdir or self.req_homedir or home)
        if self.modify_job_hook is not None:
            spec = await maybe_future(self.modify_job_hook(self, spec))
        await stage(system, self.folder, self._session_config(system, spec))
        return spec

    @property
    def _job_name(self) -> str:
        return job_name(self.hub_name, self.attempt, self.user.name, self.name)

    def job_spec(self, folder: str, workdir: str) -> JobSpec:
        """Build the job from the settings and the chosen options, before `modify_job_hook`.

        Args:
            folder: the session's folder on the system, absolute.
            workdir: working directory of the session, absolute.

        Raises:
            InvalidRequestError: a setting or the template is invalid; the message names it.
        """
        settings = [name for name in self.trait_names() if name.startswith("req_") and name != "req_submitenv"]
        fields = template_fields(
            {name.removeprefix("req_"): getattr(self, name) for name in settings},
            server=self.name,
            workdir=workdir,
            memory=self.mem_limit or self.mem_guarantee,
            cpus=self.cpu_limit or self.cpu_guarantee,
            options=self.chosen_options,
        )
        return make_spec(
            name=self._job_name,
            folder=folder,
            workdir=workdir,
            fields=fields,
            python=self.python,
            software=self.software,
            clusters=self.clusters,
            batch_script=self.batch_script,
            environment={name: value(self) if callable(value) else value for name, value in self.req_submitenv.items()},
        )

    def _session_config(self, system: System, spec: JobSpec) -> dict[str, Any]:
        environment = texts(self.get_env())
        if self.use_user_token:
            environment = {"FIRECREST_URL": system.gateway_url, "FIRECREST_SYSTEM": system.name} | environment
        relay = None
        if self.connect_mode == "relay":
            self.relay_session, relay = open_relay_session(
                self.relay_key_file,
                user=self.user.name,
                base_path=self.server.base_url,
                hub_api=environment["JUPYTERHUB_API_URL"],
                url=self.relay_url,
                ca_file=self.relay_ca_file,
            )
        return session_config(
            command=[*self.cmd, *self.get_args(), *self.server_args],
            environment=environment,
            base_path=self.server.base_url,
            nonce=self.nonce,
            shows_token=self.use_user_token,
            relay=relay,
            time_limit=spec.time_limit,
            warn_before_end=self.warn_before_end,
        )

    async def _listening(self, timeout: float | None = None) -> str:
        """Return the URL once the session has called back.

        Args:
            timeout: seconds until the hub gives up, which it does without a message for the user.

        Raises:
            SpawnFailedError: the job has ended, or the time is nearly over.
        """
        if self.address:
            return self.address
        calling = asyncio.ensure_future(self._called_back.wait())
        try:
            patience = None if timeout is None else timeout - min(LAST_WORDS, timeout / 10)
            done, _ = await asyncio.wait(
                [calling, self._watch()], timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                raise await self._too_late()
            if not calling.done():
                raise await ended(await self.access().as_user(), self._watch().result(), self.folder, LOG)
            return self.address
        finally:
            calling.cancel()

    async def _too_late(self) -> SpawnFailedError:
        return await late(await self.access().as_user(), self._news, self.start_timeout, self.folder, LOG)

    async def set_address(self, address: tuple[str, int] | None, run: int, proxy: Proxy) -> bool:
        """Store the session's address, and update hub and proxy if its job has run again.

        Args:
            address: IP address and port; None: the session uses the relay.
            run: run of its job, 1 for the first. A later one can have another address.
            proxy: the hub's proxy.

        Returns:
            whether it may listen there, and has not reported another address before.

        Raises:
            CrestlineError: the scheduler does not report where the job runs.
        """
        if self.connect_mode == "relay":
            if address is not None:
                return False
            url = self.relay_ingress.rstrip("/")
        else:
            if address is None or not await self._is_node(address[0]):
                return False
            host, port = address
            url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        if run < self.run or (run == self.run and self.address not in ("", url)):
            return False
        has_moved = self.ready and self.address != url
        self.address, self.run = url, run
        self._persist()
        self._called_back.set()
        if has_moved:
            found = urlsplit(url)
            self.server.ip, self.server.port = found.hostname or "", found.port or 80
            self._persist()
            await proxy.add_user(self.user, self.name)
        return True

    async def _is_node(self, host: str) -> bool:
        async def job_nodes() -> str:
            return (await (await self.access().as_observer()).job(self.job_id)).nodes

        trusted = await node_addresses.is_trusted(host, self.node_networks, self.hub.api_url, job_nodes)
        if not trusted:
            self.log.error(
                "The session of %s says that it listens at %s, which is not believed. If its node has that address, "
                "name the nodes' networks in c.FirecRESTSpawner.node_networks.",
                self._log_name,
                host,
            )
        return trusted

    async def get_url(self) -> str:
        """Return the server's URL, which the hub requests when it finds the server after its own restart.

        A start that was in progress continues as one: with its page, its progress, its time limit and its Stop button.
        An error here would end the hub. Therefore a lost server gets a URL at which no server listens, and the hub ends
        it.
        """
        if not self.attempt:
            return str(self.server.url)
        resumed = self._resume_start()
        finding = asyncio.ensure_future(self._find_url())
        await asyncio.wait([resumed, finding], timeout=self._time_left(), return_when=asyncio.FIRST_COMPLETED)
        if finding.done() and finding.exception() is None:
            return finding.result()
        if resumed.cancelled():
            self.log.info("The server %s was stopped while it waited for job %s", self._log_name, self.job_id)
            spawn_task(self._cleanup_plan())
            self._held = self._spawn_future = asyncio.get_running_loop().create_future()
            self._ended = Job(job_id=self.job_id, state=JobState.CANCELLED)
        else:
            lost = finding.exception() if finding.done() else None
            lost = lost or await self._too_late()
            self.log.error("The server %s is lost: %s", self._log_name, lost)
            resumed.set_exception(lost)
        finding.cancel()
        self._configured["http_timeout"], self.http_timeout = self.http_timeout, 0
        return url_path_join(NOWHERE, self.server.base_url)

    async def _find_url(self) -> str:
        """Return the URL once it is known.

        Raises:
            SpawnFailedError: the job has ended.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_PATIENCE):
                await self._looked.wait()  # do not wait for a job that has ended
        if self._ended is not None:
            raise await ended(await self.access().as_user(), self._ended, self.folder, LOG)
        gone = self.address and not await listens(self.address)
        if (self._news is not None and self._news.state.is_waiting) or (gone and not self._called_back.is_set()):
            self.address = ""  # its job was requeued, and the session will report its new address
            self._called_back.clear()
        return url_path_join(await self._listening(), self.server.base_url)

    def _resume_start(self) -> asyncio.Future[None]:
        """Return a future that the hub takes for a start in progress. It shows it, and cancels it when the user
        stops the server."""

        def over(start: asyncio.Future[None]) -> None:
            self._spawn_pending = False
            if start.cancelled() or start.exception() is None:
                self._spawn_future = None

        self._resumed = self._spawn_future = asyncio.get_running_loop().create_future()
        self._spawn_pending = True
        self._resumed.add_done_callback(over)
        return self._resumed

    def start_polling(self) -> Any:
        """Start to poll. A resumed start is complete once the hub has reported that itself."""
        if self._resumed is not None:
            asyncio.get_running_loop().call_soon(_complete, self._resumed)
        return super().start_polling()

    def _time_left(self) -> float:
        """Return the remaining seconds of `start_timeout` of a start that an earlier hub process began.

        A job that has run before was requeued, and waits again.
        """
        started = self.orm_spawner.started if not self.run else None
        gone = clock.time() - started.replace(tzinfo=UTC).timestamp() if started else 0.0
        return max(self.start_timeout - gone, MIN_TIME_LEFT)

    # Job

    def _watch(self) -> asyncio.Task[Job]:
        """Return a task that ends as soon as the monitor reports the job's end."""
        if self._watching is None:
            self._watching = asyncio.ensure_future(self._follow_job())
        return self._watching

    async def _follow_job(self) -> Job:
        job = Job(job_id=self.job_id, state=JobState.UNKNOWN)
        while not job.is_finished:
            try:
                system = await self.access().as_observer()
                if not self.job_id and not await self._find_job(system):
                    job = Job(job_id="", state=JobState.FAILED, reason="it was not submitted")
                    break
                async with contextlib.aclosing(system.watch(self.job_id)) as events:
                    async for event in events:
                        job = event.job
                        self._news = event
                        self._looked.set()
            except JobNotFoundError:
                job = Job(job_id=self.job_id, state=JobState.FAILED, reason="the scheduler does not know it")
            except CrestlineError as error:
                self.log.warning("Job %s of %s cannot be watched now: %s", self.job_id, self._log_name, error)
                await asyncio.sleep(10)
        self.log.info("Job %s of %s has ended: %s", job.job_id, self._log_name, job.state)
        self._ended = job
        self._looked.set()
        if self.ready:
            spawn_task(self.poll_and_notify())
        return job

    async def _find_job(self, system: System) -> bool:
        """Find the job by its name after a hub ended between saving the attempt and the job's id. Return whether it
        exists."""
        attempt = self.attempt
        job = await system.find(lambda job: is_attempt(job.name, attempt))
        if job is None:
            return False
        self.job_id = job.job_id
        self._persist()
        return True

    async def poll(self) -> int | None:
        """Return None while the server runs, or may run: only the scheduler's report of the job's end ends it."""
        if self._starting:
            return None
        if not self.attempt:
            return 0
        self._watch()
        if self._ended is None:
            return None
        return 0 if self._ended.state.is_success else self._ended.exit_code or 1

    async def stop(self, now: bool = False) -> None:
        """Cancel the job. If the gateway does not respond, retry in the background, so that the job does not remain."""
        cancelling = spawn_task(self._cleanup_plan())
        done, _ = await asyncio.wait([cancelling], timeout=self.cancel_patience)
        if not done:
            self.log.warning(
                "The gateway does not answer; job %s of %s is cancelled later", self.job_id, self._log_name
            )

    def _cleanup_plan(self) -> Coroutine[Any, Any, None]:
        """Return the clean-up of the current session, independent of later changes of the spawner's state."""
        identities, job_id, attempt, session = self.access().identities, self.job_id, self.attempt, self.relay_session

        async def end() -> None:
            if session:
                await self._end_relay_session(session)
            if attempt:
                await cancel(identities, job_id, attempt)

        return end()

    async def _end_relay_session(self, session: str) -> None:
        try:
            key = relay_key(self.relay_key_file)
            await SessionManager(self.relay_url, key, self.relay_ca_file or None).end(session)
        except (CrestlineError, SpawnFailedError) as error:
            self.log.warning("The relay session of %s was not ended: %s", self._log_name, error)

    # Progress

    async def progress(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the job's events, as text, and its log."""
        if not self.job_id:
            yield {"progress": 10, "message": "Submitting the job."}
        while not self.job_id:
            await asyncio.sleep(0.2)
            if not self._spawn_pending:
                return
        log, access = f"{self.folder}/{LOG}", self.access()
        try:
            events = progress.events(await access.as_observer(), access.as_user, self.job_id, log)
            async with contextlib.aclosing(events):
                async for event in events:
                    yield event
        except CrestlineError as error:  # the start itself continues, and reports its result
            yield {"progress": 30, "message": f"Job {self.job_id}: its state is not known at present. {error}"}


def _complete(start: asyncio.Future[None]) -> None:
    if not start.done():
        start.set_result(None)


async def listens(url: str) -> bool:
    """Whether a server accepts TCP connections at the host and port of a URL."""
    place = urlsplit(url)
    try:
        async with asyncio.timeout(DIAL_PATIENCE):
            _, writer = await asyncio.open_connection(place.hostname, place.port)
    except OSError:
        return False
    writer.close()
    return True


_KEPT = {"attempt": "", "job_id": "", "nonce": "", "folder": "", "relay_session": "", "address": "", "run": 0}
"""Attributes that a start sets, with their values before."""
_CHOSEN = ("system", "service_site", "req_host", "connect_mode")
"""Settings that a profile may change for a server, and that hold until it ends."""
