"""Stage scripts as the runner's bash writer generates them, with the quoting of each version.

| versions | arguments of git and of the helper | `git submodule update` |
| --- | --- | --- |
| 14.0 to 15.5 | double quotes, escaped like Go strings: a shell expands `$` and backquotes in them | the same |
| 15.6 to 18.7 | `$'...'`, which expands nothing | the same |
| from 18.8 on | `$'...'` | double quotes around the raw text: a shell expands it, and a quote in it ends them |
"""

from __future__ import annotations

import json
import posixpath
from urllib.parse import urlsplit

from crestline.testing.gitlab_runner.ci_job import CiJob
from crestline.testing.gitlab_runner.gitlab import GitLab

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789,-./@_")


def quote(text: str) -> str:
    """Quote `text` in ANSI-C style, if necessary."""
    data = text.encode(errors="surrogateescape")
    if data and all(byte in _PLAIN for byte in data):
        return text
    named = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 39: "\\'", 92: "\\\\"}
    return "$'" + "".join(
        named.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}") for byte in data
    ) + "'"  # fmt: skip


def quote_as_go(text: str) -> str:
    """Quote `text` like Go's `strconv.Quote`, which is meant for Go's compiler and unsafe in a shell."""
    named = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}

    def escaped(char: str) -> str:
        code = ord(char)
        if 0xDC80 <= code <= 0xDCFF:  # a byte that is not valid UTF-8
            return f"\\x{code - 0xDC00:02x}"
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return '"' + "".join(named.get(ord(char)) or (char if char.isprintable() else escaped(char)) for char in text) + '"'


class Quoting:
    """The quoting of a version of the runner."""

    def __init__(self, version: str) -> None:
        self.version = tuple(map(int, version.split(".")[:2]))

    def command(self, *words: str) -> str:
        """Return the command line of a program with quoted arguments."""
        quoter = quote_as_go if self.version < (15, 6) else quote
        return " ".join([quote(words[0]), *map(quoter, words[1:])])

    def expanding(self, *words: str) -> str:
        """Return a command line whose arguments the shell expands, as the runner intends."""
        if self.version < (18, 8):
            return self.command(*words)
        return " ".join([quote(words[0]), *(f'"{word}"' for word in words[1:])])

    def wrap(self, body: list[str], *, trace: bool = False) -> bytes:
        """Return the complete script for the given lines."""
        text = "".join(f"{line}\n" for line in body)
        head = ["#!/usr/bin/env bash", "", "trap 'exit 1' TERM", "", *(["set -o xtrace"] if trace else [])]
        head += ['case "$(set -o)" in *"pipefail"*) set -o pipefail;; esac; set -o errexit', "set +o noclobber"]
        new = f"(trap 'exit 1' TERM; eval {quote(text)}) < /dev/null"
        line = new if self.version >= (19, 0) else f": | eval {quote(text)}"
        return "\n".join([*head, line, "exit 0", ""]).encode(errors="surrogateescape")


