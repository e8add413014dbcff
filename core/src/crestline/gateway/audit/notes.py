"""What routes and errors add to the ASGI scope of their request, for its audit record."""

from __future__ import annotations

from typing import Any

from crestline.gateway.identity import Principal

PRINCIPAL = "crestline_principal"
TARGETS = "crestline_targets"
REFUSAL = "crestline_refusal"
"""key of an ASGI scope: the text of the error that is answered"""
LONGEST_PATH = 4096

_PATH_FIELDS = {"path": "path", "targetPath": "target_path", "linkPath": "link_path"}
"""on the wire, and of messages"""


def set_principal(scope: Any, principal: Principal) -> None:
    """Say whom a refused credential speaks for."""
    scope[PRINCIPAL] = principal


def note_target(scope: Any, *targets: str) -> None:
    """Say what a request is about, beside what its URL says."""
    scope.setdefault(TARGETS, []).extend(targets)


def note_paths(scope: Any, body: Any) -> None:
    """As `note_target`, with the paths that a body, as JSON or as a message, names; nothing else of it is looked at."""
    named = [
        body.get(field) if isinstance(body, dict) else getattr(body, name, None) for field, name in _PATH_FIELDS.items()
    ]
    note_target(scope, *(str(each)[:LONGEST_PATH] for each in named if each))
