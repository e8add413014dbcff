"""Files and API keys by the page."""

from __future__ import annotations

import hashlib
import json
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from harness.browser import Browser, picture
from harness.gateway import RunningGateway, in_thread
from harness.gateway_page import sign_in
from harness.s3 import S3Server

if TYPE_CHECKING:
    from playwright.sync_api import Download, Locator, Page, Route

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def with_store(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """Its large files travel by an S3 server."""
    with in_thread(
        tmp_path_factory.mktemp("with-store") / "home", systems={"local": {"s3": s3_server.config}}
    ) as running:
        yield running


@pytest.fixture(scope="module")
def browser(with_store: RunningGateway, gateway: RunningGateway, browser: Browser) -> Browser:
    """After everything that needs an event loop to start."""
    return browser


def entry(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


def upload(page: Page, *files: Path) -> None:
    page.get_by_label("Upload files").set_input_files(list(files))


def download(page: Page, name: str) -> Download:
    with page.expect_download() as found:
        page.get_by_role("button", name=f"Download {name}").click()
    assert found.value.suggested_filename == name
    return found.value


def test_files_come_and_go(page: Page, gateway: RunningGateway, tmp_path: Path) -> None:
    work, mine = tmp_path / "work", tmp_path / "mine"
    work.mkdir()
    mine.mkdir()
    content = random.Random(8).randbytes(20 * MIB + 17)  # several parts
    (mine / "structure ü.cif").write_bytes(content)
    (mine / "empty.txt").touch()
    (work / "sub").mkdir()
    (work / "link").symlink_to("sub")
    sign_in(page, gateway, f"#/files/local{work}")
    entry(page, "sub/").wait_for()

    upload(page, mine / "structure ü.cif", mine / "empty.txt")
    entry(page, "structure ü.cif").get_by_text("20.0 MiB").wait_for()
    entry(page, "empty.txt").wait_for()
    assert (work / "structure ü.cif").read_bytes() == content
    assert (work / "empty.txt").read_bytes() == b""
    assert download(page, "structure ü.cif").path().read_bytes() == content

    page.get_by_role("button", name="New directory").click()
    page.get_by_role("dialog").get_by_label("Name").fill("results")
    page.keyboard.press("Enter")
    entry(page, "results/").wait_for()
    assert (work / "results").is_dir()

    page.get_by_role("button", name="Delete results").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep as it is").click()
    assert (work / "results").is_dir()
    page.get_by_role("button", name="Delete results").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    entry(page, "results/").wait_for(state="detached")
    assert not (work / "results").exists()

    # An existing file is replaced after a confirmation.
    (mine / "empty.txt").write_text("no longer")
    upload(page, mine / "empty.txt")
    page.get_by_role("dialog").get_by_role("button", name="Keep as it is").click()
    assert (work / "empty.txt").read_bytes() == b""
    upload(page, mine / "empty.txt")
    page.get_by_role("dialog").get_by_role("button", name="Replace").click()
    entry(page, "empty.txt").get_by_text("9 B").wait_for()
    picture(page, "gateway-page-files")

    page.get_by_role("link", name="link", exact=True).click()
    page.get_by_text("Nothing is here.").wait_for()
    page.get_by_role("navigation", name="Directory").get_by_role("link", name="work").click()
    page.get_by_role("link", name="empty.txt").click()
    page.locator("pre", has_text="no longer").wait_for()
    with (work / "empty.txt").open("a") as file:
        file.write(" and more")
    page.locator("pre", has_text="no longer and more").wait_for()


def test_files_are_renamed_and_copied_and_directories_fetched(
    page: Page, gateway: RunningGateway, tmp_path: Path
) -> None:
    (tmp_path / "run1").mkdir()
    (tmp_path / "run1" / "in.txt").write_text("input")
    (tmp_path / "taken").touch()

    def relocate(verb: str, name: str, target: str) -> None:
        page.get_by_role("button", name=f"{verb} {name}", exact=True).click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("New name or path").fill(target)
        dialog.get_by_role("button", name=verb).click()

    sign_in(page, gateway, f"#/files/local{tmp_path}")
    relocate("Rename", "taken", "run1")
    page.locator("[role=alert]", has_text="run1 exists.").wait_for()
    relocate("Rename", "taken", "free ü")
    entry(page, "free ü").wait_for()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["free ü", "run1"]
    relocate("Copy", "free ü", f"{tmp_path}/run1/copy")
    page.get_by_role("status").filter(has_text="Copied free ü").wait_for()
    assert (tmp_path / "run1" / "copy").exists()
    relocate("Copy", "run1", "run2")
    entry(page, "run2/").wait_for()
    assert (tmp_path / "run2" / "in.txt").read_text() == "input"
    with page.expect_download() as found:
        page.get_by_role("button", name="Download run2").click()
    assert found.value.suggested_filename == "run2.tar"
    with tarfile.open(found.value.path()) as tar:
        assert {Path(name).name for name in tar.getnames()} >= {"in.txt", "copy"}


def test_files_are_dropped_on_the_page(page: Page, gateway: RunningGateway, tmp_path: Path) -> None:
    sign_in(page, gateway, f"#/files/local{tmp_path}")
    page.get_by_text("Nothing is here. To upload files, drop them on this page.").wait_for()
    dropped = page.evaluate_handle("""() => {
      const found = new DataTransfer();
      for (const name of ['si.cif', 'ge ü.cif']) found.items.add(new File([name], name));
      return found;
    }""")
    view = page.locator(".view.files")
    view.dispatch_event("dragover", {"dataTransfer": dropped})
    assert "dropping" in (view.get_attribute("class") or "")
    view.dispatch_event("drop", {"dataTransfer": dropped})
    assert "dropping" not in (view.get_attribute("class") or "")
    for name in ("si.cif", "ge ü.cif"):
        entry(page, name).wait_for()
        assert (tmp_path / name).read_text() == name
    page.get_by_label("Find by name").fill("zz")
    page.get_by_text("No name contains that.").wait_for()


def test_pictures_and_tables_are_shown(page: Page, gateway: RunningGateway, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    drawing = '<svg xmlns="http://www.w3.org/2000/svg" width="7" height="5"><script>alert(1)</script></svg>'
    (tmp_path / "band structure.svg").write_text(drawing)
    rows = [f'{number},"a ""quoted"" name, {number}"' for number in range(250)]
    (tmp_path / "energies.csv").write_text("\r\n".join(["step,label", *rows]))
    (tmp_path / "empty.tsv").touch()
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    outputs = [
        {"output_type": "stream", "text": ["\x1b[31m<b>one</b>\x1b[0m\n"]},
        {"output_type": "display_data", "data": {"image/png": dot, "text/html": "<script>alert(1)</script>"}},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# <img src=x onerror=alert(1)>"]},
        {"cell_type": "code", "source": ["print(1)"], "outputs": outputs},
    ]
    (tmp_path / "fit.ipynb").write_text(json.dumps({"nbformat": 4, "cells": cells}))
    (tmp_path / "odd.ipynb").write_text("{")
    sign_in(page, gateway, f"#/files/local{tmp_path}")
    page.get_by_role("link", name="fit.ipynb").click()
    code = page.get_by_role("region", name="Cell 2")
    expect(code.locator("pre")).to_have_text(["print(1)", "<b>one</b>\n"])
    expect(code.get_by_role("img", name="Output of cell 2")).to_have_js_property("naturalWidth", 1)
    page.get_by_role("region", name="Cell 1").get_by_text("# <img src=x").wait_for()
    page.get_by_role("link", name="Its directory").click()
    page.get_by_role("link", name="odd.ipynb").click()
    page.locator("pre", has_text="{").wait_for()
    page.get_by_role("link", name="Its directory").click()
    page.get_by_role("link", name="band structure.svg").click()
    shown = page.get_by_role("img", name="band structure.svg")
    expect(shown).to_have_js_property("naturalWidth", 7)
    assert page.get_by_role("region", name="Content").locator("pre").count() == 0
    page.get_by_role("link", name="Its directory").click()
    page.get_by_role("link", name="energies.csv").click()
    table = page.get_by_role("table", name="The first 200 rows")
    expect(table.locator("tbody tr")).to_have_count(200)
    expect(table.get_by_role("columnheader")).to_have_text(["step", "label"])
    expect(table.locator("tbody tr").nth(7).locator("td")).to_have_text(["7", 'a "quoted" name, 7'])
    page.locator("pre", has_text="249,").wait_for()  # the text is there as well
    page.get_by_role("link", name="Its directory").click()
    page.get_by_role("link", name="empty.tsv").click()
    page.get_by_text("Empty.", exact=True).wait_for()


def test_a_small_text_is_edited(page: Page, gateway: RunningGateway, tmp_path: Path) -> None:
    file = tmp_path / "run.sh"
    file.write_bytes("#!/bin/sh\r\necho ü\r\n".encode())
    file.chmod(0o755)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    sign_in(page, gateway, f"#/view/local{tmp_path}/binary")
    page.get_by_role("button", name="Edit").click()
    page.get_by_text("not text in UTF-8").wait_for()
    page.goto(f"{gateway.url}/#/view/local{file}")
    page.get_by_role("heading", name="run.sh").wait_for()
    page.get_by_role("button", name="Edit").click()
    area = page.get_by_label(f"Content of {file}")
    area.fill("#!/bin/sh\necho mine\n")
    file.write_text("#!/bin/sh\necho theirs, and newer\n")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep as it is").click()
    assert "theirs" in file.read_text()
    page.get_by_role("button", name="Save").click()
    page.get_by_role("dialog").get_by_role("button", name="Replace it").click()
    page.get_by_role("region", name="Content").locator("pre", has_text="echo mine").wait_for()
    assert file.read_bytes() == b"#!/bin/sh\r\necho mine\r\n"
    assert file.stat().st_mode & 0o777 == 0o755


def test_a_large_file_comes_by_a_signed_url(page: Page, gateway: RunningGateway, tmp_path: Path) -> None:
    large = tmp_path / "large.h5"
    large.write_bytes(random.Random(9).randbytes(MIB) * 40)
    sign_in(page, gateway, f"#/files/local{tmp_path}")
    found = download(page, "large.h5")
    assert found.url.startswith(f"{gateway.url}/transfers/local/")
    assert httpx.head(found.url).headers["X-Content-Type-Options"] == "nosniff"
    assert hashlib.sha256(found.path().read_bytes()).digest() == hashlib.sha256(large.read_bytes()).digest()


def test_a_large_file_comes_by_an_object_store(
    page: Page, with_store: RunningGateway, s3_server: S3Server, tmp_path: Path
) -> None:
    large = tmp_path / "large one.h5"
    large.write_bytes(random.Random(11).randbytes(MIB) * 33)
    sign_in(page, with_store, f"#/files/local{tmp_path}")
    found = download(page, "large one.h5")
    assert found.url.startswith(s3_server.url)
    assert found.path().read_bytes() == large.read_bytes()
    page.get_by_role("heading", name="Files on local").wait_for()


def test_an_upload_survives_a_lost_connection(page: Page, gateway: RunningGateway, tmp_path: Path) -> None:
    work, mine = tmp_path / "work", tmp_path / "mine.bin"
    work.mkdir()
    content = random.Random(10).randbytes(18 * MIB)
    mine.write_bytes(content)
    cut: list[str] = []

    def cut_second(route: Route) -> None:
        if route.request.headers.get("upload-offset") == str(8 * MIB) and not cut:
            cut.append(route.request.url)
            route.abort("connectionreset")
        else:
            route.continue_()

    sign_in(page, gateway, f"#/files/local{work}")
    page.get_by_text("Nothing is here.").wait_for()
    page.route("**/ops/content*", cut_second)
    upload(page, mine)
    entry(page, "mine.bin").wait_for()
    assert cut
    assert (work / "mine.bin").read_bytes() == content


def test_what_may_not_be_is_said(page: Page, gateway: RunningGateway) -> None:
    sign_in(page, gateway, "#/files/local/nowhere/at/all")
    page.locator("[role=alert]").wait_for()
    page.goto(f"{gateway.url}/#/files/none/tmp")
    page.locator("[role=alert]", has_text="no system none").wait_for()


def test_an_api_key_is_shown_once_serves_and_is_revoked(page: Page, gateway: RunningGateway) -> None:
    sign_in(page, gateway, "#/keys")
    page.get_by_label("Name").fill("nightly <b>")
    page.get_by_label("Days that it lives").fill("2")
    page.get_by_label("write and delete files").uncheck()
    page.get_by_role("button", name="Make the key").click()
    key = page.get_by_label("The key nightly <b>").input_value()
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(f"{gateway.url}/status/systems", headers=headers).status_code == 200
    refused = httpx.delete(f"{gateway.url}/filesystem/local/ops/rm", params={"path": "/tmp/none"}, headers=headers)
    assert refused.status_code == 403
    page.get_by_role("button", name="I have it").click()
    assert key not in page.content()
    page.reload()
    page.get_by_role("button", name="Revoke nightly <b>").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    page.get_by_role("button", name="Revoke nightly <b>").wait_for(state="detached")
    assert httpx.get(f"{gateway.url}/status/systems", headers=headers).status_code == 401
