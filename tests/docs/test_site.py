"""The site builds without a warning, asks nothing of other hosts, and its links lead somewhere."""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from familyseer.report import AccuracyLog
from tests.docs.conftest import Workshop
from tests.docs.pages import ROOT
from tests.familyseer.report.browser import View, find_browser, look

# what a browser fetches by itself, by tag
FETCHED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "audio": ("src",),
    "video": ("src", "poster"),
    "object": ("data",),
    "embed": ("src",),
    "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
}
STYLE_URL = re.compile(r"(?:url\(|@import)\s*['\"]?\s*((?:https?:)?//[^'\")]+)")


class Fetches(HTMLParser):
    """Collects the addresses that a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        names = FETCHED.get(tag, ())
        # a canonical or alternate address is told, not fetched
        if tag == "link" and not {"canonical", "prev", "next"} & set((given["rel"] or "").split()):
            names = ("href",)
        self.found += [given[name] or "" for name in names if name in given]
        self.found += STYLE_URL.findall(given.get("style") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    # the theme's authors advertise on every build; nothing else may be said
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    assert built.stderr + built.stdout == ""
    return folder


def test_pages_fetch_nothing_from_other_hosts(site: Path) -> None:
    foreign = []
    pages = list(site.rglob("*.html"))
    for path in pages:
        reader = Fetches()
        reader.feed(path.read_text("utf-8"))
        foreign += [(path.name, one) for one in reader.found if re.match(r"(https?:)?//", one)]
    for path in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        foreign += [(path.name, one) for one in STYLE_URL.findall(path.read_text("utf-8"))]
    assert len(pages) > 10
    assert foreign == []


@pytest.mark.skipif(find_browser() is None, reason="no Chromium here (chromium, google-chrome)")
@pytest.mark.parametrize("page", ["index", "how-it-works", "spamm"])
def test_a_browser_shows_pages_whole_and_asks_one_host_alone(site: Path, page: str) -> None:
    # without the theme's drawer sliding while a window grows
    script = """(() => {
      const still = "<style>* { transition: none !important }</style>";
      document.head.insertAdjacentHTML("beforeend", still);
      return {
        width: document.documentElement.scrollWidth,
        broken: [...document.images].filter((one) => !one.naturalWidth).length,
      };
    })()"""
    views = [View(360), View(360, dark=True), View(1200)]
    with _served(site) as host:
        seen = look(f"{host}/{page}.html", views, script)
    assert seen.errors == []
    assert [one for one in seen.requests if not one.startswith((host, "data:"))] == []
    assert seen.answers == [{"width": view.width, "broken": 0} for view in views]


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The address of a server for a folder; from files, browsers do not let pages search."""
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_every_page_can_be_reached_from_the_navigation() -> None:
    settings = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), _Loader)
    listed = set(_leaves(settings["nav"]))
    assert listed == {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}


class _Loader(yaml.SafeLoader):
    """Reads settings whose tags name Python objects, which only mkdocs needs."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def _leaves(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    items = nav.values() if isinstance(nav, dict) else nav
    return [leaf for item in items for leaf in _leaves(item)]


def test_links_of_the_readme_lead_to_files() -> None:
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text("utf-8"), flags=re.S)
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []


def test_every_public_name_has_its_place_in_the_reference(site: Path) -> None:
    import costmodels
    import familyseer
    import spamm

    for package in (familyseer, costmodels, spamm):
        page = (site / "api" / f"{package.__name__}.html").read_text("utf-8")
        described = set(re.findall(r'<h\d id="([^"]+)"', page))
        names = {f"{package.__name__}.{n}" for n in package.__all__ if not n.startswith("_")}
        assert names <= described


def test_every_picture_says_in_words_what_it_shows(site: Path) -> None:
    for path in site.rglob("*.html"):
        for image in re.findall(r"<img[^>]*>", path.read_text("utf-8")):
            assert re.search(r'alt="[^"]{20,}"', image), f"{path.name}: {image}"


def test_pictures_are_those_that_their_script_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    pictures = importlib.import_module("docs_pictures")
    names = ("run", "seconds", "round", "seeds", "models", "checks")
    for picture in (getattr(pictures, f"draw_{name}")() for name in names):
        kept = (ROOT / "docs" / "images" / f"{picture.name}.svg").read_text("utf-8")
        assert picture.text_of_file() == kept


def test_the_page_on_files_names_all_that_a_run_writes(workshop: Workshop, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "files.md").read_text("utf-8")
    named = set(re.findall(r"[\w.-]+", " ".join(re.findall(r"`([^`]+)`", page))))
    out = workshop.folder / "out"
    written = {path.name for path in out.rglob("*") if path.is_file()}
    # those that are named after a family
    written = {re.sub(r"^(samples|model)-.*(\.\w+)$", r"\1-NAME\2", name) for name in written}
    columns = (out / "history.csv").read_text().partition("\n")[0].strip().split(",")
    # a run this short may end before a model has ranked anything that was measured later
    accuracy = AccuracyLog(tmp_path)
    accuracy.add(1.0, 1, "family", 0.5)
    columns += accuracy.path.read_text().partition("\n")[0].strip().split(",")
    keys: set[str] = set(columns)
    for name in ("summary.json", "manifest.json", "families.json", "costmodels/manifest.json"):
        keys |= _keys(json.loads((out / name).read_text()), name)
    for name in ("run.json", "machine.json"):
        keys |= set(json.loads((out / "tuning" / name).read_text()))
    for line in (out / "tuning" / "decisions.jsonl").read_text().splitlines():
        entry = json.loads(line)
        keys |= {*entry, *entry.get("run", ()), *(k for r in entry.get("rounds", ()) for k in r)}
    assert written - named == set()
    assert keys - named == set()


# objects whose keys are names of the user's and not the format's
_FREE = {"versions", "fell_back", "options", "files", "assigned", "accuracy_on", "phases_s"}


def _keys(value: Any, where: str) -> set[str]:
    """The keys of a JSON value, at every depth, but for those of `_FREE` objects."""
    if isinstance(value, list):
        return {key for item in value for key in _keys(item, where)}
    if not isinstance(value, dict):
        return set()
    inner = {k for key, item in value.items() if key not in _FREE for k in _keys(item, key)}
    return set(value) | inner
