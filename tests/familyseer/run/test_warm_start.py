"""Runs that start from earlier ones: what is measured first, what is learnt, what is refused."""

from __future__ import annotations

import base64
import json
import logging
import shutil
import statistics
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from costmodels import FamilyCostModel
from familyseer.errors import UserError
from familyseer.options import TuneOptions
from familyseer.run import tune
from familyseer.run._warm_start import OWN_TRACES, WarmStart
from familyseer.search import Clock, Rounds, TaskState
from familyseer.search._proposals import new_context

FIRST_TRIALS, SECOND_TRIALS = 24, 18
RECORDS = Path("tuning") / "database_tuning_record.json"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT of a short run."""
    out = tmp_path_factory.mktemp("first") / "out"
    tune(TuneOptions(model="mlp", out=out, trials=FIRST_TRIALS))
    return out


@pytest.fixture(scope="module")
def second(first: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """OUT and summary of a run of the same model that starts from the first one."""
    out = tmp_path_factory.mktemp("second") / "out"
    options = TuneOptions(model="mlp", out=out, trials=SECOND_TRIALS, warm_start=(first,), seed=7)
    return out, tune(options)


@pytest.fixture
def copied(first: Path, tmp_path: Path) -> Path:
    """The first run's OUT, to be spoilt."""
    folder = tmp_path / "earlier"
    shutil.copytree(first, folder)
    return folder


def measured(out: Path) -> dict[str, list[tuple[str, float]]]:
    """Decisions and median seconds of each subgraph's candidates, in the order of measuring."""
    workloads = [
        json.loads(line)[0] for line in (out / RECORDS.parent / "database_workload.json").open()
    ]
    found: dict[str, list[tuple[str, float]]] = {}
    for line in (out / RECORDS).open():
        index, (trace, seconds, *_) = json.loads(line)
        found.setdefault(workloads[index], []).append(
            (json.dumps(trace), statistics.median(seconds))
        )
    return found


def test_the_earlier_best_of_each_subgraph_is_measured_first(
    first: Path, second: tuple[Path, dict[str, Any]]
) -> None:
    earlier, later = measured(first), measured(second[0])
    assert set(later) == set(earlier)
    for key, candidates in later.items():
        fastest = [trace for trace, _ in sorted(earlier[key], key=lambda c: c[1])]
        assert candidates[0][0] == fastest[0]
        again = [trace for trace, _ in candidates if trace in fastest[:OWN_TRACES]]
        assert len(again) == len(set(again)) > 1


def test_times_are_measured_anew_and_not_copied(
    first: Path, second: tuple[Path, dict[str, Any]]
) -> None:
    earlier, later = measured(first), measured(second[0])
    times = {seconds for candidates in earlier.values() for _, seconds in candidates}
    assert sum(map(len, later.values())) == second[1]["trials"] == SECOND_TRIALS
    assert not times & {s for candidates in later.values() for _, s in candidates if s < 1e9}


def test_the_summary_says_what_was_used(first: Path, second: tuple[Path, dict[str, Any]]) -> None:
    out, summary = second
    (used,) = summary["warm_start"]
    assert used["dir"] == str(first)
    assert used["subgraphs_matched"] == summary["subgraphs"]
    assert used["subgraphs_matched"] < used["records_used"] <= FIRST_TRIALS
    assert used["seeds"] > 0
    assert json.loads((out / "summary.json").read_text())["warm_start"] == [used]
    assert json.loads((first / "summary.json").read_text())["warm_start"] == []


def test_the_cost_models_go_on_from_the_earlier_ones(
    second: tuple[Path, dict[str, Any]],
) -> None:
    model = FamilyCostModel()
    model.load(str(second[0] / "costmodels"))
    assert sum(model.samples(f) for f in model.families()) > SECOND_TRIALS


