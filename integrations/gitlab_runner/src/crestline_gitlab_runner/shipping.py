"""Sources to the system: all that the host stages have made, as one archive in the inbox that the job unpacks."""

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


def pack(state: State, project: str, part_size: int) -> tuple[dict[str, bytes], list[str]]:
    """The archives in parts, and the lines of sh that unpack them in the job.

    What `fetched` holds (caches, artifacts of other jobs) goes over what `sources` holds.

    Args:
        project: the project's directory below the builds directory.
    """
    name = state.record.name
    builds = f"b-{name}"
    attached: dict[str, bytes] = {}
    waits: list[str] = []
    unpacks: list[str] = []

    def attach(file: IO[bytes], label: str, target: str) -> None:
        parts = {f"{name}.{label}.{number:04d}": part for number, part in enumerate(_parts(file, part_size))}
        attached.update(parts)
        names = " ".join(f"in/{each}" for each in parts)
        waits.extend(await_file(f"in/{each}", len(part)) for each, part in parts.items())
        unpacks.append(f"mkdir -p {target} && cat {names} | tar -xzf - -C {target} || exit 93")
        unpacks.append(f"rm -f {names}")

    with tempfile.TemporaryFile(dir=state.folder) as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1, format=tarfile.GNU_FORMAT) as archive:
            place = state.folder / "sources"
            for each in sorted(os.listdir(place)) if place.is_dir() else ():
                archive.add(place / each, arcname=each, filter=_without_owner)
        file.seek(0)
        attach(file, "sources", builds)
    fetched = state.folder / "fetched"
    for path in sorted(fetched.iterdir()) if fetched.is_dir() else ():
        with path.open("rb") as stored:
            attach(stored, f"fetched-{path.stem}", f"{builds}/{shlex.quote(project)}")
    return attached, [*waits, *unpacks]


def shipped_files(place: Path) -> list[bytes]:
    """What git keeps: the files of a checkout, `.git` left out, as `./path`."""
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
