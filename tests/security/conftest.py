"""The relay, and a GitLab with its driver, beside the fixtures that all parts share."""

from __future__ import annotations

from gitlab_runner.conftest import gitlab, make_site, plain
from harness.relay import relay

__all__ = ["gitlab", "make_site", "plain", "relay"]
