"""Registers the Relax pipeline ``"familyseer"`` without loading TVM to do it."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_MODULE = "tvm.relax.pipeline"
_NAME = "familyseer"


def register_pipeline_when_tvm_loads() -> None:
    """Registers the pipeline now if TVM is there, and else as soon as its registry is imported."""
    module = sys.modules.get(_MODULE)
    if module is not None and hasattr(module, "PIPELINE_MAP"):
        _register(module)
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


def _register(module: ModuleType) -> None:
    if _NAME in module.PIPELINE_MAP:
        return

    def pipeline(*args: Any, **kwargs: Any) -> Any:
        from familyseer._hook import tuning_pipeline

        return tuning_pipeline(*args, **kwargs)

    module.register_pipeline(_NAME)(pipeline)
    from familyseer.versions import TVM, warn_of_versions

    # whoever imports TVM may tune with TVM's own loop, which crashes as ours would
    warn_of_versions(*TVM)


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds the registry's module as anybody would, and steps in when it has been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            _register(module)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
