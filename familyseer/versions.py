"""The versions of TVM and XGBoost that are known to work, looked up without importing either.

With a later FFI layer, the pinned TVM does not fail but crashes the process, so what is installed
is read from the packages' metadata before anything is loaded. `KNOWN` is what `pyproject.toml`
asks for; the tests hold the two together.
"""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import warnings
from collections.abc import Iterable
from functools import cache

from familyseer.errors import UserError

KNOWN = {
    "apache-tvm": "==0.27.0.post1",
    "apache-tvm-ffi": ">=0.1.14.post0,<0.1.15",
    "xgboost": ">=2.1",
}
TVM = ("apache-tvm", "apache-tvm-ffi")
ANY_VARIABLE = "FAMILYSEER_ANY_VERSIONS"
# installed under another name, imported under the same
STAND_INS = {"xgboost": "xgboost-cpu"}


def installed(name: str) -> tuple[str, str] | None:
    """The distribution that provides `name`, and its version; None where none is installed."""
    for candidate in filter(None, (name, STAND_INS.get(name))):
        try:
            return candidate, str(importlib.metadata.version(candidate))
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """The version of each distribution, ``not installed`` where there is none."""
    found = {name: installed(name) for name in names}
    return {name: "not installed" if one is None else one[1] for name, one in found.items()}


def complaint(name: str) -> str | None:
    """What is wrong with the installed version of a distribution of `KNOWN`; None if nothing is.

    The line begins with the distribution's name and ends with the command that mends it.
    """
    # both need tens of milliseconds, which `familyseer --help` does not have
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    found = installed(name)
    if found is None:
        problem = f"{name} is not installed"
    else:
        try:
            if SpecifierSet(KNOWN[name]).contains(found[1], prereleases=True):
                return None
        except InvalidVersion:
            pass
        problem = " ".join(found) + " is installed"
    return f"{problem}: expected {name}{KNOWN[name]} ({_remedy(name)})"


def _remedy(name: str) -> str:
    # TVM's two are bound to each other
    names = TVM if name in TVM else (name,)
    wanted = " ".join(shlex.quote(each + KNOWN[each]) for each in names)
    return f"pip install {wanted}; {ANY_VARIABLE}=1 tries what is there, which may crash"


def check_versions(*names: str) -> None:
    """Refuses versions that are not known to work, unless ``FAMILYSEER_ANY_VERSIONS=1`` is set.

    Parameters
    ----------
    names
        Distributions of `KNOWN`.

    Raises
    ------
    UserError
        One is missing, or its version is not one known to work; the first of them is told of.
    """
    if any_version():
        return
    for name in names:
        problem = complaint(name)
        if problem is not None:
            raise UserError(problem)


@cache
def check_once(*names: str) -> None:
    """As `check_versions`, looked up until it has succeeded once in this process."""
    check_versions(*names)


def warn_of_versions(*names: str) -> None:
    """Warns where `check_versions` would refuse: for whoever has loaded the package already."""
    try:
        check_once(*names)
    except UserError as error:
        warnings.warn(str(error), RuntimeWarning, stacklevel=2)


def any_version() -> bool:
    """Whether the user asked to go on with whatever is installed."""
    return os.environ.get(ANY_VARIABLE, "0") not in ("", "0")
