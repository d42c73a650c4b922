"""What `run`, `bench`, `report`, `compare` and `replay` say of a folder or a file."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from familyseer.check._quarantine import _MOST_BYTES
from familyseer.check.reproduce import main as reproduce
from familyseer.check.reproduce import reproduce as again
from familyseer.cli._npz import match_inputs, read_npz, write_npz
from familyseer.diff._bench import time_both
from familyseer.errors import RunError
from familyseer.export._manifest import check_manifest, write_manifest
from familyseer.laboratory.tables import FORMAT, SUFFIX, load_table, load_tables
from familyseer.models import InputSpec
from familyseer.options import CompareOptions
from familyseer.report import save_plots
from familyseer.run._replay import Replayed
from familyseer.run._spamm_file import FILE, Chosen, operators_of, read_choice
from familyseer.target import resolve_target
from familyseer.tuners import check_tuner
from tests.docs.provocations import Place, command, provokes, refused

SPECS = [InputSpec("x", (2, 3), "float32"), InputSpec("ids", (4,), "int32")]
INPUTS = [{"name": s.name, "shape": list(s.shape), "dtype": s.dtype} for s in SPECS]


def finished(folder: Path, **summary: Any) -> Path:
    """The folder of a finished run, with a library that cannot be run."""
    out = folder / "out"
    (out / "tuning").mkdir(parents=True, exist_ok=True)
    (out / "model.so").write_bytes(b"a library")
    document = {"device": "cpu", "inputs": INPUTS, "outputs": [], **summary}
    (out / "summary.json").write_text(json.dumps(document))
    return out


@provokes("no-finished-run-to-use")
def _unfinished(place: Place) -> Iterator[str]:
    yield command("bench", place.folder)
    yield command("bench", finished(place.folder, device=None))
    yield command("bench", finished(place.folder, inputs=[{"name": "x"}]))


@provokes("the-library-is-not-the-one-that-the-run-wrote")
def _other_library(place: Place) -> Iterator[str]:
    out = finished(place.folder)
    library, manifest = out / "model.so", out / "manifest.json"
    write_manifest(out, target=resolve_target(None), versions={}, model_digest="")
    whole = json.loads(manifest.read_text())
    library.write_bytes(b"a librarx")
    yield command("bench", out)
    library.write_bytes(b"a lib")
    yield command("bench", out)
    library.unlink()
    yield refused(check_manifest, out)
    for changes in ({"format": None}, {"format": 99}, {"files": {}}, {"machine": "z80"}):
        manifest.write_text(json.dumps({**whole, **changes}))
        yield refused(check_manifest, out)


@provokes("inputs-from-a-file-do-not-fit")
def _npz(place: Place) -> Iterator[str]:
    path = place.folder / "in.npz"
    yield refused(read_npz, path)
    path.write_text("no archive")
    yield refused(read_npz, path)
    np.savez(path, x=np.array([None]))
    yield refused(read_npz, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "text")
    yield refused(read_npz, path)
    np.savez(path, x=np.zeros(300))
    content = path.read_bytes()
    # the end of the member, then the directory at the archive's end
    at = content.index(b"x.npy") + 200
    path.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
    yield refused(read_npz, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00\x02\x00{}")
    yield refused(read_npz, path)
    good = {"x": np.ones((2, 3), "float32"), "ids": np.zeros(4, "int32")}
    for changes in (
        {"x": None},
        {"y": np.zeros(1)},
        {"x": np.zeros((3, 2))},
        {"x": np.full((2, 3), "a")},
        {"ids": np.full(4, 2**40)},
    ):
        given: dict[str, Any] = {**good, **changes}
        write_npz(path, {name: value for name, value in given.items() if value is not None})
        yield refused(match_inputs, path, read_npz(path), SPECS)


@provokes("a-report-cannot-be-made")
def _report(place: Place) -> Iterator[str]:
    yield command("report", place.folder / "missing")
    yield command("report", place.folder)
    out = finished(place.folder)
    yield command("report", out, "-o", place.folder / "no" / "report.html")
    yield command("report", out, "--png", out / "model.so")
    yield refused(save_plots, out, place.folder / "plots", "gif")


@provokes("comparing-tuners")
def _compare(place: Place) -> Iterator[str]:
    from familyseer.compare._compare import run_tuner

    compare = ("compare", "mlp", "--budget", "5s", "-o", place.folder)
    yield command(*compare, "--tuners", "random,random")
    yield command(*compare, "--tuners", "annealing")
    yield refused(check_tuner, "annealing")
    (place.folder / "compare.json").touch()
    yield command(*compare)
    # any program that fails in place of Python
    place.change.setattr(sys, "executable", "/bin/false")
    options = CompareOptions(model="mlp", out=place.folder, budget_s=5.0, tuners=("random",))
    yield refused(run_tuner, options, "random", 0, error=RunError)


@provokes("comparing-two-runs")
def _diff(place: Place) -> Iterator[str]:
    first, second, gpu = (place.folder / name for name in ("first", "second", "gpu"))
    finished(first)
    finished(second, inputs=INPUTS[:1])
    finished(gpu, device="cuda")
    yield refused(time_both, first / "out", second / "out")
    yield refused(time_both, first / "out", gpu / "out")


@provokes("a-run-cannot-be-replayed")
def _replay(place: Place) -> Iterator[str]:
    yield command("replay", place.folder)
    (place.folder / "summary.json").write_text('{"wanted_valid_ratio": 0.1}')
    yield command("replay", place.folder)
    log = place.folder / "tuning" / "decisions.jsonl"
    log.parent.mkdir()
    for content in ("", "{}\n", '{"run": {}}\n'):
        log.write_text(content)
        yield command("replay", place.folder)
    yield refused(operators_of, {}, [Chosen(3, (32, 32), 0.1)], None)
    (place.folder / FILE).write_text('{"layers": [1]}')
    yield refused(read_choice, place.folder)


@provokes("a-replay-comes-out-otherwise")
def _other_decision(place: Place) -> Iterator[str]:
    from click.testing import CliRunner

    import familyseer.run
    from familyseer.cli.main import main

    different = Replayed(1, 4, 60, "budget", "round 5: another subgraph", {})
    place.change.setattr(familyseer.run, "replay", lambda _out, _on_round: [different])
    result = CliRunner().invoke(main, ["replay", str(place.folder)])
    assert result.exit_code == 1
    yield result.stdout.strip()


@provokes("a-wrong-schedule-cannot-be-reproduced")
def _reproduce(place: Place) -> Iterator[str]:
    path = place.folder / "conv-1.json"
    yield refused(again, path)
    fields: dict[str, Any] = {"subgraph": "", "tir": "", "trace": [], "target": "", "kind": ""}
    for content in ("{", "[]", '{"format": 1}', json.dumps({"format": 1, **fields, "seed": 0})):
        path.write_text(content)
        yield refused(again, path)
    with path.open("r+b") as file:
        file.truncate(_MOST_BYTES + 1)
    yield refused(again, path)
    said: list[str] = []
    place.change.setattr(sys.stderr, "write", said.append)
    assert reproduce([]) == 2
    yield "".join(said).strip()


@provokes("recorded-tables")
def _tables(place: Place) -> Iterator[str]:
    import io
    import lzma

    yield refused(load_tables, place.folder)
    path = place.folder / f"mlp{SUFFIX}"
    path.write_bytes(b"no table")
    yield refused(load_table, path)
    for head in ({"format": "another"}, {"format": FORMAT}):
        buffer = io.BytesIO()
        np.savez(buffer, head=np.frombuffer(json.dumps(head).encode(), np.uint8))
        path.write_bytes(lzma.compress(buffer.getvalue()))
        yield refused(load_table, path)
