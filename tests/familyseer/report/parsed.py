"""A page as its readers have it: elements and text, told by the standard library's parser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "link", "br", "wbr"}


@dataclass
class Node:
    """An element."""

    name: str
    attributes: dict[str, str]
    children: list[Node | str] = field(default_factory=list)

    def all(self, *names: str) -> Iterator[Node]:
        """Elements below it, those of some names where any are given, in their order."""
        for child in self.children:
            if isinstance(child, Node):
                if not names or child.name in names:
                    yield child
                yield from child.all(*names)

    @property
    def text(self) -> str:
        """All text below it."""
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    def find(self, identifier: str) -> Node:
        """The element of an id."""
        return next(node for node in self.all() if node.attributes.get("id") == identifier)


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Node("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(node)
        if tag not in _VOID:
            self._open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].name == tag, f"</{tag}> closes <{self._open[-1].name}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def parse(text: str) -> Node:
    """The document; an element that is not closed in order is an error."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    assert parser._open == [parser.root]
    return parser.root
