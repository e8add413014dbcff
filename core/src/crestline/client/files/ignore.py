"""Select the files of a directory to upload: exclude repositories, and what ignore files and patterns exclude."""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError

from crestline.client.command_output import read_command
from crestline.client.files.local import local_errors
from crestline.model import InvalidRequestError

_FILES = (".gitignore", ".crestlineignore")
"""read in this order; a later line wins"""
_GIT_TIMEOUT = 10.0
_REPOSITORIES = frozenset({".bzr", ".git", ".hg", ".jj", ".svn"})


class IgnoreRules:
    """The rules of a project directory, in the syntax of gitignore(5).

    The rules always exclude `.git`, whose configuration may contain credentials, and `.hg`, `.svn`, `.jj` and `.bzr`.
    They read `.gitignore` and `.crestlineignore` in every directory below the root, and in those above it up to the top
    of the Git repository. They also read `info/exclude` of the repository and the user's own ignore file
    (`core.excludesFile`).

    Args:
        root: the directory to upload.
        exclude: further patterns, relative to `root`.
        include: patterns of files to send in any case, also below an excluded directory.

    Raises:
        InvalidRequestError: a pattern is invalid.

    Example: `system.upload(".", "/scratch/u/run", ignore=IgnoreRules(Path("."), exclude=["*.h5"]))`
    """

    def __init__(self, root: Path, *, exclude: Sequence[str] = (), include: Sequence[str] = ()) -> None:
        self._top, self._prefix = _repository_of(root.resolve())
        self._exclude = _spec(exclude, "exclude")
        self._include = _spec(include, "include")
        self._specs: dict[str, list[GitIgnoreSpec]] = {}
        self._excluded: dict[str, bool] = {}

    def excludes(self, path: str, *, is_directory: bool) -> bool:
        """Return True if a file or directory below the root is excluded.

        Args:
            path: path relative to the root, with `/`.
            is_directory: True for a directory.
        """
        shown = f"{path}/" if is_directory else path
        if self._include is not None and self._include.match_file(shown):
            return False
        return self._is_excluded(path, is_directory=is_directory)

    @property
    def may_include_below(self) -> bool:
        """Whether something below an excluded directory may be included."""
        return self._include is not None

    def _is_excluded(self, path: str, *, is_directory: bool) -> bool:
        if is_directory and path in self._excluded:
            return self._excluded[path]
        parent = posixpath.dirname(path)
        excluded = bool(parent) and self._is_excluded(parent, is_directory=True)
        excluded = excluded or self._matches(path, is_directory=is_directory)
        if is_directory:
            self._excluded[path] = excluded
        return excluded

    def _matches(self, path: str, *, is_directory: bool) -> bool:
        slash = "/" if is_directory else ""
        if posixpath.basename(path) in _REPOSITORIES:
            return True
        if self._exclude is not None and self._exclude.match_file(path + slash):
            return True
        whole = posixpath.join(self._prefix, path)
        directory = posixpath.dirname(whole)
        while True:  # the ignore file that is nearest decides
            relative = posixpath.relpath(whole, directory or ".") + slash
            for spec in reversed(self._specs_of(directory)):
                decision = spec.check_file(relative).include
                if decision is not None:
                    return decision
            if not directory:
                return False
            directory = posixpath.dirname(directory)

    def _specs_of(self, directory: str) -> list[GitIgnoreSpec]:
        if directory not in self._specs:
            found = []
            files = [self._top / directory / name for name in _FILES]
            if not directory:
                files.insert(0, _git_directory(self._top) / "info" / "exclude")
                if (self._top / ".git").exists():
                    files.insert(0, _user_file(self._top))
            for file in files:
                if file.is_file():
                    with local_errors():  # git, too, passes a byte order mark over
                        lines = file.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
                    found.append(_spec(lines, str(file)) or GitIgnoreSpec([]))
            self._specs[directory] = found
        return self._specs[directory]


def _spec(lines: Sequence[str], where: str) -> GitIgnoreSpec | None:
    if not lines:
        return None
    try:
        return GitIgnoreSpec.from_lines(lines)
    except GitIgnorePatternError as error:
        raise InvalidRequestError(f"Invalid pattern in {where}: {error}", hint="See gitignore(5).") from error


def _repository_of(root: Path) -> tuple[Path, str]:
    """The top of the Git repository that holds `root` (else `root` itself), and the way from there."""
    for directory in (root, *root.parents):
        if (directory / ".git").exists():
            way = root.relative_to(directory).as_posix()
            return directory, "" if way == "." else way
    return root, ""


def _user_file(top: Path) -> Path:
    """The ignore file of the user for all repositories, as Git finds it."""
    if git := shutil.which("git"):
        command = [git, "-C", str(top), "config", "--type=path", "--get", "core.excludesFile"]
        with suppress(OSError, ValueError):  # git does not answer, or not with a path
            _, answer = read_command(command, timeout=_GIT_TIMEOUT)
            if answer:
                return top / os.fsdecode(answer.removesuffix(b"\n"))
    return Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "git", "ignore")


def _git_directory(top: Path) -> Path:
    """Where the repository keeps what all its work trees share; `.git` of a work tree or submodule is a file."""
    place = top / ".git"
    with local_errors():
        if place.is_file():
            place = top / place.read_text(errors="surrogateescape").strip().removeprefix("gitdir: ")
        common = place / "commondir"
        return place / common.read_text(errors="surrogateescape").strip() if common.is_file() else place
