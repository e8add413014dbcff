"""File modes of chmod(1): octal (`755`) or symbolic (`u+x,go-w`)."""

from __future__ import annotations

import re

from crestline.gateway.paths import printable
from crestline.model import InvalidRequestError

_OCTAL = re.compile(r"0?[0-7]{1,4}")
_CLAUSE = re.compile(r"[ugoa]*(?:[-+=](?:[rwxXst]+|[ugo])?)+")
_ACTION = re.compile(r"([-+=])([rwxXstugo]*)")
_LONGEST = 256
"""Maximum number of characters, more than any meaningful mode."""

_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}
_SPECIAL = {"u": 0o4000, "g": 0o2000}
_UMASK = 0o022
"""Bits that a clause without u, g, o and a does not change: the usual umask of a login."""


def check_mode(mode: str) -> str:
    """Return `mode` if chmod(1) accepts it.

    Raises:
        InvalidRequestError: the mode is neither octal nor symbolic.
    """
    if _OCTAL.fullmatch(mode):
        return mode
    if len(mode) <= _LONGEST and all(_CLAUSE.fullmatch(clause) for clause in mode.split(",")):
        return mode
    raise InvalidRequestError(
        f"chmod: invalid mode: '{printable(mode)}'", hint="Give it in octal, as in 755, or in symbols, as in u+x,go-w."
    )


def apply_mode(mode: str, current: int, *, is_directory: bool) -> int:
    """Return the permission bits of a file with the bits `current` after `chmod mode`.

    Raises:
        InvalidRequestError: the mode is neither octal nor symbolic.
    """
    if _OCTAL.fullmatch(check_mode(mode)):
        return int(mode, 8)
    for clause in mode.split(","):
        who = clause[: len(clause) - len(clause.lstrip("ugoa"))]
        for operator, permissions in _ACTION.findall(clause[len(who) :]):
            current = _apply(who, operator, permissions, current, is_directory=is_directory)
    return current


def _apply(who: str, operator: str, permissions: str, current: int, *, is_directory: bool) -> int:
    classes = set("ugo") if not who or "a" in who else set(who)
    bits = _bits(permissions, current, is_directory=is_directory)
    value = sum(bits << _SHIFTS[each] for each in classes)
    value &= 0o777 if who else 0o777 & ~_UMASK
    if "s" in permissions:
        value |= sum(_SPECIAL.get(each, 0) for each in classes)
    if "t" in permissions and (not who or "a" in who or "o" in who):
        value |= 0o1000
    if operator == "+":
        return current | value
    if operator == "-":
        return current & ~value
    cleared = sum(7 << _SHIFTS[each] for each in classes)
    # As in coreutils, a directory keeps its set-id bits unless the mode names them.
    if not is_directory or "s" in permissions:
        cleared |= sum(_SPECIAL.get(each, 0) for each in classes)
    if not who or "a" in who or "o" in who:
        cleared |= 0o1000
    return current & ~cleared | value


def _bits(permissions: str, current: int, *, is_directory: bool) -> int:
    if permissions in _SHIFTS:  # such as `g=u`
        return current >> _SHIFTS[permissions] & 7
    bits = 0
    for each in permissions:
        bits |= _BITS.get(each, 0)
        if each == "X" and (is_directory or current & 0o111):
            bits |= 1
    return bits
