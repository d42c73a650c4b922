"""history.csv: appended whole, read back, and what a resumed search takes from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from familyseer.run._history import HISTORY_COLUMNS, History, restore_progress
from familyseer.search import TaskState

ROWS = [
    (5.0, 8, "dense", "dense", 20.0, None),
    (7.0, 16, "conv", "conv2d", None, None),
    (9.0, 24, "dense", "dense", 10.0, 30.5),
]


def written(path: Path) -> History:
    history = History(path)
    for row in ROWS:
        history.append(row)
    return history


def test_rows_are_read_back(tmp_path: Path) -> None:
    written(tmp_path / "history.csv")
    rows = History(tmp_path / "history.csv").rows
    assert [(r.elapsed_s, r.trials, r.subgraph, r.best_us) for r in rows] == [
        (5.0, 8, "dense", 20.0),
        (7.0, 16, "conv", None),
        (9.0, 24, "dense", 10.0),
    ]


@pytest.mark.parametrize("torn", ["9.5,3", "9.5,32,dense,dense,9.0,30", ","])
def test_a_torn_last_line_is_cut_off_and_the_next_row_is_whole(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "history.csv"
    written(path)
    whole = path.read_text()
    path.write_text(whole + torn)
    History(path).append((11.0, 32, "dense", "dense", 9.0, 29.0))
    assert path.read_text().startswith(whole)
    assert History(path).rows[-1].elapsed_s == 11.0
    assert len(History(path).rows) == 4


def test_an_empty_file_gets_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.touch()
    History(path)
    assert path.read_text().strip() == ",".join(HISTORY_COLUMNS)


def test_states_get_back_what_their_rounds_cost_and_brought(
    make_dense: Any, tmp_path: Path
) -> None:
    written(tmp_path / "history.csv")
    dense = TaskState(replace(make_dense(), name="dense"), "dense")
    other = TaskState(replace(make_dense(32), name="other"), "dense")
    dense.best_s = 9e-6  # as the records have it
    restore_progress([dense, other], History(tmp_path / "history.csv").rows)
    assert dense.rounds == 2
    assert dense.seconds == pytest.approx(7.0)
    assert [best for _, best in dense.history] == pytest.approx([20e-6, 10e-6])
    assert dense.best_s == 9e-6
    assert other.rounds == 0
