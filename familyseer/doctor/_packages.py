"""Python and the distributions that FamilySeer leans on."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

from familyseer.doctor._report import Check
from familyseer.errors import UserError
from familyseer.tvm_env import check_versions

_PYTHON_FROM, _PYTHON_BELOW = (3, 10), (3, 13)
_TVM_PARTS = ("apache-tvm", "apache-tvm-ffi")
# what stops without them
REQUIRED = {
    "apache-tvm": "nothing can be compiled or tuned",
    "apache-tvm-ffi": "TVM cannot be loaded",
    "click": "the command line cannot start",
    "cloudpickle": "MetaSchedule cannot measure in other processes",
    "matplotlib": "families cannot be drawn",
    "networkx": "families cannot be formed",
    "numpy": "nothing can be run or measured",
    "onnx": "no ONNX model can be read",
    "onnxslim": "ONNX models cannot be cleaned up before import",
    "psutil": "cores cannot be counted, nor workers be watched",
    "rich": "progress and tables cannot be shown on a terminal",
    "xgboost": "cost models cannot be trained",
}
OPTIONAL = {
    "onnxruntime": "libraries of ONNX models are compared with the untuned ones alone",
    "torch": ".pt2 models cannot be read; .onnx files and built-in models can",
    "tornado": "candidates cannot be measured on other machines over RPC",
}
# installed under another name, imported under the same
_STAND_INS = {"xgboost": "xgboost-cpu"}


def check_packages() -> list[Check]:
    """Python, this package, and every distribution that it requires."""
    checks = [_python(), _distribution("Packages", "familyseer", True, "it is not installed")]
    checks += [_distribution("Packages", name, True, cost) for name, cost in REQUIRED.items()]
    return _with_tvm_verdict(checks)


def check_optional_packages() -> list[Check]:
    """The distributions that widen what can be done."""
    return [_distribution("Optional", name, False, cost) for name, cost in OPTIONAL.items()]


def _python() -> Check:
    fits = _PYTHON_FROM <= sys.version_info[:2] < _PYTHON_BELOW
    value = f"{platform.python_version()} on {platform.platform(terse=True)}"
    cost = "3.10, 3.11 or 3.12 is what FamilySeer is made for"
    return Check("Packages", "python", "ok" if fits else "failed", value, True, cost)


def _distribution(section: str, name: str, required: bool, cost: str) -> Check:
    for candidate in (name, _STAND_INS.get(name)):
        if candidate is None:
            continue
        try:
            version = importlib.metadata.version(candidate)
        except importlib.metadata.PackageNotFoundError:
            continue
        value = version if candidate == name else f"{version} ({candidate})"
        return Check(section, name, "ok", value, required, cost)
    return Check(section, name, "missing", "", required, cost)


def _with_tvm_verdict(checks: list[Check]) -> list[Check]:
    """Marks TVM as failed where its versions are known to crash together."""
    if any(check.status == "missing" for check in checks if check.name in _TVM_PARTS):
        return checks
    try:
        check_versions()
    except UserError as error:
        at_fault = next(n for n in reversed(_TVM_PARTS) if str(error).startswith(f"{n} "))
        return [
            Check(c.section, c.name, "failed", c.value, c.required, str(error))
            if c.name == at_fault
            else c
            for c in checks
        ]
    return checks
