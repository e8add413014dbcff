"""Node names as Slurm abbreviates them: `nid[01-03,07]`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_NAME = re.compile(r"(.*?)(\d+)", re.ASCII | re.DOTALL)
_LIST = re.compile(r"((?:[^,\[\]]|\[[^\]]*\])+)")


def compress(names: Iterable[str]) -> str:
    """Return the hostlist of node names, without duplicates. Leading zeros are kept.

    >>> compress(["nid01", "nid02", "nid03"])
    'nid[01-03]'
    """
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        match = _NAME.fullmatch(name)
        groups.setdefault(match[1] if match else name, []).extend([match[2]] if match else [])
    return ",".join(_folded(prefix, numbers) for prefix, numbers in groups.items())


def expand(hostlist: str) -> Iterator[str]:
    """Iterate over the node names of a hostlist.

    >>> list(expand("nid[01-02,07],login"))
    ['nid01', 'nid02', 'nid07', 'login']
    """
    for word in _LIST.findall(hostlist):
        head, bracket, rest = word.partition("[")
        if not bracket:
            yield word
            continue
        inside, _, tail = rest.partition("]")
        for part in inside.split(","):
            low, _, high = part.partition("-")
            numbers = range(int(low), int(high or low) + 1) if low.isdigit() else ()
            for number in numbers:
                yield from expand(f"{head}{number:0{len(low)}d}{tail}")


def _folded(prefix: str, numbers: list[str]) -> str:
    if not numbers:
        return prefix
    ranges: list[list[str]] = []
    for number in sorted(numbers, key=lambda each: (int(each), len(each))):
        if ranges and int(number) == int(ranges[-1][1]) + 1 and _same_width(number, ranges[-1][1]):
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [low if low == high else f"{low}-{high}" for low, high in ranges]
    return f"{prefix}{texts[0]}" if len(numbers) == 1 else f"{prefix}[{','.join(texts)}]"


def _same_width(number: str, before: str) -> bool:
    return len(number) == len(before) or not (number.startswith("0") or before.startswith("0"))
