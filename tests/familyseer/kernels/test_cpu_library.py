"""Kernels of a CPU library, from Python and from C."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from familyseer.kernels import load

Rows = tuple[Any, Any, Any]
SOFTMAX = "fused_matmul_softmax"


def test_a_kernel_computes_what_its_subgraph_does(cpu_library: Path, rows: Rows) -> None:
    a, b, expected = rows
    kernel = load(cpu_library)[SOFTMAX]
    result = kernel(a, b)
    assert (result.shape, str(result.dtype)) == ((24, 40), "float32")
    np.testing.assert_allclose(result, expected, rtol=2e-5)


def test_a_given_output_is_written_and_given_back(cpu_library: Path, rows: Rows) -> None:
    a, b, expected = rows
    out = np.full((24, 40), np.nan, "float32")
    assert load(cpu_library)[SOFTMAX](a, b, out) is out
    np.testing.assert_allclose(out, expected, rtol=2e-5)


def test_names_that_c_has_already_are_usable(cpu_library: Path) -> None:
    kernel = load(cpu_library)["tanh"]
    assert [argument.name for argument in kernel.arguments] == ["x_double", "Y"]
    x = np.arange(32, dtype="float32")
    np.testing.assert_array_equal(kernel(x), 2 * x)


def test_sixteen_bit_floats_are_taken_as_they_are_and_bfloat16_as_bits(cpu_library: Path) -> None:
    library = load(cpu_library)
    half = np.linspace(-3, 3, 32).astype("float16")
    np.testing.assert_array_equal(library["half"](half), half + half)
    brain = np.linspace(-3, 3, 32).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(library["cast"](brain), brain + brain)
    bits = np.empty(32, "uint16")
    library["cast"](brain.view("uint16"), bits)
    np.testing.assert_array_equal(bits.view(ml_dtypes.bfloat16), brain + brain)


def test_a_library_says_what_it_holds(cpu_library: Path) -> None:
    library = load(cpu_library)
    assert library.names[0] == SOFTMAX, "that with the most time in the model is first"
    assert set(library) == {SOFTMAX, "cast", "half", "tanh"}
    assert "D: float32[24, 40]" in repr(library[SOFTMAX])
    with pytest.raises(KeyError, match="no kernel 'conv'"):
        library["conv"]


A, B = np.zeros((24, 48), "float32"), np.zeros((48, 40), "float32")
READ_ONLY = np.zeros((24, 40), "float32")
READ_ONLY.flags.writeable = False
SKEWED = np.zeros(24 * 48 * 4 + 1, "uint8")[1:].view("float32").reshape(24, 48)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ((A,), TypeError, "1 arrays, expected 2 inputs or all 3"),
        ((A, B[:, :39]), ValueError, r"'B' has shape \[48, 39\], expected float32\[48, 40\]"),
        ((A.astype("float64"), B), TypeError, r"'A' is float64, expected float32\[24, 48\]"),
        ((A, np.asfortranarray(B)), ValueError, "'B' is not contiguous, expected a row-major"),
        ((A.astype(">f4"), B), TypeError, "'A' is >f4"),
        ((SKEWED, B), ValueError, "'A' is not aligned"),
        ((A, B, READ_ONLY), ValueError, "'D' is an output and read-only"),
        ((A, B.tolist()), TypeError, "'B' is a list, expected a NumPy array"),
        ((A, B, A.reshape(-1)[: 24 * 40].reshape(24, 40)), ValueError, "share memory"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(
    cpu_library: Path, given: tuple[Any, ...], error: type[Exception], said: str
) -> None:
    kernel = load(cpu_library)[SOFTMAX]
    with pytest.raises(error, match=said) as refused:
        kernel(*given)
    assert SOFTMAX in str(refused.value)


def test_a_cpu_kernel_takes_no_stream(cpu_library: Path) -> None:
    with pytest.raises(TypeError, match="takes no stream"):
        load(cpu_library)[SOFTMAX](A, B, stream=object())


def test_several_threads_may_call_at_a_time(cpu_library: Path) -> None:
    kernel = load(cpu_library)[SOFTMAX]
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal((24, 48)).astype("float32") for _ in range(64)]
    b = rng.standard_normal((48, 40)).astype("float32")
    alone = [kernel(a, b) for a in inputs]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda a: kernel(a, b), inputs))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


RUN_AND_FORK = """
import os, signal, sys
import numpy as np
from familyseer.kernels import load
kernel = load(sys.argv[1])["fused_matmul_softmax"]
a, b = np.ones((24, 48), "float32"), np.ones((48, 40), "float32")
kernel(a, b)
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(0 if np.allclose(kernel(a, b), 1 / 40) else 1)
assert os.waitpid(child, 0)[1] == 0, "the forked child"
assert np.allclose(kernel(a, b), 1 / 40)
assert not {"tvm", "xgboost", "pycuda", "networkx"} & set(sys.modules)
"""


@pytest.mark.parametrize("threads", ["1", "7"])
def test_kernels_run_without_tvm_and_in_forked_children(cpu_library: Path, threads: str) -> None:
    subprocess.run(
        [sys.executable, "-c", RUN_AND_FORK, str(cpu_library)],
        check=True,
        timeout=60,
        env={**os.environ, "FS_NUM_THREADS": threads},
    )


def test_the_c_example_computes_what_the_kernel_does(
    cpu_library: Path, tmp_path: Path, rows: Rows
) -> None:
    a, b, expected = rows
    program = tmp_path / "example"
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
    linked = ["-L", str(cpu_library), "-lkernels", f"-Wl,-rpath,{cpu_library}"]
    source = str(cpu_library / "example.c")
    subprocess.run(["gcc", *strict, source, *linked, "-o", str(program)], check=True)
    a.tofile(tmp_path / "a")
    b.tofile(tmp_path / "b")
    subprocess.run([str(program), "a", "b", "out"], check=True, cwd=tmp_path)
    result = np.fromfile(tmp_path / "out", "float32").reshape(24, 40)
    np.testing.assert_allclose(result, expected, rtol=2e-5)
    np.testing.assert_array_equal(result, load(cpu_library)[SOFTMAX](a, b))
    short = subprocess.run(
        [str(program), "b", "a", "out"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert short.returncode == 1
    assert "a: expected 7680 bytes" in short.stderr


def test_the_header_is_cpp_too(cpu_library: Path) -> None:
    command = ["g++", "-x", "c++", "-Wall", "-Werror", "-fsyntax-only", "kernels.h"]
    subprocess.run(command, check=True, cwd=cpu_library)


def test_null_is_refused_in_c(cpu_library: Path) -> None:
    function = ctypes.CDLL(str(cpu_library / "libkernels.so")).fs_tanh
    assert function(None, None) == 1


def test_nothing_but_kernels_is_visible_or_needed(cpu_library: Path) -> None:
    def symbols(*options: str) -> list[str]:
        command = ["nm", "-D", *options, str(cpu_library / "libkernels.so")]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [line.split()[-1] for line in listed.splitlines()]

    assert {name.partition("_")[0] for name in symbols("--defined-only")} == {"fs"}
    assert not [name for name in symbols("--undefined-only") if "TVM" in name]
