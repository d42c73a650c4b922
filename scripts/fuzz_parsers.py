"""Feeds damaged and hostile files to every parser of files that may come from elsewhere.

    python scripts/fuzz_parsers.py --inputs 100000 --seed 0

Files that the code itself wrote are cut, flipped, spliced, nested, given huge numbers, wrong types
and swapped fields. A parser may read what comes of it or refuse it by its documented error. Any
other exception, a crash, a hang, or code that ran is a fault: the input is kept and the script
ends with exit code 1. What goes through TVM's or XGBoost's own parsers goes through a worker
process, as in a run, where a crash is an answer like another.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import lzma
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from _fuzz_files import make_files
from _fuzz_inputs import Mutator

from costmodels.store import _samples, load_learner
from familyseer.decisions._log import FILE as DECISIONS
from familyseer.decisions._log import DecisionLog, read_log
from familyseer.errors import UserError
from familyseer.export import _manifest, use
from familyseer.families import load_families
from familyseer.laboratory.tables import load_table
from familyseer.records import FailureLog, RecordsError, read_failures
from familyseer.records._files import (
    RECORDS,
    WORKLOADS,
    open_files,
    parse_workload,
    read_files,
    record_of,
)
from familyseer.run import _foreign
from familyseer.run._folder import Identity, RunFolder
from familyseer.run._header import read_header
from familyseer.run._history import History, read_rows

REFUSALS = (UserError, ValueError, RecordsError)
# one input; generous, since a machine may be busy with other things
LIMIT_S = 20.0
# of the inputs, those that are given to TVM and XGBoost in a worker
WORKER_SHARE = 0.005


@dataclass(frozen=True)
class Parser:
    """A parser, and a file of the kind that it reads.

    Attributes
    ----------
    file
        Where the file lies in the folder.
    read
        Reads it, and what it refers to.
    open, shut
        Between the file's bytes and those that are damaged: what is inside an archive is damaged
        before it is packed, or no damage would get past its checksums.
    """

    file: str
    read: Callable[[Path], Any]
    open: Callable[[bytes], bytes] = bytes
    shut: Callable[[bytes], bytes] = bytes


def _read_records(folder: Path) -> None:
    tuning = folder / "tuning"
    contents = read_files(tuning)
    target = _foreign.read_target(folder)
    list(_foreign._fastest(tuning, contents, target, 4))
    open_files(tuning)
    (tuning / "rejected.jsonl").unlink(missing_ok=True)


def _read_failures(folder: Path) -> None:
    path = folder / "tuning" / "failures.jsonl"
    found = len(read_failures(path))
    FailureLog(path)
    if len(read_failures(path)) != found:
        raise AssertionError("the log lost what a reader found")


def _read_state(folder: Path) -> None:
    target = str(_foreign.read_target(folder))
    RunFolder(folder, Identity("add", "ab", target), resume=True)


def _read_decisions(folder: Path) -> None:
    found = read_log(folder / "tuning")
    for run in found:
        read_header(run.header, folder)
    DecisionLog(folder / "tuning").close()
    if read_log(folder / "tuning") != found:
        raise AssertionError("the log lost what a reader found")


def _read_history(folder: Path) -> None:
    found = read_rows(folder / "history.csv")
    if len(History(folder / "history.csv").rows) > len(found):
        raise AssertionError("a torn line counts as a round")


def _npz_open(content: bytes) -> bytes:
    """Names, types, shapes and bytes of the arrays, without what packs them."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = [(name, archive[name]) for name in archive.files]
    return json.dumps([[n, [a.dtype.str, a.shape], a.tobytes().hex()] for n, a in arrays]).encode()


def _npz_shut(content: bytes) -> bytes:
    """An archive of what is left of some arrays; what is none stays as it is."""
    try:
        arrays = {
            str(name): np.frombuffer(bytes.fromhex(part), dtype=dtype).reshape(shape)
            for name, (dtype, shape), part in json.loads(content)
        }
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()
    except Exception:  # damaged beyond what NumPy makes an archive of
        return content


def _samples_file(folder: Path) -> Path:
    return next((folder / "costmodels").glob("samples-conv2d-*.npz"))


def parsers(folder: Path) -> dict[str, Parser]:
    """Every parser by name, for a folder of `make_files`."""
    samples = str(_samples_file(folder).relative_to(folder))
    models = folder / "costmodels"
    return {
        "workloads": Parser(f"tuning/{WORKLOADS}", _read_records),
        "records": Parser(f"tuning/{RECORDS}", _read_records),
        "failures": Parser("tuning/failures.jsonl", _read_failures),
        "run": Parser("tuning/run.json", _read_state),
        "decisions": Parser(f"tuning/{DECISIONS}", _read_decisions),
        "history": Parser("history.csv", _read_history),
        "summary": Parser("summary.json", use.read_summary),
        "manifest": Parser("manifest.json", _manifest.check_manifest),
        "families": Parser("families.json", lambda f: load_families(f / "families.json")),
        "cost models": Parser("costmodels/manifest.json", lambda _: load_learner(str(models))),
        "samples": Parser(
            samples, lambda f: _samples(f, (f / samples).read_bytes()), _npz_open, _npz_shut
        ),
        "packed samples": Parser(samples, lambda f: _samples(f, (f / samples).read_bytes())),
        "tables": Parser(
            "small.table.xz",
            lambda f: load_table(f / "small.table.xz"),
            lambda content: _npz_open(lzma.decompress(content)),
            lambda content: lzma.compress(_npz_shut(content), preset=0),
        ),
        "packed tables": Parser("small.table.xz", lambda f: load_table(f / "small.table.xz")),
    }


