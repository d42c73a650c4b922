"""The messages that the troubleshooting page documents, and those that the source can raise."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown.extensions.toc import slugify

from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
_ENTRY = re.compile(
    r"^### (?P<title>[^\n]+)\n\n```text\n(?P<messages>(?:[^`\n][^\n]*\n)+)```\n\n\S", re.MULTILINE
)
_BLANK = re.compile(r"<[^<>]+>")


def documented(page: Path = PAGE) -> dict[str, list[str]]:
    """The messages of each entry of the page, by its anchor; an entry has a remedy below them."""
    found: dict[str, list[str]] = {}
    for entry in _ENTRY.finditer(page.read_text("utf-8")):
        anchor = slugify(entry["title"], "-")
        assert anchor not in found, f"two entries are named {entry['title']}"
        found[anchor] = entry["messages"].splitlines()
    return found


def pattern_of(documented_message: str) -> re.Pattern[str]:
    """What a message of the page matches: its own words, and anything where it has <...>."""
    words = [re.escape(" ".join(part.split(" "))) for part in _BLANK.split(documented_message)]
    return re.compile(".*".join(words))


def closest(said: str, messages: Iterable[str]) -> str | None:
    """The documented message that shares most words with what was said; None where none fits."""
    fitting = [message for message in messages if pattern_of(message).fullmatch(said)]
    return max(fitting, key=lambda message: len(_BLANK.sub("", message)), default=None)


@dataclass(frozen=True)
class Raised:
    """A message in the source, its fixed words and None for each value between them."""

    place: str
    error: str
    parts: tuple[str | None, ...]

    @property
    def text(self) -> str:
        return "".join("<...>" if part is None else part for part in self.parts)

    @property
    def has_words(self) -> bool:
        """Whether it says anything itself, and does not just pass on what another error says."""
        return any(part and re.search(r"[a-z]{3}", part, re.I) for part in self.parts)

    def fits(self, documented_message: str) -> bool:
        wanted = "".join(".*" if part is None else re.escape(part) for part in self.parts)
        return re.fullmatch(wanted, documented_message) is not None


def raised(errors: set[str], *places: str) -> Iterator[Raised]:
    """Every construction of these errors in files and folders of the project."""
    for place in places:
        root = ROOT / place
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                    continue
                if node.func.id in errors and node.args:
                    where = f"{path.relative_to(ROOT)}:{node.lineno}"
                    yield Raised(where, node.func.id, tuple(_parts(node.args[0])))


def _parts(node: ast.expr) -> Iterator[str | None]:
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        for value in node.values:
            yield str(value.value) if isinstance(value, ast.Constant) else None
    elif isinstance(node, ast.BinOp):
        yield from _parts(node.left)
        yield from _parts(node.right)
    else:
        yield None
