"""What Airflow finds of the provider without importing it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

from crestline_airflow import get_provider_info
from crestline_airflow.assets import convert_asset_to_openlineage, create_asset, sanitize_uri
from crestline_airflow.decorators import firecrest_task


def test_airflow_finds_the_distribution_and_its_connection_type() -> None:
    assert "airflow-provider-crestline" in ProvidersManager().providers
    hook = ProvidersManagerTaskRuntime().hooks["firecrest"]
    assert hook is not None
    assert hook.hook_class_name == "crestline_airflow.hooks.FirecRESTHook"
    assert hook.connection_testable


def test_the_connection_form() -> None:
    manager = ProvidersManager()
    assert {"extra__firecrest__auth_url", "extra__firecrest__system"} <= set(manager.connection_form_widgets)
    behaviour = manager.field_behaviours["firecrest"]
    assert behaviour["relabeling"]["host"] == "Gateway URL"
    assert set(behaviour["hidden_fields"]) == {"schema", "port"}


def test_secrets_of_the_form_are_hidden() -> None:
    [connection] = get_provider_info()["connection-types"]
    hidden = {name for name, field in connection["conn-fields"].items() if field["schema"].get("format") == "password"}
    assert hidden == {"refresh_token", "api_key"}


def test_airflow_finds_what_comes_by_itself() -> None:
    manager = ProvidersManagerTaskRuntime()
    assert "crestline_airflow.filesystem" in manager.filesystem_module_names
    assert dict(manager.taskflow_decorators)["firecrest"] is firecrest_task
    assert "crestline_airflow.links.FirecRESTJobLink" in ProvidersManager().extra_links_class_names


def test_provider_info_follows_airflows_schema() -> None:
    import airflow

    schema = json.loads(Path(airflow.__file__).with_name("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_airflow_finds_assets_and_notifier() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert manager.asset_uri_handlers["firecrest"] is sanitize_uri
    assert manager.asset_factories["firecrest"] is create_asset
    assert manager.asset_to_openlineage_converters["firecrest"] is convert_asset_to_openlineage
    assert "crestline_airflow.notifications.FirecRESTJobNotifier" in manager.notification


@pytest.mark.parametrize(
    "uri", ["firecrest://daint", "firecrest:///path", "firecrest://daint:80/a", "firecrest://d/a?b=c"]
)
def test_an_asset_that_is_no_file_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="firecrest://"):
        sanitize_uri(urlsplit(uri))


def test_an_asset_has_one_uri_and_one_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import Asset, ObjectStoragePath

    path = "firecrest://alps@daint/scratch/u/out"
    asset = create_asset(system="daint", path="/scratch/u/out", firecrest_conn_id="alps")
    assert asset.uri == path
    assert Asset(name="out", uri="firecrest://alps@daint//scratch/u/run/../out/").uri == path
    assert Asset(name="out", uri=ObjectStoragePath(path)).uri == path
    assert convert_asset_to_openlineage(asset, None).namespace == "firecrest://daint"  # there is no such connection
    monkeypatch.setenv("AIRFLOW_CONN_ALPS", json.dumps({"conn_type": "firecrest", "host": "https://gw:1/v2"}))
    dataset = convert_asset_to_openlineage(asset, None)
    assert (dataset.namespace, dataset.name) == ("firecrest://gw:1/daint", "/scratch/u/out")


def test_the_connection_is_a_template_everywhere() -> None:
    for each in _classes():
        assert "firecrest_conn_id" in each.template_fields, each


def _classes() -> list[Any]:
    """Operators, sensors, the decorator and the notifier."""
    import crestline_airflow.decorators
    import crestline_airflow.notifications
    import crestline_airflow.operators
    import crestline_airflow.sensors

    packages = (crestline_airflow.operators, crestline_airflow.sensors)
    found = [getattr(package, name) for package in packages for name in package.__all__ if name.startswith("Firec")]
    return [
        *found,
        crestline_airflow.decorators.FirecRESTDecoratedOperator,
        crestline_airflow.notifications.FirecRESTJobNotifier,
    ]


def test_every_module_and_class_that_the_provider_names_exists() -> None:
    from airflow.sdk._shared.module_loading import import_string

    info = get_provider_info()
    for kind in ("operators", "hooks", "triggers", "sensors"):
        for each in info[kind]:
            for module in each["python-modules"]:
                __import__(module)
    for connection in info["connection-types"]:
        assert import_string(connection["hook-class-name"]).conn_type == connection["connection-type"]


def test_provider_info_imports_neither_airflow_nor_the_client() -> None:
    code = "import sys, crestline_airflow; crestline_airflow.get_provider_info(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "crestline_airflow" in modules
    assert not {"airflow", "crestline.client", "httpx"} & set(modules)


def test_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    import crestline_airflow

    assert crestline_airflow.__version__ == version("airflow-provider-crestline")
