"""Jobs that try to get at what is not theirs: the runner's machine, its credentials, other users' reach."""

from __future__ import annotations

import io
import json
import os
import stat
import zipfile
from pathlib import Path

import pytest

from crestline.client import connect_blocking
from crestline.model import ConfigError
from crestline.testing.firecrest import PlainFirecrest
from crestline.testing.gitlab_runner import CiJob, GitLab
from crestline_gitlab_runner.settings import load_settings
from gitlab_runner.conftest import MakeSite
from gitlab_runner.site import DriverSite
from harness.slurm_gateway import SlurmGateway


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"variables": {"GIT_FETCH_EXTRA_FLAGS": "--upload-pack=touch${IFS}canary"}}, "is not allowed here"),
        ({"variables": {"GIT_CLONE_EXTRA_FLAGS": "-c core.fsmonitor=evil"}}, "is not allowed here"),
        ({"variables": {"GIT_CLEAN_FLAGS": "$(id)"}}, "is not allowed here"),
        ({"hooks": [{"name": "pre_get_sources_script", "script": ["touch canary"]}]}, "cannot run"),
        ({"variables": {"F7T_CLIENT_ID": "me", "F7T_CLIENT_SECRET": "mine"}}, "does not take"),
        ({"variables": {"CRESTLINE_ALLOC": "../../etc"}}, "cannot be a name"),
        ({"image": "$(touch canary)"}, "not a name of an image"),
    ],
)
def test_what_is_refused_before_anything_happens(change: dict, said: str, site: DriverSite, gitlab: GitLab) -> None:
    build = site.run(gitlab, CiJob(script=["true"], **change))
    assert build.reason in ("script_failure", "runner_system_failure"), build.text
    assert "prepare_script" not in build.stages
    assert said in build.text
    assert site.left_behind() == []


def test_credentials_of_a_job_go_to_the_configured_addresses_only(make_site: MakeSite, gitlab: GitLab) -> None:
    site = make_site("gateway", gateway={"allow_job_credentials": True})
    own = {"F7T_CLIENT_ID": "me", "F7T_CLIENT_SECRET": "mine"}
    for more, said in (
        ({"F7T_URL": "http://127.0.0.1:1"}, "F7T_URL is not the address"),
        ({"F7T_TOKEN_URL": "http://127.0.0.1:1/token"}, "F7T_TOKEN_URL is not the address"),
        ({"F7T_CLIENT_SECRET": ""}, "Only one of"),
    ):
        build = site.run(gitlab, CiJob(script=["true"], variables=own | more))
        assert said in build.text
        assert "mine" not in build.text


