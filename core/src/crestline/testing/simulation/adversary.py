"""The adversary, which injects faults. Each decision has a name and depends only on the seed and that name.

This way, a run can be repeated without some of its faults while everything else stays the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from random import Random


class Adversary:
    """Decides which faults happen.

    Attributes:
        faults: names of the faults of this run so far, in order.
        coverage: number of times that each kind of fault happened on each kind of occasion.

    Args:
        seed: the seed of the run.
        only: names of the faults that may happen. None allows all.
    """

    def __init__(self, seed: int, only: Container[str] | None = None) -> None:
        self.seed = seed
        self.faults: list[str] = []
        self.coverage: Counter[tuple[str, str]] = Counter()
        self.is_calm = False
        self._only = only

    def random(self, name: str) -> Random:
        """Return the random number generator of this name."""
        return Random(f"{self.seed}/{name}")  # noqa: S311

    def strikes(
        self, name: str, probability: float, kind: str, occasion: str, random: Random | None = None
    ) -> Random | None:
        """Decide whether a fault happens. Returns the random numbers for its details, or None.

        Args:
            name: the name of the fault, unique in a run.
            kind: the kind of fault, for `coverage`.
            occasion: the kind of operation that it affects, for `coverage`.
            random: the random numbers of that operation. None uses those of `name`.
        """
        random = random or self.random(name)
        is_left_out = self._only is not None and name not in self._only
        if random.random() >= probability or self.is_calm or is_left_out:
            return None
        self.faults.append(name)
        self.coverage[kind, occasion] += 1
        return random
