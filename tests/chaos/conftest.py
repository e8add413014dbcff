"""The GitLab and the runner's helper of the CI tests serve here too."""

from gitlab_runner.conftest import gitlab, helper

__all__ = ["gitlab", "helper"]
