"""Apache Airflow provider: tasks that run on supercomputers through FirecREST v2.

Operators are in `crestline_airflow.operators`, the connection type `firecrest` in `crestline_airflow.hooks`.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """What Airflow asks every provider: here, before anything of Airflow may be imported."""
    return {
        "package-name": "airflow-provider-crestline",
        "name": "Crestline",
        "description": "Run tasks on supercomputers through FirecREST v2.",
        "versions": [__version__],
    }
