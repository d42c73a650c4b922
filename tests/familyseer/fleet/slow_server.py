"""A server whose every measured time is 50 times as long: a slow device, whatever the noise."""

from __future__ import annotations

import struct
from typing import Any

FACTOR = 50.0


def mend_and_slow_down() -> None:
    """Initialises a server's process."""
    import tvm_ffi

    from familyseer.fleet.serve import mend

    mend()
    name = "runtime.RPCTimeEvaluator"
    original = tvm_ffi.get_global_func(name)

    def slow_evaluator(*arguments: Any) -> Any:
        evaluate = original(*arguments)

        def run(*tensors: Any) -> bytes:
            seconds = evaluate(*tensors)
            count = len(seconds) // 8
            return struct.pack(
                f"@{count}d", *(FACTOR * s for s in struct.unpack(f"@{count}d", seconds))
            )

        return run

    tvm_ffi.register_global_func(name, slow_evaluator, override=True)


if __name__ == "__main__":
    from familyseer.fleet import serve
    from tests.familyseer.fleet import slow_server

    serve.mend = slow_server.mend_and_slow_down
    serve.main()
