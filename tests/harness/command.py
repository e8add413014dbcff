"""The `crestline` command, run as people run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.forked import forked

CRESTLINE = Path(sys.executable).with_name("crestline")
"""the installed program"""
TIMEOUT = 120

Result = subprocess.CompletedProcess[bytes]


class Command:
    """`crestline` with a sites file of its own, and no other setting of the user who runs the tests."""

    def __init__(self, place: Path, **environment: str) -> None:
        self.place = place
        self.sites_file = place / "sites.toml"
        place.mkdir(parents=True, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FIRECREST_", "AUTH_TOKEN"))}
        kept.pop("CRESTLINE_SITE", None)
        self.environment = kept | {"CRESTLINE_SITES": str(self.sites_file), "COLUMNS": "200"} | environment

    def __call__(self, *arguments: str | Path, code: int = 0, stdin: bytes = b"") -> Result:
        """Run to the end; the exit code must be `code`."""
        done = subprocess.run(
            [forked(), *arguments],
            env=self.environment,
            cwd=self.place,
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == code, f"exit code {done.returncode}, not {code}\n{done.stdout!r}\n{done.stderr!r}"
        return done

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        """Run with `--json`; the one document on stdout."""
        head, *rest = arguments
        return json.loads(self(head, "--json", *rest, code=code).stdout)

    def refused(self, *arguments: str | Path, code: int) -> str:
        """Run what must fail; its one line on stderr, with nothing on stdout."""
        done = self(*arguments, code=code)
        assert done.stdout == b""
        lines = done.stderr.decode().splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    @contextmanager
    def start(self, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
        """Start; killed at the end if it still runs."""
        process = subprocess.Popen(
            [CRESTLINE, *arguments],
            env=self.environment,
            cwd=self.place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    @contextmanager
    def serving(self, *options: str | Path) -> Iterator[dict[str, str]]:
        """`crestline serve --json` on a free port; what it says about itself."""
        with self.start("serve", "--json", "--port", "0", "--trust-all-users", *options) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise AssertionError(process.communicate(timeout=TIMEOUT))
            yield json.loads(line)
            process.terminate()
            process.wait(TIMEOUT)
