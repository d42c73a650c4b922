"""Durations on the command line and in what is shown."""

from __future__ import annotations

import pytest

from familyseer.duration import format_duration, parse_duration
from familyseer.errors import UserError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        ("0.5", 0.5),
        (".5s", 0.5),
        ("10m", 600.0),
        ("10min", 600.0),
        ("1.5h", 5400.0),
        ("1h30m", 5400.0),
        ("1h 30m 5s", 5405.0),
        ("1h5", 3605.0),
        ("2m30", 150.0),
        ("  7s\n", 7.0),
        ("1H", 3600.0),
        ("0h1s", 1.0),
        ("365.0h", 365 * 3600.0),
    ],
)
def test_reads_what_people_write(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "-5m",
        "soon",
        "",
        " ",
        "m",
        "h",
        "1d",
        "5 minutes",
        "30m1h",
        "1s30m",
        "1m1m",
        "1e3",
        "1_000",
        "1,5h",
        "1:30",
        "nan",
        "inf",
        "+5m",
        "5.m",
        "1.2.3s",
        "٣m",
        "0x10",
        "1h30m;rm",
    ],
)
def test_refuses_what_is_no_duration_naming_it_and_what_was_expected(text: str) -> None:
    with pytest.raises(UserError, match="expected a time such as 90s, 10m or 1h30m") as refused:
        parse_duration(text)
    assert repr(text) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["0", "0s", "0h0m0s", "0.0m"])
def test_refuses_a_duration_of_nothing(text: str) -> None:
    with pytest.raises(UserError, match="expected a time above zero"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["9000h", "9" * 400 + "s", "9" * 400 + "h"])
def test_refuses_a_duration_beyond_any_run(text: str) -> None:
    with pytest.raises(UserError, match="at most a year"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3, "0s"),
        (0.04, "0s"),
        (0.44, "0.4s"),
        (9.96, "10s"),
        (42.4, "42s"),
        (59.6, "1m"),
        (60, "1m"),
        (545, "9m05s"),
        (3599.6, "1h"),
        (3600, "1h"),
        (3719, "1h02m"),
        (90061, "25h01m"),
        (float("inf"), "?"),
        (float("nan"), "?"),
    ],
)
def test_writes_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize("seconds", [0.5, 1, 59, 60, 61, 3599, 3600, 5400, 86400])
def test_what_is_written_can_be_read_again(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds
