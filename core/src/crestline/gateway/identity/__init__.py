"""Who asks, and what they may do."""

from crestline.gateway.identity.caller import Caller

__all__ = ["Caller"]
