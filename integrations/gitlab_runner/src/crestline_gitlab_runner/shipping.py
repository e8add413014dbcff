"""Sources to the system: all that the host stages have made, as one archive in the inbox that the job unpacks."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from crestline_gitlab_runner.agent import await_file
from crestline_gitlab_runner.state import State

_NOT_SHIPPED = (".gitlab-runner.ext.conf",)
"""files beside the project with credentials that only the host stages need"""


def pack(state: State, part_size: int) -> tuple[dict[str, bytes], list[str]]:
    """The archive in parts, and the lines of sh that unpack it in the job.

    What `fetched` holds (caches, artifacts of other jobs) goes over what `sources` holds.
    """
    with tempfile.TemporaryFile(dir=state.folder) as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1, format=tarfile.GNU_FORMAT) as archive:
            for room in ("sources", "fetched"):
                place = state.folder / room
                if place.is_dir():
                    for name in sorted(os.listdir(place)):
                        archive.add(place / name, arcname=name, filter=_wanted)
        file.seek(0)
        name = state.record.name
        parts = {f"{name}.sources.{number:04d}": part for number, part in enumerate(_parts(file, part_size))}
    names = " ".join(f"in/{name}" for name in parts)
    lines = [await_file(f"in/{name}", len(part)) for name, part in parts.items()]
    builds = f"b-{name}"
    return parts, [*lines, f"mkdir -p {builds}", f"cat {names} | tar -xzf - -C {builds} || exit 93", f"rm -f {names}"]


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


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if member.name.rpartition("/")[2] in _NOT_SHIPPED:
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _parts(file: object, size: int) -> Iterator[bytes]:
    while part := file.read(size):  # type: ignore[attr-defined]
        yield part
