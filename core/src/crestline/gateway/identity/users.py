"""The users that an identity provider can name: no system accounts, unless the operator allows them."""

from __future__ import annotations

import asyncio
import pwd
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from crestline.gateway.identity.principal import InvalidCredentialError, Principal
from crestline.model import PermissionDeniedError

SYSTEM_ACCOUNTS = (
    "root", "toor", "admin", "administrator", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail",
    "mailnull", "news", "uucp", "proxy", "www-data", "backup", "list", "irc", "gnats", "nogroup",
    "nobody",  # codespell:ignore nobody
    "nfsnobody", "operator", "halt", "shutdown", "ftp", "adm", "systemd*", "_*", "ssh", "sshd", "messagebus",
    "dbus", "polkitd", "rtkit", "avahi*", "chrony", "ntp", "rpc", "rpcuser", "statd", "syslog", "rsyslog",
    "cron", "crontab", "postfix", "smmsp", "dovecot", "postgres", "mysql", "mariadb", "mongodb", "redis",
    "memcached", "elasticsearch", "nginx", "apache", "httpd", "tomcat", "haproxy", "squid", "git", "gitlab*",
    "jenkins", "docker", "containerd", "libvirt*", "qemu", "kvm", "ceph", "lustre", "gluster", "munge",
    "slurm*", "pbs*", "torque", "sge", "sgeadmin", "lsfadmin", "condor", "flux", "hqueue", "named", "bind",
    "unbound", "dnsmasq", "ldap", "openldap", "sssd", "nslcd", "tss", "stunnel*", "vault", "consul", "etcd",
    "zabbix", "nagios", "icinga", "prometheus", "grafana", "influxdb", "telegraf", "collectd", "ganglia",
    "puppet", "ansible", "landscape", "pollinate", "tcpdump", "uuidd", "usbmux", "sddm", "gdm", "lightdm",
    "colord", "saned", "pulse", "geoclue", "fwupd*", "crestline*", "firecrest*", "jupyterhub*",
)  # fmt: skip
"""Patterns of the names of system accounts."""


_POSIX_NAME = re.compile(r"(?:[a-z0-9_.-]+\\)?[a-z0-9_][a-z0-9_.+-]*\$?(?:@[a-z0-9_.-]+)?", re.ASCII | re.IGNORECASE)
"""A name with or without a domain, which is not a path, a list or an option."""
_NUMBER = re.compile(r"(0x[0-9a-f]+|[0-9]+)(?:\.[0-9]+)?")
"""A name that programs may interpret as the uid, or the uid and gid, of a user."""
_MAX_UID = 2**32 - 2
_LONGEST_NAME = 256
_KEPT = 10.0
"""Seconds for which a decision about the user of an API key is cached."""
_CACHE_SIZE = 10_000
_OTHER_KEY = "Sign in again and create another key."


class DeniedUserError(PermissionDeniedError):
    """A genuine credential names a user that its issuer cannot name.

    Attributes:
        principal: the identity of the credential.
    """

    def __init__(self, message: str, principal: Principal, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.principal = principal


class UserPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The users that an issuer can name. Names are compared without regard to case and without a domain."""

    min_uid: int = 1000
    allowed: Sequence[str] = ("*",)
    denied: Sequence[str] = SYSTEM_ACCOUNTS

    async def check(self, caller: Principal) -> None:
        """Check the user of a token.

        Raises:
            DeniedUserError: the user is a system account, is not allowed, or is not a valid name.
        """
        names = _names(caller.username)
        if not _POSIX_NAME.fullmatch(caller.username) or len(caller.username) > _LONGEST_NAME:
            raise self._denied(caller, "It is not the name of a POSIX user.")
        if any(_matches(name, self.denied) for name in names) or not _matches(names[0], self.allowed):
            raise self._denied(caller, "The configuration of the identity provider excludes this name.")
        # A directory service may be slow.
        uids = await asyncio.to_thread(_uids, names)
        if any(uid < self.min_uid for uid in uids):
            raise self._denied(caller, f"Its uid is below {self.min_uid}.")

    def _denied(self, caller: Principal, reason: str) -> DeniedUserError:
        what = "An API key may not stand for" if caller.via == "api-key" else "A token may not name"
        return DeniedUserError(
            f"{what} the user {caller.username[:64]!r}. {reason}",
            caller,
            hint="For a person's account, the operator changes the provider's allowed_users, denied_users or min_uid.",
        )


class KeyUsers:
    """The users of API keys: those that the issuers of the tokens that created the keys can name now."""

    def __init__(
        self, policies: Mapping[str, UserPolicy], own: str, is_own: Callable[[Principal], Awaitable[bool]]
    ) -> None:
        """Create the check.

        Args:
            policies: policy of each identity provider by its name.
            own: name of the built-in issuer.
            is_own: whether a client of the built-in issuer created the caller's key, for its own user.
        """
        self._policies = policies
        self._own = own
        self._is_own = is_own
        self._cached: dict[tuple[str, str | None], tuple[float, int]] = {}

    async def check(self, caller: Principal) -> Principal:
        """Return the caller with the minimum uid of the user on a system.

        If the issuer of a key's user is unknown, one provider that can name the user is sufficient.

        Raises:
            DeniedUserError: no provider can name the user.
            InvalidCredentialError: the client, or the provider, was removed.
        """
        if caller.issuer == self._own or not caller.issuer:
            if await self._is_own(caller):
                return caller
            if caller.issuer == self._own or (caller.created_by and not self._policies):
                raise InvalidCredentialError("The client of this API key was removed", caller, hint=_OTHER_KEY)
            policies = list(self._policies.values())
        elif caller.issuer in self._policies:
            policies = [self._policies[caller.issuer]]
        else:
            raise InvalidCredentialError(
                f"The identity provider of this API key, {caller.issuer}, is not configured any more",
                caller,
                hint=_OTHER_KEY,
            )
        if not policies:
            return caller
        known = (caller.username, caller.issuer)
        until, min_uid = self._cached.get(known, (0.0, 0))
        if until < time.monotonic():
            min_uid = await _smallest_uid(caller, policies)
            if len(self._cached) >= _CACHE_SIZE:
                self._cached.clear()
            self._cached[known] = time.monotonic() + _KEPT, min_uid
        return msgspec.structs.replace(caller, min_uid=min_uid)


async def _smallest_uid(caller: Principal, policies: Sequence[UserPolicy]) -> int:
    found: list[int] = []
    denied: DeniedUserError | None = None
    for policy in policies:
        try:
            await policy.check(caller)
        except DeniedUserError as error:
            denied = error
        else:
            found.append(policy.min_uid)
    if denied is not None and not found:
        raise denied
    return min(found)


def _names(username: str) -> list[str]:
    r"""Return the interpretations of a name on systems: `DOMAIN\name` and `name@domain` may mean `name`."""
    name = username.strip().casefold()
    short = name.rpartition("\\")[2].partition("@")[0]
    return [name] if short == name else [name, short]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern.casefold()) for pattern in patterns)


def _uids(names: list[str]) -> list[int]:
    found = []
    for name in names:
        if number := _NUMBER.fullmatch(name):
            uid = int(number[1][:20], 16 if number[1].startswith("0x") else 10)
            # programs truncate a longer one to 32 bits, which may be root's
            found.append(uid if uid <= _MAX_UID else 0)
            continue
        try:
            found.append(pwd.getpwnam(name).pw_uid)
        except (KeyError, ValueError):
            continue  # not a user of this machine
    return found
