"""The decision log: appended whole, read back, torn ends left out."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from familyseer.decisions._clocks import LoggedClock, RetoldClock
from familyseer.decisions._log import FILE, DecisionLog, Told, read_log
from familyseer.measure._cuda_limits import Resources
from familyseer.search import Clock

TOLD = Told("dense", 3, (0, 2), (None, "run"), (0.25, 0.5), (1.5, 0.125))


def write(folder: Path) -> None:
    log = DecisionLog(folder)
    assert log.begin({"options": {"seed": 3}}) == 1
    log.round([TOLD], "nl", [0.1, math.inf])
    log.end("budget", "s", [0.0])
    log.close()


def test_what_was_written_is_read_back_to_the_last_digit(tmp_path: Path) -> None:
    write(tmp_path)
    (run,) = read_log(tmp_path)
    assert run.header == {"options": {"seed": 3}}
    assert run.stopped_by == "budget"
    assert run.lines[0].rounds == (TOLD,)
    assert (run.lines[0].asked, run.lines[0].answers) == ("nl", (0.1, math.inf))


def test_what_candidates_take_of_a_gpu_is_kept_where_it_is_known(tmp_path: Path) -> None:
    told = dataclasses.replace(TOLD, resources=(None, Resources(40, 0, 4096, 0.75)))
    log = DecisionLog(tmp_path)
    log.begin({})
    log.round([TOLD, told], "", [])
    log.close()
    (run,) = read_log(tmp_path)
    assert run.lines[0].rounds == (TOLD, told)
    # a run without a GPU writes nothing of it
    assert (tmp_path / FILE).read_text().count("resources") == 1


@pytest.mark.parametrize("torn", [b"{", b'{"rounds":[],"asked":"n","ans', b"\x00\xff"])
def test_a_line_torn_by_a_crash_is_dropped_and_nothing_else(tmp_path: Path, torn: bytes) -> None:
    write(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole + torn)
    assert len(read_log(tmp_path)) == 1
    log = DecisionLog(tmp_path)
    assert log.begin({"options": {}}) == 2
    log.close()
    first, second = read_log(tmp_path)
    assert first.lines[0].rounds == (TOLD,)
    assert second.lines == ()
    assert second.stopped_by is None
    assert (tmp_path / FILE).read_bytes().startswith(whole)


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        '{"rounds":[],"asked":"nn","answers":[1]}',
        '{"rounds":[{"subgraph":"a"}],"asked":"","answers":[]}',
        '{"rounds":[{"subgraph":"a","planned":1,"measured":[1],"failed":[null],"build_s":[0],'
        '"wall_s":[0,0]}],"asked":"","answers":[]}',
        '{"rounds":[{"subgraph":"a","planned":1,"measured":[],"failed":[],"build_s":[],'
        '"wall_s":[0,0],"resources":[null]}],"asked":"","answers":[]}',
        '{"rounds":[{"subgraph":"a","planned":1,"measured":[0],"failed":[null],"build_s":[0],'
        '"wall_s":[0,0],"resources":[{"registers":1,"local_bytes":0,"shared_bytes":0,'
        '"occupancy":NaN}]}],"asked":"","answers":[]}',
        '{"rounds":[],"asked":"n","answers":["soon"]}',
        "[" * 100_000,
    ],
)
def test_a_line_that_no_run_writes_is_named(tmp_path: Path, line: str) -> None:
    write(tmp_path)
    with (tmp_path / FILE).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=f"{FILE}: line 4 "):
        read_log(tmp_path)


def test_a_logged_clock_answers_as_its_clock_and_a_retold_one_says_it_again() -> None:
    logged = LoggedClock(Clock(100.0))
    said = [logged.now(), logged.tuning_left_s(), logged.elapsed_s(), logged.stopped]
    logged.stop()
    said.append(logged.stopped)
    assert 99 < float(said[1]) <= 100
    assert said[3:] == [False, True]
    asked, answers = logged.take()
    assert asked == "nless"
    pairs = iter(zip(asked, answers, strict=True))

    def answer(question: str) -> float:
        expected, value = next(pairs)
        assert question == expected
        return value

    retold = RetoldClock(answer)
    again = [retold.now(), retold.tuning_left_s(), retold.elapsed_s()]
    assert again == said[:3]
    assert [retold.stopped, retold.stopped] == [False, True]


def test_waiting_by_the_live_clock_leaves_no_trace() -> None:
    logged = LoggedClock(Clock(100.0))
    logged.live.tuning_left_s()
    logged.live.now()
    with logged.phase("build"):
        pass
    assert logged.take() == ("", [])
    assert "build" in logged.phases
