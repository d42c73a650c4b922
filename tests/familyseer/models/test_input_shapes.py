"""Shapes from the command line, and binding them to dynamic inputs."""

from __future__ import annotations

import pytest

from familyseer.errors import UserError
from familyseer.models import parse_input_shape
from familyseer.models.input_shapes import bind_shapes


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("x=1,3,224,224", ("x", (1, 3, 224, 224))),
        (" x = 1 , 2 ", ("x", (1, 2))),
        ("scope=2/x:0=7", ("scope=2/x:0", (7,))),
        ("scalar=", ("scalar", ())),
    ],
)
def test_shape_text_is_parsed(text: str, parsed: tuple[str, tuple[int, ...]]) -> None:
    assert parse_input_shape(text) == parsed


@pytest.mark.parametrize(
    "text", ["x", "", "=1,2", "x=1,,2", "x=1,2,", "x=0", "x=-1", "x=a", "x=1.5", "x=²", "x=1x3"]
)
def test_bad_shape_text_is_a_user_error_of_one_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_input_shape(text)
    assert f"--input-shape {text}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_static_inputs_need_no_shape() -> None:
    assert bind_shapes("m", {"x": (1, 3), "s": ()}, None) == {"x": (1, 3), "s": ()}


def test_symbol_bound_in_one_input_is_bound_in_the_others() -> None:
    declared = {"ids": ("batch", "seq"), "mask": ("batch", "seq"), "bias": ("seq",)}
    assert bind_shapes("m", declared, {"mask": (2, 7)}) == {
        "ids": (2, 7),
        "mask": (2, 7),
        "bias": (7,),
    }


def test_input_of_unknown_rank_takes_any_shape() -> None:
    assert bind_shapes("m", {"x": None}, {"x": (4, 5)}) == {"x": (4, 5)}


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        (("batch", 3), r"input x has dynamic dims \(batch, 3\).*--input-shape x=BATCH,3"),
        ((None, 3), r"dynamic dims \(\?, 3\)"),
        (None, "unknown rank"),
    ],
)
def test_unbound_input_is_named_with_the_flag_to_give(
    dims: tuple[int | str | None, ...] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        bind_shapes("m", {"x": dims}, {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"z": (1,)}, "no input named z; its inputs are: x, y"),
        ({"x": (1, 2, 3)}, r"x=1,2,3 has 3 dims; expected 2: \(n, 3\)"),
        ({"x": (1, 4)}, r"x=1,4 contradicts the model; expected \(n, 3\)"),
        ({"x": (0, 3)}, "extents above 0"),
        ({"x": (2, 3), "y": (5,)}, "y=5 contradicts.*n is 2 elsewhere"),
    ],
)
def test_shape_that_does_not_fit_is_a_user_error(
    given: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        bind_shapes("m", {"x": ("n", 3), "y": ("n",)}, given)
