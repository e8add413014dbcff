"""Which calculation the demonstration chooses, and that each reads the structure and the potential it is given."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/airflow"


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from calculations import choose

    return choose


def test_a_pair_potential_where_there_is_no_pw(choose, tmp_path: Path) -> None:
    chosen = choose(str(tmp_path))
    assert chosen.structure.name == "Cu.cif"
    assert chosen.structure.is_file()
    assert chosen.potential.is_file()


def test_dft_where_pw_and_its_pseudopotential_are(choose, tmp_path: Path) -> None:
    program = tmp_path / "bin/pw.x"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    assert choose(str(program.parent)).structure.name == "Cu.cif"  # not executable
    program.chmod(0o755)
    assert choose(str(program.parent)).structure.name == "Cu.cif"  # no pseudopotential
    pseudopotential = tmp_path / "share/espresso/pseudo/Si.pz-vbc.UPF"
    pseudopotential.parent.mkdir(parents=True)
    pseudopotential.touch()
    chosen = choose(str(program.parent))
    assert chosen.structure.name == "Si.cif"
    assert chosen.structure.is_file()
    assert chosen.potential == pseudopotential


def compute(directory: Path, potential: str) -> dict[str, float]:
    """Run the job's script in `directory`, its template filled in."""
    script = (EXAMPLE / "dags/equation_of_state.sbatch").read_text()
    for name, value in {"python": sys.executable, "structure": "Cu.cif", "potential": potential}.items():
        script = script.replace(f"{{{{ params.{name} }}}}", value)
    subprocess.run(["bash", "-c", script], cwd=directory, check=True)
    return json.loads((directory / "result.json").read_text())


def test_the_potential_decides(tmp_path: Path) -> None:
    """A potential whose distances are a tenth longer gives a crystal that is a tenth larger, and as deep a well."""
    for file in ("Cu.cif", "Cu.morse.json"):
        shutil.copy(EXAMPLE / "inputs" / file, tmp_path)
    as_published = compute(tmp_path, "Cu.morse.json")
    assert as_published["lattice_constant_angstrom"] == pytest.approx(3.606, abs=0.002)
    assert as_published["bulk_modulus_GPa"] == pytest.approx(139.5, abs=0.5)

    morse = json.loads((tmp_path / "Cu.morse.json").read_text())
    morse["r0_angstrom"] *= 1.1
    morse["alpha_per_angstrom"] /= 1.1
    morse["cutoff_angstrom"] = [radius * 1.1 for radius in morse["cutoff_angstrom"]]
    (tmp_path / "longer.json").write_text(json.dumps(morse))
    structure = (tmp_path / "Cu.cif").read_text()
    (tmp_path / "Cu.cif").write_text(structure.replace("3.6149", str(3.6149 * 1.1)))
    longer = compute(tmp_path, "longer.json")
    assert longer["lattice_constant_angstrom"] == pytest.approx(
        as_published["lattice_constant_angstrom"] * 1.1, abs=0.002
    )
    assert longer["energy_eV_per_atom"] == pytest.approx(as_published["energy_eV_per_atom"], abs=0.001)
