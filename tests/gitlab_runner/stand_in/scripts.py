"""Stage scripts in the form of the runner's bash writer."""

from __future__ import annotations

import posixpath
from urllib.parse import urlsplit

from gitlab_runner.stand_in.ci_job import CiJob
from gitlab_runner.stand_in.gitlab import GitLab

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789,-./@_")


def quote(text: str) -> str:
    """ANSI-C quoting, where it is needed."""
    data = text.encode(errors="surrogateescape")
    if data and all(byte in _PLAIN for byte in data):
        return text
    named = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 39: "\\'", 92: "\\\\"}
    return "$'" + "".join(
        named.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}") for byte in data
    ) + "'"  # fmt: skip


def wrap(body: list[str], *, trace: bool = False) -> bytes:
    """The body as the runner hands it over."""
    text = "".join(f"{line}\n" for line in body)
    head = ["#!/usr/bin/env bash", "", "trap 'exit 1' TERM", "", *(["set -o xtrace"] if trace else [])]
    head += ['case "$(set -o)" in *"pipefail"*) set -o pipefail;; esac; set -o errexit', "set +o noclobber"]
    return "\n".join([*head, f"(trap 'exit 1' TERM; eval {quote(text)}) < /dev/null", "exit 0", ""]).encode(
        errors="surrogateescape"
    )


