from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spamm import _select, build_plan, tau_for_bound, tau_for_valid_ratio

# few values, so that products tie; extremes, so that they under- and overflow
_VALUES = st.sampled_from([0.0, 1e-200, 0.25, 0.5, 1.0, 3.0, 1e200, float("inf")])


def _plan(norms_a: Any, norms_b: Any, tau: float) -> Any:
    shape = (norms_a.shape[0], norms_a.shape[1], norms_b.shape[1])
    return build_plan(norms_a, norms_b, shape, (1, 1, 1), tau)


def _decay(rows: int, columns: int, rate: float) -> Any:
    return rate ** np.abs(np.subtract.outer(np.arange(rows), np.arange(columns)))


@st.composite
def _norms(draw: Any) -> tuple[Any, Any]:
    mb, kb, nb = draw(st.tuples(*[st.integers(1, 6)] * 3))
    if draw(st.booleans()):
        rng = np.random.default_rng(draw(st.integers(0, 1000)))
        return np.exp(rng.standard_normal((mb, kb))), np.exp(rng.standard_normal((kb, nb)))
    values = draw(st.lists(_VALUES, min_size=(mb + nb) * kb, max_size=(mb + nb) * kb))
    return (
        np.array(values[: mb * kb]).reshape(mb, kb),
        np.array(values[mb * kb :]).reshape(kb, nb),
    )


@pytest.fixture(params=["sorted at once", "bracketed first"])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small problems take both ways: what is bracketed at full size is bracketed here too."""
    if request.param == "bracketed first":
        monkeypatch.setattr(_select, "_FEW", 4)
        monkeypatch.setattr(_select, "_FEW_VALUES", 4)
        monkeypatch.setattr(_select, "_SAMPLE_ROWS", 1)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shape", [(3, 4, 5), (12, 4, 3), (2, 6, 14), (1, 9, 1)])
def test_the_bound_cannot_be_met_by_a_larger_tau(seed: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    mb, kb, nb = shape
    # rows of quite different scale mislead a guess from a sample of them
    norms_a = np.exp(3 * rng.standard_normal((mb, 1)) + rng.standard_normal((mb, kb)))
    norms_b = np.round(np.exp(rng.standard_normal((kb, nb))), 1)
    everything = _plan(norms_a, norms_b, 1e300).error_bound
    for bound in (0.0, rng.random() ** 3 * everything, everything * 2):
        tau = tau_for_bound(norms_a, norms_b, bound)
        assert _plan(norms_a, norms_b, tau).error_bound <= bound
        products = (norms_a[:, :, None] * norms_b).ravel()
        if (products >= tau).any():
            larger = float(np.nextafter(products[products >= tau].min(), np.inf))
            assert _plan(norms_a, norms_b, larger).error_bound > bound * (1 - 1e-9)


@settings(max_examples=100, deadline=None)
@given(norms=_norms(), share=st.floats(0, 1.2))
def test_any_norms_give_a_tau_within_the_bound(norms: Any, share: float) -> None:
    everything = _plan(*norms, 1.7e308).error_bound
    bound = share * everything if np.isfinite(everything) else 1e300 * share
    tau = tau_for_bound(*norms, bound)
    assert _plan(*norms, tau).error_bound <= bound


@settings(max_examples=100, deadline=None)
@given(norms=_norms(), ratio=st.floats(0, 1, exclude_min=True))
def test_a_valid_ratio_is_met_or_refused_for_a_reason(norms: Any, ratio: float) -> None:
    with np.errstate(all="ignore"):
        products = norms[0][:, :, None] * norms[1]
    taus = [0.0, *np.unique(products[np.isfinite(products)])]
    taus.append(float(np.nextafter(taus[-1], np.inf)))
    reachable = [np.count_nonzero(~(products < tau)) / products.size for tau in taus]
    nearest = min(abs(each - ratio) for each in reachable)
    # counts are whole: half a product off is as near as any tau gets
    if nearest > max(0.01, 0.5 / products.size * (1 + 1e-9)):
        with pytest.raises(ValueError, match=r"^valid_ratio: .* cannot be met within 0\.01"):
            tau_for_valid_ratio(*norms, ratio)
        return
    tau = tau_for_valid_ratio(*norms, ratio)
    assert abs(_plan(*norms, tau).valid_ratio - ratio) <= nearest + 1e-12


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("rate", [0.3, 0.8, 0.99])
def test_decaying_norms_meet_a_ratio_within_one_percent(ratio: float, rate: float) -> None:
    noise = np.random.default_rng(0).uniform(0.9, 1.1, size=(40, 30))
    norms_a, norms_b = _decay(40, 30, rate) * noise, _decay(30, 50, rate)
    tau = tau_for_valid_ratio(norms_a, norms_b, ratio)
    assert abs(_plan(norms_a, norms_b, tau).valid_ratio - ratio) <= 0.01


def test_large_grids_are_searched_without_holding_all_products() -> None:
    norms_a, norms_b = _decay(160, 150, 0.9), _decay(150, 140, 0.9)
    norms_a *= np.random.default_rng(0).uniform(0.5, 1, size=norms_a.shape)
    tau = tau_for_valid_ratio(norms_a, norms_b, 0.1)
    plan = _plan(norms_a, norms_b, tau)
    assert abs(plan.valid_ratio - 0.1) <= 0.001
    again = tau_for_bound(norms_a, norms_b, plan.error_bound * (1 + 1e-9))
    assert again == pytest.approx(tau, rel=1e-6)


def test_equal_norms_are_refused_with_the_two_ratios_that_can_be_had() -> None:
    norms = np.ones((10, 10))
    norms[:, 0] = 2.0
    with pytest.raises(ValueError, match=r"0\.5 cannot be met.*equal norms.*0\.1 and 1$"):
        tau_for_valid_ratio(norms, np.ones((10, 10)), 0.5)


def test_all_norms_equal_at_full_size_are_refused_too() -> None:
    norms = np.ones((90, 90))
    with pytest.raises(ValueError, match=r"0\.3 cannot be met.*equal norms.*0 and 1$"):
        tau_for_valid_ratio(norms, norms, 0.3)


def test_blocks_that_are_never_skipped_limit_the_ratio_from_below() -> None:
    norms = np.ones((10, 10))
    norms[0] = np.inf
    with pytest.raises(ValueError, match=r"0\.05 cannot be met.*0\.1 of the block products"):
        tau_for_valid_ratio(norms, np.ones((10, 10)), 0.05)


def test_no_products_at_all_need_no_tau() -> None:
    assert tau_for_valid_ratio(np.ones((0, 3)), np.ones((3, 2)), 0.5) == 0.0
    assert tau_for_bound(np.ones((2, 0)), np.ones((0, 2)), 1.0) == 0.0


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.5, float("nan"), "half"])
def test_a_ratio_outside_of_its_range_is_refused(ratio: Any) -> None:
    with pytest.raises(ValueError, match=r"^valid_ratio: expected a number above 0 and at most 1"):
        tau_for_valid_ratio(np.ones((1, 1)), np.ones((1, 1)), ratio)


@pytest.mark.parametrize("bound", [-1.0, float("nan")])
def test_a_bound_below_zero_is_refused(bound: float) -> None:
    with pytest.raises(ValueError, match=r"^bound: expected a number of at least 0, got"):
        tau_for_bound(np.ones((1, 1)), np.ones((1, 1)), bound)
