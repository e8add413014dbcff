"""`crestline serve --log-format json`: every line is one JSON object."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from crestline.gateway.logs import JsonFormatter
from harness.gateway import GatewayProcess
from harness.ports import free_port
from harness.secret_scanner import known_below, logs_below, plant, remember, shown_by


def test_every_line_is_one_object(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "home", free_port(), "--log-level", "debug", "--log-format", "json")
    gateway.start()
    try:
        with gateway.http() as http:
            http.get("/status/systems", headers={"X-Request-ID": "mine"})
            http.get("/compute/local/jobs/no%0Ajob", headers={"X-Request-ID": "no job"})
            http.post("/compute/local/jobs", content=b"{")
            job = {"workingDirectory": str(gateway.home / "files"), "script": "#!/bin/sh\n", "name": "two\nlines"}
            http.post("/compute/local/jobs", json={"job": job})
    finally:
        gateway.stop()
    records = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    assert all({"time", "level", "logger", "request_id", "message"} <= record.keys() for record in records)
    [mine] = [each for each in records if each["request_id"] == "mine" and each["logger"] == "crestline.access"]
    assert (mine["method"], mine["path"], mine["status"], mine["level"]) == ("GET", "/status/systems", 200, "INFO")
    assert mine["message"].startswith(f"{mine['user']} GET /status/systems 200 ")
    assert isinstance(mine["milliseconds"], float)
    assert {"no%0Ajob"} <= {str(each.get("path", "")).rpartition("/")[2] for each in records}


def test_no_secret_is_in_it(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "home", free_port(), "--log-level", "debug", "--log-format", "json")
    gateway.start()
    try:
        remember("client secret", gateway.client[1])
        with gateway.http() as http:
            remember("access token", http.auth.token)
            remember("API key", http.post("/keys", json={"name": "planted"}).json()["secret"])
            upload = {"path": f"{gateway.home}/files/x", "transferDirectives": {"transferMethod": "s3", "fileSize": 1}}
            directives = http.post("/filesystem/local/transfer/upload", json=upload).json()["transferDirectives"]
            [url] = directives["partsUploadUrls"]
            remember("signature", httpx.URL(url).params["signature"])
            assert httpx.put(url, content=b"x", trust_env=False).status_code == 200
            job = {"workingDirectory": f"{gateway.home}/files", "script": "no script", "env": {"A": plant("variable")}}
            assert http.post("/compute/local/jobs", json={"job": job}).status_code == 400
        forged = plant("forged key")
        with httpx.Client(base_url=gateway.url, trust_env=False) as stranger:
            for headers in ({"X-API-Key": forged}, {"Authorization": f"Bearer {forged}"}):
                assert stranger.get("/status/systems", headers=headers).status_code == 401
            wrong = {"grant_type": "refresh_token", "refresh_token": forged}
            assert stranger.post("/oauth2/token", data=wrong).status_code in (400, 401)
    finally:
        gateway.stop()
    assert gateway.log.read_text().count("crestline.access") > 6
    assert shown_by([gateway.log, *logs_below(gateway.home)], known_below(tmp_path)) == []


def formatted(**given: Any) -> dict[str, Any]:
    """What the formatter makes of one call, which must be one line."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.error(given.pop("message"), **given)
    [line] = stream.getvalue().splitlines()
    return dict(json.loads(line))


def test_breaks_and_tracebacks_stay_in_their_line() -> None:
    message = "two\nlines\u2028and \udc80 \x1b[2J"
    assert formatted(message=message)["message"] == message
    try:
        raise ValueError(message)
    except ValueError:
        shown = formatted(message="failed", exc_info=True, extra={"fields": {"path": Path("/x"), "status": 500}})
    assert shown["exception"].endswith(f"ValueError: {message}")
    assert (shown["path"], shown["status"]) == ("/x", 500)


def test_warnings_are_records_too() -> None:
    code = (
        "import warnings; from crestline.gateway.logs import configure_logging\n"
        "configure_logging('WARNING', as_json=True); warnings.warn('old', DeprecationWarning, stacklevel=1)"
    )
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert any("DeprecationWarning: old" in record["message"] for record in records)
