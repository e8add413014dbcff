"""Jobs by the page: submitted, watched, followed, cancelled."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.browser import Browser, picture
from harness.gateway import RunningGateway, in_thread
from harness.gateway_page import go, log, sign_in, state, submit

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


def assert_rows(table: Locator, count: int) -> None:
    """Besides the heads."""
    from playwright.sync_api import expect

    expect(table.get_by_role("row")).to_have_count(count + 1)


@pytest.fixture(scope="module")
def two_systems(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One has one node for one job at a time."""
    folder = tmp_path_factory.mktemp("two")
    small = {
        "type": "local",
        "nodes": [{"names": ["n1"], "cpus": 1, "memory": 2000}],
        "partitions": [{"name": "normal"}, {"name": "debug"}],
    }
    trees = [{"path": str(folder), "default_work_dir": True}]
    announced = {"message": "The file system is replaced.", "start": datetime(2100, 1, 31, 18, tzinfo=UTC)}
    over = {"message": "That was it.", "end": datetime(2020, 1, 1, tzinfo=UTC)}
    systems = {
        "daint": {"scheduler": small, "file_systems": trees, "maintenance": over},
        "eiger": {"file_systems": trees, "maintenance": announced},
    }
    with in_thread(folder / "home", systems=systems) as running:
        yield running


@pytest.fixture(scope="module")
def browser(two_systems: RunningGateway, gateway: RunningGateway, browser: Browser) -> Browser:
    """After everything that needs an event loop to start."""
    return browser


def test_a_job_is_watched_and_its_output_followed(page: Page, gateway: RunningGateway, tmp_path: Path) -> None:
    sign_in(page, gateway)
    with page.context.new_page() as other:
        sign_in(other, gateway, "#/jobs/local")
        go(page, "Submit")
        page.evaluate("window.marker = 'the same document'")
        go_on = tmp_path / "go-on"
        wait = f"while ! [ -e {go_on} ]; do sleep 0.05; done"
        script = f"#!/bin/bash\nprintf 'first \\xc3'\n{wait}\nprintf '\\xbc last'\necho trouble >&2\n"
        job = submit(page, script, name="live", time_limit="00:05:00", nodes="1")
        state(page, "RUNNING").wait_for()
        log(page, "first").wait_for()
        row = other.get_by_role("row").filter(has=other.get_by_role("link", name=job, exact=True))
        state(row, "RUNNING").wait_for()
        assert not log(page, "last").is_visible()

        go_on.touch()
        state(page, "COMPLETED").wait_for()
        log(page, "first ü last").wait_for()  # a character that came in two halves
        state(row, "COMPLETED").wait_for()
        assert page.evaluate("window.marker") == "the same document"
        assert row.get_by_role("button").count() == 0
    with gateway.http() as http:
        (told,) = http.get(f"/compute/local/jobs/{job}").json()["jobs"]
    assert (told["name"], told["time"]["limit"]) == ("live", 300)
    assert page.url == f"{gateway.url}/#/jobs/local/{job}"
    # By its link alone, as another program would know it.
    page.goto("about:blank")
    page.goto(f"{gateway.url}/#/jobs/local/{job}")
    log(page, "trouble").wait_for()


NOTIFIED = """
window.Notification = class extends EventTarget {
  static permission = 'granted';
  static requestPermission = async () => 'granted';
  constructor(title, options) {
    super();
    window.last = this;
    document.getElementById('version').append(` [${title} ${options.tag}]`);
  }
};
Object.defineProperty(document, 'hidden', { get: () => Boolean(window.isHidden) });
"""


