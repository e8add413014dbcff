"""Authentication: OIDC tokens, the built-in issuer and its clients, API keys."""

from crestline.gateway.identity.principal import InvalidCredentialError, Principal, caller_token

__all__ = ["InvalidCredentialError", "Principal", "caller_token"]
