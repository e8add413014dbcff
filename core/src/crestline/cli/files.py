"""`crestline ls`, `cat`, `tail`, `cp`, `mv`, `rm` and `mkdir`."""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from crestline.cli.completion import complete_paths, complete_remote_paths
from crestline.cli.connecting import on_system
from crestline.cli.errors import UsageError
from crestline.cli.help import make_app
from crestline.cli.options import Json, Site
from crestline.cli.output import note, one_line, print_json, print_table, write
from crestline.cli.path_argument import parse_remote_path
from crestline.cli.progress import progress_bar
from crestline.cli.remote import is_directory, naming_missing_directory, read_file, read_last_lines
from crestline.cli.several import Several
from crestline.model import File, FileMissingError, InvalidRequestError

if TYPE_CHECKING:
    from crestline.client import System
    from crestline.client.files import TransferReport

app = make_app()

_WHERE = "Relative paths start at the user's default directory. Also SYSTEM@SITE:PATH."


@app.command()
def ls(
    path: Annotated[
        str,
        typer.Argument(metavar="[PATH]", help=_WHERE, show_default=False, autocompletion=complete_remote_paths),
    ] = "",
    long: Annotated[bool, typer.Option("--long", "-l", help="Permissions, owner, size and time too.")] = False,
    hidden: Annotated[bool, typer.Option("--all", "-a", help="Names that begin with a dot too.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-R", help="What is in directories too.")] = False,
    site: Site = None,
    json: Json = False,
) -> None:
    """List a directory of the system."""
    place = parse_remote_path(path, site, remote=True)

    async def action(system: System) -> list[File]:
        directory = await system.resolve_path(place.path)
        async with naming_missing_directory(system, posixpath.join(directory, "")):
            return await system.ls(directory, hidden=hidden, recursive=recursive)

    files = on_system(place.site, action, retry=False)
    if json:
        print_json(files)
    elif long:
        rows = [
            [f"{file.type}{file.permissions}", file.user, file.group, file.size, file.modified, _shown(file)]
            for file in files
        ]
        print_table(("MODE", "USER", "GROUP", "SIZE", "MODIFIED", "NAME"), rows, right=("SIZE",))
    else:
        for file in files:
            print(one_line(file.name))


@app.command()
def cat(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help=_WHERE, autocompletion=complete_remote_paths)],
    site: Site = None,
    json: Json = False,
) -> None:
    """Print files of the system, byte for byte; with --json as text."""

    async def show(system: System, path: str) -> None:
        if json:
            content = b"".join([chunk async for chunk in read_file(system, path)])
            print_json({"path": path, "text": content.decode(errors="replace")})
            return
        async for chunk in read_file(system, path):
            write(chunk)

    _each(paths, site, show, json=json)


@app.command()
def cp(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... TARGET",
            help="On the system: `:PATH` or `SYSTEM@SITE:PATH`.",
            autocompletion=complete_paths,
        ),
    ],
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Include directories and their content.")
    ] = False,
    site: Site = None,
    json: Json = False,
) -> None:
    """Copy files to or from the system; repeat the command to resume after an interruption.

    Files that are identical on both sides are skipped. A directory is copied to TARGET, or into TARGET if that ends
    in a slash (or is `.`, `..` or `:`), whether TARGET exists or not. So repeating the command completes the copy.
    """
    if len(paths) < 2:
        raise UsageError("cp needs a source and a target.")
    *sources, target = places = [parse_remote_path(path, site) for path in paths]
    systems = {place.site for place in places if place.remote}
    if not systems:
        raise UsageError("None of these is on a system: write `:PATH` or `SYSTEM@SITE:PATH`.")
    if len(systems) > 1 or len({source.remote for source in sources}) > 1:
        raise UsageError("The sources must be in one place, and only one system takes part.")

    async def action(system: System) -> TransferReport:
        from crestline.cli.copy import copy_all

        with progress_bar() as progress:
            return await copy_all(system, sources, target, recursive=recursive, progress=progress, json=json)

    report = on_system(systems.pop(), action)
    if json:
        print_json(report)
    for path in report.excluded:
        note(f"left out: {path}")


