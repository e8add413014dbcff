"""Authorization: scopes per part of the API, rules per system, OpenFGA."""

from crestline.gateway.authorization.authorization import Authorization
from crestline.gateway.authorization.guard import required_scope

__all__ = ["Authorization", "required_scope"]
