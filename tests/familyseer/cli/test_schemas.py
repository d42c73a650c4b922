"""JSON Schemas: each command has one, what it prints conforms, and the reference names it all."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from familyseer.cli.main import main
from familyseer.cli.schema import load, names
from tests.familyseer.cli.schemas import conforms, strict
from tests.familyseer.report.made_run import make_run, summary, write

# what a command prints with another option than --json alone
VARIANTS = {"models-save", "tune-dry-run"}
ROOT = Path(__file__).resolve().parents[3]


def printed(*args: str | Path) -> Any:
    result = CliRunner().invoke(main, [*map(str, args), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name}-")
        else:
            yield f"{before}{name}", command


def properties(schema: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield from schema["properties"].items()
        for value in schema.values():
            yield from properties(value)


def test_every_command_has_json_and_a_schema() -> None:
    found = dict(commands(main))
    assert set(names()) - VARIANTS == set(found)
    for command in found.values():
        assert any("--json" in one.opts for one in command.params)


@pytest.mark.parametrize("name", names())
def test_a_schema_is_one_and_says_what_each_property_is(name: str) -> None:
    schema = load(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"].startswith("familyseer ")
    for key, one in properties(schema):
        # a pair or a range says it once, for both
        assert one.get("description") or key in ("first", "second", "low", "high", "method"), key


def test_the_strict_reading_refuses_what_is_not_described() -> None:
    document = {"file": "o.npz", "outputs": [{"name": "y", "shape": [1], "dtype": "float32"}]}
    conforms(document, "run")
    document["outputs"][0]["more"] = 1  # type: ignore[index]
    with pytest.raises(jsonschema.ValidationError, match="more"):
        conforms(document, "run")
    jsonschema.validate(document, load("run"))
    assert strict(load("run")) != load("run")


def test_what_is_told_of_a_model_conforms(tmp_path: Path) -> None:
    conforms(printed("families", "mlp"), "families")
    conforms(printed("models"), "models")
    conforms(printed("models", "--save", "mlp", tmp_path / "m.onnx"), "models-save")


def test_what_is_told_of_finished_runs_conforms(tmp_path: Path) -> None:
    out = make_run(tmp_path / "out")
    conforms(printed("report", out, "-o", tmp_path / "page.html"), "report")
    conforms(printed("diff", out, out), "diff")
    other = make_run(tmp_path / "other")
    (other / "summary.json").unlink()
    (other / "families.json").unlink()
    conforms(printed("diff", out, other), "diff")


def test_what_using_a_library_tells_conforms(tmp_path: Path, cpu: Any) -> None:
    from familyseer.export._compile import build_library
    from familyseer.models import load_model
    from familyseer.subgraphs import fuse

    out = make_run(tmp_path / "out")
    told = summary()
    told["inputs"] = [{"name": "x", "shape": [1, 784], "dtype": "float32"}]
    write(out / "summary.json", told)
    build_library(fuse(load_model("mlp").mod, cpu), cpu, out / "model.so")
    conforms(printed("bench", out, "--repeat", "2"), "bench")
    conforms(printed("bench", out, "--repeat", "2", "--by-subgraph"), "bench")
    np.savez(tmp_path / "in.npz", x=np.zeros((1, 784), "float32"))
    conforms(printed("run", out, "-i", tmp_path / "in.npz", "-o", tmp_path / "o.npz"), "run")


def test_what_is_told_of_products_conforms(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(64, dtype="float32"))
    conforms(printed("spamm", "info", tmp_path / "a.npy", "--block", "16"), "spamm-info")
    for criterion in ("--tau", "--max-rel-error", "--valid-ratio"):
        made = ("--decay", "exponential", "--size", "64", "--repeat", "1", "--block", "16")
        conforms(printed("spamm", "bench", *made, criterion, "0.5"), "spamm-bench")


def test_what_is_told_of_this_machine_conforms() -> None:
    from familyseer.doctor import Check, Report

    checks = Check("Packages", "numpy", "ok", "2.0", True), Check("CUDA", "nvrtc", "missing")
    conforms(json.loads(json.dumps(Report(checks).to_json())), "doctor")


def test_schemas_and_completions_conform_too() -> None:
    schemas = printed("schema")
    conforms(schemas, "schema")
    assert set(schemas["schemas"]) == set(names())
    for shell in ("bash", "zsh", "fish"):
        conforms(printed("completion", shell), "completion")


def test_a_schema_is_printed_by_the_name_of_its_command() -> None:
    result = CliRunner().invoke(main, ["schema", "spamm-tune"])
    assert json.loads(result.stdout) == load("spamm-tune")
    lines = CliRunner().invoke(main, ["schema"]).stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == names()


@pytest.mark.parametrize(
    "args",
    [
        ["schema", "tuen"],
        ["completion", "csh"],
        ["bench", "nowhere"],
        ["report", "nowhere"],
        ["replay", "nowhere"],
        ["export", "nowhere", "--kernels", "k"],
        ["run", "nowhere", "-i", "i.npz", "-o", "o.npz"],
        ["diff", "nowhere", "elsewhere"],
        ["families", "nowhere.onnx"],
        ["models", "--save", "alexnett", "a.onnx"],
        ["tune", "nowhere.onnx", "--dry-run"],
        ["spamm", "info", "nowhere.npy"],
        ["spamm", "bench", "nowhere.npy"],
        ["compare", "mlp"],
    ],
)
def test_errors_are_a_line_on_standard_error_with_json_too(args: list[str], tmp_path: Path) -> None:
    with CliRunner().isolated_filesystem(tmp_path):
        result = CliRunner().invoke(main, [*args, "--json"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("familyseer: ")
    assert result.stderr.count("\n") == 1


def test_the_reference_is_made_from_the_schemas() -> None:
    spec = importlib.util.spec_from_file_location(
        "json_reference", ROOT / "scripts/json_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.render()
    for name in names():
        section = page.partition(f"## {load(name)['title']} --json")[2].partition("\n## ")[0]
        for key, _ in properties(load(name)):
            assert f"{key}`" in section
    assert module.PAGE.read_text("utf-8") == page, "run scripts/json_reference.py"
