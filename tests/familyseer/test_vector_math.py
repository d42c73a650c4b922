"""exp, log, tanh, erf, sigmoid, whole powers in plain arithmetic: how right they are, and where."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import familyseer
from familyseer.export._kernels._cpu import LIBRARY
from familyseer.export.kernels import export_kernels
from familyseer.models import load_model
from familyseer.subgraphs import fuse
from familyseer.tvm_env import load_tvm
from familyseer.vector_math import vectorisable

# of every sign and exponent, and more of where networks are
SAMPLES = np.concatenate(
    [
        np.arange(0, 2**32, 32749, dtype=np.uint64).astype(np.uint32).view(np.float32),
        np.random.default_rng(0).normal(scale=4, size=50_000).astype(np.float32),
        np.linspace(-110, 110, 50_001, dtype=np.float32),
        np.array([0.0, -0.0, np.inf, -np.inf, np.nan], dtype=np.float32),
    ]
)
# as the docstring promises
MOST_ULP = {"exp": 2, "log": 2, "tanh": 8, "erf": 8, "sigmoid": 8}


def sigmoid(x: float) -> float:
    return 0.0 if x < -700 else 1 / (1 + math.exp(-x))


def exponential(x: float) -> float:
    return math.inf if x > 700 else math.exp(x)


def logarithm(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf if x == 0 else math.nan


TRUE: dict[str, Callable[[float], float]] = {
    "exp": exponential,
    "log": logarithm,
    "tanh": math.tanh,
    "erf": math.erf,
    "sigmoid": sigmoid,
}


def elementwise(compute: Callable[[Any], Any], count: int, dtype: str = "float32") -> Any:
    te = load_tvm().te
    x = te.placeholder((count,), dtype, name="x")
    return load_tvm().IRModule(
        {"main": te.create_prim_func([x, te.compute((count,), lambda i: compute(x[i]), name="y")])}
    )


def vectorised(mod: Any) -> Any:
    schedule = load_tvm().s_tir.Schedule(mod)
    (loop,) = schedule.get_loops(schedule.get_sblock("y"))
    schedule.vectorize(schedule.split(loop, [None, 16])[1])
    return schedule.mod


def run(mod: Any, target: Any, x: Any) -> Any:
    tvm = load_tvm()
    tensors = [tvm.runtime.tensor(x), tvm.runtime.empty(x.shape, str(x.dtype))]
    tvm.driver.build(mod, target=target)["main"](*tensors)
    return tensors[1].numpy()


def ulps(got: Any, true: Any) -> Any:
    """By how many units in the last place results are off; NaN and infinities must be the same."""
    with np.errstate(over="ignore"):
        rounded = true.astype(np.float32)
    rest = np.isfinite(rounded)
    np.testing.assert_array_equal(got[~rest], rounded[~rest])
    return np.abs(got[rest].astype(np.float64) - true[rest]) / np.spacing(np.abs(rounded[rest]))


@pytest.mark.parametrize("loops", [lambda mod: mod, vectorised], ids=["scalar", "vector"])
@pytest.mark.parametrize("plain", [False, True], ids=["this-processor", "any-processor"])
@pytest.mark.parametrize("name", TRUE)
def test_results_are_right_to_a_few_units_in_the_last_place(
    cpu: Any, name: str, plain: bool, loops: Callable[[Any], Any]
) -> None:
    # without an instruction for a product and a sum at once, both are rounded
    target = load_tvm().target.Target({"kind": "llvm"}) if plain else cpu
    x = np.resize(SAMPLES, len(SAMPLES) // 16 * 16 + 16)
    mod = loops(elementwise(getattr(load_tvm().tirx, name), len(x)))
    got = run(vectorisable(mod, target), target, x)
    true = np.array([TRUE[name](float(one)) for one in x])
    off = ulps(got, true)
    if name == "sigmoid":
        # 1 + exp(-x) overflows, as in TVM's own, for what is next to nothing anyway
        off = off[np.abs(true[np.isfinite(true)]) > 1e-37]
    assert off.max() <= MOST_ULP[name]


def test_what_is_between_minus_one_and_one_stays_there(cpu: Any) -> None:
    x = np.linspace(-12, 12, 400_000, dtype=np.float32)
    for name in ("tanh", "erf"):
        mod = vectorisable(elementwise(getattr(load_tvm().tirx, name), len(x)), cpu)
        assert np.abs(run(mod, cpu, x)).max() == 1


@pytest.mark.parametrize("power", [2, 3, 5, 8])
def test_whole_powers_are_products(cpu: Any, power: int) -> None:
    tirx = load_tvm().tirx
    x = np.random.default_rng(0).normal(scale=3, size=4096).astype(np.float32)
    mod = elementwise(lambda v: tirx.pow(v, tirx.const(float(power), "float32")), len(x))
    changed = vectorisable(mod, cpu)
    assert "T.pow" not in changed.script()
    assert ulps(run(changed, cpu, x), x.astype(np.float64) ** power).max() <= 8


def test_what_is_not_for_it_stays(cpu: Any) -> None:
    tirx = load_tvm().tirx
    kept = [
        elementwise(tirx.exp, 8, "float64"),
        elementwise(tirx.log2, 8),
        elementwise(lambda v: tirx.pow(v, tirx.const(0.5, "float32")), 8),
        elementwise(lambda v: tirx.pow(v, tirx.const(9.0, "float32")), 8),
        elementwise(lambda v: tirx.pow(tirx.const(2.0, "float32"), v), 8),
    ]
    for mod in kept:
        assert vectorisable(mod, cpu).same_as(mod)
    gpu = load_tvm().target.Target({"kind": "cuda", "arch": "sm_90"})
    mod = elementwise(tirx.exp, 8)
    assert vectorisable(mod, gpu).same_as(mod)


def test_of_functions_inside_one_another_the_inner_ones_are_changed(cpu: Any) -> None:
    tirx = load_tvm().tirx

    def nested(v: Any) -> Any:
        for _ in range(6):
            v = tirx.exp(tirx.tanh(v))
        return v

    mod = elementwise(nested, 64)
    changed = vectorisable(mod, cpu)
    text = changed.script()
    assert (text.count("T.tanh"), text.count("T.exp")) == (4, 5)
    x = np.linspace(-1, 1, 64, dtype=np.float32)
    np.testing.assert_allclose(run(changed, cpu, x), run(mod, cpu, x), rtol=1e-5)


def test_the_module_that_it_is_given_stays(cpu: Any) -> None:
    fused = fuse(load_model("gpt2_small").mod, cpu)
    before = load_tvm().ir.save_json(fused)
    changed = vectorisable(fused, cpu)
    assert load_tvm().ir.save_json(fused) == before
    assert "T.tanh" in fused.script()
    assert "T.tanh" not in changed.script()


@pytest.mark.parametrize("exact", [False, True])
def test_a_run_ships_it_unless_told_not_to(
    softmax_model: Any, cpu: Any, tmp_path: Path, exact: bool
) -> None:
    familyseer.tune(
        softmax_model, budget=60, trials=4, target=cpu, out=tmp_path / "out", exact_math=exact
    )
    export_kernels(tmp_path / "out", tmp_path / "kernels")
    for library in (tmp_path / "out" / "model.so", tmp_path / "kernels" / LIBRARY):
        calls_the_c_library = b"\0expf\0" in library.read_bytes()
        assert calls_the_c_library == exact
