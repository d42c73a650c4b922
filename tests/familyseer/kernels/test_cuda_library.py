"""Kernel libraries for CUDA: what is exported, and how it is launched. No GPU is needed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from familyseer.kernels import load
from familyseer.kernels._binaries import runs_cubin, runs_ptx
from familyseer.toolchain import find_toolkit
from tests.familyseer.kernels.pretend_pycuda import PretendedGpu, on_gpu

SOFTMAX = "fused_matmul_softmax"
Rows = tuple[Any, Any, Any]


def described(library: Path, name: str) -> dict[str, Any]:
    manifest = json.loads((library / "manifest.json").read_text())
    return next(kernel for kernel in manifest["kernels"] if kernel["name"] == name)


def test_launches_are_those_of_the_fastest_schedule(cuda_library: Path) -> None:
    kernel = described(cuda_library, SOFTMAX)
    assert [one["name"] for one in kernel["arguments"]] == ["A", "B", "D"]
    assert [one["role"] for one in kernel["arguments"]] == ["input", "input", "output"]
    launches = kernel["launches"]
    assert [one["grid"] for one in launches] == [[24, 1, 1]] * 4
    assert [one["block"][0] for one in launches] == [48, 40, 1, 40]
    # the copied row of the first input, 48 float32
    assert [one["shared_bytes"] for one in launches] == [192, 0, 0, 0]
    # the matmul's result and the sums live between the kernels
    assert kernel["workspace_bytes"] >= 24 * 40 * 4 + 24 * 4
    offsets = {p["workspace"] for one in launches for p in one["arguments"] if isinstance(p, dict)}
    assert len(offsets) == 2
    assert all(offset % 256 == 0 for offset in offsets)


def test_the_source_has_every_function_with_as_many_arguments(cuda_library: Path) -> None:
    for name in (SOFTMAX, "cast"):
        kernel = described(cuda_library, name)
        source = (cuda_library / kernel["source"]).read_text()
        heads = dict(re.findall(r"__global__ void .*?(\w+)\(([^)]*)\) \{", source))
        for launch in kernel["launches"]:
            assert len(heads[launch["function"]].split(",")) == len(launch["arguments"])


def test_binaries_are_for_the_target_and_for_later_gpus(cuda_library: Path) -> None:
    kernel = described(cuda_library, SOFTMAX)
    cubin = (cuda_library / kernel["cubin"]).read_bytes()
    assert cubin[:4] == b"\x7fELF"
    ptx = (cuda_library / kernel["ptx"]).read_text()
    # sm_90a's own features would bind it to that architecture
    assert re.search(r"^\.target sm_90$", ptx, re.MULTILINE)
    for launch in kernel["launches"]:
        assert launch["function"].encode() in cubin
        assert f".entry {launch['function']}(" in ptx


def test_what_a_launch_uses_is_said_and_spills_nothing(cuda_library: Path) -> None:
    used = [one["resources"] for one in described(cuda_library, SOFTMAX)["launches"]]
    if None in used:
        pytest.skip("cuobjdump is not installed")
    assert all(0 < one["registers"] <= 255 for one in used)
    assert [one["stack_bytes"] for one in used] == [0] * 4


def test_the_c_example_compiles_against_the_driver_api(cuda_library: Path) -> None:
    toolkit = find_toolkit()
    if toolkit is None or toolkit.include is None or not (toolkit.include / "cuda.h").is_file():
        pytest.skip("cuda.h is not installed")
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    command = ["gcc", *strict, "-isystem", str(toolkit.include), "example.c"]
    subprocess.run(command, check=True, cwd=cuda_library)


def test_without_pycuda_the_line_says_so(
    cuda_library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(ImportError, match="kernels for CUDA need PyCUDA") as refused:
        load(cuda_library)
    assert "\n" not in str(refused.value)


def test_numpy_arrays_go_to_the_gpu_and_back(cuda_library: Path, rows: Rows) -> None:
    a, b, expected = rows
    gpu = PretendedGpu((9, 0))
    with gpu.installed():
        library = load(cuda_library)
        out = np.empty((24, 40), "float32")
        assert library[SOFTMAX](a, b, out) is out
        np.testing.assert_allclose(library[SOFTMAX](a, b), expected, rtol=2e-5)
    np.testing.assert_allclose(out, expected, rtol=2e-5)
    assert gpu.loaded == [(cuda_library / f"{SOFTMAX}.cubin").read_bytes()]
    assert gpu.depth == 0, "a context that is left current would end the process at its exit"
    declared = described(cuda_library, SOFTMAX)["launches"]
    assert gpu.launches[:4] == [
        (one["function"], tuple(one["grid"]), tuple(one["block"]), None, one["shared_bytes"])
        for one in declared
    ]


def test_arrays_on_the_gpu_are_used_where_they_are(cuda_library: Path, rows: Rows) -> None:
    a, b, expected = rows
    gpu = PretendedGpu((9, 0))
    with gpu.installed():
        kernel = load(cuda_library)[SOFTMAX]
        result = kernel(on_gpu(a), on_gpu(b))
        np.testing.assert_allclose(result.values, expected, rtol=2e-5)
        out = on_gpu(np.empty((24, 40), "float32"))
        assert kernel(on_gpu(a), on_gpu(b), out) is out
    np.testing.assert_allclose(out.values, expected, rtol=2e-5)
    assert gpu.synchronized == 0, "nothing has to be waited for"


def test_arrays_on_the_gpu_that_do_not_fit_are_refused(cuda_library: Path, rows: Rows) -> None:
    a, b, _ = rows
    gpu = PretendedGpu((9, 0))
    with gpu.installed():
        kernel = load(cuda_library)[SOFTMAX]
        with pytest.raises(ValueError, match=r"'A' is not contiguous"):
            kernel(on_gpu(np.asfortranarray(a)), on_gpu(b))
        with pytest.raises(TypeError, match=r"'B' is float64, expected float32\[48, 40\]"):
            kernel(on_gpu(a), on_gpu(b.astype("float64")))
        with pytest.raises(TypeError, match="'B' is a str, expected an array in GPU memory"):
            kernel(on_gpu(a), "b")
    assert gpu.launches == []


def test_later_gpus_are_given_ptx_and_earlier_ones_refused(cuda_library: Path, rows: Rows) -> None:
    a, b, _ = rows
    later = PretendedGpu((12, 0))
    with later.installed():
        load(cuda_library)[SOFTMAX](a, b)
    assert later.loaded == [(cuda_library / f"{SOFTMAX}.ptx").read_bytes()]
    with PretendedGpu((8, 6)).installed(), pytest.raises(ValueError) as refused:
        load(cuda_library)
    line = "kernels for sm_90a, or PTX for compute_90 and later; this GPU is sm_86"
    assert str(refused.value) == f"{cuda_library}: {line}"


@pytest.mark.parametrize(
    ("arch", "capability", "runs"),
    [
        ("sm_80", (8, 0), True),
        ("sm_80", (8, 6), True),
        ("sm_86", (8, 0), False),
        ("sm_80", (9, 0), False),
        ("sm_90a", (9, 0), True),
        ("sm_100a", (10, 3), False),
        ("sm_100f", (10, 3), True),
        ("sm_120", (12, 1), True),
        ("gfx90a", (9, 0), False),
    ],
)
def test_a_cubin_runs_on_its_own_architecture(
    arch: str, capability: tuple[int, int], runs: bool
) -> None:
    assert runs_cubin(arch, capability) is runs


def test_ptx_runs_on_every_later_architecture() -> None:
    assert runs_ptx("compute_90", (9, 0))
    assert runs_ptx("compute_90", (10, 0))
    assert not runs_ptx("compute_90", (8, 9))
    assert not runs_ptx("compute_90a", (10, 0))
