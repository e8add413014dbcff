"""Who asks: OIDC tokens, the built-in issuer and its clients, API keys."""

from crestline.gateway.identity.caller import Caller, RefusedCredentialError, caller_token

__all__ = ["Caller", "RefusedCredentialError", "caller_token"]
