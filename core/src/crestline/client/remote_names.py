"""Names and paths on the system: what they may be, how a listing spells them, and what a pattern matches."""

from __future__ import annotations

import fnmatch
import posixpath
import re
import secrets
import stat

from crestline.client.backends.base import Backend
from crestline.model import ConflictError, FileMissingError, InvalidRequestError, TransferError

_NOT_DIRECT = re.compile(r"[\x00-\x1f\x7f\"\\]")
# Transfer jobs of plain FirecREST have paths in shell scripts, some without any quotes, some after HTML escaping.
_JOB_SAFE = re.compile(r"[A-Za-z0-9_./+@%:,-]*")
_TEMPORARY = re.compile(r"\.crestline-[0-9a-f]{16}[.\w]*")
_OCTAL = re.compile(r"(?:\\[2-3][0-7]{2})+")
_C_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r"}


def check_remote(path: str) -> str:
    """`path` without `.`, `..` and doubled slashes.

    Raises:
        InvalidRequestError: it is not absolute.
    """
    if not path.startswith("/") or "\x00" in path:
        raise InvalidRequestError(f"{path!r} is not an absolute path.", hint="Write the whole path, from / on.")
    return posixpath.normpath("/" + path.lstrip("/"))


async def remote_stat(backend: Backend, path: str) -> dict[str, int] | None:
    """The numbers of stat(2), links followed; None if there is nothing."""
    try:
        return await backend.files.stat(path)
    except FileMissingError:
        return None


def is_directory(status: dict[str, int] | None) -> bool:
    """Whether `remote_stat` found a directory."""
    return status is not None and stat.S_ISDIR(status["mode"])


async def make_directory(backend: Backend, path: str) -> None:
    """Make a remote directory and its parents, as `mkdir -p` does."""
    try:
        await backend.files.mkdir(path, parents=True)
    except (ConflictError, InvalidRequestError):
        if not is_directory(await remote_stat(backend, path)):
            raise


def is_direct(name: str) -> bool:
    """Whether plain FirecREST's direct upload writes this file name as it is."""
    return not _NOT_DIRECT.search(name) and "'" not in name


def is_job_safe_path(path: str) -> bool:
    """Whether this path may enter the script of one of plain FirecREST's transfer jobs."""
    return _JOB_SAFE.fullmatch(path) is not None


def needs_transfer_job(backend: Backend, path: str, size: int, direct: int) -> bool:
    """Whether plain FirecREST moves a file of this name and size, more than `direct` bytes, in a job."""
    fits = moves_in_pieces(backend) or is_job_safe_path(path)
    return size > direct and fits


def moves_in_pieces(backend: Backend) -> bool:
    """Whether large files travel in pieces of what a direct operation carries, since the site offers no S3."""
    return backend.transfer_service != "s3"


async def temporary_path(backend: Backend, suffix: str = "") -> str:
    """A new name in the default working directory."""
    return posixpath.join(await backend.system.default_workdir(), temporary_name(suffix))


_NO_NAMES = frozenset({"", ".", ".."})


def temporary_name(suffix: str = "") -> str:
    """A new name for what lives only as long as a transfer, here or on the system."""
    return f".crestline-{secrets.token_hex(8)}{suffix}"


def is_temporary(name: str) -> bool:
    """Whether a name is one of `temporary_name`: what a killed transfer left is not taken along by the next."""
    return _TEMPORARY.fullmatch(name) is not None


def safe_relative(name: str) -> str:
    """A name from a listing or an archive, if it stays below the directory it was asked of.

    Raises:
        TransferError: it does not.
    """
    if "\x00" in name or not _NO_NAMES.isdisjoint(name.split("/")):
        raise TransferError(f"The gateway named a file {name!r}, which leaves the directory.", hint="Do not trust it.")
    return name


def stays_inside(path: str, target: str) -> bool:
    """Whether a link at `path` (below some directory) to `target` leads to something below that directory."""
    if target.startswith("/"):
        return False
    end = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return end != ".." and not end.startswith("../")


def is_safe_link(path: str, target: str) -> bool:
    """Whether a link can never lead out of the directory, whatever other links there are in it: no `..` behind a name,
    because the name may be a link."""
    behind = [part for part in target.split("/") if part not in ("", ".")]
    while behind and behind[0] == "..":
        del behind[0]
    return ".." not in behind and stays_inside(path, target)


def spellings(name: str) -> set[str]:
    """What a listing may call a file: as it is, or with the escapes of ls(1), which plain FirecREST leaves in."""
    escaped = _escaped(name, beyond_ascii=True)
    return {name, _escaped(name, beyond_ascii=False), escaped, unescaped(escaped)}


def unescaped(name: str) -> str:
    """A name as plain FirecREST lists it, with its characters beyond ASCII in the place of ls(1)'s octal escapes.

    What is not UTF-8 stays escaped, and so do control characters.
    """

    def decoded(match: re.Match[str]) -> str:
        try:
            return bytes(int(code, 8) for code in match[0].split("\\")[1:]).decode()
        except UnicodeDecodeError:
            return match[0]

    return _OCTAL.sub(decoded, name) if "\\" in name else name


def _escaped(name: str, *, beyond_ascii: bool) -> str:
    found = []
    for character in name:
        code = ord(character)
        if code in _C_ESCAPES:
            found.append(_C_ESCAPES[code])
        elif code < 32 or code == 127 or (code > 127 and beyond_ascii):
            found.extend(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))
        else:
            found.append(character)
    return "".join(found)


def has_pattern(path: str) -> bool:
    """Whether a shell would expand it."""
    return any(character in path for character in "*?[")


async def expand(backend: Backend, pattern: str) -> list[str]:
    """The paths that a pattern with `*`, `?` and `[...]` matches, sorted; `*` does not match a leading dot."""
    found = ["/"]
    for part in pattern.strip("/").split("/"):
        if has_pattern(part):
            found = [path for parent in found for path in await _matches(backend, parent, part)]
        else:
            found = [posixpath.join(parent, part) for parent in found]
    if has_pattern(posixpath.basename(pattern)):
        return sorted(found)
    return sorted([path for path in found if await remote_stat(backend, path) is not None])


async def _matches(backend: Backend, parent: str, part: str) -> list[str]:
    try:
        files = await backend.files.list(parent.rstrip("/") + "/", hidden=part.startswith("."))
    except (FileMissingError, InvalidRequestError):
        return []
    names = [file.name for file in files]
    return [posixpath.join(parent, safe_relative(name)) for name in names if fnmatch.fnmatchcase(name, part)]
