"""TVM's RPC server, mended so that a candidate's crash costs its session and not the server.

``python -m familyseer.fleet.serve --tracker HOST:PORT --key KEY`` takes the place of
``python -m tvm.exec.rpc_server``. Both run `tvm.rpc.Server`; but in TVM 0.27 a session whose
process dies raises in the server's listening thread and ends it: the server's process then lives on
without serving anybody. Its children also outlive a server that is killed.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import sys
from typing import Any

from familyseer.errors import UserError
from familyseer.fleet._address import parse_tracker
from familyseer.versions import TVM, check_versions

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str] | None = None) -> int:
    """Serves until it is interrupted or terminated; exit code 2 means wrong use."""
    options = _parser().parse_args(arguments)
    try:
        tracker = parse_tracker(options.tracker)
        check_versions(*TVM)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from tvm import rpc

    port = options.port
    server = rpc.Server(
        options.host,
        port or 9090,
        port + 1 if port else 9199,
        tracker_addr=tracker,
        key=options.key,
        custom_addr=options.address,
        silent=options.silent,
        server_init_callback=mend,
    )
    print(f"serving {options.key} on {options.host}:{server.port}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.proc.join()
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
    return 0


def mend() -> None:
    """Has this process's server survive its sessions, and end with its parent.

    It replaces two functions of `tvm.rpc.server` by ones that call them.
    """
    from tvm.rpc import server

    _end_with_parent()
    serving, serve_loop = server._serving, server._serve_loop

    def survive(sock: Any, addr: Any, opts: Any, load_library: Any) -> None:
        before = os.getcwd()
        try:
            serving(sock, addr, opts, load_library)
        except RuntimeError as error:
            logging.getLogger("RPCServer").warning("session of %s: %s", addr, error)
            os.chdir(before)
            sock.close()

    def end_with_server(*args: Any) -> None:
        _end_with_parent()
        serve_loop(*args)

    server._serving, server._serve_loop = survive, end_with_server


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m familyseer.fleet.serve", description=__doc__)
    parser.add_argument("--tracker", required=True, metavar="HOST:PORT", help="the tracker")
    parser.add_argument("--key", required=True, help="what clients ask for: a kind of device")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on [%(default)s]")
    parser.add_argument("--port", type=int, help="port to listen on [a free one of 9090 to 9198]")
    parser.add_argument("--address", help="address that clients reach it by, if not its own")
    parser.add_argument("--silent", action="store_true", help="log errors only")
    return parser


if __name__ == "__main__":
    # under its own name, so that the server's process imports what it is sent
    from familyseer.fleet import serve

    sys.exit(serve.main())