def test_a_resumed_run_may_start_from_another_too(
    first: Path, second: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(second[0], out)
    # the weights of the zoo's networks follow the seed, and a resumed run is of the same model
    again = tune(
        TuneOptions(model="mlp", out=out, trials=4, resume=True, warm_start=(first,), seed=7)
    )
    assert again["trials_before"] == SECOND_TRIALS
    assert again["warm_start"][0]["subgraphs_matched"] == 3


def plan_first(start: WarmStart, subgraph: Any, target: Any) -> tuple[Rounds, Any, Any]:
    """The first round of another model's subgraph after a warm start, planned and not built."""
    model = FamilyCostModel({subgraph.key: "matmul"})
    state = TaskState(subgraph, "matmul")
    rounds = Rounds(
        [state],
        [new_context(subgraph, target, seed=0, threads=2)],
        builder=None,
        runner=None,
        database=None,
        cost_model=model,
        clock=Clock(None),
        starters=start.prepare([subgraph], model),
    )
    return rounds, state, rounds.plan(state, "first", 8)


def test_another_model_s_subgraph_of_the_same_operation_gets_seeds(
    first: Path, tmp_path: Path, cpu: Any, make_dense: Callable[..., Any]
) -> None:
    subgraph = make_dense(1, 384, 192)
    start = WarmStart([first], tmp_path, cpu)
    rounds, state, plan = plan_first(start, subgraph, cpu)
    (used,) = start.report()
    assert (used["subgraphs_matched"], used["seeds"]) == (0, used["records_used"])
    assert used["seeds"] > 3
    evolution = rounds._proposals[id(state)].evolution
    refitted = {
        fitted.tobytes()
        for run in start._runs
        for candidates in run.best.values()
        for candidate in candidates
        for sketch in evolution.sketches
        if (fitted := sketch.refit(candidate.sketch, candidate.vector)) is not None
    }
    genes = [evolution.genes_of(schedule) for schedule in plan.schedules]
    assert any(g is not None and g[1].tobytes() in refitted for g in genes)


def test_a_subgraph_of_another_operation_gets_none(first: Path, tmp_path: Path, cpu: Any) -> None:
    from familyseer.models import load_model
    from familyseer.subgraphs import extract_subgraphs, fuse

    subgraphs = extract_subgraphs(fuse(load_model("squeezenet").mod, cpu), cpu)
    start = WarmStart([first], tmp_path, cpu)
    assert start.prepare(subgraphs, FamilyCostModel()) == {}
    assert start.report()[0]["records_used"] == 0


def retarget(folder: Path) -> None:
    state = folder / "tuning" / "run.json"
    run = json.loads(state.read_text())
    target = {"kind": "llvm", "mcpu": "core2", "num-cores": 64}
    state.write_text(json.dumps({**run, "target": json.dumps(target)}))


def test_a_run_for_another_target_is_refused(copied: Path, tmp_path: Path, cpu: Any) -> None:
    retarget(copied)
    with pytest.raises(UserError, match="core2, 64 cores, this run is for llvm") as refused:
        WarmStart([copied], tmp_path / "out", cpu)
    assert str(copied) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_of_another_target_the_shared_model_alone_may_be_taken(
    copied: Path, tmp_path: Path, cpu: Any, make_dense: Callable[..., Any]
) -> None:
    retarget(copied)
    subgraph = make_dense(1, 256, 512)
    model = FamilyCostModel({subgraph.key: "matmul"})
    start = WarmStart([copied], tmp_path / "out", cpu, any_target=True)
    assert start.prepare([subgraph], model) == {}
    assert model.learner.shared.booster is not None
    assert model.experience("matmul") == 0
    assert model.learner.families == {}
    assert start.report()[0] == {
        "dir": str(copied),
        "records_used": 0,
        "subgraphs_matched": 0,
        "seeds": 0,
    }


def spoil(folder: Path, file: Path | str, text: str | None) -> None:
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("tuning/run.json", None, "holds no tuning/run.json; expected what `familyseer tune` left"),
        ("tuning/run.json", "{", "run.json: not JSON"),
        ("tuning/run.json", '{"target": "nonsense"}', "run.json: not the state of a tuning run"),
        ("tuning/database_workload.json", None, "cannot be read; expected MetaSchedule's JSON"),
        ("tuning/run.json", json.dumps({"target": "[" * 50_000}), "not the state of a tuning run"),
        ("manifest.json", '{"format": 99}', "format 99 is newer than 1"),
        (RECORDS, "[0, 1]\n", "holds no measured candidate"),
        (RECORDS, "", "holds no measured candidate"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(
    copied: Path, tmp_path: Path, cpu: Any, file: Path | str, text: str | None, said: str
) -> None:
    spoil(copied, file, text)
    with pytest.raises(UserError) as refused:
        WarmStart([copied], tmp_path / "out", cpu)
    assert said in str(refused.value)
    assert str(copied) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_refusal_leaves_out_free_for_another_try(tmp_path: Path) -> None:
    out, nowhere = tmp_path / "out", tmp_path / "nowhere"
    with pytest.raises(UserError, match=f"{nowhere}: no such folder"):
        tune(TuneOptions(model="mlp", out=out, trials=1, warm_start=(nowhere,)))
    assert list(out.iterdir()) == []


def test_a_run_does_not_start_from_itself(copied: Path, cpu: Any) -> None:
    with pytest.raises(UserError, match="is this run's own OUT; expected another run's folder"):
        WarmStart([copied / ".." / copied.name], copied, cpu)


def test_cost_models_that_cannot_be_read_cost_a_warning(
    copied: Path,
    tmp_path: Path,
    cpu: Any,
    make_dense: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (samples,) = (copied / "costmodels").glob("samples-*.npz")
    samples.write_bytes(samples.read_bytes()[:-7])
    subgraph = make_dense(1, 384, 192)
    model = FamilyCostModel({subgraph.key: "matmul"})
    with caplog.at_level(logging.WARNING):
        starters = WarmStart([copied], tmp_path / "out", cpu).prepare([subgraph], model)
    (warning,) = caplog.messages
    assert str(samples) in warning
    assert "\n" not in warning
    assert model.learner.families == {}
    assert model.learner.shared.booster is None
    assert starters[subgraph.key].siblings


def respell(folder: Path, module: bytes) -> None:
    """Puts other bytes in place of the first workload's module."""
    path = folder / "tuning" / "database_workload.json"
    lines = path.read_text().splitlines()
    shash, _ = json.loads(lines[0])
    # their length comes before them
    text = base64.b64encode(struct.pack("<q", len(module)) + module).decode()
    path.write_text("\n".join([json.dumps([shash, text]), *lines[1:]]) + "\n")


def test_a_database_that_crashes_tvm_is_refused_in_one_line(
    copied: Path, tmp_path: Path, cpu: Any
) -> None:
    # TVM reads nested arrays by recursion, without a limit
    respell(copied, b"[" * 1_000_000)
    with pytest.raises(UserError, match="cannot be read by TVM without harm") as refused:
        WarmStart([copied], tmp_path / "out", cpu)
    assert str(copied) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_cannot_be_used_is_left_out_with_a_warning_and_the_rest_is_taken(
    copied: Path, tmp_path: Path, cpu: Any, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [json.loads(line) for line in (copied / RECORDS).read_text().splitlines()]
    whole = len(WarmStart([copied], tmp_path / "out", cpu)._runs[0].best)
    fast = next(line[0] for line in lines if statistics.median(line[1][1]) < 1e9)
    stranger = [fast, [*lines[0][1]]]
    stranger[1][1], stranger[1][2] = [1e-9], {"kind": "llvm", "mcpu": "core2", "num-cores": 64}
    (copied / RECORDS).write_text(
        "\n".join(["rubbish", json.dumps(stranger), *map(json.dumps, lines), '[0, [[[["torn'])
    )
    before = (copied / RECORDS).read_bytes()
    with caplog.at_level(logging.WARNING):
        start = WarmStart([copied], tmp_path / "out", cpu)
    assert len(start._runs[0].best) == whole
    said = "\n".join(caplog.messages)
    assert f"{copied / RECORDS}: line 1 is left out: not JSON" in said
    assert f"{copied / RECORDS}: line {len(lines) + 3} is left out: not whole" in said
    assert f"{copied / RECORDS}: 1 records of another target" in said
    # the folder is another run's
    assert (copied / RECORDS).read_bytes() == before
