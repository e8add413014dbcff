"""The gateway's configuration: one TOML file, and what holds without it."""

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
    """A tree that the file endpoints serve."""

    path: str
    data_type: str = "users"
    default_work_dir: bool = False


def read_secret_file(file: str | Path, key: str) -> str:
    """The one line of a file that the configuration names under `key`.

    Raises:
        ConfigError: it cannot be read, is empty, or is not one line of ASCII.
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
    """An S3 server by way of which the large files of a system travel; needs `crestline[s3]`."""

    endpoint: str
    """URL of the object store"""
    access_key_id: str
    """of a key that may make buckets and objects"""
    secret_access_key_file: Path | None = None
    """holds the key's secret; or:"""
    secret_access_key_env: str | None = None
    """environment variable of the gateway that holds it"""
    public_endpoint: str | None = None
    """where clients reach it; None: as the gateway does"""
    region: str = "us-east-1"
    bucket_prefix: str = "crestline-"
    """each user has the bucket `<prefix><user>`"""
    object_days: int = 10
    """days after which the server drops whatever is left by itself"""
    ca_file: str | None = None
    """PEM file of the authority that signed its certificate"""

    def read_secret(self) -> str:
        """The key's secret.

        Raises:
            ConfigError: it is not where the configuration says.
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
    """These users and the members of these groups may do this on the system."""

    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    """as `groups_claim` of the identity provider names them"""
    scopes: frozenset[Scope] | None = None
    """scopes that the rule grants; None: all"""


class MaintenanceConfig(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A time in which requests that need a system get 503 with `reason: maintenance`."""

    message: str
    """what users read, one sentence: what happens and whom to ask"""
    start: datetime | None = None
    """with its UTC offset; None: now"""
    end: datetime | None = None
    """with its UTC offset; None: when the configuration no longer has it"""

    def __post_init__(self) -> None:
        if any(each is not None and each.tzinfo is None for each in (self.start, self.end)):
            raise ValueError("start and end of a maintenance need a UTC offset, as in 2027-01-31T18:00:00+01:00")

    def check(self, what: str) -> None:
        """Refuse a request to `what` (a system) during the maintenance.

        Raises:
            MaintenanceError: it has begun and not ended.
        """
        now = datetime.now(UTC)
        if (self.start is None or self.start <= now) and (self.end is None or now < self.end):
            raise MaintenanceError(what, self.message, self.end)

    def has_ended(self) -> bool:
        return self.end is not None and self.end <= datetime.now(UTC)


class SystemConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One system; FirecREST's `cluster`."""

    host: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "this_machine"})
    """where the files are and commands run: `type` (see `hosts.registry`) and the options of that kind of host"""
    scheduler: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": DEFAULT_SCHEDULER})
    """`type` (see `schedulers.registry`) and the options of that scheduler"""
    file_systems: list[FileSystemConfig] | None = None
    """None: `<state directory>/files` as the default; beside it the user's home and the temporary directory, except one
    that holds the gateway's own state directory. No file system may hold a secret of the gateway"""
    max_ops_file_size: int = 5 * 1024 * 1024
    """bytes that the `ops` endpoints carry in one request"""
    access: list[AccessRule] = []
    """rules on who may use it; empty: every user with a valid credential"""
    maintenance: MaintenanceConfig | None = None
    """of this system alone"""
    archives: ArchiveLimits = msgspec.field(default_factory=ArchiveLimits)
    """limits of what is unpacked on this machine; behind SSH, tar(1) unpacks as the user"""
    s3: S3Config | None = None
    """None: large files travel by signed URLs of the gateway itself"""


