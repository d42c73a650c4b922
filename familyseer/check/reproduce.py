"""``python -m familyseer.check.reproduce FILE``: shows again what was wrong with a schedule.

It builds the subgraph and the quarantined schedule of it, runs both on the same inputs and prints
the difference. Exit codes: 1 still wrong, 0 right now, 2 not a reproducer. A schedule that crashes
takes this program with it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from familyseer.check._quarantine import read_reproducer
from familyseer.errors import UserError


def reproduce(path: Path) -> tuple[bool, str]:
    """Whether a quarantined schedule is right now, and one line about it.

    Raises
    ------
    UserError
        The file is no reproducer, or TVM does not read what is in it.
    """
    from familyseer.check._jobs import check_schedule, make_reference
    from familyseer.measure._measure import device_type
    from familyseer.tvm_env import load_tvm

    content = read_reproducer(path)
    tvm = load_tvm(intrinsics=True)
    try:
        mod = tvm.ir.load_json(content["tir"])
        target = tvm.target.Target(json.loads(content["target"]))
        schedule = tvm.s_tir.Schedule(mod)
        tvm.s_tir.schedule.Trace.apply_json_to_schedule(content["trace"], schedule)
    except Exception as error:  # whatever TVM throws at text that it did not write
        last = (str(error).strip().splitlines() or [""])[-1]
        raise UserError(
            f"{path}: TVM cannot read its subgraph or trace ({last}); expected a reproducer that "
            "this version of TVM wrote"
        ) from None
    device = device_type(target)
    with tempfile.TemporaryDirectory(prefix="familyseer-reproduce-") as folder:
        make_reference(mod, target, device, folder, content["seed"])
        found = check_schedule(folder, None, schedule.mod, target, device, None)
    if found["reason"]:
        return False, f"{content['subgraph']}: wrong: {found['reason']}"
    return True, f"{content['subgraph']}: right, relative error {found['error']:.3g}"


def main(arguments: list[str]) -> int:
    """Runs the program; see the module."""
    try:
        if len(arguments) != 1:
            raise UserError(f"{len(arguments)} arguments: expected one, a reproducer's path")
        right, line = reproduce(Path(arguments[0]))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(line)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