def test_the_end_of_a_job_is_notified_also_to_a_hidden_tab(page: Page, gateway: RunningGateway, tmp_path: Path) -> None:
    page.add_init_script(NOTIFIED)
    sign_in(page, gateway, "#/submit/local")
    go_on = tmp_path / "go-on"
    job = submit(page, f"#!/bin/bash\n#SBATCH --mem=1G\nwhile ! [ -e {go_on} ]; do sleep 0.05; done\n", name="long")
    state(page, "RUNNING").wait_for()
    go(page, "Jobs")
    page.get_by_label("Notify me when a job ends").check()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=job, exact=True))
    state(row, "RUNNING").wait_for()
    page.evaluate("window.isHidden = true; document.dispatchEvent(new Event('visibilitychange'))")
    go_on.touch()
    page.locator("#version").get_by_text(f" [long: COMPLETED #/jobs/local/{job}]").wait_for()
    page.evaluate("window.isHidden = false; window.last.dispatchEvent(new Event('click'))")
    page.get_by_text("1.0 GiB (").wait_for()  # what it has used, on its own page
    assert page.get_by_label("Notify me when a job ends").is_checked()
    page.get_by_label("Notify me when a job ends").uncheck()
    assert page.evaluate("localStorage.getItem('crestline-notify')") == "no"


def test_cancel_asks_for_confirmation(page: Page, gateway: RunningGateway) -> None:
    sign_in(page, gateway, "#/submit/local")
    job = submit(page, "#!/bin/bash\nsleep 600\n", name="long")
    state(page, "RUNNING").wait_for()
    page.get_by_role("button", name=f"Cancel job {job}").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep as it is").click()
    assert page.get_by_role("dialog").count() == 0
    go(page, "Jobs")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=job, exact=True))
    state(row, "RUNNING").wait_for()
    row.get_by_role("button", name=f"Cancel job {job}").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    state(row, "CANCELLED").wait_for()
    page.get_by_role("status").filter(has_text="CANCELLED").wait_for()


def test_queue_and_run_are_a_picture_and_systems_are_chosen(page: Page, two_systems: RunningGateway) -> None:
    sign_in(page, two_systems, "#/submit/daint")
    page.get_by_label("Partition").locator("option", has_text="debug").wait_for(state="attached")
    names = ["relax-si", "scf-si", "bands-si", "scf-ge", "bands-ge"]
    with two_systems.http() as http:
        for name in names:
            script = f"#!/bin/bash\nsleep 1.5\n[ {name} != scf-ge ]\n"
            job = {"workingDirectory": str(two_systems.home.parent), "script": script, "name": name}
            http.post("/compute/daint/jobs", json={"job": job}).raise_for_status()
    go(page, "Jobs")
    table = page.get_by_role("table", name="Jobs on daint")
    state(table, "RUNNING").first.wait_for()
    timeline = page.get_by_role("img", name="When the 5 latest jobs waited and ran")
    assert timeline.locator("rect.waiting").count() == 5
    timeline.locator("rect.completed").nth(1).wait_for()
    picture(page, "gateway-page-jobs")
    state(table, "FAILED").wait_for()
    timeline.locator("rect.completed").nth(3).wait_for()
    assert timeline.locator("rect.failed").count() == 1
    assert timeline.locator("rect.running").count() == 0

    page.get_by_label("State").select_option("Failed")
    table.get_by_role("row", name="scf-ge").wait_for()
    assert_rows(table, 1)
    page.get_by_label("State").select_option("All")
    page.get_by_label("Find by id or name").fill("-si")
    assert_rows(table, 3)
    page.get_by_role("combobox", name="System").select_option("eiger")
    page.get_by_text("No jobs yet.").wait_for()
    assert page.url.endswith("#/jobs/eiger")
    assert page.get_by_role("link", name="Submit one").get_attribute("href") == "#/submit/eiger"
    assert page.get_by_label("Choose all jobs shown").is_disabled()
    page.get_by_role("combobox", name="System").focus()
    page.keyboard.press("ArrowUp")
    page.get_by_role("heading", name="Jobs on daint").wait_for()
    assert page.evaluate("() => document.activeElement.ariaLabel") == "System"


