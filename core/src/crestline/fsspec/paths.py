"""`UPath` for `firecrest://SYSTEM/PATH`."""

from __future__ import annotations

from upath import UPath


class FirecRESTPath(UPath):
    """A path on a system, with the methods of `pathlib`.

    Example::

        UPath("firecrest://daint/scratch/ada", site="cscs") / "results.csv"
    """

    __slots__ = ()
