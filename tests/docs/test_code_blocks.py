"""Every code block of the documentation holds: shell and Python run, configuration is read by its real reader."""

from __future__ import annotations

import getpass
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w

from harness.gateway import RunningGateway, in_thread
from harness.page_blocks import ROOT, Block, blocks, pages, run_page
from harness.page_documents import check_json, check_toml, check_yaml
from harness.page_python import Interpreter
from harness.page_shell import Shell

SHOWN_ONLY = {"text"}
"""languages of blocks that nobody runs: a program's output, a drawing"""

MOST_NOT_RUN = 20

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


def _name_the_site(home: Path, site: RunningGateway) -> None:
    """Write the sites file that the how-to guides take for granted."""
    client_id, secret = site.client
    values = {"url": site.url, "token_url": site.token_url, "client_id": client_id, "client_secret": secret}
    file = home / ".config/crestline/sites.toml"
    file.parent.mkdir(parents=True)
    sites = {name: values | {"system": "daint"} for name in ("cscs", "cscs-service")}
    file.write_text(tomli_w.dumps({"default": "cscs", "sites": sites}))
    file.chmod(0o600)


class Reader:
    """Somebody who does what a page says."""

    def __init__(self, page: Path, place: Path) -> None:
        self._page = str(page.relative_to(ROOT))
        self._place = place
        self._shell = Shell(place, _SETTINGS)
        self._python: Interpreter | None = None

    def run(self, block: Block) -> None:
        match block.language:
            case "python":
                if self._python is None:
                    self._python = Interpreter(self._page, self._place, self._shell.environment)
                self._python.run(block.source, block.line)
            case "bash" | "sh":
                self._shell.run(block.source)
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

    def close(self) -> None:
        if self._python is not None:
            self._python.close()
        self._shell.close()


@pytest.mark.parametrize("page", [page for page in pages() if blocks(page)], ids=lambda page: page.stem)
def test_the_blocks_of(page: Path, tmp_path: Path, site: RunningGateway) -> None:
    if page.parent.name != "tutorial" and page.name != "README.md":  # a newcomer has nothing yet
        _name_the_site(tmp_path, site)
    reader = Reader(page, tmp_path)
    failed: list[Block] = []
    try:
        run_page(page, reader.run, failed.append)
    except AssertionError as error:
        raise AssertionError(f"{failed[0]}: {error}") from error
    finally:
        reader.close()


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    left_out = [block for page in pages() for block in blocks(page) if block.not_run is not None]
    for block in left_out:
        assert len(block.not_run.split()) >= 3, f"{block} needs a reason, in words"
    per_page = Counter(block.page for block in left_out)
    assert len(left_out) <= MOST_NOT_RUN, per_page


def test_most_blocks_are_run() -> None:
    """Nobody takes the checks away by calling everything text."""
    languages = Counter(block.language for page in pages() for block in blocks(page))
    shown = sum(languages[name] for name in SHOWN_ONLY)
    assert shown < sum(languages.values()) / 5, languages