class RateLimits(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """`[rate_limits]`: what one user may send to one gateway. The whole number may come at once."""

    requests_per_minute: Positive | None = None
    """requests with a credential; None: no limit"""
    changes_per_minute: Positive | None = None
    """of these, the ones that change something: submissions, cancellations, uploads, ...; None: no limit"""


class IssuerConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The built-in OAuth2 issuer; durations in seconds."""

    token_lifetime: int = 300
    refresh_lifetime: int = 30 * 86400
    max_failures: Positive = 30
    """failed sign-ins a minute from one address, above which the answer is 429 unless id and secret are right"""


class OidcPageConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How people sign in to the gateway's own page: authorization code with PKCE, no secret."""

    client_id: str
    """of a public client whose redirect URI is `<public_url>/` and whose web origin is the gateway's"""
    scope: str = "openid offline_access"
    resource: str | None = None
    """RFC 8707, for providers that want to be told whom the token is for"""
    name: str | None = None
    """what the button says; None: the provider's host"""
    origins: list[str] = []
    """where the provider's token endpoint is, if on another host than the issuer"""


class OidcConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An OpenID Connect provider whose tokens are taken beside those of the built-in issuer."""

    issuer: str
    """its URL, exactly as the claim `iss` has it"""
    audience: str
    """what the claim `aud` must name"""
    username_claim: str = "preferred_username"
    """the claim that holds the POSIX user on the systems"""
    ca_file: str | None = None
    """PEM file of the authority that signed the provider's certificate"""
    min_uid: int = 1000
    """a token may not name a user whose uid on the gateway's machine is smaller, or on the system behind SSH that a
    request is about"""
    allowed_users: list[str] = msgspec.field(default_factory=lambda: ["*"])
    """patterns of the users that a token may name"""
    denied_users: list[str] | None = None
    """patterns of users that a token may not name, whatever is allowed; None: root and the accounts of services"""
    groups_claim: str | None = None
    """the claim that lists the user's groups; a dot leads into an object, as in `realm_access.roles`"""
    scopes: dict[str, frozenset[Scope | Literal["*"]]] | None = None
    """what each scope of the provider's allows here, `*` being everything; None: its tokens allow everything"""
    page: OidcPageConfig | None = None
    """None: users cannot sign in to the gateway's own page by this provider"""


class ApiKeysConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """API keys; durations in seconds."""

    lifetime: Positive = 90 * 86400
    """of a key whose request names none"""
    max_lifetime: Positive = 366 * 86400


class AuditConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The audit trail."""

    retention_days: Positive = 400
    """after which a record is deleted"""
    max_records: Positive = 2_000_000
    """above which the oldest are deleted, whatever their age; about 1 GB"""


class OpenFgaConfig(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """`[openfga]`: where it is and what it is asked. The defaults of the tuple are FirecREST's."""

    url: str
    """base URL of its HTTP API"""
    store_id: str
    model_id: str | None = None
    """the authorization model; None: the store's latest"""
    token_file: str | None = None
    """holds a pre-shared key"""
    user: str = "user:{username}"
    relation: str = "member"
    object: str = "vcluster:{system}"
    cache: float = 5.0
    """seconds that an answer, yes or no, holds; 0 asks each time"""
    timeout: float = 2.0
    """seconds for an answer"""
    ca_file: str | None = None
    """PEM file of the authority that signed its certificate"""


class TlsConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """HTTPS without a proxy; both files are read again when they change."""

    certificate: Path
    """PEM file with the certificate and those of the authorities between"""
    key: Path
    """PEM file with its private key, without a passphrase"""


class MetricsConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A listener of its own for Prometheus: `GET /metrics`, plain HTTP, open to every client that reaches it."""

    host: str = "127.0.0.1"
    port: int = 9464


class IriConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The IRI Facility API below `/iri`, and what it says of the facility."""

    enabled: bool = True
    """False: `/iri` is not served. Its resources and their states are public, as that API requires"""
    name: str = "Crestline"
    short_name: str | None = None
    description: str | None = None
    organization: str | None = None
    support_url: str | None = None


class DrainConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a gateway goes that is asked to (SIGTERM); seconds."""

    ready_delay: float = 0.0
    """so long it says that it is not ready and serves on, so that a load balancer can look elsewhere"""
    timeout: float = 30.0
    """so long requests and transfers that run may take to come to their end"""


class GatewayConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The gateway's configuration file."""

    state_dir: Path = DEFAULT_STATE_DIR
    database: str | None = None
    """URL of a PostgreSQL database (`postgresql://...`) that several gateways may share; None: SQLite in `state_dir`"""
    host: str = "127.0.0.1"
    """address to listen on"""
    port: int = 8080
    """0 takes a free one"""
    tls: TlsConfig | None = None
    allow_plain_http: bool = False
    """whether to listen beyond this machine without TLS"""
    public_url: str | None = None
    """base of every URL that leaves the gateway; None: the address it listens on"""
    trusted_proxies: list[str] = []
    """addresses and networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed"""
    trust_all_users: bool = False
    """whether every user is trusted as the operator is. It is needed where a system on the gateway's own machine, whose
    jobs and files belong to the gateway's account, stands beside a system behind SSH or has several users"""
    limits: ConnectionLimits = ConnectionLimits()
    """limits of connections and of requests on them"""
    rate_limits: RateLimits = RateLimits()
    """limits of each user's requests"""
    drain: DrainConfig = msgspec.field(default_factory=DrainConfig)
    metrics: MetricsConfig | None = None
    """listener for Prometheus; None: no metrics are served"""
    issuer: IssuerConfig = msgspec.field(default_factory=IssuerConfig)
    oidc: list[OidcConfig] = []
    api_keys: ApiKeysConfig = msgspec.field(default_factory=ApiKeysConfig)
    openfga: OpenFgaConfig | None = None
    """asked, beside the rules of the systems, whether a user may use a system"""
    audit: AuditConfig = msgspec.field(default_factory=AuditConfig)
    maintenance: MaintenanceConfig | None = None
    """of all systems"""
    systems: dict[str, SystemConfig] = msgspec.field(default_factory=lambda: {"local": SystemConfig()})
    iri: IriConfig = msgspec.field(default_factory=IriConfig)
    relay: RelayConfig = msgspec.field(default_factory=RelayConfig)
    """hubs whose sessions are reached through this gateway"""
    deadline: Annotated[float, msgspec.Meta(gt=0)] = 90.0
    """seconds until an answer begins, beside the `wait` of its request; file contents have limits of their own"""
    max_body_size: Positive = 16 * 1024 * 1024
    """bytes of a request body with jobs or a list of files; other bodies that are read into memory have smaller limits,
    and those that are stored as they come have none"""
    min_token_ttl: int = 30
    """a token that lives fewer seconds than this is refused, as FirecREST does"""


def load_config(file: Path | None = None, **overrides: Any) -> GatewayConfig:
    """Read the configuration; `overrides` that are not None win over the file.

    Raises:
        ConfigError: the file is absent, is not TOML, or has a key or value that cannot be used.
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
    """The configured file systems as `/status/systems` shows them."""
    return [
        msgspec.convert(
            {"path": each.path, "dataType": each.data_type, "defaultWorkDir": each.default_work_dir}, FileSystem
        )
        for each in config.file_systems or []
    ]
