"""Finds what must be sent before jobs can start: their stage directories, each content once.

The inputs of a test are stored in a directory that is named after their content and never changes. The job copies them
from there when it starts. So tests with equal sources send them once, and a build's products are never sent back.
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
    """Return the name of the file whose age shows when a job began."""
    return f".crestline-{phase}"


class Staging:
    """Finds the content to send for a group of jobs, and records what has been sent."""

    def __init__(self, stage_dirs: StageDirs) -> None:
        self._stage_dirs = stage_dirs
        self._trees: set[str] = set()
        """Digests of the trees on the system."""

    def plan(self, batch: Iterable[TrackedJob]) -> tuple[list[BundleFile], dict[TrackedJob, list[str]]]:
        """Return the files to send, and the first lines of each job's script."""
        members: dict[str, BundleFile] = {}
        begins: dict[TrackedJob, list[str]] = {}
        for tracked in batch:
            before = len(members)
            begins[tracked] = self._plan(tracked, members)
            for each in list(members.values())[before:]:
                tracked.sent += each.source.stat().st_size if each.source else 0
        return list(members.values()), begins

    def is_done(self, members: Iterable[BundleFile], batch: Iterable[TrackedJob]) -> None:
        """Record that the planned files have arrived on the system."""
        self._trees |= {each.path.split("/")[1] for each in members if each.path.startswith("cas/")}
        for tracked in batch:
            tracked.stage_dir.is_there = True

    def is_unchanged(self, tracked: TrackedJob) -> None:
        """Record that the system has the current content of the stage directory."""
        _note(tracked.stage_dir, scan(tracked.stage_dir, tracked.own_files, self._stage_dirs))

    def _plan(self, tracked: TrackedJob, members: dict[str, BundleFile]) -> list[str]:
        stage_dir = tracked.stage_dir
        if not stage_dir.is_there:
            _add(members, BundleFile(path=stage_dir.remote))
        for other in self._stage_dirs.named_in(tracked.script):
            if other is not stage_dir:
                self._directly(other, members, scan(other, frozenset(), self._stage_dirs))
        inputs = tracked.inputs or scan(stage_dir, tracked.own_files, self._stage_dirs)
        tree = None
        if tracked.is_array:  # its elements would copy at the same time
            self._directly(stage_dir, members, inputs)
        elif inputs.digest:
            tree = posixpath.join(self._stage_dirs.root, "cas", inputs.digest)
            self._as_tree(inputs, members)
        _note(stage_dir, inputs)
        links = [(name, self._stage_dirs.mapped(str(target))) for name, target in inputs.outer_links]
        return arrival(self._stage_dirs.absolute(stage_dir), marker(tracked.phase), tree, links)

    def _as_tree(self, inputs: Inputs, members: dict[str, BundleFile]) -> None:
        if inputs.digest not in self._trees:
            _add_all(members, posixpath.join("cas", inputs.digest), inputs, is_shared=True)

    def _directly(self, stage_dir: StageDir, members: dict[str, BundleFile], inputs: Inputs) -> None:
        if inputs.digest or not stage_dir.is_there:
            _add(members, BundleFile(path=stage_dir.remote))
        _add_all(members, stage_dir.remote, inputs)
        stage_dir.is_there = True
        _note(stage_dir, inputs)


def prepared(tracked: TrackedJob, stage_dirs: StageDirs, begin: list[str]) -> str:
    """Return the script to submit."""
    return stage_dirs.mapped(remote_script(tracked.script, begin))


def fingerprint(tracked: TrackedJob, stage_dirs: StageDirs) -> str:
    """Return a digest that is equal for two jobs with the same actions and inputs."""
    inputs = tracked.inputs = scan(tracked.stage_dir, tracked.own_files, stage_dirs)
    return hashlib.sha256(f"{tracked.script}\0{inputs.digest}".encode("utf-8", "surrogateescape")).hexdigest()


def _note(stage_dir: StageDir, inputs: Inputs) -> None:
    for path, file in inputs.files.items():
        status = file.stat()
        stage_dir.fingerprints[path] = (status.st_size, status.st_mtime_ns)


def _add_all(members: dict[str, BundleFile], directory: str, inputs: Inputs, *, is_shared: bool = False) -> None:
    for path in inputs.directories:
        _add(members, BundleFile(path=posixpath.join(directory, path)))
    for path, source in inputs.files.items():
        _add(members, BundleFile(path=posixpath.join(directory, path), source=source, is_shared=is_shared))
    for path, target in inputs.inner_links.items():
        _add(members, BundleFile(path=posixpath.join(directory, path), link_target=target))


def _add(members: dict[str, BundleFile], member: BundleFile) -> None:
    members.setdefault(member.path, member)
