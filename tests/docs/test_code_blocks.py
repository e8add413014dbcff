"""Every code block of the documentation holds: shell and Python run, configuration is read by its real reader."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomlkit

from harness.gateway import RunningGateway, in_thread
from harness.page_blocks import ROOT, Block, blocks, pages, run_page
from harness.page_commands import all_options, check_command, commands_on, options_on
from harness.page_documents import check_json, check_toml, check_yaml
from harness.page_python import Interpreter
from harness.page_shell import Shell
from harness.page_syntax import check_syntax
from harness.parts import require

SHOWN_ONLY = {"text"}
"""languages of blocks that are not run: a program's output, a drawing"""

MOST_NOT_RUN = 15

LEFT_BEHIND = ROOT / "tests/stand_ins/left_behind"

NEWCOMERS = {
    "docs/tutorial",
    ".",
    "examples/gateway",
    "examples/open_ondemand",
    "examples/reframe",
    "examples/science_page",
}
"""folders whose readers have no sites file yet"""

SITES = {"examples/federation": ("laptop", "centre")}
"""what sites are called; elsewhere as in the how-to guides"""

OPTIONS_OF_OTHERS = {
    "docs/explanation/threat-model.md": {"--require-hashes"},  # pip
    "docs/how-to/doe-facility.md": {"--export", "--gpus-per-task"},  # sbatch
    "docs/explanation/simulation.md": {"--only", "--trace"},  # of python -m crestline.testing.simulation
    "docs/how-to/gateway.md": {"--begin", "--hold"},  # sbatch
    "docs/how-to/jupyterhub-forms.md": {"--uenv", "--view"},  # sbatch, with CSCS's plug-in
    "docs/how-to/snakemake.md": {"--crestline-setup", "--seconds-between-status-checks"},  # of Snakemake
    "docs/how-to/slurm-commands.md": {
        *("--export", "--parsable", "--signal", "--wrap"),  # sbatch
        "--executor",  # Snakemake
        *("--cpu-bind", "--label", "--mpi"),  # srun
        "--yaml",  # squeue and others
    },
}

