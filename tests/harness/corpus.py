"""The injection corpus (`tests/security/corpus.toml`), made out for one canary."""

from __future__ import annotations

import secrets
import tomllib
from pathlib import Path

_TEXT = tomllib.loads((Path(__file__).parents[1] / "security" / "corpus.toml").read_text())


class Canary:
    """A file name that comes into being where an entry of the corpus was executed, and nowhere else."""

    def __init__(self) -> None:
        self.name = f"canary-{secrets.token_hex(6)}"

    def words(self) -> list[str]:
        """Shell and template syntax."""
        return [each.format(canary=self.name) for each in _TEXT["words"]]

    def options(self) -> list[str]:
        """What looks like an option."""
        return [each.format(canary=self.name) for each in _TEXT["options"]]

    def everything(self) -> list[str]:
        """Words and options."""
        return [*self.words(), *self.options()]


def ways_out(outside: str) -> list[str]:
    """Paths that try to lead to the file `outside`."""
    return [each.format(outside=outside) for each in _TEXT["paths"]]
