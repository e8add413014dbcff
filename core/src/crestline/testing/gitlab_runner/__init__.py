"""A stand-in for GitLab and its runner. It calls a custom executor as gitlab-runner does and returns the job's result.

It does not import Crestline, so it can test any custom executor. Its versions differ in the quoting of scripts, the
names of stages, and the stages after a cancelled job (see `runner.py` and `scripts.py`).

    from crestline.testing.gitlab_runner import Build, CiJob, Custom, GitLab

    gitlab = GitLab(folder / "gitlab")
    sha = gitlab.commit({"data.txt": "12\\n"})
    with Build(Custom(run=["driver", "run"], ...), gitlab, CiJob(script=["make"]), sha) as build:
        assert build.wait().state == "success"
"""

from __future__ import annotations

from crestline.testing.gitlab_runner.ci_job import CiJob
from crestline.testing.gitlab_runner.executor import Custom
from crestline.testing.gitlab_runner.gitlab import GitLab
from crestline.testing.gitlab_runner.runner import Build
from crestline.testing.gitlab_runner.scripts import Quoting

__all__ = ["Build", "CiJob", "Custom", "GitLab", "Quoting"]
