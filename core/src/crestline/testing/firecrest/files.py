"""`/filesystem/{system}/ops`: the table of the synchronous file endpoints, and those that look at or change names."""

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
    """The endpoints."""
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
    """The files in a directory; in sub-directories too (`recursive`), named by their path from there."""
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
    """The numbers of `stat`: sizes in bytes, times in whole seconds since 1970."""
    path = checked(call)
    try:
        found = os.stat(path) if call.flag("dereference") else os.lstat(path)
    except OSError as error:
        raise failed("stat", path, error, "cannot statx") from None
    names = ("mode", "ino", "dev", "nlink", "uid", "gid", "size", "atime", "ctime", "mtime")
    shown = {name: int(getattr(found, f"st_{name}")) for name in names}
    return JSONResponse({"output": shown | {"uid": call.user.uid, "gid": call.user.uid}})


def mkdir(call: Call) -> Response:
    """201 with the new directory; 400 where it exists, unless `parent` is set."""
    path = checked(call, in_body=True)
    run(call, "mkdir", *(["-p"] if call.body.get("parent") else []), "--", path)
    return JSONResponse({"output": listed_itself(call, path)}, status_code=201)


def symlink(call: Call) -> Response:
    """201 with the new link."""
    path, link = checked(call, in_body=True), _required(call, "linkPath", "link_path")
    run(call, "ln", "-s", "--", path, link)
    return JSONResponse({"output": listed_itself(call, link)}, status_code=201)


def chmod(call: Call) -> Response:
    """200 with the changed file."""
    path, mode = checked(call, in_body=True), _required(call, "mode")
    run(call, "chmod", "-v", mode, "--", path)
    return JSONResponse({"output": listed_itself(call, path)})


def chown(call: Call) -> Response:
    """200 with the file, which is only ever given to who has it: users of a stand-in are one real uid."""
    path = checked(call, in_body=True)
    known = {user.name for user in call.facility.settings.users}
    for kind, name in (("user", call.text("owner")), ("group", call.text("group"))):
        if name and name not in known:
            raise remote_failure(1, f"chown: invalid {kind}: '{name}'")
        if name and name != call.user.name:
            raise remote_failure(1, f"chown: changing ownership of '{path}': Operation not permitted")
    return JSONResponse({"output": listed_itself(call, path)})


def rm(call: Call) -> Response:
    """204; directories with everything in them."""
    run(call, "rm", "-r", "--interactive=never", "--", checked(call))
    return Response(status_code=204)


def compress(call: Call) -> Response:
    """204; with a match pattern the archive is gzip whatever was asked."""
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
    """204; into a directory that exists."""
    path, target, flag = checked(call, in_body=True), _required(call, "targetPath", "target_path"), tar_flag(call)
    run(call, "tar", f"-x{flag}f", path, "-C", target)
    return Response(status_code=204)


def tar_flag(call: Call) -> str:
    """tar's letter for the compression that is asked for (gzip by default)."""
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
