"""The options form and what is offered in it, without a hub."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from crestline.model import Account, Allocation, ConfigError, UnsupportedError
from crestline_jupyterhub.failures import SpawnFailedError
from crestline_jupyterhub.options.form import render
from crestline_jupyterhub.options.live_choices import LiveChoices, fetch_choices
from crestline_jupyterhub.options.profiles import read_profiles
from crestline_jupyterhub.options.validation import choose, from_form

LIVE = LiveChoices(
    {"partitions": {"debug": "debug (2 of 3 nodes free)", "long": "long"}, "reservations": {"course": "course"}}
)
PROFILES = [
    {
        "display_name": "Small <server>",
        "description": "One core & no more",
        "kubespawner_override": {"req_nprocs": "1"},
    },
    {
        "display_name": "Compute nodes",
        "slug": "nodes",
        "default": True,
        "profile_options": {
            "queue": {
                "display_name": "Queue",
                "choices": "partitions",
                "spawner_override": {"req_partition": "{value}"},
            },
            "reservation": {
                "display_name": "Advance reservation",
                "choices": "reservations",
                "optional": True,
                "unlisted_choice": {
                    "enabled": True,
                    "display_name": "Other reservation",
                    "validation_regex": "[a-z]+",
                    "validation_message": "Small letters.",
                    "spawner_override": {"req_reservation": "{value}"},
                },
                "spawner_override": {"req_reservation": "{value}"},
            },
            "nodes": {
                "display_name": "Nodes",
                "number": {"maximum": 4},
                "description": "How many",
                "spawner_override": {"req_nnodes": "{value}"},
            },
            "dask": {
                "display_name": "Dask cluster",
                "choices": {
                    "no": {"display_name": "No"},
                    "yes": {"display_name": "Yes", "spawner_override": {"clusters": {"dask": {}}}},
                },
            },
        },
    },
]


class Page(HTMLParser):
    """The fields, labels and texts of a form."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.fields: dict[str, list[dict[str, str | None]]] = {}
        self.ids: set[str] = set()
        self.labels: set[str] = set()
        self.open: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if values.get("id"):
            assert values["id"] not in self.ids, f"the id {values['id']} twice"
            self.ids.add(str(values["id"]))
        if tag == "label":
            self.labels.add(str(values["for"]))
        if tag in ("input", "select") and values.get("name"):
            self.fields.setdefault(str(values["name"]), []).append(values)
        if tag == "option":
            self.fields.setdefault("options", []).append(values)
        if tag not in ("input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_field_has_a_label_and_no_text_of_an_admin_is_markup() -> None:
    content = render(read_profiles(PROFILES), LIVE, {})
    page = Page(content)
    assert page.open == []
    assert "<script" not in content
    assert "Small &lt;server&gt;" in content
    visible = [field for fields in page.fields.values() for field in fields if field.get("id")]
    assert {field["id"] for field in visible} <= page.labels
    assert page.labels <= page.ids


def test_live_choices_numbers_and_the_last_choice_are_shown() -> None:
    before = {"profile": "nodes", "queue": "long", "nodes": "3", "dask": "yes"}
    content = render(read_profiles(PROFILES), LIVE, before)
    page = Page(content)
    assert "debug (2 of 3 nodes free)" in content
    (number,) = page.fields["profile-option-nodes--nodes"]
    assert (number["min"], number["max"], number["value"]) == ("1", "4", "3")
    selected = [option["value"] for option in page.fields["options"] if "selected" in option]
    assert selected == ["long"]
    checked = [option["value"] for option in page.fields["profile-option-nodes--dask"] if "checked" in option]
    assert checked == ["yes"]
    assert [option["value"] for option in page.fields["profile"] if "checked" in option] == ["nodes"]


def test_form_says_that_the_system_does_not_answer() -> None:
    content = render(read_profiles(PROFILES), None, {})
    assert "does not answer at the moment" in content
    with pytest.raises(SpawnFailedError, match="cannot be checked now") as caught:
        choose(read_profiles(PROFILES), {"queue": "debug"}, None)
    assert caught.value.status_code == 503
    assert choose(read_profiles(PROFILES), {}, None).values["queue"] == ""


def test_what_the_form_sends_is_what_the_api_takes() -> None:
    form = {
        "profile": ["nodes"],
        "profile-option-nodes--queue": ["debug"],
        "profile-option-nodes--reservation": ["unlisted-choice"],
        "profile-option-nodes--reservation--unlisted-choice": ["workshop"],
        "profile-option-nodes--nodes": ["2"],
        "profile-option-other--nodes": ["9"],
        "_xsrf": ["x"],
    }
    options = from_form(form)
    assert options == {
        "profile": "nodes",
        "queue": "debug",
        "reservation--unlisted-choice": "workshop",
        "nodes": "2",
    }
    chosen = choose(read_profiles(PROFILES), options, LIVE)
    assert chosen.values == {"queue": "debug", "reservation": "workshop", "nodes": "2", "dask": "no"}
    assert chosen.overrides[1:4] == [{"req_partition": "debug"}, {"req_reservation": "workshop"}, {"req_nnodes": "2"}]


def test_a_listed_choice_wins_over_what_was_written_beside_it() -> None:
    form = {"profile": ["x"], "profile-option-x--image": ["a"], "profile-option-x--image--unlisted-choice": ["b"]}
    assert from_form(form) == {"profile": "x", "image": "a"}


def test_profiles_by_slug_and_slugs_of_their_own() -> None:
    by_slug = read_profiles({"gpu": {"display_name": "GPU"}, "cpu": {"display_name": "CPU"}})
    assert [profile.slug for profile in by_slug] == ["gpu", "cpu"]
    assert read_profiles(PROFILES)[0].slug == "small-server"


@pytest.mark.parametrize(
    ("profile", "wrong"),
    [
        ({}, "no display_name"),
        ("text", "a dictionary"),
        ({"display_name": "A", "image": "x"}, "unknown field 'image'"),
        ({"display_name": "A", "profile_options": {"x": {}}}, "none of choices"),
        ({"display_name": "A", "profile_options": {"x": {"choices": "moons"}}}, "unknown live choices 'moons'"),
        ({"display_name": "A", "profile_options": {"x": {"number": {"minimum": 1}}}}, "whole numbers"),
        ({"display_name": "A", "profile_options": {"x": {"number": {"maximum": 0}}}}, "not within"),
        (
            {
                "display_name": "A",
                "profile_options": {"x": {"unlisted_choice": {"enabled": True, "validation_regex": "("}}},
            },
            "validation_regex",
        ),
        ({"display_name": "A", "spawner_override": {}, "kubespawner_override": {}}, "there is one"),
    ],
)
def test_a_wrong_profile_is_named(profile: object, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        read_profiles([profile])


def test_two_profiles_of_one_slug_are_refused() -> None:
    with pytest.raises(ConfigError, match="slug 'a'"):
        read_profiles([{"display_name": "A"}, {"display_name": "a"}])


class Site:
    """A system of two accounts, one of which has a budget."""

    def __init__(self, *, tells_budgets: bool = True) -> None:
        self._tells_budgets = tells_budgets
        self.asked = 0

    async def nothing(self) -> list[Any]:
        return []

    nodes = partitions = reservations = nothing

    async def accounts(self) -> list[Account]:
        self.asked += 1
        return [Account(name=name, user="ada") for name in ("proj", "other", "not; safe")]

    async def allocations(self) -> list[Allocation]:
        if not self._tells_budgets:
            raise UnsupportedError("This scheduler tells no budgets.")
        return [
            Allocation(account="proj", unit="node-hours", budget=1000, used=940.2),
            Allocation(account="other", unit="node-hours", used=3),
        ]


@pytest.mark.anyio
async def test_the_form_tells_what_is_left_of_an_account() -> None:
    site: Any = Site()
    live = await fetch_choices(site, 30, 60, accounts=True)
    assert live is not None
    assert live.choices["accounts"] == {"proj": "proj (60 of 1000 node-hours left)", "other": "other"}
    silent: Any = Site(tells_budgets=False)
    live = await fetch_choices(silent, 30, 60, accounts=True)
    assert live is not None
    assert live.choices["accounts"] == {"proj": "proj", "other": "other"}


@pytest.mark.anyio
async def test_accounts_are_asked_for_where_a_form_shows_them() -> None:
    site: Any = Site()
    await fetch_choices(site, 30, 60)
    assert site.asked == 0
    profiles = read_profiles([{"display_name": "x", "profile_options": {"account": {"choices": "accounts"}}}])
    assert profiles[0].options[0].live == "accounts"
