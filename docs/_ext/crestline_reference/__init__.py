"""Pages of the reference that are made from the code while the site is built.

Each module is one directive's content: a function that returns Markdown. A page says where it goes, as in

    ```{crestline-keys} crestline.gateway.config.GatewayConfig
    ```
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from docutils.nodes import Node
from sphinx.util.docutils import SphinxDirective

from crestline_reference import commands, errors, features, keys, measurements, messages, operations, settings

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_DIRECTIVES: dict[str, Callable[..., str]] = {
    "crestline-commands": commands.markdown,
    "crestline-errors": errors.markdown,
    "crestline-features": features.markdown,
    "crestline-highlights": measurements.highlights,
    "crestline-keys": keys.markdown,
    "crestline-measurements": measurements.markdown,
    "crestline-messages": messages.markdown,
    "crestline-operations": operations.markdown,
    "crestline-settings": settings.markdown,
}


def _directive(write: Callable[..., str]) -> type[SphinxDirective]:
    class Written(SphinxDirective):
        optional_arguments = 10

        def run(self) -> list[Node]:
            self.env.note_reread()  # the code may have changed, the page has not
            return self.parse_text_to_nodes(write(*self.arguments), allow_section_headings=True)

    return Written


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    for name, write in _DIRECTIVES.items():
        app.add_directive(name, _directive(write))
    app.connect("build-finished", operations.write_document)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
