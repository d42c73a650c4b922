"""Small ONNX files to load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

Save = Callable[..., Path]


@pytest.fixture
def save_onnx(tmp_path: Path) -> Save:
    """Writes a one-input model: nodes from "x" to "y", weights by name."""

    def save(
        nodes: Sequence[onnx.NodeProto],
        shape: Sequence[int | str | None] | None = (1, 4),
        *,
        weights: dict[str, np.ndarray] | None = None,
        element: int = TensorProto.FLOAT,
        domain: str = "",
        name: str = "m.onnx",
    ) -> Path:
        graph = helper.make_graph(
            list(nodes),
            "g",
            [helper.make_tensor_value_info("x", element, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, key) for key, value in (weights or {}).items()],
        )
        opsets = [helper.make_opsetid("", 17)]
        if domain:
            opsets.append(helper.make_opsetid(domain, 1))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return save
