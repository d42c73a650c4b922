"""Importing the package costs a command line's help nothing."""

from __future__ import annotations

import subprocess
import sys


def test_importing_families_loads_no_heavy_library() -> None:
    heavy = "('tvm', 'numpy', 'networkx', 'matplotlib')"
    code = f"import sys, familyseer.families; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
