"""What Airflow finds of the provider without importing it."""

from __future__ import annotations

import subprocess
import sys

from airflow.providers_manager import ProvidersManager
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

from crestline_airflow import get_provider_info
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
