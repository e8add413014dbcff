"""A job of a pipeline, as described in `.gitlab-ci.yml`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

_numbers = itertools.count(1000)


@dataclass
class CiJob:
    """The description of a job that GitLab sends to the runner. Each job has its own id and token.

    >>> CiJob(script=["make test"]).stage
    'test'
    """

    script: list[str]
    name: str = "job"
    stage: str = "test"
    after_script: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    masked_variables: dict[str, str] = field(default_factory=dict)
    file_variables: dict[str, str] = field(default_factory=dict)
    image: str = ""
    timeout: int = 3600
    """Seconds."""
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    """`{"paths": [...], "exclude": [...], "untracked": False, "when": "on_success", "name": "artifacts"}`"""
    cache: list[dict[str, Any]] = field(default_factory=list)
    """`{"key": ..., "paths": [...], "policy": "pull-push", "when": "on_success", "has_url": False}`"""
    dependencies: list[CiJob] = field(default_factory=list)
    hooks: list[dict[str, Any]] = field(default_factory=list)
    ref: str = "main"
    refspecs: list[str] = field(default_factory=lambda: ["+refs/heads/main:refs/remotes/origin/main"])
    protected: bool = False
    """True for a protected branch; runners from 18.5 on pass this on"""
    project_id: int = 7
    services: list[dict[str, Any]] = field(default_factory=list)
    more_steps: dict[str, list[str]] = field(default_factory=dict)
    id: int = field(default_factory=lambda: next(_numbers))

    @property
    def token(self) -> str:
        return f"glcbt-64_secret{self.id}"
