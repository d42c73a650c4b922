"""Elements of a page: a tree that the standard library writes, so that no text becomes markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, tostring

from familyseer.report._plot import Table

Child = Element | str | None
# of a table on the page
MOST_ROWS = 200


def tag(name: str, /, *children: Child, **attributes: str | None) -> Element:
    """An element.

    Parameters
    ----------
    children
        Elements and texts in order; None is left out.
    attributes
        ``class_`` stands for class, ``aria_label`` for aria-label; None is left out.
    """
    given = {
        key.rstrip("_") if key in ("class_", "for_") else key.replace("_", "-"): value
        for key, value in attributes.items()
        if value is not None
    }
    element = Element(name, given)
    add(element, *children)
    return element


def add(element: Element, *children: Child) -> None:
    """Appends elements and texts to an element."""
    for child in children:
        if isinstance(child, str):
            if len(element):
                element[-1].tail = (element[-1].tail or "") + child
            else:
                element.text = (element.text or "") + child
        elif child is not None:
            element.append(child)


def page(head: Iterable[Element], body: Iterable[Element]) -> str:
    """A whole document."""
    root = tag("html", tag("head", *head), tag("body", *body), lang="en")
    written: str = tostring(root, encoding="unicode", method="html")
    return f"<!DOCTYPE html>\n{written}\n"


def table(data: Table, caption: str, *, where_else: str = "") -> Element:
    """A table that scrolls sideways by itself where a screen is too narrow.

    Parameters
    ----------
    caption
        What is in it.
    where_else
        What has all rows, if they are more than a page should have.
    """
    rows = data.rows
    left_out = len(rows) - MOST_ROWS
    if left_out > 0:
        rows = rows[:MOST_ROWS]
        caption += f" (the first {MOST_ROWS} of {len(data.rows)} rows"
        caption += f"; {where_else} has all)" if where_else else ")"
    head = [tag("th", h, scope="col", class_=_side(data, i)) for i, h in enumerate(data.headings)]
    body = [
        tag(
            "tr",
            tag("th", *_breakable(row[0]), scope="row", class_=_side(data, 0)),
            *(tag("td", cell, class_=_side(data, i)) for i, cell in enumerate(row[1:], 1)),
        )
        for row in rows
    ]
    drawn = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *head)),
        tag("tbody", *body),
    )
    # reached by the keyboard, for whoever cannot swipe
    return tag("div", drawn, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _breakable(name: str) -> list[Child]:
    """A name that may go on in another line after an underscore, where its words end."""
    first, *rest = name.split("_")
    found: list[Child] = [first]
    for part in rest:
        found += ["_", tag("wbr"), part]
    return found


def _side(data: Table, column: int) -> str | None:
    return "number" if column in data.right else None


def folded(summary: str, *inside: Child) -> Element:
    """What is opened on request."""
    return tag("details", tag("summary", summary), *inside)


def pairs(items: Sequence[tuple[str, str]]) -> Element:
    """Names and values."""
    listed = [tag("div", tag("dt", name), tag("dd", value)) for name, value in items if value]
    return tag("dl", *listed)
