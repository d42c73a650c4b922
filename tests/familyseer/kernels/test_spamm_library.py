"""Kernels of `familyseer spamm tune`: exported, and called on the lists of a plan."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spamm
from familyseer.errors import UserError
from familyseer.export.kernels import export_kernels
from familyseer.kernels import load
from familyseer.toolchain import find_toolkit
from spamm.cuda._config import SHARED_LIMIT, MultiplyConfig
from spamm.generators import exponential_decay
from tests.familyseer.kernels.emulating_gpu import EmulatingGpu

SHAPE = 130, 120, 152
NAME = "spamm_130x120x152_0_3"
WIDE = MultiplyConfig("float16", "float16", "tensor", (32, 32, 32), (64, 64, 32), (2, 2), 2)
HOPPER = json.dumps({"kind": "cuda", "arch": "sm_90", "host": {"kind": "llvm"}})


def out_of(folder: Path, target: str, dtype: str, config: dict[str, Any], **more: Any) -> Path:
    """What `familyseer spamm tune` leaves, as far as an export reads it."""
    folder.mkdir(parents=True)
    summary = {
        "model": "spamm_130x120x152_0.3",
        "digest": "ab",
        "target": target,
        "device": "this one",
        "versions": {},
        "shape": SHAPE,
        "dtype": dtype,
        "wanted_valid_ratio": 0.3,
        "config": config,
        "tuned_us": 12.5,
    }
    (folder / "summary.json").write_text(json.dumps({**summary, **more}))
    return folder


def on_cpu(folder: Path, cpu: Any, dtype: str) -> Path:
    from spamm.cpu._config import default_config, host_target

    return out_of(folder, str(cpu), dtype, asdict(default_config(dtype, host_target())))


def for_cuda(folder: Path) -> Path:
    return out_of(folder, HOPPER, "float16", WIDE.to_dict())


def operands(dtype: str) -> tuple[Any, Any]:
    m, k, n = SHAPE
    a, b = (exponential_decay(160, base=0.93, seed=seed, dtype=dtype) for seed in (0, 1))
    return np.ascontiguousarray(a[:m, :k]), np.ascontiguousarray(b[:k, :n])


def planned(a: Any, b: Any, block: Any) -> Any:
    return spamm.plan(a, b, valid_ratio=0.3, block=block, backend="numpy")


def right(plan: Any, a: Any, b: Any) -> Any:
    """The plan's products, of operands that need not be rounded to be added up in float32."""
    wide = np.float64 if a.dtype == np.float64 else np.float32
    return spamm.multiply(plan, a, b, backend="numpy", out=np.empty((len(a), b.shape[1]), wide))


