"""The gateway's own HTTPS, with certificates that can be renewed while it runs."""

from __future__ import annotations

import logging
import ssl

from crestline.gateway.config import TlsConfig
from crestline.model import ConfigError

_log = logging.getLogger("crestline.tls")


class ServerTls:
    """The TLS context of the listener. Each handshake uses the newest certificate."""

    def __init__(self, config: TlsConfig) -> None:
        """Load the files.

        Raises:
            ConfigError: the files cannot be used.
        """
        self._config = config
        self._seen = self._stamps()
        self._newest = self._load()
        self.context = self._load()
        self.context.sni_callback = self._choose

    def refresh(self) -> None:
        """Load the files again if they have changed. If they are invalid, keep the previous ones."""
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self._newest = self._load()
        except ConfigError as error:
            _log.error("the old certificate stays: %s", error)
        else:
            _log.info("%s was loaded again", self._config.certificate)

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self._config.certificate, self._config.key, password=_no_passphrase)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise ConfigError(
                f"{self._config.certificate} and {self._config.key} cannot be used for TLS: {_why(error)}.",
                hint="Name PEM files of a certificate and of its key, without a passphrase, that the gateway may read.",
            ) from error
        return context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest

    def _stamps(self) -> list[float]:
        files = (self._config.certificate, self._config.key)
        return [file.stat().st_mtime if file.exists() else 0.0 for file in files]


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")  # OpenSSL would ask for it on the terminal


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM").replace("_", " ").lower()
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