def test_the_list_is_sorted_folded_and_filtered_by_its_address(page: Page, two_systems: RunningGateway) -> None:
    """And what was chosen is cancelled at once: an array as a whole, and a job."""
    from playwright.sync_api import expect

    ids = []
    with two_systems.http() as http:
        # `hold` waits behind `array`, whose first task has the only place of the system.
        for name, header in (("zz-array", "#SBATCH --array=1-3"), ("zz-hold", "")):
            job = {"workingDirectory": str(two_systems.home.parent), "script": f"#!/bin/bash\n{header}\nsleep 600\n"}
            answer = http.post("/compute/daint/jobs", json={"job": job | {"name": name}}).raise_for_status()
            ids.append(answer.json()["jobId"])
    array, hold = ids
    sign_in(page, two_systems, "#/jobs/daint?find=zz-&sort=name")
    table = page.get_by_role("table", name="Jobs on daint")
    assert_rows(table, 2)
    assert page.get_by_label("Find by id or name").input_value() == "zz-"
    folded = table.get_by_role("row", name="zz-array")
    folded.get_by_text("▶ 1 running").wait_for()
    folded.get_by_text("… 2 pending").wait_for()
    names = table.locator("tbody td.name")
    expect(names).to_have_text(["zz-array", "zz-hold"])
    table.get_by_role("button", name="Name").click()
    expect(names).to_have_text(["zz-hold", "zz-array"])
    assert page.url.endswith("#/jobs/daint?find=zz-&sort=-name")
    assert table.get_by_role("columnheader", name="Name").get_attribute("aria-sort") == "descending"

    table.get_by_role("button", name=f"Show the 3 tasks of {array}").click()
    assert_rows(table, 4)
    table.get_by_role("button", name=f"Fold the tasks of {array}").click()
    assert_rows(table, 2)
    page.get_by_label("State").select_option("Running")
    assert_rows(table, 1)
    table.get_by_role("link", name=f"{array}_1").click()
    page.get_by_role("heading", name=f"Job {array}_1 on daint").wait_for()
    page.go_back()
    assert_rows(table, 1)  # as it was left
    page.get_by_label("State").select_option("All")
    assert_rows(table, 2)

    table.get_by_label(f"Choose job {array}", exact=True).check()
    table.get_by_label(f"Choose job {hold}").check()
    with page.expect_request(lambda request: request.method == "DELETE" and request.url.endswith(f"/jobs/{array}")):
        page.get_by_role("button", name="Cancel 2 chosen").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel the jobs").click()
    folded.get_by_text("⊘ 3 cancelled").wait_for()
    state(table.get_by_role("row", name="zz-hold"), "CANCELLED").wait_for()
    assert page.get_by_role("button", name="chosen").count() == 0


def test_nodes_and_maintenances_are_shown(page: Page, two_systems: RunningGateway) -> None:
    sign_in(page, two_systems)
    card = page.get_by_role("region", name="daint")
    card.get_by_text("Nodes: 1 ").click()
    row = card.get_by_role("table", name="Nodes of daint").get_by_role("row", name="n1")
    row.get_by_text("of 1", exact=False).wait_for()
    row.get_by_text("normal debug").wait_for()
    notices = page.locator(".notice")
    notices.get_by_text("The file system is replaced.").wait_for()
    assert notices.count() == 1
    assert notices.inner_text().startswith("Maintenance of eiger from Jan 31")
    page.goto(f"{two_systems.url}/#/jobs/eiger")
    notices.get_by_text("The file system is replaced.").wait_for()


def test_all_resources_are_in_the_form(page: Page, two_systems: RunningGateway) -> None:
    with two_systems.http() as http:
        job = {"workingDirectory": str(two_systems.home.parent), "script": "#!/bin/bash\nsleep 600\n", "name": "first"}
        first = http.post("/compute/eiger/jobs", json={"job": job}).raise_for_status().json()["jobId"]
        sign_in(page, two_systems, "#/submit/eiger")
        page.get_by_text("More resources").click()
        resources = {"Array": "1-2", "Dependency": f"afterok:{first}", "CPUs per task": "1"}
        for label, value in resources.items():
            page.get_by_label(label, exact=True).fill(value)
        page.get_by_label("Memory per node", exact=True).fill("1 G")  # no option of its own may come in
        page.get_by_role("button", name="Submit", exact=True).click()
        assert page.get_by_label("Memory per node").evaluate("(input) => input.validity.patternMismatch")
        page.get_by_label("Memory per node", exact=True).fill("")
        folder = str(two_systems.home.parent)
        job_id = submit(page, "#!/bin/bash\ntrue\n", name="second", working_directory=folder)
        script = http.get(f"/compute/eiger/jobs/{job_id}/metadata").json()["jobs"][0]["script"]
        assert script.splitlines()[1:4] == [
            "#SBATCH --cpus-per-task=1",
            "#SBATCH --array=1-2",
            f"#SBATCH --dependency=afterok:{first}",
        ]
        for each in (first, job_id):
            http.delete(f"/compute/eiger/jobs/{each}").raise_for_status()


