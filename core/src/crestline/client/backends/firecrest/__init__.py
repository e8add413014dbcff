"""FirecREST v2 through pyfirecrest. Nothing outside this package imports pyfirecrest or knows its defects."""

from crestline.client.backends.firecrest.backend import FirecrestBackend

__all__ = ["FirecrestBackend"]
