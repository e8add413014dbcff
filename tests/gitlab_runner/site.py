"""The driver as a site would configure it: a configuration file and the runner's table."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from crestline.client import Site
from crestline.testing.firecrest import PlainFirecrest
from crestline.testing.gitlab_runner import Build, CiJob, Custom, GitLab
from crestline.testing.iri import TOKEN, Facility
from harness import sites, workstation
from harness.forked import forked
from harness.gateway import RunningGateway
from harness.slurm_gateway import SlurmGateway

CRESTLINE = Path(sys.executable).with_name("crestline")


@dataclass
class DriverSite:
    """A configured driver."""

    file: Path
    state: Path
    custom: Custom
    client_site: Site
    """the same gateway and identity, for the test's own look"""

    def run(self, gitlab: GitLab, job: CiJob, **options: Any) -> Build:
        """Run a job to its end."""
        with self.start(gitlab, job, **options) as build:
            return build.wait()

    def start(self, gitlab: GitLab, job: CiJob, **options: Any) -> Build:
        """To be used in a `with`."""
        sha = options.pop("sha", None) or gitlab.commit({"README.md": "hello\n"})
        return Build(self.custom, gitlab, job, sha, **options)

    def run_together(self, gitlab: GitLab, jobs: Sequence[CiJob], *, sha: str) -> list[Build]:
        """Run several jobs at the same time, each to its end."""
        with ExitStack() as stack:
            builds = [stack.enter_context(Build(self.custom, gitlab, job, sha)) for job in jobs]
            return [build.wait() for build in builds]

    def left_behind(self) -> list[str]:
        """Folders of jobs that the driver still remembers."""
        return sorted(path.name for path in self.state.glob("*/job-*"))


def gateway_site(place: Path, running: RunningGateway, /, **tables: Any) -> DriverSite:
    return driver_site(place, sites.gateway_site(running), **tables)


def slurm_site(place: Path, running: SlurmGateway, /, user: str = "alice", **tables: Any) -> DriverSite:
    client_id, secret = running.client_of(user)
    return driver_site(place, sites.gateway_site(running, client_id=client_id, client_secret=secret), **tables)


def plain_site(place: Path, plain: PlainFirecrest, **tables: Any) -> DriverSite:
    return driver_site(place, sites.plain_site(plain), **tables)


def iri_site(place: Path, facility: Facility, **tables: Any) -> DriverSite:
    site = Site(url=facility.url, api="iri", token=TOKEN, system="Pearl", options={"workdir": str(facility.root)})
    return driver_site(place, site, **tables)


def workstation_site(place: Path, facility: Path, **tables: Any) -> DriverSite:
    url = f"workstation:{facility}"
    site = Site(url=url, api="workstation", token="unused", system="workstation")
    made = driver_site(place, site, **tables)
    made.custom.environment["PYTHONPATH"] = os.pathsep.join(map(str, workstation.install(place / "installed")))
    return made


def iri_slurm_site(place: Path, running: SlurmGateway, /, user: str = "alice", **tables: Any) -> DriverSite:
    client_id, secret = running.client_of(user)
    return driver_site(place, sites.iri_site(running, client_id=client_id, client_secret=secret), **tables)


def driver_site(place: Path, site: Site, **tables: Any) -> DriverSite:
    """A driver whose `[gateway]` says what the site's table in a sites file would."""
    secret = place / "secret"
    secret.touch(0o600)
    secret.write_text(site.client_secret or "")
    content: dict[str, Any] = {
        "gateway": {"url": site.url, "system": site.system, "api": site.api, "options": site.options},
        "recovery": {"state_dir": str(place / "state")},
    }
    if site.client_id:
        identity = {"token_url": site.token_url, "client_id": site.client_id, "client_secret_file": str(secret)}
        content["gateway"] |= identity
    if site.token:
        content["gateway"]["token_command"] = ["echo", site.token]
    for name, table in tables.items():
        content[name] = content.get(name, {}) | table
    file = place / "driver.toml"
    file.touch(0o600)
    file.write_text(tomlkit.dumps(content))

    def call(stage: str) -> list[str]:
        return [str(forked()), "gitlab", stage, "-c", str(file)]

    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "LANG": "C.UTF-8",
    }
    custom = Custom(call("config"), call("prepare"), call("run"), call("cleanup"), environment=environment)
    return DriverSite(file, place / "state", custom, site)
