"""What has to travel before jobs can start: their stage directories, each content once.

The inputs of a test go to a directory that is named by their content and that nobody writes to; the job copies them
from there when it starts. So tests with equal sources send them once, and a build's products never travel back.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from crestline.client import Member, map_link
from crestline_reframe.places import Place, Places
from crestline_reframe.scripts import arrival, remote_script
from crestline_reframe.work import Work

_NEVER = frozenset({".rfm_mark", ".rfm_testcase.json"})


def marker(phase: str) -> str:
    """Name of the file whose age says when a job began."""
    return f".crestline-{phase}"


@dataclass
class Inputs:
    """What a stage directory holds that the system does not have."""

    files: dict[str, Path] = field(default_factory=dict)
    """path in the stage directory -> the file with its content"""
    directories: list[str] = field(default_factory=list)
    inner_links: dict[str, str] = field(default_factory=dict)
    """links within the stage directory"""
    outer_links: list[tuple[str, Path]] = field(default_factory=list)
    """links to other stage directories, and to what this machine does not have"""
    digest: str = ""
    """of all but the outer links; empty if there is nothing"""
    size: int = 0


class Staging:
    """Finds what has to be sent for a group of jobs, and remembers what has been."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._trees: set[str] = set()
        """digests of those that are on the system"""

    def plan(self, works: Iterable[Work]) -> tuple[list[Member], dict[Work, list[str]]]:
        """What to send, and the lines that each job's script begins with."""
        members: dict[str, Member] = {}
        begins: dict[Work, list[str]] = {}
        for work in works:
            before = len(members)
            begins[work] = self._plan(work, members)
            for each in list(members.values())[before:]:
                work.sent += each.source.stat().st_size if each.source else 0
        return list(members.values()), begins

    def is_done(self, members: Iterable[Member], works: Iterable[Work]) -> None:
        """What was planned has arrived."""
        self._trees |= {each.path.split("/")[1] for each in members if each.path.startswith("cas/")}
        for work in works:
            work.place.is_there = True

    def is_the_same(self, work: Work) -> None:
        """The system has what lies in the stage directory now."""
        _note(work.place, scan(work.place, work.own_files, self._places))

    def _plan(self, work: Work, members: dict[str, Member]) -> list[str]:
        place = work.place
        if not place.is_there:
            _add(members, Member(path=place.remote))
        for other in self._places.named_in(work.script):
            if other is not place:
                self._directly(other, members, scan(other, frozenset(), self._places))
        inputs = work.inputs or scan(place, work.own_files, self._places)
        tree = None
        if work.is_array:  # its elements would copy at the same time
            self._directly(place, members, inputs)
        elif inputs.digest:
            tree = posixpath.join(self._places.root, "cas", inputs.digest)
            self._as_tree(inputs, members)
        _note(place, inputs)
        links = [(name, self._places.mapped(str(target))) for name, target in inputs.outer_links]
        return arrival(self._places.absolute(place), marker(work.phase), tree, links)

    def _as_tree(self, inputs: Inputs, members: dict[str, Member]) -> None:
        if inputs.digest not in self._trees:
            _add_all(members, posixpath.join("cas", inputs.digest), inputs, is_shared=True)

    def _directly(self, place: Place, members: dict[str, Member], inputs: Inputs) -> None:
        if inputs.digest or not place.is_there:
            _add(members, Member(path=place.remote))
        _add_all(members, place.remote, inputs)
        place.is_there = True
        _note(place, inputs)


def prepared(work: Work, places: Places, begin: list[str]) -> str:
    """The script as it is submitted."""
    return places.mapped(remote_script(work.script, begin))


def fingerprint(work: Work, places: Places) -> str:
    """Equal for two jobs that do the same with the same inputs."""
    inputs = work.inputs = scan(work.place, work.own_files, places)
    return hashlib.sha256(f"{work.script}\0{inputs.digest}".encode("utf-8", "surrogateescape")).hexdigest()


def scan(place: Place, own_files: frozenset[str], places: Places) -> Inputs:
    """What is new or changed in a stage directory since both sides had the same.

    Links out of it are followed, as they lead to where only this machine has something; unless they lead to another
    stage directory, or to a path that this machine does not have and the system may have.
    """
    found = Inputs()
    _walk(place.local, "", found, own_files, places)
    for path in [path for path, file in found.files.items() if _is_known(place, path, file)]:
        del found.files[path]
    if found.files or found.directories or found.inner_links:
        whole = hashlib.sha256()
        for path in sorted(found.files):
            file = found.files[path]
            found.size += file.stat().st_size
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            whole.update(f"{path}\0{digest}\0{file.stat().st_mode & 0o100}\0".encode("utf-8", "surrogateescape"))
        whole.update(repr((sorted(found.directories), sorted(found.inner_links.items()))).encode())
        found.digest = whole.hexdigest()[:32]
    return found


def _walk(
    root: Path, below: str, found: Inputs, own_files: frozenset[str], places: Places, above: tuple[str, ...] = ()
) -> None:
    above = (*above, os.path.realpath(root / below))
    for item in sorted(os.scandir(root / below), key=lambda item: item.name):
        path = posixpath.join(below, item.name)
        if path in own_files or path in _NEVER:
            continue
        if item.is_symlink() and _is_kept(root, path, found, places):
            continue
        if item.is_dir():
            if os.path.realpath(item.path) in above:
                continue  # a link led back here: it would be followed for ever
            before = len(found.files) + len(found.directories)
            _walk(root, path, found, own_files, places, above)
            if len(found.files) + len(found.directories) == before:
                found.directories.append(path)  # only an empty one has to be named
        elif item.is_file():
            found.files[path] = root / path


def _is_kept(root: Path, path: str, found: Inputs, places: Places) -> bool:
    """Whether a link stays a link on the system; if not, it is followed."""
    target = os.readlink(root / path)
    inner = map_link(path, target, str(root))
    if inner is not None:
        found.inner_links[path] = inner
        return True
    there = Path(os.path.normpath(root / posixpath.dirname(path) / target))
    other = places.holding(there)
    is_on_the_system = os.path.isabs(target) and not (root / path).exists()
    if is_on_the_system or (other is not None and other.local != root):
        found.outer_links.append((path, there))
        return True
    return False


def _is_known(place: Place, path: str, file: Path) -> bool:
    status = file.stat()
    return place.is_known(path, status.st_size, status.st_mtime_ns)


def _note(place: Place, inputs: Inputs) -> None:
    for path, file in inputs.files.items():
        status = file.stat()
        place.known[path] = (status.st_size, status.st_mtime_ns)


def _add_all(members: dict[str, Member], directory: str, inputs: Inputs, *, is_shared: bool = False) -> None:
    for path in inputs.directories:
        _add(members, Member(path=posixpath.join(directory, path)))
    for path, source in inputs.files.items():
        _add(members, Member(path=posixpath.join(directory, path), source=source, is_shared=is_shared))
    for path, target in inputs.inner_links.items():
        _add(members, Member(path=posixpath.join(directory, path), link_target=target))


def _add(members: dict[str, Member], member: Member) -> None:
    members.setdefault(member.path, member)
