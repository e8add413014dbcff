"""`/filesystem/{system}/transfer`: file operations that run as scheduler jobs, and S3 uploads and downloads."""

from __future__ import annotations

import html
import os
import shlex
import uuid
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crestline.testing.firecrest import transfer_scripts as scripts
from crestline.testing.firecrest.endpoint import Call, route
from crestline.testing.firecrest.files import tar_flag
from crestline.testing.firecrest.paths import check_quotes
from crestline.testing.firecrest.refusals import Refusal, invalid
from crestline.testing.firecrest.remote_command import failed
from crestline.testing.firecrest.scheduler import Order
from crestline.testing.firecrest.state import FacilityState


def routes(facility: FacilityState) -> list[Route]:
    """Return the routes of these endpoints."""
    transfer = "/filesystem/{system}/transfer"
    posts = {"mv": mv, "cp": cp, "compress": compress, "extract": extract}
    return [
        *(route(facility, f"{transfer}/{n}", h, "POST", needs="filesystem", body="json") for n, h in posts.items()),
        route(facility, f"{transfer}/rm", rm, "DELETE", needs="filesystem"),
        route(facility, f"{transfer}/upload", upload, "POST", needs="scheduler", body="json"),
        route(facility, f"{transfer}/download", download, "POST", needs="scheduler", body="json"),
    ]


def mv(call: Call) -> Response:
    """Rename or move a file or directory."""
    command = f"mv -- {_single(call, _path(call))} {_single(call, _target(call))}"
    return _answer(call, 201, _command_job(call, "MoveFiles", command, "moved"))


def cp(call: Call) -> Response:
    """Copy a file or directory."""
    follow = "L" if call.body.get("dereference") else "d"
    options = f"--force -R{follow} --preserve=all"
    command = f"cp {options} -- {_single(call, _path(call))} {_single(call, _target(call))}"
    return _answer(call, 201, _command_job(call, "CopyFiles", command, "copied"))


def rm(call: Call) -> Response:
    """Delete a file or directory: 200, unlike the others."""
    path = call.query.get("path")
    if path is None:
        raise invalid("query", "path", "Field required")
    return _answer(call, 200, _command_job(call, "DeleteFiles", f"rm -R -- {_single(call, path)}", "deleted"))


def compress(call: Call) -> Response:
    """Create a tar archive."""
    directory, name = os.path.split(_path(call))
    follow = "--dereference" if call.body.get("dereference") else ""
    pattern = call.text("matchPattern", "match_pattern")
    target = _single(call, _target(call))
    if pattern:
        place = _bare(call, directory, call.facility.faults.compress_script_leaves_directory_bare)
        find = f"cd {place}; find . -type f -regex {_single(call, pattern)} -print0"
        command = f"{find} | tar {follow} -c{tar_flag(call)}vf {target} --null --files-from -"
    else:
        place = f"-C {_single(call, directory)} {_single(call, name)}"
        command = f"tar {follow} -c{tar_flag(call)}vf {target} {place}"
    return _answer(call, 201, _command_job(call, "CompressFiles", command, "compressed", lists=bool(pattern)))


def extract(call: Call) -> Response:
    """Extract a tar archive."""
    command = f"tar -x{tar_flag(call)}f {_single(call, _path(call))} -C {_single(call, _target(call))}"
    return _answer(call, 201, _command_job(call, "ExtractFiles", command, "extracted"))


