"""The decision: the credential's scopes, then the system's rules, then OpenFGA. All of them must agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crestline.gateway.authorization.openfga import OpenFga
from crestline.gateway.config import AccessRule
from crestline.gateway.identity import Principal
from crestline.model import PermissionDeniedError


class MissingScopeError(PermissionDeniedError):
    """The credential itself does not allow it.

    Attributes:
        scope: the one that it lacks.
    """

    def __init__(self, caller: Principal, scope: str) -> None:
        what = "API key" if caller.via == "api-key" else "token"
        super().__init__(f"The {what} lacks the scope {scope!r}.", hint="Use one that has it.")
        self.scope = scope


class Authorization:
    """Decides what each caller may do on the systems of one gateway."""

    def __init__(self, rules: Mapping[str, Sequence[AccessRule]], openfga: OpenFga | None = None) -> None:
        """`rules`: those of each system, by its name; a system without rules is open to all who are known."""
        self._rules = rules
        self._openfga = openfga

    async def check(self, caller: Principal, scope: str, system: str | None) -> None:
        """Let the caller pass.

        Args:
            scope: what the request needs.
            system: the name of the system that it is about, if it is about one.

        Raises:
            PermissionDeniedError: the caller may not.
            GatewayUnavailableError: OpenFGA, which must be asked, gives no answer.
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
    """Whether one of the rules allows it; without rules, every user may."""
    return not rules or any((rule.scopes is None or scope in rule.scopes) and _names(rule, caller) for rule in rules)


def _names(rule: AccessRule, caller: Principal) -> bool:
    return caller.username in rule.users or not rule.groups.isdisjoint(caller.groups)
