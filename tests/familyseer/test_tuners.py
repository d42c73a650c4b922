"""Tuners are named; ours may be named without one of its tactics."""

from __future__ import annotations

import pytest

from familyseer.errors import UserError
from familyseer.tactics import Tactics
from familyseer.tuners import TUNERS, check_tuner, is_ours


@pytest.mark.parametrize("name", [*TUNERS, *(f"familyseer-without-{n}" for n in Tactics.names())])
def test_every_tuner_and_every_switch_has_a_name(name: str) -> None:
    assert check_tuner(name) == name


@pytest.mark.parametrize("name", ["ansor", "familyseer-without-luck", "seeds", ""])
def test_any_other_name_is_refused_with_what_was_expected(name: str) -> None:
    with pytest.raises(UserError, match=r"expected one of familyseer, metaschedule, .*seeds"):
        check_tuner(name)


def test_ours_is_ours_without_a_tactic_too() -> None:
    assert [n for n in TUNERS if is_ours(n)] == ["familyseer"]
    assert is_ours("familyseer-without-seeds")


def test_tactics_are_on_but_for_those_named() -> None:
    assert Tactics().off() == []
    some = Tactics.without(["seeds", "cascade"])
    assert some.off() == ["seeds", "cascade"]
    assert some.shared
