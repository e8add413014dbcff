"""The gateway's own page in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.gateway import RunningGateway

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


def sign_in(page: Page, gateway: RunningGateway, place: str = "", client: tuple[str, str] | None = None) -> None:
    """Open the page at `place` (`#/jobs/local`) and sign in by a client of the built-in issuer."""
    client_id, secret = client or gateway.client
    page.goto(f"{gateway.url}/{place}")
    page.get_by_label("Client id").fill(client_id)
    page.get_by_label("Client secret").fill(secret)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("button", name="Sign out").wait_for()


def go(page: Page, name: str) -> None:
    """Follow a link of the navigation."""
    page.get_by_role("navigation", name="Main").get_by_role("link", name=name).click()


def submit(page: Page, script: str, **fields: str) -> str:
    """Submit a job by the form, which must be there; returns its id. The page shows the job then."""
    page.get_by_label("Script").fill(script)
    for label, value in fields.items():
        page.get_by_label(label.replace("_", " ").capitalize()).fill(value)
    page.get_by_role("button", name="Submit", exact=True).click()
    heading = page.get_by_role("heading", name="Job ")
    heading.wait_for()
    return heading.inner_text().split()[1]


def state(place: Page | Locator, word: str) -> Locator:
    """Where a job's state says `word`."""
    return place.locator(".state", has_text=word)


def log(page: Page, text: str) -> Locator:
    """Output that has `text` in it."""
    return page.get_by_role("region", name="Output").locator("pre", has_text=text)


def unnamed_controls(page: Page) -> list[str]:
    """Controls of the browser's accessibility tree that have no name."""
    session = page.context.new_cdp_session(page)
    nodes: list[dict[str, Any]] = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    wanted = {
        "button",
        "link",
        "textbox",
        "searchbox",
        "combobox",
        "checkbox",
        "spinbutton",
        "table",
        "image",
        "progressbar",
    }
    shown = [node for node in nodes if not node["ignored"] and node.get("role", {}).get("value") in wanted]
    assert len(shown) > 3
    return [str(node) for node in shown if not node.get("name", {}).get("value", "").strip()]


def faint_texts(page: Page) -> list[str]:
    """Visible texts whose contrast with what is behind them is below WCAG 2's 4.5."""
    found: list[str] = page.evaluate(_FAINT)
    return found


def structure_faults(page: Page) -> list[str]:
    """What a screen reader would stumble over: landmarks, headings, ids, heads of tables."""
    found: list[str] = page.evaluate(_FAULTS)
    return found


_FAINT = """() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return { r, g, b, a }; };
  const mix = (top, under) => Object.fromEntries([..."rgb"].map((c) => [c, top[c] * top.a + under[c] * (1 - top.a)]));
  const light = ({ r, g, b }) => { const [x, y, z] = [r, g, b].map((v) => {
    const share = v / 255; return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
  const behind = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      layers.push(parse(getComputedStyle(each).backgroundColor));
    }
    return layers.reverse().reduce((under, top) => ({ ...mix(top, under), a: 1 }), { r: 255, g: 255, b: 255, a: 1 });
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = [];
  let texts = 0;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility()) continue;
    if (element.closest('.unseen, #skip, noscript, option, title')) continue;
    texts += 1;
    const style = getComputedStyle(element);
    const ground = behind(element);
    const colour = mix(parse(element.closest('svg') ? style.fill : style.color), ground);
    const [high, low] = [light(colour), light(ground)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) faint.push(`${node.data.trim()} ${style.color} ${ratio.toFixed(2)}`);
  }
  if (texts < 5) faint.push(`only ${texts} texts were seen`);
  return faint;
}"""

_FAULTS = """() => {
  const faults = [];
  const count = (selector, wanted) => { const found = document.querySelectorAll(selector).length;
    if (found !== wanted) faults.push(`${found} of ${selector}`); };
  count('main', 1); count('h1', 1); count('body > header', 1); count('body > footer', 1); count('[role=status]', 1);
  if (!document.documentElement.lang) faults.push('no language');
  if (!document.title.includes(' · ')) faults.push(`title ${document.title}`);
  const ids = [...document.querySelectorAll('[id]')].map((each) => each.id);
  ids.filter((id, at) => ids.indexOf(id) !== at).forEach((id) => faults.push(`id ${id} twice`));
  document.querySelectorAll('table').forEach((each) => {
    if (!each.caption) faults.push('a table without a caption');
    if ([...each.tHead.rows[0].cells].some((cell) => cell.scope !== 'col')) faults.push('a column without a head');
  });
  document.querySelectorAll('nav').forEach((each) => { if (!each.ariaLabel) faults.push('a nav without a name'); });
  document.querySelectorAll('[tabindex]').forEach((each) => { if (each.tabIndex > 0) faults.push('an own order'); });
  const width = document.documentElement.scrollWidth;
  if (width > innerWidth) faults.push(`${width} pixels wide`);
  return faults;
}"""