def upload(call: Call) -> Response:
    """Return the upload URLs of the parts, and submit a job that waits for the object and then writes the file."""
    asked, settings, store = _s3_directives(call), call.facility.settings, call.facility.store
    size = asked.get("fileSize", asked.get("file_size"))
    if size is None:
        raise Refusal(500, "(\"unsupported operand type(s) for /: 'NoneType' and 'int'\",)")
    target = _path(call)
    key = store.new_key(call.user.name, Path(target).name)
    parts, complete = store.upload_urls(key, max(1, -(-int(size) // settings.max_part_size)))
    word = _double(call, target) if call.facility.faults.fetch_script_double_quotes_target else _single(call, target)
    script = scripts.fetch(shlex.quote(str(store.path(key))), word, settings.upload_poll)
    directives = {
        "transferMethod": "s3",
        "partsUploadUrls": parts,
        "completeUploadUrl": complete,
        "maxPartSize": settings.max_part_size,
    }
    return _answer(call, 201, _job(call, "IngressFileTransfer", script), directives)


def download(call: Call) -> Response:
    """Return a download URL that works once the job has stored the object."""
    _s3_directives(call)
    path, store, settings, faults = _path(call), call.facility.store, call.facility.settings, call.facility.faults
    check_quotes(call, path)
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise failed("stat", path, error, "cannot statx") from None
    key = store.new_key(call.user.name, Path(path).name)
    source = _bare(call, path, faults.offer_script_leaves_source_bare)
    follow = "" if faults.offer_script_measures_links else "-L"
    script = scripts.offer(source, shlex.quote(str(store.path(key))), -(-size // settings.max_part_size), follow)
    directives = {"transferMethod": "s3", "downloadUrl": store.download_url(key)}
    return _answer(call, 201, _job(call, "OutgressFileTransfer", script), directives)


def _command_job(call: Call, name: str, command: str, done: str, lists: bool = False) -> dict[str, Any]:
    return _job(call, name, scripts.command(command, done, call.facility.faults.failed_transfer_completes, lists))


def _job(call: Call, name: str, script: str) -> dict[str, Any]:
    """Submit a transfer job and return its description. Its logs are hidden files in the default working directory."""
    settings, unique = call.facility.settings, uuid.uuid4()
    if not call.user.has_ssh_key:
        reason = f"No SSH credentials found for user:{call.user.name}"
        raise Refusal(500, "Error executing Slurm command.", caused_by=[reason])
    workdir = settings.home_of(call.user.name)
    output = f"{workdir}/.f7t_file_handling_job_{unique}.log"
    error = f"{workdir}/.f7t_file_handling_job_error_{unique}.log"
    account = call.query.get("account") or call.text("account")
    directives = "\n".join(settings.transfer_directives)
    if "{account}" in directives:
        if account is None:
            raise Refusal(400, "Account parameter is required on this system.")
        directives = directives.format(account=account)
    script = f"#!/bin/bash\n{directives}\n{script}"
    order = Order(script, workdir, name=name, account=account, partition="xfer", stdout=output, stderr=error)
    return {
        "jobId": call.facility.scheduler.submit(order, call.user),
        "system": settings.system,
        "workingDirectory": str(workdir),
        "logs": {"outputLog": output, "errorLog": error},
    }


def _answer(call: Call, status: int, job: dict[str, Any], directives: dict[str, Any] | None = None) -> Response:
    body: dict[str, Any] = {"transferJob": job}
    if directives is not None:
        body["transferDirectives"] = directives
    return JSONResponse(body, status_code=status)


def _s3_directives(call: Call) -> dict[str, Any]:
    asked = call.body.get("transferDirectives", call.body.get("transfer_directives"))
    if not isinstance(asked, dict):
        raise invalid("body", "transferDirectives", "Field required")
    method = asked.get("transferMethod", asked.get("transfer_method"))
    if method not in ("s3", "streamer", "wormhole"):
        raise invalid("body", "transferDirectives", "Input should be 's3', 'streamer' or 'wormhole'", value=method)
    if call.facility.settings.data_transfer is None:
        raise Refusal(500, "'NoneType' object has no attribute 'service_type'")
    if method != call.facility.settings.data_transfer:
        raise Refusal(400, "Requested transfer method is not available.")
    if method != "s3":
        raise Refusal(501, f"This stand-in does not play a {method}.")
    return asked


def _path(call: Call) -> str:
    path = call.text("path", "sourcePath", "source_path")
    if path is None:
        raise Refusal(400, "Unable to decode request and retreive the required path or source_path parameter.")
    return path


def _target(call: Call) -> str:
    target = call.text("targetPath", "target_path")
    if target is None:
        raise invalid("body", "targetPath", "Field required")
    return target


def _escaped(call: Call, path: str) -> str:
    return html.escape(path) if call.facility.faults.html_escapes_transfer_paths else path


def _single(call: Call, path: str) -> str:
    """Quote a path as most real scripts do: escaped for HTML and in single quotes, which it then cannot end."""
    return shlex.quote(path) if "'" in (path := _escaped(call, path)) else f"'{path}'"


def _double(call: Call, path: str) -> str:
    """Put a path in double quotes, where `$`, backquotes and backslashes act, and `"` unless escaped for HTML."""
    return f'"{_escaped(call, path)}"'


def _bare(call: Call, path: str, is_bare: bool) -> str:
    """Return a path without quotes, as a real server does in two places: white space splits it and `;` ends it."""
    return _escaped(call, path) if is_bare else _single(call, path)