_SETTINGS = {"OIDC_CLIENT_ID": "hub", "OIDC_CLIENT_SECRET": "not-one"}
"""variables that pages say a site sets"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """What the pages call `daint@cscs`, and its neighbours."""
    scratch = tmp_path_factory.mktemp("scratch")
    (scratch / "files" / getpass.getuser()).mkdir(parents=True)
    system = {"file_systems": [{"path": str(scratch / "files"), "data_type": "scratch", "default_work_dir": True}]}
    system["scheduler"] = {"type": "local", "partitions": [{"name": "normal"}, {"name": "debug"}]}
    with in_thread(scratch / "home", systems={"daint": system}) as running:
        yield running


def _name_the_sites(home: Path, site: RunningGateway, names: tuple[str, ...]) -> None:
    """Write the sites file that pages take for granted; all are the one site."""
    client_id, secret = site.client
    values = {"url": site.url, "token_url": site.token_url, "client_id": client_id, "client_secret": secret}
    file = home / ".config/crestline/sites.toml"
    file.parent.mkdir(parents=True)
    sites = {name: values | {"system": "daint"} for name in names}
    file.write_text(tomlkit.dumps({"default": names[0], "sites": sites}))
    file.chmod(0o600)


def _lay_out_the_example(page: Path, place: Path) -> Path:
    """Copy the examples, and make what the page says a machine has below `place`; returns the example's folder."""
    shutil.copytree(ROOT / "examples", place / "examples", ignore=shutil.ignore_patterns(".ruff_cache", "__pycache__"))
    folder = place / page.parent.relative_to(ROOT)
    if folder.name == "gateway":
        require(shutil.which("ssh-keygen") is not None, "there is no `ssh-keygen`: install Debian's `openssh-client`")
        authority = place / "var/lib/crestline/private/systems/cluster/ssh_authority"
        for directory in (authority.parent, place / "etc/ssh/sshd_config.d"):
            directory.mkdir(parents=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", authority], check=True)
    return folder


class Reader:
    """A reader who does what a page says, in an example's folder if the page is that of an example."""

    def __init__(self, page: Path, place: Path) -> None:
        self._page = str(page.relative_to(ROOT))
        self._place = place
        self._is_example = "examples" in page.relative_to(ROOT).parts
        settings = _SETTINGS | ({"PYTHONPATH": str(LEFT_BEHIND)} if page.parent.name == "migrate" else {})
        self._shell = Shell(place, settings, _lay_out_the_example(page, place) if self._is_example else None)
        self._python: Interpreter | None = None

    def run(self, block: Block) -> None:
        match block.language:
            case "python":
                if self._python is None:
                    self._python = Interpreter(self._page, self._place, self._shell.environment)
                self._python.run(block.source, block.line)
            case "bash" | "sh":
                self._shell.run(self._below_place(block.source))
            case "console":
                self._shell.console(block.source)
            case "toml":
                check_toml(block.source, self._place)
            case "json":
                check_json(block.source)
            case "yaml":
                check_yaml(block.source)
            case language:
                assert language in SHOWN_ONLY, f"a block in {language!r} needs a way to be checked, or a reason why not"

    def _below_place(self, script: str) -> str:
        """Examples are for whole machines; here they get a directory."""
        return re.sub(r"(?<![\w./-])/(etc|opt|var/lib)/", rf"{self._place}/\1/", script) if self._is_example else script

    def close(self) -> None:
        if self._python is not None:
            self._python.close()
        self._shell.close()


def _name_of(page: Path) -> str:
    return str(page.relative_to(ROOT).with_suffix("")) if page.name == "README.md" else page.stem


@pytest.mark.parametrize("page", [page for page in pages() if blocks(page)], ids=_name_of)
def test_the_blocks_of(page: Path, tmp_path: Path, site: RunningGateway) -> None:
    folder = str(page.parent.relative_to(ROOT))
    if folder not in NEWCOMERS:
        _name_the_sites(tmp_path, site, SITES.get(folder, ("cscs", "cscs-service")))
    reader = Reader(page, tmp_path)
    failed: list[Block] = []
    try:
        run_page(page, reader.run, failed.append)
    except AssertionError as error:
        raise AssertionError(f"{failed[0]}: {error}") from error
    finally:
        reader.close()


def test_few_blocks_are_only_read_and_each_says_why() -> None:
    left_out = [block for page in pages() for block in blocks(page) if block.not_run is not None]
    for block in left_out:
        assert len(block.not_run.split()) >= 3, f"{block} needs a reason, in words"
        try:
            check_syntax(block.language, block.source)
        except (AssertionError, ValueError, SyntaxError) as error:
            raise AssertionError(f"{block}: {error}") from error
    per_page = Counter(block.page for block in left_out)
    assert len(left_out) <= MOST_NOT_RUN, per_page


def test_most_blocks_are_run() -> None:
    """Checks cannot be removed by calling every block text."""
    languages = Counter(block.language for page in pages() for block in blocks(page))
    shown = sum(languages[name] for name in SHOWN_ONLY)
    assert shown < sum(languages.values()) / 5, languages


@pytest.mark.parametrize("page", pages(), ids=_name_of)
def test_commands_and_options_exist(page: Path) -> None:
    for command in commands_on(page):
        check_command(command)
    others = OPTIONS_OF_OTHERS.get(str(page.relative_to(ROOT)), set())
    assert options_on(page) - all_options() == others


@pytest.mark.parametrize("page", [page for page in pages() if page.relative_to(ROOT).parts[0] != "docs"], ids=_name_of)
def test_links_between_files_hold(page: Path) -> None:
    """Those of docs/ are Sphinx's to check."""
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []
