"""Whole runs on small products, and what workers refuse."""

from __future__ import annotations

import csv
import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import spamm
from familyseer.cli.main import main
from familyseer.errors import UserError
from familyseer.kernels import load
from familyseer.measure._jobs import Refused
from familyseer.measure._timing import RunPlan
from familyseer.records import RecordBook
from familyseer.spamm_tasks import Problem, SpammOptions, _jobs, tune_spamm
from familyseer.spamm_tasks._task import SpammTask
from spamm import _tuned, cpu
from tests.familyseer.cli.schemas import conforms


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPAMM_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def finished(matrices: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The options and the summary of a run that the command line was asked for."""
    folder = tmp_path_factory.mktemp("run")
    files = [str(folder / name) for name in ("a.npy", "b.npy")]
    for file, matrix in zip(files, matrices, strict=True):
        np.save(file, matrix)
    options = SpammOptions(folder / "out", 0.25, trials=4, workers=2)
    asked = ("--valid-ratio", "0.25", "--trials", "4", "--workers", "2", "--json")
    result = run(*files, *asked, "-o", str(options.out))
    assert result.exit_code == 0, result.output
    return options, json.loads(result.stdout)


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["spamm", "tune", *args])


def test_a_run_leaves_what_the_run_of_a_model_does(finished: Any) -> None:
    options, summary = finished
    assert json.loads((options.out / "summary.json").read_text()) == summary
    conforms(summary, "spamm-tune")
    assert (summary["trials"], summary["stopped_by"]) == (4, "trials")
    assert summary["build_errors"] + summary["run_errors"] == 0
    assert summary["speedup"] >= 1
    assert len(RecordBook(options.out / "tuning")) == 4
    with (options.out / "history.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert rows[-1]["trials"] == "4"
    assert {row["family"] for row in rows} == {"spamm"}
    assert (options.out / "costmodels" / "manifest.json").exists()


def test_what_a_run_left_is_exported_and_not_replayed(finished: Any, tmp_path: Path) -> None:
    options, summary = finished
    command = ["export", str(options.out), "--kernels", str(tmp_path / "kernels")]
    assert CliRunner().invoke(main, command).exit_code == 0
    (kernel,) = load(tmp_path / "kernels")
    assert kernel == summary["model"].replace(".", "_")
    refused = CliRunner().invoke(main, ["replay", str(options.out)])
    assert refused.exit_code == 2
    assert "is of `familyseer spamm tune`, which logs no decisions" in refused.stderr


def test_spamm_uses_what_was_found(finished: Any, matrices: tuple[Any, Any]) -> None:
    from spamm.cpu import _choice

    _, summary = finished
    (entry,) = _tuned.entries()
    assert dict(entry.config) == summary["config"]
    a, b = matrices
    plan = spamm.plan(a, b, valid_ratio=0.25, backend="cpu")
    assert isinstance(plan, spamm.Plan)
    assert plan.block == cpu.default_block(256, 256, 256, a.dtype) == entry.block
    config = _choice.config_of_plan(plan, "float32")
    assert (config.rows, config.vectors) == (entry.config["rows"], entry.config["vectors"])
    error = np.linalg.norm(spamm.matmul(a, b, valid_ratio=0.25, backend="cpu") - a @ b)
    assert error <= plan.error_bound + 1e-4 * np.linalg.norm(a @ b)


def test_a_run_is_resumed_for_the_same_matrices_only(
    finished: Any, matrices: tuple[Any, Any]
) -> None:
    options, summary = finished
    with pytest.raises(UserError, match="--resume"):
        tune_spamm(options, *matrices)
    with pytest.raises(UserError, match="another model"):
        tune_spamm(replace(options, resume=True), matrices[1], matrices[0])
    resumed = tune_spamm(replace(options, trials=2, resume=True), *matrices)
    assert resumed["trials_before"] == summary["trials"]
    assert resumed["trials"] == summary["trials"] + 2
    traces = (options.out / "tuning" / "database_tuning_record.json").read_text().splitlines()
    assert len({json.dumps(json.loads(line)[1][0]) for line in traces}) == 6


def test_an_interrupted_run_keeps_what_it_knows(matrices: tuple[Any, Any], tmp_path: Path) -> None:
    from familyseer.progress import Observer

    class Impatient(Observer):
        def on_round(self, event: Any) -> None:
            assert threading.current_thread() is threading.main_thread()
            os.kill(os.getpid(), signal.SIGINT)

    options = SpammOptions(tmp_path, 0.25, block=(32, 32, 32), trials=10, workers=2)
    summary = tune_spamm(options, *matrices, observer=Impatient())
    assert summary["stopped_by"] == "interrupt"
    assert 0 < summary["trials"] < 10
    assert summary["config"]["block"] == [32, 32, 32]


class TestWorkers:
    """Jobs, called here and not in another process."""

    @pytest.fixture
    def operands(
        self, tmp_path: Path, matrices: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
    ) -> str:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        _jobs.write_operands(tmp_path, *matrices)
        return str(tmp_path)

    def _build(self, task: SpammTask, config: Any, tau: float, operands: str) -> Any:
        return _jobs.build_on_cpu(config, tau, "float32", operands, operands, operands)

    def test_a_candidate_is_built_and_timed(self, task: SpammTask, operands: str) -> None:
        path, _ = self._build(task, task.default, task.tau(task.default), operands)
        plan = RunPlan(repeats=2, repeat_ms=0.1, working_set_bytes=1 << 20)
        seconds = _jobs.run_on_cpu(path, operands, plan)
        assert len(seconds) == 2
        assert all(s > 0 for s in seconds)

    def test_a_wrong_product_is_refused(
        self, task: SpammTask, operands: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, _ = self._build(task, task.default, task.tau(task.default), operands)
        right = cpu.multiply

        def wrong(a: Any, b: Any, plan: Any, out: Any, config: Any) -> None:
            right(a, b, plan, out, config)
            if plan.tau > 0:
                out *= 1.5

        monkeypatch.setattr(cpu, "multiply", wrong)
        with pytest.raises(ValueError, match="wrong by"):
            _jobs.run_on_cpu(path, operands, RunPlan())

    def test_what_the_generator_would_not_make_is_refused(
        self, task: SpammTask, operands: str
    ) -> None:
        found = self._build(task, {**task.default, "rows": 1000}, 0.0, operands)
        assert isinstance(found, Refused)

    def test_bfloat16_comes_back_as_it_was(self, tmp_path: Path) -> None:
        bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
        a = np.arange(6).reshape(2, 3).astype(bfloat16)
        _jobs.write_operands(tmp_path, a, a.T)
        for found, written in zip(_jobs.read_operands(str(tmp_path)), (a, a.T), strict=True):
            assert found.dtype == bfloat16
            np.testing.assert_array_equal(found, written)


class TestRefusals:
    """Wrong use of the command; a refused run leaves nothing."""

    @pytest.mark.parametrize(
        ("args", "told"),
        [
            (["--target", "cuda"], "GPU"),
            (["--target", '{"kind": "cuda", "arch": "sm_90"}'], "GPU"),
            (["--target", '{"kind": "llvm", "mcpu": "cortex-a72"}'], "target"),
            (["--valid-ratio", "1.5"], "valid-ratio"),
            (["--precision", "tf32"], "precision tf32"),
            (["--block", "0"], "--block 0"),
            (["missing.npy"], "missing.npy"),
        ],
    )
    def test_wrong_use_is_one_line_and_leaves_nothing(
        self, args: list[str], told: str, tmp_path: Path
    ) -> None:
        if told == "GPU" and os.path.exists("/dev/nvidiactl"):
            pytest.skip("this machine has a GPU")
        out = tmp_path / "out"
        size = [] if args == ["missing.npy"] else ["--size", "64"]
        result = run(*args, *size, "-o", str(out))
        assert result.exit_code == 2
        assert told in result.stderr
        assert "Traceback" not in result.stderr
        assert not out.exists()

    def test_a_ratio_that_equal_norms_forbid_is_told(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.ones((128, 128), dtype="float32"))
        result = run(str(tmp_path / "a.npy"), "-o", str(tmp_path / "out"), "--block", "32")
        assert result.exit_code == 2
        assert "ratio" in result.stderr


def test_a_problem_is_named_for_people(problem: Problem) -> None:
    assert problem.name == "spamm_256x256x256_float32_0.25"
    assert replace(problem, block=(32, 16, 8)).name.endswith("_b32x16x8")
