"""The checks of `crestline doctor`: `connection` checks the connection to a system, `gateway` a gateway's
configuration."""

from crestline.model.checks import Check, Verdict, failed

__all__ = ["Check", "Verdict", "failed"]
