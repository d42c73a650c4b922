"""``run`` and ``bench``: a finished run's library on arrays from a file. The library is a fake."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from familyseer.cli._npz import read_npz, write_npz
from familyseer.cli.main import main
from familyseer.errors import UserError

INPUTS = [
    {"name": "x", "shape": [2, 3], "dtype": "float32"},
    {"name": "file", "shape": [4], "dtype": "int32"},
]


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a finished run whose library doubles its inputs."""
    import familyseer.export.use as use

    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "model.so").write_bytes(b"")
    summary = {"device": "cpu", "inputs": INPUTS, "outputs": [], "untuned_us": 300.0}
    (folder / "summary.json").write_text(json.dumps(summary))

    def run_library(_out: Path, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        assert [(n, list(a.shape), str(a.dtype)) for n, a in inputs.items()] == [
            (spec["name"], spec["shape"], spec["dtype"]) for spec in INPUTS
        ]
        return {name: array * 2 for name, array in inputs.items()}

    monkeypatch.setattr(use, "run_library", run_library)
    return folder


def given(path: Path, **changes: Any) -> Path:
    arrays: dict[str, Any] = {"x": np.ones((2, 3), "float32"), "file": np.arange(4, dtype="int32")}
    arrays.update(changes)
    write_npz(path, {name: value for name, value in arrays.items() if value is not None})
    return path


def run(out: Path, inputs: Path, *args: str) -> Result:
    outputs = inputs.parent / "result.npz"
    return CliRunner().invoke(main, ["run", str(out), "-i", str(inputs), "-o", str(outputs), *args])


def test_run_writes_the_outputs_under_their_names(out: Path, tmp_path: Path) -> None:
    result = run(out, given(tmp_path / "in.npz"))
    assert result.exit_code == 0, result.stderr
    with np.load(tmp_path / "result.npz") as archive:
        np.testing.assert_array_equal(archive["x"], np.full((2, 3), 2, "float32"))
        np.testing.assert_array_equal(archive["file"], np.arange(4, dtype="int32") * 2)
    assert "2x3" in result.stdout


def test_run_describes_the_outputs_as_json(out: Path, tmp_path: Path) -> None:
    result = run(out, given(tmp_path / "in.npz"), "--json")
    assert json.loads(result.stdout) == {
        "file": str(tmp_path / "result.npz"),
        "outputs": INPUTS,
    }


def test_run_converts_what_loses_nothing_but_precision(out: Path, tmp_path: Path) -> None:
    inputs = given(tmp_path / "in.npz", x=np.ones((2, 3)), file=np.arange(4, dtype="int64"))
    assert run(out, inputs).exit_code == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"x": None}, "lacks x; expected x [2, 3] float32, file [4] int32"),
        ({"y": np.zeros(1)}, "has unknown y; expected"),
        ({"x": np.zeros((3, 2), "float32")}, "x has shape [3, 2]; expected [2, 3]"),
        ({"file": np.zeros(4)}, "file is float64; expected int32"),
        ({"x": np.full((2, 3), "a")}, "x is <U1; expected float32"),
        ({"file": np.full(4, 2**40)}, "file has values that int32 cannot hold"),
    ],
)
def test_run_refuses_arrays_that_do_not_fit(
    out: Path, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    inputs = given(tmp_path / "in.npz", **changes)
    result = run(out, inputs)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{inputs}: {named}" in result.stderr
    assert not (tmp_path / "result.npz").exists()


class Trap:
    """Leaves a mark where somebody unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_pickled_objects_are_refused_and_not_loaded(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "in.npz"
    np.savez(path, x=np.array([Trap(mark)], dtype=object))
    with pytest.raises(UserError, match=r"x holds pickled objects; expected an \.npz archive"):
        read_npz(path)
    path.write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(UserError, match="not an archive"):
        read_npz(path)
    assert not mark.exists()


def test_what_is_no_archive_of_arrays_is_refused_by_name(tmp_path: Path) -> None:
    single = tmp_path / "single.npy"
    np.save(single, np.zeros(3))
    text = tmp_path / "text.npz"
    text.write_text("hello")
    other = tmp_path / "other.npz"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "hello")
    for path in (single, text, other, tmp_path, tmp_path / "nowhere.npz"):
        with pytest.raises(UserError, match=r"expected an \.npz archive") as refused:
            read_npz(path)
        assert str(path) in str(refused.value)
        assert "\n" not in str(refused.value)


def test_no_damage_to_an_archive_goes_unnamed(tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).random(300))
    whole = path.read_bytes()
    refused = 0
    for at in range(0, len(whole), 41):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            path.write_bytes(damaged)
            try:
                read_npz(path)
            except UserError:
                refused += 1
    assert refused > 20


def test_an_output_that_cannot_be_written_is_refused(out: Path, tmp_path: Path) -> None:
    inputs = given(tmp_path / "in.npz")
    args = ["run", str(out), "-i", str(inputs), "-o", str(tmp_path / "no" / "such" / "o.npz")]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 2
    assert "o.npz: cannot be written" in result.stderr


def test_a_summary_that_lists_no_proper_inputs_is_refused(out: Path, tmp_path: Path) -> None:
    (out / "summary.json").write_text('{"device": "cpu", "inputs": [{"name": "x"}]}')
    result = run(out, given(tmp_path / "in.npz"))
    assert result.exit_code == 2
    assert "summary.json" in result.stderr


def test_bfloat16_survives_the_archive(tmp_path: Path) -> None:
    import ml_dtypes

    from familyseer.cli._npz import match_inputs
    from familyseer.models import InputSpec

    path = tmp_path / "in.npz"
    values = np.array([1.0, -2.5], dtype=ml_dtypes.bfloat16)
    write_npz(path, {"x": values})
    matched = match_inputs(path, read_npz(path), [InputSpec("x", (2,), "bfloat16")])
    np.testing.assert_array_equal(matched["x"], values)
    assert matched["x"].dtype == values.dtype


def test_weights_that_the_library_takes_may_be_left_out(tmp_path: Path) -> None:
    from familyseer.cli._npz import match_inputs
    from familyseer.models import InputSpec

    specs = [InputSpec("x", (2,), "float32"), InputSpec("w", (2,), "float32", weight=(0.0, 1.0))]
    path = tmp_path / "in.npz"
    write_npz(path, {"x": np.zeros(2, "float32")})
    assert list(match_inputs(path, read_npz(path), specs)) == ["x"]
    write_npz(path, {"w": np.zeros(2, "float32")})
    with pytest.raises(UserError, match=r"lacks x; expected x \[2\] float32$"):
        match_inputs(path, read_npz(path), specs)


def test_bench_shows_latencies(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def bench_library(folder: Path, repeat: int, seed: int, by_subgraph: bool) -> dict[str, Any]:
        assert not by_subgraph
        asked.append((folder, repeat, seed))
        keys = {"median_us": 150.0, "min_us": 148.0, "p90_us": 160.0}
        return {**keys, "repeats": repeat, "untuned_us": 300.0, "subgraphs": None}

    monkeypatch.setattr("familyseer.export.use.bench_library", bench_library)
    args = ["bench", str(out), "--repeat", "7", "--seed", "3"]
    assert CliRunner().invoke(main, args).stdout.splitlines() == [
        "median      150 us",
        "fastest     148 us",
        "90% within  160 us",
        "measured    7 times",
        "untuned     300 us, as the tuning run measured it",
    ]
    assert asked == [(out, 7, 3)]
    assert json.loads(CliRunner().invoke(main, [*args, "--json"]).stdout)["median_us"] == 150.0


def test_bench_shows_what_takes_longest_by_subgraph(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(name: str, us: float, candidate_us: float | None) -> dict[str, Any]:
        return {
            "name": name,
            "family": None if candidate_us is None else "conv2d",
            "calls": 2,
            "us": us,
            "share": us / 250.0,
            "candidate_us": candidate_us,
        }

    rows = [row("fused_conv2d", 200.0, 100.0), row("vm.builtin", 29.0, None)]
    rows += [row(f"fused_add{i}", 1.0, 1.0) for i in range(21)]
    keys = {"median_us": 150.0, "min_us": 148.0, "p90_us": 160.0, "repeats": 7}

    def bench_library(folder: Path, repeat: int, seed: int, by_subgraph: bool) -> dict[str, Any]:
        return {**keys, "subgraphs": rows if by_subgraph else None}

    monkeypatch.setattr("familyseer.export.use.bench_library", bench_library)
    lines = CliRunner().invoke(main, ["bench", str(out), "--by-subgraph"]).stdout.splitlines()
    assert lines[4:8] == [
        "",
        "subgraph      calls  in the model  share  as candidates  ratio",
        "fused_conv2d      2        200 us    80%         100 us  2.00x",
        "vm.builtin        2       29.0 us    12%              -      -",
    ]
    assert lines[-2] == "and 3 smaller ones, 1% (--all shows them)"
    assert lines[-1].startswith("sum 250 us")
    every = CliRunner().invoke(main, ["bench", str(out), "--all"]).stdout.splitlines()
    assert len(every) == len(lines) + 2
