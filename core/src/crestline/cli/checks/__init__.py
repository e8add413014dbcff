"""The checks of `crestline doctor`: of the connection to a system, and of a gateway's configuration."""

from crestline.model.checks import Check, Verdict, failed

__all__ = ["Check", "Verdict", "failed"]
