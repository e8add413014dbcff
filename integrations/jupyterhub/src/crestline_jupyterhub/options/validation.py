"""What a user chose, checked against what is offered, whichever way it came."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crestline_jupyterhub.failures import SpawnFailedError
from crestline_jupyterhub.options.live_choices import LiveChoices
from crestline_jupyterhub.options.profiles import UNLISTED, Number, Option, Override, Profile, default_profile, is_safe

MAX_LENGTH = 256


@dataclass
class Chosen:
    """The profile of a server with the checked values of its options."""

    profile: Profile
    values: dict[str, str] = field(default_factory=dict)
    """chosen values by the names of their options"""
    overrides: list[Override] = field(default_factory=list)
    """in order: the profile's, then each option's"""


def from_form(form: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Form fields as user options: those of the chosen profile, by the options' names."""
    values = {name: value[0] for name, value in form.items() if len(value) == 1 and name != "_xsrf"}
    prefix = f"profile-option-{values.get('profile', '')}--"
    options = {
        name.removeprefix(prefix): value
        for name, value in values.items()
        if name.startswith(prefix) or not name.startswith("profile-option-")
    }
    for name in [name for name in options if name.endswith(f"--{UNLISTED}")]:
        listed = options.get(name.removesuffix(f"--{UNLISTED}"))
        if listed not in (None, UNLISTED):
            del options[name]
    return {name: value for name, value in options.items() if value != UNLISTED}


def names_of(profiles: list[Profile], options: Mapping[str, Any]) -> set[str]:
    """The names of options that the chosen profile has; a form of the site may have others."""
    if not profiles:
        return set()
    slug = options.get("profile")
    profile = default_profile(profiles) if slug is None else _profile(profiles, slug)
    names = {option.name for option in profile.options}
    return {"profile"} | names | {f"{name}--{UNLISTED}" for name in names}


def choose(profiles: list[Profile], options: Mapping[str, Any], live: LiveChoices | None) -> Chosen:
    """What the options say.

    Args:
        options: `profile`, and the options of that profile by name.

    Raises:
        SpawnFailedError: (400) a profile, an option or a value that is not offered; (503) it cannot be told now.
    """
    left = dict(options)
    profile = _profile(profiles, left.pop("profile", None))
    chosen = Chosen(profile, overrides=[profile.override])
    for option in profile.options:
        listed, unlisted = left.pop(option.name, None), left.pop(f"{option.name}--{UNLISTED}", None)
        if unlisted not in (None, ""):
            value, override = _unlisted(option, unlisted)
        else:
            value, override = _listed(option, listed, live)
        chosen.values[option.name] = value
        chosen.overrides.append(override)
    if left:
        offered = ", ".join(["profile", *(option.name for option in profile.options)])
        raise refuse(f"Unknown option {_shown(min(left, key=str))}. The options of {profile.slug!r}: {offered}.")
    return chosen


def refuse(message: str) -> SpawnFailedError:
    """Build the error (400) for options that are not offered."""
    return SpawnFailedError(message, reason="options", status_code=400)


def _profile(profiles: list[Profile], slug: Any) -> Profile:
    if slug is None:
        return default_profile(profiles)
    for profile in profiles:
        if profile.slug == slug:
            return profile
    raise refuse(f"Unknown profile {_shown(slug)}. Choose of: {', '.join(each.slug for each in profiles)}.")


def _listed(option: Option, given: Any, live: LiveChoices | None) -> tuple[str, Override]:
    value = option.default if given is None else _text(option, given)
    if option.number:
        return _number(option, option.number, value)
    if option.live:
        return _live(option, value, live)
    for choice in option.choices:
        if choice.name == value:
            return value, choice.override
    if not option.choices and value == "":
        return "", {}
    names = ", ".join(choice.name for choice in option.choices) or f"write {option.name}--{UNLISTED}"
    raise refuse(f"{option.title} cannot be {_shown(value)}. Choose of: {names}.")


def _number(option: Option, number: Number, value: str) -> tuple[str, Override]:
    if not re.fullmatch(r"-?[0-9]{1,9}", value) or not number.minimum <= int(value) <= number.maximum:
        limits = f"a whole number from {number.minimum} to {number.maximum}"
        raise refuse(f"{option.title} cannot be {_shown(value)}. Give {limits}.")
    return str(int(value)), _filled(option.override, str(int(value)))


def _live(option: Option, value: str, live: LiveChoices | None) -> tuple[str, Override]:
    if value == "":
        return "", {}
    if live is None:
        raise SpawnFailedError(
            f"{option.title} cannot be checked now, as the gateway does not answer. Try again in a minute.",
            reason="gateway",
            status_code=503,
        )
    if value not in live.choices[option.live]:
        names = ", ".join(live.choices[option.live]) or "none at the moment"
        raise refuse(f"{option.title} cannot be {_shown(value)}. Choose of: {names}.")
    return value, _filled(option.override, value)


def _unlisted(option: Option, given: Any) -> tuple[str, Override]:
    if option.unlisted is None:
        raise refuse(f"{option.title} cannot be {_shown(given)}: only what is listed may be chosen.")
    value = _text(option, given)
    if not is_safe(value):
        raise refuse(
            f"{option.title} cannot be {_shown(value)}. Use letters, digits and .,:/+@%=[]~_- without white space."
        )
    if re.fullmatch(option.unlisted.pattern, value) is None:
        expected = option.unlisted.message or f"It has to match {option.unlisted.pattern}"
        raise refuse(f"{option.title} cannot be {_shown(value)}. {expected}")
    return value, _filled(option.unlisted.override, value)


def _text(option: Option, given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, str | int) or len(str(given)) > MAX_LENGTH:
        raise refuse(f"{option.title} cannot be {_shown(given)}. Give one text of at most {MAX_LENGTH} characters.")
    return str(given)


def _filled(override: Any, value: str) -> Any:
    """The override with the value in the place of each `{value}`."""
    if isinstance(override, str):
        return override.replace("{value}", value)
    if isinstance(override, Mapping):
        return {name: _filled(each, value) for name, each in override.items()}
    if isinstance(override, list | tuple):
        return [_filled(each, value) for each in override]
    return override


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