class HangError(Exception):
    """An input took longer than `LIMIT_S`."""


@contextmanager
def limited() -> Iterator[None]:
    """Ends what takes longer than `LIMIT_S`."""

    def ring(*_: Any) -> None:
        raise HangError

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def feed(parser: Parser, folder: Path, content: bytes) -> str:
    """``read`` or ``refused``; whatever else a parser does goes through."""
    (folder / parser.file).write_bytes(parser.shut(content))
    try:
        with limited():
            parser.read(folder)
    except REFUSALS as error:
        if "\n" in str(error):
            raise AssertionError(f"a message of several lines: {error}") from error
        return "refused"
    return "read"


def fuzz(folder: Path, mutator: Mutator, inputs: int) -> Counter[tuple[str, str]]:
    """Feeds as many inputs, the parsers in turn; the first fault goes through."""
    found: Counter[tuple[str, str]] = Counter()
    known = parsers(folder)
    whole = {name: (folder / parser.file).read_bytes() for name, parser in known.items()}
    opened = {name: parser.open(whole[name]) for name, parser in known.items()}
    for number in range(inputs):
        name = list(known)[number % len(known)]
        content = mutator.damage(opened[name], opened[mutator.rng.choice(list(opened))])
        try:
            found[name, feed(known[name], folder, content)] += 1
        except BaseException:
            Path("fuzz-fault.bin").write_bytes(content)
            click.echo(f"input {number} of {name}, kept as fuzz-fault.bin:", err=True)
            raise
        (folder / known[name].file).write_bytes(whole[name])
    return found


def fuzz_in_worker(folder: Path, mutator: Mutator, inputs: int) -> Counter[tuple[str, str]]:
    """Feeds TVM and XGBoost, in a worker, what passes the parsers before them."""
    from familyseer.measure import WorkerPool

    found: Counter[tuple[str, str]] = Counter()
    workloads = (folder / "tuning" / WORKLOADS).read_bytes().splitlines()
    records = (folder / "tuning" / RECORDS).read_bytes().splitlines()
    model = next((folder / "costmodels").glob("model-conv2d-*.ubj"))
    booster = model.read_bytes()
    with WorkerPool(1) as pool:

        def ask(what: str, function: Callable[..., Any], *args: Any) -> None:
            try:
                pool.submit(function, *args, timeout_s=LIMIT_S).result(10 * LIMIT_S)
                found[what, "answered"] += 1
            except Exception as error:  # however a worker may end
                found[what, type(error).__name__] += 1

        for number in range(inputs):
            line, record = workloads[0], records[mutator.rng.randrange(3)]
            if number % 3 == 0:
                line = _respell(mutator, line)
                ask("workloads in TVM", _foreign._usable, [(line, [record])])
            elif number % 3 == 1:
                record = json.dumps(mutator.change(json.loads(record))).encode()
                try:
                    parse_workload(line), record_of(record)
                except ValueError:
                    found["records in TVM", "refused before"] += 1
                    continue
                ask("records in TVM", _foreign._usable, [(line, [record])])
            else:
                model.write_bytes(mutator.flip(booster, b""))
                _forge(model)
                ask("boosters in XGBoost", _foreign._try_learner, str(model.parent))
    return found


def _respell(mutator: Mutator, line: bytes) -> bytes:
    """A workload whose module's JSON is damaged, packed as TVM packs it."""
    shash, text = json.loads(line)
    module = mutator.damage(base64.b64decode(text)[8:], b"")
    packed = base64.b64encode(struct.pack("<q", len(module)) + module).decode()
    return json.dumps([shash, packed]).encode()


def _forge(file: Path) -> None:
    """Makes the manifest of cost models agree with a file, as a forger would."""
    path = file.with_name("manifest.json")
    manifest = json.loads(path.read_text())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for entry in [*manifest["families"], manifest["shared"]]:
        if file.name in entry["files"]:
            entry["files"][file.name] = digest
    path.write_text(json.dumps(manifest))


def table_of(found: Mapping[tuple[str, str], int]) -> str:
    """A line a parser: how often it answered how."""
    names = dict.fromkeys(name for name, _ in found)
    return "\n".join(
        f"{name:20}" + "  ".join(f"{o} {n}" for (p, o), n in sorted(found.items()) if p == name)
        for name in names
    )


@click.command()
@click.option("--inputs", type=click.IntRange(min=1), default=100_000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def main(inputs: int, seed: int) -> None:
    """Feed damaged files to every parser and count what they answer."""
    logging.disable(logging.WARNING)
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
    try:
        mark = folder / "code-ran"
        mutator = Mutator(random.Random(seed), mark)
        make_files(folder)
        in_worker = int(inputs * WORKER_SHARE)
        began = time.monotonic()
        found = fuzz(folder, mutator, inputs - in_worker)
        click.echo(table_of(found))
        click.echo(f"{inputs - in_worker} inputs in {time.monotonic() - began:.0f} s")
        began = time.monotonic()
        click.echo(table_of(fuzz_in_worker(folder, mutator, in_worker)))
        click.echo(f"{in_worker} inputs in {time.monotonic() - began:.0f} s")
        if mark.exists():
            click.echo("code of an input ran", err=True)
            sys.exit(1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
