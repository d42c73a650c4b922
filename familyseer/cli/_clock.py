"""When the process began, as near as Python can tell: a budget counts from here."""

from __future__ import annotations

import time

STARTED_AT = time.monotonic()
