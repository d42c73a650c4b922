"""JSON from elsewhere: what is read, and what is refused in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from familyseer.errors import UserError
from familyseer.safe_json import load_json, parse_json

WHAT = "a table of numbers"


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -2.5, 1e300, None, True, 'é\n"[{']},
        [],
        "[[[[",
        2**64 - 1,
        [[[0]] * 1000, "\\" * 99],
        "\U0001f600",
    ],
)
def test_plain_values_are_read(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps(value))
    assert load_json(path, what=WHAT) == value


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"[1] 2", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"[1]".decode().encode("utf-16"), "not UTF-8"),
        (b"[NaN]", "the number NaN"),
        (b"[-Infinity]", "the number -Infinity"),
        (b"[1e999]", "a number that is not finite"),
        (b"18446744073709551616", "an integer of more than 64 bits"),
        (b"-" + b"9" * 100_000, "an integer of more than 64 bits"),
        (b'{"a": 1, "a": 2}', "a key that comes twice"),
        (b'["\\ud800"]', "half a surrogate pair"),
        (b"[" * 65 + b"]" * 65, "nested deeper than 64"),
        (b"[" * 1_000_000, "nested deeper than 64"),
        (b'{"a":' * 100_000, "nested deeper than 64"),
        (b'["\\"", ' + b"[" * 70 + b"]" * 71, "nested deeper than 64"),
    ],
)
def test_what_is_not_plain_is_refused_in_one_line(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "table.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        load_json(path, what=WHAT)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert WHAT in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_larger_file_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text("[" + "0," * 100 + "0]")
    with pytest.raises(UserError, match=f"larger than 200 bytes, expected {WHAT}"):
        load_json(path, what=WHAT, limit=200)


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, said in (
        (pipe, "not a regular file"),
        (tmp_path, "not a regular file"),
        (tmp_path / "nowhere", "cannot be read"),
    ):
        with pytest.raises(UserError, match=f"{said}.*, expected {WHAT}"):
            load_json(path, what=WHAT)


def test_the_error_may_be_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"cannot be read .*expected {WHAT}"):
        load_json(tmp_path / "nowhere", what=WHAT, error=ValueError)


@pytest.mark.parametrize("text", ['"' + '\\"' * 200_000, '"a" ' * 100_000, '"\\' * 100_000])
def test_strings_without_an_end_take_no_longer_than_others(text: str) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        parse_json("[" * 50 + "{" * 5 + text.replace("a", "[") + "[" * 5, WHAT)
