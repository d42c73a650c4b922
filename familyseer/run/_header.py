"""What a run was asked for, as its decision log keeps it for whoever repeats the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from familyseer.families import METHODS
from familyseer.options import TuneOptions
from familyseer.tactics import Tactics


@dataclass(frozen=True)
class Header:
    """The first line of a run in the decision log.

    Attributes
    ----------
    records, rows
        Records, and rounds of the history, that were there when it began.
    resumed
        Whether it went on from those.
    unfinished_trials
        Trials of its limit that an interrupted run had used.
    versions
        Package -> version.
    """

    options: TuneOptions
    records: int
    rows: int
    resumed: bool
    unfinished_trials: int
    versions: dict[str, str]


def write_header(options: TuneOptions, folder: Any, records: int) -> dict[str, Any]:
    """A header as JSON.

    Parameters
    ----------
    folder
        The `RunFolder`, as it was when tuning began.
    records
        Records in it by then.
    """
    from familyseer.run._summary import versions

    return {
        "options": plain_options(options),
        "records": records,
        "rows": len(folder.history.rows),
        "resumed": folder.resumed,
        "unfinished_trials": folder.used.unfinished_trials,
        "versions": versions(),
    }


def plain_options(options: TuneOptions) -> dict[str, Any]:
    """What was asked for, as JSON; paths do not depend on where it is read."""
    asked = {name: _plain(value) for name, value in asdict(options).items()}
    asked["tactics"] = options.tactics.off()
    if Path(options.model).is_file():
        asked["model"] = str(Path(options.model).resolve())
    asked["warm_start"] = [str(Path(p).resolve()) for p in options.warm_start]
    return asked


def read_header(value: Mapping[str, Any], out: Path) -> Header:
    """What `write_header` wrote, for a run in the folder `out`.

    Raises
    ------
    ValueError
        A field is missing, unknown or of another type; the message names it.
    """
    versions = value.get("versions")
    if not isinstance(versions, dict):
        raise ValueError("versions: expected names and versions")
    resumed = value.get("resumed")
    if not isinstance(resumed, bool):
        raise ValueError(f"resumed is {resumed!r}: expected true or false")
    return Header(
        options=_options(value.get("options"), out),
        records=_count(value, "records"),
        rows=_count(value, "rows"),
        resumed=resumed,
        unfinished_trials=_count(value, "unfinished_trials"),
        versions={str(name): str(version) for name, version in versions.items()},
    )


def _count(value: Mapping[str, Any], name: str) -> int:
    found = value.get(name)
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise ValueError(f"{name} is {found!r}: expected a number")
    return found


# of the options whose values are not of one plain type
_PLAIN: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "target": (str, type(None)),
    "budget_s": (int, float, type(None)),
    "trials": (int, type(None)),
    "families": (str,),
    "seed": (int,),
    "workers": (int, type(None)),
    "precision": (str,),
    "max_rel_error": (int, float),
    "resume": (bool,),
    "spamm": (bool,),
    "exact_math": (bool,),
    "warm_start_any_target": (bool,),
    "tracker": (str, type(None)),
    "device_key": (str, type(None)),
}


def _options(asked: Any, out: Path) -> TuneOptions:
    known = {one.name for one in fields(TuneOptions)}
    if not isinstance(asked, dict) or not known >= set(asked):
        raise ValueError("options: expected those of a tuning run")
    values = dict(asked)
    for name, types in _PLAIN.items():
        if name in values and not isinstance(values[name], types):
            raise ValueError(f"options: {name} is {values[name]!r}")
    if "model" not in values or values.get("families", "op") not in METHODS:
        raise ValueError("options: expected a model, and families formed in a known way")
    try:
        values["tactics"] = Tactics.without([str(t) for t in values.get("tactics", ())])
        values["warm_start"] = tuple(Path(p) for p in values.get("warm_start", ()))
        shapes = values.get("input_shapes", {})
        values["input_shapes"] = {str(n): tuple(int(d) for d in s) for n, s in shapes.items()}
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"options: {error}") from None
    values["out"] = out
    return TuneOptions(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value
