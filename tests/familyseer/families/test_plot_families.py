"""The picture of the similarity graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from familyseer.errors import UserError
from familyseer.families import form_families, plot_families
from familyseer.subgraphs import Subgraph


@pytest.mark.parametrize(
    ("extension", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("PDF", b"%PDF")]
)
def test_the_extension_chooses_the_format(
    model: list[Subgraph], tmp_path: Path, extension: str, start: bytes
) -> None:
    path = tmp_path / f"families.{extension}"
    plot_families(model, form_families(model), path)
    assert path.read_bytes().startswith(start)


def test_the_same_families_make_the_same_picture(model: list[Subgraph], tmp_path: Path) -> None:
    one, two = tmp_path / "one.svg", tmp_path / "two.svg"
    for path in (one, two):
        plot_families(model, form_families(model), path)
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("name", ["families.gif", "families"])
def test_another_extension_is_refused(model: list[Subgraph], tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"expected \.png, \.svg or \.pdf"):
        plot_families(model, form_families(model), tmp_path / name)


def test_a_path_that_cannot_be_written_is_refused(model: list[Subgraph], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be written .*, expected a writable file"):
        plot_families(model, form_families(model), tmp_path / "missing" / "families.svg")


def test_a_subgraph_without_a_family_is_refused(model: list[Subgraph], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="task0 is in no family"):
        plot_families(model, [], tmp_path / "families.svg")
