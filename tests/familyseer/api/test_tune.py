"""`familyseer.tune` as a program calls it."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import familyseer
from familyseer.errors import UserError
from familyseer.models import load_given
from familyseer.tvm_env import load_tvm
from tests.familyseer.api.models import POOLED, RELAX, token_inputs, token_model, token_outputs


class Wishes(familyseer.Callback):
    """Notes what it is told, and ends the run after its first round."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.rounds = 0
        self.untuned_us: float | None = None

    def on_start(self, info: Any) -> None:
        self.told.append("start")
        self.untuned_us = info.untuned_us

    def on_phase(self, name: str) -> None:
        self.told.append(name)

    def on_round(self, event: Any) -> None:
        self.rounds += 1
        raise familyseer.StopTuning("enough for a test")

    def on_end(self, summary: Any) -> None:
        self.told.append("end")


def check_outputs(result: familyseer.Result) -> None:
    inputs = token_inputs()
    got, want = result.run(inputs["ids"], x=inputs["x"]), token_outputs(inputs)
    assert list(got) == ["hidden", "chosen"]
    np.testing.assert_allclose(got["hidden"], want["hidden"], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(got["chosen"], want["chosen"])


class TestStopsAndResumes:
    """One run in a thread that a callback ends, and one that goes on from it."""

    @pytest.fixture(scope="class")
    def stopped(
        self, tmp_path_factory: pytest.TempPathFactory
    ) -> tuple[familyseer.Result, Wishes, Path]:
        out, wishes, made = tmp_path_factory.mktemp("run") / "out", Wishes(), []

        def work() -> None:
            made.append(
                familyseer.tune(token_model(), None, "10m", out=out, callbacks=[wishes], seed=3)
            )

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return made[0], wishes, out

    def test_a_callback_ends_a_run_with_a_library(
        self, stopped: tuple[familyseer.Result, Wishes, Path]
    ) -> None:
        result, wishes, _ = stopped
        assert result.summary["stopped_by"] == "interrupt"
        assert result.summary["elapsed_s"] < 300
        assert wishes.rounds == 1
        assert wishes.told[0] == "loading"
        assert wishes.told.index("untuned") < wishes.told.index("start")
        assert wishes.told[-1] == "end"
        assert wishes.untuned_us is not None
        assert wishes.untuned_us > 0
        check_outputs(result)

    def test_another_call_goes_on_from_it(
        self, stopped: tuple[familyseer.Result, Wishes, Path]
    ) -> None:
        first, _, out = stopped
        with pytest.raises(UserError, match=r"holds a run of tokens already; expected resume=True"):
            familyseer.tune(token_model(), out=out, trials=2)
        again = familyseer.tune(token_model(), out=out, trials=6, resume=True)
        assert again.summary["trials_before"] == first.summary["trials"]
        assert again.summary["trials"] > first.summary["trials"]
        # the file that the first one was loaded from is another one now
        check_outputs(first)
        check_outputs(again)


def test_a_script_from_standard_input_prints_what_it_prints(tmp_path: Path) -> None:
    script = f"""
import familyseer
from familyseer.tvm_env import load_tvm
mod = load_tvm(intrinsics=True).script.from_source({POOLED!r})
result = familyseer.tune(mod, trials=2)
print(result.summary["digest"], result.summary["trials"])
"""
    ran = subprocess.run(
        [sys.executable, "-"],
        input=script,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    assert ran.stderr == ""
    assert ran.returncode == 0
    # the digest is the same in every process, or no run could be gone on with
    mod = load_tvm(intrinsics=True).script.from_source(POOLED)
    assert ran.stdout.split() == [load_given(mod, "m").digest, "2"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"budget": "ten"}, "budget 'ten': expected seconds, or a time such as '90s', '10m'"),
        ({"budget": 0}, "budget 0: expected seconds"),
        ({"budget": float("nan")}, "budget nan: expected seconds"),
        ({"budget": [1]}, r"budget \[1\]: expected seconds"),
        ({"trials": 0}, "trials 0: expected a whole number from 1"),
        ({"trials": True}, "trials True: expected a whole number from 1"),
        ({"seed": -1}, "seed -1: expected a whole number from 0"),
        ({"workers": 1.5}, "workers 1.5: expected a whole number from 1"),
        ({"families": "colour"}, "families 'colour': expected one of op, sequence, graph, none"),
        ({"without": "luck"}, "without 'luck': expected some of shared, own"),
        ({"precision": "int4"}, "precision int4: expected one of float32, float16"),
        ({"max_rel_error": 0}, "max_rel_error 0: expected a number above 0"),
        ({"tracker": "here:9190"}, "one of tracker and device_key is given: expected both"),
        ({"input_shapes": {"x": 3}}, "input_shapes .*: expected a dict of shapes"),
        ({"input_shapes": {"y": (2, 3)}}, "tokens: no input named y; its inputs are: ids, x"),
        ({"example_inputs": 1}, "example_inputs are given: expected them for a torch.nn.Module"),
        ({"target": "toaster"}, "toaster"),
        ({"warm_start": "nowhere"}, "warm_start nowhere: no such folder"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        familyseer.tune(token_model(), **{"trials": 1, **given})
    assert "\n" not in str(refused.value)
    refused.match(message)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("no-such-net", "^no-such-net: no such model"),
        (Path("missing.onnx"), "^missing.onnx: no such file"),
        ("a--resume/x.onnx", "^a--resume/x.onnx: no such file"),
        (3.5, "^model of type float: expected a path"),
    ],
)
def test_a_model_that_is_none_is_refused(model: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        familyseer.tune(model, trials=1)


def test_messages_name_arguments_and_not_options() -> None:
    mod = load_tvm(intrinsics=True).script.from_source(RELAX)
    with pytest.raises(UserError, match=r"give its shape with input_shapes x=") as refused:
        familyseer.tune(mod, trials=1)
    assert "--" not in str(refused.value)


def test_a_failed_run_leaves_no_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UserError):
        familyseer.tune("no-such-net", trials=1)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_write_keeps_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(options: Any, *_: Any) -> None:
        (options.out / "history.csv").touch()
        raise familyseer.RunError("full; go on with --resume when there is room")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("familyseer.api._tune._run", fill_the_disk)
    with pytest.raises(familyseer.RunError, match="go on with resume=True when"):
        familyseer.tune("mlp", trials=1)
    assert [one.name for one in tmp_path.glob("*/*")] == ["history.csv"]


def test_warnings_go_to_the_log_and_nowhere_else(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert familyseer.Callback
    handlers = logging.getLogger("familyseer").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)
    logging.getLogger("familyseer.export").warning("of interest")
    assert "of interest" in caplog.text
    assert capsys.readouterr().err == ""
