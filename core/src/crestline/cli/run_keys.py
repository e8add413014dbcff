"""Runs with a key: their working directories, and how later commands find their jobs."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from crestline.model import ConflictError, FileMissingError, JobNotFoundError, JobSpec

if TYPE_CHECKING:
    from crestline.client import System
    from crestline.client.files import IgnoreRules

_NOTE = ".crestline-run"
"""File in the working directory that contains a `RunNote`."""


class RunNote(msgspec.Struct, frozen=True, kw_only=True):
    """Record of the run that uses a working directory."""

    request: str = ""
    """Digest of the request, see `digest_request`."""
    job_id: str | None = None
    """Id of the job. None before its submission."""


def digest_request(
    spec: JobSpec, uploads: Iterable[tuple[Path, IgnoreRules]], output_dir: Path, results: Sequence[str]
) -> str:
    """Return a digest of a run: its script, its resources, and the names and contents of the files to upload.

    Args:
        output_dir: the directory for the results of the run, which are not part of the request.
        results: patterns of the names of the results.
    """
    from crestline.client.files.local import local_errors
    from crestline.client.files.tree import scan

    total = hashlib.sha256(msgspec.json.encode(spec, order="deterministic"))
    for source, ignore in uploads:
        with local_errors():
            entries = [
                each
                for each in (scan(source, ignore).entries if source.is_dir() else [])
                if not _is_result(source.resolve() / each.path, output_dir.resolve(), results)
            ]
            names = [(each.path, each.type, each.link_target) for each in entries]
            total.update(msgspec.json.encode([source.name, names]))
            files = [source / each.path for each in entries if each.is_file] if source.is_dir() else [source]
            for path in files:
                with path.open("rb") as file:
                    total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _is_result(path: Path, output_dir: Path, results: Sequence[str]) -> bool:
    if output_dir.is_relative_to(path):
        return True
    if not path.is_relative_to(output_dir):
        return False
    name = path.relative_to(output_dir).parts[0]
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in results)


def check_same_request(key: str, note: RunNote, request: str) -> None:
    """Reject a key that already names another run, as the gateway does for single submissions.

    Raises:
        ConflictError: script, resources or uploaded files differ.
    """
    if note.request and note.request != request:
        raise ConflictError(
            f"The key {key!r} already names a run with another command, resources or uploaded files.",
            hint="Use another key, for example one with the CI job's name in it, or follow that run with --attach.",
        )


async def keyed_workdir(system: System, key: str) -> str:
    """Return the working directory of the run `key`, which is the same in every process."""
    readable = re.sub(r"[^A-Za-z0-9._-]", "-", key)[:60].lstrip(".-")
    digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:10]
    return await system.resolve_path(f"crestline-runs/{readable}-{digest}")


async def write_note(system: System, workdir: str, note: RunNote) -> None:
    """Record the run and its job in the working directory."""
    await system.write_text(f"{workdir}/{_NOTE}", f"{msgspec.json.encode(note).decode()}\n")


async def read_note(system: System, workdir: str) -> RunNote | None:
    """Return the record that `write_note` wrote, or None if it is missing or invalid."""
    try:
        text = await system.read_text(f"{workdir}/{_NOTE}")
    except FileMissingError:
        return None
    try:
        return msgspec.json.decode(text, type=RunNote)
    except msgspec.DecodeError:
        return None


async def find_job(system: System, key: str, workdir: str = "") -> str:
    """Return the id of the job of the run `key`, even if its process died right after the submission.

    Raises:
        JobNotFoundError: the run has no job.
    """
    place = await system.resolve_path(workdir) if workdir else await keyed_workdir(system, key)
    if (note := await read_note(system, place)) is not None and note.job_id:
        return note.job_id
    found = [job.job_id for job in await system.jobs() if job.workdir.rstrip("/") == place]
    if not found:
        raise JobNotFoundError(f"The run {key!r} has no job.", hint="Check the key; `crestline ps` lists jobs.")
    return found[-1]
