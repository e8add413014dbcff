"""The environment of each call of a custom executor, and the job response."""

from __future__ import annotations

import json
from typing import Any

from crestline.testing.gitlab_runner.ci_job import CiJob
from crestline.testing.gitlab_runner.gitlab import GitLab


def response(gitlab: GitLab, job: CiJob, sha: str, *, version: str) -> dict[str, Any]:
    """Return the job response as GitLab sends it (JOB_RESPONSE_FILE), with the fields of this runner version."""
    protected = {"protected": job.protected} if tuple(map(int, version.split(".")[:2])) >= (18, 5) else {}
    steps = [{"name": "script", "script": job.script, "timeout": job.timeout, "when": "on_success"}]
    steps += [{"name": name, "script": script, "when": "on_success"} for name, script in job.more_steps.items()]
    if job.after_script:
        steps.append({"name": "after_script", "script": job.after_script, "timeout": job.timeout, "when": "always"})
    return {
        "id": job.id,
        "token": job.token,
        "job_info": {
            "name": job.name,
            "stage": job.stage,
            "project_id": job.project_id,
            "project_full_path": gitlab.path,
        },
        "git_info": {
            "repo_url": gitlab.repo_url.replace("://", f"://gitlab-ci-token:{job.token}@"),
            "ref": job.ref,
            "sha": sha,
            "ref_type": "branch",
            "refspecs": job.refspecs,
            "depth": 20,
            **protected,
        },
        "runner_info": {"timeout": job.timeout},
        "variables": [
            {"key": name, "value": value, "masked": name in job.masked_variables}
            for name, value in {**job.variables, **job.masked_variables}.items()
        ],
        "steps": steps,
        "image": {"name": job.image},
        "services": job.services or None,
        "artifacts": [{"when": "on_success", **each} for each in job.artifacts] or None,
        "cache": [{"when": "on_success", "policy": "pull-push", **each} for each in job.cache] or None,
        "dependencies": [{"id": each.id, "token": each.token, "name": each.name} for each in job.dependencies],
        "hooks": job.hooks,
        "features": {"trace_sections": True},
    }


def variables(gitlab: GitLab, job: CiJob, sha: str, *, version: str, builds_dir: str, cache_dir: str) -> dict[str, str]:
    """Return the job's variables in the order of their precedence. Those with a leading `_` are internal.

    `builds_dir` is empty in the first call of `config`.
    """
    empty = "-empty" if job.variables.get("GIT_STRATEGY") == "empty" else ""
    project_dir = f"{builds_dir}/{gitlab.path}{empty}" if builds_dir else ""
    found = {
        "FF_USE_NEW_BASH_EVAL_STRATEGY": "false",
        "CI_RUNNER_SHORT_TOKEN": "t0ken_5hor",
        "CI_BUILDS_DIR": builds_dir,
        "CI_PROJECT_DIR": project_dir,
        "CI_CONCURRENT_ID": "0",
        "CI_CONCURRENT_PROJECT_ID": "0",
        "CI_SERVER": "yes",
        "CI_JOB_STATUS": "running",
        "CI_JOB_TIMEOUT": str(job.timeout),
        "CI": "true",
        "GITLAB_CI": "true",
        "CI_SERVER_URL": gitlab.url,
        "CI_API_V4_URL": f"{gitlab.url}/api/v4",
        "CI_PIPELINE_ID": "77",
        "CI_PIPELINE_SOURCE": "push",
        "CI_JOB_ID": str(job.id),
        "CI_JOB_NAME": job.name,
        "CI_JOB_STAGE": job.stage,
        "CI_JOB_TOKEN": job.token,
        "CI_PROJECT_ID": str(job.project_id),
        "CI_PROJECT_NAME": "project",
        "CI_PROJECT_PATH": gitlab.path,
        "CI_PROJECT_NAMESPACE": "group",
        "CI_REPOSITORY_URL": gitlab.repo_url.replace("://", f"://gitlab-ci-token:{job.token}@"),
        "CI_COMMIT_SHA": sha,
        "CI_COMMIT_SHORT_SHA": sha[:8],
        "CI_COMMIT_REF_NAME": job.ref,
        "CI_COMMIT_REF_SLUG": "main",
        "CI_COMMIT_BRANCH": "main",
        "CI_DEFAULT_BRANCH": "main",
        "GITLAB_USER_LOGIN": "ada",
        **job.variables,
        **job.masked_variables,
        **job.file_variables,
        "CI_RUNNER_VERSION": version,
        "RUNNER_TEMP_PROJECT_DIR": f"{project_dir}.tmp" if project_dir else "",
    }
    if job.image:
        found["CI_JOB_IMAGE"] = job.image
    return found | {"_CACHE_DIR": f"{cache_dir}/{gitlab.path}"}


def call_environment(
    own: dict[str, str],
    temporary: str,
    job_env: dict[str, str],
    job_variables: dict[str, str],
    *,
    code_file: bool,
) -> dict[str, str]:
    """Return the environment of one call. Later entries take precedence."""
    environment = own | {
        "TMPDIR": temporary,
        "BUILD_FAILURE_EXIT_CODE": "1",
        "SYSTEM_FAILURE_EXIT_CODE": "2",
        "JOB_RESPONSE_FILE": f"{temporary}/response.json",
    }
    if code_file:
        environment["BUILD_EXIT_CODE_FILE"] = f"{temporary}/build_exit_code"
    environment |= job_env
    environment |= {f"CUSTOM_ENV_{name}": value for name, value in job_variables.items() if not name.startswith("_")}
    return environment | {"CUSTOM_ENV_CI_JOB_SERVICES": ""}


def encoded(content: dict[str, Any]) -> bytes:
    """Encode JSON as Go does."""
    return json.dumps(content).encode()
