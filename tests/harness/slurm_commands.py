"""`crestline-sbatch` and its siblings, run as tools run them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from unittest import mock

from crestline.client import register_site
from harness.forked import forked

BIN = Path(sys.executable).parent

Result = subprocess.CompletedProcess[str]


class SlurmCommands:
    """Beside a sites file of their own, and nothing else of the user who runs the tests."""

    def __init__(self, place: Path, **environment: str) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.sites_file = place / "sites.toml"
        hidden = ("FIRECREST_", "AUTH_TOKEN", "SBATCH_", "SQUEUE_", "SACCT_", "SINFO_", "SLURM_", "SCANCEL_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        kept.pop("CRESTLINE_SITE", None)
        self.environment = kept | {"CRESTLINE_SITES": str(self.sites_file)} | environment

    def add_site(self, name: str, url: str, token_url: str, client: tuple[str, str], system: str) -> None:
        client_id, secret = client
        register_site(
            name,
            file=self.sites_file,
            url=url,
            token_url=token_url,
            client_id=client_id,
            client_secret=secret,
            system=system,
        )

    def __call__(self, name: str, *arguments: str, code: int = 0, stdin: str = "", **environment: str) -> str:
        """Run to the end; the exit code must be `code`. Returns stdout."""
        done = self.run(name, *arguments, stdin=stdin, **environment)
        assert done.returncode == code, f"{name} {arguments}: {done.returncode}, not {code}\n{done.stdout}{done.stderr}"
        return done.stdout

    def run(self, name: str, *arguments: str, stdin: str = "", **environment: str) -> Result:
        """Run to the end, whatever comes."""
        return subprocess.run(
            [forked(f"crestline-{name}"), *arguments],
            env=self.environment | environment,
            cwd=self.place,
            input=stdin,
            text=True,
            capture_output=True,
            timeout=120,
        )

    def refused(self, name: str, *arguments: str, code: int = 1, stdin: str = "") -> str:
        """Run what must fail with nothing on stdout; returns stderr."""
        done = self.run(name, *arguments, stdin=stdin)
        assert (done.returncode, done.stdout) == (code, ""), done
        return done.stderr

    def link(self, directory: Path) -> Path:
        """A folder for PATH in which they have Slurm's names."""
        subprocess.run(
            [str(BIN / "crestline"), "slurm-commands", str(directory)], check=True, stdout=subprocess.DEVNULL
        )
        return directory


class SlurmCommandsHere(SlurmCommands):
    """The same in this process, for tables of many calls: a start of Python costs more than most of them."""

    def run(self, name: str, *arguments: str, stdin: str = "", **environment: str) -> Result:
        (script,) = entry_points(group="console_scripts", name=f"crestline-{name}")
        main = script.load()
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        before = Path.cwd()
        os.chdir(self.place)
        try:
            with (
                mock.patch.dict(os.environ, self.environment | environment, clear=True),
                mock.patch.multiple(sys, stdout=out, stderr=err, stdin=io.StringIO(stdin), argv=[name, *arguments]),
                mock.patch("crestline.cli.slurm.program.install"),  # that is for the process of one command
            ):
                time.tzset()
                main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        finally:
            os.chdir(before)
            time.tzset()
        texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
        return subprocess.CompletedProcess([name, *arguments], code, *texts)
