"""Options from any user: what is not offered cannot be had, in the rendering and through the REST API of a real hub."""

from __future__ import annotations

import runpy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets.config import Config

from crestline_jupyterhub.failures import SpawnFailedError
from crestline_jupyterhub.options.live_choices import LiveChoices
from crestline_jupyterhub.options.profiles import is_safe, read_profiles
from crestline_jupyterhub.options.validation import choose, from_form
from harness.example_hub import EXAMPLES
from harness.hub import Hub

EVIL: list[Any] = [
    "1\n#SBATCH --uid=0",
    "debug\r\n#SBATCH --uid=0",
    "debug\u2028#SBATCH --uid=0",
    "debug\x85touch /tmp/x",
    "debug\x0b#SBATCH -A root",
    "debug\x00",
    "$(touch /tmp/x)",
    "`id`",
    "debug; id",
    "debug' 'id",
    'debug" --uid=0 "',
    "debug --uid=0",
    "{{ cycler.__init__.__globals__ }}",
    "{cmd.__class__}",
    "\u0663",  # a digit, but none of ours
    "x" * 5000,
    ["1"],
    {"a": 1},
    True,
    1.5,
    -1,
    10**30,
]
FOREIGN = ["cmd", "host", "prologue", "req_prologue", "batch_script", "environment", "system", "clusters", "args"]

CONFIG = Config()
runpy.run_path(str(EXAMPLES / "form.py"), {"get_config": lambda: CONFIG})
PROFILES = read_profiles(CONFIG.FirecRESTSpawner.profile_list)
LIVE = LiveChoices({"partitions": {"debug": "debug"}, "reservations": {"course": "course"}, "features": {"gpu": "gpu"}})
FIELDS = [option.name for option in PROFILES[0].options]
FREE = read_profiles(
    [
        {
            "display_name": "Free text",
            "profile_options": {
                "image": {
                    "unlisted_choice": {
                        "enabled": True,
                        "validation_regex": r"(?s).*",
                        "spawner_override": {"req_uenv": "{value}", "software": {"modules": ["{value}"]}},
                    }
                }
            },
        }
    ]
)


@pytest.mark.parametrize("value", EVIL, ids=lambda value: ascii(value)[:30])
@pytest.mark.parametrize("field", [*FIELDS, "profile"])
def test_hostile_values_are_refused(field: str, value: Any) -> None:
    with pytest.raises(SpawnFailedError) as caught:
        choose(PROFILES, {field: value}, LIVE)
    assert caught.value.status_code == 400
    assert str(caught.value.message).isprintable()


@given(
    st.dictionaries(st.sampled_from([*FIELDS, "profile", "cmd"]) | st.text(), st.text() | st.integers() | st.booleans())
)
def test_what_is_chosen_is_always_what_is_offered(options: dict[str, Any]) -> None:
    try:
        chosen = choose(PROFILES, options, LIVE)
    except SpawnFailedError:
        return
    assert set(options) <= {"profile", *FIELDS}
    assert 1 <= int(chosen.values["nodes"]) <= 4
    assert chosen.values["queue"] in ("", "debug")
    assert chosen.values["dask"] in ("no", "yes")


@given(st.text(min_size=1))
def test_a_written_value_is_harmless_even_where_the_site_allows_everything(text: str) -> None:
    try:
        chosen = choose(FREE, {"image--unlisted-choice": text}, None)
    except SpawnFailedError:
        assert not is_safe(text) or len(text) > 256
        return
    assert chosen.overrides[1] == {"req_uenv": text, "software": {"modules": [text]}}
    assert not set(text) & set(" \t\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\"'`$\\;&|<>(){}#!*?^")


@given(st.dictionaries(st.text(), st.lists(st.text())))
def test_any_form_can_be_read(form: dict[str, list[str]]) -> None:
    for name, value in from_form(form).items():
        assert isinstance(name, str)
        assert isinstance(value, str)


def test_the_rest_api_refuses_it_too_and_says_why(example_hub: Hub) -> None:
    bodies = [{"queue": value} for value in EVIL[:16:2]] + [{"nodes": value} for value in EVIL[1::3]]
    bodies += [{name: "touch /tmp/x"} for name in FOREIGN]
    bodies += [{"nodes": 5}, {"queue--unlisted-choice": "debug"}, {"profile": "other"}]
    with example_hub.http() as http:
        http.post("/hub/api/users/mallory")
        for body in bodies:
            answer = http.post("/hub/api/users/mallory/server", json=body)
            assert answer.status_code == 400, f"{body}: {answer.status_code} {answer.text}"
            message = answer.json()["message"]
            assert "cannot be" in message or "Unknown" in message, message
    server = example_hub.server("mallory")
    assert server is None or not (server["ready"] or server["pending"])
    assert not list((example_hub.folder / "gateway" / "files" / "sessions").glob("*mallory*"))


def test_the_page_shows_the_form_with_what_the_system_has(example_hub: Hub) -> None:
    with example_hub.browser("nora") as browser:
        page = browser.get("/hub/spawn")
    assert page.status_code == 200
    assert "Start a distributed Dask cluster?" in page.text
    assert "nodes free)" in page.text


def test_a_choice_reaches_the_scheduler(example_hub: Hub) -> None:
    assert example_hub.spawn("olga", {"hours": 2, "tasks": "1"}).status_code in (201, 202)
    try:
        example_hub.ready("olga")
        script = next((example_hub.folder / "gateway").rglob("jobs/*/script")).read_text()
        assert "#SBATCH --time=2:00:00" in script
        assert "#SBATCH --ntasks=1" in script
    finally:
        example_hub.stop_server("olga")
