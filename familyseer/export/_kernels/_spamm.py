"""What `familyseer spamm tune` found, as a kernel of a library.

The kernel multiplies by a plan, which `spamm.plan` makes: it takes the plan's lists beside the
matrices. Norms and planning are not in the library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from familyseer.errors import RunError, UserError
from familyseer.export._kernels._choose import Parameter, Tuned
from familyseer.export._kernels._cuda import LoweredKernel, WorkspaceSizes, ptx_arch
from familyseer.kernels._manifest import ITEM_BYTES, Launch, Scalar
from familyseer.safe_json import load_json
from familyseer.tvm_env import load_tvm

_WHAT = "the summary of a run of `familyseer spamm tune`"
_MARK = "wanted_valid_ratio"
_MOST = 2**30
_DTYPES = ("float64", "float32", "float16", "bfloat16")
# what the widest loads of A and B need
_ALIGNMENT = 16
_LISTS = (
    "the kept k-blocks of block (i, j) of C are ks[offsets[c]:offsets[c + 1]] with "
    "c = i * nb + j, ascending, as spamm.plan gives them for this block"
)


@dataclass(frozen=True)
class TunedProduct:
    """A product under its fastest configuration.

    Attributes
    ----------
    path
        Of the summary that it is from.
    summary
        All that this holds.
    name
        The problem's.
    shape
        (m, k, n).
    dtype
        Of A and B.
    block
        SpAMM's blocks (bm, bk, bn).
    config
        The kernel's configuration in plain values.
    seconds
        Of one product, planning included, as tuning measured it.
    """

    path: Path
    summary: Mapping[str, Any]
    name: str
    shape: tuple[int, int, int]
    dtype: str
    block: tuple[int, int, int]
    config: dict[str, Any]
    seconds: float

    @property
    def grid(self) -> tuple[int, int, int]:
        """Numbers of blocks (mb, kb, nb)."""
        mb, kb, nb = (-(-size // each) for size, each in zip(self.shape, self.block, strict=True))
        return mb, kb, nb

    def for_cpu(self) -> Tuned:
        """It as a subgraph for this machine's CPU.

        Raises
        ------
        UserError
            The configuration is none of this machine's kernels.
        """
        tvm = load_tvm(intrinsics=True)
        from spamm.cpu._choice import config_from
        from spamm.cpu._config import ACCUMULATORS
        from spamm.cpu._whole import product_function

        config = config_from(self.config, self.dtype)
        if config is None:
            raise UserError(
                f"{self.path}: its configuration is none of spamm's kernels for this machine's "
                f"CPU; expected {_WHAT} here"
            )
        mod = tvm.IRModule({"main": product_function(config, self.dtype, self.shape)})
        return self._tuned(mod, ACCUMULATORS[self.dtype], 1)

    def for_cuda(self, arch: str) -> tuple[Tuned, LoweredKernel, bytes, bytes]:
        """It as a subgraph, its launches, and its cubin and PTX for an architecture.

        Raises
        ------
        UserError
            The configuration is none of kernels for this architecture.
        RunError
            nvrtc or CUDA's headers are missing, or refuse the kernel.
        """
        from spamm.cuda._compile import compile_cubin, compile_ptx
        from spamm.cuda._config import MultiplyConfig
        from spamm.cuda._whole import fixed, product_program

        try:
            config = MultiplyConfig.from_dict(self.config)
            why = config.validate(arch)
            if config.dtype != self.dtype:
                why = f"dtype {config.dtype} is not that of the product, {self.dtype}"
            if why is not None:
                raise ValueError(f"configuration: {why}")
            config = fixed(config, self.shape)
            program = product_program(config, self.shape)
        except ValueError as error:
            raise UserError(f"{self.path}: {error}; expected {_WHAT}") from None
        try:
            cubin = compile_cubin(program.source, arch)
            ptx = compile_ptx(program.source, ptx_arch(arch))
        except RuntimeError as error:
            raise RunError(f"{self.name}: no kernel for {arch}: {error}") from None
        tuned = self._tuned(None, config.out, _ALIGNMENT)
        return tuned, _lowered(program), cubin, ptx

    def _tuned(self, mod: Any, out: str, alignment: int) -> Tuned:
        (m, k, n), (mb, kb, nb) = self.shape, self.grid
        return Tuned(
            key=str(self.summary.get("digest", "")),
            name=self.name,
            weight=1,
            mod=mod,
            parameters=(
                Parameter("a", self.dtype, (m, k), False, alignment=alignment),
                Parameter("b", self.dtype, (k, n), False, alignment=alignment),
                Parameter("offsets", "int64", (mb * nb + 1,), False),
                Parameter("ks", "int32", (mb * kb * nb,), False, fewer=True),
                Parameter("c", out, (m, n), True),
            ),
            seconds=self.seconds,
            # the job that measures a candidate compares its product first
            checked=True,
            rewritten=(),
            more={
                "spamm": {
                    "block": list(self.block),
                    "grid": list(self.grid),
                    "lists": _LISTS,
                    "precision": self.summary.get("precision"),
                    "config": self.config,
                }
            },
        )


def read_product(out: Path) -> TunedProduct | None:
    """What a run of `familyseer spamm tune` found; None where OUT is of no such run.

    Raises
    ------
    UserError
        The run found nothing, or its summary is damaged.
    """
    path, summary = out / "summary.json", product_summary(out)
    if summary is None:
        return None
    if "config" in summary and summary["config"] is None:
        raise UserError(f"{out}: no kernel could be measured in that run; nothing to export")
    try:
        m, k, n = (_size(each) for each in summary["shape"])
        bm, bk, bn = (_size(each) for each in summary["config"]["block"])
        name, dtype, seconds = summary["model"], summary["dtype"], summary["tuned_us"] * 1e-6
        if not (isinstance(name, str) and dtype in _DTYPES and 0 < seconds < math.inf):
            raise ValueError
        config = dict(summary["config"])
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{path}: does not describe its product and kernel; expected {_WHAT}"
        ) from None
    return TunedProduct(path, summary, name, (m, k, n), dtype, (bm, bk, bn), config, seconds)


def product_summary(out: Path) -> dict[str, Any] | None:
    """The summary of a finished run of `familyseer spamm tune`; None where OUT is of no such run.

    Raises
    ------
    UserError
        There is a summary that cannot be read.
    """
    path = out / "summary.json"
    if not path.is_file() or (out / "model.so").exists():
        return None
    summary = load_json(path, what="the summary of a tuning run")
    return summary if isinstance(summary, dict) and _MARK in summary else None


def _size(value: Any) -> int:
    if type(value) is not int or not 1 <= value < _MOST:
        raise ValueError
    return value


def _lowered(program: Any) -> LoweredKernel:
    """Launches of `spamm.cuda._launch` as a library has them."""
    workspace = WorkspaceSizes()
    places: dict[str, str | int] = {name: name for name in program.inputs}
    for buffer in program.buffers:
        places[buffer.name] = workspace.add(buffer.size * buffer.dtype.itemsize)

    def passed(value: Any) -> str | int | Scalar | None:
        if isinstance(value, np.generic):
            dtype = value.dtype.name
            assert dtype in ITEM_BYTES
            return Scalar(dtype, int(value))
        return None if value is None else places[value]

    launches = tuple(
        Launch(one.kernel, one.grid, one.block, one.shared_bytes, tuple(map(passed, one.args)))
        for one in program.launches
    )
    return LoweredKernel(program.source, launches, workspace.total)
