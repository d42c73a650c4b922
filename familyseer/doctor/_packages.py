"""Python and the distributions that FamilySeer leans on."""

from __future__ import annotations

import platform
import sys

from familyseer.doctor._report import Check
from familyseer.versions import KNOWN, complaint, installed

_PYTHON_FROM, _PYTHON_BELOW = (3, 10), (3, 13)
# what stops without them
REQUIRED = {
    "apache-tvm": "nothing can be compiled or tuned",
    "apache-tvm-ffi": "TVM cannot be loaded",
    "click": "the command line cannot start",
    "cloudpickle": "MetaSchedule cannot measure in other processes",
    "matplotlib": "families cannot be drawn",
    "ml_dtypes": "arrays of bfloat16 have no type",
    "networkx": "families cannot be formed",
    "numpy": "nothing can be run or measured",
    "onnx": "no ONNX model can be read",
    "onnxslim": "ONNX models cannot be cleaned up before import",
    "packaging": "versions cannot be compared",
    "psutil": "cores cannot be counted, nor workers be watched",
    "rich": "progress and tables cannot be shown on a terminal",
    "xgboost": "cost models cannot be trained",
}
OPTIONAL = {
    "onnxruntime": "libraries of ONNX models are compared with the untuned ones alone",
    "torch": ".pt2 models cannot be read; .onnx files and built-in models can",
    "tornado": "candidates cannot be measured on other machines over RPC",
}


def check_packages() -> list[Check]:
    """Python, this package, and every distribution that it requires."""
    checks = [_python(), _distribution("Packages", "familyseer", True, "it is not installed")]
    return checks + [_distribution("Packages", name, True, cost) for name, cost in REQUIRED.items()]


def check_optional_packages() -> list[Check]:
    """The distributions that widen what can be done."""
    return [_distribution("Optional", name, False, cost) for name, cost in OPTIONAL.items()]


def _python() -> Check:
    fits = _PYTHON_FROM <= sys.version_info[:2] < _PYTHON_BELOW
    value = f"{platform.python_version()} on {platform.platform(terse=True)}"
    cost = "3.10, 3.11 or 3.12 is what FamilySeer is made for"
    return Check("Packages", "python", "ok" if fits else "failed", value, True, cost)


def _distribution(section: str, name: str, required: bool, cost: str) -> Check:
    found = installed(name)
    if found is None:
        return Check(section, name, "missing", "", required, cost)
    origin, version = found
    value = version if origin == name else f"{version} ({origin})"
    problem = complaint(name) if name in KNOWN else None
    if problem is not None:
        return Check(section, name, "failed", value, required, problem)
    return Check(section, name, "ok", value, required, cost)