def test_variables_do_not_steer_programs_on_the_runners_machine(
    site: DriverSite, gitlab: GitLab, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {canary}\n")
    evil.chmod(0o755)
    job = CiJob(
        script=["export PATH=/usr/bin:/bin; unset BASH_ENV LD_PRELOAD", "echo it went on"],
        variables={
            "PATH": "/nonexistent",
            "BASH_ENV": str(evil),
            "LD_PRELOAD": "/nonexistent.so",
            "GIT_SSH_COMMAND": str(evil),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "core.fsmonitor",
            "GIT_CONFIG_VALUE_0": str(evil),
            "GIT_ASKPASS": str(evil),
            "FIRECREST_URL": "http://127.0.0.1:1",
            "CRESTLINE_SITES": str(evil),
            "TMPDIR": "/nonexistent",
            "PYTHONPATH": str(tmp_path),
        },
        cache=[{"key": "k", "paths": ["c"]}],
    )
    build = site.run(gitlab, job)
    assert "it went on\n" in build.text, build.text
    assert not canary.exists()


def test_results_cannot_leave_their_folder(site: DriverSite, gitlab: GitLab, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    job = CiJob(
        script=[
            "mkdir -p out/.git sub/.git",
            f"printf '[core]\\n\\tfsmonitor = touch {canary}\\n' | tee out/.git/config sub/.git/config >/dev/null",
            "ln -s /etc/passwd out/passwd; ln -s ../../../../.. out/up; echo fine > out/fine; ln -s fine out/link",
        ],
        artifacts=[{"paths": ["out", "../../*", "/etc/passwd"], "untracked": True}],
    )
    build = site.run(gitlab, job)
    assert build.state == "success", build.text
    with zipfile.ZipFile(io.BytesIO(gitlab.artifacts[job.id])) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    assert {"out/fine", "out/link"} <= names
    assert not {"out/passwd", "out/up"} & names
    assert not any(".git" in name.split("/") for name in names)
    assert not canary.exists()


def test_a_workspace_that_stays_open_to_others_is_not_used(
    make_site: MakeSite, plain: PlainFirecrest, gitlab: GitLab
) -> None:
    entry = {"type": "d", "permissions": "rwxr-x---", "user": "u", "group": "g", "size": "0", "linkTarget": None}
    answer = json.dumps({"output": entry | {"name": "ci", "lastModified": "2026-01-01T00:00:00"}})
    plain.faults.garble("/ops/chmod", body=answer, count=None)
    before = len(plain.jobs())
    build = make_site("plain").run(gitlab, CiJob(script=["true"]))
    plain.faults.reset()
    assert "could not be closed to other users" in build.text
    assert build.reason == "runner_system_failure"
    assert len(plain.jobs()) == before, "nothing is submitted"


def test_a_root_that_others_may_write_is_not_used(make_site: MakeSite, gitlab: GitLab) -> None:
    site = make_site("gateway")
    with connect_blocking(site.client_site) as system:
        root = f"{system.default_workdir()}/open-to-all"
        system.mkdir(f"{root}/driver", parents=True)
        changed = system.chmod(f"{root}/driver", "777")
    assert changed is not None
    assert changed.permissions == "rwxrwxrwx"
    build = make_site("gateway", workspace={"root": root}).run(gitlab, CiJob(script=["true"]))
    assert f"Other users may write in {root}/driver" in build.text
    assert "prepare_script" not in build.stages


def test_no_secret_shows_on_the_system(site: DriverSite, gitlab: GitLab) -> None:
    """Neither in the scheduler's script nor in any process's arguments nor in the batch environment; 0700 around it."""
    job = CiJob(
        script=["echo it runs", "sleep 600"],
        variables={"PASSWORD": "pa55word-of-the-project"},
        artifacts=[{"paths": ["x"], "when": "always"}],
    )
    secrets = [job.token.encode(), b"pa55word-of-the-project", (site.client_site.client_secret or "").encode()]
    with site.start(gitlab, job) as build:
        build.wait_for("it runs\n")
        with connect_blocking(site.client_site) as system:
            (scheduled,) = [each for each in system.jobs() if each.name.startswith(f"ci-{job.id}-")]
            script = (system.metadata(scheduled).script or "").encode()
        workspace = Path(scheduled.workdir)
        assert stat.S_IMODE(workspace.stat().st_mode) == 0o700
        shown = [script]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                arguments = (process / "cmdline").read_bytes()
                shown.append(arguments)
                if b"slurm_script" in arguments or b"/jobs/" in arguments:
                    shown.append((process / "environ").read_bytes())
            except OSError:
                continue
        assert not [secret for secret in secrets if any(secret in text for text in shown)]
        build.abort()
        build.wait()
    assert not workspace.exists()


def test_the_projects_own_client(slurm_gateway: SlurmGateway, make_site: MakeSite, gitlab: GitLab) -> None:
    """The runner is alice; a project with protected variables of bob's client runs as bob."""
    site = make_site("slurm", gateway={"allow_job_credentials": True})
    client_id, secret = slurm_gateway.client_of("bob")
    build = site.run(
        gitlab,
        CiJob(script=["whoami"], variables={"F7T_CLIENT_ID": client_id, "F7T_CLIENT_SECRET": secret}),
    )
    assert build.state == "success", build.text
    assert "\nbob\n" in build.text
    assert "\nalice\n" in site.run(gitlab, CiJob(script=["whoami"])).text


def test_a_configuration_that_others_may_read_or_change(site: DriverSite) -> None:
    for mode in (0o646, 0o606, 0o620):
        site.file.chmod(mode)
        os.chown(site.file, -1, 12345)  # a group of others
        with pytest.raises(ConfigError, match="Others may write"):
            load_settings(site.file)
    site.file.chmod(0o600)
    assert load_settings(site.file).name == "driver"
    secret = site.file.with_name("secret")
    secret.chmod(0o644)
    from crestline_gitlab_runner.identity import site as identity

    with pytest.raises(ConfigError, match="open to other users"):
        identity(load_settings(site.file), None)
    assert os.stat(site.file).st_mode & 0o077 == 0