class Scripts:
    """The stage scripts of one job."""

    def __init__(self, gitlab: GitLab, job: CiJob, variables: dict[str, str], sha: str, *, version: str) -> None:
        self._gitlab = gitlab
        self._job = job
        self._variables = variables
        self._sha = sha
        self._quoting = Quoting(version)
        self._modern = self._quoting.version >= (17, 9)
        self._project = variables["CI_PROJECT_DIR"]
        self._cache = variables["_CACHE_DIR"]

    def prepare_script(self) -> bytes:
        return self._quoting.wrap(['echo "Running on $(hostname) via stand-in..."'])

    def get_sources(self) -> bytes:
        project, temporary = self._project, f"{self._project}.tmp"
        strategy = self._variables.get("GIT_STRATEGY", "fetch")
        lines = [*self._exports(), f"mkdir -p {quote(temporary)}/git-template"]
        if strategy in ("clone", "empty"):
            lines.append(f"rm -rf {quote(project)}")
        if strategy in ("none", "empty"):
            return self._quoting.wrap([*lines, f"mkdir -p {quote(project)}", "echo 'Skipping Git repository setup'"])
        host = urlsplit(self._gitlab.url).netloc
        with_token = f"http://gitlab-ci-token:{self._job.token}@{host}/"
        lines += [
            "echo 'Fetching changes...'",
            f"rm -f {quote(project)}/.git/index.lock",
            f"git init --quiet {quote(project)} --template {quote(temporary)}/git-template",
            f"cd {quote(project)}",
        ]
        if self._modern:
            extra = f"{temporary}/.gitlab-runner.ext.conf"
            lines += [
                f"git config -f {quote(extra)} url.{quote(with_token)}.insteadOf {quote(self._gitlab.url + '/')}",
                f"git config include.path {quote(extra)}",
                *self._remote(self._gitlab.repo_url),
            ]
            credentials = ["-c", f"include.path={extra}"]
        else:
            lines += self._remote(with_token + self._gitlab.path + ".git")
            credentials = ["-c", f"url.{with_token}.insteadOf={self._gitlab.url}/"]
        command = self._quoting.command
        flags = self._variables.get("GIT_FETCH_EXTRA_FLAGS", "--prune --quiet").split()
        lines.append(
            command(
                *("git", "-c", "http.userAgent=gitlab-runner", "fetch", "origin", "--no-recurse-submodules"),
                *(*self._job.refspecs, "--depth", "20", *flags),
            )
        )
        if self._variables.get("GIT_CHECKOUT") == "false":
            return self._quoting.wrap([*lines, "echo 'Skipping Git checkout'"])
        lines += [
            f"echo {quote(f'Checking out {self._sha[:8]} as detached HEAD (ref is {self._job.ref})...')}",
            command("git", "-c", "advice.detachedHead=false", "checkout", "-f", "-q", self._sha),
            command("git", "clean", *self._variables.get("GIT_CLEAN_FLAGS", "-ffdx").split()),
        ]
        return self._quoting.wrap([*lines, *self._submodules(credentials)])

    def _remote(self, url: str) -> list[str]:
        return [
            f"if {self._quoting.command('git', 'remote', 'add', 'origin', url)} >/dev/null 2>&1; then",
            "echo 'Created fresh repository.'",
            "else",
            self._quoting.command("git", "remote", "set-url", "origin", url),
            "fi",
        ]

    def _submodules(self, credentials: list[str]) -> list[str]:
        strategy = self._variables.get("GIT_SUBMODULE_STRATEGY", "none")
        if strategy not in ("normal", "recursive"):
            return ["echo 'Skipping Git submodules setup'"]
        recursive = ["--recursive"] if strategy == "recursive" else []
        flags = self._variables.get("GIT_SUBMODULE_UPDATE_FLAGS", "").split()
        paths = self._variables.get("GIT_SUBMODULE_PATHS", "").split()
        chosen = ["--", *paths] if paths else []
        command = self._quoting.command
        return [
            "echo 'Updating/initializing submodules...'",
            command("git", "submodule", "init"),
            command("git", "submodule", "sync", *recursive, *chosen),
            self._quoting.expanding("git", *credentials, "submodule", "update", "--init", *recursive, *flags, *chosen),
            command("git", "submodule", "foreach", *recursive, "git clean -ffdx && git reset --hard --quiet"),
        ]

    def clear_worktree(self) -> bytes:
        project = quote(self._project)
        return self._quoting.wrap([*self._exports(), f"[ ! -d {project}/.git ] || git -C {project} clean -ffdx"])

    def restore_cache(self) -> bytes:
        lines = [*self._exports(), f"cd {quote(self._project)}"]
        for cache in self._job.cache:
            if cache.get("policy", "pull-push") == "push":
                continue
            keys = [str(cache["key"]), *map(str, cache.get("fallback_keys", []))]
            lines += self._guarded(self._extract(cache, keys))
        return self._quoting.wrap(lines)

    def _extract(self, cache: dict[str, object], keys: list[str]) -> list[str]:
        call = [
            "cache-extractor",
            "--file",
            self._cache_file(keys[0]),
            "--timeout",
            "10",
            *self._cache_url(cache, keys[0]),
        ]
        return [
            f"echo {quote(f'Checking cache for {keys[0]}...')}",
            f"if {self._quoting.command('gitlab-runner', *call)}; then",
            "echo 'Successfully extracted cache'",
            "else",
            "echo 'Failed to extract cache'",
            *(self._extract(cache, keys[1:]) if keys[1:] else []),
            "fi",
        ]

    def download_artifacts(self) -> bytes:
        lines = [*self._exports(), f"cd {quote(self._project)}"]
        for job in self._job.dependencies:
            call = ["artifacts-downloader", "--url", f"{self._gitlab.url}/", "--token", job.token, "--id", str(job.id)]
            lines += self._helper(f"Downloading artifacts for {job.name} ({job.id})", call)
        return self._quoting.wrap(lines)

    def build_script(self, script: list[str]) -> bytes:
        trace = self._variables.get("CI_DEBUG_TRACE") == "true"
        lines = [*self._exports(), f"cd {quote(self._project)}"]
        for line in script:
            shown = f"\x1b[32;1m$ {line}\x1b[0;m"
            lines += [f"echo {quote(shown)}", line]
        return self._quoting.wrap(lines, trace=trace)

    def archive_cache(self, *, failed: bool) -> bytes:
        lines = [*self._exports(), f"cd {quote(self._project)}"]
        for cache in chosen(self._job.cache, failed=failed):
            if cache.get("policy", "pull-push") != "pull":
                key = str(cache["key"])
                call = ["cache-archiver", "--file", self._cache_file(key), "--timeout", "10", *_paths(cache)]
                call += self._cache_url(cache, key)
                if self._quoting.version >= (18, 0):
                    file = f"{self._project}.tmp/gitlab_runner_cache_env"
                    metadata = json.dumps(json.dumps({"cachekey": key}))
                    lines.append(f"cat << EOF > {file}\nCACHE_METADATA={metadata}\nEOF\n")
                    call += ["--env-file", file]
                lines += self._helper("Creating cache", call, may_fail=True)
        return self._quoting.wrap(lines)

    def upload_artifacts(self, *, failed: bool) -> bytes:
        lines = [*self._exports(), f"cd {quote(self._project)}"]
        for artifact in chosen(self._job.artifacts, failed=failed):
            call = ["artifacts-uploader", "--url", f"{self._gitlab.url}/", "--token", self._job.token]
            call += ["--id", str(self._job.id), *_paths(artifact)]
            for option, field in (
                ("--name", "name"),
                ("--expire-in", "expire_in"),
                ("--artifact-format", "artifact_format"),
                ("--artifact-type", "artifact_type"),
            ):
                if value := artifact.get(field, {"artifact_format": "zip", "artifact_type": "archive"}.get(field, "")):
                    call += [option, str(value)]
            lines += self._helper("Uploading artifacts...", call)
        return self._quoting.wrap(lines)

    def cleanup_file_variables(self) -> bytes:
        temporary = f"{self._project}.tmp"
        files = [f"rm -f {quote(f'{temporary}/{name}')}" for name in self._job.file_variables]
        return self._quoting.wrap([*self._exports(), *files, f"rm -f {quote(temporary)}/gitlab_runner_env"])

    def _exports(self) -> list[str]:
        lines = [
            f"export {name}={quote(value)}"
            for name, value in self._variables.items()
            if not name.startswith("_") and name not in self._job.file_variables
        ]
        if self._job.file_variables:
            lines.append(f"mkdir -p {quote(f'{self._project}.tmp')}")
        for name, content in self._job.file_variables.items():
            path = f"{self._project}.tmp/{name}"
            lines += [f"printf '%s' {quote(content)} > {quote(path)}", f"export {name}={quote(path)}"]
        return lines

    def _helper(self, title: str, call: list[str], *, may_fail: bool = False) -> list[str]:
        command = self._quoting.command("gitlab-runner", *call)
        tried = [f"if {command}; then", "echo done", "else", "echo 'WARNING: it failed'", "fi"]
        return self._guarded([f"echo {quote(title)}", *(tried if may_fail else [command])])

    def _guarded(self, lines: list[str]) -> list[str]:
        return [
            f"if {self._quoting.command('gitlab-runner', '--version')} >/dev/null 2>&1; then",
            *lines,
            "else",
            "echo 'Missing gitlab-runner. It is disabled.'",
            "fi",
        ]

    def _cache_file(self, key: str) -> str:
        if self._quoting.version >= (17, 11):
            key = posixpath.normpath(f"/{key}").lstrip("/")
        return posixpath.relpath(f"{self._cache}/{key}/cache.zip", self._project)

    def _cache_url(self, cache: dict[str, object], key: str) -> list[str]:
        if not cache.get("has_url"):
            return []
        path = posixpath.normpath(f"runner/t0ken/project/{self._job.project_id}/{key}")
        return ["--url", f"{self._gitlab.url}/cache/{path}", "--header", "X-Kept: yes"]


def chosen(entries: list[dict[str, object]], *, failed: bool) -> list[dict[str, object]]:
    """Return the entries whose `when` applies."""
    wanted = ("always", "on_failure" if failed else "on_success")
    return [entry for entry in entries if entry.get("when", "on_success") in wanted]


def _paths(entry: dict[str, object]) -> list[str]:
    words = [word for path in entry.get("paths", []) for word in ("--path", str(path))]  # type: ignore[attr-defined]
    words += [word for path in entry.get("exclude", []) for word in ("--exclude", str(path))]  # type: ignore[attr-defined]
    return [*words, *(["--untracked"] if entry.get("untracked") else [])]
