"""Files about the project: its licence, its changes, how to cite it and how to work on it."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import re

import pytest
import yaml

import familyseer
from tests.docs.commands import check, commands_of
from tests.docs.pages import ROOT, blocks_of

CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
SECTIONS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limits"}
CONTRIBUTING = ROOT / "CONTRIBUTING.md"


def test_the_licence_is_the_standard_text_and_the_one_that_the_package_names() -> None:
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    license_of = importlib.metadata.metadata("familyseer")["License-Expression"]
    assert license_of == CITATION["license"] == "Apache-2.0"


def test_the_changelog_has_this_version_and_known_kinds_of_changes() -> None:
    versions = re.findall(r"^## \[(.+?)\](?: - (.+))?$", CHANGELOG, re.MULTILINE)
    assert versions[0] == ("Unreleased", "")
    released = {name: datetime.date.fromisoformat(day) for name, day in versions[1:]}
    assert familyseer.__version__ in released
    assert list(released.values()) == sorted(released.values(), reverse=True)
    assert set(re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE)) <= SECTIONS


def test_the_citation_is_of_this_version() -> None:
    assert CITATION["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= CITATION.keys()
    assert CITATION["version"] == familyseer.__version__
    assert f"[{CITATION['version']}] - {CITATION['date-released']}" in CHANGELOG


@pytest.mark.parametrize("number", ["2201.00194", "2103.13042"])
def test_the_citation_names_both_papers(number: str) -> None:
    (paper,) = [one for one in CITATION["references"] if one["url"].endswith(f"/abs/{number}")]
    assert {"type", "title", "authors", "year"} <= paper.keys()
    assert paper["identifiers"] == [{"type": "other", "value": f"arXiv:{number}"}]
    assert all("family-names" in one or "name" in one for one in paper["authors"])


def test_what_contributors_are_told_to_run_is_there() -> None:
    commands = [c for block in blocks_of(CONTRIBUTING) for c in commands_of(block.source)]
    assert len(commands) > 3
    for words in commands:
        check(words)


def test_what_contributors_are_pointed_to_is_there() -> None:
    text = CONTRIBUTING.read_text("utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)]
    named = re.findall(r"`((?:scripts|tests|benchmarks)/[\w/.]*)`", text)
    assert [one for one in [*links, *named] if not (ROOT / one).exists()] == []
