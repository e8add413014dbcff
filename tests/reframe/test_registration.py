"""How ReFrame comes to know the backend, and what it needs before a test runs: nothing of the network."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from crestline.client import Site
from harness.gateway import RunningGateway
from harness.reframe_suite import Suite

CHECKS = Path(__file__).parent / "checks"


@pytest.fixture
def nowhere(tmp_path: Path) -> Suite:
    """A configuration whose gateway does not exist, without credentials."""
    return Suite(tmp_path / "suite", Site(url="http://127.0.0.1:9"))


@pytest.mark.parametrize("program", ["reframe", "crestline-reframe"])
def test_listing_needs_neither_network_nor_credentials(nowhere: Suite, program: str) -> None:
    done = nowhere.run("-c", CHECKS / "many.py", "-l", program=program)
    assert done.exit_status == 0, done.output
    assert "Found 4 check(s)" in done.output


def test_the_fragment_registers_for_a_site_in_yaml(on_local: Suite) -> None:
    """ReFrame's own command, a site in YAML, and the gateway out of the variables and the sites file."""
    fragment = subprocess.run(
        [*on_local.command()[:1], "--fragment"], capture_output=True, text=True, check=True
    ).stdout.strip()
    site = on_local.place / "site.yaml"
    site.write_text(
        "systems:\n"
        "  - name: remote\n"
        "    hostnames: ['.*']\n"
        "    partitions:\n"
        "      - {name: normal, scheduler: firecrest-scheduler, launcher: local, environs: [builtin], max_jobs: 20}\n"
    )
    [reframe, *_] = on_local.command(program="reframe")
    client = {
        "FIRECREST_URL": on_local.site.url,
        "AUTH_TOKEN_URL": on_local.site.token_url or "",
        "FIRECREST_CLIENT_ID": on_local.site.client_id or "",
        "FIRECREST_CLIENT_SECRET": on_local.site.client_secret or "",
        "FIRECREST_SYSTEM": on_local.site.system or "",
    }
    done = subprocess.run(
        [reframe, f"--prefix={on_local.place}", "-c", CHECKS / "many.py", "-r"],
        cwd=on_local.place,
        env=on_local.environment | client | {"RFM_TEST_COUNT": "2", "RFM_CONFIG_FILES": f":{fragment}:{site}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Ran 2/2" in done.stdout
    assert str(on_local.site.client_secret) not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ({"client_secret": "x"}, "client_secret_file"),
        ({"sytem": "daint"}, "sytem"),
        ({"pack": "boxes"}, "pack"),
    ],
)
def test_a_wrong_option_is_named(nowhere: Suite, option: dict[str, str], complaint: str) -> None:
    nowhere.firecrest = option
    done = nowhere.run("-c", CHECKS / "many.py", "-l")
    assert done.exit_status != 0
    assert complaint in done.output


@pytest.mark.parametrize(
    ("prefix", "identity"),
    [
        ((), {"client_secret_file": "secret"}),
        (("--prefix=away",), {"token_command": ["./token.sh"]}),
        (("--stage=here/stage", "--output=here/output"), {"token_command": ["sh", "token.sh"]}),
    ],
)
def test_relative_paths_are_below_the_directory_where_reframe_was_started(
    on_local: Suite, gateway: RunningGateway, prefix: tuple[str, ...], identity: dict[str, Any]
) -> None:
    """ReFrame changes into stage directories as it goes; partitions that are described whole are opened from there."""
    program = on_local.place / "token.sh"
    program.write_text("#!/bin/sh\ncat token\n")
    program.chmod(0o700)
    token = on_local.place / "token"
    token.touch(mode=0o600)
    token.write_text(gateway.token())
    on_local.firecrest = identity
    on_local.partition |= {"processor": {"num_cpus": 1}, "devices": [{"type": "gpu", "num_devices": 1}]}
    on_local.variables["RFM_TEST_COUNT"] = "3"
    done = on_local.run(*prefix, "-c", CHECKS / "many.py", "-r")
    assert done.exit_status == 0, done.output
    assert len(done.report["session_info"]["firecrest"]) == 1
    found = {path.relative_to(on_local.place).parent.as_posix() for path in on_local.place.rglob(".crestline-reframe")}
    assert found == {"away" if "--prefix=away" in prefix else "."}


def test_several_partitions_share_one_run(on_local: Suite, gateway: RunningGateway) -> None:
    settings = on_local.settings()
    text = settings.read_text()
    settings.write_text(
        f"{text}\n[first] = site_configuration['systems'][0]['partitions']\n"
        "site_configuration['systems'][0]['partitions'].append(first | {'name': 'other'})\n"
    )
    on_local.settings = lambda: settings  # type: ignore[method-assign]
    done = on_local.run("-c", CHECKS / "many.py", "-n", "Small.*number=[01]", "-r")
    assert done.exit_status == 0, done.output
    assert "Ran 4/4" in done.output
    assert len(done.report["session_info"]["firecrest"]) == 1
