"""Names of a package that are imported when they are first asked for.

``familyseer --help`` and completion must not wait for TVM, which many modules need.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` (PEP 562) for names that live in other modules.

    Parameters
    ----------
    package
        The package's ``__name__``.
    homes
        Name -> module that has it, relative to the package where it begins with a dot.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name], package), name)

    return get
