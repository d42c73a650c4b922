"""Latencies, ratios and percents as they are shown."""

from __future__ import annotations

import pytest

from familyseer.units import format_count, format_latency, format_percent, format_ratio


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (8.214, "8.21 us"),
        (99.94, "99.9 us"),
        (812.4, "812 us"),
        (999.7, "1.00 ms"),
        (12_340.0, "12.3 ms"),
        (282_000.0, "282 ms"),
        (2_500_000.0, "2.50 s"),
        (None, "-"),
        (float("inf"), "-"),
    ],
)
def test_a_latency_has_the_unit_that_suits_it(us: float | None, text: str) -> None:
    assert format_latency(us) == text


@pytest.mark.parametrize(
    ("part", "text"), [(0.43, "43%"), (0.001, "<1%"), (0.0, "0%"), (1.0, "100%"), (None, "-")]
)
def test_a_small_part_is_not_shown_as_none(part: float | None, text: str) -> None:
    assert format_percent(part) == text


def test_a_ratio_that_is_not_known_is_a_dash() -> None:
    assert (format_ratio(1.416), format_ratio(None), format_ratio(float("nan"))) == (
        "1.42x",
        "-",
        "-",
    )


def test_a_noun_agrees_with_its_number() -> None:
    assert format_count(1, "family", "families") == "1 family"
    assert format_count(0, "subgraph") == "0 subgraphs"
