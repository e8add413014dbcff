"""A client whose whole process logs at debug level writes down no credential, no signature and no value of a job."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from harness.gateway import in_thread

PROGRAM = """
import logging, os, pathlib, sys
logging.basicConfig(level=logging.NOTSET, stream=sys.stdout)
import httpx
from crestline.client import connect_blocking
from crestline.model import CrestlineError, JobSpec
files = sys.argv[1]
with connect_blocking() as system:
    spec = JobSpec(script="#!/bin/sh\\ntest -n $WORD\\n", workdir=files, environment={"WORD": os.environ["MARK"]})
    system.wait(system.submit(spec, key="k"))
    pathlib.Path("large").write_bytes(os.urandom(20_000_000))
    system.upload("large", f"{files}/large")
    system.download(f"{files}/large", "back")
    try:
        system.read_text(f"{files}/missing")
    except CrestlineError:
        logging.exception("%r of %r", "missing", system)
    # As the client does with the signed URLs of a gateway.
    httpx.get(f"{os.environ['FIRECREST_URL']}/transfers/local/t0/content?expires=1&signature=0123456789abcdef")
logging.info("done")
"""
TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{20,}|signature=[A-Za-z0-9_-]{8,}", re.IGNORECASE)


def test_a_client_that_logs_all_it_can(tmp_path: Path) -> None:
    with in_thread(tmp_path / "home") as gateway:
        client, secret = gateway.client
        environment = os.environ | {
            "FIRECREST_URL": gateway.url,
            "FIRECREST_SYSTEM": "local",
            "AUTH_TOKEN_URL": gateway.token_url,
            "FIRECREST_CLIENT_ID": client,
            "FIRECREST_CLIENT_SECRET": secret,
            "CRESTLINE_SITES": str(tmp_path / "sites.toml"),
            "MARK": "S3cretMark",
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "home" / "files")],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    assert (done.returncode, "INFO:root:done" in done.stdout) == (0, True), done.stdout[-2000:]
    assert "/oauth2/token" in done.stdout, "the libraries' own lines are not there"
    assert secret not in done.stdout
    assert "S3cretMark" not in done.stdout
    assert TOKEN.findall(done.stdout) == []
