"""Which calculation the demonstration runs, and what the literature says about its results."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

INPUTS = Path(__file__).resolve().parent / "inputs"


@dataclass(frozen=True)
class Calculation:
    """A structure, the potential for it, and the measured values."""

    title: str
    structure: Path
    potential: Path
    lattice_constant: float
    """angstrom"""
    bulk_modulus: float
    """GPa"""
    source: str


def choose(path: str | None = None) -> Calculation:
    """Density functional theory where pw.x and a pseudopotential for silicon are installed; else a pair potential.

    Args:
        path: directories to look for pw.x in, as in `$PATH`, which is the default.
    """
    if (pseudopotential := _pseudopotential(path)) is not None:
        return Calculation(
            title=f"silicon: DFT with {pseudopotential.name}",
            structure=INPUTS / "Si.cif",
            potential=pseudopotential,
            lattice_constant=5.4310,
            bulk_modulus=97.8,
            source="CODATA 2018; McSkimin, J. Appl. Phys. 24, 988 (1953)",
        )
    return Calculation(
        title="copper: Morse pair potential",
        structure=INPUTS / "Cu.cif",
        potential=INPUTS / "Cu.morse.json",
        lattice_constant=3.6149,
        bulk_modulus=137.0,
        source="Straumanis and Yu, Acta Cryst. A25, 676 (1969); Kittel, Solid State Physics",
    )


def _pseudopotential(path: str | None) -> Path | None:
    """Where packages of Quantum ESPRESSO keep it, beside their programs."""
    program = shutil.which("pw.x", path=path)
    if program is None:
        return None
    places = [Path(program).parent, Path(program).resolve().parent]
    files = [place.parent / "share/espresso/pseudo/Si.pz-vbc.UPF" for place in places]
    return next((file for file in files if file.is_file()), None)
