"""The options as HTML: plain fields with labels, without scripts. The hub puts it into its own form and page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader

from crestline_jupyterhub.options.live_choices import LiveChoices
from crestline_jupyterhub.options.profiles import UNLISTED, Profile, default_profile

_templates = Environment(
    loader=PackageLoader("crestline_jupyterhub.options"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


def render(profiles: list[Profile], live: LiveChoices | None, before: Mapping[str, Any]) -> str:
    """Return the content of the form.

    Args:
        profiles: the profiles.
        live: None: the system does not respond, which the form reports.
        before: options of the last start, preselected if they still exist.
    """
    slugs = [profile.slug for profile in profiles]
    chosen = before.get("profile")
    return _templates.get_template("form.html").render(
        profiles=profiles,
        chosen=chosen if chosen in slugs else default_profile(profiles).slug,
        before=before,
        live=live.choices if live else None,
        unlisted=UNLISTED,
    )
