"""Every public name says what it is."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

PACKAGES = (
    "familyseer",
    "familyseer.progress",
    "familyseer.kernels",
    "costmodels",
    "ops.cuda_source",
    "ops.cuda_space",
    "ops.spamm_operator",
    "ops.spamm_rewrite",
    "ops.tensor_cores",
    "spamm",
)
OURS = ("familyseer", "costmodels", "ops", "spamm")


def is_ours(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] in OURS


def names_of(module: Any) -> list[str]:
    """What a package lists; of a package that lists none, what its public modules define."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    ]


def public_names(package: str) -> Iterator[tuple[str, Any]]:
    """Functions and classes that a package exports, and the classes' public members."""
    module = importlib.import_module(package)
    for name in names_of(module):
        value = getattr(module, name)
        if not (inspect.isclass(value) or inspect.isroutine(value)) or not is_ours(value):
            continue
        yield name, value
        for member, inner in vars(value).items() if inspect.isclass(value) else ():
            inner = getattr(inner, "__func__", inner)
            is_code = inspect.isfunction(inner) or hasattr(inner, "fget") or hasattr(inner, "func")
            if not member.startswith("_") and is_code:
                yield f"{name}.{member}", inner


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_have_docstrings(package: str) -> None:
    assert importlib.import_module(package).__doc__
    found = dict(public_names(package))
    assert found
    missing = [name for name, value in found.items() if not (inspect.getdoc(value) or "").strip()]
    assert missing == []


@pytest.mark.parametrize("package", PACKAGES)
def test_all_names_are_there_and_listed_once(package: str) -> None:
    module = importlib.import_module(package)
    names = names_of(module)
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(module, name)] == []


def test_what_tune_takes_is_explained() -> None:
    import familyseer

    text = inspect.getdoc(familyseer.tune) or ""
    parameters = inspect.signature(familyseer.tune).parameters
    heads = {name.strip() for line in text.splitlines() for name in line.split(",")}
    assert [name for name in parameters if name not in heads] == []
