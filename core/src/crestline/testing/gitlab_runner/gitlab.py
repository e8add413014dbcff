"""The parts of a GitLab server that a job uses: a repository over HTTP, artifacts, and a cache bucket."""

from __future__ import annotations

import email
import email.policy
import os
import subprocess
import threading
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class Repository:
    """A bare repository that the server serves, and a work tree from which commits are pushed to it."""

    def __init__(self, bare: Path, tree: Path) -> None:
        self._bare = bare
        self._tree = tree
        _git("init", "--quiet", "--bare", "--initial-branch=main", str(bare))
        _git("init", "--quiet", "--initial-branch=main", str(tree))

    def commit(self, files: dict[str, str | bytes], submodules: dict[str, tuple[str, str]] | None = None) -> str:
        """Commit files to `main` and return the hash of the commit.

        Args:
            files: content by path.
            submodules: submodules of this commit only, URL and commit hash by path.
        """
        for name, content in files.items():
            path = self._tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self._run("add", "--all")
        if submodules:
            text = "".join(
                f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n' for path, (url, _) in submodules.items()
            )
            blob = self._run("hash-object", "-w", "--stdin", stdin=text).strip()
            entries = [f"100644,{blob},.gitmodules", *(f"160000,{sha},{path}" for path, (_, sha) in submodules.items())]
            for entry in entries:
                self._run("update-index", "--add", "--cacheinfo", entry)
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        self._run(*who, "commit", "--quiet", "--allow-empty", "--message=change")
        self._run("push", "--quiet", str(self._bare), "HEAD:main")
        return self._run("rev-parse", "HEAD").strip()

    def _run(self, *arguments: str, stdin: str | None = None) -> str:
        return _git("-C", str(self._tree), *arguments, stdin=stdin)


class GitLab:
    """A server with the project `group/project` and further repositories of its group.

    Args:
        place: existing directory for its files.
    """

    path = "group/project"

    def __init__(self, place: Path) -> None:
        self.place = place
        self.artifacts: dict[int, bytes] = {}
        """archive of each job, by its id"""
        self.uploads: list[tuple[int, str, str, bytes]] = []
        """all uploads, each with job id, query, file name and content"""
        self.cache: dict[str, bytes] = {}
        self.clones = 0
        self.answers_clones = threading.Event()
        """event for which clones wait"""
        self.answers_clones.set()
        self.is_asked = threading.Event()
        """set once a client has requested a clone"""
        self.refuse_clones = 0
        """number of further clones that fail"""
        (place / "repositories" / "group").mkdir(parents=True)
        self._project = self.repository("project")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"gitlab": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def repo_url(self) -> str:
        return f"{self.url}/{self.path}.git"

    def repository(self, name: str) -> Repository:
        """Create another repository of the group."""
        return Repository(self.place / "repositories" / "group" / f"{name}.git", self.place / name)

    def commit(self, files: dict[str, str | bytes], submodules: dict[str, tuple[str, str]] | None = None) -> str:
        """Commit to the project, as `Repository.commit`."""
        return self._project.commit(files, submodules)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True
    gitlab: GitLab
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith("/group/"):
            self._git()
        elif path.startswith("/cache/"):
            self._answer_bytes(self.gitlab.cache.get(path))
        elif path.startswith("/api/v4/jobs/") and self.headers.get("JOB-TOKEN"):
            self._answer_bytes(self.gitlab.artifacts.get(int(path.split("/")[4])))
        else:
            self._answer(404)

    def do_PUT(self) -> None:
        self.gitlab.cache[urlsplit(self.path).path] = self._body()
        self._answer(200)

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith("/group/"):
            self._git()
        elif path.startswith("/api/v4/jobs/"):
            number = int(path.split("/")[4])
            if self.headers.get("JOB-TOKEN") != f"glcbt-64_secret{number}":
                self._body()
                self._answer(403)
                return
            name, content = _file_of(self.headers["Content-Type"], self._body())
            query = urlsplit(self.path).query
            self.gitlab.uploads.append((number, query, name, content))
            if "artifact_type=archive" in query:
                self.gitlab.artifacts[number] = content
            self._answer(201)
        else:
            self._answer(404)

    def _git(self) -> None:
        kind, _, code = self.headers.get("Authorization", "").partition(" ")
        user, _, password = b64decode(code).decode().partition(":") if kind == "Basic" else ("", "", "")
        body = self._body()
        if user != "gitlab-ci-token" or not password.startswith("glcbt-"):
            self._answer(401, {"WWW-Authenticate": 'Basic realm="GitLab"'})
            return
        self.gitlab.is_asked.set()
        self.gitlab.answers_clones.wait()
        asked = urlsplit(self.path)
        if asked.path.endswith("/info/refs") and self.gitlab.refuse_clones:
            self.gitlab.refuse_clones -= 1
            self._answer(503)
            return
        self.gitlab.clones += asked.path.endswith("/git-upload-pack")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.gitlab.place / "repositories"),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": asked.path,
            "QUERY_STRING": asked.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": user,
        }
        done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=environment, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200 OK").split()[0])
        self._answer(status, headers, content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer_bytes(self, content: bytes | None) -> None:
        if content is None:
            self._answer(404)
        else:
            self._answer(200, {}, content)

    def _answer(self, status: int, headers: dict[str, str] | None = None, content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Log nothing."""


def _file_of(content_type: str, body: bytes) -> tuple[str, bytes]:
    """Return the name and the content of the only file of a form."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    (part,) = email.message_from_bytes(head + body, policy=email.policy.HTTP).iter_parts()
    start = body.index(b"\r\n\r\n") + 4
    return part.get_filename() or "", body[start : body.rindex(b"\r\n--")]


def _git(*arguments: str, stdin: str | None = None) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *arguments], check=True, env=environment, capture_output=True, text=True, input=stdin)
    return done.stdout