@app.command()
def tail(
    path: Annotated[str, typer.Argument(metavar="PATH", help=_WHERE, autocompletion=complete_remote_paths)],
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many lines of its end.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is added, until Ctrl-C.")] = False,
    site: Site = None,
) -> None:
    """Print the end of a text file of the system."""
    place = parse_remote_path(path, site, remote=True)

    async def action(system: System) -> None:
        source = await system.resolve_path(place.path)
        async with naming_missing_directory(system, source):
            content, position = await read_last_lines(system, source, lines)
        write(content)
        if follow:
            async for text in system.follow(source, position=position):
                write(text)

    on_system(place.site, action, retry=follow)


@app.command()
def mkdir(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help=_WHERE, autocompletion=complete_remote_paths)],
    parents: Annotated[bool, typer.Option("--parents", "-p", help="Those above it too; none need be new.")] = False,
    site: Site = None,
) -> None:
    """Make directories on the system."""
    _each(paths, site, lambda system, path: system.mkdir(path, parents=parents))


@app.command()
def rm(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help=_WHERE, autocompletion=complete_remote_paths)],
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Include directories and their content.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Ignore files that do not exist.")] = False,
    site: Site = None,
) -> None:
    """Remove files of the system."""
    from crestline.cli.remote_files import check_deletable

    async def remove(system: System, path: str) -> None:
        try:
            if await is_directory(system, path, follow=path.endswith("/")):
                if not recursive:
                    raise InvalidRequestError(f"{path} is a directory.", hint="Remove it with -r.")
                await check_deletable(system, path)
            await system.remove(path)
        except FileMissingError:
            if not force:
                raise

    _each(paths, site, remove)


@app.command()
def mv(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE... TARGET", help=_WHERE, autocompletion=complete_remote_paths),
    ],
    site: Site = None,
) -> None:
    """Move or rename files within the system; into TARGET if that is a directory. Plain FirecREST does this in a
    job."""
    if len(paths) < 2:
        raise UsageError("mv needs a source and a target.")
    *sources, target = [parse_remote_path(path, site, remote=True) for path in paths]
    if {place.site for place in sources} != {target.site}:
        raise UsageError("All must be on one system; `cp` copies between this machine and a system.")

    from crestline.cli.remote_files import check_deletable

    async def action(system: System) -> None:
        into = await system.resolve_path(target.path)
        directory = await is_directory(system, into)
        if (len(sources) > 1 or target.path.endswith("/")) and not directory:
            raise InvalidRequestError(f"{target.path} is not a directory.", hint="Make it first: crestline mkdir.")
        several = Several([source.path for source in sources])
        for source in sources:
            path = await system.resolve_path(source.path)
            with several.one(source.path):
                if await is_directory(system, path, follow=path.endswith("/")):
                    await check_deletable(system, path)
                end = posixpath.join(into, posixpath.basename(path.rstrip("/"))) if directory else into
                await system.move(path, end)
        several.raise_any()

    on_system(target.site, action)


def _each(
    paths: list[str], site: str | None, work: Callable[[System, str], Awaitable[None]], *, json: bool = False
) -> None:
    """Run the same action for every path, on the system that the path names."""
    several = Several(paths, json=json)
    for path in paths:
        place = parse_remote_path(path, site, remote=True)

        async def action(system: System, path: str = place.path) -> None:
            whole = await system.resolve_path(path)
            async with naming_missing_directory(system, whole):
                await work(system, whole)

        with several.one(path):
            on_system(place.site, action, retry=False)
    several.raise_any()


def _shown(file: File) -> str:
    return f"{file.name} -> {file.link_target}" if file.link_target else file.name
