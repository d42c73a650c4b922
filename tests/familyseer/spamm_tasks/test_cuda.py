"""CUDA kernels as candidates: compiled without a GPU, run on the emulated one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from familyseer.errors import UserError
from familyseer.measure._jobs import Refused
from familyseer.measure._timing import RunPlan
from familyseer.spamm_tasks import Problem, _cuda_jobs, _jobs
from familyseer.spamm_tasks._cuda import CudaKind
from familyseer.spamm_tasks._kinds import block_of
from familyseer.spamm_tasks._task import SpammTask
from familyseer.tvm_env import load_tvm
from spamm import _tuned
from spamm.generators import exponential_decay

SIZE = 160
ARCH = "sm_90"
GPU = "a GPU (sm_90)", ARCH


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPAMM_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def target() -> Any:
    return load_tvm().target.Target({"kind": "cuda", "arch": ARCH})


@pytest.fixture(scope="module")
def operands() -> tuple[Any, Any]:
    made = (exponential_decay(SIZE, base=0.9, dtype="float16", seed=seed) for seed in (0, 1))
    a, b = made
    return a, b


@pytest.fixture(scope="module")
def task(operands: tuple[Any, Any], target: Any) -> SpammTask:
    problem = Problem.of(*operands, 0.3, (32, 32, 32))
    return SpammTask(problem, CudaKind(problem, target, GPU), *operands)


def test_the_space_is_the_generators_and_the_default_is_in_it(task: SpammTask) -> None:
    from spamm.cuda._space import default

    assert task.default == default("float16", ARCH, (32, 32, 32), out="float16").to_dict()
    assert len(task.kind.configs) > 100
    assert {block_of(config) for config in task.kind.configs} == {(32, 32, 32)}
    assert {config["out"] for config in task.kind.configs} == {"float16"}
    features = task.features(task.kind.configs)
    assert np.isfinite(features.rows).all()
    assert np.isfinite(features.prior).all()
    assert len(np.unique(features.rows, axis=0)) == len(task.kind.configs)


@pytest.mark.parametrize(
    ("dtype", "block", "arch", "told"),
    [
        ("float64", None, ARCH, "float64"),
        ("float16", (33, 32, 32), ARCH, "block"),
        ("float16", None, "sm_100", "sm_100"),
    ],
)
def test_what_has_no_kernel_is_told(
    dtype: str, block: Any, arch: str, told: str, operands: tuple[Any, Any]
) -> None:
    problem = Problem((SIZE, SIZE, SIZE), dtype, 0.3, block, "")
    target = load_tvm().target.Target({"kind": "cuda", "arch": arch})
    with pytest.raises(UserError, match=told):
        CudaKind(problem, target, GPU)


def test_tf32_has_tensor_cores_and_is_for_float32_alone(target: Any) -> None:
    problem = Problem((SIZE, SIZE, SIZE), "float32", 0.3, (32, 32, 32), "", "tf32")
    units = {config["unit"] for config in CudaKind(problem, target, GPU).configs}
    assert units == {"tensor"}
    assert problem.name == "spamm_160x160x160_tf32_0.3_b32x32x32"
    with pytest.raises(UserError, match="precision tf32: expected float32"):
        CudaKind(replace(problem, dtype="float16"), target, GPU)


class TestBuilding:
    """Candidates compile here, or are refused for what the compiler says of them."""

    @pytest.fixture(autouse=True)
    def nvrtc(self) -> None:
        pytest.importorskip("cuda.bindings.nvrtc")

    def test_a_default_compiles(self, task: SpammTask, tmp_path: Path) -> None:
        folder = str(tmp_path)
        job = task.kind.build_job
        path, seconds = job(task.default, 0.5, "float16", folder, folder, folder)
        assert seconds > 0
        assert _cuda_jobs._candidate(path)[1] == 0.5

    def test_one_that_cannot_be_launched_is_refused(self, task: SpammTask, tmp_path: Path) -> None:
        folder = str(tmp_path)
        wide = {**task.default, "stages": 9}
        found = task.kind.build_job(wide, 0.5, "float16", folder, folder, folder)
        assert isinstance(found, Refused)
        assert "stages" in found.reason

    def test_one_that_spills_is_refused(
        self, task: SpammTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from spamm.cuda import _compile

        used = _compile.Resources(registers=255, stack_bytes=0, local_bytes=64, shared_bytes=0)
        monkeypatch.setattr(_compile, "resources", lambda _cubin: {"spamm_multiply": used})
        folder = str(tmp_path)
        found = task.kind.build_job(task.default, 0.5, "float16", folder, folder, folder)
        assert isinstance(found, Refused)
        assert "spills 64" in found.reason


class TestRunning:
    """The job that times candidates, on a GPU emulated by the CPU."""

    @pytest.fixture(autouse=True)
    def device(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        if shutil.which("g++") is None:
            pytest.skip("the emulator needs g++")
        from spamm.cuda import _device
        from tests.spamm.cuda.emulated_device import EmulatedDevice

        emulated = EmulatedDevice(0, arch=ARCH)
        monkeypatch.setattr(_device, "devices", lambda: (emulated,))
        for cached in (_jobs.read_operands, _cuda_jobs._operand_sets):
            cached.cache_clear()
        return emulated

    @pytest.fixture
    def candidate(self, task: SpammTask, operands: tuple[Any, Any], tmp_path: Path) -> str:
        _jobs.write_operands(tmp_path, *operands)
        folder = str(tmp_path)
        return _jobs.write_candidate(folder, task.default, task.tau(task.default), folder)

    def test_a_candidate_is_timed(self, candidate: str, device: Any) -> None:
        plan = RunPlan(repeats=2, repeat_ms=0.0)
        seconds = _cuda_jobs.run_on_cuda(candidate, "", plan)
        assert len(seconds) == 2
        # one to check it, one for each time
        assert device.launched("spamm_multiply") == 3

    def test_one_that_is_far_behind_is_timed_no_further(self, candidate: str, device: Any) -> None:
        assert len(_cuda_jobs.run_on_cuda(candidate, "", RunPlan(cutoff_s=1e-9))) == 1

    def test_a_wrong_product_is_refused(
        self, candidate: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from spamm.cuda import _runtime_engine as engine

        right = engine.multiply

        def wrong(a: Any, b: Any, c: Any, lists: Any, config: Any) -> None:
            right(a, a, c, lists, config)

        monkeypatch.setattr(engine, "multiply", wrong)
        with pytest.raises(ValueError, match="wrong by"):
            _cuda_jobs.run_on_cuda(candidate, "", RunPlan())

    def test_candidates_are_measured_in_turns(self, candidate: str) -> None:
        found = _cuda_jobs.duel_on_cuda({"one": candidate, "other": candidate}, "", 1)
        assert sorted(found) == ["one", "other"]

    def test_what_is_kept_is_what_the_runtime_looks_for(self, task: SpammTask, device: Any) -> None:
        from spamm.cuda import _runtime_choice as choice

        name, _ = _cuda_jobs.describe_gpu()
        other = next(c for c in task.kind.configs if c != task.default)
        _tuned.remember(
            _tuned.Tuned("cuda", name, "float16", task.problem.shape, 0.3, other, False, 1.0, 2.0)
        )
        sizes = (SIZE, SIZE, SIZE)
        used = choice.config_for(device, "float16", "float16", "tensor", sizes, (32, 32, 32), 0.3)
        assert used.to_dict() == other
