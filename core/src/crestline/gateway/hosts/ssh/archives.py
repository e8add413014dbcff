"""Tar archives and tar streams, by the machine's own tar(1)."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Sequence

from crestline.gateway.hosts.base import Completed
from crestline.gateway.hosts.selections import chosen, path_pattern
from crestline.gateway.hosts.ssh.commands import PLAIN, SshCommands
from crestline.gateway.hosts.ssh.errors import refusal
from crestline.gateway.hosts.streams import temporary_of
from crestline.gateway.paths import directory_below, member_path, printable
from crestline.model import InvalidRequestError, MissingFileError
from crestline.wire.extensions import TarSelection
from crestline.wire.filesystem import Compression

_PACKERS = {"none": [], "gzip": ["--gzip"], "bzip2": ["--bzip2"], "xz": ["--xz"]}
_GZIP = b"\x1f\x8b"
_CREATED = (0, 1)
"""exit statuses of a tar that made a whole archive; 1 says that a file changed while it was read"""
_FROM_INPUT = ["--null", "--verbatim-files-from", "--files-from=-"]


class Archives:
    """Packs and unpacks as one user."""

    def __init__(self, user: str, commands: SshCommands) -> None:
        self._user = user
        self._commands = commands

    async def compress(
        self, source: str, target: str, compression: Compression, *, pattern: str | None, dereference: bool
    ) -> None:
        """Write an archive under a temporary name and rename it."""
        directory, name = os.path.split(source)
        names = await self._matching(directory, name, pattern) if pattern else [name]
        temporary = temporary_of(target, uuid.uuid4().hex)
        argv = ["tar", "--create", f"--file={temporary}", f"--directory={directory}", *_PACKERS[compression]]
        argv += ["--dereference"] if dereference else []
        itself = [os.path.relpath(each, directory) for each in (temporary, target)]
        argv += ["--no-wildcards", "--anchored", *(f"--exclude={each}" for each in itself)]
        argv += ["--warning=no-file-changed", *(["--no-recursion"] if pattern else []), *_FROM_INPUT]
        try:
            await self._check(argv, input=_listed(names), statuses=_CREATED)
            await self._check(["mv", "--force", "--no-target-directory", "--", temporary, target])
        except BaseException:
            await self._commands.tidy(self._user, ["rm", "--force", "--", temporary])
            raise

    async def extract(self, archive: str, target: str, compression: Compression) -> None:
        """Unpack an archive that lies on the machine."""
        await self._unpack(target, [f"--file={archive}", *_PACKERS[compression]], b"")

    async def untar(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        """Unpack a stream, plain or gzip."""
        start, rest = await _first(chunks)
        packer = _PACKERS["gzip"] if start.startswith(_GZIP) else []
        await self._unpack(path, ["--file=-", *packer], rest)

    async def tar(self, path: str, members: Sequence[str] | None, *, gzip: bool) -> AsyncIterator[bytes]:
        """A directory, or these members of it, as a stream."""
        if members is None:
            found = await self._check(
                ["find", f"{path}/", "-mindepth", "1", "-maxdepth", "1", "!", "-type", "s", "-printf", r"%P\0"]
            )
            names = sorted(os.fsdecode(each) for each in found.stdout.split(b"\0") if each)
        else:
            names = [os.path.relpath(member_path(path, each), path) for each in members]
            await self._must_exist(path, names)
        argv = ["tar", "--create", "--file=-", f"--directory={path}", "--sort=name", "--hard-dereference"]
        argv += [*_PACKERS["gzip" if gzip else "none"], "--warning=no-file-changed"]
        argv += [*([] if members is None else ["--no-recursion"]), *_FROM_INPUT]
        async for chunk in self._commands.stream(self._user, argv, input=_listed(names), env=PLAIN, statuses=_CREATED):
            yield chunk

    async def select(self, path: str, selections: Sequence[TarSelection]) -> Sequence[str]:
        """Names below `path` of the files and links that are selected."""
        directories = [directory_below(path, each.directory) for each in selections]
        show = ["(", "-type", "f", "-o", "-type", "l", ")", "-printf", r"%H\0%P\0%T@\0"]
        argv = ["xargs", "--null", "--no-run-if-empty", "-I{}", "find", "./{}", *show]
        listed = _listed(list(dict.fromkeys(directories)))
        result = await self._commands.run(self._user, argv, input=listed, env=PLAIN, cwd=path, timeout=None)
        complaints = [line for line in result.stderr.splitlines() if b"No such file or directory" not in line]
        if result.exit_status and (complaints or b"cannot change directory" in result.stderr):
            raise refusal("find", result)
        fields = [os.fsdecode(each) for each in result.stdout.split(b"\0")]
        ages: dict[str, dict[str, int]] = {}
        for place, name, changed in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
            seconds, _, fraction = changed.partition(".")
            ages.setdefault(place[2:], {})[name] = int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0"))
        found: dict[str, None] = {}
        for directory, selection in zip(directories, selections, strict=True):
            names = chosen(ages.get(directory, {}), selection)
            found |= dict.fromkeys(f"{directory}/{name}" for name in names)
        return list(found)

    async def changed(self, path: str, checksums: dict[str, str]) -> Sequence[str]:
        """Which of these regular files are absent or have another SHA-256."""
        names = {os.path.relpath(member_path(path, each), path): each for each in checksums}
        there = await self._kinds(path, list(names))
        regular = [name for name, kind in there.items() if kind in (b"regular file", b"regular empty file")]
        argv = ["xargs", "--null", "--no-run-if-empty", "sha256sum", "--zero", "--"]
        result = await self._commands.run(self._user, argv, input=_listed(regular), env=PLAIN, cwd=path, timeout=None)
        if b"Permission denied" in result.stderr:
            raise refusal("sha256sum", result)
        found = {os.fsdecode(each[66:]): each[:64].decode() for each in result.stdout.split(b"\0") if each}
        return [given for name, given in names.items() if found.get(name) != checksums[given].lower()]

    async def _unpack(self, target: str, source: list[str], chunks: AsyncIterator[bytes] | bytes) -> None:
        """Unpack beside the files of `target`, then give them their names: nobody ever sees half of one."""
        stage = temporary_of(f"{target.rstrip('/')}/tar", uuid.uuid4().hex)
        await self._check(["mkdir", "--mode=700", "--", stage])
        try:
            argv = ["tar", "--extract", f"--directory={stage}", "--no-same-owner", "--delay-directory-restore", *source]
            try:
                async for _ in self._commands.stream(self._user, argv, input=chunks, env=PLAIN):
                    pass
            except InvalidRequestError as error:
                raise InvalidRequestError(
                    f"tar: This does not look like a whole tar archive: {error.message}",
                    hint="Check the archive and its compression; members must stay below the target directory.",
                ) from error
            await self._refuse_links_out(stage)
            await self._take_names(stage, target)
        finally:
            await self._commands.tidy(self._user, ["rm", "--recursive", "--force", "--", stage])

    async def _take_names(self, stage: str, target: str) -> None:
        """Give what lies in `stage` its names below `target`, by hard links: each replaces its file at once.

        Some parallel file systems have no hard links across directories; there they are copied.
        """
        found = await self._check(["find", stage, "-mindepth", "1", "-maxdepth", "1", "-print0"])
        copy = ["cp", "--recursive", "--force", "--no-dereference", "--preserve=mode,timestamps"]
        for how in (["--link"], []):
            argv = ["xargs", "--null", "--no-run-if-empty", *copy, *how, f"--target-directory={target}", "--"]
            result = await self._commands.run(self._user, argv, input=found.stdout, env=PLAIN, timeout=None)
            if not result.exit_status:
                return
        raise refusal("cp", result)

    async def _refuse_links_out(self, stage: str) -> None:
        """Links that leave the directory are refused, as on every host."""
        found = await self._check(["find", stage, "-type", "l", "-printf", r"%P\0%l\0"])
        fields = [os.fsdecode(each) for each in found.stdout.split(b"\0")]
        for path, points_to in zip(fields[::2], fields[1::2], strict=False):
            end = os.path.normpath(os.path.join(os.path.dirname(path), points_to))
            if end.startswith(("/", "../")) or end == "..":
                raise InvalidRequestError(
                    f"tar: '{printable(path)}' would link to outside the destination",
                    hint="Members must stay below the target directory.",
                )

    async def _matching(self, directory: str, name: str, pattern: str) -> list[str]:
        """The files below `name` whose path matches, as find(1) understands the expression.

        FirecREST starts in the directory above, so paths look like `./name/file`; `./file` is tried as well.
        """
        path_pattern(pattern)  # without back references the machine's own matcher is quick, too
        found: set[str] = set()
        for start, at, prefix in ((directory, f"./{name}", ""), (os.path.join(directory, name), ".", name)):
            argv = ["find", at, "-type", "f", "-regex", pattern, "-print0"]
            result = await self._commands.run(self._user, argv, env=PLAIN, cwd=start, timeout=None)
            if result.exit_status:
                if prefix and b"cannot change directory" in result.stderr:
                    continue  # a file
                raise refusal("find", result)
            paths = (os.fsdecode(each) for each in result.stdout.split(b"\0") if each)
            found |= {os.path.normpath(os.path.join(prefix, each)) for each in paths}
        return sorted(found)

    async def _must_exist(self, path: str, names: Sequence[str]) -> None:
        there = await self._kinds(path, names)
        for name in names:
            if name not in there:
                raise MissingFileError(f"tar: cannot access '{printable(name)}': No such file or directory")

    async def _kinds(self, path: str, names: Sequence[str]) -> dict[str, bytes]:
        """What kind of file each of these is, without those that are absent."""
        argv = ["xargs", "--null", "--no-run-if-empty", "stat", r"--printf=%F\0%n\0", "--"]
        result = await self._commands.run(self._user, argv, input=_listed(names), env=PLAIN, cwd=path, timeout=None)
        if b"cannot change directory" in result.stderr:
            raise refusal("stat", result)
        fields = result.stdout.split(b"\0")
        return {os.fsdecode(name): kind for kind, name in zip(fields[::2], fields[1::2], strict=False)}

    async def _check(self, argv: list[str], *, input: bytes | None = None, statuses: Sequence[int] = (0,)) -> Completed:
        result = await self._commands.run(self._user, argv, input=input, env=PLAIN, timeout=None)
        if result.exit_status not in statuses:
            raise refusal(argv[0], result)
        return result


def _listed(names: Sequence[str]) -> bytes:
    """Names on a program's standard input: a command line has too little room for many."""
    return b"".join(os.fsencode(each) + b"\0" for each in names)


async def _first(chunks: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """The first two bytes or more of a stream, and the whole of it."""
    start = b""
    async for chunk in chunks:
        start += chunk
        if len(start) >= len(_GZIP):
            break

    async def whole() -> AsyncIterator[bytes]:
        yield start
        async for chunk in chunks:
            yield chunk

    return start, whole()
