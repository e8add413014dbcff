"""The CI job as the runner passes it on: data from GitLab (trusted) and the job's variables (not trusted)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from crestline.model import ConfigError

_PREFIX = "CUSTOM_ENV_"


class _JobInfo(msgspec.Struct):
    name: str = ""
    stage: str = ""
    project_id: int = 0
    project_full_path: str = ""


class GitInfo(msgspec.Struct):
    """GitLab's data on the job's sources."""

    repo_url: str = ""
    repo_object_format: str | None = None
    ref: str = ""
    ref_type: str = ""
    sha: str = ""
    refspecs: list[str] | None = None
    depth: int = 0
    protected: bool | None = None


class _RunnerInfo(msgspec.Struct):
    timeout: int = 0


class _Step(msgspec.Struct):
    name: str
    script: list[str] | None = None


class _Hook(msgspec.Struct):
    name: str
    script: list[str] | None = None


class _Kept(msgspec.Struct):
    """An entry of `artifacts` or `cache`."""

    when: str = "on_success"
    policy: str = "pull-push"


class _Response(msgspec.Struct):
    id: int
    job_info: _JobInfo = msgspec.field(default_factory=_JobInfo)
    token: str = ""
    git_info: GitInfo = msgspec.field(default_factory=GitInfo)
    runner_info: _RunnerInfo = msgspec.field(default_factory=_RunnerInfo)
    steps: list[_Step] | None = None
    artifacts: list[_Kept] | None = None
    cache: list[_Kept] | None = None
    hooks: list[_Hook] | None = None


class CiJob:
    """One job of GitLab.

    Attributes:
        variables: the job's `CUSTOM_ENV_` variables. A user may have chosen any of them.
    """

    def __init__(self, response: _Response, variables: dict[str, str], environment: Mapping[str, str]) -> None:
        self._response = response
        self._environment = environment
        self.variables = variables

    @classmethod
    def of_this_process(cls, environment: Mapping[str, str] = os.environ) -> CiJob:
        """Return the job of this process.

        Raises:
            ConfigError: the runner did not pass it on.
        """
        name = environment.get("JOB_RESPONSE_FILE")
        if not name:
            raise ConfigError(
                "JOB_RESPONSE_FILE is not set.", hint="It takes a GitLab Runner of version 14.1 or newer."
            )
        try:
            response = msgspec.json.decode(Path(name).read_bytes(), type=_Response)
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(f"The job response {name} cannot be used: {error}.") from None
        variables = {key[len(_PREFIX) :]: value for key, value in environment.items() if key.startswith(_PREFIX)}
        return cls(response, variables, environment)

    @property
    def id(self) -> int:
        """GitLab's number of the job (`CI_JOB_ID`)."""
        return self._response.id

    @property
    def label(self) -> str:
        """Identifies the job among those of all GitLab servers that use this configuration."""
        server = urlsplit(self._response.git_info.repo_url).netloc.rpartition("@")[2]
        return f"{self.id}-{hashlib.sha256(server.encode()).hexdigest()[:6]}"

    @property
    def project(self) -> str:
        """Identifies the project among those of all GitLab servers that use this configuration."""
        server = urlsplit(self._response.git_info.repo_url).netloc.rpartition("@")[2]
        return f"{server}/{self._response.job_info.project_id}"

    @property
    def project_id(self) -> int:
        """GitLab's number of the project (`CI_PROJECT_ID`)."""
        return self._response.job_info.project_id

    @property
    def git_info(self) -> GitInfo:
        """Address and revision of the sources."""
        return self._response.git_info

    @property
    def token(self) -> str:
        """The job's own token, valid for its project while it runs."""
        return self._response.token

    @property
    def cache_scope(self) -> str:
        """Identifies the jobs that can share caches on this machine: those of a project, protected ones separately.

        Older runners do not pass on whether a branch is protected. There each branch has its own caches.
        """
        info = self._response.git_info
        if info.protected is None:
            return f"{self.project} {info.ref_type} {info.ref}"
        return f"{self.project} {'protected' if info.protected else 'not protected'}"

    @property
    def name(self) -> str:
        """The job's name in `.gitlab-ci.yml`."""
        return self._response.job_info.name

    @property
    def timeout(self) -> int:
        """Seconds that GitLab gives the job, including the queue; 0 if unknown."""
        return self._response.runner_info.timeout

    @property
    def image(self) -> str:
        """The image of `image:`, with its variables expanded; empty if the job has none."""
        return self.variables.get("CI_JOB_IMAGE", "")

    @property
    def has_after_script(self) -> bool:
        """Whether a script runs after the main script."""
        return any(step.name == "after_script" and step.script for step in self._response.steps or ())

    @property
    def more_steps(self) -> bool:
        """Whether the script is followed by steps other than after_script."""
        return any(step.name not in ("script", "after_script") for step in self._response.steps or ())

    def collects(self, *, failed: bool) -> bool:
        """Whether artifacts or caches are collected from a job that succeeded, or failed."""
        wanted = ("always", "on_failure" if failed else "on_success", "")
        kept = [*(self._response.artifacts or ()), *(c for c in self._response.cache or () if c.policy != "pull")]
        return any(each.when in wanted for each in kept)

    @property
    def hooks(self) -> list[str]:
        """Names of the user's shell code in stages other than the script."""
        return [hook.name for hook in self._response.hooks or () if hook.script]

    @property
    def build_failure(self) -> int:
        """Exit code for a failure of the job."""
        return int(self._environment.get("BUILD_FAILURE_EXIT_CODE", "1"))

    @property
    def system_failure(self) -> int:
        """Exit code for a failure of the system."""
        return int(self._environment.get("SYSTEM_FAILURE_EXIT_CODE", "2"))

    @property
    def exit_code_file(self) -> Path | None:
        """File for the job's own exit code, since runner 17.9."""
        name = self._environment.get("BUILD_EXIT_CODE_FILE")
        return Path(name) if name else None
