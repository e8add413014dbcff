"""The options as HTML: plain fields with labels, no script. The hub puts it into its own form and page."""

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
    """The form's content.

    Args:
        live: None: the system does not answer; the form says so.
        before: options of the last start, chosen again where they are still offered.
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
