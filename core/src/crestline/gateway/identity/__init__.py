"""Who asks, and what they may do."""

from crestline.gateway.identity.caller import Caller, caller_token

__all__ = ["Caller", "caller_token"]
