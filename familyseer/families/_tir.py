"""Reads a subgraph's TIR into stages.

Nothing here names an operation or judges a schedule: `_operation` and `_features` do, from the
stages alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from familyseer.errors import UserError
from familyseer.families._stages import Access, Axis, Index, Stage
from familyseer.tvm_env import load_tvm

# TVM's IterVar types that sum over their axis: kCommReduce, kOrdered
_REDUCING = (2, 3)
_COMPARISONS = {"EQ", "NE", "LT", "LE", "GT", "GE", "And", "Or", "Not"}
_OPERATIONS = {
    "Add": "add",
    "Sub": "subtract",
    "Mul": "multiply",
    "Div": "divide",
    "Mod": "modulo",
    "FloorDiv": "divide",
    "FloorMod": "modulo",
    "Max": "max",
    "Min": "min",
    "Cast": "cast",
    "LShift": "shift",
    "RShift": "shift",
}


@dataclass
class _Open:
    """A stage being read."""

    variables: list[Any]
    axes: list[Axis]
    guarded: bool = False
    stores: list[Any] = field(default_factory=list)
    loads: list[Any] = field(default_factory=list)
    products: list[tuple[list[Any], list[Any]]] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)


def read_stages(mod: Any, name: str = "subgraph") -> tuple[Stage, ...]:
    """The stages of a subgraph's TIR, in program order.

    Parameters
    ----------
    mod
        An ``IRModule`` with one ``PrimFunc`` (``main`` if there are several), or a ``PrimFunc``.
    name
        What an error calls it.

    Raises
    ------
    UserError
        There is no ``PrimFunc``.
    """
    tvm = load_tvm()
    reader = _Reader(tvm)
    reader.read(entry_function(mod, name).body)
    return tuple(reader.stages)


def entry_function(mod: Any, name: str = "subgraph") -> Any:
    """The ``PrimFunc`` of a subgraph; parameters and errors as `read_stages`."""
    tvm = load_tvm()
    if isinstance(mod, tvm.tirx.PrimFunc):
        return mod
    functions = {
        str(gv.name_hint): f
        for gv, f in getattr(mod, "functions", {}).items()
        if isinstance(f, tvm.tirx.PrimFunc)
    }
    if not functions:
        raise UserError(f"{name}: no TIR function found, expected an IRModule with one PrimFunc")
    return functions.get("main") or functions[min(functions)]


class _Reader:
    def __init__(self, tvm: Any) -> None:
        self.tvm = tvm
        self.ffi = importlib.import_module("tvm_ffi")
        self.stages: list[Stage] = []
        self._tensors: dict[Any, int] = {}
        self._outer: list[tuple[Any, Axis]] = []

    def read(self, statement: Any) -> None:
        kinds = self.tvm.tirx
        block_type = self.tvm.s_tir.SBlockRealize
        loose = _Open([], [])

        def on_loop(loop: Any, visitor: Any) -> None:
            # a loop around blocks is bound to their axes; only one with bare stores counts itself
            if _holds(self.ffi, loop, block_type):
                visitor.visit(loop.body)
                return
            stage = current[-1]
            if stage is loose and not loose.variables:
                stage = _Open([], [])
            self._with_axis(current, stage, loop, visitor)

        def on_block(realize: Any, visitor: Any) -> None:
            block = realize.block
            stage = _Open([v for v, _ in self._outer], [a for _, a in self._outer])
            own = [
                (it.var, Axis(_extent(it.dom.extent), int(it.iter_type) in _REDUCING))
                for it in block.iter_vars
            ]
            stage.variables += [v for v, _ in own]
            stage.axes += [a for _, a in own]
            depth = len(self._outer)
            self._outer += own
            current.append(stage)
            visitor.visit(block.body)
            current.pop()
            del self._outer[depth:]
            self._close(stage)

        def on_branch(branch: Any, visitor: Any) -> None:
            current[-1].guarded = True
            visitor.visit(branch.then_case)
            if branch.else_case is not None:
                visitor.visit(branch.else_case)

        def on_store(store: Any, _visitor: Any) -> None:
            current[-1].stores.append(store)
            self._read_value(store.value, current[-1])

        def on_call(evaluate: Any, _visitor: Any) -> None:
            self._read_value(evaluate.value, current[-1])

        current = [loose]
        self.ffi.structural_visit(
            statement,
            [
                (kinds.For, on_loop),
                (block_type, on_block),
                (kinds.IfThenElse, on_branch),
                (kinds.BufferStore, on_store),
                (kinds.Evaluate, on_call),
            ],
        )
        self._close(loose)

    def _with_axis(self, current: list[_Open], stage: _Open, loop: Any, visitor: Any) -> None:
        fresh = stage is not current[-1]
        if fresh:
            current.append(stage)
        stage.variables.append(loop.loop_var)
        stage.axes.append(Axis(_extent(loop.extent), False))
        visitor.visit(loop.body)
        if fresh:
            current.pop()
            self._close(stage)

    def _read_value(self, value: Any, stage: _Open) -> None:
        calls, select = self.tvm.ir.Call, self.tvm.tirx.Select
        load_type = self.tvm.ir.TensorLoad

        def on_choice(condition: Any, values: Iterable[Any], visitor: Any) -> None:
            if _holds(self.ffi, condition, load_type):
                stage.operations.append("select")
                visitor.visit(condition)
            else:
                stage.guarded = True
            for item in values:
                visitor.visit(item)

        def on_any(node: Any, visitor: Any) -> None:
            if isinstance(node, load_type):
                stage.loads.append(node)
                for index in node.indices:
                    stage.loads.extend(self._loads(index))
                return
            if isinstance(node, select):
                on_choice(node.condition, (node.true_value, node.false_value), visitor)
                return
            if isinstance(node, calls):
                name = str(getattr(node.op, "name", node.op)).rpartition(".")[2]
                if name == "if_then_else":
                    on_choice(node.args[0], node.args[1:], visitor)
                    return
                stage.operations.append(name)
                for item in node.args:
                    visitor.visit(item)
                return
            operation = _operation_of(node)
            if operation is not None:
                stage.operations.append(operation)
            if operation == "multiply":
                stage.products.append((self._loads(node.a), self._loads(node.b)))
            visitor.default_visit(node)

        self.ffi.structural_visit(value, [(self.tvm.ir.Expr, on_any)])

    def _loads(self, expr: Any) -> list[Any]:
        loads: list[Any] = []

        def on_load(load: Any) -> None:
            loads.append(load)

        self.ffi.structural_walk(expr, [(self.tvm.ir.TensorLoad, on_load)])
        return loads

    def _factors(self, stage: _Open, written: set[int]) -> tuple[int, int] | None:
        for sides in stage.products:
            left, right = ({self._tensors[n.source] for n in side} - written for side in sides)
            if left and right and not left & right:
                return min(left), min(right)
        return None

    def _close(self, stage: _Open) -> None:
        if not stage.stores and not stage.operations:
            return
        writes = _distinct(
            self._access(s.buffer, s.buffer.shape, s.indices, stage) for s in stage.stores
        )
        written = {access.tensor for access in writes}
        loads = _distinct(
            self._access(n.source, n.source.ty.shape, n.indices, stage) for n in stage.loads
        )
        reads = [access for access in loads if access.tensor not in written]
        accumulates = len(reads) < len(loads)
        self.stages.append(
            Stage(
                tuple(_reductions(stage.axes, writes, accumulates=accumulates)),
                tuple(reads),
                tuple(writes),
                tuple(stage.operations),
                stage.guarded,
                self._factors(stage, written),
            )
        )

    def _access(self, source: Any, shape: Any, indices: Any, stage: _Open) -> Access:
        number = self._tensors.setdefault(source, len(self._tensors))
        dtype = str(getattr(source, "dtype", "") or source.ty.dtype)
        dims = tuple(self._index(index, stage.variables) for index in indices)
        return Access(number, tuple(_extent(extent) for extent in shape), dtype, dims)

    def _index(self, expr: Any, variables: list[Any]) -> Index:
        steps: dict[int, int] = {}
        bent: set[int] = set()
        indirect = False
        for term in _terms(self.tvm, expr):
            linear = self._linear(term, variables)
            if linear is not None:
                for axis, step in linear:
                    steps[axis] = steps.get(axis, 0) + step
                continue
            used, looked_up = self._uses(term, variables)
            bent |= used
            indirect |= looked_up
        return Index(tuple(sorted(steps.items())), frozenset(bent), indirect)

    def _linear(self, term: Any, variables: list[Any]) -> list[tuple[int, int]] | None:
        found = self.tvm.sym.detect_linear_equation(term, variables) if variables else []
        steps = []
        for axis, coefficient in enumerate(found[:-1]):
            value = getattr(coefficient, "value", None)
            if value is None:
                return None
            if value:
                steps.append((axis, int(value)))
        used, looked_up = self._uses(term, variables)
        return steps if not looked_up and used == {axis for axis, _ in steps} else None

    def _uses(self, term: Any, variables: list[Any]) -> tuple[set[int], bool]:
        used: set[int] = set()

        def on_variable(var: Any) -> None:
            used.update(i for i, candidate in enumerate(variables) if candidate.same_as(var))

        self.ffi.structural_walk(term, [(self.tvm.tirx.Var, on_variable)])
        return used, bool(self._loads(term))


def _reductions(axes: list[Axis], writes: list[Access], *, accumulates: bool) -> Iterator[Axis]:
    """Marks bare loops that an accumulating store does not move with as reductions."""
    moved = {axis for access in writes for axis in access.axes()}
    for i, axis in enumerate(axes):
        yield Axis(axis.extent, axis.reduces or (accumulates and i not in moved))


def _operation_of(node: Any) -> str | None:
    kind = type(node).__name__
    if kind in _COMPARISONS:
        return "compare"
    if kind == "Max" and any(getattr(side, "value", None) == 0 for side in (node.a, node.b)):
        return "relu"
    return _OPERATIONS.get(kind)


def _terms(tvm: Any, expr: Any) -> Iterator[Any]:
    if isinstance(expr, tvm.tirx.Add):
        yield from _terms(tvm, expr.a)
        yield from _terms(tvm, expr.b)
    else:
        yield expr


def _holds(ffi: Any, root: Any, kind: Any) -> bool:
    return ffi.structural_walk(root, [(kind, ffi.VisitInterrupt)]) is not None


def _extent(extent: Any) -> int:
    value = getattr(extent, "value", extent)
    return max(1, value) if isinstance(value, int) else 1


def _distinct(accesses: Iterable[Access]) -> list[Access]:
    return list(dict.fromkeys(accesses))
