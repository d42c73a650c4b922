"""From a ``.pt2`` file (torch.export) to a Relax module."""

from __future__ import annotations

import importlib
import importlib.util
import io
import logging
import sys
import threading
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from familyseer.errors import UserError
from familyseer.models._onnx_file import first_line, read_bytes
from familyseer.models._relax import bind_extents
from familyseer.tvm_env import load_tvm

_log = logging.getLogger(__name__)

# PyTorch traces one program at a time in a process
TRACING = threading.Lock()


def import_torch(
    path: Path, input_shapes: Mapping[str, tuple[int, ...]] | None
) -> tuple[Any, bytes]:
    """The Relax module of an exported program, dynamic dims bound, and the file's bytes.

    Raises:
        UserError: torch is not installed, the file is not an exported program, TVM cannot import
            it, or a shape does not fit.
    """
    data = read_bytes(path, "a program saved by torch.export.save")
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise UserError(
            f"{path}: is truncated or not a program saved by torch.export.save, which writes "
            "a zip archive"
        )
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            f"{path}: reading .pt2 files needs PyTorch; install the extra: "
            "pip install 'familyseer[torch]'"
        )
    return import_program(_load(path, data), str(path), input_shapes), data


def import_program(
    program: Any, source: str, input_shapes: Mapping[str, tuple[int, ...]] | None
) -> Any:
    """The Relax module of a `torch.export.ExportedProgram`, dynamic dims bound.

    Args:
        program: as `torch.export` gives it.
        source: the model, for messages.
        input_shapes: input name to extents, for inputs with dynamic dims.

    Raises:
        UserError: TVM cannot import it, an argument or a result is no tensor, or a shape does not
            fit.
    """
    _check_signature(program, source)
    load_tvm()
    from tvm.relax.frontend.torch import from_exported_program

    with TRACING, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            mod = from_exported_program(program, unwrap_unit_return_tuple=True)
        except Exception as error:
            reason = first_line(error)
            raise UserError(f"{source}: TVM's torch.export importer failed: {reason}") from error
        finally:
            for warning in caught:
                _log.debug("%s: %s", source, warning.message)
    return bind_extents(mod, source, input_shapes)


def _load(path: Path, data: bytes) -> Any:
    export = importlib.import_module("torch.export")
    # it logs a traceback before it raises
    noisy = logging.getLogger(export.__name__)
    silent, noisy.disabled = noisy.disabled, True
    try:
        return export.load(io.BytesIO(data))
    # a damaged archive raises whatever its reader trips over
    except Exception as error:
        raise UserError(
            f"{path}: cannot be read by torch {sys.modules['torch'].__version__}; "
            "expected a program saved by torch.export.save"
        ) from error
    finally:
        noisy.disabled = silent


def _check_signature(program: Any, source: str) -> None:
    signature = program.graph_signature
    for what, names in (("argument", signature.user_inputs), ("result", signature.user_outputs)):
        for position, name in enumerate(names):
            # tensors have names here, anything else stands for itself
            if not isinstance(name, str):
                raise UserError(
                    f"{source}: {what} {position + 1} is {name!r}; expected tensors alone, in a "
                    "module around this one that leaves out or fixes the rest"
                )
