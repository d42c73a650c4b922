"""``families.json`` and the table behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from familyseer.families import (
    Family,
    families_json,
    families_table,
    form_families,
    load_families,
    validate_families,
)
from familyseer.subgraphs import Subgraph


@pytest.fixture
def document(model: list[Subgraph]) -> dict[str, Any]:
    return families_json(form_families(model, "graph"), model, "graph")


def test_what_is_written_is_read_back(
    model: list[Subgraph], document: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "families.json"
    path.write_text(json.dumps(document))
    assert load_families(path) == ("graph", form_families(model, "graph"))
    assert json.loads(path.read_text()) == document


def test_a_member_is_described(model: list[Subgraph], document: dict[str, Any]) -> None:
    found = {s["index"]: s for f in document["families"] for s in f["subgraphs"]}
    assert len(found) == len(model)
    assert found[6]["key"] == model[6].key
    assert found[6]["operations"] == ["matmul", "add"]
    assert found[6]["shapes"] == [[64, 256], [256, 128], [128], [64, 128]]
    assert found[6]["dtypes"] == ["float32"] * 4


def test_shares_of_operations_sum_to_one(model: list[Subgraph]) -> None:
    rows = families_table(form_families(model), model)
    assert sum(row.share for row in rows) == pytest.approx(1.0)
    for row in rows:
        assert sum(member.share for member in row.members) == pytest.approx(row.share)
        shares = [member.share for member in row.members]
        assert shares == sorted(shares, reverse=True)


def test_a_family_of_unknown_subgraphs_is_refused(model: list[Subgraph]) -> None:
    with pytest.raises(ValueError, match="'lost' names subgraph 99, which is unknown"):
        families_table([Family("lost", (99,), "?")], model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("format"), "format is None, expected 'familyseer-families'"),
        (lambda d: d.update(version=2), "version is 2, expected 1"),
        (lambda d: d.update(method=None), "method: found null, expected a string"),
        (lambda d: d.update(families={}), "families: found a dict, expected an array"),
        (lambda d: d["families"][1].pop("reason"), r"families\[1\].reason is missing"),
        (
            lambda d: d["families"][1].update(name=d["families"][0]["name"]),
            r"families\[1\].name: 'conv2d-3x3' is used twice",
        ),
        (
            lambda d: d["families"][0]["subgraphs"][0].update(weight=True),
            r"families\[0\].subgraphs\[0\].weight: found a bool, expected an integer",
        ),
        (
            lambda d: d["families"][0]["subgraphs"].append(d["families"][1]["subgraphs"][0]),
            "is in two families",
        ),
    ],
)
def test_a_wrong_document_is_refused_naming_the_part(
    document: dict[str, Any], change: Any, message: str
) -> None:
    copy = json.loads(json.dumps(document))
    change(copy)
    with pytest.raises(ValueError, match=message):
        validate_families(copy)


def test_a_file_that_is_missing_or_no_json_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"families\.json: cannot be read \(No such file"):
        load_families(tmp_path / "families.json")
    (tmp_path / "families.json").write_text("{")
    with pytest.raises(ValueError, match=r"families\.json: not JSON"):
        load_families(tmp_path / "families.json")
