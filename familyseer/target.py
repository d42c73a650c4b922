"""From what a user writes after ``--target`` to a TVM target that MetaSchedule can tune for."""

from __future__ import annotations

import importlib
import json
import re
from typing import TYPE_CHECKING, Any

from familyseer.errors import UserError
from familyseer.machine import available_cores
from familyseer.tvm_env import load_tvm

if TYPE_CHECKING:
    import tvm

_EXAMPLES = (
    'expected llvm, cuda, JSON such as {"kind": "llvm", "mcpu": "skylake-avx512"}, '
    "a tag such as nvidia/nvidia-h100, or an architecture such as sm_90"
)
# Tags that this TVM lacks. An H200 is an H100's processor with more memory.
_SAME_PROCESSOR = {"nvidia/nvidia-h200": "nvidia/nvidia-h100"}
# What every CUDA device since compute capability 2.0 grants a block without opting in. TVM's
# search space reads these attributes and fails without them.
_CUDA_LIMITS = {
    "max_threads_per_block": 1024,
    "max_shared_memory_per_block": 49152,
    "thread_warp_size": 32,
}


def resolve_target(text: str | None) -> tvm.target.Target:
    """The target that a text names, complete enough to tune for.

    Parameters
    ----------
    text
        None or ``llvm`` for this machine's CPU, ``cuda`` for this machine's first GPU, a target as
        JSON, a tag of TVM, or the architecture of an NVIDIA GPU. LLVM targets get ``num-cores``
        (this machine's where none is given), GPU targets a host, CUDA targets the limits of a
        block. The size of the L2 cache, which an architecture does not tell, is in a tag or read
        from the device.

    Raises
    ------
    UserError
        TVM knows no such target, LLVM no such CPU, or ``cuda`` was asked for without a GPU.
    """
    load_tvm()
    wanted = "llvm" if text is None else text.strip()
    if wanted == "llvm":
        return this_cpu()
    if wanted == "cuda":
        return _this_gpu()
    config = _config(wanted) or _of_architecture(wanted)
    target = _make(wanted, config if config is not None else _SAME_PROCESSOR.get(wanted, wanted))
    _check_cpu(wanted, target)
    return _complete(wanted, target)


def this_cpu() -> tvm.target.Target:
    """This machine's CPU by LLVM's name, with the physical cores available to the process."""
    load_tvm()
    codegen = importlib.import_module("tvm.target.codegen")
    config: dict[str, Any] = {"kind": "llvm", "num-cores": available_cores()}
    # LLVM answers "" or "generic" for a processor that is newer than itself
    name = str(codegen.llvm_get_system_cpu())
    if name:
        config["mcpu"] = name
    return _make("llvm", config)


def describe_target(target: tvm.target.Target) -> str:
    """One short line for people, such as ``llvm skylake, 8 cores`` or ``cuda sm_90a``."""
    attrs = target.attrs
    parts = [str(target.kind.name)]
    parts += [str(attrs[key]) for key in ("mcpu", "arch") if attrs.get(key)]
    if target.kind.name != "llvm":
        return " ".join(parts)
    if "mcpu" not in attrs and attrs.get("mtriple"):
        parts.append(str(attrs["mtriple"]))
    count = int(attrs.get("num-cores", 0))
    suffix = f", {count} core{'s' if count != 1 else ''}" if count else ""
    return " ".join(parts) + suffix


def _config(wanted: str) -> dict[str, Any] | None:
    """The JSON object that the text holds; None for a text that is a kind or a tag."""
    if not wanted.startswith(("{", "[", '"')):
        return None
    try:
        config = json.loads(wanted)
    except json.JSONDecodeError as error:
        raise UserError(f"target {wanted}: not JSON ({error}); {_EXAMPLES}") from None
    if not isinstance(config, dict) or not ({"kind", "tag"} & config.keys()):
        raise UserError(f"target {wanted}: expected a JSON object with a kind or a tag")
    if config.get("tag") in _SAME_PROCESSOR:
        config["tag"] = _SAME_PROCESSOR[config["tag"]]
    if config.get("kind") == "cuda" and "arch" not in config:
        # TVM would guess sm_50 and say so in a warning only
        raise UserError(f'target {wanted}: expected an "arch" such as "sm_90" for a CUDA target')
    return config


def _of_architecture(wanted: str) -> dict[str, Any] | None:
    """The CUDA target that an architecture such as ``sm_90`` names; None for any other text."""
    return {"kind": "cuda", "arch": wanted} if re.fullmatch(r"sm_\d+[a-z]?", wanted) else None


def _make(wanted: str, config: str | dict[str, Any]) -> tvm.target.Target:
    target_module = importlib.import_module("tvm.target")
    try:
        return target_module.Target(config)
    except Exception as error:
        raise UserError(f"target {wanted}: {_reason(error)}; {_EXAMPLES}") from None


def _reason(error: Exception) -> str:
    """TVM's message without the trail that its own calls add."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    line = line.partition(" Target creation from ")[0]
    return line.rpartition(" is false: ")[2].rstrip(".")


def _this_gpu() -> tvm.target.Target:
    tvm = load_tvm()
    gpu = tvm.cuda(0)
    if not gpu.exist:
        raise UserError(
            "target cuda: TVM sees no CUDA GPU here (familyseer doctor says what is missing); "
            "expected a tag such as nvidia/nvidia-h100 to name a GPU of another machine"
        )
    target = tvm.target.Target.from_device("cuda")
    if gpu.l2_cache_size_bytes:
        # which TVM's own detection leaves out
        known = {"l2_cache_size_bytes": int(gpu.l2_cache_size_bytes)}
        target = _make("cuda", {**target.export(), **known})
    return _complete("cuda", target)


def _check_cpu(wanted: str, target: tvm.target.Target) -> None:
    """Refuses a CPU that LLVM does not know: it would warn, then build for a generic one."""
    if target.kind.name != "llvm" or not target.attrs.get("mcpu"):
        return
    codegen = importlib.import_module("tvm.target.codegen")
    name = str(target.attrs["mcpu"])
    triple = str(target.attrs.get("mtriple") or codegen.llvm_get_system_triple())
    if not importlib.import_module("tvm.target")._ffi_api.llvm_is_valid_cpu(name, triple):
        raise UserError(f"target {wanted}: LLVM knows no CPU {name!r} for {triple}; {_EXAMPLES}")


def _complete(wanted: str, target: tvm.target.Target) -> tvm.target.Target:
    """Adds what MetaSchedule reads from a target and the user may leave out."""
    kind = str(target.kind.name)
    missing: dict[str, Any] = {}
    if kind == "llvm" and not target.attrs.get("num-cores"):
        missing["num-cores"] = available_cores()
    if kind == "cuda":
        limits = _CUDA_LIMITS | _registers(str(target.attrs["arch"]))
        missing = {key: value for key, value in limits.items() if key not in target.attrs}
    if missing:
        target = _make(wanted, {**target.export(), **missing})
    if "gpu" in target.keys and target.host is None:
        target = target.with_host(this_cpu())
    return target


def _registers(arch: str) -> dict[str, Any]:
    from familyseer.measure._cuda_limits import architecture

    known = architecture(arch)
    return {} if known is None else {"registers_per_block": known.block_registers}
