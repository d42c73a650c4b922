"""The diagnosis as a whole."""

from __future__ import annotations

from familyseer.doctor._cuda import check_cuda
from familyseer.doctor._host import TVM_PROBE, TVM_TIMEOUT_S, check_compiler, check_cpu
from familyseer.doctor._packages import check_optional_packages, check_packages
from familyseer.doctor._probe import ask_python
from familyseer.doctor._report import Report


def diagnose() -> Report:
    """Looks at everything that FamilySeer uses on this machine, in a few seconds.

    Whatever crashes or does not answer becomes a line of the report; nothing is raised.
    """
    packages = check_packages()
    tvm, fault = ask_python(TVM_PROBE, TVM_TIMEOUT_S)
    return Report(
        (
            *packages,
            *check_cpu(tvm, fault),
            *check_compiler(tvm.get("compiler"), known=bool(tvm)),
            *check_cuda(tvm),
            *check_optional_packages(),
        )
    )
