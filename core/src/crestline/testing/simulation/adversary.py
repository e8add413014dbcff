"""The adversary: every decision has a name and depends on the seed and that name alone.

So a run can be repeated with some of its faults left out, and the rest stays as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from random import Random


class Adversary:
    """Decides what goes wrong.

    Attributes:
        faults: names of the faults of this run so far, in their order.
        coverage: how often each kind of fault met each kind of occasion.

    Args:
        seed: of the run.
        only: names of the faults that may happen; None: all.
    """

    def __init__(self, seed: int, only: Container[str] | None = None) -> None:
        self.seed = seed
        self.faults: list[str] = []
        self.coverage: Counter[tuple[str, str]] = Counter()
        self.is_calm = False
        self._only = only

    def random(self, name: str) -> Random:
        """Random numbers of their own for each name."""
        return Random(f"{self.seed}/{name}")  # noqa: S311

    def strikes(
        self, name: str, probability: float, kind: str, occasion: str, random: Random | None = None
    ) -> Random | None:
        """Whether this fault happens: the random numbers for its details, or None.

        Args:
            name: of the fault, once in a run.
            kind: what it is, and
            occasion: what it hits, for the counts of coverage.
            random: of what it hits; None: numbers of its own.
        """
        random = random or self.random(name)
        is_left_out = self._only is not None and name not in self._only
        if random.random() >= probability or self.is_calm or is_left_out:
            return None
        self.faults.append(name)
        self.coverage[kind, occasion] += 1
        return random
