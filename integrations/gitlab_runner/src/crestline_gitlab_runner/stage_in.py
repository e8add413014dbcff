"""Sends sources, caches and artifacts to the system as archives in the inbox, which the job unpacks before its next
command."""

from __future__ import annotations

import os
import shlex
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from crestline_gitlab_runner.agent import await_file
from crestline_gitlab_runner.state import State


def pack(state: State, label: str, project: str, part_size: int) -> tuple[dict[str, bytes], list[str]]:
    """Return the archives in parts, and the shell lines that unpack them in the job.

    The sources are sent once. Caches and artifacts of other jobs are unpacked over them whenever new ones exist.

    Args:
        state: the job's state.
        label: prefix of the names of the parts.
        project: the project's directory below the builds directory.
        part_size: maximum bytes of a part.
    """
    builds = f"b-{state.record.name}"
    attached: dict[str, bytes] = {}
    waits: list[str] = []
    unpacks: list[str] = []

    def attach(file: IO[bytes], what: str, target: str) -> None:
        parts = {f"{label}.{what}.{number:04d}": part for number, part in enumerate(_parts(file, part_size))}
        attached.update(parts)
        names = " ".join(f"in/{each}" for each in parts)
        waits.extend(await_file(f"in/{each}", len(part)) for each, part in parts.items())
        unpacks.append(f"mkdir -p {target} && cat {names} | tar -xzf - -C {target} || exit 93")
        unpacks.append(f"rm -f {names}")

    place = state.folder / "sources"
    if not state.record.shipped and place.is_dir():
        with tempfile.TemporaryFile(dir=state.folder) as file:
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1, format=tarfile.GNU_FORMAT) as archive:
                for each in sorted(os.listdir(place)):
                    archive.add(place / each, arcname=each, filter=_without_owner)
            file.seek(0)
            attach(file, "sources", builds)
    for path in _fetched(state):
        with path.open("rb") as stored:
            attach(stored, f"fetched-{path.stem}", f"{builds}/{shlex.quote(project)}")
    return attached, [*waits, *unpacks]


def arrived(state: State) -> None:
    """Record that the job has unpacked the archives."""
    state.record.shipped = True
    state.save()
    for path in _fetched(state):
        path.unlink()


def _fetched(state: State) -> list[Path]:
    place = state.folder / "fetched"
    return sorted(place.iterdir()) if place.is_dir() else []


def shipped_files(place: Path) -> list[bytes]:
    """Return the files of a checkout without `.git`, as `./path`."""
    found = []
    for folder, folders, names in os.walk(os.fsencode(place)):
        folders[:] = [each for each in folders if each != b".git"]
        links = [each for each in folders if os.path.islink(os.path.join(folder, each))]
        for name in [*names, *links]:
            if name != b".git":
                found.append(b"./" + os.path.relpath(os.path.join(folder, name), os.fsencode(place)))
    return sorted(found)


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _parts(file: IO[bytes], size: int) -> Iterator[bytes]:
    while part := file.read(size):
        yield part
