"""Small subgraphs built with TVM's tensor expressions, as a user's tasks may be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from familyseer.subgraphs import Subgraph, subgraph_key
from familyseer.tvm_env import load_tvm


class Builder:
    """Makes the TIR of common operations."""

    def __init__(self) -> None:
        self.tvm = load_tvm()
        from tvm import te, topi

        self.te, self.topi = te, topi

    def tir(self, *tensors: Any) -> Any:
        return self.tvm.IRModule({"main": self.te.create_prim_func(list(tensors))})

    def conv(
        self,
        channels: int = 32,
        filters: int = 64,
        size: int = 28,
        kernel: int = 3,
        stride: int = 1,
        *,
        groups: int = 1,
        epilogue: str = "add relu",
        dtype: str = "float32",
    ) -> Any:
        te, topi = self.te, self.topi
        data = te.placeholder((1, channels, size, size), dtype, name="data")
        weight = te.placeholder((filters, channels // groups, kernel, kernel), dtype, name="weight")
        if groups == 1:
            out = topi.nn.conv2d_nchw(data, weight, stride, kernel // 2, 1, dtype)
        else:
            out = topi.nn.group_conv2d_nchw(data, weight, stride, kernel // 2, 1, groups, dtype)
        return self._finish([data, weight], out, epilogue, (1, filters, 1, 1), dtype)

    def matmul(
        self,
        m: int = 64,
        n: int = 128,
        k: int = 256,
        *,
        batch: int = 0,
        epilogue: str = "add",
        dtype: str = "float32",
    ) -> Any:
        te = self.te
        lead = (batch,) if batch else ()
        a = te.placeholder((*lead, m, k), dtype, name="a")
        b = te.placeholder((*lead, k, n), dtype, name="b")
        r = te.reduce_axis((0, k), name="r")
        if batch:
            out = te.compute((batch, m, n), lambda z, i, j: te.sum(a[z, i, r] * b[z, r, j], r))
        else:
            out = te.compute((m, n), lambda i, j: te.sum(a[i, r] * b[r, j], r))
        return self._finish([a, b], out, epilogue, (n,), dtype)

    def _finish(self, inputs: list[Any], out: Any, epilogue: str, bias: Any, dtype: str) -> Any:
        for word in epilogue.split():
            if word == "add":
                inputs.append(self.te.placeholder(bias, dtype, name="bias"))
                out = self.topi.add(out, inputs[-1])
            elif word == "residual":
                inputs.append(self.te.placeholder(out.shape, dtype, name="residual"))
                out = self.topi.add(out, inputs[-1])
            else:
                out = {"relu": self.topi.nn.relu, "tanh": self.topi.tanh}[word](out)
        return self.tir(*inputs, out)

    def pool(self, channels: int = 64, size: int = 28, kind: str = "max") -> Any:
        data = self.te.placeholder((1, channels, size, size), name="data")
        out = self.topi.nn.pool2d(data, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1), kind)
        return self.tir(data, out)

    def softmax(self, rows: int = 64, columns: int = 128) -> Any:
        data = self.te.placeholder((rows, columns), name="data")
        return self.tir(data, self.topi.nn.softmax(data))

    def mean(self, channels: int = 64, size: int = 7) -> Any:
        data = self.te.placeholder((1, channels, size, size), name="data")
        return self.tir(data, self.topi.sum(data, (2, 3)))

    def transpose(self, rows: int = 64, columns: int = 128) -> Any:
        data = self.te.placeholder((rows, columns), name="data")
        return self.tir(data, self.topi.transpose(data, (1, 0)))

    def lookup(self, rows: int = 1000, columns: int = 64) -> Any:
        table = self.te.placeholder((rows, columns), name="table")
        where = self.te.placeholder((16,), "int64", name="where")
        return self.tir(table, where, self.topi.take(table, where, axis=0))

    def model(self) -> list[Subgraph]:
        """Ten subgraphs of seven sorts, as of a small network."""
        return self.subgraphs(
            self.conv(16, 32, 56),
            self.conv(64, 128, 14, epilogue="add"),
            self.conv(64, 16, 56, 1),
            self.conv(256, 64, 14, 1),
            self.conv(64, 64, 28, groups=64),
            self.conv(128, 128, 14, 3, 2, groups=128),
            self.matmul(),
            self.pool(),
            self.softmax(),
            self.transpose(),
        )

    def subgraphs(self, *mods: Any) -> list[Subgraph]:
        flops = self.tvm.s_tir.analysis.estimate_tir_flops
        return [
            Subgraph(i, subgraph_key(mod), f"task{i}", mod, 1 + i % 2, max(1.0, float(flops(mod))))
            for i, mod in enumerate(mods)
        ]


@pytest.fixture(scope="session")
def tir() -> Builder:
    return Builder()


@pytest.fixture(scope="session")
def model(tir: Builder) -> list[Subgraph]:
    return tir.model()


@pytest.fixture
def renamed() -> Callable[[list[Subgraph]], list[Subgraph]]:
    return lambda subgraphs: [dataclasses.replace(s, name=f"f{s.index * 7}") for s in subgraphs]
