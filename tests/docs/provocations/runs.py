"""Targets, budgets, and folders of runs that cannot be used."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from familyseer.errors import RunError
from familyseer.families import Family, form_families, plot_families
from familyseer.options import TuneOptions
from familyseer.progress import Observer
from familyseer.records import RecordBook
from familyseer.run import _driver, _foreign, _reference, _warm_start
from familyseer.run._folder import Identity, RunFolder, check_writable, hold
from familyseer.subgraphs import Subgraph
from familyseer.target import resolve_target
from familyseer.tvm_env import load_tvm
from tests.docs.provocations import Place, command, provokes, refused
from tests.docs.provocations.commands import full_disk
from tests.familyseer.kernels.finished_run import doubled

MINE = Identity("mlp", "0" * 64, "llvm")


@provokes("the-target-cannot-be-understood")
def _targets(place: Place) -> Iterator[str]:
    for target in (
        "{kind: llvm}",
        "[1]",
        '{"kind": "cuda"}',
        "quantum",
        '{"kind": "llvm", "mcpu": "8086"}',
    ):
        yield command("tune", "mlp", "-o", place.folder / "out", "--quiet", "--target", target)


@provokes("there-is-no-gpu-to-build-for")
def _no_gpu(_place: Place) -> Iterator[str]:
    if load_tvm().cuda(0).exist:
        pytest.skip("this machine has a GPU")
    yield command("families", "mlp", "--target", "cuda")


@provokes("a-time-that-is-none")
def _times(place: Place) -> Iterator[str]:
    from familyseer.duration import parse_duration

    for text in ("soon", "-5m", "0", "999999h"):
        yield command("tune", "mlp", "-o", place.folder / "out", "--budget", text)
    yield refused(parse_duration, "soon")


@provokes("neither-a-budget-nor-a-number-of-trials")
def _no_end(place: Place) -> Iterator[str]:
    yield refused(_driver.tune, TuneOptions(model="mlp", out=place.folder))


@provokes("families")
def _families(place: Place) -> Iterator[str]:
    subgraph = doubled()
    yield refused(form_families, [subgraph], "kin")
    yield refused(form_families, [subgraph], "graph", link_above=0.0)
    yield refused(form_families, [subgraph, subgraph])
    empty = Subgraph(0, "", "empty", load_tvm().IRModule({}), 1, 1.0)
    yield refused(form_families, [empty])
    families = form_families([subgraph])
    yield refused(plot_families, [subgraph], families, place.folder / "f.txt")
    yield refused(plot_families, [subgraph], families, place.folder / "no" / "f.svg")
    yield refused(plot_families, [subgraph], [Family("others", (1,), "")], place.folder / "f.svg")


@provokes("out-cannot-be-written")
def _unwritable(place: Place) -> Iterator[str]:
    (place.folder / "file").touch()
    yield refused(check_writable, place.folder / "file")
    yield refused(check_writable, place.folder / "file" / "out")


@provokes("out-holds-something-already")
def _held(place: Place) -> Iterator[str]:
    RunFolder(place.folder, MINE, resume=False)
    yield refused(RunFolder, place.folder, MINE, resume=False)
    yield refused(RunFolder, place.folder, Identity("mlp", "1" * 64, "llvm"), resume=True)
    yield refused(RunFolder, place.folder, Identity("mlp", "0" * 64, "cuda"), resume=True)
    (place.folder / "tuning" / "run.json").write_text("{}")
    yield refused(RunFolder, place.folder, MINE, resume=True)
    (place.folder / "tuning" / "run.json").unlink()
    yield refused(RunFolder, place.folder, MINE, resume=True)


@provokes("out-is-in-use")
def _in_use(place: Place) -> Iterator[str]:
    def second() -> None:
        with hold(place.folder):
            pass

    RunFolder(place.folder, MINE, resume=False)
    with hold(place.folder):
        yield refused(second)


@provokes("the-disk-is-full-or-the-folder-is-gone")
def _full(place: Place) -> Iterator[str]:
    from familyseer.spamm_tasks import _tune

    path = place.folder / "history.csv"

    def append(_row: object) -> None:
        raise full_disk(path)

    run = object.__new__(_driver._Run)
    run.journal = SimpleNamespace(failed=full_disk(path))
    yield str(run._cannot_write())
    spamm = object.__new__(_tune._Run)
    nothing = SimpleNamespace(sync=lambda: None)
    spamm.state = SimpleNamespace(
        best_s=1.0, covered=True, trials=1, subgraph=SimpleNamespace(name="spamm"), family="spamm"
    )
    spamm.clock, spamm.default_s = SimpleNamespace(reserve_s=0.0), 1.0
    spamm.database = spamm.failures = nothing
    spamm.folder = SimpleNamespace(
        used=SimpleNamespace(elapsed_s=0.0), history=SimpleNamespace(append=append)
    )
    yield refused(spamm._on_round, SimpleNamespace(elapsed_s=1.0, trials=1), error=RunError)


def _earlier(folder: Path, target: str) -> Path:
    """What a run for a target leaves that measured nothing."""
    folder.mkdir()
    RunFolder(folder, Identity("mlp", "0" * 64, target), resume=False)
    RecordBook(folder / "tuning").sync()
    return folder


@provokes("an-earlier-run-to-start-from-cannot-be-used")
def _earlier_runs(place: Place) -> Iterator[str]:
    here = resolve_target(None)

    def read(folder: Path, out: Path = place.folder / "out") -> str:
        return refused(_warm_start._read, folder, out, here, False)

    yield read(place.folder / "missing")
    (place.folder / "empty").mkdir()
    yield read(place.folder / "empty")
    run = _earlier(place.folder / "run", str(here))
    yield read(run, run)
    yield read(run)
    state = run / "tuning" / "run.json"
    state.write_text('{"target": "nonsense"}')
    yield read(run)
    state.write_text(json.dumps({"target": '{"kind": "llvm", "mcpu": "core2", "num-cores": 64}'}))
    yield read(run)
    state.write_text(json.dumps({"target": str(here)}))
    records = run / "tuning" / "database_tuning_record.json"
    content = records.read_bytes()
    records.unlink()
    yield read(run)
    records.write_bytes(content)
    # there when it is looked for, and not any more when it is read
    opened = Path.open

    def gone(path: Path, *options: Any, **more: Any) -> Any:
        if path == records:
            raise FileNotFoundError(2, os.strerror(2), str(path))
        return opened(path, *options, **more)

    with place.change.context() as change:
        change.setattr(Path, "open", gone)
        yield read(run)
    yield refused(_foreign._in_a_worker, run, "its database", 60.0, os.abort)


@provokes("the-speed-up-is-not-known")
def _slow_untuned(place: Place) -> Iterator[str]:
    said: list[str] = []

    class Reader(Observer):
        def on_message(self, text: str) -> None:
            said.append(text)

    # as if it took too long
    place.change.setattr(_reference, "MOST_WAIT_SHARE", 0.0)
    options = TuneOptions(model="mlp", out=place.folder / "out", trials=1)
    summary = _driver.tune(options, observer=Reader())
    assert summary["untuned_us"] is None
    assert summary["tuned_us"] > 0
    yield from said
