"""OUT, the folder of a run: whose it is, who may use it now, what it has used so far."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from familyseer.atomic import DRAFTS
from familyseer.errors import UserError
from familyseer.run._history import History
from familyseer.safe_json import load_json, save_json

log = logging.getLogger(__name__)

_STATE = Path("tuning") / "run.json"
# what a killed run may leave: files that were to be renamed when they were whole
_HALF_MADE = (DRAFTS, ".candidate-*.so", ".costmodels-new")
# file systems that know no locks
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EBADF, errno.EINVAL)


@dataclass(frozen=True)
class Identity:
    """What must be the same for a run to go on from another: model and target."""

    model: str
    digest: str
    target: str


@dataclass(frozen=True)
class Used:
    """What earlier runs in OUT have used.

    Attributes
    ----------
    elapsed_s, trials
        Of all of them.
    unfinished_s, unfinished_trials
        Of the last one and those it went on from, if it was interrupted before its library was
        written: that much of the present budget is spent.
    """

    elapsed_s: float = 0.0
    trials: int = 0
    unfinished_s: float = 0.0
    unfinished_trials: int = 0


class RunFolder:
    """OUT of one run, which holds its lock (`hold`).

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
        self._state = out / _STATE
        self._checked = self.tuning / "checked.json"
        check_writable(out)
        earlier = self._earlier()
        self.resumed = earlier is not None
        self.used = Used()
        if earlier is not None:
            self._refuse_strangers(earlier, identity, resume)
            self.used = _used(earlier)
        self.tuning.mkdir(parents=True, exist_ok=True)
        self._clear_half_made()
        self._identity = identity
        self.book(0.0, 0)
        self.history = History(out / "history.csv")

    def _earlier(self) -> dict[str, Any] | None:
        if not self._state.exists():
            if any((self.out / name).exists() for name in ("model.so", "summary.json", "tuning")):
                raise UserError(
                    f"{self.out}: holds files that no run can continue; expected an empty folder"
                )
            return None
        earlier = load_json(self._state, what="the state of a tuning run")
        if not isinstance(earlier, dict) or not isinstance(earlier.get("digest"), str):
            raise UserError(
                f"{self._state}: not the state of a tuning run; expected one, or an empty folder"
            )
        return earlier

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

    def book(self, elapsed_s: float, trials: int, *, finished: bool = False) -> None:
        """Notes what this run has used so far, for whoever resumes it.

        Parameters
        ----------
        elapsed_s, trials
            Of this run alone.
        finished
            Its library is written, so nothing of its budget is left to go on with.
        """
        used = self.used
        state = {
            "model": self._identity.model,
            "digest": self._identity.digest,
            "target": self._identity.target,
            "elapsed_s": round(used.elapsed_s + elapsed_s, 3),
            "trials": used.trials + trials,
            "unfinished_s": 0.0 if finished else round(used.unfinished_s + elapsed_s, 3),
            "unfinished_trials": 0 if finished else used.unfinished_trials + trials,
            "pid": os.getpid(),
        }
        save_json(self._state, state)

    def save_models(self, cost_model: Any) -> None:
        """Replaces the saved cost models, the old ones kept until the new ones are whole."""
        new, old = self.out / ".costmodels-new", self.out / ".costmodels-old"
        shutil.rmtree(new, ignore_errors=True)
        cost_model.save(str(new))
        shutil.rmtree(old, ignore_errors=True)
        if self.models.exists():
            self.models.rename(old)
        new.rename(self.models)
        shutil.rmtree(old, ignore_errors=True)

    def save_checked(self, found: Iterable[tuple[str, str]]) -> None:
        """Notes which schedules were found right, so that a resumed run need not check them again.

        Parameters
        ----------
        found
            As `familyseer.check.Checker.found_right` gives it.
        """
        save_json(self._checked, sorted(found))

    def read_checked(self) -> list[tuple[str, str]]:
        """What `save_checked` noted; nothing where it cannot be read, which costs time alone."""
        if not self._checked.exists():
            return []
        try:
            pairs = load_json(self._checked, what="the checked schedules of a tuning run")
            if any(not isinstance(pair, list) for pair in pairs):
                raise ValueError(f"{self._checked}: expected pairs of hashes")
            return [(str(subgraph), str(schedule)) for subgraph, schedule in pairs]
        except (UserError, TypeError, ValueError) as error:
            log.warning("schedules are checked again: %s", error)
            return []

    def _clear_half_made(self) -> None:
        old = self.out / ".costmodels-old"
        if old.exists() and not self.models.exists():
            old.rename(self.models)
        shutil.rmtree(old, ignore_errors=True)
        for pattern in _HALF_MADE:
            for path in [*self.out.glob(pattern), *self.tuning.glob(pattern)]:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def _used(earlier: dict[str, Any]) -> Used:
    def number(name: str) -> float:
        value = earlier.get(name, 0)
        usable = isinstance(value, (int, float)) and math.isfinite(value) and value >= 0
        return float(value) if usable else 0.0

    return Used(
        elapsed_s=number("elapsed_s"),
        trials=int(number("trials")),
        unfinished_s=number("unfinished_s"),
        unfinished_trials=int(number("unfinished_trials")),
    )


@contextlib.contextmanager
def hold(out: Path) -> Iterator[None]:
    """Keeps every other run out of a folder; the lock goes with the process, however it ends.

    Raises
    ------
    UserError
        Another run is using it.
    """
    folder = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{out}: another run is using it{_whose(out)}; "
                "expected another folder, or its end first"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            log.warning("%s cannot be locked (%s): start no second run in it", out, error.strerror)
        yield
    finally:
        os.close(folder)


def _whose(out: Path) -> str:
    try:
        return f" (process {int(json.loads((out / _STATE).read_text())['pid'])})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


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
