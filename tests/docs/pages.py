"""The code blocks of the pages, every one of them, and what is said of those that cannot run.

A block that cannot run here has a comment right before it, which readers do not see:
``<!-- not run: needs a GPU -->``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sybil import Document
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_INFO = re.compile(r"(?P<language>[^\n]*)\n")
_NOT_RUN = re.compile(r"<!-- not run: (?P<why>[^>\n]+) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first line of code, `not_run` why it is not run."""

    page: Path
    line: int
    language: str
    source: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page in their order."""
    text = page.read_text("utf-8")
    found = []
    for region in RawFencedCodeBlockLexer(_INFO)(Document(text, str(page))):
        why = _NOT_RUN.search(text[: region.start])
        found.append(
            Block(
                page,
                text.count("\n", 0, region.start) + 2,
                region.lexemes["language"].strip(),
                str(region.lexemes["source"]),
                why["why"] if why else None,
            )
        )
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def inline_code(page: Path) -> Iterator[str]:
    """What stands between single backticks, outside blocks."""
    prose = re.sub(r"^ *```.*?^ *```", "", page.read_text("utf-8"), flags=re.S | re.M)
    for match in re.finditer(r"`([^`]+)`", prose):
        yield " ".join(match[1].split())