@pytest.fixture(scope="module")
def single(cpu: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of a float32 product on this machine's CPU."""
    folder = tmp_path_factory.mktemp("spamm")
    export_kernels(on_cpu(folder / "out", cpu, "float32"), folder / "library")
    return folder / "library"


def test_a_kernel_on_a_cpu_multiplies_what_a_plan_keeps(single: Path) -> None:
    library = load(single)
    assert library.names == (NAME,)
    a, b = operands("float32")
    (described,) = json.loads((single / "manifest.json").read_text())["kernels"]
    assert described["tuned_us"] == pytest.approx(12.5)
    assert described["checked"]
    plan = planned(a, b, described["spamm"]["block"])
    assert list(plan.grid) == described["spamm"]["grid"]
    assert 0 < plan.blocks_valid < plan.blocks_total
    out = np.full((130, 152), np.nan, "float32")
    assert library[NAME](a, b, plan.offsets, plan.ks, out) is out
    np.testing.assert_allclose(out, right(plan, a, b), rtol=1e-5, atol=1e-5)
    nothing = np.zeros_like(plan.offsets), plan.ks[:0]
    assert not library[NAME](a, b, *nothing).any(), "no product is kept"


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_types_are_added_up_as_spamm_does(cpu: Any, dtype: str, tmp_path: Path) -> None:
    export_kernels(on_cpu(tmp_path / "out", cpu, dtype), tmp_path / "library")
    kernel = load(tmp_path / "library")[NAME]
    a, b = operands(dtype)
    (described,) = json.loads((tmp_path / "library" / "manifest.json").read_text())["kernels"]
    plan = planned(a, b, described["spamm"]["block"])
    found, expected = kernel(a, b, plan.offsets, plan.ks), right(plan, a, b)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_lists_that_are_too_long_are_refused_by_name(single: Path) -> None:
    kernel = load(single)[NAME]
    a, b = operands("float32")
    most = kernel.arguments[3].shape[0]
    offsets = np.zeros(kernel.arguments[2].shape, "int64")
    with pytest.raises(ValueError, match=rf"'ks' .* expected int32\[{most}\] or shorter"):
        kernel(a, b, offsets, np.zeros(most + 1, "int32"))
    with pytest.raises(ValueError, match="'offsets' has shape"):
        kernel(a, b, offsets[:-1], np.zeros(most, "int32"))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_the_c_example_multiplies_what_a_plan_keeps(single: Path, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    shutil.copytree(single, folder)
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
    link = ["-L.", "-lkernels", "-Wl,-rpath,$ORIGIN", "-o", "example"]
    subprocess.run(["gcc", *strict, "example.c", *link], cwd=folder, check=True)
    a, b = operands("float32")
    (described,) = json.loads((single / "manifest.json").read_text())["kernels"]
    plan = planned(a, b, described["spamm"]["block"])
    files = {"a": a, "b": b, "offsets": plan.offsets, "ks": plan.ks}
    for name, array in files.items():
        array.tofile(folder / name)
    subprocess.run(["./example", *files, "c"], cwd=folder, check=True)
    found = np.fromfile(folder / "c", "float32").reshape(130, 152)
    np.testing.assert_allclose(found, right(plan, a, b), rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of a float16 product for a GPU that is not here."""
    pytest.importorskip("cuda.bindings.nvrtc")
    folder = tmp_path_factory.mktemp("spamm-cuda")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPAMM_CACHE", str(folder / "cache"))
        export_kernels(for_cuda(folder / "out"), folder / "library")
    return folder / "library"


def test_a_cuda_library_says_all_that_a_launch_needs(cuda: Path) -> None:
    (kernel,) = json.loads((cuda / "manifest.json").read_text())["kernels"]
    assert (cuda / kernel["cubin"]).read_bytes()[:4] == b"\x7fELF"
    assert ".target sm_90" in (cuda / kernel["ptx"]).read_text()
    assert [one["name"] for one in kernel["arguments"]] == ["a", "b", "offsets", "ks", "c"]
    assert "lists" in kernel["multiprocessors"]["reason"]
    order, multiply = kernel["launches"]
    assert order["grid"] == [1, 1, 1]
    assert multiply["grid"] == [3 * 3, 1, 1], "a thread block for each tile of 64 x 64"
    assert multiply["arguments"] == [
        *("a", "b", "c", {"int32": 130}, {"int32": 120}, {"int32": 152}),
        *({"int64": 120}, {"int64": 152}, {"int64": 152}, "offsets", "ks", {"workspace": 0}),
        *({"int32": 9}, None),
    ]
    assert kernel["workspace_bytes"] >= 9 * 4
    source = (cuda / kernel["source"]).read_text()
    for launch in (order, multiply):
        assert f" {launch['function']}(" in source
        used = launch["resources"]
        if used is not None:
            static = used["static_shared_bytes"]
            assert used["stack_bytes"] == 0, "nothing is spilled"
            assert static + launch["shared_bytes"] <= SHARED_LIMIT["sm_90"]
            assert used["registers"] * np.prod(launch["block"]) <= 65536


@pytest.mark.skipif(shutil.which("g++") is None, reason="the emulator needs g++")
def test_a_cuda_library_multiplies_what_a_plan_keeps(cuda: Path) -> None:
    a, b = operands("float16")
    plan = planned(a, b, (32, 32, 32))
    gpu = EmulatingGpu(cuda / f"{NAME}.cu")
    with gpu.installed():
        found = load(cuda)[NAME](a, b, plan.offsets, plan.ks)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, right(plan, a, b), rtol=2e-3, atol=2e-3)
    assert [name for name, *_ in gpu.launches] == ["spamm_order", "spamm_multiply"]


def test_arrays_on_a_gpu_must_be_aligned_for_its_loads(cuda: Path) -> None:
    a, b = operands("float16")
    plan = planned(a, b, (32, 32, 32))
    gpu = EmulatingGpu(cuda / f"{NAME}.cu")
    with gpu.installed(), pytest.raises(ValueError, match=r"'a' is not aligned .* that 16 divides"):
        load(cuda)[NAME](gpu.shifted(a, 2), b, plan.offsets, plan.ks)


def test_the_cuda_header_passes_numbers_by_value(cuda: Path) -> None:
    toolkit = find_toolkit()
    if toolkit is None or toolkit.include is None or not (toolkit.include / "cuda.h").is_file():
        pytest.skip("cuda.h is not installed")
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    command = ["gcc", *strict, "-isystem", str(toolkit.include), "example.c"]
    subprocess.run(command, check=True, cwd=cuda)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": None}, "no kernel could be measured in that run"),
        ({"shape": [1, 2]}, "does not describe its product"),
        ({"dtype": "int8"}, "does not describe its product"),
        ({"config": {"block": [64, 64, 64]}}, "none of spamm's kernels for this machine's CPU"),
        ({"target": HOPPER, "config": {"block": [64, 64, 64]}}, "missing or unknown fields"),
        ({"target": HOPPER, "config": WIDE.to_dict()}, "dtype float16 is not that of the product"),
    ],
)
def test_a_damaged_summary_is_named_in_one_line(
    cpu: Any, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    out = on_cpu(tmp_path / "out", cpu, "float32")
    summary = json.loads((out / "summary.json").read_text())
    (out / "summary.json").write_text(json.dumps({**summary, **changes}))
    with pytest.raises(UserError, match=said) as told:
        export_kernels(out, tmp_path / "library")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "library").exists()


def test_layers_that_spamm_took_over_are_told_of(
    cpu_out: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    shutil.copytree(cpu_out, out)
    summary = json.loads((out / "summary.json").read_text())
    summary["spamm"] = {"layers": [{"name": "fc1"}, {"name": "fc2"}]}
    (out / "summary.json").write_text(json.dumps(summary))
    export_kernels(out, tmp_path / "library")
    (line,) = (one for one in caplog.messages if "SpAMM" in one)
    assert "in model.so alone" in line
    assert line.endswith("fc1, fc2")
