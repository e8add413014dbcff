"""What has to travel before jobs can start: their stage directories, each content once.

The inputs of a test go to a directory that is named by their content and never changed; the job copies them from there
when it starts. So tests with equal sources send them once, and a build's products never travel back.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable

from crestline.client import BundleFile
from crestline_reframe.inputs import Inputs, scan
from crestline_reframe.scripts import arrival, remote_script
from crestline_reframe.stage_dirs import StageDir, StageDirs
from crestline_reframe.tracked_job import TrackedJob


def marker(phase: str) -> str:
    """Name of the file whose age says when a job began."""
    return f".crestline-{phase}"


class Staging:
    """Finds what has to be sent for a group of jobs, and remembers what has been."""

    def __init__(self, places: StageDirs) -> None:
        self._places = places
        self._trees: set[str] = set()
        """digests of those that are on the system"""

    def plan(self, works: Iterable[TrackedJob]) -> tuple[list[BundleFile], dict[TrackedJob, list[str]]]:
        """What to send, and the lines that each job's script begins with."""
        members: dict[str, BundleFile] = {}
        begins: dict[TrackedJob, list[str]] = {}
        for work in works:
            before = len(members)
            begins[work] = self._plan(work, members)
            for each in list(members.values())[before:]:
                work.sent += each.source.stat().st_size if each.source else 0
        return list(members.values()), begins

    def is_done(self, members: Iterable[BundleFile], works: Iterable[TrackedJob]) -> None:
        """Note that what was planned has arrived on the system."""
        self._trees |= {each.path.split("/")[1] for each in members if each.path.startswith("cas/")}
        for work in works:
            work.place.is_there = True

    def is_the_same(self, work: TrackedJob) -> None:
        """The system has what lies in the stage directory now."""
        _note(work.place, scan(work.place, work.own_files, self._places))

    def _plan(self, work: TrackedJob, members: dict[str, BundleFile]) -> list[str]:
        place = work.place
        if not place.is_there:
            _add(members, BundleFile(path=place.remote))
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

    def _as_tree(self, inputs: Inputs, members: dict[str, BundleFile]) -> None:
        if inputs.digest not in self._trees:
            _add_all(members, posixpath.join("cas", inputs.digest), inputs, is_shared=True)

    def _directly(self, place: StageDir, members: dict[str, BundleFile], inputs: Inputs) -> None:
        if inputs.digest or not place.is_there:
            _add(members, BundleFile(path=place.remote))
        _add_all(members, place.remote, inputs)
        place.is_there = True
        _note(place, inputs)


def prepared(work: TrackedJob, places: StageDirs, begin: list[str]) -> str:
    """The script as it is submitted."""
    return places.mapped(remote_script(work.script, begin))


def fingerprint(work: TrackedJob, places: StageDirs) -> str:
    """Equal for two jobs that do the same with the same inputs."""
    inputs = work.inputs = scan(work.place, work.own_files, places)
    return hashlib.sha256(f"{work.script}\0{inputs.digest}".encode("utf-8", "surrogateescape")).hexdigest()


def _note(place: StageDir, inputs: Inputs) -> None:
    for path, file in inputs.files.items():
        status = file.stat()
        place.known[path] = (status.st_size, status.st_mtime_ns)


def _add_all(members: dict[str, BundleFile], directory: str, inputs: Inputs, *, is_shared: bool = False) -> None:
    for path in inputs.directories:
        _add(members, BundleFile(path=posixpath.join(directory, path)))
    for path, source in inputs.files.items():
        _add(members, BundleFile(path=posixpath.join(directory, path), source=source, is_shared=is_shared))
    for path, target in inputs.inner_links.items():
        _add(members, BundleFile(path=posixpath.join(directory, path), link_target=target))


def _add(members: dict[str, BundleFile], member: BundleFile) -> None:
    members.setdefault(member.path, member)
