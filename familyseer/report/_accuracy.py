"""tuning/accuracy.csv: how well each family's cost model ranked, a line whenever that changed.

The columns are ``elapsed_s,trials,family,accuracy``, the first three as in ``history.csv``. The
accuracy is the part of pairs of candidates of one subgraph that the model put in the order of their
measured times before it learnt from them: 0.5 is guessing, 1 is always right.
"""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path

log = logging.getLogger(__name__)

FILE = "accuracy.csv"
COLUMNS = ("elapsed_s", "trials", "family", "accuracy")


class AccuracyLog:
    """Appends to the file of one folder, new or an earlier run's; no error of it ends a run.

    Parameters
    ----------
    folder
        Where the file is or will be.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._last: dict[str, float] = {}
        self._failed = False

    def add(self, elapsed_s: float, trials: int, family: str, accuracy: float | None) -> None:
        """Notes an accuracy, 0 to 1, unless it is unknown or the family's last one.

        A warning says so where it cannot be written, once.
        """
        accuracy = None if accuracy is None else round(accuracy, 4)
        if self._failed or accuracy is None or self._last.get(family) == accuracy:
            return
        self._last[family] = accuracy
        line = io.StringIO()
        csv.writer(line).writerow((round(elapsed_s, 3), trials, family, accuracy))
        try:
            # one call for each line: a crash tears the last one at most
            with self.path.open("ab", buffering=0) as file:
                if file.tell() == 0:
                    file.write((",".join(COLUMNS) + "\r\n").encode())
                file.write(line.getvalue().encode("utf-8", "replace"))
        except OSError as error:
            self._failed = True
            log.warning("%s: cannot be written (%s)", self.path, error.strerror or error)
