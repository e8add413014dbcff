"""Run `ls` and parse its output into FirecREST's `File` objects."""

from __future__ import annotations

import ast
import re
import shlex
from typing import Any

from crestline.testing.firecrest.endpoint import Call
from crestline.testing.firecrest.remote_command import run

_LINE = re.compile(
    rb"(?P<type>\S)(?P<permissions>\S+)\s+\d+\s+(?P<user>\S+)\s+(?P<group>\S+)\s+(?P<size>\d+)\s+"
    rb'(?P<modified>[\dT:-]+)\s+(?P<name>"(?:[^"\\]|\\.)*")(?: -> (?P<target>"(?:[^"\\]|\\.)*"))?'
)
_HEADER = re.compile(rb'(?P<directory>"(?:[^"\\]|\\.)*"):')


def listed(
    call: Call,
    path: str,
    *,
    hidden: bool = False,
    numeric: bool = False,
    recursive: bool = False,
    dereference: bool = False,
    itself: bool = False,
) -> list[dict[str, Any]]:
    """List a directory, or with `itself` the file or directory at `path`, under its whole path."""
    options = ["-l", "--quoting-style=c", "--time-style=+%Y-%m-%dT%H:%M:%S"]
    for wanted, option in ((hidden, "-A"), (recursive, "-R"), (dereference, "-L"), (itself, "-d")):
        if wanted:
            options.append(option)
    output = run(call, "ls", *options, "--", path)
    found: list[dict[str, Any]] = []
    root, prefix = None, ""
    for line in output.splitlines():
        if match := _HEADER.fullmatch(line):
            directory = _unquoted(match["directory"], call).rstrip("/") + "/"
            root = root or directory
            prefix = directory.removeprefix(root)
        elif match := _LINE.fullmatch(line):
            found.append(_file(match, prefix, call, numeric))
    return found


def listed_itself(call: Call, path: str) -> dict[str, Any]:
    """Return the `File` in the response of an operation that changes it."""
    return listed(call, path, itself=True)[0]


def _file(match: re.Match[bytes], prefix: str, call: Call, numeric: bool) -> dict[str, Any]:
    owner = str(call.user.uid) if numeric else call.user.name
    return {
        "name": prefix + _unquoted(match["name"], call),
        "type": match["type"].decode(),
        "linkTarget": _unquoted(match["target"], call) if match["target"] else None,
        "user": owner,
        "group": owner,
        "permissions": match["permissions"].decode(),
        "lastModified": match["modified"].decode(),
        "size": match["size"].decode(),
    }


def _unquoted(name: bytes, call: Call) -> str:
    """Unquote a name in C quotes. Like a real server, resolve only the escapes of double quotes and backslashes."""
    if call.facility.faults.names_listed_in_octal:
        return shlex.split(name.decode("ascii"))[0]
    found: bytes = ast.literal_eval("b" + name.decode("ascii"))
    return found.decode(errors="replace")
