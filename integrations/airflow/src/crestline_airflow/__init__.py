"""Apache Airflow provider: tasks that run on supercomputers through FirecREST v2.

Operators are in `crestline_airflow.operators`, sensors in `crestline_airflow.sensors`, the connection type `firecrest`
in `crestline_airflow.hooks`. `@task.firecrest` and `ObjectStoragePath("firecrest://...")` come by themselves.
"""

from __future__ import annotations

from typing import Any

from crestline import __version__


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata. Airflow calls this at start, so it must not import Airflow."""
    return {
        "package-name": "airflow-provider-crestline",
        "name": "Crestline",
        "description": "Run tasks on supercomputers through FirecREST v2.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": "FirecREST",
                "external-doc-url": "https://eth-cscs.github.io/firecrest-v2/",
                "tags": ["hpc"],
            }
        ],
        "operators": [
            {
                "integration-name": "FirecREST",
                "python-modules": [
                    "crestline_airflow.operators.submit",
                    "crestline_airflow.operators.upload",
                    "crestline_airflow.operators.download",
                    "crestline_airflow.operators.scratch",
                ],
            }
        ],
        "hooks": [{"integration-name": "FirecREST", "python-modules": ["crestline_airflow.hooks"]}],
        "triggers": [
            {
                "integration-name": "FirecREST",
                "python-modules": [
                    "crestline_airflow.triggers",
                    "crestline_airflow.operators.transfer",
                    "crestline_airflow.sensors.triggers",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": "FirecREST",
                "python-modules": ["crestline_airflow.sensors.file", "crestline_airflow.sensors.job"],
            }
        ],
        "task-decorators": [{"name": "firecrest", "class-name": "crestline_airflow.decorators.firecrest_task"}],
        "transfers": [
            {
                "source-integration-name": "Local",
                "target-integration-name": "FirecREST",
                "python-module": "crestline_airflow.operators.upload",
            },
            {
                "source-integration-name": "FirecREST",
                "target-integration-name": "Local",
                "python-module": "crestline_airflow.operators.download",
            },
        ],
        "filesystems": ["crestline_airflow.filesystem"],
        "asset-uris": [
            {
                "schemes": ["firecrest"],
                "handler": "crestline_airflow.assets.sanitize_uri",
                "factory": "crestline_airflow.assets.create_asset",
                "to_openlineage_converter": "crestline_airflow.assets.convert_asset_to_openlineage",
            }
        ],
        "notifications": ["crestline_airflow.notifications.FirecRESTJobNotifier"],
        "extra-links": ["crestline_airflow.links.FirecRESTJobLink"],
        "config": {
            "firecrest": {
                "description": "What connections of the type firecrest may do.",
                "options": {
                    "allow_local_credentials": {
                        "description": "Obey auth_command and credential_file of a connection. They make workers run a "
                        "program or read a file, so all users who may edit connections may then do that.",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": None,
                        "default": "False",
                    }
                },
            }
        },
        "connection-types": [
            {
                "connection-type": "firecrest",
                "hook-name": "FirecREST",
                "hook-class-name": "crestline_airflow.hooks.FirecRESTHook",
                "conn-fields": {
                    "auth_url": {
                        "label": "Token URL",
                        "description": "Where the OAuth2 client credentials are exchanged for an access token.",
                        "schema": {"type": ["string", "null"], "format": "uri"},
                    },
                    "system": {
                        "label": "System",
                        "description": "The system that tasks use when they name none.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "account": {
                        "label": "Account",
                        "description": "Charged for jobs that name no account.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "refresh_token": {
                        "label": "Refresh token",
                        "description": "Of a person; goes with the client ID. Each worker keeps what it is renewed to.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "api_key": {
                        "label": "API key",
                        "description": "In the place of a client, where the gateway takes keys.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "auth_command": {
                        "label": "Token command",
                        "description": "Prints an access token; obeyed with [firecrest] allow_local_credentials.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "job_page": {
                        "label": "Job page",
                        "description": "URL of a job's page, with {system} and {job_id}; the gateway's own if empty.",
                        "schema": {"type": ["string", "null"]},
                    },
                },
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "port"],
                    "relabeling": {"host": "Gateway URL", "login": "Client ID", "password": "Client secret"},
                    "placeholders": {"host": "https://firecrest.example.org/v2"},
                },
            }
        ],
    }
