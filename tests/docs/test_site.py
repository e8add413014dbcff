"""The documentation is built without a warning, and its reference says what the code says."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from crestline import model
from crestline.gateway import config
from crestline.gateway.app import create_app
from crestline.gateway.config import GatewayConfig
from crestline.gateway.runtime import GatewayRuntime
from crestline.wire.extensions import FEATURES
from harness.page_blocks import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-q",
            "-W",
            "--keep-going",
            "-n",
            "-d",
            out / "doctrees",
            "docs",
            out / "html",
        ],
        cwd=ROOT,
        env=os.environ | {"AIRFLOW_HOME": str(out / "airflow")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return out / "html"


def test_every_page_is_there(site: Path) -> None:
    pages = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts]
    assert [str(page) for page in pages if not (site / page.with_suffix(".html")).exists()] == []


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("reference/command-line", ["crestline run", "--idempotency-key", "never waits for its nodes"]),
        ("reference/gateway-configuration", ["max_ops_file_size", "5242880", "jwt_key_file", "public_url"]),
        ("how-to/troubleshooting", ["FileMissingError", "The sign-in link was used already"]),
        ("how-to/faq", ["Can a job be submitted twice?"]),
        ("index", ["ssh sacct", "one poller per task", "ssh host 'sbatch -W'"]),
        (
            "reference/rest",
            ["POST /compute/{system_name}/jobs", "Idempotency-Key", "jobs[].job.script", "nid001234"],
        ),
        ("reference/python", ["class crestline.client.System", "upload_bundle", "time_limit", "minutes:seconds"]),
        ("reference/errors", ["SubmitOutcomeUnknownError", "HTTP 503"]),
        ("reference/airflow", ["start_from_trigger", "FirecRESTJobSensor"]),
        ("reference/jupyterhub", ["req_partition", "connect_mode", "profile_list"]),
        ("reference/reframe", ["pack_size", "basedir"]),
        ("reference/gitlab-runner", ["heartbeat_ttl", "allow_job_credentials"]),
    ],
)
def test_the_reference_is_made_from_the_code(site: Path, page: str, said: list[str]) -> None:
    text = " ".join(unescape(re.sub("<[^>]+>", "", (site / f"{page}.html").read_text())).split())
    assert [each for each in said if each not in text] == []


def test_every_error_leads_to_its_messages(site: Path) -> None:
    errors, messages = (site / "reference/errors.html").read_text(), (site / "how-to/troubleshooting.html").read_text()
    classes = [name for name, value in vars(model).items() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(classes) > 15
    for name in classes:
        anchor = f"messages-{name.lower()}"
        assert f'href="../how-to/troubleshooting.html#{anchor}"' in errors, name
        section = messages.split(f'id="{anchor}"')[1].split("</table>")[0]
        assert section.count("<td>") >= 2, f"{name} has no message with an instruction"


def test_each_picture_is_made_by_a_test(site: Path) -> None:
    sources = "".join(each.read_text() for each in (ROOT / "tests").rglob("test_*.py"))
    made = [re.sub(r"\{[^}]*\}", "[a-z]+", name) for name in re.findall(r'picture\(page, f?"([^"]+)"\)', sources)]
    pictures = list((ROOT / "docs/images").iterdir())
    assert len(pictures) > 8
    assert [each.name for each in pictures if not any(re.fullmatch(name, each.stem) for name in made)] == []


def test_each_page_names_a_picture_for_other_sites(site: Path) -> None:
    for page in ("index", "how-to/airflow"):
        text = (site / f"{page}.html").read_text()
        address = re.findall('property="og:image" content="([^"]+)"', text)
        assert len(address) == 1
        assert (site / page).parent.joinpath(address[0]).is_file()


def test_each_role_has_its_pages_in_the_navigation(site: Path) -> None:
    navigation = (site / "index.html").read_text().split('class="sidebar-tree"')[1].split("</aside>")[0]
    roles = [each.stem for each in (ROOT / "docs/for").glob("*.md")]
    assert [role for role in roles if f'href="for/{role}.html"' not in navigation] == []
    assert navigation.count("toctree-l1") < 16


def test_every_table_of_the_configuration_is_described() -> None:
    page = (ROOT / "docs/reference/gateway-configuration.md").read_text()
    kinds = [each for each in vars(config).values() if isinstance(each, type) and each.__module__ == config.__name__]
    assert [each.__name__ for each in kinds if f"crestline.gateway.config.{each.__name__}" not in page] == []


def test_every_addition_to_the_wire_is_specified() -> None:
    page = (ROOT / "docs/explanation/wire-extensions.md").read_text()
    assert [name for name in FEATURES if f"\n## `{name}`\n" not in page] == []


def test_comparisons_say_when_to_choose_the_other_tool() -> None:
    page = (ROOT / "docs/explanation/compared.md").read_text()
    comparisons = page.split("\n## ")[1:-1]  # the last section lists what Crestline lacks
    assert len(comparisons) == 6
    for comparison in comparisons:
        tool = comparison.splitlines()[0]
        assert comparison.count("\n- Choose Crestline") >= 1, tool
        assert len(re.findall(r"\n- Choose (?!Crestline)", comparison)) >= 1, tool


def test_measurements_have_a_date_and_a_machine(site: Path) -> None:
    text = (site / "reference/measurements.html").read_text()
    for file in (ROOT / "docs/measurements").glob("*.json"):
        measured = json.loads(file.read_text())
        assert measured["date"] in text
        assert measured["machine"]["kernel"] in text


def test_every_chart_has_its_figures_and_names_its_unit(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs/_ext")
    charts = importlib.import_module("crestline_reference.charts")
    text = (site / "reference/measurements.html").read_text()
    for file in (ROOT / "docs/measurements").glob("*.json"):
        rows = json.loads(file.read_text())["rows"]
        for chart in charts.CHARTS[file.stem]:
            drawn = "\n".join(charts.draw(chart, rows))
            assert drawn in text
            assert drawn.count('class="bar ') == len(chart.bars), chart.question
            assert f"{chart.unit}, {'lower' if chart.lower_is_better else 'higher'} is better" in drawn


def test_the_openapi_document_is_the_gateways(site: Path) -> None:
    ours = create_app(GatewayRuntime(GatewayConfig())).openapi_schema.to_schema()
    assert json.loads((site / "openapi.json").read_text())["paths"].keys() == ours["paths"].keys()
