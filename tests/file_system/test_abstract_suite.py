"""fsspec's own tests for file systems."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

import pytest
from fsspec.tests import abstract

from crestline.fsspec import FirecRESTFileSystem


@pytest.mark.parametrize("site", ["local", pytest.param("plain", marks=pytest.mark.soak)], indirect=True)
class _Ours(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, fs: FirecRESTFileSystem) -> FirecRESTFileSystem:
        return fs

    @pytest.fixture
    def fs_path(self, fs_path: str) -> str:
        return fs_path

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return posixpath.join


class TestCopy(_Ours, abstract.AbstractCopyTests):
    pass


class TestGet(_Ours, abstract.AbstractGetTests):
    pass


class TestPut(_Ours, abstract.AbstractPutTests):
    pass


class TestOpen(_Ours, abstract.AbstractOpenTests):
    pass


class TestPipe(_Ours, abstract.AbstractPipeTests):
    pass
