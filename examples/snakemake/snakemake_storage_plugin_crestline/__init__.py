"""Snakemake's files on a system behind an API: `firecrest://SYSTEM@SITE/PATH`.

On the user's machine they travel over the API. A job finds them at PATH: it links what it reads, moves in what it has
written, needs no credential, and nothing of Crestline.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec
from snakemake_interface_storage_plugins.io import IOCacheStorageInterface, Mtime, get_constant_prefix
from snakemake_interface_storage_plugins.storage_object import (
    StorageObjectGlob,
    StorageObjectRead,
    StorageObjectWrite,
)
from snakemake_interface_storage_plugins.storage_provider import (
    ExampleQuery,
    QueryType,
    StorageProviderBase,
    StorageQueryValidationResult,
)

SCHEME = "firecrest://"
IN_JOB = "CRESTLINE_SNAKEMAKE_JOB"
"""variable that tells a process that it runs on the system that has the files"""


class StorageProvider(StorageProviderBase):
    """The files of all systems, with the credentials of the sites file."""

    def __post_init__(self) -> None:
        self.in_job = IN_JOB in os.environ
        self.fs = fsspec.filesystem("file" if self.in_job else "firecrest")

    @classmethod
    def example_queries(cls) -> list[ExampleQuery]:
        return [ExampleQuery("firecrest://daint@cscs/scratch/ada/in.txt", "a file of a system", QueryType.ANY)]

    @classmethod
    def is_valid_query(cls, query: str) -> StorageQueryValidationResult:
        system, _, path = query.removeprefix(SCHEME).partition("/")
        valid = query.startswith(SCHEME) and bool(system and path)
        return StorageQueryValidationResult(query, valid, None if valid else "write firecrest://SYSTEM@SITE/PATH")

    def rate_limiter_key(self, query: str, operation: Any) -> str:
        return self.path_parts(query)[0]

    def default_max_requests_per_second(self) -> float:
        return 10.0

    def use_rate_limiter(self) -> bool:
        return False  # the client keeps to the limits that the gateway tells

    @staticmethod
    def path_parts(query: str) -> tuple[str, str]:
        """The system of a query, and the path there."""
        system, _, path = query.removeprefix(SCHEME).partition("/")
        return system, "/" + path

    def place(self, query: str) -> str:
        """Where `fs` has it."""
        return self.path_parts(query)[1] if self.in_job else query


class StorageObject(StorageObjectRead, StorageObjectWrite, StorageObjectGlob):
    """A file or a directory."""

    provider: StorageProvider

    @property
    def _place(self) -> str:
        return self.provider.place(self.query)

    def local_suffix(self) -> str:
        return self.query.removeprefix(SCHEME)

    def get_inventory_parent(self) -> str | None:
        return None

    async def inventory(self, cache: IOCacheStorageInterface) -> None:
        key = self.cache_key()
        if key in cache.exists_in_storage:
            return
        info = self._info()  # one request for all three
        cache.exists_in_storage[key] = info is not None
        if info is not None:
            cache.mtime[key] = Mtime(storage=float(info["mtime"]))
            cache.size[key] = info["size"]

    def _info(self) -> dict[str, Any] | None:
        try:
            return dict(self.provider.fs.info(self._place))
        except FileNotFoundError:
            return None

    def cleanup(self) -> None:
        pass

    def exists(self) -> bool:
        return self._info() is not None

    def mtime(self) -> float:
        return float(self.provider.fs.info(self._place)["mtime"])

    def size(self) -> int:
        info = self.provider.fs.info(self._place)
        return 0 if info["type"] == "directory" else int(info["size"])

    def local_footprint(self) -> int:
        return 0 if self.provider.in_job else int(self.provider.fs.du(self._place))

    def retrieve_object(self) -> None:
        target = self.local_path()
        if self.provider.in_job:
            target.symlink_to(self._place)
        else:
            self.provider.fs.get(self._place, str(target), recursive=self.provider.fs.isdir(self._place))

    def store_object(self) -> None:
        source = self.local_path()
        if not self.provider.in_job:
            self.provider.fs.put(str(source), self._place, recursive=source.is_dir())
            return
        target = Path(self._place)
        if target.exists() and target.samefile(source):  # the job has changed what it links
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.environ[IN_JOB]}")
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, partial)
        else:
            shutil.copy2(source, partial)
        partial.replace(target)

    def remove(self) -> None:
        if self.exists():
            self.provider.fs.rm(self._place, recursive=True)

    def list_candidate_matches(self) -> Iterable[str]:
        prefix = get_constant_prefix(self.query, strip_incomplete_parts=True)
        system, _ = self.provider.path_parts(self.query)
        start = self.provider.place(prefix).rstrip("/")
        for path in self.provider.fs.find(start):
            yield f"{SCHEME}{system}{path}" if self.provider.in_job else f"{SCHEME}{path}"
