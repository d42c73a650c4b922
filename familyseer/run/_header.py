"""What a run was asked for, as its decision log keeps it for whoever repeats the run."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from familyseer.options import TuneOptions
from familyseer.tactics import Tactics


def header(options: TuneOptions, folder: Any, records: int) -> dict[str, Any]:
    """The first line of a run in the decision log.

    Parameters
    ----------
    folder
        The `RunFolder`, as it was when tuning began.
    records
        Records in it by then.
    """
    from familyseer.run._summary import versions

    asked = {name: _plain(value) for name, value in asdict(options).items()}
    asked["tactics"] = options.tactics.off()
    if Path(options.model).is_file():
        # a replay may be asked for from another folder
        asked["model"] = str(Path(options.model).resolve())
    asked["warm_start"] = [str(Path(p).resolve()) for p in options.warm_start]
    return {
        "options": asked,
        "records": records,
        "rows": len(folder.history.rows),
        "resumed": folder.resumed,
        "unfinished_trials": folder.used.unfinished_trials,
        "versions": versions(),
    }


def options_of(asked: dict[str, Any], out: Path) -> TuneOptions:
    """The options that a header tells of.

    Raises
    ------
    ValueError
        One is missing or unknown.
    """
    known = {one.name for one in fields(TuneOptions)}
    if not known >= set(asked):
        raise ValueError(f"unknown options {', '.join(sorted(set(asked) - known))}")
    values = dict(asked)
    values["tactics"] = Tactics.without(values.get("tactics", ()))
    values["warm_start"] = tuple(Path(p) for p in values.get("warm_start", ()))
    values["input_shapes"] = {n: tuple(s) for n, s in values.get("input_shapes", {}).items()}
    values["out"] = out
    try:
        return TuneOptions(**values)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value
