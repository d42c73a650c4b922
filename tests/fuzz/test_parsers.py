"""The short form of ``scripts/fuzz_parsers.py``: hypothesis decides the damage, and shrinks it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from familyseer.records._files import parse_record, parse_workload, record_of
from familyseer.safe_arrays import read_arrays
from familyseer.safe_json import parse_json

# no deadlines: the machine may be busy
settings.register_profile(
    "short",
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("short")

PARSERS = (
    "workloads", "records", "failures", "run", "decisions", "history", "summary", "manifest",
    "families", "cost models", "samples", "packed samples", "tables", "packed tables",
)  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def fuzzing() -> Any:
    """The script's own modules."""
    folder = str(Path(__file__).parents[2] / "scripts")
    sys.path.insert(0, folder)
    try:
        import _fuzz_inputs
        import fuzz_parsers

        return fuzz_parsers, _fuzz_inputs
    finally:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def files(fuzzing: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with a file for each parser, and what those hold."""
    script, _ = fuzzing
    folder = tmp_path_factory.mktemp("files")
    script.make_files(folder)
    parsers = script.parsers(folder)
    return folder, parsers, {n: (folder / p.file).read_bytes() for n, p in parsers.items()}


def test_no_parser_is_forgotten(files: Any) -> None:
    assert tuple(files[1]) == PARSERS


@pytest.mark.parametrize("name", PARSERS)
def test_an_undamaged_file_is_read(fuzzing: Any, files: Any, name: str) -> None:
    folder, parsers, whole = files
    parser = parsers[name]
    assert fuzzing[0].feed(parser, folder, parser.open(whole[name])) == "read"


@pytest.mark.parametrize("name", PARSERS)
@given(rng=st.randoms(use_true_random=False), other=st.sampled_from(PARSERS))
def test_a_damaged_file_is_read_or_refused_in_one_line(
    fuzzing: Any, files: Any, name: str, rng: Any, other: str
) -> None:
    script, inputs = fuzzing
    folder, parsers, whole = files
    mark = folder / "code-ran"
    opened = parsers[name].open(whole[name])
    content = inputs.Mutator(rng, mark).damage(opened, parsers[other].open(whole[other]))
    try:
        assert script.feed(parsers[name], folder, content) in ("read", "refused")
    finally:
        (folder / parsers[name].file).write_bytes(whole[name])
    assert not mark.exists()


@given(VALUES)
def test_plain_json_is_read_as_it_was_written(value: Any) -> None:
    assert parse_json(json.dumps(value), "a value") == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode(), "a value") == value


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_bytes_of_any_kind_are_refused_by_a_value_error(content: bytes) -> None:
    readers = (
        lambda: parse_json(content, "a value"),
        lambda: parse_record(content),
        lambda: parse_workload(content),
        lambda: record_of(content),
        lambda: read_arrays(content, 1 << 20),
    )
    for read in readers:
        said = ""
        try:
            read()
        except ValueError as error:
            said = str(error)
        assert "\n" not in said
