"""A whole Airflow at work: API server, scheduler, DAG processor and triggerers, on loopback, in a home of its own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from harness.waiting import until_blocking

AIRFLOW = Path(sys.executable).with_name("airflow")
PATIENCE = 180.0
"""seconds for what other processes do on a busy machine"""


class AirflowStack:
    """Made by `running`.

    Attributes:
        api: the public REST API, as an administrator.
        triggerers: those that were started, the killed ones included.
    """

    api: httpx.Client

    def __init__(self, home: Path, connections: dict[str, dict[str, Any]]) -> None:
        self.home = home
        self.triggerers: list[subprocess.Popen[bytes]] = []
        self._others: list[subprocess.Popen[bytes]] = []
        self._port = _free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "FIRECREST_"))}
        self.environment = kept | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__PORT": str(self._port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
            "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
            "CRESTLINE_SITES": str(home / "sites.toml"),
        }
        for name, connection in connections.items():
            self.environment[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(connection)

    # the processes

    def start(self) -> None:
        """Make the database, start everything, and wait until all are healthy and all DAGs are known."""
        subprocess.run([AIRFLOW, "db", "migrate"], env=self.environment, check=True, stdout=self._log("migrate"))
        for command in (
            ["api-server"],
            ["scheduler", "--skip-serve-logs"],
            ["dag-processor"],
        ):
            self._others.append(self._start(*command))
        self.start_triggerer()
        self.until(self._is_healthy)
        token = httpx.get(f"{self.url}/auth/token", trust_env=False).json()["access_token"]
        self.api = httpx.Client(
            base_url=f"{self.url}/api/v2",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
            trust_env=False,
        )

    def start_triggerer(self) -> subprocess.Popen[bytes]:
        """One more triggerer."""
        self.triggerers.append(self._start("triggerer", "--skip-serve-logs"))
        return self.triggerers[-1]

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL to a process and all its children."""
        _signal_group(process, signal.SIGKILL)
        process.wait(30)

    def freeze(self, process: subprocess.Popen[bytes]) -> None:
        """Stop a process and its children where they stand."""
        _signal_group(process, signal.SIGSTOP)

    def thaw(self, process: subprocess.Popen[bytes]) -> None:
        """Let them go on."""
        _signal_group(process, signal.SIGCONT)

    def stop(self) -> None:
        """End all of it; what does not hear is killed."""
        processes = [*self._others, *self.triggerers]
        for process in processes:
            _signal_group(process, signal.SIGCONT)
            _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + 10
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            _signal_group(process, signal.SIGKILL)
            process.wait(30)

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        log = self._log(f"{command[0]}-{len(self.triggerers)}")
        # The group is a session of its own, so that all its children can be ended.
        return subprocess.Popen(
            [AIRFLOW, *command], env=self.environment, stdout=log, stderr=log, start_new_session=True, cwd=self.home
        )

    def _log(self, name: str) -> Any:
        return (self.home / f"{name}.out").open("ab")

    def output_of(self, command: str) -> list[str]:
        """What the processes of this name have printed."""
        return [line for file in self.home.glob(f"{command}-*.out") for line in file.read_text().splitlines()]

    def _is_healthy(self) -> bool:
        for process in self._others:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args} ended while it started; see {self.home}/*.out")
        try:
            health = httpx.get(f"{self.url}/api/v2/monitor/health", trust_env=False, verify=False).json()
        except (httpx.TransportError, json.JSONDecodeError):
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all(health.get(part, {}).get("status") == "healthy" for part in parts)

    def until(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """What the condition answers, as soon as that is true."""
        return until_blocking(condition, seconds, what="what the test waits for did not happen in Airflow")

    # what users do

    def trigger(self, dag_id: str, task_id: str = "job") -> TaskOf:
        """Begin a run of a DAG, as soon as the DAG is known; returns one of its tasks."""
        self.until(lambda: self.api.get(f"/dags/{dag_id}").status_code == 200)
        run_id = f"run-{secrets.token_hex(4)}"
        answer = self.ask("POST", f"/dags/{dag_id}/dagRuns", json={"logical_date": None, "dag_run_id": run_id})
        return TaskOf(self, dag_id, answer.json()["dag_run_id"], task_id)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """An answer of the API that is not an error; repeated where a busy machine keeps SQLite's lock for too long."""
        answer = self.until(lambda: _usable(self.api.request(method, path, **options)))
        answer.raise_for_status()
        return answer  # type: ignore[no-any-return]

    def test_connection(self, conn_id: str, connection: dict[str, Any]) -> dict[str, Any]:
        """Press the test button of the form."""
        body = {"connection_id": conn_id, **connection, "extra": json.dumps(connection.get("extra", {}))}
        return dict(self.ask("POST", "/connections/test", json=body).json())


class TaskOf:
    """A task of a DAG run."""

    def __init__(self, stack: AirflowStack, dag_id: str, run_id: str, task_id: str) -> None:
        self._stack = stack
        self._run = f"/dags/{dag_id}/dagRuns/{run_id}"
        self._dag_id, self._run_id, self._task_id = dag_id, run_id, task_id

    @property
    def task_id(self) -> str:
        return self._task_id

    @property
    def run_path(self) -> str:
        """Of its DAG run, in the API."""
        return self._run

    def of(self, task_id: str) -> TaskOf:
        """Another task of the same run."""
        return TaskOf(self._stack, self._dag_id, self._run_id, task_id)

    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self._stack.ask("GET", self._run).json()["state"] in ("success", "failed")

    def look(self) -> dict[str, Any]:
        """The task instance now."""
        return dict(self._stack.ask("GET", f"{self._run}/taskInstances/{self._task_id}").json())

    def until(self, *states: str, try_number: int | None = None) -> dict[str, Any]:
        """The task instance as soon as it is in one of these states; fails if it has ended in another one."""

        def arrived() -> dict[str, Any] | None:
            now = self.look()
            if now["state"] in states and try_number in (None, now["try_number"]):
                return now
            if now["state"] in ("success", "failed") and try_number in (None, now["try_number"]):
                raise AssertionError(f"the task is {now['state']}\n{self.log()}")
            return None

        try:
            return dict(self._stack.until(arrived))
        except TimeoutError:
            raise AssertionError(f"the task is {self.look()['state']}, not {states}\n{self.log()}") from None

    def mark(self, state: str) -> None:
        """Mark it failed, or successful."""
        url = f"{self._run}/taskInstances/{self._task_id}"
        self._stack.ask("PATCH", url, json={"new_state": state})

    def clear(self) -> None:
        """Clear it, whatever its state."""
        body = {"dry_run": False, "dag_run_id": self._run_id, "task_ids": [self._task_id], "only_failed": False}
        self._stack.ask("POST", f"/dags/{self._dag_id}/clearTaskInstances", json=body)

    def delete(self) -> None:
        """Delete the task instance; the scheduler makes it anew."""
        self._deleted = self.look()["id"]
        self._stack.ask("DELETE", f"{self._run}/taskInstances/{self._task_id}")

    def until_made_anew(self) -> None:
        """Return when there is a task instance again after `delete`."""

        def is_new() -> bool:
            answer = self._stack.api.get(f"{self._run}/taskInstances/{self._task_id}")
            return answer.status_code == 200 and answer.json()["id"] != self._deleted

        self._stack.until(is_new)

    def until_off_workers(self, times: int = 1) -> None:
        """Return when the scheduler has seen this task leave a worker so often.

        Airflow fails a deferred task whose trigger fires before that.
        """
        key = f"dag_id='{self._dag_id}', task_id='{self._task_id}', run_id='{self._run_id}'"

        def seen() -> bool:
            lines = self._stack.output_of("scheduler")
            return sum("Received executor event" in line and key in line for line in lines) >= times

        self._stack.until(seen)

    def xcom(self, key: str = "return_value") -> Any:
        """One of its XComs; None if there is none."""
        answer = self._stack.api.get(f"{self._run}/taskInstances/{self._task_id}/xcomEntries/{key}")
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        value = answer.json()["value"]
        return json.loads(value) if isinstance(value, str) and value[:1] in '{["' else value

    def link(self, name: str) -> Any:
        """Where one of its buttons leads."""
        answer = self._stack.ask("GET", f"{self._run}/taskInstances/{self._task_id}/links")
        return answer.json()["extra_links"].get(name)

    def log_lines(self, try_number: int | None = None) -> list[str]:
        """The messages of the task log, as the user interface shows it: workers' and triggerers' together."""
        return [str(entry.get("event")) for entry in self._entries(try_number)]

    def log(self, try_number: int | None = None) -> str:
        """The task log with all details of errors."""
        return "\n".join(f"{entry.get('event')} {entry.get('error_detail', '')}" for entry in self._entries(try_number))

    def _entries(self, try_number: int | None) -> list[dict[str, Any]]:
        number = try_number or self.look()["try_number"]
        url = f"{self._run}/taskInstances/{self._task_id}/logs/{number}?full_content=true"
        answer = self._stack.ask("GET", url)
        return list(answer.json()["content"])

    def until_logged(self, text: str) -> None:
        """Return as soon as a line with this text is in the task log."""
        self._stack.until(lambda: any(text in line for line in self.log_lines()))


@contextmanager
def running(home: Path, dags: str, connections: dict[str, dict[str, Any]]) -> Iterator[AirflowStack]:
    """Start one with a file of DAGs; `connections` are known to all its processes by their ids."""
    (home / "dags").mkdir(parents=True)
    (home / "dags/live.py").write_text(dags)
    stack = AirflowStack(home, connections)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def _usable(answer: httpx.Response) -> httpx.Response | None:
    return None if answer.is_server_error else answer


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
