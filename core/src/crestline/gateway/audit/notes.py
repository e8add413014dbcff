"""Details that routes and errors add to the ASGI scope of a request for its audit record."""

from __future__ import annotations

from typing import Any

from crestline.gateway.identity import Principal

PRINCIPAL = "crestline_principal"
TARGETS = "crestline_targets"
REFUSAL = "crestline_refusal"
"""Key of an ASGI scope: the text of the error in the response."""
LONGEST_PATH = 4096

_PATH_FIELDS = {"path": "path", "targetPath": "target_path", "linkPath": "link_path"}
"""Names of fields in JSON bodies, and in messages."""


def set_principal(scope: Any, principal: Principal) -> None:
    """Record the user of a refused credential."""
    scope[PRINCIPAL] = principal


def note_target(scope: Any, *targets: str) -> None:
    """Record what a request concerns, in addition to its URL."""
    scope.setdefault(TARGETS, []).extend(targets)


def note_paths(scope: Any, body: Any) -> None:
    """As `note_target`, with the paths in a body (JSON or a message). The rest of the body is not read."""
    named = [
        body.get(field) if isinstance(body, dict) else getattr(body, name, None) for field, name in _PATH_FIELDS.items()
    ]
    note_target(scope, *(str(each)[:LONGEST_PATH] for each in named if each))
