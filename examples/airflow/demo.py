"""The DAG of the CUG 2024 talk on real Airflow, against a gateway that is started for it: `make demo`.

Everything it makes is in `.demo`. It shows each task as it begins and ends, the job's output while the job runs, and
at last the computed values beside measured ones.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from calculations import Calculation, choose

from crestline.client import connect_blocking, load_sites
from crestline.model import CrestlineError

HERE = Path(__file__).resolve().parent
DEMO = HERE.parents[1] / ".demo"
HOME = DEMO / "gateway"
CRESTLINE = Path(sys.executable).with_name("crestline")
USUAL_PORT = 8080


def main() -> int:
    """Run it; returns the exit code."""
    calculation = choose()
    inbox, results = DEMO / "inbox", DEMO / "results"
    inbox.mkdir(parents=True, exist_ok=True)
    shutil.copy(calculation.structure, inbox)
    parameters = {
        "inbox": str(inbox),
        "structure": calculation.structure.name,
        "potentials": str(calculation.potential.parent),
        "potential": calculation.potential.name,
        "results": str(results),
        "python": sys.executable,
    }
    forget_the_users_settings()
    os.environ["CRESTLINE_SITES"] = str(DEMO / "sites.toml")  # the gateway registers itself there, operators look there
    with gateway() as url:
        say(f"Gateway   {url}, its home is {HOME}")
        say(f"Airflow   {version('apache-airflow')}, its home is {prepare_airflow()}")
        say(f"Job       equation of state of {calculation.title}")
        run = run_dag(parameters)
    states = {ti.task_id: str(ti.state) for ti in sorted(run.get_task_instances(), key=lambda ti: str(ti.end_date))}
    show(states, results / run.run_id, calculation, url)
    return 0 if all(state == "success" for state in states.values()) else 1


def say(text: str = "") -> None:
    print(text, flush=True)


def forget_the_users_settings() -> None:
    """Neither another gateway nor another Airflow is meant, whatever the environment says."""
    for name in list(os.environ):
        if name.startswith(("AIRFLOW", "AUTH_TOKEN_URL", "CRESTLINE", "FIRECREST")):
            del os.environ[name]


@contextmanager
def gateway() -> Iterator[str]:
    """The URL of a gateway on `.demo/gateway`: one that is served already, or one for this demonstration."""
    if url := already_served():
        yield url
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", USUAL_PORT))
            port = USUAL_PORT
        except OSError:
            port = 0
    command = [CRESTLINE, "serve", "--state-dir", HOME, "--port", str(port), "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert server.stdout is not None
    try:
        ready = server.stdout.readline()
        if not ready:
            sys.exit("The gateway did not start.")
        yield json.loads(ready)["url"]
    finally:
        server.terminate()
        server.wait()


def already_served() -> str | None:
    with suppress(CrestlineError, httpx.TransportError):
        site = load_sites().get("local")
        if site and httpx.get(f"{site.url}/status/liveness", trust_env=False).is_success:
            with connect_blocking(site):  # another gateway would not know this client
                return site.url
    return None


def prepare_airflow() -> Path:
    """Airflow's home and database; nothing of Airflow may be imported before."""
    home = DEMO / f"airflow-{version('apache-airflow')}"
    os.environ.update(
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__DAGS_FOLDER=str(HERE / "dags"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
        AIRFLOW_CONN_FS_DEFAULT="fs://",
    )
    warnings.simplefilter("ignore")
    from airflow.utils.db import initdb

    if not (home / "airflow.db").exists():
        say("Airflow   makes its database, a few seconds")
        initdb()
    return home


def run_dag(parameters: dict[str, str]) -> Any:
    """Run the DAG in this process; returns the DAG run."""
    from airflow.sdk.listener import get_listener_manager
    from narration import narrate

    logging.disable(logging.WARNING)
    get_listener_manager().add_listener(narrate())
    sys.path.insert(0, str(HERE / "dags"))
    from firecrest_example import dag

    say()
    return dag.test(run_conf=parameters)


def show(states: dict[str, str], results: Path, calculation: Calculation, url: str) -> None:
    """The computed values, the state of each task, and where to look further."""
    say("\nTasks")
    for task, state in states.items():
        say(f"  {task:<14}{state}")
    if (file := results / "result.json").exists():
        computed = json.loads(file.read_text())
        say(f"\nResult    {calculation.title}")
        for name, value, measured, unit in (
            ("lattice constant", computed["lattice_constant_angstrom"], calculation.lattice_constant, "A"),
            ("bulk modulus", computed["bulk_modulus_GPa"], calculation.bulk_modulus, "GPa"),
        ):
            say(f"  {name:<17} {value:8.4g} {unit:<4} measured {measured:8.4g} ({value / measured - 1:+.1%})")
        say(f"  measured values: {calculation.source}")
        say(f"  files: {results}")
    port = urlsplit(url).port
    say("\nThe gateway's page and its API documentation: start it again, and open")
    say(f"  {CRESTLINE} serve --state-dir {HOME} --port {port}")
    say(f"  {url}    {url}/docs")


if __name__ == "__main__":
    sys.exit(main())
