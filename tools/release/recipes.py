"""Recipes for conda-forge and Spack, made of the metadata of the wheels.

Both are submitted by hand, as `docs/how-to/release.md` says. Neither format has extras: in a conda recipe each is an
output of its own, in Spack a variant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.message import Message

from packaging.requirements import Requirement
from packaging.specifiers import Specifier
from packaging.utils import canonicalize_name

SOURCES = "https://releases.example.org/crestline"
"""where the recipes fetch source distributions from, until the project has an address"""
CONDA_NAMES = {
    "backports-tarfile": "backports.tarfile",
    "prometheus-client": "prometheus_client",
    "universal-pathlib": "universal_pathlib",
}
"""packages whose name on conda-forge is not the one of the distribution"""
CONDA_EXTRAS = {"sqlalchemy[asyncio]": "greenlet"}
"""what an extra of another project stands for on conda-forge"""
ENVIRONMENT = {"python_version": "3.11", "sys_platform": "linux"}
"""a recipe without architecture has the dependencies of the oldest Python, which newer ones ignore"""


@dataclass(frozen=True)
class Distribution:
    """What a recipe needs to know of one distribution."""

    metadata: Message
    """the METADATA of its wheel"""
    sdist: str
    """the name of its source distribution"""
    sha256: str
    """the digest of the source distribution, in hexadecimal digits"""
    scripts: list[str] = field(default_factory=list)
    """its console scripts, as `name = module:function`"""
    package: str = ""
    """the name of the package that it is imported by"""

    @property
    def name(self) -> str:
        """The name of the distribution in its normal form."""
        return canonicalize_name(self.metadata["Name"])

    @property
    def extras(self) -> list[str]:
        """The extras in their order."""
        return self.metadata.get_all("Provides-Extra", [])

    def requirements(self, extra: str = "") -> list[Requirement]:
        """Return what the distribution needs, or what one of its extras adds."""
        everything = map(Requirement, self.metadata.get_all("Requires-Dist", []))
        return [each for each in everything if _applies(each, extra) and not (extra and _applies(each, ""))]


def conda_recipe(distribution: Distribution) -> str:
    """Return a recipe in the format of rattler-build: an output for the distribution, and one for each extra."""
    python = distribution.metadata["Requires-Python"]
    version = distribution.metadata["Version"]
    lines = [
        "schema_version: 1",
        "context:",
        f'  version: "{version}"',
        f'  python_min: "{python.removeprefix(">=")}"',
        "recipe:",
        f"  name: {distribution.name}",
        "  version: ${{ version }}",
        "source:",
        f"  url: {SOURCES}/{distribution.sdist}",
        f"  sha256: {distribution.sha256}",
        "build:",
        "  number: 0",
        "outputs:",
        *_conda_main(distribution),
    ]
    for extra in distribution.extras:
        needs = [f"{distribution.name} ==${{{{ version }}}}", *_conda_needs(distribution.requirements(extra))]
        lines += [
            *("  - package:", f"      name: {distribution.name}-{extra}", "    build:", "      noarch: generic"),
            *("    requirements:", "      run:", *(f"        - {need}" for need in needs)),
            *_conda_tests(distribution.package),
        ]
    lines += [
        "about:",
        "  license: Apache-2.0",
        "  license_file: LICENSE",
        f"  summary: {json.dumps(distribution.metadata['Summary'])}",
        "extra:",
        "  recipe-maintainers: []",
    ]
    return "\n".join(lines) + "\n"


def spack_package(distribution: Distribution) -> str:
    """Return a Spack package: extras are variants."""
    version = distribution.metadata["Version"]
    words = re.split("[-_]", f"py-{distribution.name}")
    lines = [
        "from spack_repo.builtin.build_systems.python import PythonPackage",
        "",
        "from spack.package import *",
        "",
        "",
        f"class {''.join(word.capitalize() for word in words)}(PythonPackage):",
        f'    """{distribution.metadata["Summary"]}."""',
        "",
        f'    pypi = "{distribution.sdist.rsplit("-", 1)[0]}/{distribution.sdist}"',
        "",
        '    license("Apache-2.0")',
        "",
        f'    version("{version}", sha256="{distribution.sha256}")',
        "",
        *(
            f'    variant("{extra}", default=False, description="Install the extra {extra}")'
            for extra in distribution.extras
        ),
        *([""] if distribution.extras else []),
        f'    depends_on("python@{_spack_range(distribution.metadata["Requires-Python"])}", type=("build", "run"))',
        '    depends_on("py-hatchling@1.27:", type="build")',
    ]
    for extra in ("", *distribution.extras):
        lines.append("")
        for need in distribution.requirements(extra):
            when = [f"+{extra}"] if extra else []
            if need.marker is not None and "python_version" in str(need.marker):
                when.append("^python@:3.11")
            end = f', when="{" ".join(when)}"' if when else ""
            if canonicalize_name(need.name) == distribution.name:
                lines += [f'    requires("+{other}"{end})' for other in sorted(need.extras)]
            else:
                spec = f"py-{canonicalize_name(need.name)}{_spack_specifier(need)}"
                spec += "".join(f"+{other}" for other in sorted(need.extras))
                lines.append(f'    depends_on("{spec}", type=("build", "run"){end})')
    return "\n".join(lines) + "\n"


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**ENVIRONMENT, "extra": extra})


def _conda_main(distribution: Distribution) -> list[str]:
    needs = ["python >=${{ python_min }}", *_conda_needs(distribution.requirements())]
    points = [f"          - {script}" for script in distribution.scripts]
    return [
        *("  - package:", f"      name: {distribution.name}", "    build:", "      noarch: python"),
        "      script: ${{ PYTHON }} -m pip install . -vv --no-deps --no-build-isolation",
        *(["      python:", "        entry_points:", *points] if points else []),
        *("    requirements:", "      host:", "        - python ${{ python_min }}.*", "        - pip"),
        *("        - hatchling >=1.27", "      run:", *(f"        - {need}" for need in needs)),
        *_conda_tests(distribution.package),
    ]


def _conda_tests(package: str) -> list[str]:
    return ["    tests:", "      - python:", "          imports:", f"            - {package}"]


def _conda_needs(requirements: Iterable[Requirement]) -> list[str]:
    needs = []
    for need in requirements:
        name = canonicalize_name(need.name)
        bounds = ",".join(sorted(map(str, need.specifier), reverse=True))
        extras = sorted(need.extras)
        if name.startswith("crestline") and extras:
            needs += [f"{name}-{extra} {bounds or '==${{ version }}'}" for extra in extras]
            continue
        needs.append(f"{CONDA_NAMES.get(name, name)} {bounds}".strip())
        needs += [CONDA_EXTRAS[key] for extra in extras if (key := f"{name}[{extra}]") in CONDA_EXTRAS]
    return needs


def _spack_specifier(requirement: Requirement) -> str:
    specifiers = sorted(requirement.specifier, key=lambda each: each.operator, reverse=True)
    return f"@{_spack_range(*map(str, specifiers))}" if specifiers else ""


def _spack_range(*specifiers: str) -> str:
    """`>=1,<3` is `1:2`: the end of a range includes all releases that begin with it."""
    low = high = ""
    for each in map(Specifier, specifiers):
        if each.operator == "==":
            return each.version.removesuffix(".*") if each.version.endswith(".*") else f"={each.version}"
        if each.operator == ">=":
            low = each.version
        elif each.operator == "<":
            *first, last = each.version.split(".")
            high = ".".join([*first, str(int(last) - 1)])
        else:
            raise ValueError(f"No Spack range for {each}: use >=, < or ==.")
    return f"{low}:{high}"
