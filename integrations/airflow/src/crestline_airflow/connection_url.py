"""The gateway's URL in an Airflow connection, whose parts may be in host, schema and port."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from crestline.model import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Connection

_SCHEMES = ("http", "https")


def gateway_url(connection: Connection) -> str:
    """Return the URL, built as Airflow's HTTP connections do it.

    Host is the whole URL, or the URL without its scheme if that is in Schema. Port applies if the host has none. A
    connection given as a URI (`firecrest://https://id:secret@gateway:8443/firecrest/v2`) has the path in Schema.

    Raises:
        ConfigError: the parts contradict each other, or are not the URL of a gateway.
    """
    scheme, separator, rest = (connection.host or "").strip().partition("://")
    schema = (connection.schema or "").strip().strip("/")
    if not separator:
        scheme, rest = "", scheme
    if schema.lower() in _SCHEMES:
        if scheme and scheme.lower() != schema.lower():
            raise _unusable(connection, f"has the scheme {scheme} in Host and {schema} in Schema", "Remove one.")
        scheme, schema = schema, ""
    if scheme.lower() not in _SCHEMES or not rest:
        raise _unusable(
            connection,
            "has no gateway URL",
            "Put the whole URL into Host, with its https://. As a URI: firecrest://https://gateway:8443/path.",
        )
    host, slash, path = rest.partition("/")
    if host.count(":") > 1 and not set("[@") & set(host):  # Airflow removes the brackets of an IPv6 address
        rest = f"[{host}]{slash}{path}"
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port
    except ValueError:  # its text may contain a password
        raise _unusable(
            connection, "has an invalid gateway URL", "Correct its Host; credentials belong into Login and Password."
        ) from None
    if "@" in parts.netloc + parts.path:
        raise _unusable(connection, "has credentials in Host", "Put them into Login and Password.")
    if parts.query or parts.fragment or not parts.hostname:
        raise _unusable(connection, "has an invalid gateway URL", "It has a host and a path, but no ? and no #.")
    if connection.port and port not in (None, connection.port):
        raise _unusable(connection, f"has port {port} in Host and {connection.port} in Port", "Remove one.")
    path = parts.path.strip("/")
    if schema and path not in ("", schema):
        raise _unusable(connection, f"has the path /{path} in Host and /{schema} in Schema", "Remove one.")
    ports = (port, connection.port or None)
    netloc = parts.netloc if port or not connection.port else f"{parts.netloc.rstrip(':')}:{connection.port}"
    path = path or schema
    if set("?# \t\r\n\\") & set(netloc + path) or any(port is not None and not 0 < port < 65536 for port in ports):
        raise _unusable(connection, "has an invalid gateway URL", "Correct its Host, Port and Schema.")
    return f"{scheme.lower()}://{netloc}/{path}".rstrip("/")


def _unusable(connection: Connection, what: str, hint: str) -> ConfigError:
    return ConfigError(f"The connection {connection.conn_id} {what}.", hint=hint)
