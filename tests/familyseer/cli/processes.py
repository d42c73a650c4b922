"""Commands in processes of their own, where what they import or print by themselves matters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HEAVY = {"tvm", "tvm_ffi", "torch", "numpy", "onnx", "rich", "networkx", "matplotlib", "xgboost"}
HEAVY |= {"psutil", "scipy", "pandas", "ml_dtypes"}


def top_level_modules(*args: str | Path, **env: str) -> set[str]:
    """What a command imports, by the names of packages."""
    code = (
        "import sys\n"
        "from familyseer.cli.main import main\n"
        # as the command itself is called, and not as a test calls it
        f"sys.argv = {['familyseer', *map(str, args)]!r}\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, **env},
    )
    return set(done.stderr.split())
