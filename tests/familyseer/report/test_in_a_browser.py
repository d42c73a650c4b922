"""The page in headless Chromium: no complaint, no request, nothing wider than the screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from familyseer.report import write_report
from tests.familyseer.report import made_run
from tests.familyseer.report.browser import View, find_browser, look

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason="no Chromium here (chromium, google-chrome)"
)
VIEWS = [View(360), View(1200), View(1200, dark=True), View(794, media="print")]
# of each text on the page its contrast with what is behind it, as WCAG 2.2 (1.4.3) has it
SCRIPT = """(() => {
  const parts = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = parts(colour).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    const seen = parts(colour);
    if (seen.length < 4 || seen[3] > 0) return colour;
    return node.parentElement ? behind(node.parentElement) : "rgb(255, 255, 255)";
  };
  let worst = 21;
  for (const node of document.body.querySelectorAll("*")) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim());
    if (!own || node.closest("title, desc") || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const ink = node.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(ink), light(behind(node))];
    worst = Math.min(worst, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  const outside = [...document.querySelectorAll("svg text")].filter((text) => {
    const [own, all] = [text.getBoundingClientRect(), text.closest("svg").getBoundingClientRect()];
    return own.left < all.left - 1 || own.right > all.right + 1 || own.bottom > all.bottom + 1;
  });
  return {
    width: document.documentElement.scrollWidth,
    worst,
    page: getComputedStyle(document.body).backgroundColor,
    outside: outside.map((text) => text.textContent),
    letters: Math.min(...[...document.querySelectorAll("svg text")]
      .map((text) => text.getBoundingClientRect().height)),
  };
})()"""


def test_the_page_shows_well_on_a_phone_a_desk_in_the_dark_and_on_paper(tmp_path: Path) -> None:
    out = made_run.make_run(tmp_path / "out")
    write_report(out)
    seen = look(out / "report.html", VIEWS, SCRIPT)
    assert seen.errors == []
    assert seen.requests == [(out / "report.html").resolve().as_uri()]
    for view, found in zip(VIEWS, seen.answers, strict=True):
        assert found["width"] <= view.width, view
        assert found["outside"] == [], view
        assert found["worst"] >= 4.5, view
        assert found["letters"] >= 9, view
    light, dark = seen.answers[1]["page"], seen.answers[2]["page"]
    assert light == "rgb(255, 255, 255)"
    assert dark != light
