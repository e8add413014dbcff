"""How Sphinx builds the site: `make docs`."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from sphinx.application import Sphinx

from crestline import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
_airflow_home = tempfile.TemporaryDirectory(prefix="crestline-docs-")  # Airflow makes itself one when it is imported
os.environ.setdefault("AIRFLOW_HOME", _airflow_home.name)

project = "Crestline"
author = "the authors of Crestline"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "notfound.extension",
    "crestline_reference",
]
exclude_patterns = ["_build", "_ext", "measurements"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
html_logo = html_favicon = "_static/logo.svg"
html_static_path = ["_static", "images/social-card.png"]
html_baseurl = os.environ.get("DOCS_URL", "")
if repository := os.environ.get("DOCS_REPOSITORY"):
    html_theme_options = {
        "source_repository": repository,
        "source_branch": "main",
        "source_directory": "docs/",
        "footer_icons": [{"name": "Repository", "url": repository, "html": "Repository", "class": ""}],
    }
html_css_files = ["custom.css"]
html_js_files = [("versions.js", {"defer": "defer"})]
copybutton_exclude = ".linenos, .gp, .go"
notfound_urls_prefix = None
html_title = f"Crestline {version}"
html_show_sphinx = False
html_show_copyright = False

smartquotes = False  # readers search for messages and commands as they are
# Docstrings name things in single backticks; their types are in the signatures.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "separated"
napoleon_use_ivar = True

nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(airflow|collections|datetime|httpx|msgspec|os|pathlib|ssl|types|typing)\..*"),  # no inventories
    ("py:.*", r"AirflowNotFoundException"),
    ("py:class", r"MapLink|Path|Progress"),  # imported for annotations alone
    (
        "py:class",
        r"crestline\.client\.(auth\.token|backends|connection|logs\.sources|submission_lookup)\..*",
    ),  # the inside of the client
]


_attributes: dict[str, list[str]] = {}


def _take_away(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Napoleon would take what stands before a colon in an attribute's docstring for its type."""
    if what == "attribute":
        _attributes[name] = lines[:]
        lines.clear()


def _bring_back(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    lines.extend(_attributes.pop(name, []))


def _describe(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Add what other sites show where a page is linked to. Addresses of pictures are absolute once DOCS_URL is set."""
    picture = context["pathto"]("_static/social-card.png", True)
    title = re.sub("<[^>]+>", "", context.get("title") or project)
    properties = {
        "og:title": title if title == project else f"{title} - {project}",
        "og:type": "website",
        "og:site_name": project,
        "og:image": urljoin(html_baseurl, "_static/social-card.png") if html_baseurl else picture,
        "og:image:alt": "Crestline runs workflow engines on supercomputers through one REST API",
        "og:description": "Run workflow engines on supercomputers through one REST API.",
    }
    tags = "".join(f'<meta property="{name}" content="{escape(text)}">' for name, text in properties.items())
    context["metatags"] = f'{context.get("metatags", "")}{tags}<meta name="twitter:card" content="summary_large_image">'


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("html-page-context", _describe)
    app.connect("autodoc-process-docstring", _take_away, priority=1)
    app.connect("autodoc-process-docstring", _bring_back, priority=999)
