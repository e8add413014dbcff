"""A simulated file system, and the endpoints `/filesystem/{system}/ops` of a plain FirecREST for it."""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from crestline.testing.simulation.answers import EPOCH, HOME, SYSTEM, USER, answer, ok, refusal
from crestline.testing.simulation.world import World

_FORM = re.compile(rb'filename="(?P<name>[^"]*)"[^\n]*(?:\r\n[^\r\n]+)*\r\n\r\n(?P<content>.*)\r\n--', re.DOTALL)
_WORDS = {"sourcePath": "path", "source_path": "path", "target_path": "targetPath", "match_pattern": "matchPattern"} | {
    "link_path": "linkPath"
}
"""Alternative names of fields that FirecREST accepts."""
_DONE = "File was successfully handled\n"
_PATHS = {"path", "targetPath", "linkPath"}
_MISSING = "cannot access '{}': No such file or directory"


@dataclass
class Node:
    """A file (`-`), directory (`d`) or symbolic link (`l`). The `content` of a link is its target."""

    kind: str
    content: bytes = b""
    mode: int = 0o644
    modified: float = 0.0


class RemoteCommandError(Exception):
    """A command on the system failed."""


class SimulatedFiles:
    """The files of one user.

    Attributes:
        nodes: files, directories and links by absolute path.
        spoilt: files that a late or duplicated upload has left incomplete after the client had its response.
    """

    def __init__(self, world: World, home: str) -> None:
        self._world = world
        self.spoilt: set[str] = set()
        self.nodes: dict[str, Node] = {"/": Node("d", mode=0o755)}
        self.make_directory(home)

    def make_directory(self, path: str) -> None:
        """Create a directory and its parents."""
        for parent in (path, *_parents(path)):
            self.nodes.setdefault(parent, Node("d", mode=0o755, modified=self._world.now))

    def write(self, path: str, content: bytes) -> None:
        """Write a file in an existing directory."""
        self._directory(posixpath.dirname(path))
        old = self.nodes.get(path)
        self.nodes[path] = Node("-", content, old.mode if old else 0o644, self._world.now)

    def link(self, target: str, path: str) -> str:
        """Create a symbolic link unless the path exists. Returns the target of the link at the path."""
        self.make_directory(posixpath.dirname(path))
        return self.nodes.setdefault(path, Node("l", target.encode(), 0o777, self._world.now)).content.decode()

    def remove(self, path: str) -> None:
        """Remove a file, or a directory with its contents."""
        self.find(path)
        for each in [each for each in self.nodes if each == path or each.startswith(f"{path}/")]:
            del self.nodes[each]

    def find(self, path: str) -> Node:
        """Return the node at this path, without following links.

        Raises:
            RemoteCommandError: the path does not exist.
        """
        if (node := self.nodes.get(path)) is None:
            raise RemoteCommandError(_MISSING.format(path))
        return node

    def follow(self, path: str) -> Node:
        """Return the node at this path, following a link. Raises the same error as `find`."""
        node = self.find(path)
        return self.follow(posixpath.join(posixpath.dirname(path), node.content.decode())) if node.kind == "l" else node

    def inside(self, path: str) -> dict[str, Node]:
        """Return all nodes below a directory by relative path."""
        self._directory(path)
        top = path.rstrip("/") + "/"
        return {each.removeprefix(top): node for each, node in sorted(self.nodes.items()) if each.startswith(top)}

    def _directory(self, path: str) -> None:
        if self.find(path).kind != "d":
            raise RemoteCommandError(f"'{path}': Not a directory")


