"""Loading TVM: without PyTorch where nothing needs it, and never at the cost of PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

# a stand-in that only leaves a trace: TVM takes whatever comes under this name, and drops what
# cannot be imported
_TORCH = "print('PyTorch was asked for'); raise ImportError"
_CODE = """
import json, sys
from familyseer._without_torch import leave_torch_out
from familyseer.tvm_env import load_tvm
leave_torch_out()
tvm = load_tvm()
loaded = {"tvm": tvm.__name__, "torch": "torch" in sys.modules}
print(json.dumps(loaded))
import torch
"""


def _run(code: str, path: Path) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_tvm_loads_without_pytorch_which_can_be_imported_afterwards(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(_TORCH)
    done = _run(_CODE, tmp_path)
    first, then = done.stdout.splitlines()
    found = json.loads(first)
    assert (found["tvm"], found["torch"]) == ("tvm", False)
    assert then == "PyTorch was asked for"


def test_pytorch_is_hidden_from_the_loading_thread_alone(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("")
    code = """
import importlib, threading
from familyseer._without_torch import leave_torch_out, torch_as_wanted
found = []
def look():
    try:
        found.append(importlib.import_module("torch").__name__)
    except ImportError as error:
        found.append(type(error).__name__)
leave_torch_out()
with torch_as_wanted():
    look()
    other = threading.Thread(target=look)
    other.start()
    other.join()
look()
with torch_as_wanted():
    look()
print(*found)
"""
    done = _run(code, tmp_path)
    assert done.stdout.split() == ["ModuleNotFoundError", "torch", "torch", "torch"], done.stderr


def test_a_program_of_the_users_own_loads_tvm_as_tvm_wants_it(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(_TORCH)
    done = _run("from familyseer.tvm_env import load_tvm; load_tvm()", tmp_path)
    assert "PyTorch was asked for" in done.stdout
