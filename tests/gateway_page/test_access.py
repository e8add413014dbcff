"""The page for those who use a keyboard, a screen reader, a small or a dark screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.browser import Browser, picture
from harness.gateway import RunningGateway
from harness.gateway_page import faint_texts, log, sign_in, state, structure_faults, submit, unnamed_controls

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

_NAME = """() => { const it = document.activeElement;
  return it.ariaLabel ?? it.labels?.[0]?.textContent.trim() ?? it.textContent.trim(); }"""


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the control called `name` has the focus, which must be seen."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(_NAME) == name:
            outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineWidth")
            assert outline == "3px", name
            return
    pytest.fail(f"{name} cannot be reached by Tab")


def test_all_by_keyboard(page: Page, gateway: RunningGateway) -> None:
    client_id, secret = gateway.client
    page.goto(gateway.url)
    page.get_by_role("heading", name="With a client").wait_for()
    tab_to(page, "Client id")
    page.keyboard.type(client_id)
    tab_to(page, "Client secret")
    page.keyboard.type(secret)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Systems").wait_for()
    page.wait_for_function("() => document.activeElement.tagName === 'H1'")

    page.keyboard.press("Shift+Tab")  # back from the heading: the header's last control
    assert page.evaluate(_NAME) == "Sign out"
    page.evaluate("() => document.activeElement.blur()")
    tab_to(page, "Submit")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Submit to local").wait_for()
    page.wait_for_function("() => document.activeElement.tagName === 'H1'")
    tab_to(page, "Script")
    page.keyboard.press("Control+A")
    page.keyboard.insert_text("#!/bin/bash\necho by keyboard\nsleep 600\n")
    tab_to(page, "Name")
    page.keyboard.type("keys")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Job ").wait_for()
    job = page.get_by_role("heading", name="Job ").inner_text().split()[1]
    log(page, "by keyboard").wait_for()

    tab_to(page, f"Cancel job {job}")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=f"Cancel job {job}?")
    dialog.wait_for()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")  # gone, not only hidden: a closing one keeps its button busy
    assert page.evaluate(_NAME) == f"Cancel job {job}"  # the focus comes back
    page.keyboard.press("Enter")
    dialog.wait_for()
    assert page.evaluate(_NAME) == "Keep as it is"  # what is safe comes first
    tab_to(page, "Cancel the job")
    page.keyboard.press("Enter")
    state(page, "CANCELLED").wait_for()


def test_the_way_past_the_header(page: Page, gateway: RunningGateway) -> None:
    sign_in(page, gateway)
    page.get_by_role("heading", name="Systems").wait_for()
    assert page.get_by_label("System", exact=True).get_attribute("title") == "Served by FirecREST v2, IRI v1, IRI v2"
    apis = page.get_by_role("listitem").filter(has=page.locator("code"))
    bases = [gateway.url, *(f"{gateway.url}/iri/api/v{version}" for version in (1, 2))]
    assert [each.locator("code").inner_text() for each in apis.all()] == bases
    page.reload()
    page.get_by_role("table").wait_for()
    page.evaluate("() => document.activeElement.blur()")
    tab_to(page, "Skip to the content")
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "main"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_can_be_read(browser: Browser, gateway: RunningGateway, tmp_path: Path, scheme: str) -> None:
    (tmp_path / "relax.in").write_text("&control\n")
    (tmp_path / "potentials").mkdir()
    with browser.page(color_scheme=scheme) as page:
        page.goto(gateway.url)
        page.get_by_role("heading", name="With a client").wait_for()
        assert_accessible(page)
        sign_in(page, gateway)
        page.get_by_role("table").wait_for()
        assert_accessible(page)
        page.goto(f"{gateway.url}/#/submit/local")
        page.get_by_label("Partition").locator("option").nth(1).wait_for(state="attached")
        assert_accessible(page)
        job = submit(page, "#!/bin/bash\necho relax\nfor n in 1 2 3; do echo step $n; done\n", name="relax-si")
        state(page, "COMPLETED").wait_for()
        log(page, "step 3").wait_for()
        assert_accessible(page)
        picture(page, f"gateway-page-job-{scheme}")
        failed = submit_failing(page, gateway)
        page.goto(f"{gateway.url}/#/jobs/local")
        page.get_by_role("link", name=job, exact=True).wait_for()
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name=failed, exact=True))
        row.locator(".state.failed").wait_for()
        assert_accessible(page)
        page.goto(f"{gateway.url}/#/files/local{tmp_path}")
        page.get_by_role("link", name="relax.in").wait_for()
        assert_accessible(page)
        page.get_by_role("button", name="Delete relax.in").click()
        page.get_by_role("dialog").wait_for()
        assert faint_texts(page) == []
        page.keyboard.press("Escape")
        page.goto(f"{gateway.url}/#/keys")
        page.get_by_text("You have none.").or_(page.get_by_role("button", name="Revoke")).first.wait_for()
        assert_accessible(page)
        page.goto(f"{gateway.url}/#/files/local/nowhere")
        page.locator("[role=alert]").wait_for()
        assert_accessible(page)


def test_a_phone_shows_long_names_whole(page: Page, gateway: RunningGateway, tmp_path: Path) -> None:
    long = "relaxation-of-a-defect_" + "x" * 100
    directory = tmp_path / long / "a" / "b"
    directory.mkdir(parents=True)
    (directory / f"{long}.in").write_text("&control\n")
    page.set_viewport_size({"width": 360, "height": 740})
    page.route("**/status/systems", add_systems)
    page.route("**/partitions", lengthen_partitions)
    page.goto(gateway.url)
    page.get_by_role("heading", name="With a client").wait_for()
    assert structure_faults(page) == []
    sign_in(page, gateway)
    page.goto(f"{gateway.url}/#/submit/local")
    page.get_by_label("Partition").locator("option").nth(1).wait_for(state="attached")
    assert structure_faults(page) == []
    job = submit(page, f"#!/bin/bash\necho {'y' * 500}\n", name=long, working_directory=str(directory))
    state(page, "COMPLETED").wait_for()
    log(page, "yyy").wait_for()
    page.get_by_text("Script", exact=True).click()
    assert structure_faults(page) == []
    for place, shown in {
        "": "table",
        "jobs/local": f"td:text('{long}')",
        f"files/local{directory}": "table a",
        f"view/local{directory}/{long}.in": "pre:text('&control')",
        "keys": "form",
        f"jobs/local/{long}": "[role=alert]",
        f"files/local/{long}": "[role=alert]",
        f"files/{long}": "[role=alert]",
    }.items():
        page.goto(f"{gateway.url}/#/{place}")
        page.get_by_role("heading", level=1).wait_for()
        page.locator("main").locator(shown).first.wait_for()
        assert structure_faults(page) == [], place
        picture(page, f"phone-{place[:8].replace('/', '-')}")
        for name in page.locator("td.name, th.name").all():
            assert name.evaluate("each => each.clientWidth") >= 160, place  # not one letter in each line
    page.goto(f"{gateway.url}/#/files/local{directory}")
    page.get_by_role("button", name=f"Delete {long}").click()
    page.get_by_role("dialog").wait_for()
    assert page.get_by_role("dialog").evaluate(
        "each => each.scrollWidth <= innerWidth && each.getBoundingClientRect().left >= 0"
    )
    assert structure_faults(page) == []
    page.keyboard.press("Escape")
    page.goto(f"{gateway.url}/#/jobs/local/{job}")
    page.get_by_role("heading", name=f"Job {job}").wait_for()


def add_systems(route: Route) -> None:
    """Let the gateway have another system, of a long name and with a long file system."""
    answer = route.fetch()
    found = answer.json()
    (first, *_) = found["systems"]
    tree = {**first["fileSystems"][0], "path": "/" + "capstor-store" * 10}
    first["fileSystems"].append(tree)
    found["systems"].append({**first, "name": "a-system-that-" * 8})
    route.fulfill(response=answer, json=found)


def lengthen_partitions(route: Route) -> None:
    answer = route.fetch()
    found = answer.json()
    for each in found.get("partitions", []):
        each["name"] += "-with-a-long-name" * 6
    route.fulfill(response=answer, json=found)


@pytest.mark.parametrize(
    ("place", "heading", "message"),
    [
        ("jobs/local/999999", "Job not found", "has no job 999999"),
        ("jobs/nowhere", "System not found", "no system nowhere"),
        ("nonsense", "Page not found", "names no page"),
    ],
)
def test_what_is_missing_has_a_heading_and_a_way_back(
    page: Page, gateway: RunningGateway, place: str, heading: str, message: str
) -> None:
    sign_in(page, gateway)
    page.goto(f"{gateway.url}/#/{place}")
    page.locator("[role=alert]", has_text=message).wait_for()
    page.get_by_role("heading", name=heading, level=1).wait_for()
    page.wait_for_function("() => document.activeElement.tagName === 'H1'")
    assert_accessible(page)
    page.locator("main").get_by_role("link", name="Jobs on local").click()
    page.get_by_role("heading", name="Jobs on local").wait_for()
    page.go_back()
    page.locator("main").get_by_role("link", name="Systems").click()
    page.get_by_role("heading", name="Systems").wait_for()


def test_what_could_not_be_loaded_can_be_tried_again(page: Page, gateway: RunningGateway) -> None:
    sign_in(page, gateway)
    page.route("**/compute/local/jobs/999999", lambda route: route.abort())
    page.goto(f"{gateway.url}/#/jobs/local/999999")
    page.get_by_role("heading", name="This page could not be loaded").wait_for()
    assert_accessible(page)
    page.unroute("**/compute/local/jobs/999999")
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("heading", name="Job not found").wait_for()


def submit_failing(page: Page, gateway: RunningGateway) -> str:
    page.goto(f"{gateway.url}/#/submit/local")
    return submit(page, "#!/bin/bash\nexit 3\n", name="scf-fails")


def assert_accessible(page: Page) -> None:
    assert unnamed_controls(page) == []
    assert faint_texts(page) == []
    assert structure_faults(page) == []
