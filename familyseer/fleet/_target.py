"""What a fleet can be used for so far: targets that this machine can run too."""

from __future__ import annotations

import platform
from typing import Any

from familyseer.errors import UserError
from familyseer.tvm_env import load_tvm

_SAME = {"amd64": "x86_64", "arm64": "aarch64"}


def check_target(target: Any) -> None:
    """Refuses a target of another kind of machine than this one.

    Candidates are timed on the fleet, but they are linked here, and whole libraries are checked
    and timed here.

    Raises
    ------
    UserError
        The target's processor architecture is not this machine's, or it is a GPU that is not here.
    """
    tvm = load_tvm()
    kind = str(target.kind.name)
    if kind != "llvm":
        if not tvm.runtime.device(kind, 0).exist:
            raise UserError(
                f"--tracker with target {kind}: expected a {kind} device on this machine too, "
                "where whole libraries are checked and timed"
            )
        return
    here = _architecture(platform.machine())
    triple = str(target.attrs.get("mtriple") or "")
    wanted = _architecture(triple.partition("-")[0]) or here
    if wanted != here:
        raise UserError(
            f"--tracker with target {kind} for {wanted}: expected {here}, this machine's "
            "architecture, since whole libraries are linked, checked and timed here"
        )


def _architecture(name: str) -> str:
    return _SAME.get(name.lower(), name.lower())
