"""Moves artifacts and caches between a job, this machine and GitLab.

The module reads the calls of the runner's helper from its scripts and carries them out. Members pass from one archive
into another (`repack`). No archive is unpacked on this machine.
"""

from __future__ import annotations

import asyncio
import json
import posixpath
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from crestline_gitlab_runner import log, repack, sandbox
from crestline_gitlab_runner.cache_store import CacheStore
from crestline_gitlab_runner.ci_job import CiJob
from crestline_gitlab_runner.failures import BuildFailureError, SystemFailureError
from crestline_gitlab_runner.gitlab_api import GitLabApi, NotFoundError, is_of_project, safe_name
from crestline_gitlab_runner.patterns import fill_in
from crestline_gitlab_runner.results import Bundle
from crestline_gitlab_runner.runner_script import HelperCall
from crestline_gitlab_runner.settings import Settings, size
from crestline_gitlab_runner.state import State

_FORMATS = {"": "zip", "zip": "zip", "gzip": "gzip", "raw": "raw"}
_ENDINGS = {"zip": ".zip", "gzip": ".gz", "raw": ""}


class Exchange:
    """The artifacts and caches of one CI job.

    Args:
        settings: the configuration.
        state: the job's state.
        job: the job.
        project: the project's directory on the system.
    """

    def __init__(self, settings: Settings, job: CiJob, state: State, project: str) -> None:
        self._settings = settings
        self._job = job
        self._state = state
        self._project = project
        self._largest = size(settings.limits.archive)
        self._api = GitLabApi(authority=job.variables.get("CI_SERVER_TLS_CA_FILE", ""), largest=self._largest)
        self._store = CacheStore(
            settings.state_dir / "caches", job.project, job.cache_scope, most=size(settings.limits.caches)
        )

    # To the job

    async def restore_caches(self, calls: Sequence[HelperCall]) -> None:
        """Fetch each cache, or the first existing one of its fallbacks. Without any, the job continues."""
        found_at: int | None = None
        for call in calls:
            if call.command != "cache-extractor":
                continue
            if found_at is not None and call.depth > found_at:
                continue  # a fallback of a cache that was found
            found_at = None
            try:
                if await self._restore(call):
                    found_at = call.depth
            except (BuildFailureError, SystemFailureError) as error:
                log.remark(f"WARNING: cache {self._key(call)}: {error.message}")

    async def _restore(self, call: HelperCall) -> bool:
        url = call.value("url")
        with self._scratch() as folder:
            if call.value("gocloud-url"):
                log.remark("WARNING: this cache's storage has no signed addresses, which this driver needs.")
                return False
            if url:
                self._check_url(url)
            archive = Path(folder, "cache.zip") if url else self._store.find(self._key(call))
            try:
                if url and archive:
                    await self._api.download_cache(url, archive)
            except NotFoundError:
                archive = None
            if archive is None:
                log.remark(f"No cache for {_shown(call)}.")
                return False
            await self._fetched(archive)
        log.remark(f"Cache {_shown(call)} restored.")
        return True

    async def download_artifacts(self, calls: Sequence[HelperCall]) -> None:
        """Fetch the artifacts of other jobs.

        Raises:
            BuildFailureError, SystemFailureError: one of them could not be fetched.
        """
        for call in calls:
            if call.command != "artifacts-downloader":
                continue
            with self._scratch() as folder:
                archive = Path(folder, "artifacts.zip")
                number = call.value("id")
                await self._api.download_artifacts(call.value("url"), number, call.value("token"), archive)
                await self._fetched(archive)
            log.remark(f"Artifacts of job {number} downloaded.")

    async def _fetched(self, archive: Path) -> None:
        """Convert an archive to the format that the job unpacks."""
        room = self._state.subdir("fetched")
        number = len(list(room.iterdir()))
        await self.repack("zip", archive, "tar", room / f"{number:04d}.tgz")

    # From the job

    async def deliver(self, bundle: Bundle, kind: str, source: Path) -> None:
        """Upload a job's files to GitLab, or store them as a cache.

        Args:
            bundle: the files.
            kind: kind of the source: `tar` for an archive, `folder` for files.
            source: the source.

        Raises:
            BuildFailureError, SystemFailureError: the upload failed.
        """
        if bundle.is_cache:
            await self._save_file(bundle, kind, source)
        else:
            await self._upload(bundle, kind, source)

    async def _upload(self, bundle: Bundle, kind: str, source: Path) -> None:
        call = bundle.call
        wanted = _FORMATS.get(call.value("artifact-format"))
        if wanted is None:
            raise BuildFailureError(f"artifacts: unknown format {call.value('artifact-format')!r}.")
        name = safe_name(fill_in(call.value("name"), self._job.variables)) or call.value("artifact-type") or "artifacts"
        query = {
            key: value
            for key, value in (
                ("artifact_format", call.value("artifact-format")),
                ("artifact_type", call.value("artifact-type")),
                ("expire_in", call.value("expire-in")),
            )
            if value
        }
        with self._scratch() as folder:
            archive = Path(folder, "artifacts")
            if not await self.repack(kind, source, wanted, archive, bundle):
                log.remark("WARNING: no files to upload.")
                return
            number = archive.stat().st_size
            server, name = call.value("url"), name + _ENDINGS[wanted]
            await self._api.upload_artifacts(
                server, call.value("id"), call.value("token"), archive, name=name, query=query
            )
        log.remark(f"Artifacts uploaded ({query.get('artifact_type', 'archive')}, {number} bytes).")

    async def _save_file(self, bundle: Bundle, kind: str, source: Path) -> None:
        call = bundle.call
        url = call.value("url")
        if call.value("gocloud-url"):
            log.remark("WARNING: this cache's storage has no signed addresses, which this driver needs.")
            return
        with self._scratch() as folder:
            archive = Path(folder, "cache.zip")
            if not await self.repack(kind, source, "zip", archive, bundle):
                log.remark("WARNING: no files for the cache.")
                return
            if url:
                self._check_url(url)
                headers = dict(each.partition(": ")[::2] for each in call.values("header"))
                await self._api.upload_cache(url, headers, archive)
            else:
                await asyncio.to_thread(self._store.publish, self._key(call), archive)
        log.remark(f"Cache {_shown(call)} kept.")

    # Both directions

    async def repack(
        self, source_kind: str, source: Path, target_kind: str, target: Path, bundle: Bundle | None = None
    ) -> bool:
        """Convert one archive to another in a separate process. Return False if it was empty.

        Raises:
            BuildFailureError: the archive exceeds a limit or is malformed.
        """
        limits = self._settings.limits
        chosen = {"includes": bundle.includes, "excludes": list(bundle.excludes)} if bundle else {}
        options = {
            "project": self._project,
            "archive": self._largest,
            "members": limits.members,
            "unpacked": size(limits.unpacked),
            "ratio": limits.ratio,
            **chosen,
        }
        python = Path(sys.executable).resolve()
        program = Path(repack.__file__).resolve()
        arguments = [str(python), "-I", "-S", str(program), source_kind, str(source), target_kind, str(target)]
        arguments.append(json.dumps(options))
        confined = sandbox.Sandbox(target.parent, (source, program, *_of_python(python)))
        kind, why = await sandbox.available(target.parent)
        if kind is None and self._settings.stages.artifacts != "unconfined":
            raise SystemFailureError(
                f"Artifacts and caches cannot be moved, since no process can be confined on this machine: {why}.",
                hint='Install bubblewrap, allow user namespaces, or set stages.artifacts = "unconfined".',
            )
        code, said = await sandbox.run(arguments, confined, {}, kind=kind, output=asyncio.subprocess.PIPE)
        lines = said.decode(errors="replace").splitlines()
        for line in lines[:50]:
            if not line.startswith("refused: "):
                log.remark(line[:500])
        if code != 0:
            target.unlink(missing_ok=True)
        if code == repack.NOTHING:
            return False
        if code != 0:
            why = next((line.removeprefix("refused: ") for line in lines if line.startswith("refused: ")), "")
            raise BuildFailureError(f"The archive is refused: {why or f'exit code {code}'}.")
        return True

    def check_size(self, number: int) -> None:
        """Refuse an archive that is too large.

        Raises:
            BuildFailureError: the archive is too large.
        """
        if number > self._largest:
            raise BuildFailureError(
                f"The archive is refused: it has {number} bytes, {self._largest} are allowed (limits.archive)."
            )

    def _key(self, call: HelperCall) -> str:
        """Return a cache's key: the path of its file relative to the project."""
        file = posixpath.normpath(posixpath.join(self._project, call.value("file")))
        for folder in (self._state.cache_dir, self._state.builds_dir, self._state.record.workspace):
            if file.startswith(f"{folder}/"):  # these differ from job to job
                return file.removeprefix(folder)
        return file

    def _check_url(self, url: str) -> None:
        if not is_of_project(url, self._job.project_id):
            raise BuildFailureError("The cache's key leads out of the project.", hint="Write another key.")

    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="exchange-", dir=self._state.folder)


def _of_python(python: Path) -> list[Path]:
    """Return the directories of Python's own files, unless they are among the system's."""
    return [path for path in {Path(sys.base_prefix).resolve(), python.parent} if not path.is_relative_to("/usr")]


def _shown(call: HelperCall) -> str:
    return posixpath.basename(posixpath.dirname(call.value("file"))) or "default"
