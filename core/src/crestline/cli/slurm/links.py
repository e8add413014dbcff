"""`crestline slurm-commands`: a directory for PATH that contains the commands under Slurm's own names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from crestline.cli.help import make_app
from crestline.model import ConfigError, ConflictError

COMMANDS = (
    "sbatch", "srun", "salloc", "squeue", "scancel", "sacct", "sinfo", "scontrol", "sprio", "sacctmgr", "sshare"
)  # fmt: skip

app = make_app()


@app.command("slurm-commands")
def slurm_commands(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Made where it does not exist.")],
) -> None:
    """Link the names of Slurm's commands (sbatch, squeue, ...) to Crestline's in a folder, for PATH."""
    installed = Path(sys.argv[0]).resolve().parent
    directory.mkdir(parents=True, exist_ok=True)
    for name in COMMANDS:
        target, link = installed / f"crestline-{name}", directory / name
        if not target.exists():
            raise ConfigError(f"{target} does not exist.", hint="Install crestline again.")
        if link.is_symlink() and link.readlink() == target:
            continue
        if link.is_symlink() or link.exists():
            raise ConflictError(f"{link} is there already.", hint="Name another folder, or remove it.")
        link.symlink_to(target)
    print(directory.resolve())
