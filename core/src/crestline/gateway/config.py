"""The gateway's configuration: one TOML file, with defaults for all keys."""

from __future__ import annotations

import os
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import platformdirs

from crestline.model import ConfigError, MaintenanceError
from crestline.private_files import read_config, warn_if_open
from crestline.relay.config import RelayConfig
from crestline.serving.limits import ConnectionLimits
from crestline.wire.extensions import Scope
from crestline.wire.status import FileSystem
from crestline.wire.tar import ArchiveLimits

DEFAULT_STATE_DIR = Path(platformdirs.user_data_dir("crestline", appauthor=False))

DEFAULT_SCHEDULER = "local"

Positive = Annotated[int, msgspec.Meta(ge=1)]


class FileSystemConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A directory tree that the file endpoints serve."""

    path: str
    data_type: str = "users"
    default_work_dir: bool = False


def read_secret_file(file: str | Path, key: str) -> str:
    """Return the one line of a file that the configuration names under `key`.

    Raises:
        ConfigError: the file cannot be read, is empty, or is not one line of ASCII.
    """
    try:
        secret = Path(file).expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"`{key}`: {file} cannot be read.", hint="Name a readable text file.") from error
    if not secret:
        raise ConfigError(f"`{key}`: {file} is empty.", hint="Put the secret into it.")
    if not (secret.isascii() and secret.isprintable()):
        raise ConfigError(f"`{key}`: {file} is not one line of ASCII.", hint="Put the secret alone into it.")
    warn_if_open(Path(file).expanduser())
    return secret


class S3Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An S3 server for the large files of a system. Needs `crestline[s3]`."""

    endpoint: str
    """URL of the object store."""
    access_key_id: str
    """Id of an access key that can create buckets and objects."""
    secret_access_key_file: Path | None = None
    """File with the access key's secret, or:"""
    secret_access_key_env: str | None = None
    """Environment variable of the gateway with the secret."""
    public_endpoint: str | None = None
    """URL of the object store for clients; None: `endpoint`."""
    region: str = "us-east-1"
    bucket_prefix: str = "crestline-"
    """Prefix of buckets: each user has the bucket `<prefix><user>`."""
    object_days: int = 10
    """Days after which the server deletes remaining objects by itself."""
    ca_file: str | None = None
    """PEM file of the authority that signed its certificate."""

    def read_secret(self) -> str:
        """Return the secret of the access key.

        Raises:
            ConfigError: the secret cannot be read.
        """
        if (self.secret_access_key_file is None) == (self.secret_access_key_env is None):
            raise ConfigError(
                "The S3 server's secret must come from one place.",
                hint="Give either secret_access_key_file or secret_access_key_env.",
            )
        if self.secret_access_key_env is not None:
            secret = os.environ.get(self.secret_access_key_env, "").strip()
        else:
            secret = read_secret_file(self.secret_access_key_file or "", "s3.secret_access_key_file")
        if not secret:
            raise ConfigError("The S3 server's secret is empty.", hint="Set the variable, or fill the file.")
        return secret


class AccessRule(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A rule that gives these users and the members of these groups access to the system."""

    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    """Names of groups in the identity provider's `groups_claim`."""
    scopes: frozenset[Scope] | None = None
    """Scopes that the rule grants; None: all."""


class MaintenanceConfig(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A period in which requests that need a system get 503 with `reason: maintenance`."""

    message: str
    """One sentence for users: what happens and whom to ask."""
    start: datetime | None = None
    """Start with its UTC offset; None: now."""
    end: datetime | None = None
    """End with its UTC offset; None: when the table is removed from the configuration."""

    def __post_init__(self) -> None:
        if any(each is not None and each.tzinfo is None for each in (self.start, self.end)):
            raise ValueError("start and end of a maintenance need a UTC offset, as in 2027-01-31T18:00:00+01:00")

    def check(self, what: str) -> None:
        """Refuse a request to `what` (a system) during the maintenance.

        Raises:
            MaintenanceError: the maintenance is in progress.
        """
        now = datetime.now(UTC)
        if (self.start is None or self.start <= now) and (self.end is None or now < self.end):
            raise MaintenanceError(what, self.message, self.end)

    def has_ended(self) -> bool:
        return self.end is not None and self.end <= datetime.now(UTC)


class SystemConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One system; FirecREST's `cluster`."""

    host: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "local"})
    """The machine of the files and commands: `type` (see `hosts.registry`) and the options of that kind of host."""
    scheduler: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": DEFAULT_SCHEDULER})
    """The scheduler: `type` (see `schedulers.registry`) and the options of that scheduler."""
    file_systems: list[FileSystemConfig] | None = None
    """The served file systems. None: `<state directory>/files` as the default, and the user's home directory and the
    temporary directory unless one of them contains the gateway's state directory. No file system may contain a secret
    of the gateway."""
    max_ops_file_size: int = 5 * 1024 * 1024
    """Maximum size in bytes of a file in one request of the `ops` endpoints."""
    access: list[AccessRule] = []
    """Rules on the users of the system; empty: every user with a valid credential."""
    maintenance: MaintenanceConfig | None = None
    """Maintenance of this system only."""
    archives: ArchiveLimits = msgspec.field(default_factory=ArchiveLimits)
    """Limits of archives that are unpacked on this machine. Behind SSH, tar(1) unpacks as the user."""
    s3: S3Config | None = None
    """The object store of the system; None: large files travel by signed URLs of the gateway itself."""


