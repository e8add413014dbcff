"""Who may use a system, as the configuration says."""

from __future__ import annotations

from collections.abc import Sequence

from crestline.gateway.config import AccessRule
from crestline.gateway.identity import Caller


def allowed(rules: Sequence[AccessRule], caller: Caller, scope: str) -> bool:
    """Whether one of the rules allows it; without rules, every user may."""
    return not rules or any((rule.scopes is None or scope in rule.scopes) and _names(rule, caller) for rule in rules)


def _names(rule: AccessRule, caller: Caller) -> bool:
    return caller.username in rule.users or not rule.groups.isdisjoint(caller.groups)
