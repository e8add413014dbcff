"""`firecrest://SYSTEM/PATH` as pandas, pyarrow, Dask and `UPath` use it."""

from __future__ import annotations

import pickle
import posixpath
from pathlib import Path

import fsspec
import pytest
from upath import UPath

from crestline.client import Site, connect_blocking, register_site
from crestline.fsspec import FirecRESTFileSystem
from crestline.model import InvalidRequestError, SystemNotFoundError
from harness.gateway import in_thread
from harness.sites import gateway_site

pytestmark = pytest.mark.usefixtures("fs")
HERE = {"site": "here"}


@pytest.fixture
def url(fs_path: str) -> str:
    return f"firecrest://{fs_path}"


def test_pandas_pyarrow_and_dask_read_and_write(url: str) -> None:
    import dask.dataframe
    import pandas
    import pyarrow.parquet

    table = pandas.DataFrame({"atom": ["H", "O", "H"], "energy": [-0.5, -75.0, -0.5]})
    table.to_csv(f"{url}/table.csv", index=False, storage_options=HERE)
    assert pandas.read_csv(f"{url}/table.csv", storage_options=HERE).equals(table)
    fs, path = fsspec.core.url_to_fs(url, **HERE)
    pyarrow.parquet.write_table(pyarrow.Table.from_pandas(table), f"{path}/table.parquet", filesystem=fs)
    again = pyarrow.parquet.read_table(f"{path}/table.parquet", filesystem=fs, columns=["energy"])
    assert again.to_pydict() == {"energy": [-0.5, -75.0, -0.5]}
    parts = dask.dataframe.from_pandas(table, npartitions=2)
    parts.to_csv(f"{url}/parts/*.csv", index=False, storage_options=HERE)
    whole = dask.dataframe.read_csv(f"{url}/parts/*.csv", storage_options=HERE)
    assert whole["energy"].sum().compute() == -76.0


def test_directories_travel_whole(fs: FirecRESTFileSystem, fs_path: str, tmp_path: Path) -> None:
    for number in range(30):
        file = tmp_path / "tree" / str(number % 3) / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(number))
    fs.put(str(tmp_path / "tree"), f"{fs_path}/new", recursive=True)
    assert len(fs.find(f"{fs_path}/new")) == 30
    fs.put(str(tmp_path / "tree"), fs_path, recursive=True)
    assert sorted(fs.ls(fs_path, detail=False)) == [f"{fs_path}/new", f"{fs_path}/tree"]
    fs.get(f"{fs_path}/tree", str(tmp_path / "back"), recursive=True)
    back = {file.relative_to(tmp_path / "back"): file.read_text() for file in (tmp_path / "back").rglob("*.txt")}
    assert back == {
        file.relative_to(tmp_path / "tree"): file.read_text() for file in (tmp_path / "tree").rglob("*.txt")
    }


def test_a_transaction_sends_all_files_or_none(fs: FirecRESTFileSystem, fs_path: str) -> None:
    def fail_within_a_transaction() -> None:
        with fs.transaction:
            with fs.open(f"{fs_path}/never", "wb") as file:
                file.write(b"x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_within_a_transaction()
    assert fs.ls(fs_path) == []
    with fs.transaction:
        for name in ("a", "b"):
            with fs.open(f"{fs_path}/{name}", "wb") as file:
                file.write(name.encode())
        assert fs.ls(fs_path) == []
    assert fs.cat(fs_path + "/*") == {f"{fs_path}/a": b"a", f"{fs_path}/b": b"b"}


def test_paths_with_the_methods_of_pathlib(url: str) -> None:
    root = UPath(url, **HERE)
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "er" / "note.txt").write_text("ä")
    assert [each.name for each in root.glob("**/*.txt")] == ["note.txt"]
    assert (root / "deep" / "er" / "note.txt").read_text() == "ä"
    assert (root / "deep").parent == root


def test_a_path_can_name_its_site(fs_path: str, site: Site) -> None:
    system, _, rest = fs_path.partition("/")
    with connect_blocking(site, system=system) as open_system:
        open_system.write_text(f"/{rest}/file", "there")
    with fsspec.open(f"firecrest://{system}@here/{rest}/file", "rt") as file:
        assert file.read() == "there"


def test_systems_of_two_sites_may_have_one_name(fs: FirecRESTFileSystem, fs_path: str, tmp_path: Path) -> None:
    system, _, rest = fs_path.partition("/")
    with in_thread(tmp_path / "there", systems={system: {"scheduler": {"type": "local"}}}) as other:
        there = gateway_site(other, system=system)
        register_site(
            "there",
            url=there.url,
            token_url=there.token_url,
            client_id=there.client_id,
            client_secret=there.client_secret,
        )
        with connect_blocking(there) as open_system:
            away = f"{system}@there{open_system.default_workdir()}"
        for way in (fs.cp, fs.mv):
            fs.pipe(f"{system}@here/{rest}/file", b"x")
            way(f"{system}@here/{rest}/file", f"{away}/{way.__name__}")
            assert fs.cat(f"{away}/{way.__name__}") == b"x"
        assert fs.ls(f"{system}@here/{rest}") == []


def test_a_file_system_travels_to_other_processes_without_secrets(
    fs: FirecRESTFileSystem, fs_path: str, site: Site
) -> None:
    fs.pipe(f"{fs_path}/file", b"x")
    stored = pickle.dumps(fs)
    assert str(site.client_secret).encode() not in stored
    assert str(site.client_secret) not in fs.to_json()
    assert pickle.loads(stored).cat(f"{fs_path}/file") == b"x"


def test_what_does_not_exist(fs: FirecRESTFileSystem, fs_path: str) -> None:
    with pytest.raises(FileNotFoundError):
        fs.open(f"{fs_path}/missing")
    with pytest.raises(SystemNotFoundError, match="nosuch"):
        fs.ls("nosuch/tmp")
    with pytest.raises(FileNotFoundError, match="names no system"):
        fs.ls("/")


def test_a_directory_is_not_a_file(fs: FirecRESTFileSystem, fs_path: str, site: Site) -> None:
    fs.pipe(f"{fs_path}/d/file", b"x")
    with pytest.raises(IsADirectoryError):
        fs.pipe(f"{fs_path}/d", b"y")
    with pytest.raises(IsADirectoryError), fs.open(f"{fs_path}/d", "wb") as file:
        file.write(b"y")
    with pytest.raises(IsADirectoryError):
        fs.open(f"{fs_path}/d", "rb")
    system_name, _, there = fs_path.partition("/")
    with connect_blocking(site, system=system_name) as system, pytest.raises(InvalidRequestError, match="directory"):
        system.write_text(f"/{there}/d", "y")
    assert [posixpath.basename(each) for each in fs.ls(f"{fs_path}/d", detail=False)] == ["file"]


def test_a_link_that_leads_nowhere(fs: FirecRESTFileSystem, fs_path: str, site: Site) -> None:
    system_name, _, there = fs_path.partition("/")
    with connect_blocking(site, system=system_name) as system:
        system.symlink(f"/{there}/nowhere", f"/{there}/broken")
    assert (fs.exists(f"{fs_path}/broken"), fs.lexists(f"{fs_path}/broken")) == (False, True)
    assert not fs.lexists(f"{fs_path}/missing")
    assert not fs.lexists(f"{fs_path}/missing/too")
