"""``tune --spamm``: which layers of pruned, decaying and dense models change, and by how much."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from familyseer.cli._ending import print_spamm
from familyseer.errors import UserError
from familyseer.export._compile import build_library
from familyseer.export._verify import compare_outputs
from familyseer.measure import WorkerPool
from familyseer.models import load_model
from familyseer.options import TuneOptions
from familyseer.run._reference import make_reference
from familyseer.run._spamm import use_spamm
from familyseer.run._spamm_file import FILE, rewritten
from familyseer.search import Clock
from familyseer.subgraphs import fuse

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
LIMIT = 1e-3


@pytest.fixture(scope="module")
def models() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("_spamm_models")


@pytest.fixture(scope="module")
def pool() -> Iterator[Any]:
    made = WorkerPool(1)
    yield made
    made.close()


@pytest.fixture
def stage(pool: Any, cpu: Any, tmp_path: Path) -> Iterator[Any]:
    """What a run does for SpAMM, before it tunes: gives the outcome and what it came from."""
    references = []

    def run(model: Any, budget_s: float = 300.0, **changes: Any) -> Any:
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        loaded = load_model(str(path))
        clock = Clock(budget_s)
        dense = fuse(loaded.mod, cpu)
        reference = make_reference(loaded, dense, cpu, "cpu", pool, clock, 0)
        references.append(reference)
        truth = reference.outputs
        options = TuneOptions(str(path), tmp_path, spamm=True, max_rel_error=LIMIT)
        options = replace(options, **changes)
        outcome = use_spamm(options, loaded, cpu, reference, pool, clock, None)
        return SimpleNamespace(
            outcome=outcome,
            report=outcome.report,
            layers=[layer["index"] for layer in outcome.report["layers"]],
            reference=reference,
            truth=truth,
            model=loaded,
            clock=clock,
        )

    yield run
    for one in references:
        one.close()


def test_a_pruned_model_skips_what_was_pruned(models: Any, stage: Any) -> None:
    rng = np.random.default_rng(0)
    done = stage(models.perceptron(models.pruned(rng), rows=32, width=384, layers=2))
    assert done.layers == [0, 1]
    assert all(layer["valid_ratio"] < 0.2 for layer in done.report["layers"])
    assert done.report["max_rel_error"] <= LIMIT
    assert done.report["note"] == ""


def test_a_decaying_model_keeps_the_error(
    models: Any, stage: Any, pool: Any, cpu: Any, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    done = stage(models.perceptron(models.decaying(rng), rows=32, width=512, layers=2))
    assert done.layers == [0, 1]
    assert all(layer["tau"] > 0 for layer in done.report["layers"])
    assert 0 < done.report["max_rel_error"] <= LIMIT
    # what tuning is checked by is the new model; what it is measured by stays the dense one
    off = compare_outputs(done.reference.outputs, done.truth)[1]
    assert 0 < off <= LIMIT
    library = tmp_path / "model.so"
    build_library(fuse(done.outcome.mod, cpu), cpu, library)
    end = SimpleNamespace(max_abs_error=0.0, max_rel_error=0.0, tuned_s=1.0, untuned_s=2.0)
    done.outcome.judge(end, library, done.reference, pool, done.clock)
    assert end.max_rel_error == pytest.approx(done.report["max_rel_error"], rel=1e-3)
    # a library that is off by too much gives way
    done.report["allowed"] = off / 100
    done.outcome.judge(end, library, done.reference, pool, done.clock)
    assert library.read_bytes() == done.reference.path.read_bytes()
    assert (end.tuned_s, end.max_rel_error, done.report["layers"]) == (2.0, 0.0, [])


def test_a_pruned_convolution_changes_beside_a_dense_one(models: Any, stage: Any) -> None:
    rng = np.random.default_rng(0)
    makes = [models.dense(rng), models.pruned(rng, keep=0.15)]

    def in_turn(shape: tuple[int, int]) -> Any:
        return makes.pop(0)(shape)

    done = stage(models.convolutional(in_turn, channels=96, side=28, layers=2))
    assert (done.report["products"], done.report["near_sparse"]) == (2, 1)
    assert done.layers == [1]
    assert done.report["max_rel_error"] <= LIMIT


def test_nothing_changes_in_a_dense_model(models: Any, stage: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / FILE).write_text("{}")
    done = stage(models.perceptron(models.dense(rng), rows=8, width=128, layers=2))
    assert done.outcome.mod is None
    assert done.report["layers"] == []
    assert done.report["note"] == "no layer has a near-sparse weight"
    assert done.reference.outputs is done.truth
    # nothing of an earlier run's choice is left
    assert not (tmp_path / FILE).exists()


def test_the_choice_is_kept_for_who_goes_on(
    models: Any, stage: Any, cpu: Any, tmp_path: Path
) -> None:
    model = models.perceptron(models.pruned(np.random.default_rng(0)), rows=32, width=384, layers=1)
    first = stage(model)
    again = stage(model, resume=True)
    told = [(layer["index"], layer["tau"], layer["block"]) for layer in first.report["layers"]]
    assert told == [
        (layer["index"], layer["tau"], layer["block"]) for layer in again.report["layers"]
    ]
    structural_equal = importlib.import_module("tvm_ffi").structural_equal
    assert structural_equal(rewritten(tmp_path, first.model.mod, cpu), first.outcome.mod)


def test_without_time_nothing_changes(models: Any, stage: Any) -> None:
    model = models.perceptron(models.pruned(np.random.default_rng(0)), rows=8, width=128, layers=1)
    done = stage(model, budget_s=0.5)
    assert done.outcome.mod is None
    assert "time" in done.report["note"]


def test_gpu_targets_are_told_in_a_line(models: Any, tmp_path: Path) -> None:
    target = SimpleNamespace(kind=SimpleNamespace(name="cuda"))
    options = TuneOptions("mlp", tmp_path, spamm=True)
    nothing: Any = None
    outcome = use_spamm(options, nothing, target, nothing, nothing, Clock(1.0), None)
    assert outcome.mod is None
    assert "CPU targets" in outcome.report["note"]


@pytest.mark.parametrize(
    "content",
    ["[]", '{"layers": [{}]}', '{"layers": [{"index": 0, "block": [0, 1], "tau": 1}]}',
     '{"layers": [{"index": 0, "block": [32, 32], "tau": -1}]}',
     '{"layers": [{"index": 7, "block": [32, 32], "tau": 1}]}'],
)  # fmt: skip
def test_a_damaged_choice_is_refused(content: str, models: Any, cpu: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    rng = np.random.default_rng(0)
    onnx.save(models.perceptron(models.dense(rng), rows=2, width=32, layers=1), path)
    (tmp_path / FILE).write_text(content)
    with pytest.raises(UserError, match=FILE):
        rewritten(tmp_path, load_model(str(path)).mod, cpu)


def test_the_ending_names_the_layers(capsys: pytest.CaptureFixture[str]) -> None:
    layer = {"name": "lv1", "op": "matmul", "shape": [1, 2, 3, 4], "tau": 0.5, "valid_ratio": 0.1}
    layer["stored_ratio"] = 1.0
    print_spamm({"layers": [layer], "max_rel_error": 2e-4, "allowed": 1e-3, "note": ""})
    print_spamm({"layers": [], "note": "no layer has a near-sparse weight"})
    told = capsys.readouterr().out
    assert "1 layer; the model is off by 0.0002" in told
    assert "lv1  matmul 2 x 3 x 4  valid ratio 0.100  tau 0.5" in told
    assert "changed nothing: no layer has a near-sparse weight" in told


@pytest.mark.slow
def test_the_command_leaves_a_library_for_plain_tvm(models: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = models.perceptron(models.pruned(rng), rows=32, width=384, layers=2)
    path, out = tmp_path / "model.onnx", tmp_path / "out"
    onnx.save(model, path)
    tune = [str(path), "-o", str(out), "--trials", "4", "--spamm", "--max-rel-error", str(LIMIT)]
    summary = json.loads(familyseer("tune", *tune, "--json").stdout)
    assert [layer["index"] for layer in summary["spamm"]["layers"]] == [0, 1]
    assert summary["max_rel_error"] <= LIMIT
    assert summary["options"]["spamm"] is True
    assert summary["phases_s"]["spamm"] > 0
    # the products are nobody's to tune any more, what follows them is
    assert summary["subgraphs"] == 1
    assert "the same" in familyseer("replay", str(out)).stdout
    script = textwrap.dedent(
        """
        import sys
        import numpy as np
        import tvm
        from tvm import relax
        machine = relax.VirtualMachine(tvm.runtime.load_module(sys.argv[1]), tvm.cpu())
        machine["main"](tvm.runtime.tensor(np.ones((32, 384), np.float32)))
        assert not {m.split(".")[0] for m in sys.modules} & {"familyseer", "spamm", "ops"}
        """
    )
    subprocess.run([sys.executable, "-c", script, str(out / "model.so")], check=True, timeout=120)


def familyseer(*arguments: str) -> Any:
    ran = subprocess.run(
        [sys.executable, "-m", "familyseer.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran
