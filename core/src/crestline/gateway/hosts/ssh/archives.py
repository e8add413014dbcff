"""Tar archives and tar streams, by the machine's own tar(1)."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import ParamSpec, TypeVar

from crestline.gateway.hosts.base import MAX_OUTPUT, Completed
from crestline.gateway.hosts.refusals import too_many_entries, unpacks_to_too_much
from crestline.gateway.hosts.selections import Selector, path_pattern
from crestline.gateway.hosts.ssh.commands import PLAIN, SshCommands
from crestline.gateway.hosts.ssh.errors import reading, refusal
from crestline.gateway.hosts.ssh.temporaries import Temporaries
from crestline.gateway.hosts.streams import temporary_of
from crestline.gateway.hosts.threads import ThreadShares
from crestline.gateway.paths import directory_below, member_path, printable
from crestline.model import FileMissingError, InvalidRequestError
from crestline.wire.extensions import TarSelection
from crestline.wire.filesystem import Compression
from crestline.wire.tar import ALLOWANCE, ArchiveLimits

P = ParamSpec("P")
T = TypeVar("T")

_PACKERS = {"none": [], "gzip": ["--gzip"], "bzip2": ["--bzip2"], "xz": ["--xz"]}
_GZIP = b"\x1f\x8b"
_CREATED = (0, 1)
"""Exit statuses of tar after a complete archive. 1 means that a file changed while it was read."""
_RECORD = 10 * 1024
_MAX_LINE = 1 << 20
_TELLING = ["-vv", "--numeric-owner", "--quoting-style=escape", "--checkpoint=100"]
"""Options for a line per member on standard output, and a line per 100 records on standard error."""
_CHECKPOINT = re.compile(rb"tar: Read checkpoint (\d+)")
_FROM_INPUT = ["--null", "--verbatim-files-from", "--files-from=-"]


class Archives:
    """Packs and unpacks archives as one user."""

    def __init__(
        self, user: str, commands: SshCommands, temporaries: Temporaries, threads: ThreadShares, limits: ArchiveLimits
    ) -> None:
        self._user = user
        self._commands = commands
        self._temporaries = temporaries
        self._threads = threads
        self._limits = limits

    async def compress(
        self, source: str, target: str, compression: Compression, *, pattern: str | None, dereference: bool
    ) -> None:
        """Write an archive under a temporary name and rename it."""
        directory, name = os.path.split(source)
        names = await self._matching(directory, name, pattern) if pattern else _listed([name])
        temporary = temporary_of(target, uuid.uuid4().hex)
        argv = ["tar", "--create", f"--file={temporary}", f"--directory={directory}", *_PACKERS[compression]]
        argv += ["--dereference"] if dereference else []
        itself = [os.path.relpath(each, directory) for each in (temporary, target)]
        argv += ["--no-wildcards", "--anchored", *(f"--exclude={each}" for each in itself)]
        argv += ["--warning=no-file-changed", *(["--no-recursion"] if pattern else []), *_FROM_INPUT]
        async with self._temporaries.use(temporary, is_renamed=True):
            await self._check(argv, input=names, statuses=_CREATED)
            await self._check(["mv", "--force", "--no-target-directory", "--", temporary, target])

    async def extract(self, archive: str, target: str, compression: Compression) -> None:
        """Unpack an archive on the machine.

        Raises:
            TooLargeError: the archive exceeds a limit.
        """
        size = await self._check(["stat", "--dereference", "--printf=%s", "--", archive])
        progress = _Progress(self._limits)
        with reading("stat"):
            progress.came = int(size.stdout)
        await self._unpack(target, [f"--file={archive}", *_PACKERS[compression]], b"", progress)

    async def untar(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        """Unpack a stream, plain or gzip.

        Raises:
            TooLargeError: the stream exceeds a limit.
        """
        progress = _Progress(self._limits)
        start, rest = await _first(progress.counted(chunks))
        packer = _PACKERS["gzip"] if start.startswith(_GZIP) else []
        await self._unpack(path, ["--file=-", *packer], rest, progress)

    async def tar(self, path: str, members: Sequence[str] | None, *, gzip: bool) -> AsyncIterator[bytes]:
        """Stream a directory, or these members of it."""
        if members is None:
            found = await self._find(
                ["find", f"{path}/", "-mindepth", "1", "-maxdepth", "1", "!", "-type", "s", "-printf", r"%P\0"]
            )
            listed = await self._in_thread(_sorted, found)
        else:
            names = await self._in_thread(lambda: [os.path.relpath(member_path(path, each), path) for each in members])
            await self._must_exist(path, names)
            listed = await self._in_thread(_listed, names)
        argv = ["tar", "--create", "--file=-", f"--directory={path}", "--sort=name", "--hard-dereference"]
        argv += [*_PACKERS["gzip" if gzip else "none"], "--warning=no-file-changed"]
        argv += [*([] if members is None else ["--no-recursion"]), *_FROM_INPUT]
        async for chunk in self._commands.stream(self._user, argv, input=listed, env=PLAIN, statuses=_CREATED):
            yield chunk

    async def select(self, path: str, selections: Sequence[TarSelection]) -> Sequence[str]:
        """Return the names of the selected files and links below `path`.

        Raises:
            TooLargeError: the number of selections, patterns or files is too large.
        """
        selector = Selector(selections)
        directories = [directory_below(path, each.directory) for each in selections]
        show = ["(", "-type", "f", "-o", "-type", "l", ")", "-printf", r"%H\0%P\0%T@\0"]
        argv = ["xargs", "--null", "--no-run-if-empty", "-I{}", "find", "./{}", *show]
        listed = _listed(list(dict.fromkeys(directories)))
        found = await self._find(argv, fields=3, input=listed, cwd=path, forgive=_is_absent)
        with reading("find"):
            return await self._in_thread(_chosen, found, directories, selections, selector)

    async def changed(self, path: str, checksums: dict[str, str]) -> Sequence[str]:
        """Return which of these regular files are missing or have another SHA-256."""
        names = await self._in_thread(
            lambda: {os.path.relpath(member_path(path, each), path): each for each in checksums}
        )
        there = await self._kinds(path, list(names))

        def regular() -> bytes:
            return _listed([name for name, kind in there.items() if kind in (b"regular file", b"regular empty file")])

        def differing(output: bytes) -> list[str]:
            found = {os.fsdecode(each[66:]): each[:64].decode() for each in output.split(b"\0") if each}
            return [given for name, given in names.items() if found.get(name) != checksums[given].lower()]

        argv = ["xargs", "--null", "--no-run-if-empty", "sha256sum", "--zero", "--"]
        listed = await self._in_thread(regular)
        result = await self._commands.run(
            self._user, argv, input=listed, env=PLAIN, cwd=path, timeout=None, max_output=MAX_OUTPUT
        )
        if b"Permission denied" in result.stderr:
            raise refusal("sha256sum", result)
        with reading("sha256sum"):
            return await self._in_thread(differing, result.stdout)

    async def _unpack(
        self, target: str, source: list[str], chunks: AsyncIterator[bytes] | bytes, progress: _Progress
    ) -> None:
        """Unpack beside the files of `target`, then rename, so that readers never see an incomplete file."""
        stage = temporary_of(f"{target.rstrip('/')}/tar", uuid.uuid4().hex)
        async with self._temporaries.use(stage, is_renamed=False):
            await self._check(["mkdir", "--mode=700", "--", stage])
            argv = ["tar", "--extract", f"--directory={stage}", "--no-same-owner", "--delay-directory-restore"]
            argv += [*_TELLING, *source]
            try:
                output = self._commands.stream(self._user, argv, input=chunks, env=PLAIN, progress=progress.read)
                async with aclosing(output):
                    async for chunk in output:
                        progress.listed(chunk)
            except InvalidRequestError as error:
                raise InvalidRequestError(
                    f"tar: This does not look like a whole tar archive: {error.message}",
                    hint="Check the archive and its compression; members must stay below the target directory.",
                ) from error
            await self._refuse_links_out(stage)
            await self._link_into_place(stage, target)

    async def _link_into_place(self, stage: str, target: str) -> None:
        """Give the files in `stage` their names below `target` by hard links, each of which replaces its file
        atomically.

        Some parallel file systems have no hard links across directories. There the files are copied.
        """
        found = await self._find(["find", stage, "-mindepth", "1", "-maxdepth", "1", "-print0"])
        copy = ["cp", "--recursive", "--force", "--no-dereference", "--preserve=mode,timestamps"]
        for how in (["--link"], []):
            argv = ["xargs", "--null", "--no-run-if-empty", *copy, *how, f"--target-directory={target}", "--"]
            result = await self._commands.run(self._user, argv, input=found, env=PLAIN, timeout=None)
            if not result.exit_status:
                return
        raise refusal("cp", result)

    async def _refuse_links_out(self, stage: str) -> None:
        """Refuse links that leave the directory, as on every host."""
        found = await self._find(["find", stage, "-type", "l", "-printf", r"%P\0%l\0"], fields=2)
        await self._in_thread(_check_links, found)

    async def _matching(self, directory: str, name: str, pattern: str) -> bytes:
        """Return the files below `name` whose path matches the expression of find(1), each with a NUL.

        Match as FirecREST, which starts in the parent directory, so that paths look like `./name/file`; also try
        `./file`.
        """
        path_pattern(pattern)  # without back references the machine's own matcher is fast, too
        outputs: list[tuple[str, bytes]] = []
        for start, at, prefix in ((directory, f"./{name}", ""), (os.path.join(directory, name), ".", name)):
            argv = ["find", at, "-type", "f", "-regex", pattern, "-print0"]
            forgive = _is_no_directory if prefix else None  # a file
            outputs.append((prefix, await self._find(argv, cwd=start, forgive=forgive)))
        return await self._in_thread(_joined, outputs)

    async def _must_exist(self, path: str, names: Sequence[str]) -> None:
        there = await self._kinds(path, names)
        for name in names:
            if name not in there:
                raise FileMissingError(f"tar: cannot access '{printable(name)}': No such file or directory")

    async def _kinds(self, path: str, names: Sequence[str]) -> dict[str, bytes]:
        """Return the kind of each of these files, without missing ones."""
        argv = ["xargs", "--null", "--no-run-if-empty", "stat", r"--printf=%F\0%n\0", "--"]
        listed = await self._in_thread(_listed, names)
        result = await self._commands.run(
            self._user, argv, input=listed, env=PLAIN, cwd=path, timeout=None, max_output=MAX_OUTPUT
        )
        if _is_no_directory(result.stderr):
            raise refusal("stat", result)

        def kinds() -> dict[str, bytes]:
            fields = result.stdout.split(b"\0")
            return {os.fsdecode(name): kind for kind, name in zip(fields[::2], fields[1::2], strict=False)}

        return await self._in_thread(kinds)

    async def _find(
        self,
        argv: list[str],
        *,
        fields: int = 1,
        input: bytes = b"",
        cwd: str | None = None,
        forgive: Callable[[bytes], bool] | None = None,
    ) -> bytes:
        """Return the output of a program that writes the values of `fields`, each with a NUL, for each file.

        Raises:
            TooLargeError: the number of files exceeds the limit of an archive.
        """
        chunks: list[bytes] = []
        texts = came = 0
        output = self._commands.stream(self._user, argv, input=input, env=PLAIN, cwd=cwd, forgive=forgive)
        async with aclosing(output):
            async for chunk in output:
                chunks.append(chunk)
                texts += chunk.count(b"\0")
                came += len(chunk)
                if 0 < self._limits.members * fields < texts or came > MAX_OUTPUT:
                    raise too_many_entries(self._limits.members)
        return b"".join(chunks)

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work in a thread whose duration depends on what the user sent or has."""
        return await self._threads.run(self._user, partial(work, *args, **kwargs))

    async def _check(self, argv: list[str], *, input: bytes | None = None, statuses: Sequence[int] = (0,)) -> Completed:
        result = await self._commands.run(self._user, argv, input=input, env=PLAIN, timeout=None)
        if result.exit_status not in statuses:
            raise refusal(argv[0], result)
        return result


