"""ReFrame as its users run it: a process with a site configuration of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crestline.client import Site
from harness.waiting import until_blocking

_BIN = Path(sys.executable).parent


@dataclass
class Done:
    """What a ReFrame process left."""

    exit_status: int
    output: str
    report: dict[str, Any]
    seconds: float = 0.0
    """how long `Suite.run` took"""

    @property
    def cases(self) -> dict[str, dict[str, Any]]:
        """The test cases of the last run, by display name without hash."""
        runs = self.report.get("runs") or [{"testcases": []}]
        return {case["display_name"]: case for case in runs[-1]["testcases"]}

    @property
    def results(self) -> dict[str, str]:
        return {name: case["result"] for name, case in self.cases.items()}

    def jobs(self, phase: str = "run") -> dict[str, dict[str, Any]]:
        """What the report says of each test's job."""
        return {
            name: case["firecrest"][phase] for name, case in self.cases.items() if phase in case.get("firecrest", {})
        }

    @property
    def traffic(self) -> dict[str, int]:
        """Of the only run."""
        [traffic] = self.report["session_info"]["firecrest"].values()
        return traffic


@dataclass
class Suite:
    """A directory with a configuration for one system, in which ReFrame runs with its default prefix."""

    place: Path
    site: Site
    partition: dict[str, Any] = field(default_factory=dict)
    firecrest: dict[str, Any] = field(default_factory=dict)
    system: dict[str, Any] = field(default_factory=dict)
    general: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        self.secret = self.place / "secret"
        self.secret.touch(mode=0o600)
        self.secret.write_text(self.site.client_secret or "")

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RFM_", "FIRECREST_"))}
        return kept | {"HOME": str(self.place), "COLUMNS": "200"} | self.variables

    def options(self) -> dict[str, Any]:
        site = self.site
        return {
            "url": site.url,
            "token_url": site.token_url,
            "client_id": site.client_id,
            "client_secret_file": str(self.secret),
            "system": site.system,
            **self.firecrest,
        }

    def waited_for(self, pattern: str, seconds: float = 120) -> None:
        """Return when a file that matches is below the suite's directory."""
        until_blocking(lambda: any(self.place.glob(pattern)), seconds, what=f"no {pattern} in {self.place}")

    def settings(self) -> Path:
        """Write the site configuration."""
        partition = {
            "name": "normal",
            "scheduler": "firecrest-scheduler",
            "launcher": "local",
            "environs": ["builtin"],
            "max_jobs": 200,
            "sched_options": {"firecrest": self.options()},
        }
        configuration = {
            "systems": [
                {"name": "remote", "hostnames": [".*"], "partitions": [partition | self.partition], **self.system}
            ],
            "environments": [{"name": "builtin", "cc": "gcc", "features": ["mpi"]}],
            "general": [{"resolve_module_conflicts": False, **self.general}],
        }
        path = self.place / "settings.py"
        path.write_text(f"import crestline_reframe\n\nsite_configuration = {configuration!r}\n")
        return path

    def command(self, *arguments: str | Path, program: str = "crestline-reframe") -> list[str]:
        return [
            str(_BIN / program),
            f"--config-file={self.settings().name}",
            "--report-file=report.json",
            *(str(each) for each in arguments),
        ]

    def run(self, *arguments: str | Path, program: str = "crestline-reframe", timeout: float = 240) -> Done:
        """Run to the end."""
        (self.place / "report.json").unlink(missing_ok=True)
        begin = time.monotonic()
        done = subprocess.run(
            self.command(*arguments, program=program),
            cwd=self.place,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        return replace(self._done(done.returncode, done.stdout), seconds=time.monotonic() - begin)

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Begin; the output goes to a file, for `finish`."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.place,
            env=self.environment,
            stdout=(self.place / "printed").open("w"),
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(
        self, process: subprocess.Popen[str], signal_: signal.Signals | None = None, timeout: float = 240
    ) -> Done:
        """Wait for what `start` began, after a signal if one is given."""
        if signal_ is not None:
            process.send_signal(signal_)
        return self._done(process.wait(timeout), (self.place / "printed").read_text())

    def _done(self, status: int, output: str) -> Done:
        report = self.place / "report.json"
        return Done(status, output, json.loads(report.read_text()) if report.exists() else {})
