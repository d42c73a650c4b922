"""What cannot run on a GPU is refused in one line that says what was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import spamm
from tests.spamm.cuda.emulated_device import EmulatedDevice, Foreign
from tests.spamm.cuda.emulator import needs_compiler

pytestmark = needs_compiler

Array = npt.NDArray[Any]
Gpus = tuple[EmulatedDevice, ...]
Decaying = Callable[..., Array]


def test_too_little_memory_is_said(
    gpus: Gpus, decaying: Decaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = decaying(64, 64, np.float32)
    monkeypatch.setattr(gpus[0], "_free", 20000)
    with pytest.raises(RuntimeError, match=r"^backend: GPU 0 has too little memory: \d+ bytes"):
        spamm.matmul(a, a, tau=0.0, backend="cuda")


def test_bad_input_is_refused_in_one_line(gpus: Gpus) -> None:
    host = np.ones((64, 64), np.float32)
    here, there = (Foreign(gpu, host) for gpu in gpus[:2])
    half = Foreign(gpus[0], host.astype(np.float16))

    def refused(match: str, a: Any, b: Any, **options: Any) -> None:
        if "valid_ratio" not in options:
            options["tau"] = 0.0
        with pytest.raises(ValueError, match=match) as error:
            spamm.matmul(a, b, **options)
        assert "\n" not in str(error.value)

    refused(r"^a, b: expected both on a GPU .*host's memory and on a GPU$", host, here)
    refused(r"^b: expected an array on GPU 0, it is on GPU 1$", here, there)
    refused(r"^b: expected the type of a, float32, got float16$", here, half)
    refused(r"^a, b: expected shapes", here, Foreign(gpus[0], host[:32].copy()))
    refused(r"^a: expected at least two dimensions", Foreign(gpus[0], host[0].copy()), here)
    refused(r"^out: expected an array on GPU 0, got ndarray$", here, here, out=host)
    refused(r"^out: expected an array on GPU 0, it is on GPU 1$", here, here, out=there)
    refused(r"^out: expected type float32", here, here, out=half)
    refused(r"^out: expected memory of its own", here, here, out=here)
    refused(r"^out: expected a NumPy array", host, host, out=here, backend="cuda")
    integers = Foreign(gpus[0], np.ones((64, 64), np.int32))
    refused(r"^a: expected elements of type float16, .*, got int32$", integers, integers)
    double = np.ones((64, 64))
    refused(r"^dtype: backend 'cuda' multiplies .*, got float64$", double, double, backend="cuda")
    wide = Foreign(gpus[0], double)
    refused(r"^dtype: backend 'cuda' multiplies .*, got float64$", wide, wide)
    refused(r"^backend: 'cuda' cannot do this: block:", here, here, block=48)
    refused(r"^backend: 'cuda' cannot do this: block:", host, host, block=2048, backend="cuda")
    refused(r"^devices: expected GPUs of this machine, 0, 1, 2, 3, got 7$", host, host, devices=[7])
    refused(r"^devices: expected different numbers", host, host, devices=[0, 0])
    refused(r"^devices: expected GPU 0, where a and b are, among", here, here, devices=[1, 2])
    refused(r"^backend: devices expect 'auto' or 'cuda'", host, host, devices=[0], backend="numpy")
    refused(r"^valid_ratio: expected", here, here, valid_ratio=1.5)
    refused(r"^precision: 'tf32' expects float32", half, half, precision="tf32")
    locked = Foreign(gpus[0], host, data=(there.__cuda_array_interface__["data"][0], True))
    refused(r"^out: expected an array on GPU 0", here, here, out=locked)
    plan = spamm.plan(host, host, tau=0.0, block=48, backend="numpy")
    with pytest.raises(ValueError, match=r"^plan: backend 'cuda' cannot use it: block"):
        spamm.multiply(plan, here, here)
    plan = spamm.plan(host[:32], host, tau=0.0, block=32, backend="numpy")
    with pytest.raises(ValueError, match=r"^plan: it is for matrices \(32, 64\) and \(64, 64\)"):
        spamm.multiply(plan, here, here)
