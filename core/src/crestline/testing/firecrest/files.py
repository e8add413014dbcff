"""`/filesystem/{system}/ops`: the routes of the synchronous file endpoints, and those for names and attributes."""

from __future__ import annotations

import os
import shlex

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crestline.testing.firecrest import file_contents
from crestline.testing.firecrest.directory_listing import listed, listed_itself
from crestline.testing.firecrest.endpoint import Call, route
from crestline.testing.firecrest.paths import check_quotes, checked
from crestline.testing.firecrest.refusals import invalid, remote_failure
from crestline.testing.firecrest.remote_command import failed, run
from crestline.testing.firecrest.state import FacilityState

TAR_FLAGS = {"none": "", "gzip": "z", "bzip2": "j", "xz": "J"}


def routes(facility: FacilityState) -> list[Route]:
    """Return the routes of these endpoints."""
    ops, need = "/filesystem/{system}/ops", "filesystem"
    reading = {
        "ls": ls,
        "stat": stat,
        "head": file_contents.head,
        "tail": file_contents.tail,
        "view": file_contents.view,
        "checksum": file_contents.checksum,
        "file": file_contents.file_type,
        "download": file_contents.download,
    }
    changing = {
        "mkdir": (mkdir, "POST"),
        "symlink": (symlink, "POST"),
        "chmod": (chmod, "PUT"),
        "chown": (chown, "PUT"),
        "compress": (compress, "POST"),
        "extract": (extract, "POST"),
    }
    return [
        *(route(facility, f"{ops}/{name}", handler, needs=need) for name, handler in reading.items()),
        *(route(facility, f"{ops}/{n}", handler, m, needs=need, body="json") for n, (handler, m) in changing.items()),
        route(facility, f"{ops}/upload", file_contents.upload, "POST", needs=need, body="form"),
        route(facility, f"{ops}/rm", rm, "DELETE", needs=need),
    ]


def ls(call: Call) -> Response:
    """List a directory, with `recursive` including sub-directories, whose files are named by relative path."""
    files = listed(
        call,
        checked(call),
        hidden=call.flag("showHidden"),
        numeric=call.flag("numericUid"),
        recursive=call.flag("recursive"),
        dereference=call.flag("dereference"),
    )
    return JSONResponse({"output": files})


def stat(call: Call) -> Response:
    """Return the attributes of a file as in `stat`: sizes in bytes, times in whole seconds since 1970."""
    path = checked(call)
    try:
        found = os.stat(path) if call.flag("dereference") else os.lstat(path)
    except OSError as error:
        raise failed("stat", path, error, "cannot statx") from None
    names = ("mode", "ino", "dev", "nlink", "uid", "gid", "size", "atime", "ctime", "mtime")
    shown = {name: int(getattr(found, f"st_{name}")) for name in names}
    return JSONResponse({"output": shown | {"uid": call.user.uid, "gid": call.user.uid}})


def mkdir(call: Call) -> Response:
    """Create a directory: 201. If it exists, 400 unless `parent` is set."""
    path = checked(call, in_body=True)
    run(call, "mkdir", *(["-p"] if call.body.get("parent") else []), "--", path)
    return JSONResponse({"output": listed_itself(call, path)}, status_code=201)


def symlink(call: Call) -> Response:
    """Create a symbolic link: 201."""
    path, link = checked(call, in_body=True), _required(call, "linkPath", "link_path")
    run(call, "ln", "-s", "--", path, link)
    return JSONResponse({"output": listed_itself(call, link)}, status_code=201)


def chmod(call: Call) -> Response:
    """Change the mode of a file: 200."""
    path, mode = checked(call, in_body=True), _required(call, "mode")
    run(call, "chmod", "-v", mode, "--", path)
    return JSONResponse({"output": listed_itself(call, path)})


def chown(call: Call) -> Response:
    """Change the owner of a file: 200. Only the current owner is possible, as all users share one real uid."""
    path = checked(call, in_body=True)
    known = {user.name for user in call.facility.settings.users}
    for kind, name in (("user", call.text("owner")), ("group", call.text("group"))):
        if name and name not in known:
            raise remote_failure(1, f"chown: invalid {kind}: '{name}'")
        if name and name != call.user.name:
            raise remote_failure(1, f"chown: changing ownership of '{path}': Operation not permitted")
    return JSONResponse({"output": listed_itself(call, path)})


def rm(call: Call) -> Response:
    """Delete a file, or a directory with its contents: 204."""
    run(call, "rm", "-r", "--interactive=never", "--", checked(call))
    return Response(status_code=204)


def compress(call: Call) -> Response:
    """Create an archive: 204. With a match pattern, it is always gzip."""
    path, target, flag = checked(call, in_body=True), _required(call, "targetPath", "target_path"), tar_flag(call)
    options = ["--dereference"] if call.body.get("dereference") else []
    pattern = call.text("matchPattern", "match_pattern")
    directory, name = os.path.split(path)
    if pattern:
        check_quotes(call, pattern)
        bare = call.facility.faults.compress_script_leaves_directory_bare
        place = directory if bare else f"'{directory}'"
        pack = f"tar {' '.join(options)} -czf '{target}' --null --files-from -"
        inner = f"cd {place}; find . -type f -regex '{pattern}' -print0 | {pack} "
        run(call, "bash", "-c", f'bash -c "{inner}"' if bare else f"bash -c {shlex.quote(inner)}")
    else:
        run(call, "tar", *options, f"-c{flag}f", target, "-C", directory, name)
    return Response(status_code=204)


def extract(call: Call) -> Response:
    """Extract an archive into an existing directory: 204."""
    path, target, flag = checked(call, in_body=True), _required(call, "targetPath", "target_path"), tar_flag(call)
    run(call, "tar", f"-x{flag}f", path, "-C", target)
    return Response(status_code=204)


def tar_flag(call: Call) -> str:
    """Return tar's option letter for the requested compression (gzip by default)."""
    name = call.text("compression") or "gzip"
    if name not in TAR_FLAGS:
        raise invalid("body", "compression", "Input should be 'none', 'bzip2', 'gzip' or 'xz'", value=name)
    return TAR_FLAGS[name]


def _required(call: Call, *names: str) -> str:
    value = call.text(*names)
    if value is None:
        raise invalid("body", names[0], "Field required")
    check_quotes(call, value)
    return value
