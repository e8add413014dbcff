"""The code blocks of a documentation page, found by Sybil."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

ROOT = Path(__file__).parents[2]

_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>(?:(?!-->).)*) -->\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block; one that is not run but only read has a reason, in an HTML comment right before it."""

    page: str
    line: int
    language: str
    source: str
    not_run: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page of the documentation, those that people meet before it, and what stands beside the examples."""
    outside = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    return [*sorted((ROOT / "docs").rglob("*.md")), *outside, *sorted((ROOT / "examples").rglob("README.md"))]


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, but for the directives of Sphinx."""
    found: list[Block] = []
    run_page(page, found.append, lambda block: None, skipped=found.append)
    return found


def run_page(
    page: Path,
    run: Callable[[Block], None],
    failed: Callable[[Block], object],
    *,
    skipped: Callable[[Block], object] = lambda block: None,
) -> None:
    """Evaluate the blocks of a page in their order; the first that fails ends it."""

    def evaluate(example: Example) -> None:
        (skipped if example.parsed.not_run else run)(example.parsed)

    def parse(document: Document) -> Iterable[Region]:
        for region in FencedCodeBlockLexer(r"[^\n]*", {"language": "language", "source": "source"})(document):
            language = region.lexemes["language"].strip()
            if language.startswith("{"):
                continue
            mark = _NOT_RUN.search(document.text[: region.start].rstrip())
            region.parsed = Block(
                str(page.relative_to(ROOT)),
                document.text[: region.start].count("\n") + 1,
                language,
                str(region.lexemes["source"]),
                mark["reason"] if mark else None,
            )
            region.evaluator = evaluate
            yield region

    for example in Sybil([parse]).parse(page):
        try:
            example.evaluate()
        except Exception:
            failed(example.parsed)
            raise
