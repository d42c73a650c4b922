"""OUT, the folder of a run: whose it is, what is already in it, what is appended to it."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from familyseer.errors import UserError

HISTORY_COLUMNS = (
    "elapsed_s",
    "trials",
    "subgraph",
    "family",
    "best_us",
    "estimated_model_us",
)


@dataclass(frozen=True)
class Identity:
    """What must be the same for a run to go on from another: model and target."""

    model: str
    digest: str
    target: str


class RunFolder:
    """OUT of one run.

    Parameters
    ----------
    out
        The folder; made if it is not there.
    identity
        The model and target of this run.
    resume
        Go on from an earlier run of the same identity.

    Raises
    ------
    UserError
        OUT is a file or cannot be written, or holds a run that is not to be continued or cannot
        be.
    """

    def __init__(self, out: Path, identity: Identity, *, resume: bool) -> None:
        self.out = out
        self.tuning = out / "tuning"
        self.models = out / "costmodels"
        self.history = out / "history.csv"
        self._state = self.tuning / "run.json"
        check_writable(out)
        earlier = self._earlier()
        self.resumed = earlier is not None
        self.elapsed_before_s = 0.0
        self.trials_before = 0
        if earlier is not None:
            self._refuse_strangers(earlier, identity, resume)
            self.elapsed_before_s = float(earlier.get("elapsed_s", 0.0))
            self.trials_before = int(earlier.get("trials", 0))
        self.tuning.mkdir(parents=True, exist_ok=True)
        self._identity = identity
        self.book(self.elapsed_before_s, self.trials_before)
        if not self.history.exists():
            with self.history.open("w", newline="") as file:
                csv.writer(file).writerow(HISTORY_COLUMNS)

    def _earlier(self) -> dict[str, Any] | None:
        if not self._state.exists():
            if any((self.out / name).exists() for name in ("model.so", "summary.json", "tuning")):
                raise UserError(
                    f"{self.out}: holds files that no run can continue; expected an empty folder"
                )
            return None
        try:
            earlier = json.loads(self._state.read_text())
            if not isinstance(earlier["digest"], str):
                raise TypeError
        except (ValueError, KeyError, TypeError, UnicodeDecodeError):
            raise UserError(f"{self._state}: not the state of a tuning run") from None
        return dict(earlier)

    def _refuse_strangers(self, earlier: dict[str, Any], mine: Identity, resume: bool) -> None:
        if earlier["digest"] != mine.digest:
            raise UserError(
                f"{self.out}: holds a run of another model ({earlier.get('model')}); "
                f"expected an empty folder or one of {mine.model}"
            )
        if earlier.get("target") != mine.target:
            raise UserError(
                f"{self.out}: holds a run for another target ({earlier.get('target')}); "
                f"expected an empty folder or one for {mine.target}"
            )
        if not resume:
            raise UserError(
                f"{self.out}: holds a run of {mine.model} already; "
                "expected --resume to go on from it, or an empty folder"
            )

    def book(self, elapsed_s: float, trials: int) -> None:
        """Notes what the run has used so far, for whoever resumes it."""
        state = {
            "model": self._identity.model,
            "digest": self._identity.digest,
            "target": self._identity.target,
            "elapsed_s": round(elapsed_s, 3),
            "trials": trials,
        }
        write_json(self._state, state)

    def append_history(self, row: tuple[Any, ...]) -> None:
        """Appends one measured round; see `HISTORY_COLUMNS`."""
        with self.history.open("a", newline="") as file:
            csv.writer(file).writerow(["" if cell is None else cell for cell in row])


def check_writable(out: Path) -> None:
    """Makes OUT and tries to write in it.

    Raises
    ------
    UserError
        It is a file, or nothing can be written there.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; expected a folder for what the run leaves")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); expected a folder") from None


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(value, file, indent=2)
            file.write("\n")
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
