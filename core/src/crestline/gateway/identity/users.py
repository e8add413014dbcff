"""Which users an identity provider may name: no system accounts, unless the operator says otherwise."""

from __future__ import annotations

import asyncio
import pwd
from collections.abc import Sequence
from fnmatch import fnmatchcase

import msgspec

from crestline.gateway.identity.caller import Caller
from crestline.model import PermissionDeniedError

SYSTEM_ACCOUNTS = (
    "root", "toor", "admin", "administrator", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail",
    "mailnull", "news", "uucp", "proxy", "www-data", "backup", "list", "irc", "gnats", "nobody", "nogroup",
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
"""patterns of names that systems give to services"""


class DeniedUserError(PermissionDeniedError):
    """A genuine token names a user that its issuer may not name.

    Attributes:
        principal: whom it speaks for.
    """

    def __init__(self, message: str, principal: Caller, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.principal = principal


class UserPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The users that an issuer may name. Names are compared without regard to case, and without a domain."""

    min_uid: int = 1000
    allowed: Sequence[str] = ("*",)
    denied: Sequence[str] = SYSTEM_ACCOUNTS

    async def check(self, caller: Caller) -> None:
        """Let the user of a token pass.

        Raises:
            DeniedUserError: it is a system account, or not one of the allowed users.
        """
        names = _names(caller.username)
        if any(_matches(name, self.denied) for name in names) or not _matches(names[0], self.allowed):
            raise self._denied(caller, "The configuration of the identity provider excludes this name.")
        # A directory service may take its time.
        uids = await asyncio.to_thread(_uids, names)
        if any(uid < self.min_uid for uid in uids):
            raise self._denied(caller, f"Its uid is below {self.min_uid}.")

    def _denied(self, caller: Caller, reason: str) -> DeniedUserError:
        return DeniedUserError(
            f"A token may not name the user {caller.username[:64]!r}. {reason}",
            caller,
            hint="For a person's account, the operator changes the provider's allowed_users, denied_users or min_uid.",
        )


def _names(username: str) -> list[str]:
    """The name as systems may read it: `DOMAIN\\name` and `name@domain` may mean `name`."""
    name = username.strip().casefold()
    short = name.rpartition("\\")[2].partition("@")[0]
    return [name] if short == name else [name, short]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern.casefold()) for pattern in patterns)


def _uids(names: list[str]) -> list[int]:
    found = []
    for name in names:
        if name.isdigit():
            found.append(int(name[:20]))  # a number stands for the user that has it
            continue
        try:
            found.append(pwd.getpwnam(name).pw_uid)
        except (KeyError, ValueError):
            continue  # not a user of this machine
    return found