class FileEndpoints:
    """Implements the synchronous file endpoints of plain FirecREST, and those that run the same operations in jobs.

    Args:
        run_job: submits a job with this name that calls a function if it completes. Returns its id.
    """

    def __init__(self, world: World, files: SimulatedFiles, run_job: Callable[[str, Callable[[], None]], str]) -> None:
        self._world = world
        self._files = files
        self._run_job = run_job

    def answer(
        self, request: httpx.Request, operation: str, query: dict[str, str], body: bytes, by: str
    ) -> httpx.Response:
        """Execute a request. `by` is its name."""
        try:
            if operation == "upload":
                return self._upload(posixpath.normpath(query["path"]), body, by)
            fields = {_WORDS.get(name, name): value for name, value in (json.loads(body) if body else {}).items()}
            handle = getattr(self, f"_{request.method.lower()}_{operation}", None)
            if handle is None:
                return refusal(404, "Not Found")
            asked = query | fields
            for name in _PATHS & set(asked):
                asked[name] = posixpath.normpath(asked[name])
            result: httpx.Response = handle(asked)
            return result
        except (tarfile.TarError, EOFError) as error:
            return refusal(500, f"Remote process failed with exit status:2 and error message:tar: {error}")
        except RemoteCommandError as error:
            status = 404 if "No such file" in str(error) else 400 if "File exists" in str(error) else 500
            return refusal(status, f"Remote process failed with exit status:1 and error message:{error}")

    def begin(self, request: httpx.Request, operation: str, query: dict[str, str], body: bytes) -> httpx.Response:
        """Submit a job that executes the request."""

        def work() -> None:
            done = self.answer(request, operation, query, body, job_id)
            self._files.write(log, _DONE.encode() if done.status_code < 300 else b"it failed\n")

        job_id = self._run_job(f"Firecrest-{operation}", work)
        log = f"{HOME}/.f7t_{operation}_{job_id}.log"
        logs = {"outputLog": log, "errorLog": log}
        job = {"jobId": job_id, "system": SYSTEM, "workingDirectory": HOME, "logs": logs}
        return ok({"transferJob": job}, 200 if operation == "rm" else 201)

    def _upload(self, directory: str, body: bytes, by: str) -> httpx.Response:
        form = _FORM.search(body)
        assert form is not None, body[:300]
        path, content = posixpath.join(directory, form["name"].decode()), form["content"]
        if not content:  # FirecREST does not close the standard input of its command
            self._files.write(path, b"")
            return refusal(408, "Command execution timeout limit exceeded.")
        if fault := self._world.adversary.strikes(f"{by} breaks off", 0.1, "half upload", "POST upload"):
            if by in self._world.untold:
                self._files.spoilt.add(path)
            self._files.write(path, content[: fault.randrange(len(content))])
            return refusal(500, "('Channel not open for sending',)")
        self._files.write(path, content)
        return answer(204, b"")

    def _get_ls(self, query: dict[str, Any]) -> httpx.Response:
        path = query["path"]
        node = self._files.find(path)
        if node.kind != "d":
            return ok({"output": [_entry(path, node)]})
        found = self._files.inside(path)
        if query.get("recursive") != "true":
            found = {name: node for name, node in found.items() if "/" not in name}
        if query.get("showHidden") != "true":
            found = {name: node for name, node in found.items() if not re.search(r"(^|/)\.", name)}
        return ok({"output": [_entry(name, node) for name, node in found.items()]})

    def _get_stat(self, query: dict[str, Any]) -> httpx.Response:
        node = self._files.follow(query["path"])
        kinds = {"-": 0o100000, "d": 0o040000}
        numbers = dict.fromkeys(("ino", "dev", "uid", "gid"), 1) | {"nlink": 1}
        times = dict.fromkeys(("atime", "ctime", "mtime"), int(EPOCH + node.modified))
        return ok({"output": numbers | times | {"mode": kinds[node.kind] | node.mode, "size": len(node.content)}})

    def _get_checksum(self, query: dict[str, Any]) -> httpx.Response:
        digest = hashlib.sha256(self._files.follow(query["path"]).content).hexdigest()
        return ok({"output": {"algorithm": "SHA256", "checksum": digest}})

    def _get_download(self, query: dict[str, Any]) -> httpx.Response:
        return answer(200, self._files.follow(query["path"]).content, {"Content-Type": "application/octet-stream"})

    def _get_head(self, query: dict[str, Any]) -> httpx.Response:
        return self._get_tail({"path": query["path"], "lines": 1})

    def _get_tail(self, query: dict[str, Any]) -> httpx.Response:
        lines = self._files.find(query["path"]).content.splitlines(keepends=True)[int(query["lines"]) - 1 :]
        part = {"content": b"".join(lines).decode(), "contentType": "lines", "startPosition": 1, "endPosition": -1}
        return ok({"output": part})

    def _post_mkdir(self, query: dict[str, Any]) -> httpx.Response:
        path = query["path"]
        if query.get("parent"):
            self._files.make_directory(path)
        else:
            self._files.find(posixpath.dirname(path))
            if path in self._files.nodes:
                raise RemoteCommandError(f"cannot create directory '{path}': File exists")
            self._files.make_directory(path)
        return ok({"output": _entry(path, self._files.nodes[path])}, 201)

    def _post_symlink(self, query: dict[str, Any]) -> httpx.Response:
        path = query["linkPath"]
        if path in self._files.nodes:
            raise RemoteCommandError(f"failed to create symbolic link '{path}': File exists")
        self._files.link(query["path"], path)
        return ok({"output": _entry(path, self._files.nodes[path])}, 201)

    def _put_chmod(self, query: dict[str, Any]) -> httpx.Response:
        node = self._files.find(query["path"])
        node.mode = int(query["mode"], 8)
        return ok({"output": _entry(query["path"], node)})

    def _delete_rm(self, query: dict[str, Any]) -> httpx.Response:
        self._files.remove(query["path"])
        return answer(204, b"")

    def _post_extract(self, query: dict[str, Any]) -> httpx.Response:
        target = query["targetPath"]
        self._files.find(target)
        with tarfile.open(fileobj=io.BytesIO(self._files.find(query["path"]).content)) as archive:
            for member in archive:
                path = posixpath.normpath(posixpath.join(target, member.name))
                self._files.make_directory(path if member.isdir() else posixpath.dirname(path))
                if member.isfile() and (content := archive.extractfile(member)) is not None:
                    self._files.write(path, content.read())
                    self._files.nodes[path].mode = member.mode
                elif member.issym():
                    self._files.nodes.pop(path, None)
                    self._files.link(member.linkname, path)
        return answer(204, b"")

    def _post_compress(self, query: dict[str, Any]) -> httpx.Response:
        source, target = query["path"], query["targetPath"]
        pattern = query.get("matchPattern")
        top = source if not pattern else posixpath.dirname(source)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, node in self._files.inside(top).items():
                if pattern and (node.kind != "-" or not re.fullmatch(pattern, f"./{name}")):
                    continue
                member = tarfile.TarInfo(f"./{name}" if pattern else f"{posixpath.basename(source)}/{name}")
                member.mode, member.mtime = node.mode, int(EPOCH + node.modified)
                member.type = {"-": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE}[node.kind]
                member.linkname = node.content.decode() if node.kind == "l" else ""
                member.size = len(node.content) if node.kind == "-" else 0
                archive.addfile(member, io.BytesIO(node.content))
        self._files.write(target, packed.getvalue())
        return answer(204, b"")


def _parents(path: str) -> list[str]:
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[:count]) for count in range(1, len(parts))]


def _entry(name: str, node: Node) -> dict[str, Any]:
    bits = "".join(letter if node.mode & 1 << 8 - at else "-" for at, letter in enumerate("rwxrwxrwx"))
    return {
        "name": name,
        "type": node.kind,
        "linkTarget": node.content.decode() if node.kind == "l" else None,
        "user": USER,
        "group": USER,
        "permissions": bits,
        "lastModified": datetime.fromtimestamp(EPOCH + node.modified, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "size": str(len(node.content)),
    }
