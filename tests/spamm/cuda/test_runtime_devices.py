"""One product on several GPUs: the result of one, and no more data moved than is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

import spamm
from spamm.cuda import _multi
from tests.spamm.cuda.emulated_device import EmulatedDevice, Foreign
from tests.spamm.cuda.emulator import needs_compiler
from tests.spamm.cuda.test_runtime import BLOCK, close, exact, kept_only

pytestmark = needs_compiler

Array = npt.NDArray[Any]
Gpus = tuple[EmulatedDevice, ...]
Decaying = Callable[..., Array]


def moved(gpu: EmulatedDevice) -> list[tuple[int, int]]:
    """From which GPU, and how many bytes, for each copy to a GPU."""
    return [(entry[1], entry[2]) for entry in gpu.log if entry[0] == "copy"]


@pytest.mark.parametrize("devices", [[0], [1, 0], [2, 0, 3], [0, 1, 2, 3]])
def test_any_number_of_gpus_gives_the_product_of_one(
    gpus: Gpus, decaying: Decaying, devices: list[int]
) -> None:
    a, b = decaying(200, 144, np.float32), decaying(144, 104, np.float32, seed=1)
    plan = spamm.plan(a, b, valid_ratio=0.3, block=BLOCK, backend="cuda")
    host = spamm.multiply(plan, a, b, devices=devices)
    close(host, kept_only(a, b, plan))
    home = gpus[devices[-1]]
    got = spamm.matmul(
        Foreign(home, a), Foreign(home, b), valid_ratio=0.3, block=BLOCK, devices=devices
    )
    close(got, kept_only(a, b, plan))
    # each of them did something
    assert all(gpus[number].launched("spamm_multiply") for number in devices)


def test_rows_of_blocks_that_are_cut_meet_again_in_results_of_every_layout(
    gpus: Gpus, decaying: Decaying
) -> None:
    a, b = decaying(40, 96, np.float32), decaying(96, 168, np.float32, seed=1)
    plan = spamm.plan(a, b, valid_ratio=0.5, block=BLOCK, backend="numpy")
    slices = _multi.slices_of(plan, 4)
    assert any(piece.columns != (0, 6) for each in slices for piece in each.pieces)
    on_gpu = Foreign(gpus[2], np.asfortranarray(a)), Foreign(gpus[2], b)
    for into in (
        np.zeros((168, 40), np.float64).T,
        np.zeros((40, 200), np.float32)[:, 8:-24],
    ):
        out = Foreign(gpus[2], into)
        assert spamm.multiply(plan, *on_gpu, out=out, devices=[0, 1, 2, 3]) is out
        close(out.values, kept_only(a, b, plan))


def test_half_precision_batches_and_guarantees_on_several_gpus(
    gpus: Gpus, decaying: Decaying
) -> None:
    a = np.stack([decaying(72, 64, ml_dtypes.bfloat16, seed=s) for s in range(2)])
    b = decaying(64, 64, ml_dtypes.bfloat16, seed=7)
    got = spamm.matmul(a, b, tau=1e-3, block=BLOCK, devices=[0, 1, 2])
    plan = spamm.plan(a, b, tau=1e-3, block=BLOCK, backend="cuda")
    for index in range(2):
        close(got[index], kept_only(a[index], b, plan[index]), ml_dtypes.bfloat16)
    a, b = decaying(96, 96, np.float32, 0.6), decaying(96, 96, np.float32, 0.6, 1)
    got = spamm.matmul(a, b, max_rel_error=1e-2, block=BLOCK, devices=[0, 1])
    assert np.linalg.norm(got - exact(a, b)) <= 1e-2 * np.linalg.norm(exact(a, b))


def test_only_needed_rows_travel_and_b_is_passed_on(gpus: Gpus, decaying: Decaying) -> None:
    # a band: each GPU needs a part of B's rows
    a = decaying(256, 256, np.float32, rate=0.5)
    band = spamm.plan(a, a, tau=1e-6, block=BLOCK, backend="numpy")
    home = Foreign(gpus[0], a)
    close(spamm.multiply(band, home, home, devices=[0, 1, 2, 3]), kept_only(a, a, band))
    for gpu, share in zip(gpus[1:], _multi.slices_of(band, 4)[1:], strict=True):
        rows = share.rows[1] - share.rows[0]
        first, last = share.depth
        assert rows < 256
        assert last - first < 256
        assert (0, rows * 1024) in moved(gpu)
    whole = spamm.plan(a, a, tau=0.0, block=BLOCK, backend="numpy")
    for gpu in gpus:
        gpu.log.clear()
    close(spamm.multiply(whole, home, home, devices=[0, 1, 2, 3]), exact(a, a))
    # along a tree: the home sends B twice, and the third gets it from the second
    senders = [source for gpu in gpus[1:] for source, size in moved(gpu) if size == a.nbytes]
    assert sorted(senders) == [0, 0, 2]


def test_gpus_without_products_are_left_alone(gpus: Gpus) -> None:
    a = np.zeros((96, 64), np.float32)
    a[40, 3] = 1.0
    b = np.ones((64, 32), np.float32)
    plan = spamm.plan(a, b, tau=0.5, block=BLOCK, backend="numpy")
    assert plan.blocks_valid == 1
    got = spamm.multiply(plan, a, b, devices=[0, 1, 2, 3])
    np.testing.assert_array_equal(got, a @ b)
    nothing = spamm.plan(a, b, tau=1e9, block=BLOCK, backend="numpy")
    np.testing.assert_array_equal(spamm.multiply(nothing, a, b, devices=[1, 2]), np.zeros((96, 32)))


def test_memory_of_a_gpu_waits_for_those_that_read_it(gpus: Gpus, decaying: Decaying) -> None:
    a = decaying(128, 96, np.float32)
    b = decaying(96, 64, np.float32, seed=1)
    spamm.matmul(Foreign(gpus[0], a), Foreign(gpus[0], b), tau=0.0, block=BLOCK, devices=[0, 1, 2])
    for gpu in gpus[1:3]:
        # the last thing a GPU does is to wait for the home, which waits for all results
        assert gpu.log[-1] == ("wait for device", 0)
    read = [entry for entry in gpus[0].log if entry[0] == "copy"]
    assert {entry[1] for entry in read} == {1, 2}