def test_templates_of_ones_own(page: Page, two_systems: RunningGateway) -> None:
    sign_in(page, two_systems, "#/submit/daint")
    page.get_by_label("Partition").locator("option", has_text="debug").wait_for(state="attached")
    page.get_by_label("Script").fill("#!/bin/bash\necho <mine>\n")
    page.get_by_label("Partition").select_option("debug")
    page.get_by_label("Time limit").fill("00:07:00")
    page.get_by_role("button", name="Save as a template").click()
    page.get_by_role("dialog").get_by_label("Name").fill("<b>mine</b>")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    page.reload()
    page.get_by_label("Partition").locator("option", has_text="debug").wait_for(state="attached")
    assert page.get_by_label("Time limit").input_value() == ""
    page.get_by_label("Template").select_option("<b>mine</b>")
    assert page.get_by_label("Script").input_value() == "#!/bin/bash\necho <mine>\n"
    assert page.get_by_label("Partition").input_value() == "debug"
    assert page.get_by_label("Time limit").input_value() == "00:07:00"
    page.get_by_role("button", name="Delete the template").click()
    assert page.get_by_label("Template").locator("option").all_inner_texts() == ["No templates yet"]


def test_output_is_searched_downloaded_and_found_in_its_folder(
    page: Page, gateway: RunningGateway, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    sign_in(page, gateway, "#/submit/local")
    script = "#!/bin/bash\nfor n in {1..40}; do echo step $n; done\necho 'ERROR: (1+1) diverged'\necho error again\n"
    job = submit(page, script, working_directory=str(tmp_path))
    log(page, "error again").wait_for()
    pane = page.get_by_role("region", name="Output")
    find = pane.get_by_label("Find in Output")
    find.fill("error")
    expect(pane.get_by_text("1 of 2", exact=True)).to_be_visible()
    find.press("Enter")
    expect(pane.get_by_text("2 of 2", exact=True)).to_be_visible()
    marked = "(name) => [...CSS.highlights.get(name)].map(String)"
    assert page.evaluate(marked, "found") == ["ERROR", "error"]
    assert page.evaluate(marked, "current") == ["error"]
    find.fill("(1+1)")  # text, not a pattern
    expect(pane.get_by_text("1 of 1", exact=True)).to_be_visible()
    find.fill("nowhere")
    expect(pane.get_by_text("0 of 0", exact=True)).to_be_visible()
    name = f"slurm-{job}.out"
    with page.expect_download() as found:
        pane.get_by_role("button", name=f"Download {name}").click()
    assert found.value.path().read_text().endswith("error again\n")
    pane.get_by_role("link", name=name).click()
    page.get_by_role("table", name=f"Files in {tmp_path}").get_by_role("link", name=name).wait_for()


def test_names_and_texts_stay_text(page: Page, gateway: RunningGateway, tmp_path: Path) -> None:
    (tmp_path / HOSTILE.replace("/", "")).write_text(HOSTILE)
    sign_in(page, gateway, "#/submit/local")
    script = f"#!/bin/bash\ncat <<'END'\n{HOSTILE}<script>document.title='owned'</script>\nEND\n"
    job = submit(page, script, name=HOSTILE, working_directory=str(tmp_path))
    log(page, HOSTILE).wait_for()
    page.get_by_role("main").get_by_text(HOSTILE, exact=True).first.wait_for()
    go(page, "Jobs")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=job, exact=True))
    row.get_by_text(HOSTILE).wait_for()
    page.locator(".timeline", has_text="<img src=x").wait_for()
    row.get_by_role("link", name=job).click()
    page.get_by_role("link", name="Working directory").click()
    page.get_by_role("link", name=HOSTILE).click()
    page.get_by_role("region", name="Content").locator("pre", has_text=HOSTILE).wait_for()
    page.goto(f"{gateway.url}/#/jobs/local/{HOSTILE}")
    page.locator("[role=alert]").wait_for()
    assert page.locator("main img, main script").count() == 0
    assert "owned" not in page.title()


