"""A stand-in of GitLab and its runner: it calls a custom executor as gitlab-runner does, and judges what comes back.

It knows nothing of Crestline and imports nothing of it, so it tests any custom executor. The versions that it can be
differ in how scripts are quoted, in the names of stages and in what follows a cancelled job; `runner.py` and
`scripts.py` name them.

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
