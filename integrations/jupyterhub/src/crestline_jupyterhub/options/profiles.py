"""What an admin offers: the setting `profile_list`, with kubespawner's fields and a few more, as types."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crestline.model import ConfigError

UNLISTED = "unlisted-choice"
"""as a choice: something else, given under the name of the option, `--` and this"""
LIVE = ("partitions", "reservations", "features", "accounts")
"""what `choices` may name instead of listing them"""

_SAFE = re.compile(r"[\w.,:/+@%=\[\]~-]+")

Override = Mapping[str, Any]
"""names of settings and their new values, which may be callables of the spawner"""


def is_safe(text: str) -> bool:
    """Whether a text that a user wrote can stand in a scheduler option or in a shell line as it is, quoted or not."""
    return _SAFE.fullmatch(text) is not None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of those that an option lists."""

    name: str
    title: str
    override: Override
    is_default: bool = False


@dataclass(frozen=True, kw_only=True)
class Unlisted:
    """A value that the user writes."""

    title: str
    title_in_choices: str
    pattern: str
    message: str
    override: Override


@dataclass(frozen=True, kw_only=True)
class Number:
    """An option whose value is a whole number within limits."""

    minimum: int
    maximum: int
    default: int


@dataclass(frozen=True, kw_only=True)
class Option:
    """One field of a profile: `choices`, `live`, `unlisted` or `number`."""

    name: str
    title: str
    description: str
    choices: tuple[Choice, ...] = ()
    live: str = ""
    """what of the system is listed: one of LIVE"""
    is_optional: bool = False
    """whether none of `live` may be chosen"""
    unlisted: Unlisted | None = None
    number: Number | None = None
    override: Override
    """what a value of `live` or `number` sets; `{value}` in it stands for the value"""

    @property
    def titles(self) -> dict[str, str]:
        """The listed choices' titles by name."""
        return {choice.name: choice.title for choice in self.choices}

    @property
    def default(self) -> str:
        """What holds where the user says nothing; empty: nothing is set."""
        if self.number:
            return str(self.number.default)
        chosen = next((choice for choice in self.choices if choice.is_default), None)
        return (chosen or self.choices[0]).name if self.choices else ""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One kind of server, with the options that users have for it."""

    slug: str
    title: str
    description: str
    is_default: bool
    override: Override
    options: tuple[Option, ...]


def read_profiles(setting: Sequence[Any] | Mapping[str, Any]) -> list[Profile]:
    """`profile_list`: a list of profiles, or a dictionary of them by slug.

    Raises:
        ConfigError: what is wrong, and in which profile.
    """
    if isinstance(setting, Mapping):
        setting = [{"slug": slug, **profile} for slug, profile in setting.items()]
    profiles = [_profile(each) for each in setting]
    slugs = [profile.slug for profile in profiles]
    if doubled := {slug for slug in slugs if slugs.count(slug) > 1}:
        raise _wrong(f"two profiles have the slug {min(doubled)!r}")
    return profiles


def default_profile(profiles: list[Profile]) -> Profile:
    """The one that is chosen by saying nothing."""
    return next((profile for profile in profiles if profile.is_default), profiles[0])


def _profile(given: Any) -> Profile:
    what = "a profile"
    values = _fields(
        given,
        what,
        ("display_name", "slug", "description", "default", *_OVERRIDES, "profile_options"),
    )
    title = _text(values, "display_name", what)
    slug = values.get("slug") or re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    options = values.get("profile_options") or {}
    return Profile(
        slug=slug,
        title=title,
        description=values.get("description", ""),
        is_default=bool(values.get("default", False)),
        override=_override(values, f"profile {slug!r}"),
        options=tuple(_option(name, option, f"profile {slug!r}, option {name!r}") for name, option in options.items()),
    )


def _option(name: str, given: Any, what: str) -> Option:
    known = ("display_name", "description", "choices", "unlisted_choice", "number", "optional", *_OVERRIDES)
    values = _fields(given, what, known)
    choices, unlisted = values.get("choices", {}), values.get("unlisted_choice") or {}
    live = choices if isinstance(choices, str) else ""
    if live and live not in LIVE:
        raise _wrong(f"{what}: unknown live choices {live!r}; known are {', '.join(LIVE)}")
    option = Option(
        name=name,
        title=values.get("display_name", name),
        description=values.get("description", ""),
        choices=() if live else tuple(_choice(each, choice, what) for each, choice in choices.items()),
        live=live,
        is_optional=bool(values.get("optional", False)),
        unlisted=_unlisted(unlisted, what) if unlisted.get("enabled") else None,
        number=_number(values["number"], what) if "number" in values else None,
        override=_override(values, what),
    )
    if not (option.choices or option.live or option.unlisted or option.number):
        raise _wrong(f"{what}: it has none of choices, unlisted_choice, number")
    return option


def _choice(name: str, given: Any, what: str) -> Choice:
    what = f"{what}, choice {name!r}"
    values = _fields(given, what, ("display_name", "default", *_OVERRIDES))
    if name == UNLISTED:
        raise _wrong(f"{what}: its name has a meaning of its own")
    return Choice(
        name=name,
        title=_text(values, "display_name", what),
        override=_override(values, what),
        is_default=bool(values.get("default", False)),
    )


def _unlisted(given: Any, what: str) -> Unlisted:
    known = ("enabled", "display_name", "display_name_in_choices", "validation_regex", "validation_message")
    values = _fields(given, f"{what}, unlisted_choice", (*known, *_OVERRIDES))
    pattern = values.get("validation_regex", ".+")
    try:
        re.compile(pattern)
    except re.error as error:
        raise _wrong(f"{what}: validation_regex: {error}") from error
    return Unlisted(
        title=values.get("display_name", "Other"),
        title_in_choices=values.get("display_name_in_choices", "Other…"),
        pattern=pattern,
        message=values.get("validation_message", ""),
        override=_override(values, what),
    )


def _number(given: Any, what: str) -> Number:
    values = _fields(given, f"{what}, number", ("minimum", "maximum", "default"))
    if any(type(value) is not int for value in values.values()) or "maximum" not in values:
        raise _wrong(f"{what}: number needs whole numbers: maximum, and minimum and default where they are not 1")
    minimum = values.get("minimum", 1)
    number = Number(minimum=minimum, maximum=values["maximum"], default=values.get("default", minimum))
    if not number.minimum <= number.default <= number.maximum:
        raise _wrong(f"{what}: number: the default is not within the limits")
    return number


_OVERRIDES = ("spawner_override", "kubespawner_override")


def _override(values: Mapping[str, Any], what: str) -> Override:
    found = [values[name] for name in _OVERRIDES if name in values]
    if len(found) > 1 or not all(isinstance(each, Mapping) for each in found):
        raise _wrong(f"{what}: spawner_override is a dictionary, and there is one")
    return found[0] if found else {}


def _fields(given: Any, what: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise _wrong(f"{what} is a dictionary, not {given!r}")
    if unknown := [name for name in given if name not in known]:
        raise _wrong(f"{what}: unknown field {unknown[0]!r}; it has {', '.join(known)}")
    return given


def _text(values: Mapping[str, Any], name: str, what: str) -> str:
    if not isinstance(values.get(name), str) or not values[name]:
        raise _wrong(f"{what} has no {name}")
    return str(values[name])


def _wrong(text: str) -> ConfigError:
    return ConfigError(f"profile_list: {text}.", hint="Correct it in jupyterhub_config.py.")