class _Progress:
    """Checks tar(1)'s progress reports during unpacking against the limits of this system; 0 means unlimited."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self.came = 0
        """Received bytes of the packed archive."""
        self._limits = limits
        self._rest = b""
        self._before: list[bytes] = []
        self._members = self._bytes = 0

    async def counted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self.came += len(chunk)
            yield chunk

    def read(self, line: bytes) -> bool:
        """Parse a line about the bytes read from the archive.

        Raises:
            TooLargeError: the unpacked size is too large for the received bytes.
        """
        found = _CHECKPOINT.fullmatch(line)
        if found is None:
            return False
        if self._limits.ratio > 0 and int(found[1][:20]) * _RECORD > ALLOWANCE + self._limits.ratio * self.came:
            raise unpacks_to_too_much(f"more than {self._limits.ratio} bytes for each of its own")
        return True

    def listed(self, chunk: bytes) -> None:
        """Parse a part of the list of members, which `tar -vv` prints before it unpacks each.

        Raises:
            TooLargeError: the number, size or depth of members exceeds a limit.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > _MAX_LINE:
            raise unpacks_to_too_much(f"a name of more than {_MAX_LINE} bytes")
        for line in lines:
            fields = line.split(None, 5)
            self._bytes += int(fields[2][:20]) if len(fields) > 2 and fields[2].isdigit() else 0
            name = fields[5].partition(b" -> ")[0].partition(b" link to ")[0] if len(fields) > 5 else b""
            path = name.strip(b"/").split(b"/")
            # A member counts together with its parent directories that the previous member did not have.
            self._members += max(1, len(path) - _shared(path[:-1], self._before))
            self._before = path
            if 0 < self._limits.depth < len(path) - 1:
                raise unpacks_to_too_much(f"a path of more than {self._limits.depth} directories")
        if 0 < self._limits.members < self._members:
            raise unpacks_to_too_much(f"more than {self._limits.members} members")
        if 0 < self._limits.bytes < self._bytes:
            raise unpacks_to_too_much(f"more than {self._limits.bytes} bytes")


