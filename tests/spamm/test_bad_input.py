"""What cannot be multiplied is refused in one line that names the argument."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import spamm
from spamm import _backends

_A, _B = np.ones((4, 6)), np.ones((6, 5))


def _refused(error: type[Exception], message: str, *args: Any, **options: Any) -> None:
    options = {"tau": 0.0, "backend": "numpy", **options}
    with pytest.raises(error, match=message) as caught:
        spamm.matmul(*args, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (_A.astype(int), _B.astype(int), r"^a: expected elements of type float16.*, got int64$"),
        (_A, _B.astype(bool), r"^b: expected elements of type float16.*, got bool$"),
        (_A.astype(complex), _B, r"^a: expected elements of type .*, got complex128$"),
        (_A.astype(np.longdouble), _B, r"^a: expected elements of type"),
        (_A, _B.astype(np.float32), r"^b: expected the type of a, float64, got float32$"),
        (_A, _A, r"^a, b: expected shapes .*, got \(4, 6\) and \(4, 6\)$"),
        (_A[0], _B, r"^a: expected at least two dimensions, got shape \(6,\)$"),
        (_A, np.float64(1), r"^b: expected a NumPy array, got float64$"),
        (_A.tolist(), _B, r"^a: expected a NumPy array, got list$"),
        (np.ma.masked_array(_A), _B, r"^a: expected an array without a mask, got MaskedArray$"),
        (
            np.ones((2, 4, 6)),
            np.ones((3, 6, 5)),
            r"^a, b: expected batch dimensions that broadcast, got",
        ),
    ],
)
def test_operands(a: Any, b: Any, message: str) -> None:
    _refused(ValueError, message, a, b)
    with pytest.raises(ValueError, match=message):
        spamm.plan(a, b, tau=0.0, backend="numpy")


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ({"tau": None}, r"^tau, valid_ratio, max_rel_error: expected exactly one .*, got none$"),
        ({"valid_ratio": 0.5}, r"exactly one of them, got tau and valid_ratio$"),
        ({"tau": -1.0}, r"^tau: expected a finite number of at least 0, got -1\.0$"),
        ({"tau": True}, r"^tau: expected a finite number of at least 0, got True$"),
        ({"tau": float("nan")}, r"^tau: expected a finite number of at least 0, got nan$"),
        ({"tau": float("inf")}, r"^tau: expected a finite number"),
        ({"tau": "small"}, r"^tau: expected a finite number of at least 0, got 'small'$"),
        (
            {"tau": None, "valid_ratio": 1.5},
            r"^valid_ratio: expected a number above 0 and at most 1, got 1\.5$",
        ),
        ({"tau": None, "valid_ratio": 0}, r"^valid_ratio: expected a number above 0"),
        ({"tau": None, "max_rel_error": -1e-3}, r"^max_rel_error: expected a number of at least"),
        ({"tau": None, "max_rel_error": 1.0}, r"^max_rel_error: .* below 1, got 1\.0$"),
        ({"tau": None, "max_rel_error": float("nan")}, r"^max_rel_error: expected"),
    ],
)
def test_criteria(criteria: dict[str, Any], message: str) -> None:
    _refused(ValueError, message, _A, _B, **criteria)


@pytest.mark.parametrize("block", [0, -4, 2.5, "8", (8, 8), (8, 8, 0), ((1, 2), 3, 4), [[8], 8]])
def test_block(block: Any) -> None:
    _refused(ValueError, r"^block: expected a positive integer or three", _A, _B, block=block)


def _read_only() -> Any:
    out = np.empty((4, 5))
    out.flags.writeable = False
    return out


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.empty((4, 4)), r"^out: expected a NumPy array of shape \(4, 5\), got \(4, 4\)$"),
        ([[0.0] * 5] * 4, r"^out: expected a NumPy array of shape \(4, 5\), got list$"),
        (np.empty((4, 5), dtype=np.float16), r"^out: expected type float32, .*, got float16$"),
        (np.empty((4, 5), dtype=int), r"^out: expected type float32"),
        (_read_only(), r"^out: expected an array that can be written to$"),
        (
            np.lib.stride_tricks.as_strided(np.empty(5), (4, 5), (0, 8)),
            r"^out: expected elements that do not share memory",
        ),
    ],
)
def test_out(out: Any, message: str) -> None:
    _refused(ValueError, message, _A, _B, out=out)


def test_out_that_overlaps_an_operand() -> None:
    buffer = np.ones((6, 6))
    for out in (buffer, buffer.T, buffer[::-1]):
        _refused(ValueError, r"^out: expected memory of its own", buffer, np.eye(6), out=out)
        _refused(ValueError, r"^out: expected memory of its own", np.eye(6), buffer, out=out)
    # columns in turn lie among each other without sharing an element
    both = np.ones((6, 12))
    c = spamm.matmul(both[:, ::2], np.eye(6), tau=0.0, backend="numpy", out=both[:, 1::2])
    np.testing.assert_array_equal(c, np.ones((6, 6)))


def test_precision() -> None:
    _refused(
        ValueError, r"^precision: expected None or 'tf32', got 'half'$", _A, _B, precision="half"
    )
    _refused(ValueError, r"^precision: 'tf32' expects float32 matrices", _A, _B, precision="tf32")


def test_a_plan_of_another_shape_or_batch() -> None:
    plan = spamm.plan(_A, _B, tau=0.0, backend="numpy")
    with pytest.raises(ValueError, match=r"^plan: it is for matrices \(4, 6\) and \(6, 5\), got"):
        spamm.multiply(plan, _B.T @ _B, _B.T, backend="numpy")
    with pytest.raises(ValueError, match=r"^plan: it is for batch dimensions \(\), got \(2,\)$"):
        spamm.multiply(plan, np.stack([_A, _A]), _B, backend="numpy")
    with pytest.raises(ValueError, match=r"^plan: expected a plan of spamm\.plan, got dict$"):
        spamm.multiply({}, _A, _B, backend="numpy")  # type: ignore[arg-type]
    batch = spamm.plan(np.stack([_A, _A]), _B, tau=0.0, backend="numpy")
    with pytest.raises(ValueError, match=r"^plan: it is for batch dimensions \(2,\), got \(\)$"):
        spamm.multiply(batch, _A, _B, backend="numpy")


def test_a_backend_that_is_not_known() -> None:
    _refused(
        ValueError,
        r"^backend: expected one of 'auto', 'numpy', 'cpu', 'cuda', got 'fpga'$",
        _A,
        _B,
        backend="fpga",
    )


def test_a_backend_whose_needs_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_backends._MODULES, "cpu", "spamm.not_there")
    _refused(RuntimeError, r"^backend: 'cpu' needs apache-tvm.*not_there", _A, _B, backend="cpu")
    # what is chosen automatically falls back to what is there
    np.testing.assert_allclose(spamm.matmul(_A, _B, tau=0.0), _A @ _B)


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has a GPU")
def test_cuda_without_a_gpu() -> None:
    _refused(
        RuntimeError, r"^backend: 'cuda' needs pycuda and a CUDA driver", _A, _B, backend="cuda"
    )


def test_block_sizes_that_a_backend_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = _backends.load("numpy")
    monkeypatch.setattr(reference, "supports", lambda block, dtype: "block: only multiples of 16")
    _refused(ValueError, r"^backend: 'numpy' cannot do this: block: only multiples of 16$", _A, _B)


class _OnDevice:
    __cuda_array_interface__: ClassVar = {
        "shape": (4, 4),
        "typestr": "<f4",
        "data": (0, True),
        "version": 3,
    }


def test_arrays_on_a_device_go_to_its_backend_alone() -> None:
    with pytest.raises(ValueError, match=r"^backend: arrays on a device expect 'auto' or 'cuda'"):
        spamm.matmul(_OnDevice(), _OnDevice(), tau=0.0, backend="numpy")


def test_importing_needs_numpy_alone() -> None:
    code = (
        "import sys, numpy; numpy_needs = set(sys.modules)\n"
        "import spamm; spamm.matmul, spamm.Plan\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - numpy_needs}\n"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "['numpy', 'spamm']"
