"""``spamm info`` and ``spamm bench``: tables for people, JSON for programs, bad input in a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from click.testing import CliRunner, Result

from familyseer.cli.main import main
from spamm._norms import block_norms
from spamm._plan import build_plan
from spamm.generators import exponential_decay


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["spamm", *args])


def saved(path: Path, array: Any) -> str:
    np.save(path, array)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("matrices")
    saved(made / "a.npy", exponential_decay(200, 150, base=0.9, seed=0))
    saved(made / "b.npy", exponential_decay(150, 180, base=0.9, seed=1))
    saved(made / "square.npy", exponential_decay(160, base=0.9, seed=2))
    return made


def test_the_group_shows_its_commands() -> None:
    result = run()
    assert result.exit_code == 0
    listed = result.stdout.partition("Commands:")[2].splitlines()
    assert [line.split()[0] for line in listed if line] == ["bench", "info", "tune"]
    assert not any("..." in line for line in listed)


@pytest.mark.parametrize("name", ["info", "bench", "tune"])
def test_help_names_json(name: str) -> None:
    assert "--json" in run(name, "--help").stdout


def test_info_says_of_each_tau_what_its_plan_would(folder: Path) -> None:
    files = str(folder / "a.npy"), str(folder / "b.npy")
    result = run("info", *files, "--block", "16,8,32", "--points", "5", "--json")
    document = json.loads(result.stdout)
    assert document["shape"] == [200, 150, 180]
    assert (document["dtype"], document["block"]) == ("float32", [16, 8, 32])
    a, b = (np.load(file) for file in files)
    norms = block_norms(a, 16, 8), block_norms(b, 8, 32)
    size = document["estimated_norm"]
    assert 0.5 * np.linalg.norm(a @ b) < size < 1.1 * np.linalg.norm(a @ b)
    assert len(document["rows"]) == 5
    for row in document["rows"]:
        plan = build_plan(*norms, (200, 150, 180), (16, 8, 32), row["tau"])
        assert row["valid_ratio"] == plan.valid_ratio
        assert row["error_bound"] == plan.error_bound
        assert row["relative_error_bound"] == pytest.approx(plan.error_bound / size)


def test_info_of_one_matrix_is_a_table_of_eighty_columns_and_a_drawing(
    folder: Path, tmp_path: Path
) -> None:
    drawing = tmp_path / "curve.svg"
    options = ("--block", "16", "--backend", "numpy", "--plot", str(drawing))
    result = run("info", str(folder / "square.npy"), *options)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split(maxsplit=1) == ["A", "160 x 160 float32"]
    assert lines[1].split() == ["B", "A"]
    table = lines[lines.index("") + 1 : -1]
    assert "valid ratio" in table[0]
    assert table[1].split()[:2] == ["0", "100.00%"]
    assert max(map(len, lines[:-1])) <= 80
    assert lines[-1] == f"drawn to {drawing}"
    assert drawing.read_text().lstrip().startswith("<?xml")


def test_info_reads_matrix_market_and_converts(folder: Path, tmp_path: Path) -> None:
    sparse = scipy.sparse.random(150, 20, density=0.2, rng=np.random.default_rng(0))
    scipy.io.mmwrite(tmp_path / "b.mtx", sparse)
    files = str(folder / "a.npy"), str(tmp_path / "b.mtx")
    for options, dtype in (((), "float64"), (("--dtype", "bfloat16"), "bfloat16")):
        result = run("info", *files, "--json", "--block", "16", *options)
        assert json.loads(result.stdout)["dtype"] == dtype


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_info_of_what_is_not_finite_has_a_bound_but_no_relative_one(
    tmp_path: Path, value: float
) -> None:
    a = exponential_decay(64, base=0.8)
    a[3, 3] = value
    path = saved(tmp_path / "a.npy", a)
    result = run("info", path, "--block", "16", "--plot", str(tmp_path / "a.png"))
    assert result.exit_code == 0, result.stderr
    assert "not finite" in result.stdout
    assert result.stdout.splitlines()[-2].split()[-1] == "-"
    document = json.loads(run("info", path, "--block", "16", "--json").stdout)
    assert document["estimated_norm"] is None
    assert document["rows"][-1]["error_bound"] > 0


def test_info_draws_what_has_one_tau_only(tmp_path: Path) -> None:
    path = saved(tmp_path / "zero.npy", np.zeros((8, 8)))
    result = run("info", path, "--block", "4", "--plot", str(tmp_path / "zero.pdf"))
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "zero.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_bench_measures_each_ratio_and_its_error(folder: Path, backend: str) -> None:
    file = str(folder / "square.npy")
    options = ("--block", "16", "--repeat", "1", "--backend", backend, "--json")
    result = run("bench", file, "--valid-ratio", "0.2,1.0", *options)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["shape"] == [160, 160, 160]
    sparse, whole = document["rows"]
    assert sparse["valid_ratio"] == pytest.approx(0.2, abs=0.01)
    assert 1e-6 < sparse["rel_error"] <= sparse["rel_error_bound"]
    assert whole["rel_error"] < 1e-6
    assert whole["rel_error_bound"] == 0.0
    for row in document["rows"]:
        assert min(row["plan_us"], row["multiply_us"], row["dense_us"], row["speedup"]) > 0


def test_bench_makes_matrices_and_prints_a_table_of_eighty_columns() -> None:
    made = ("--decay", "algebraic", "--size", "96", "--rate", "3", "--dtype", "float16")
    options = ("--max-rel-error", "0.01", "--block", "16", "--repeat", "1", "--backend", "numpy")
    result = run("bench", *made, *options)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split(maxsplit=1)[1] == "96 x 96 times 96 x 96, float16"
    assert max(map(len, lines)) <= 80
    row = lines[lines.index("") + 2].split()
    assert float(row[-1]) <= 0.01


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["info", "nowhere.npy"], "nowhere.npy: No such file"),
        (["info", "a.npy"], "a.npy times itself: 200 x 150"),
        (["info", "a.npy", "square.npy"], "as many rows as the first's columns"),
        (["info", "square.npy", "--block", "0"], "--block 0: expected a number"),
        (["info", "square.npy", "--block", "8,8"], "--block 8,8: expected"),
        (["info", "square.npy", "--plot", "x.txt"], "x.txt: expected a file name"),
        (["info", "square.npy", "--plot", "no/x.png"], "no/x.png: cannot be written"),
        (["bench", "square.npy", "--size", "8"], "square.npy: expected no --decay"),
        (["bench", "--decay", "im2col", "--size", "8"], "--decay im2col: expected no --size"),
        (["bench", "--size", "8", "--rate", "2"], "base: expected"),
        (["bench", "--tau", "1", "--valid-ratio", "0.1"], "expected only one of them"),
        (["bench", "--tau", "one"], "--tau one: expected numbers"),
        (["bench", "--size", "8", "--valid-ratio", "1.5", "--backend", "numpy"], "valid_ratio: "),
        (["bench", "--size", "8", "--tau", "-1", "--backend", "numpy"], "tau: expected"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    folder: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], named: str
) -> None:
    monkeypatch.chdir(folder)
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr
    assert len(result.stderr.splitlines()) == 1
