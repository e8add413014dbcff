"""The decision: the credential's scopes, the system's rules, and OpenFGA must all allow the request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crestline.gateway.authorization.openfga import OpenFga
from crestline.gateway.config import AccessRule
from crestline.gateway.identity import Principal
from crestline.model import PermissionDeniedError


class MissingScopeError(PermissionDeniedError):
    """The credential lacks a scope.

    Attributes:
        scope: the missing scope.
    """

    def __init__(self, caller: Principal, scope: str) -> None:
        what = "API key" if caller.via == "api-key" else "token"
        super().__init__(f"The {what} lacks the scope {scope!r}.", hint="Use one that has it.")
        self.scope = scope


class Authorization:
    """Decides what each caller can do on the systems of one gateway."""

    def __init__(self, rules: Mapping[str, Sequence[AccessRule]], openfga: OpenFga | None = None) -> None:
        """`rules`: the rules of each system by its name. A system without rules is open to all authenticated users."""
        self._rules = rules
        self._openfga = openfga

    async def check(self, caller: Principal, scope: str, system: str | None) -> None:
        """Check the permission of a caller.

        Args:
            caller: the caller.
            scope: the scope that the request needs.
            system: name of the system that the request concerns; None: no system.

        Raises:
            PermissionDeniedError: the request is not allowed.
            GatewayUnavailableError: OpenFGA, which must be asked, does not respond.
        """
        if scope not in caller.scopes:
            raise MissingScopeError(caller, scope)
        if system is None:
            return
        if not _allowed(self._rules.get(system, ()), caller, scope):
            raise PermissionDeniedError(
                f"{caller.username!r} may not do this on {system} ({scope}).", hint="Ask the site for access."
            )
        if self._openfga is not None and not await self._openfga.allows(caller.username, system):
            raise PermissionDeniedError(f"{caller.username!r} may not use {system}.", hint="Ask the site for access.")

    async def close(self) -> None:
        if self._openfga is not None:
            await self._openfga.close()


def _allowed(rules: Sequence[AccessRule], caller: Principal, scope: str) -> bool:
    """Whether one of the rules allows the request. Without rules, every user is allowed."""
    return not rules or any((rule.scopes is None or scope in rule.scopes) and _names(rule, caller) for rule in rules)


def _names(rule: AccessRule, caller: Principal) -> bool:
    return caller.username in rule.users or not rule.groups.isdisjoint(caller.groups)
