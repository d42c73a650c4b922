"""Where a tracker is, from what a user writes after ``--tracker``."""

from __future__ import annotations

from familyseer.errors import UserError


def parse_tracker(text: str) -> tuple[str, int]:
    """Host and port of a tracker.

    Parameters
    ----------
    text
        ``HOST:PORT``; an IPv6 address stands in brackets, ``[::1]:9190``.

    Raises
    ------
    UserError
        There is no host, or no port from 1 to 65535.
    """
    host, colon, port = text.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    valid = port.isascii() and port.isdigit() and 1 <= int(port) <= 65535
    if not colon or not host or not valid or (":" in host and not bracketed):
        raise UserError(f"--tracker {text}: expected HOST:PORT such as 192.168.0.10:9190")
    return host, int(port)
