"""What this machine has, what is missing, and what each missing piece costs the user.

Nothing that may crash or hang is touched in the process that asks: libraries are loaded, compilers
and driver tools are run, in children that are given up after a time limit.
"""

from familyseer.doctor._diagnose import diagnose
from familyseer.doctor._report import Check, Report

__all__ = ["Check", "Report", "diagnose"]