class Scripts:
    """The scripts of one job."""

    def __init__(self, gitlab: GitLab, job: CiJob, variables: dict[str, str], sha: str, *, modern: bool) -> None:
        self._gitlab = gitlab
        self._job = job
        self._variables = variables
        self._sha = sha
        self._modern = modern
        self._project = variables["CI_PROJECT_DIR"]
        self._cache = variables["_CACHE_DIR"]

    def prepare_script(self) -> bytes:
        return wrap(['echo "Running on $(hostname) via stand-in..."'])

    def get_sources(self) -> bytes:
        project, temporary = self._project, f"{self._project}.tmp"
        strategy = self._variables.get("GIT_STRATEGY", "fetch")
        lines = [*self._exports(), f"mkdir -p {quote(temporary)}/git-template"]
        if strategy in ("clone", "empty"):
            lines.append(f"rm -rf {quote(project)}")
        if strategy in ("none", "empty"):
            return wrap([*lines, f"mkdir -p {quote(project)}", "echo 'Skipping Git repository setup'"])
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
                *_remote(self._gitlab.repo_url),
            ]
            credentials = f"-c include.path={quote(extra)}"
        else:
            lines += _remote(with_token + self._gitlab.path + ".git")
            credentials = f"-c url.{quote(with_token)}.insteadOf={quote(self._gitlab.url + '/')}"
        flags = self._variables.get("GIT_FETCH_EXTRA_FLAGS", "--prune --quiet")
        lines += [
            "git -c http.userAgent=gitlab-runner fetch origin +refs/heads/main:refs/remotes/origin/main "
            f"--depth 20 {flags}",
        ]
        if self._variables.get("GIT_CHECKOUT") == "false":
            return wrap([*lines, "echo 'Skipping Git checkout'"])
        lines += [
            f"echo 'Checking out {self._sha[:8]} as detached HEAD...'",
            f"git -c advice.detachedHead=false checkout -f -q {self._sha}",
            f"git clean {self._variables.get('GIT_CLEAN_FLAGS', '-ffdx')}",
        ]
        return wrap([*lines, *self._submodules(credentials)])

    def _submodules(self, credentials: str) -> list[str]:
        strategy = self._variables.get("GIT_SUBMODULE_STRATEGY", "none")
        if strategy not in ("normal", "recursive"):
            return ["echo 'Skipping Git submodules setup'"]
        recursive = " --recursive" if strategy == "recursive" else ""
        flags = self._variables.get("GIT_SUBMODULE_UPDATE_FLAGS", "")
        return [
            f"echo 'Updating/initializing submodules{recursive}...'",
            "git submodule init",
            f"git submodule sync{recursive}",
            f"git {credentials} submodule update --init{recursive} {flags}",
            f"git submodule foreach{recursive} 'git clean -ffdx && git reset --hard --quiet'",
        ]

    def clear_worktree(self) -> bytes:
        project = quote(self._project)
        return wrap([*self._exports(), f"[ ! -d {project}/.git ] || git -C {project} clean -ffdx"])

    def restore_cache(self) -> bytes:
        lines = [*self._exports(), f"cd {quote(self._project)}"]
        for cache in self._job.cache:
            lines += self._helper(
                "Restoring cache",
                ["cache-extractor", "--file", self._cache_file(cache), "--timeout", "10"],
                may_fail=True,
            )
        return wrap(lines)

    def download_artifacts(self) -> bytes:
        lines = [*self._exports(), f"cd {quote(self._project)}"]
        for job in self._job.dependencies:
            call = ["artifacts-downloader", "--url", f"{self._gitlab.url}/", "--token", job.token, "--id", str(job.id)]
            lines += self._helper(f"Downloading artifacts for {job.name} ({job.id})", call)
        return wrap(lines)

    def build_script(self, script: list[str]) -> bytes:
        trace = self._variables.get("CI_DEBUG_TRACE") == "true"
        lines = [*self._exports(), f"cd {quote(self._project)}"]
        for line in script:
            shown = f"\x1b[32;1m$ {line}\x1b[0;m"
            lines += [f"echo {quote(shown)}", line]
        return wrap(lines, trace=trace)

    def archive_cache(self, *, failed: bool) -> bytes:
        lines = [*self._exports(), f"cd {quote(self._project)}"]
        for cache in chosen(self._job.cache, failed=failed):
            if cache.get("policy", "pull-push") != "pull":
                call = ["cache-archiver", "--file", self._cache_file(cache), "--timeout", "10", *_paths(cache)]
                lines += self._helper("Creating cache", call, may_fail=True)
        return wrap(lines)

    def upload_artifacts(self, *, failed: bool) -> bytes:
        lines = [*self._exports(), f"cd {quote(self._project)}"]
        for artifact in chosen(self._job.artifacts, failed=failed):
            paths = {**artifact, "paths": [self._expanded(each) for each in artifact.get("paths", [])]}
            call = ["artifacts-uploader", "--url", f"{self._gitlab.url}/", "--token", self._job.token]
            call += [
                "--id",
                str(self._job.id),
                *_paths(paths),
                "--artifact-format",
                "zip",
                "--artifact-type",
                "archive",
            ]
            lines += self._helper("Uploading artifacts...", call)
        return wrap(lines)

    def cleanup_file_variables(self) -> bytes:
        temporary = f"{self._project}.tmp"
        files = [f"rm -f {quote(f'{temporary}/{name}')}" for name in self._job.file_variables]
        return wrap([*self._exports(), *files, f"rm -f {quote(temporary)}/gitlab_runner_env"])

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
        command = " ".join(quote(word) for word in ["gitlab-runner", *call])
        return [
            "if gitlab-runner --version >/dev/null 2>/dev/null; then",
            f"echo {quote(title)}",
            f"if {command}; then echo done; else echo 'WARNING: it failed'; fi" if may_fail else command,
            "else",
            "echo 'Missing gitlab-runner. It is disabled.'",
            "fi",
        ]

    def _cache_file(self, cache: dict[str, object]) -> str:
        return posixpath.relpath(f"{self._cache}/{cache['key']}/cache.zip", self._project)

    def _expanded(self, text: str) -> str:
        for name, value in self._variables.items():
            text = text.replace(f"${name}", value)
        return text


def _remote(url: str) -> list[str]:
    return [f"git remote add origin {quote(url)} 2>/dev/null || git remote set-url origin {quote(url)}"]


def chosen(entries: list[dict[str, object]], *, failed: bool) -> list[dict[str, object]]:
    """Those whose `when` fits."""
    wanted = ("always", "on_failure" if failed else "on_success")
    return [entry for entry in entries if entry.get("when", "on_success") in wanted]


def _paths(entry: dict[str, object]) -> list[str]:
    words = [word for path in entry.get("paths", []) for word in ("--path", str(path))]  # type: ignore[attr-defined]
    words += [word for path in entry.get("exclude", []) for word in ("--exclude", str(path))]  # type: ignore[attr-defined]
    return [*words, *(["--untracked"] if entry.get("untracked") else [])]
