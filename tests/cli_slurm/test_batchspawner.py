"""A real JupyterHub with batchspawner's SlurmSpawner, whose commands are Crestline's."""

from __future__ import annotations

from pathlib import Path

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


def test_a_server_is_spawned_polled_and_stopped(local: SlurmCommands, tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "server-of-the-test").write_text(SERVER)
    (folder / "server-of-the-test").chmod(0o755)
    settings = SETTINGS.format(folder=folder)
    environment = {
        "PATH": f"{BIN}:{folder}:/usr/local/bin:/usr/bin:/bin",
        "CRESTLINE_SITES": local.environment["CRESTLINE_SITES"],
    }
    settings += f"c.Spawner.environment = {environment!r}\n"
    with Hub(folder, settings, environment) as hub:
        hub.spawn("root").raise_for_status()
        hub.ready("root")
        (row,) = local("squeue", "--me", "-h", "-n", "spawner-jupyterhub", "-o", "%i %T").splitlines()
        job_id, state = row.split()
        assert state == "RUNNING"
        hub.stop_server("root")
    assert local("sacct", "-nPX", "-j", job_id, "-o", "State").startswith("CANCELLED")
