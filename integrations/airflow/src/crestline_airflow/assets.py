"""Files on systems as assets of Airflow: `firecrest://[<connection>@]<system>/<absolute path>`."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from airflow.providers.common.compat.sdk import AirflowNotFoundException, Asset

from crestline.model import CrestlineError
from crestline_airflow.hooks import FirecRESTHook

if TYPE_CHECKING:
    from openlineage.client.event_v2 import Dataset

__all__ = ["create_asset"]


def create_asset(
    *, system: str, path: str, firecrest_conn_id: str | None = None, extra: dict[str, Any] | None = None
) -> Asset:
    """Create the asset of a file or directory on a system.

    Example::

        create_asset(system="daint", path="/scratch/u/run1/out.xml")

    Args:
        system: the system's name.
        path: absolute path on the system.
        firecrest_conn_id: the Airflow connection; None: the default one.
        extra: metadata of the asset.
    """
    connection = f"{firecrest_conn_id}@" if firecrest_conn_id else ""
    return Asset(uri=f"firecrest://{connection}{system}/{path.lstrip('/')}", extra=extra)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Normalise an asset's URI: without `.`, `..` and doubled slashes.

    Raises:
        ValueError: the URI lacks a system or a path, or has a port or query.
    """
    if not uri.hostname or uri.path in ("", "/"):
        raise ValueError("A firecrest:// URI must be firecrest://[connection@]system/absolute/path")
    if uri.query or ":" in uri.netloc:
        raise ValueError("A firecrest:// URI must have neither a port nor a password nor a query")
    return uri._replace(path=posixpath.normpath("/" + uri.path.lstrip("/")))


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Dataset:
    """Return the dataset of an asset, named as those of `FirecRESTSubmitOperator`."""
    from openlineage.client.event_v2 import Dataset

    parts = urlsplit(asset.uri)
    connection, _, system = parts.netloc.rpartition("@")
    try:
        gateway = urlsplit(FirecRESTHook(connection or FirecRESTHook.default_conn_name).site().url).netloc
    except (CrestlineError, AirflowNotFoundException):
        return Dataset(namespace=f"firecrest://{system}", name=parts.path)
    return Dataset(namespace=f"firecrest://{gateway}/{system}", name=parts.path)