def _shared(one: list[bytes], other: list[bytes]) -> int:
    """Return the number of leading parts that two paths share."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _chosen(
    found: bytes, directories: Sequence[str], selections: Sequence[TarSelection], selector: Selector
) -> list[str]:
    """Return the selected names from find(1)'s output for all directories."""
    fields = [os.fsdecode(each) for each in found.split(b"\0")]
    ages: dict[str, dict[str, int]] = {}
    for place, name, changed in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        seconds, _, fraction = changed.partition(".")
        ages.setdefault(place[2:], {})[name] = int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0"))
    selected: dict[str, None] = {}
    for directory, selection in zip(directories, selections, strict=True):
        names = selector.choose(ages.get(directory, {}), selection)
        selected |= dict.fromkeys(f"{directory}/{name}" for name in names)
    return list(selected)


def _check_links(found: bytes) -> None:
    fields = [os.fsdecode(each) for each in found.split(b"\0")]
    for path, points_to in zip(fields[::2], fields[1::2], strict=False):
        end = os.path.normpath(os.path.join(os.path.dirname(path), points_to))
        if end.startswith(("/", "../")) or end == "..":
            raise InvalidRequestError(
                f"tar: '{printable(path)}' would link to outside the destination",
                hint="Members must stay below the target directory.",
            )


def _joined(outputs: Sequence[tuple[str, bytes]]) -> bytes:
    """Return the paths that find(1) printed, below their prefixes, sorted and without duplicates."""
    return _listed(
        sorted(
            {
                os.path.normpath(os.path.join(prefix, os.fsdecode(each)))
                for prefix, output in outputs
                for each in output.split(b"\0")
                if each
            }
        )
    )


def _sorted(found: bytes) -> bytes:
    return _listed(sorted(os.fsdecode(each) for each in found.split(b"\0") if each))


def _is_no_directory(complaint: bytes) -> bool:
    return b"cannot change directory" in complaint


def _is_absent(complaint: bytes) -> bool:
    return b"No such file or directory" in complaint and not _is_no_directory(complaint)


def _listed(names: Sequence[str]) -> bytes:
    """Encode names for a program's standard input, because a command line has too little room for many."""
    return b"".join(os.fsencode(each) + b"\0" for each in names)


async def _first(chunks: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """Return the first two or more bytes of a stream, and the whole stream."""
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
