"""A real JupyterHub with batchspawner's SlurmSpawner, whose commands are Crestline's."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from harness.cluster import Cluster
from harness.hub import Hub
from harness.slurm_commands import BIN, SlurmCommands

SETTINGS = """
import batchspawner
c.JupyterHub.spawner_class = "batchspawner.SlurmSpawner"
c.SlurmSpawner.exec_prefix = ""
c.SlurmSpawner.batch_submit_cmd = "crestline-sbatch --parsable"
c.SlurmSpawner.batch_query_cmd = "crestline-squeue -h -j {{job_id}} -o '%T %B'"
c.SlurmSpawner.batch_cancel_cmd = "crestline-scancel {{job_id}}"
c.SlurmSpawner.req_srun = ""
c.SlurmSpawner.req_runtime = "00:10:00"
c.SlurmSpawner.startup_poll_interval = 0.3
c.SlurmSpawner.batch_script = \"\"\"#!/bin/bash
#SBATCH --output={folder}/%j.log
#SBATCH --job-name=spawner-jupyterhub
#SBATCH --chdir={folder}
#SBATCH --export={{{{keepvars}}}}
#SBATCH --time={{{{runtime}}}}
{{{{cmd}}}}
\"\"\"
c.Spawner.cmd = ["server-of-the-test"]
c.Spawner.args = []
"""

# Stands in for jupyterhub-singleuser, which takes its time to start.
SERVER = """#!/usr/bin/env python
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

url = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
HTTPServer(("", url.port), Handler).serve_forever()
"""


@pytest.mark.parametrize("where", ["local", "slurm"])
def test_a_server_is_spawned_polled_and_stopped(where: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    commands: SlurmCommands = request.getfixturevalue(where)
    folder, user, address = tmp_path / "hub", "root", "127.0.0.1"
    folder.mkdir()
    shared, settings = folder, ""
    if where == "slurm":
        cluster: Cluster = request.getfixturevalue("cluster")
        user, address = "alice", cluster.machine
        shared = Path(tempfile.mkdtemp(dir=cluster.shared))
        shared.chmod(0o1777)
        settings = "import os, pwd\npwd.getpwnam = lambda name: pwd.getpwuid(os.getuid())\n"  # the hub has no alice
        container = cluster.check("root", ["hostname", "-I"]).split()[0]
        settings += f'c.SlurmSpawner.state_exechost_exp = "{container}"\n'  # this machine does not know n01
    (shared / "server-of-the-test").write_text(SERVER)
    (shared / "server-of-the-test").chmod(0o755)
    path = f"{BIN}:{shared}:/usr/local/bin:/usr/bin:/bin"
    environment = {"PATH": path, "CRESTLINE_SITES": commands.environment["CRESTLINE_SITES"]}
    settings += SETTINGS.format(folder=shared) + f"c.Spawner.environment = {environment!r}\n"
    with Hub(folder, settings, environment, host=address) as hub:
        hub.spawn(user).raise_for_status()
        hub.ready(user)
        (row,) = commands("squeue", "--me", "-h", "-n", "spawner-jupyterhub", "-o", "%i %T").splitlines()
        job_id, state = row.split()
        assert state == "RUNNING"
        hub.stop_server(user)
    assert commands("sacct", "-nPX", "-j", job_id, "-o", "State").startswith("CANCELLED")
