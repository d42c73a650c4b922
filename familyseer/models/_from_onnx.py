"""From a cleaned ONNX model to a Relax module."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from types import TracebackType
from typing import Any

import onnx

from familyseer.errors import UserError
from familyseer.models._onnx_file import first_line
from familyseer.models._onnx_graph import clean, operators
from familyseer.models._onnx_respell import respell
from familyseer.tvm_env import load_tvm

_log = logging.getLogger(__name__)

# what the importer handles without looking it up
_BUILT_IN = {"Constant", "If"}
_MANY = 5


def import_onnx(model: onnx.ModelProto, source: str) -> Any:
    """The Relax module of a model whose inputs are static, straight from TVM's importer.

    Raises:
        UserError: TVM has no importer for some operators (all are named), fails on one, or would
            ignore what one asks for.
    """
    load_tvm()
    cleaned = clean(model, source)
    missing = unsupported_operators(cleaned)
    if missing and not unsupported_operators(model):
        _log.warning("%s: clean-up made operators TVM does not know, importing it as it is", source)
        cleaned, missing = onnx.ModelProto(), []
        cleaned.CopyFrom(model)
    if missing:
        raise UserError(
            f"{source}: TVM cannot import the ONNX operator{'s' if len(missing) > 1 else ''} "
            f"{', '.join(missing)}; expected operators that its ONNX frontend knows"
        )
    respell(cleaned, source)
    return _import(cleaned, source)


def unsupported_operators(model: onnx.ModelProto) -> list[str]:
    """Operators without an importer, sorted, each with the nodes that use it."""
    from tvm.relax.frontend.onnx import onnx_frontend

    known = onnx_frontend._get_convert_map().keys() | _BUILT_IN
    users: dict[str, list[str]] = {}
    for node in operators(model.graph):
        if node.op_type not in known:
            operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            users.setdefault(operator, []).append(_label(node))
    return [f"{operator} ({_shorten(nodes)})" for operator, nodes in sorted(users.items())]


def _import(model: onnx.ModelProto, source: str) -> Any:
    from tvm.relax.frontend.onnx import from_onnx

    # the importer prints what it stumbles over, and warns of every name that it respells
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return from_onnx(model)
        except Exception as error:
            where = _failing_node(error.__traceback__)
            reason = first_line(error)
            at = f"{where.op_type} ({_label(where)})" if where is not None else "the model"
            raise UserError(f"{source}: TVM's ONNX importer failed on {at}: {reason}") from error
        finally:
            for warning in caught:
                _log.debug("%s: %s", source, warning.message)


def _failing_node(traceback: TracebackType | None) -> onnx.NodeProto | None:
    """The node in the importer's loop when it failed; its message does not say which one it was."""
    found = None
    while traceback is not None:
        node = traceback.tb_frame.f_locals.get("node")
        if isinstance(node, onnx.NodeProto):
            found = node
        traceback = traceback.tb_next
    return found


def _label(node: onnx.NodeProto) -> str:
    if node.name:
        return f"node {node.name}"
    return f"node that makes {node.output[0]}" if node.output else "unnamed node"


def _shorten(nodes: list[str]) -> str:
    more = f" and {len(nodes) - _MANY} more" if len(nodes) > _MANY else ""
    return ", ".join(nodes[:_MANY]) + more
