"""Apache Airflow provider: tasks that run on supercomputers through FirecREST v2.

Operators are in `crestline_airflow.operators`, the connection type `firecrest` in `crestline_airflow.hooks`.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """What Airflow asks every provider, while it starts: nothing of Airflow may be imported here."""
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
                ],
            }
        ],
        "hooks": [{"integration-name": "FirecREST", "python-modules": ["crestline_airflow.hooks"]}],
        "triggers": [{"integration-name": "FirecREST", "python-modules": ["crestline_airflow.triggers"]}],
        "connection-types": [
            {
                "connection-type": "firecrest",
                "hook-name": "FirecREST",
                "hook-class-name": "crestline_airflow.hooks.FirecRESTHook",
                "conn-fields": {
                    "token_url": {
                        "label": "Token URL",
                        "description": "Where the OAuth2 client credentials are exchanged for an access token.",
                        "schema": {"type": ["string", "null"], "format": "uri"},
                    },
                    "system": {
                        "label": "System",
                        "description": "The system that tasks use when they name none.",
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
