"""Build the distributions of a commit twice, check them, install each alone, and describe what is published."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
import zipfile
from configparser import ConfigParser
from datetime import UTC, datetime
from email.parser import Parser
from pathlib import Path
from typing import Any

from tools.release.recipes import Distribution, conda_recipe, spack_package
from tools.release.versions import ReleaseError, check_tag, current_version, section

BIN = Path(sys.executable).parent
TWINE = "twine@7.0.0"
"""in an environment of its own: the workspace's has an older `packaging`, which does not know today's metadata"""
PROGRAMS = {
    "crestline": ["crestline --version", "crestline-squeue --version"],
    "crestline-gitlab-runner": ["crestline gitlab --help"],
    "crestline-reframe": ["reframe --version"],
}
"""what has to run after the installation of a distribution, besides the import of its package"""


def release(root: Path, *, rehearsal: bool = False, install: bool = True) -> None:
    """Fill `dist/` below the root; raises ReleaseError."""
    version = current_version(root)
    if not rehearsal:
        check_tag(root, version)
    epoch = _git(root, "log", "-1", "--format=%ct")
    dist = root / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="crestline-release-") as folder:
        temporary = Path(folder)
        _say("building all distributions twice")
        first, second = (build(root, temporary / name, epoch, mask) for name, mask in (("1", 0o022), ("2", 0o077)))
        if differing := sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name)):
            raise ReleaseError(f"Two builds of the same commit differ: {', '.join(differing)}.")
        shutil.copytree(temporary / "1/dist", dist)
        _say("checking their metadata")
        _uv("tool", "run", "--quiet", TWINE, "check", "--strict", *sorted(dist.iterdir()), cwd=temporary)
        distributions = [read(wheel) for wheel in sorted(dist.glob("*.whl"))]
        if install:
            constraints = temporary / "constraints.txt"
            _uv(
                "export",
                "--frozen",
                "--all-packages",
                "--all-extras",
                "--no-hashes",
                *QUIET,
                "-o",
                constraints,
                cwd=root,
            )
            # uv remembers wheels by their path: in `dist` it may know others of this version, from an earlier build.
            wheels = Path(shutil.copytree(dist, temporary / "wheels"))
            for each in distributions:
                _say(f"installing {each.name} alone")
                install_alone(each, wheels, constraints, temporary)
    _say("writing bills of materials, recipes and checksums")
    for each in distributions:
        write(dist / "sbom" / f"{each.name}.cdx.json", bill_of_materials(root, each.name, int(epoch)))
        write(dist / "conda" / each.name / "recipe.yaml", conda_recipe(each))
        write(dist / "spack" / f"py_{each.name.replace('-', '_')}" / "package.py", spack_package(each))
    write(dist / "RELEASE_NOTES.md", section((root / "CHANGELOG.md").read_text(), version) + "\n")
    sums = digests(dist)
    write(dist / "SHA256SUMS", "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))
    sign(dist / "SHA256SUMS")
    _say(f"{'rehearsed' if rehearsal else 'built'} {version}: {len(sums)} files in dist/")


QUIET = ("--quiet", "--no-dev", "--no-emit-workspace", "--no-emit-project")


def build(root: Path, folder: Path, epoch: str, mask: int) -> dict[str, str]:
    """Build a clone of the commit in `folder`; returns the digests of `folder/dist` by file name."""
    _run("git", "clone", "--quiet", "--no-hardlinks", root, folder / "source", umask=mask)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch}
    command = ("build", "--quiet", "--all-packages", "--out-dir", folder / "dist", "--python", sys.executable)
    _uv(*command, cwd=folder / "source", env=environment, umask=mask)
    (folder / "dist/.gitignore").unlink(missing_ok=True)
    return digests(folder / "dist")


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 digest of each file below a folder, by its path in it."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def read(wheel: Path) -> Distribution:
    """Return what the recipes need to know of a wheel and of the source distribution beside it."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name.rsplit("/", 1)[-1]: name for name in archive.namelist() if ".dist-info/" in name}
        metadata = Parser().parsestr(archive.read(names["METADATA"]).decode())
        points = ConfigParser()
        points.optionxform = str  # type: ignore[assignment,method-assign]
        if "entry_points.txt" in names:
            points.read_string(archive.read(names["entry_points.txt"]).decode())
        package = next(name.split("/")[0] for name in archive.namelist() if ".dist-info/" not in name)
    scripts = dict(points.items("console_scripts")) if points.has_section("console_scripts") else {}
    sdist = wheel.with_name(f"{wheel.name.removesuffix('-py3-none-any.whl')}.tar.gz")
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    return Distribution(metadata, sdist.name, digest, [f"{name} = {to}" for name, to in scripts.items()], package)


def install_alone(distribution: Distribution, dist: Path, constraints: Path, temporary: Path) -> None:
    """Install a distribution with its extras into an empty environment, from `dist` and the locked versions."""
    environment = temporary / distribution.name
    python = environment / "bin/python"
    _uv("venv", "--quiet", "--python", sys.executable, environment, cwd=temporary)
    install = ("pip", "install", "--quiet", "--python", python, "--find-links", dist, "--constraint", constraints)
    version = distribution.metadata["Version"]
    for extras in ("", f"[{','.join(distribution.extras)}]") if distribution.extras else ("",):
        _uv(*install, f"{distribution.name}{extras}=={version}", cwd=temporary)
        _uv("pip", "check", "--quiet", "--python", python, cwd=temporary)
        _run(python, "-P", "-c", f"import {distribution.package}", cwd=temporary)
        for program in PROGRAMS.get(distribution.name, []):
            name, *arguments = program.split()
            _run(environment / "bin" / name, *arguments, cwd=temporary, stdout=subprocess.DEVNULL)
    shutil.rmtree(environment)


def bill_of_materials(root: Path, name: str, epoch: int) -> str:
    """Return a CycloneDX document of the locked versions that a distribution and its extras need."""
    command = (
        "export",
        "--frozen",
        "--format",
        "cyclonedx1.5",
        "--package",
        name,
        "--all-extras",
        "--no-dev",
        "--quiet",
    )
    bom: dict[str, Any] = json.loads(_uv(*command, cwd=root, stdout=subprocess.PIPE).stdout)
    for component in bom["components"]:
        component.pop("externalReferences", None)  # the neutral addresses of the lock file
        if "purl" in component:
            component["purl"] = component["purl"].split("?")[0]
    del bom["serialNumber"], bom["metadata"]["timestamp"]
    identifier = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(bom, sort_keys=True))
    bom["serialNumber"] = identifier.urn
    bom["metadata"]["timestamp"] = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps(bom, indent=1, sort_keys=True) + "\n"


def sign(file: Path) -> None:
    """Sign a file with the SSH key that `RELEASE_SIGNING_KEY` names, or say what is missing."""
    key = os.environ.get("RELEASE_SIGNING_KEY")
    if not key:
        _say("not signed: set RELEASE_SIGNING_KEY to an SSH key, or its public half if an agent holds it")
        return
    _run("ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "crestline-release", file)


def write(file: Path, text: str) -> None:
    """Write a text file, with the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _uv(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return _run(BIN / "uv", *arguments, **options)


def _git(root: Path, *arguments: str) -> str:
    return str(_run("git", "-C", root, *arguments, stdout=subprocess.PIPE).stdout).strip()


def _run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, check=False, text=True, **options)
    if done.returncode:
        raise ReleaseError(f"{' '.join(map(str, command[:4]))} failed with exit code {done.returncode}.")
    return done


def _say(text: str) -> None:
    print(f"release: {text}", flush=True)