def test_arrays_and_what_cannot_be_submitted(page: Page, gateway: RunningGateway, tmp_path: Path) -> None:
    sign_in(page, gateway, "#/submit/local")
    page.get_by_label("Script").fill("echo no interpreter")
    page.get_by_role("button", name="Submit", exact=True).click()
    page.locator("[role=alert]", has_text="#!").wait_for()
    page.get_by_label("Working directory").fill("/nowhere")
    page.get_by_label("Script").fill("#!/bin/bash\n")
    page.get_by_role("button", name="Submit", exact=True).click()
    page.locator("[role=alert]", has_text="/nowhere").wait_for()

    job = submit(
        page, "#!/bin/bash\n#SBATCH --array=1-2\necho element $SLURM_ARRAY_TASK_ID\n", working_directory=str(tmp_path)
    )
    state(page, "COMPLETED").nth(1).wait_for()
    page.locator("summary", has_text=f"{job}_2").click()
    log(page, "element 2").wait_for()
    log(page, "element 1").wait_for()
    # The same again, without typing.
    page.get_by_role("link", name="Submit again").first.click()
    page.wait_for_function("() => document.querySelector('textarea')?.value.includes('--array=1-2')")
    assert page.get_by_label("Working directory").input_value() == str(tmp_path)


def test_where_streams_are_held_back_polls_do(page: Page, gateway: RunningGateway) -> None:
    held: list[Route] = []
    page.route("**/jobs/events*", lambda route: held.append(route))
    page.clock.install()
    sign_in(page, gateway, "#/jobs/local")
    page.get_by_text("Connecting").wait_for()
    with page.expect_response(lambda answer: answer.url.endswith("/jobs?wait=0")):
        page.clock.run_for(11_000)
    page.get_by_text("Live, by polling").wait_for()
    with gateway.http() as http:
        job = {"workingDirectory": "/tmp", "script": "#!/bin/bash\n", "name": "polled", "standardOutput": "/dev/null"}
        http.post("/compute/local/jobs", json={"job": job}).raise_for_status()
    row = page.get_by_role("row", name="polled")
    page.clock.resume()
    state(row, "COMPLETED").wait_for()
    assert held


def test_all_jobs_that_a_filter_shows_are_cancelled_at_once(page: Page, two_systems: RunningGateway) -> None:
    sign_in(page, two_systems, "#/jobs/eiger")
    with two_systems.http() as http:
        for name in ("sweep-1", "sweep-2", "not-swept"):
            job = {"workingDirectory": str(two_systems.home.parent), "script": "#!/bin/sh\nsleep 600\n", "name": name}
            http.post("/compute/eiger/jobs", json={"job": job}).raise_for_status()
    table = page.get_by_role("table", name="Jobs on eiger")
    table.get_by_role("row", name="sweep-2").wait_for()
    search = page.get_by_label("Find by id or name")
    search.fill("no such job")
    page.get_by_role("button", name="Show all").click()
    table.get_by_role("row", name="not-swept").wait_for()
    search.fill("sweep")
    assert_rows(table, 2)
    everything = page.get_by_label("Choose all jobs shown")
    table.get_by_role("checkbox", name="Choose job").first.check()
    assert everything.evaluate("each => each.indeterminate")
    everything.check()
    page.get_by_role("button", name="Cancel 2 chosen").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the jobs").click()
    state(table, "CANCELLED").nth(1).wait_for()
    search.fill("not-swept")
    assert_rows(table, 1)
    row = table.get_by_role("row", name="not-swept")
    assert state(row, "CANCELLED").count() == 0
    row.get_by_role("checkbox").check()
    assert everything.is_checked()
    page.get_by_role("button", name="Cancel 1 chosen").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the jobs").click()
    state(row, "CANCELLED").wait_for()
