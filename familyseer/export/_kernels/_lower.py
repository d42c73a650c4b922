"""A scheduled subgraph lowered by TVM's own passes, without TVM's calling convention.

TVM's pipeline turns a function's parameters into TVM's packed arguments, and its launches of
kernels into calls of TVM's runtime. Skipping that pass leaves a host function that says in plain
words which memory it needs and what it launches, in which order and how large.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from familyseer.tvm_env import load_tvm

_PACKING = "tirx.MakePackedAPI"
# they ask for packed arguments, and are run later instead
_LEGALIZING = ("tirx.FP8StorageLegalize", "tirx.BF16StorageLegalize")
_DEVICE_KERNEL = 2


class NotPlainError(Exception):
    """A host function needs what only TVM's runtime has; the message says what."""


def lower(mod: Any, target: Any, symbol: str) -> tuple[Any, dict[str, Any]]:
    """Lowers a scheduled subgraph to its host function and its device functions by name.

    Parameters
    ----------
    mod
        The scheduled TIR, one function ``main``.
    target
        What it is for; for a GPU, with its host.
    symbol
        Name of the host function, which begins those of the device functions.
    """
    tvm = load_tvm(intrinsics=True)
    function = mod["main"].with_attr("global_symbol", symbol)
    host = target.host if target.host is not None else target
    bound = tvm.tirx.transform.BindTarget(target.with_host(host))(tvm.IRModule({symbol: function}))
    passes, _, _ = _pipeline()
    outer = tvm.transform.PassContext.current()
    with tvm.transform.PassContext(
        opt_level=outer.opt_level, config=outer.config, instruments=[_without_packing()]
    ):
        lowered = passes(bound)
    kernels = {}
    for name, one in lowered.functions.items():
        if int(one.attrs.get("calling_conv", 0)) == _DEVICE_KERNEL:
            kernels[str(name.name_hint)] = one
    return lowered[symbol], kernels


def finish_host(functions: dict[str, Any]) -> Any:
    """Host functions with plain parameters as a module that a code generator takes."""
    return _finish(functions, _pipeline()[1])


def finish_device(functions: dict[str, Any]) -> Any:
    """Device functions as a module that a code generator takes."""
    return _finish(functions, _pipeline()[2])


def _finish(functions: dict[str, Any], passes: Any) -> Any:
    tvm = load_tvm(intrinsics=True)
    mod = tvm.IRModule(functions)
    for legalize in (tvm.tirx.transform.FP8StorageLegalize, tvm.tirx.transform.BF16StorageLegalize):
        mod = legalize()(mod)
    return passes()(mod)


def _pipeline() -> Any:
    return load_tvm(intrinsics=True).tirx.get_tir_pipeline("default")


@lru_cache(maxsize=1)
def _without_packing() -> Any:
    tvm = load_tvm()

    @tvm.instrument.pass_instrument
    class WithoutPacking:
        def should_run(self, _mod: Any, info: Any) -> bool:
            return str(info.name) not in (_PACKING, *_LEGALIZING)

    return WithoutPacking()