class RateLimits(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """`[rate_limits]`: limits of one user's requests to one gateway. A user can send the full number at once."""

    requests_per_minute: Positive | None = None
    """Maximum number of requests with a credential per minute; None: unlimited."""
    changes_per_minute: Positive | None = None
    """Maximum number of requests per minute that change something (submissions, cancellations, uploads, ...); None:
    unlimited."""


class IssuerConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The built-in OAuth2 issuer. Durations are in seconds."""

    token_lifetime: int = 300
    refresh_lifetime: int = 30 * 86400
    max_failures: Positive = 30
    """Maximum number of failed sign-ins per minute from one address. Above it, the answer is 429 unless id and
    secret are right."""


class OidcPageConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Sign-in to the gateway's own page: authorization code with PKCE, without a secret."""

    client_id: str
    """Id of a public client with the redirect URI `<public_url>/` and the gateway as web origin."""
    scope: str = "openid offline_access"
    resource: str | None = None
    """RFC 8707, for providers that require the resource of the token."""
    name: str | None = None
    """Text of the button; None: the provider's host."""
    origins: list[str] = []
    """Origin of the provider's token endpoint, if it is on another host than the issuer."""


class OidcConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An OpenID Connect provider whose tokens the gateway accepts in addition to those of the built-in issuer."""

    issuer: str
    """URL of the issuer, exactly as in the claim `iss`."""
    audience: str
    """Required value of the claim `aud`."""
    username_claim: str = "preferred_username"
    """Claim with the POSIX user on the systems."""
    ca_file: str | None = None
    """PEM file of the authority that signed the provider's certificate."""
    min_uid: int = 1000
    """Minimum uid of the users in tokens, on the gateway's machine or on the system behind SSH that a request
    concerns."""
    allowed_users: list[str] = msgspec.field(default_factory=lambda: ["*"])
    """Patterns of the users that a token can name."""
    denied_users: list[str] | None = None
    """Patterns of users that a token cannot name, even if they are allowed; None: root and the accounts of services."""
    groups_claim: str | None = None
    """Claim with the list of the user's groups. A dot leads into an object, as in `realm_access.roles`."""
    scopes: dict[str, frozenset[Scope | Literal["*"]]] | None = None
    """Scopes that each scope of the provider grants; `*` grants all. None: its tokens grant every scope."""
    page: OidcPageConfig | None = None
    """Sign-in to the gateway's page by this provider; None: not possible."""


class ApiKeysConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """API keys. Durations are in seconds."""

    lifetime: Positive = 90 * 86400
    """Lifetime of a key whose request has none."""
    max_lifetime: Positive = 366 * 86400


class AuditConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The audit trail."""

    retention_days: Positive = 400
    """Days after which a record is deleted."""
    max_records: Positive = 2_000_000
    """Maximum number of records. Above it, the oldest are deleted regardless of their age. About 1 GB."""


class OpenFgaConfig(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """`[openfga]`: the server and the relation that it is asked for. The defaults of the tuple are FirecREST's."""

    url: str
    """Base URL of its HTTP API."""
    store_id: str
    model_id: str | None = None
    """Id of the authorization model; None: the store's latest."""
    token_file: str | None = None
    """File with a pre-shared key."""
    user: str = "user:{username}"
    relation: str = "member"
    object: str = "vcluster:{system}"
    cache: float = 5.0
    """Seconds for which an answer, positive or negative, is cached; 0: not cached."""
    timeout: float = 2.0
    """Seconds for an answer."""
    ca_file: str | None = None
    """PEM file of the authority that signed its certificate."""


class TlsConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """HTTPS without a proxy. Both files are read again when they change."""

    certificate: Path
    """PEM file with the certificate and those of intermediate authorities."""
    key: Path
    """PEM file with its private key, without a passphrase."""


class MetricsConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A separate listener for Prometheus: `GET /metrics`, plain HTTP, without authentication."""

    host: str = "127.0.0.1"
    port: int = 9464


class IriConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The IRI Facility API below `/iri`, and its description of the facility."""

    enabled: bool = True
    """Whether `/iri` is served. Its resources and their states are public, as that API requires."""
    name: str = "Crestline"
    short_name: str | None = None
    description: str | None = None
    organization: str | None = None
    support_url: str | None = None


class DrainConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The shutdown of a gateway after SIGTERM. Durations are in seconds."""

    ready_delay: float = 0.0
    """Seconds for which the gateway reports that it is not ready but continues to serve, so that a load balancer can
    redirect requests."""
    timeout: float = 30.0
    """Seconds for running requests and transfers to finish."""


class GatewayConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The gateway's configuration file."""

    state_dir: Path = DEFAULT_STATE_DIR
    database: str | None = None
    """URL of a PostgreSQL database (`postgresql://...`) that several gateways can share; None: SQLite in
    `state_dir`."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8080
    """Port to listen on; 0: a free one."""
    tls: TlsConfig | None = None
    allow_plain_http: bool = False
    """Whether to listen on addresses other than loopback without TLS."""
    public_url: str | None = None
    """Base of every URL that leaves the gateway; None: the address that it listens on."""
    trusted_proxies: list[str] = []
    """Addresses and networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` the gateway trusts."""
    trust_all_users: bool = False
    """Whether every user is trusted like the operator. Required if a system on the gateway's own machine, whose jobs
    and files belong to the gateway's account, has several users or is beside a system behind SSH."""
    limits: ConnectionLimits = ConnectionLimits()
    """Limits of connections and of requests on them."""
    rate_limits: RateLimits = RateLimits()
    """Limits of each user's requests."""
    drain: DrainConfig = msgspec.field(default_factory=DrainConfig)
    metrics: MetricsConfig | None = None
    """Listener for Prometheus; None: no metrics are served."""
    issuer: IssuerConfig = msgspec.field(default_factory=IssuerConfig)
    oidc: list[OidcConfig] = []
    api_keys: ApiKeysConfig = msgspec.field(default_factory=ApiKeysConfig)
    openfga: OpenFgaConfig | None = None
    """OpenFGA server that decides, in addition to the rules of the systems, whether a user can use a system."""
    audit: AuditConfig = msgspec.field(default_factory=AuditConfig)
    maintenance: MaintenanceConfig | None = None
    """Maintenance of all systems."""
    systems: dict[str, SystemConfig] = msgspec.field(default_factory=lambda: {"local": SystemConfig()})
    iri: IriConfig = msgspec.field(default_factory=IriConfig)
    relay: RelayConfig = msgspec.field(default_factory=RelayConfig)
    """Hubs whose sessions are reached through this gateway."""
    deadline: Annotated[float, msgspec.Meta(gt=0)] = 90.0
    """Seconds until a response begins, in addition to the `wait` of its request. File contents have limits of their
    own."""
    max_body_size: Positive = 16 * 1024 * 1024
    """Maximum size in bytes of a request body with jobs or a list of files. Other bodies that are read into memory
    have smaller limits. Bodies that are stored as they arrive have none."""
    min_token_ttl: int = 30
    """Minimum remaining lifetime of a token in seconds, as in FirecREST."""


def load_config(file: Path | None = None, **overrides: Any) -> GatewayConfig:
    """Read the configuration. `overrides` that are not None take precedence over the file.

    Raises:
        ConfigError: the file does not exist, is not TOML, or has an invalid key or value.
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(read_config(file))
        except OSError as error:
            raise ConfigError(f"Cannot read {file}: {error.strerror}.", hint="Name a readable file.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} is not TOML: {error}.", hint="Correct that line.") from error
    values |= {key: value for key, value in overrides.items() if value is not None}
    try:
        config = msgspec.convert(values, GatewayConfig, dec_hook=_decode)
    except msgspec.ValidationError as error:
        where = file or "the options"
        raise ConfigError(f"{where} cannot be used: {error}.", hint="See `crestline serve --help`.") from error
    config.state_dir = config.state_dir.expanduser().absolute()
    return config


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise TypeError(kind)


def wire_file_systems(config: SystemConfig) -> list[FileSystem]:
    """Return the configured file systems in the format of `/status/systems`."""
    return [
        msgspec.convert(
            {"path": each.path, "dataType": each.data_type, "defaultWorkDir": each.default_work_dir}, FileSystem
        )
        for each in config.file_systems or []
    ]
