"""The results of a GPU host for people, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def table(document: Mapping[str, Any]) -> str:
    """What is known so far: a row a step, then a table for each kind of figure there is."""
    steps: Mapping[str, Mapping[str, Any]] = document["steps"]
    lines = [f"# {document.get('gpu', 'GPU')}, {document.get('date', '')}", ""]
    lines += _environment(_found(steps, "environment"))
    lines += _rows(
        ("step", "status", "seconds", "why"),
        (
            (name, step.get("status"), step.get("seconds"), step.get("error"))
            for name, step in steps.items()
        ),
    )
    lines += _tests(_found(steps, "tests"))
    lines += _spamm(_found(steps, "spamm"))
    lines += _matmul(_found(steps, "matmul"))
    networks = {name: found for name in steps if "ours" in (found := _found(steps, name))}
    lines += _networks(networks, float(document.get("budget_s") or 0))
    lines += _multiprocessors(_found(steps, "multiprocessors"))
    return "\n".join(lines).rstrip() + "\n"


def _found(steps: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = steps.get(name, {}).get("found") or {}
    return found


def _rows(head: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> list[str]:
    listed = [[_cell(value) for value in row] for row in rows]
    if not listed:
        return []
    lines = [f"## {title}", ""] if title else []
    told = (f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *listed))
    return [*lines, *told, ""]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    # a bar would end the cell
    return str(value).replace("|", "/").replace("\n", " ")


def _environment(found: Mapping[str, Any]) -> list[str]:
    told = (
        ", ".join(f"{k} {v}" for k, v in gpu.items() if k != "name") for gpu in found.get("gpu", [])
    )
    return [line for text in told for line in (text, "")]


def _tests(found: Mapping[str, Any]) -> list[str]:
    tests: Mapping[str, str] = found.get("tests") or {}
    rows = [(name, how) for name, how in tests.items() if how != "passed"]
    passed = len(tests) - len(rows)
    summary = [f"{passed} of {len(tests)} tests passed.", ""] if tests else []
    return [*summary, *_rows(("test", "what became of it"), rows, "Tests that did not pass")]


def _spamm(found: Mapping[str, Any]) -> list[str]:
    cases = [case for case in found.values() if isinstance(case, dict)]
    lines = _rows(
        (
            *("n", "type", "kept", "cuBLAS ms", "plan ms", "multiply ms"),
            *("speed-up", "without plan", "error", "bound", "right"),
        ),
        (
            (
                *(case["size"], case["dtype"], case["kept"], case["dense_ms"], case["plan_ms"]),
                *(case["multiply_ms"], case["speedup"], case["speedup_multiply"]),
                *(f"{case['rel_error']:.1e}", f"{case['rel_error_bound']:.1e}"),
                "yes" if case["right"] else "NO",
            )
            for case in cases
        ),
        "SpAMM beside cuBLAS",
    )
    return lines + ([f"Dense: {found.get('compared_with')}.", ""] if cases else [])


def _matmul(found: Mapping[str, Any]) -> list[str]:
    return _rows(
        ("product", "types", "tuned us", "cuBLAS us", "share of cuBLAS", "TFLOP/s", "error"),
        (
            (
                *(key, ", ".join(one["types"]), one["ours_us"], one["cublas_us"]),
                *(f"{one['share_of_cublas']:.0%}", one["teraflops"], f"{one['rel_error']:.1e}"),
            )
            for key, one in found.items()
        ),
        "Tuned products beside cuBLAS",
    )


def _networks(steps: Mapping[str, Mapping[str, Any]], budget_s: float) -> list[str]:
    return _rows(
        (
            *("network", "untuned ms", "FamilySeer ms", "stock ms", "PyTorch ms"),
            *("stock's end reached after s", "sooner", "GPU measuring", "trials", "stock's trials"),
        ),
        (_network(name, found) for name, found in steps.items()),
        f"Networks, {budget_s:g} s for each tuner",
    )


def _network(name: str, found: Mapping[str, Any]) -> tuple[Any, ...]:
    ours, stock = found["ours"], found.get("stock") or {}
    compared = found.get("comparison") or {}
    tuned = compared.get("tuned_us") or {}
    reached: Mapping[str, Any] = next(
        (pair for pair in compared.get("reach", []) if pair["tuner"] == "familyseer"), {}
    )
    share = ours.get("gpu_share")
    return (
        name,
        _ms(compared.get("untuned_us") or ours.get("untuned_us")),
        _ms(tuned.get("familyseer") or ours.get("alone_us")),
        _ms(tuned.get("metaschedule")),
        _ms((found.get("pytorch_us") or {}).get("us")),
        _reached(reached, bool(compared)),
        reached.get("time_ratio"),
        None if share is None else f"{share:.0%}",
        ours.get("trials"),
        stock.get("trials"),
    )


def _reached(pair: Mapping[str, Any], compared: bool) -> Any:
    if pair.get("time_s") is not None:
        return float(pair["time_s"])
    if not compared:
        return None
    return "not reached" if pair.get("rounds") else "stock did not finish its first pass"


def _ms(microseconds: float | None) -> float | None:
    return None if microseconds is None else microseconds / 1e3


def _multiprocessors(found: Mapping[str, Any]) -> list[str]:
    return _rows(
        ("network", "kernel", "fewest", "of", "tuned us", "why not"),
        (
            (run, name, one["fewest"], one["of"], one["tuned_us"], one["reason"])
            for run, kernels in found.items()
            for name, one in kernels.items()
        ),
        "Fewest multiprocessors within 4 % of the best time",
    )
