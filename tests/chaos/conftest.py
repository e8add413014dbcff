"""The GitLab of the CI tests serves here too."""

from gitlab_runner.conftest import gitlab

__all__ = ["gitlab"]
