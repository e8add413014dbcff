"""What each host does meanwhile. Every job writes a line to a file of its own, so that a second run would show."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from crestline.testing.gitlab_runner import Build, CiJob, GitLab
from gitlab_runner.site import CRESTLINE, DriverSite
from harness.airflow_stack import AirflowStack
from harness.hub import Hub
from harness.reframe_suite import Done, Suite

CHECKS = Path(__file__).parents[1] / "reframe" / "checks"

DAGS = """
from airflow.sdk import DAG
from crestline_airflow.operators import FirecRESTSubmitOperator

SCRIPTS = [
    f"#!/bin/sh\\necho $SLURM_JOB_ID >> {tallies}/airflow-{{number}}\\nsleep {{number % 7}}\\n"
    for number in range({count})
]

with DAG("chaos", schedule=None, max_active_tasks={count}) as dag:
    FirecRESTSubmitOperator.partial(
        task_id="job", firecrest_conn_id="slurm", working_dir="{workdir}", deferrable=True
    ).expand(script=SCRIPTS)
"""


class AirflowTasks:
    """One mapped task for each job."""

    def __init__(self, stack: AirflowStack) -> None:
        self._stack = stack

    def begin(self) -> None:
        self._run = self._stack.trigger("chaos")

    def states(self) -> Counter[str]:
        """How many task instances are in each state."""
        states: Counter[str] = Counter()
        while True:  # Airflow gives at most a hundred at once
            options = {"limit": 100, "offset": states.total()}
            answer = self._stack.ask("GET", f"{self._run.run_path}/taskInstances", params=options)
            found = answer.json()["task_instances"]
            if not found:
                return states
            states.update(str(each["state"]) for each in found)

    def outcome(self, seconds: float) -> Counter[str]:
        """The states when all has ended."""
        self._stack.until(self._run.is_over, seconds)
        return self.states()

    def triggerer_dies(self, seconds: float) -> None:
        dead = self._stack.triggerers[-1]
        self._stack.kill(dead)
        threading.Event().wait(seconds)
        self._stack.start_triggerer()


class HubServers:
    """One server for each of some users."""

    def __init__(self, hub: Hub, count: int) -> None:
        self._hub = hub
        self._users = [f"person{number:03}" for number in range(count)]

    def begin(self) -> None:
        for user in self._users:
            assert self._hub.spawn(user).status_code in (201, 202)

    def outcome(self, seconds: float) -> Counter[str]:
        """What the hub says of them once none is pending."""
        self._hub.wait(lambda: not self._states()["pending"], "servers are pending for ever", seconds)
        return self._states()

    def stop(self) -> None:
        for user in self._users:
            self._hub.stop_server(user)

    def hub_dies(self, seconds: float) -> None:
        self._hub.kill()
        threading.Event().wait(seconds)
        self._hub.start()

    def _states(self) -> Counter[str]:
        servers = [self._hub.server(user) or {} for user in self._users]
        return Counter(
            "pending" if each.get("pending") else "ready" if each.get("ready") else "lost" for each in servers
        )


class ReframeRun:
    """One run of many small tests."""

    def __init__(self, suite: Suite, count: int) -> None:
        self._suite = suite
        suite.variables = {"RFM_TEST_COUNT": str(count)}

    def begin(self) -> None:
        self._process: subprocess.Popen[str] = self._suite.start("-c", CHECKS / "many.py", "-S", "seconds=3", "-r")

    def outcome(self, seconds: float) -> Counter[str]:
        """How many tests passed, failed or were left out."""
        self._done: Done = self._suite.finish(self._process, timeout=seconds)
        return Counter(self._done.results.values())

    @property
    def printed(self) -> str:
        return self._done.output


class CiJobs:
    """Some jobs of pipelines, several at a time as a runner's `concurrent` allows."""

    def __init__(self, site: DriverSite, gitlab: GitLab, count: int, tallies: str) -> None:
        self._site = site
        self._gitlab = gitlab
        self._sha = gitlab.commit({"README.md": "chaos\n"})
        self._jobs = [
            CiJob(script=[f"echo $SLURM_JOB_ID >> {tallies}/ci-{number}", "sleep 3"], name=f"chaos-{number}")
            for number in range(count)
        ]
        self._pool = ThreadPoolExecutor(min(count, 5))
        self._builds: list[Future[Build]] = []
        self.texts: list[str] = []

    def begin(self) -> None:
        self._builds = [self._pool.submit(self._site.run, self._gitlab, job, sha=self._sha) for job in self._jobs]

    def outcome(self, seconds: float) -> Counter[str]:
        """What the jobs ended as."""
        builds = [each.result(seconds) for each in self._builds]
        self._pool.shutdown()
        self.texts = [build.text for build in builds if build.state != "success"]
        return Counter(str(build.state) for build in builds)

    def collect(self) -> None:
        """What a site's timer does every hour."""
        command = [str(CRESTLINE), "gitlab", "gc", "-c", str(self._site.file)]
        subprocess.run(command, check=True, env=os.environ | self._site.custom.environment)
