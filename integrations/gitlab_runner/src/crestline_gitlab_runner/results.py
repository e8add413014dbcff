"""Artifacts and caches back to the runner's machine, for its own helper to upload.

A job may have put anything into what comes back: nothing of it leaves its folder here, and no git configuration of it
is ever read.
"""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import tarfile
from pathlib import Path

import msgspec

from crestline_gitlab_runner import log

_BRACES = re.compile(r"\{([^{}]*)\}")


class Wanted(msgspec.Struct, frozen=True):
    """What the helper was asked to take."""

    patterns: tuple[str, ...]
    untracked: bool


def wanted(calls: list[list[str]], folder: Path) -> Wanted:
    """What the recorded calls of the helper name.

    Args:
        folder: stands for the project's directory here; names in it are meant below that directory.
    """
    patterns: list[str] = []
    untracked = False
    for call in calls:
        if call[:1] not in (["artifacts-uploader"], ["cache-archiver"]):
            continue
        for word, following in itertools.zip_longest(call, call[1:], fillvalue=""):
            if word == "--path":
                patterns.append(following.removeprefix(f"{folder}/"))
            elif word == "--untracked":
                untracked = True
    return Wanted(tuple(dict.fromkeys(patterns)), untracked)


def pack_script(project: str, asked: Wanted, part: str, part_size: int, *, tracked: str) -> bytes:
    """The script for bash that packs in the job what matches.

    Args:
        project: directory on the system, as are all paths.
        part: beginning of the names of the archive's parts.
        tracked: file with the names that git keeps.
    """
    lines = [
        f"cd {shlex.quote(project)} || exit",
        "shopt -s globstar dotglob nullglob",
        "set -o pipefail",
        "matching() {",
        "  local IFS= pattern file",
        "  for pattern; do",
        '    if [ -e "$pattern" ] || [ -L "$pattern" ]; then printf "%s\\0" "./$pattern"; continue; fi',
        '    for file in $pattern; do printf "%s\\0" "./$file"; done',
        "  done",
        "}",
        "{",
        *(f"  matching {shlex.quote(pattern)}" for pattern in _relative(asked.patterns, project)),
    ]
    if asked.untracked:
        find = "find . -name .git -prune -o '(' -type f -o -type l ')' -print0"
        lines += [f"  LC_ALL=C comm -z -23 <({find} | LC_ALL=C sort -z) {shlex.quote(tracked)}"]
    lines += [
        "} | tar -czf - --hard-dereference --exclude=.git --null --no-unquote -T - |",
        f"  split -b {part_size} -a 4 -d - {shlex.quote(part)}",
    ]
    return "\n".join([*lines, ""]).encode(errors="surrogateescape")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack what came back into a new `folder`: files, and links within it; git's own files are left out.

    Files are written while there is no link that could lead them elsewhere, links at the end, and those whose way leads
    out of the folder are removed. Hard links are not followed at all: they may name a link that was left out.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    links: dict[Path, str] = {}
    with tarfile.open(archive, mode="r:gz") as content:
        for member in content:
            parts = [part for part in member.name.split("/") if part not in ("", ".")]
            if ".git" in parts or not parts:
                continue
            path = folder.joinpath(*parts)
            if member.name.startswith("/") or ".." in parts or not (member.isreg() or member.isdir() or member.issym()):
                log.remark(f"Left out: {member.name}: neither a file, a directory nor a link below the project.")
            elif member.issym():
                links[path] = member.linkname
            else:
                try:
                    _write(content, member, path)
                except OSError as error:
                    log.remark(f"Left out: {member.name}: {error.strerror}")
    for path, target in links.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
        except OSError as error:
            log.remark(f"Left out: {path.relative_to(folder)}: {error.strerror}")
    defuse(folder)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """A file or a directory."""
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(archive.extractfile(member), file)  # type: ignore[arg-type]
    path.chmod(member.mode & 0o755 | 0o600)


def _relative(patterns: tuple[str, ...], project: str) -> list[str]:
    """Patterns below the project; the helper itself will say something about the others."""
    found = []
    for pattern in patterns:
        for each in _expand(pattern):
            each = each.removeprefix(f"{project}/").removeprefix("./").rstrip("/")
            if each == project or not each:
                each = "."
            if not each.startswith("/") and ".." not in each.split("/"):
                found.append(each)
    return found


def _expand(pattern: str, limit: int = 256) -> list[str]:
    """`a.{b,c}` as `a.b` and `a.c`: a shell does that before variables, so not to what a variable holds."""
    done: list[str] = []
    open_ = [pattern]
    while open_ and len(done) + len(open_) <= limit:
        text = open_.pop()
        match = _BRACES.search(text)
        if match is None:
            done.append(text)
        else:
            open_ += [text[: match.start()] + choice + text[match.end() :] for choice in match[1].split(",")]
    return sorted(done)


def literal_paths(asked: Wanted, project: str) -> list[str]:
    """The directories and files, below the project, in which everything lies that is asked for."""
    if asked.untracked:
        return ["."]
    found = []
    for pattern in _relative(asked.patterns, project):
        parts = list(itertools.takewhile(lambda part: not set(part) & set("*?["), pattern.split("/")))
        found.append("/".join(parts) or ".")
    found = sorted(set(found))
    return [path for path in found if not any(path != each and _is_within(path, each) for each in found)]


def defuse(folder: Path) -> None:
    """Remove git's own files and links that lead out of what was downloaded."""
    root = folder.resolve()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_symlink():
            if not _resolved(path).is_relative_to(root):
                log.remark(f"Left out: {path.relative_to(folder)}: it leads elsewhere.")
                path.unlink()
        elif path.name == ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _resolved(path: Path) -> Path:
    """Where a link leads; a circle leads nowhere."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return Path("/")


def _is_within(path: str, folder: str) -> bool:
    return folder == "." or path.startswith(f"{folder}/")
